"""Residual and Concat against the reference: shapes, channels that fill no vector, shortcuts, nesting, fused ReLU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastcnn
import reference
from fastcnn.engine.ir import Graph
from tests.arrays import ORDERS, both_dtypes, normal, sweep
from tests.plans import plan_of
from tests.slopes import away_from_kinks, directional_gradient_check


def conv(m, filters, stride=1, seed=0, size=3):
    return m.Conv2D(filters, size, stride, size // 2, random_state=seed)


# Name, shape of a batch, layers; each makes the same from either module.
ROWS = {
    "identity": ((2, 8, 5, 6), lambda m: [m.Residual([conv(m, 8), m.ReLU(), conv(m, 8, seed=1)])]),
    "17 channels": ((2, 17, 5, 6), lambda m: [m.Residual([conv(m, 17)])]),
    "1 channel": ((3, 1, 4, 5), lambda m: [m.Residual([conv(m, 1)])]),
    "3 channels": ((3, 3, 4, 5), lambda m: [m.Residual([conv(m, 3)]), m.ReLU(), conv(m, 4)]),
    "16 channels": ((2, 16, 6, 6), lambda m: [m.Residual([conv(m, 16), m.ReLU(), conv(m, 16, seed=1)]), m.ReLU()]),
    "pad": ((2, 4, 6, 8), lambda m: [m.Residual([conv(m, 9, 2)], "pad")]),
    "pad odd": ((2, 3, 7, 5), lambda m: [m.Residual([conv(m, 8, 2), m.ReLU(), conv(m, 8, seed=1)], "pad"), m.ReLU()]),
    "pad stride pair": ((2, 17, 6, 9), lambda m: [m.Residual([conv(m, 19, (2, 3))], "pad")]),
    "pad channels only": ((2, 5, 3, 4), lambda m: [m.Residual([conv(m, 12)], "pad"), m.ReLU()]),
    "pad pixels only": ((2, 8, 6, 6), lambda m: [m.Residual([conv(m, 8, 2)], "pad"), m.ReLU()]),
    "pad nothing": ((2, 8, 6, 6), lambda m: [m.Residual([conv(m, 8)], "pad"), m.ReLU()]),
    "pad 16 to 32": ((2, 16, 8, 8), lambda m: [conv(m, 16), m.ReLU(), m.Residual([conv(m, 32, 2)], "pad"), m.ReLU()]),
    "pointwise": ((2, 4, 6, 7), lambda m: [m.Residual([conv(m, 9, 2)], [conv(m, 9, 2, 1, 1)]), m.ReLU()]),
    "both with ReLU": ((2, 4, 6, 6), lambda m: [m.Residual([conv(m, 8), m.ReLU()], [conv(m, 8, seed=1), m.ReLU()])]),
    "ends in ReLU": ((2, 8, 6, 6), lambda m: [conv(m, 8), m.Residual([conv(m, 8, seed=1), m.ReLU()]), m.ReLU()]),
    "pooling": ((2, 4, 6, 6), lambda m: [m.Residual([conv(m, 4), m.ReLU(), m.MaxPool2D()], [m.MaxPool2D()])]),
    "dense": ((4, 10), lambda m: [m.Residual([m.Dense(10, random_state=0), m.ReLU()]), m.ReLU()]),
    "dense branches": (
        (4, 10),
        lambda m: [m.Residual([m.Dense(3, random_state=0)], [m.Dense(3, random_state=1)]), m.ReLU()],
    ),
    "flatten": (
        (4, 3, 4, 5),
        lambda m: [m.Residual([m.Flatten()], [conv(m, 2), m.Flatten(), m.Dense(60, random_state=1)])],
    ),
    "flatten features": ((4, 7), lambda m: [m.Residual([m.Flatten()], [m.Dense(7, random_state=1)])]),
    "twice the input": ((4, 3, 4, 5), lambda m: [m.Residual([m.Flatten()], [m.Flatten()])]),
    "nested": (
        (2, 5, 5, 6),
        lambda m: [
            conv(m, 9),
            m.Residual([m.Residual([conv(m, 9, seed=1), m.ReLU()]), m.ReLU(), conv(m, 9, seed=2)]),
            m.ReLU(),
        ],
    ),
    "nested first": ((2, 5, 5, 6), lambda m: [m.Residual([m.Residual([conv(m, 5)]), m.ReLU()])]),
    "nested shortcut": (
        (2, 5, 5, 6),
        lambda m: [m.Residual([conv(m, 5)], [m.Residual([conv(m, 5, seed=1)])]), m.ReLU(), conv(m, 3)],
    ),
    "in a row": (
        (2, 3, 8, 8),
        lambda m: [
            conv(m, 8),
            m.ReLU(),
            m.Residual([conv(m, 8, seed=1), m.ReLU(), conv(m, 8, seed=2)]),
            m.ReLU(),
            m.Residual([conv(m, 16, 2, 3), m.ReLU(), conv(m, 16, seed=4)], "pad"),
            m.ReLU(),
            m.Residual([conv(m, 16, seed=5), m.ReLU(), conv(m, 16, seed=6)]),
            m.ReLU(),
            m.Flatten(),
            m.Dense(5, random_state=7),
        ],
    ),
    "concat": ((2, 3, 6, 5), lambda m: [m.Concat([[], [conv(m, 4), m.ReLU()], [m.MaxPool2D(3, 1, 1)]])]),
    "concat 17, 8, 33": ((2, 3, 4, 5), lambda m: [m.Concat([[conv(m, 17)], [conv(m, 8), m.ReLU()], [conv(m, 33)]])]),
    "concat vectors": ((2, 8, 4, 5), lambda m: [m.Concat([[conv(m, 16)], [], [conv(m, 8, size=1)]]), m.ReLU()]),
    "concat one": ((2, 3, 4, 5), lambda m: [conv(m, 6), m.Concat([[conv(m, 5)]])]),
    "concat itself": ((2, 3, 4, 5), lambda m: [conv(m, 6), m.Concat([[], [], []]), conv(m, 4)]),
    "concat input alone": ((2, 3, 4, 5), lambda m: [m.Concat([[]])]),
    "concat dense": ((4, 6), lambda m: [m.Concat([[m.Dense(2, random_state=0)], [], [m.Dense(5, random_state=1)]])]),
    "concat then pool": ((2, 3, 6, 6), lambda m: [m.Concat([[conv(m, 4)], []]), m.ReLU(), m.MaxPool2D(), conv(m, 9)]),
    "concat flatten": (
        (3, 3, 4, 4),
        lambda m: [m.Concat([[conv(m, 5)], []]), m.Flatten(), m.Dense(4, random_state=1)],
    ),
    "flattened branches": ((3, 3, 4, 4), lambda m: [m.Concat([[m.Flatten()], [conv(m, 2), m.Flatten()]])]),
    "concat in residual": (
        (2, 6, 5, 5),
        lambda m: [conv(m, 6), m.Residual([m.Concat([[conv(m, 2)], [conv(m, 4), m.ReLU()]])]), m.ReLU()],
    ),
    "residual in concat": ((2, 6, 5, 5), lambda m: [m.Concat([[m.Residual([conv(m, 6)]), m.ReLU()], [conv(m, 3)]])]),
}
rows = pytest.mark.parametrize("row", ROWS)


def run_reference(layers, x, dL_dout=None):
    output = x
    for layer in layers:
        output = layer.forward(output)
    dL_dinput = normal(*output.shape, seed=1) if dL_dout is None else dL_dout
    for layer in reversed(layers):
        dL_dinput = layer.backward(dL_dinput)
    gradients = {f"{i}.{name}": g for i, layer in enumerate(layers) for name, g in layer.gradients.items()}
    return output, dL_dinput, gradients


def assert_alike(actual, expected, relative=1e-10):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * np.abs(expected).max(initial=1e-300))


@pytest.mark.parametrize("fuse", [True, False])
@rows
def test_as_the_reference(row, fuse):
    shape, make = ROWS[row]
    x = normal(*shape)
    output, dL_dinput, gradients = run_reference(make(reference), x)
    model = fastcnn.Sequential(make(fastcnn), fuse=fuse).build(shape[1:], dtype=np.float64)
    assert model.output_shape(shape[1:]) == output.shape[1:]
    for _ in range(2):  # the second time over buffers that have been used
        assert_alike(model.forward(x), output)
        assert_alike(model.backward(normal(*output.shape, seed=1)), dL_dinput)
        assert model.gradients.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert_alike(model.gradients[name], gradient)


@rows
def test_in_float32(row):
    """Against itself in float64: what remains is rounding, a few hundred terms deep."""
    shape, make = ROWS[row]
    x = normal(*shape, dtype=np.float32)
    twins = [fastcnn.Sequential(make(fastcnn)).build(shape[1:], dtype=dtype) for dtype in (np.float32, np.float64)]
    twins[1].set_weights(twins[0].get_weights())
    outputs = [twin.forward(x.astype(twin._flat.dtype)) for twin in twins]
    assert outputs[0].dtype == np.float32
    assert_alike(outputs[0], outputs[1], 1e-5)
    dL_dout = normal(*outputs[0].shape, seed=1, dtype=np.float32)
    gradients = [twin.backward(dL_dout.astype(twin._flat.dtype)) for twin in twins]
    if "ReLU" not in row:
        assert_alike(gradients[0], gradients[1], 1e-4)
    assert gradients[0].dtype == np.float32


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("fuse", [True, False])
@rows
def test_training_without_an_input_gradient(row, fuse, threads):
    """In a trainer nobody asks for the gradient of the input: the same parameters after three steps."""
    shape, make = ROWS[row]
    x = normal(*shape)
    heads = [lambda m: [*make(m), m.Flatten(), m.Dense(3, random_state=9)]]
    layers, y = heads[0](reference), np.arange(len(x)) % 3
    model = fastcnn.Sequential(heads[0](fastcnn), fuse=fuse).build(shape[1:], dtype=np.float64)
    trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.01), threads=threads)
    for _ in range(3):
        logits = x
        for layer in layers:
            logits = layer.forward(logits)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(len(x)), y]).mean()
        dL_dout = p - np.eye(3)[y]
        for layer in reversed(layers):
            dL_dout = layer.backward(dL_dout)
        for layer in layers:
            for name, gradient in layer.gradients.items():
                layer.parameters[name] -= 0.01 * gradient / len(x)
        assert trainer.step(x, y) == pytest.approx(loss, rel=1e-10)
    for i, layer in enumerate(layers):
        for name, parameter in layer.parameters.items():
            assert_alike(model.parameters[f"{i}.{name}"], parameter)


@rows
def test_gradients_are_slopes(row):
    shape, make = ROWS[row]
    model = fastcnn.Sequential(make(fastcnn)).build(shape[1:], dtype=np.float64)
    x = away_from_kinks(shape)
    dL_dout = normal(*model.forward(x).shape, seed=1)
    dL_dinput = model.backward(dL_dout).copy()
    gradients = {name: gradient.copy() for name, gradient in model.gradients.items()}

    def loss() -> float:
        return float(np.sum(model.forward(x) * dL_dout))

    directional_gradient_check(loss, x, dL_dinput, step=1e-7, tolerance=1e-4)
    for name, gradient in gradients.items():
        directional_gradient_check(loss, model.parameters[name], gradient, step=1e-7, tolerance=1e-4)


@both_dtypes
@pytest.mark.parametrize("order", ORDERS)
def test_memory_orders(order, dtype):
    shape, make = ROWS["in a row"]
    x = normal(*shape, dtype=dtype)
    model = fastcnn.Sequential(make(fastcnn)).build(shape[1:], dtype=dtype)
    expected = model.forward(x).copy()
    np.testing.assert_array_equal(model.forward(ORDERS[order](x)), expected)


@pytest.mark.filterwarnings("ignore:.*channels last")  # of C samples of C x 1
@sweep
@given(
    st.integers(1, 3), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3),
    st.integers(0, 18), st.booleans(),
)  # fmt: skip
def test_padded_shortcuts(N, C, H, W, s_H, s_W, more, relu):
    def make(m):
        return [m.Residual([conv(m, C + more, (s_H, s_W))], "pad"), *([m.ReLU()] if relu else [])]

    x = normal(N, C, H, W)
    output, dL_dinput, _ = run_reference(make(reference), x)
    model = fastcnn.Sequential(make(fastcnn)).build((C, H, W), dtype=np.float64)
    assert_alike(model.forward(x), output)
    assert_alike(model.backward(normal(*output.shape, seed=1)), dL_dinput)


@sweep
@given(st.integers(1, 3), st.lists(st.integers(0, 35), min_size=1, max_size=5), st.integers(1, 5), st.integers(1, 5))
def test_any_channels_side_by_side(N, channels, H, W):
    def make(m):
        return [m.Concat([[m.Conv2D(C, 1, random_state=C)] if C else [] for C in channels])]

    x = normal(N, 3, H, W)
    output, dL_dinput, _ = run_reference(make(reference), x)
    model = fastcnn.Sequential(make(fastcnn)).build((3, H, W), dtype=np.float64)
    assert_alike(model.forward(x), output)
    assert_alike(model.backward(normal(*output.shape, seed=1)), dL_dinput)


def test_a_relu_behind_the_sum_is_fused():
    def ops(fuse):
        graph = Graph((8, 4, 4), np.dtype(np.float32), fuse=fuse)
        model = fastcnn.Sequential(ROWS["ends in ReLU"][1](fastcnn), fuse=fuse).build((8, 4, 4))
        model._lower(graph, 0)
        return [type(op).__name__ for op in graph.ops]

    assert ops(True) == ["ConvolutionOp", "ForkOp", "ConvolutionOp", "AddOp"]
    assert ops(False) == [
        "ConvolutionOp",
        "ForkOp",
        "ConvolutionOp",
        "ElementwiseOp",
        "AddOp",
        "ElementwiseOp",
    ]


def test_the_first_edge_is_padded_only_where_needed():
    """A convolution reads three channels as they are, whatever forks later; a sum does not."""

    def pitch(*layers):
        model = fastcnn.Sequential(layers).build((3, 8, 8))
        return plan_of(model, 1).values[0].pitch

    m = fastcnn
    assert pitch(conv(m, 8), m.Residual([conv(m, 8)])) == 3
    assert pitch(m.Concat([[conv(m, 8)], [conv(m, 5)], []])) == 3
    assert pitch(m.Residual([conv(m, 3)])) > 3


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("make", "message"), [
    (lambda m: m.Residual([m.Conv2D(8, 3)]), r"shape of the layers' output, \(8, 4, 4\); got \(4, 6, 6\)"),
    (lambda m: m.Residual([m.Conv2D(3, 3, 2, 1)], "pad"), r"\(3, 3, 3\); got \(4, 6, 6\) from an input of \(4, 6, 6\)"),
    (lambda m: m.Residual([m.Conv2D(8, 3, 2, 1)], [m.Conv2D(9, 1, 2)]), r"output, \(8, 3, 3\); got \(9, 3, 3\)"),
    (lambda m: m.Residual([m.Flatten(), m.Dense(4)], "pad"), r"output, \(4,\); got \(4, 6, 6\)"),
    (lambda m: m.Concat([[m.Conv2D(8, 3)], []]), r"in channels only; got \(8, 4, 4\), \(4, 6, 6\) from an input"),
    (lambda m: m.Residual([m.ReLU(), m.Conv2D(8, 9)]), r"Residual: layers: layer 1: Conv2D: "),
    (lambda m: m.Residual([m.ReLU()], [m.ReLU(), m.Conv2D(8, 9)]), r"Residual: shortcut: layer 1: Conv2D: "),
    (lambda m: m.Concat([[], [m.Conv2D(8, 9)]]), r"Concat: branches.1: layer 0: Conv2D: "),
])  # fmt: skip
def test_shapes_that_do_not_match_are_named_with_their_place(make, message):
    with pytest.raises(ValueError, match=message) as alone:
        make(fastcnn).build((4, 6, 6))
    model = fastcnn.Sequential([fastcnn.ReLU(), fastcnn.Sequential([fastcnn.ReLU(), make(fastcnn)])])
    with pytest.raises(ValueError, match=message) as inside:
        model.build((4, 6, 6))
    assert str(inside.value) == f"Sequential: layer 1: Sequential: layer 1: {alone.value}"
    assert not model.parameters


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda m: m.Residual([]), ValueError, "Residual: layers: expected at least one"),
    (lambda m: m.Residual(m.ReLU()), TypeError, "Residual: layers: expected a sequence of layers; got a single ReLU"),
    (lambda m: m.Residual([m.ReLU(), 3]), TypeError, r"Residual: layers\[1\]: expected a layer; got 3"),
    (lambda m: m.Residual([m.ReLU()], "pat"), ValueError, "Residual: shortcut: expected None"),
    (lambda m: m.Residual([m.ReLU()], [None]), TypeError, r"Residual: shortcut\[0\]: expected a layer; got None"),
    (lambda m: m.Concat([]), ValueError, "Concat: branches: expected at least one"),
    (lambda m: m.Concat([[m.ReLU()], [7]]), TypeError, r"Concat: branches\[1\]\[0\]: expected a layer; got 7"),
    (lambda m: m.Concat([[layer := m.ReLU()], [layer]]), ValueError, "Concat: expected each layer once"),
    (lambda m: m.Residual([layer := m.ReLU()], [layer]), ValueError, "Residual: expected each layer once"),
])  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(fastcnn)


def test_a_built_one_takes_the_shape_that_it_was_built_for():
    layer = fastcnn.Residual([conv(fastcnn, 4)]).build((4, 6, 6))
    with pytest.raises(ValueError, match=r"Residual: input: expected samples of shape \(4, 6, 6\); got \(4, 5, 6\)"):
        layer.forward(normal(2, 4, 5, 6))
