"""Explanations: every number of a network, and of its gradients, has the bits of the reference's loops."""

import doctest
import json
import math

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.explain import Explanation, explain, explain_gradient
from fastcnn.explain.network import Loops
from tests.models import MODEL_CASES, Chain
from tests.network_draws import draw_case
from tests.random_networks import build, loss_of, norms
from tests.rounding import walk


def twins(case):
    """Return the loops of a random network, those of the reference, and a sample, in prediction mode."""
    model, rng = build(case), np.random.RandomState(7)
    chain = Chain(case.layers(reference), case.input_shape, model.parameters)
    for ours, theirs in zip(norms(model.layers), norms(chain.layers), strict=True):
        ours.running_mean = rng.standard_normal(ours.running_mean.shape)
        ours.running_var = 0.5 + rng.random_sample(ours.running_var.shape)
        theirs.running_mean[...], theirs.running_var[...] = ours.running_mean, ours.running_var
    for layer in walk(chain.layers):
        layer.training = False
    return Loops(model), chain, case.batch(1, 2)[0]


def outer_first(layers):
    """Yield all layers in the order of their places."""
    for layer in layers:
        yield layer
        for chain in getattr(layer, "_chains", ()):
            yield from outer_first(chain.layers)


def place(rng, shape):
    return tuple(int(rng.randint(size)) for size in shape)


@pytest.mark.parametrize("first", range(0, 60, 30))
def test_random_networks_have_the_bits_of_the_reference(first):
    for seed in range(first, first + 30):
        case, rng = draw_case(seed), np.random.RandomState(seed)
        loops, chain, x = twins(case)
        sample = (x / 255 if x.dtype == np.uint8 else x.astype(np.float64))[None]
        np.testing.assert_array_equal(loops.forward(x), chain.forward(sample), str(case))
        leaves = [loop for loop in loops.paths.values() if not loop.path.endswith(".depthwise")]
        for loop, layer in zip(leaves, outer_first(chain.layers), strict=True):
            np.testing.assert_array_equal(loop.y, layer.last_output, f"{loop.path} of {case}")
            at = place(rng, loop.y.shape[1:])
            check(loops.explain(loop.path, at), loop.y[0][at], case)
        dL_dout = rng.standard_normal(loops.row.loops[-1].y.shape)
        theirs = chain.backward(dL_dout)
        np.testing.assert_array_equal(loops.row.backward(dL_dout), theirs, str(case))
        for name, gradient in chain.gradients.items():
            at = place(rng, gradient.shape)
            check(loops.explain_gradient(name, at), gradient[at], f"{name} of {case}")


def check(found, value, case):
    """Hold an explanation to the value: to the bit, its terms to their sum, and each step to the one before."""
    assert found.value == value, case
    assert isinstance(found, Explanation)
    for before, step in zip(found.steps, found.steps[1:], strict=False):
        assert step.terms[step.chosen or 0].value == before.value, case
    for step in found.steps:
        values = [term.value for term in step.terms]
        assert all(term.value == math.prod(term.factors) for term in step.terms), case
        assert not step.grid or math.prod(step.grid) == len(values), case
        if step.kind in ("sum", "mean"):
            size = sum(map(abs, values))
            assert math.isclose(math.fsum(values), step.numbers["sum"], abs_tol=1e-12 * (1 + size)), case
        if step.kind == "mean":
            assert math.isclose(step.numbers["sum"] / step.numbers["count"], step.value, abs_tol=1e-12), case
        if step.kind == "sum" and step.formula.endswith("+ bias"):
            assert step.numbers["sum"] + step.numbers["bias"] == step.value, case
        if step.kind == "choice":
            assert max(values) == step.terms[step.chosen].value == step.value, case
        if step.kind == "add":
            assert values[0] + values[1] == step.value, case
    json.dumps(found.as_dict())


@pytest.mark.parametrize("case", MODEL_CASES, ids=str)
def test_every_term_is_the_number_of_the_layer_that_it_names(case):
    model, rng = case.build(), np.random.RandomState(3)
    loops = Loops(model)
    x = case.batch(1)[0]
    loops.forward(x)
    for path, loop in loops.paths.items():
        (*_, step) = loops.explain(path, place(rng, loop.y.shape[1:])).steps
        for term in step.terms:
            if term.at is None:
                assert term.factors[0] in (0, -math.inf)
                continue
            source = loops.sample if term.path == "" else loops.paths[term.path].y
            assert source[(0, *term.at)] == term.factors[0]


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_losses_are_the_reference_s(seed):
    case = draw_case(seed)
    loops, chain, x = twins(case)
    loops.forward(x)
    y = case.target(1, 30)
    ours, theirs = loss_of(fastcnn, case), loss_of(reference, case)
    output = chain.forward((x / 255 if x.dtype == np.uint8 else x.astype(np.float64))[None])
    last = type(chain.layers[-1]).__name__
    slope = theirs.gradient(output, y)
    swallowed = (last, case.loss[0]) in {("SoftmaxActivation", "CrossEntropy"), ("Sigmoid", "BinaryCrossEntropy")}
    if last == "Softmax":
        slope = theirs.gradient(np.log(output), y)
    elif swallowed:
        logits = chain.layers[-1].last_input
        slope, chain.layers = theirs.gradient(logits, y), chain.layers[:-1]
    chain.backward(slope)
    loops.backward(y[0], ours)
    scale = 1 + max((np.abs(g).max() for g in chain.gradients.values()), default=0)
    for name, gradient in chain.gradients.items():
        path, _, own = name.rpartition(".")
        np.testing.assert_allclose(loops.paths[path].gradients[own], gradient, rtol=0, atol=1e-11 * scale)


def test_a_pixel_of_a_pooling_leads_back_to_the_sum():
    model = fastcnn.Sequential([fastcnn.Conv2D(2, 2), fastcnn.ReLU(), fastcnn.MaxPool2D(2)]).build((1, 3, 3))
    model.parameters["0.filters"][...] = [[[[1, 2], [0, -1]]], [[[-1, 0], [0, 0]]]]
    model.parameters["0.biases"][...] = [0.5, 0]
    x = np.arange(9.0).reshape(1, 3, 3)
    total, relu, pool = explain(model, x, "2", (0, 0, 0)).steps
    assert [term.factors for term in total.terms] == [(4, 1), (5, 2), (7, 0), (8, -1)]
    assert [term.at for term in total.terms] == [(0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 2)]
    assert (total.numbers, total.value, relu.value, pool.value) == ({"sum": 6, "bias": 0.5}, 6.5, 6.5, 6.5)
    assert [term.value for term in pool.terms] == [0, 0.5, 4.5 - 0.5 + 1.5, 6.5] or pool.chosen == 3
    (*_, ties) = explain(model, x, "2", (1, 0, 0)).steps
    assert ties.value == 0
    assert ties.words == "4 numbers of the window are the largest; the first is chosen."


def test_a_layer_of_one_s_own_is_named_as_such():
    class Twice(fastcnn.Layer):
        def _forward(self, x):
            return 2 * x

        def _backward(self, x, y, dL_dout):
            return 2 * dL_dout

    model = fastcnn.Sequential([fastcnn.Dense(3), Twice(), fastcnn.Dense(2)]).build((4,), random_state=0)
    found = explain(model, np.ones(4), 1, (0,))
    assert found.value == pytest.approx(2 * float(model.parameters["0.weights"][:, 0].sum()))
    assert found.steps[-1].words.startswith("A layer of one's own")
    gradient = explain_gradient(model, np.ones(4), 1, "0.weights", (0, 0))
    assert gradient.value != 0


def test_the_gradient_is_that_of_the_engine():
    model = MODEL_CASES[0].build().eval()
    x = MODEL_CASES[0].batch(1)
    probs = model.forward(x)
    model.backward(probs - np.eye(10)[[3]])
    found = explain_gradient(model, x[0], 3, "0.filters", (5, 0, 1, 2))
    assert found.value == pytest.approx(model.gradients["0.filters"][5, 0, 1, 2], rel=1e-10)
    assert len(found.steps[0].terms) == 36


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"layer": 9}, "explain: layer: expected a place, one of 0, 1"),
        ({"layer": "conv"}, "explain: layer: expected a place"),
        ({"layer": True}, "explain: layer: expected a place"),
        ({"position": (0, 0)}, r"position: expected 3 whole numbers within \(16, 6, 6\); got \(0, 0\)"),
        ({"position": (0, 6, 0)}, r"position: expected 3 whole numbers within \(16, 6, 6\); got \(0, 6, 0\)"),
        ({"position": (0, -1, 0)}, "position: expected"),
        ({"position": (0, 1.5, 0)}, "position: expected"),
        ({"position": "000"}, "position: expected"),
        ({"x": np.zeros((2, 1, 8, 8))}, r"x: expected one sample of shape \(1, 8, 8\); got \(2, 1, 8, 8\)"),
        ({"x": np.full((1, 8, 8), "a")}, "x: expected real numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error(given, words):
    arguments = {"x": np.zeros((1, 8, 8)), "layer": 0, "position": (0, 0, 0), **given}
    with pytest.raises((TypeError, ValueError), match=words):
        explain(MODEL_CASES[0].build(), **arguments)


@pytest.mark.parametrize("ignored", [255, None])
def test_the_gradient_of_pixels_is_that_of_the_engine(ignored):
    model = fastcnn.models.unet((1, 4, 4), 3, 2, 1, "bilinear").build((1, 4, 4), random_state=0, dtype=np.float64)
    model.eval()
    x, y = np.random.RandomState(0).standard_normal((1, 1, 4, 4)), np.arange(16).reshape(1, 4, 4) % 3
    if ignored:
        y[0, 1:3] = ignored
    loss = fastcnn.CrossEntropy(0.1, [1, 2, 0.5], ignored)
    model.backward(loss.gradient(model.forward(x), y))
    for name, at in (("0.filters", (1, 0, 2, 0)), ("6.branches.1.1.filters", (3, 1, 0, 0))):
        found = explain_gradient(model, x[0], y[0], name, at, loss)
        assert found.value == pytest.approx(model.gradients[name][at], rel=1e-9, abs=1e-12)
    with pytest.raises(ValueError, match="y: expected a class from 0 to 2; got 7"):
        explain_gradient(model, x[0], np.full((4, 4), 7), "0.filters", (0, 0, 0, 0), loss)
    with pytest.raises(ValueError, match=r"y: expected classes of shape \(4, 4\), or \(3, 4, 4\) prob.*got shape \(\)"):
        explain_gradient(model, x[0], 1, "0.filters", (0, 0, 0, 0), loss)


def test_what_does_not_fit_a_gradient_is_an_error():
    model, x = MODEL_CASES[0].build(), np.zeros((1, 8, 8))
    with pytest.raises(ValueError, match=r"parameter: expected one of 0.filters, 0.biases, 3.weights"):
        explain_gradient(model, x, 0, "1.filters", (0,))
    with pytest.raises(ValueError, match=r"index: expected 4 whole numbers within \(16, 1, 3, 3\)"):
        explain_gradient(model, x, 0, "0.filters", (16, 0, 0, 0))
    with pytest.raises(ValueError, match="y: expected a class from 0 to 9; got 10"):
        explain_gradient(model, x, 10, "0.filters", (0, 0, 0, 0))
    with pytest.raises(RuntimeError, match="build"):
        explain(fastcnn.Sequential([fastcnn.Dense(2)]), np.zeros(3), 0, (0,))


def test_the_examples_run():
    from fastcnn.explain import network

    assert doctest.testmod(network).failed == 0
