"""A layer alone works on the caller's arrays where it can: nobody sees more of it than the time that it takes."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.engine.binding import BoundPass
from tests.arrays import ORDERS, both_dtypes, normal
from tests.bounds import expect_convolution
from tests.cases import ConvCase

C = 16  # channels that fill whole registers of every vector set, so that maps have no padding
IMAGES = {
    "conv": lambda: fastcnn.Conv2D(C, 3, random_state=0),
    "conv-padded": lambda: fastcnn.Conv2D(C, 3, 1, 1, random_state=0),
    "conv-pointwise": lambda: fastcnn.Conv2D(C, 1, random_state=0),
    "conv-strided": lambda: fastcnn.Conv2D(C, 3, 2, "same", random_state=0),
    "conv-groups": lambda: fastcnn.Conv2D(C, 3, 1, 1, 1, 4, random_state=0),
    "conv-frozen": lambda: fastcnn.Conv2D(C, 3, random_state=0, trainable=False),
    "depthwise": lambda: fastcnn.DepthwiseConv2D(3, padding=1, random_state=0),
    "transposed": lambda: fastcnn.Conv2DTranspose(C, 3, 2, 1, 1, random_state=0),
    "relu": fastcnn.ReLU,
    "gelu": fastcnn.GELU,
    "tanh": fastcnn.Tanh,
    "softmax": fastcnn.SoftmaxActivation,
    "max-pool": fastcnn.MaxPool2,
    "max-pool-3": lambda: fastcnn.MaxPool2D(3, 2, 1),
    "average": lambda: fastcnn.AvgPool2D(2),
    "global": fastcnn.GlobalAvgPool2D,
    "flatten": fastcnn.Flatten,
    "dropout": lambda: fastcnn.Dropout(0.5, random_state=0),
    "pad": lambda: fastcnn.Pad(1),
    "norm": fastcnn.BatchNorm,
    "dense": lambda: fastcnn.Softmax(C * 36, C, 0),
    "fused": lambda: fastcnn.Sequential([fastcnn.Conv2D(C, 3), fastcnn.ReLU(), fastcnn.MaxPool2()]),
    "fused-relu": lambda: fastcnn.Sequential([fastcnn.ReLU(), fastcnn.Conv2D(C, 3, 1, 1), fastcnn.ReLU()]),
    "fused-gelu": lambda: fastcnn.Sequential([fastcnn.Conv2D(C, 3), fastcnn.GELU()]),
    "fused-pointwise": lambda: fastcnn.Sequential([fastcnn.Conv2D(C, 1), fastcnn.ReLU()]),
    "fused-dense": lambda: fastcnn.Sequential([fastcnn.Flatten(), fastcnn.Dense(C), fastcnn.ReLU()]),
    "residual": lambda: fastcnn.Residual([fastcnn.Conv2D(C, 3, 1, 1), fastcnn.ReLU()]),
}
EVEN, ODD, FEATURES = (3, C, 6, 6), (3, C, 7, 5), (5, 32)
CASES = [(name, EVEN) for name in IMAGES] + [(name, ODD) for name in ("conv", "relu", "max-pool", "fused", "average")]
CASES += [("relu", FEATURES), ("gelu", FEATURES)]
each_case = pytest.mark.parametrize(("name", "shape"), CASES, ids=[f"{name}-{shape[-1]}" for name, shape in CASES])


def batches(layer, shape, dtype, count=3):
    """Return inputs, and gradients of outputs; channels last in memory, as a layer's output is."""
    xs = [normal(*shape, seed=seed, dtype=dtype) for seed in range(count)]
    layer.build(shape[1:], dtype=dtype, random_state=0)
    gradients = [normal(shape[0], *layer.output_shape(shape[1:]), seed=9 + seed, dtype=dtype) for seed in range(count)]
    return [_channels_last(x) for x in xs], [_channels_last(gradient) for gradient in gradients]


def _channels_last(x):
    return x if x.ndim == 2 else np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def steps(layer, xs, gradients, before=lambda layer: None, between=lambda x, output: None):
    """Take steps in the notebook's way; return all that they return, and copies as they were at first."""
    kept, copies = [], []
    for x, gradient in zip(xs, gradients, strict=True):
        before(layer)
        output = layer.forward(x)
        copies.append(output.copy())
        between(x, output)
        before(layer)
        dL_dinput = layer.backward(gradient, 0.01)
        kept += [output, dL_dinput, *layer.gradients.values()]
        copies += [dL_dinput.copy(), *(array.copy() for array in layer.gradients.values())]
    return kept, copies


def unbind(layer):
    """Let a layer copy whatever comes and goes."""
    if layer._executables.last is not None:
        layer._executables.last.bound.clear()


@pytest.fixture(autouse=True)
def garbage(monkeypatch):
    """Fill new memory with NaN: what a pass leaves unwritten is seen."""
    empty_like = np.empty_like

    def full(array):
        found = empty_like(array)
        found.fill(np.nan)
        return found

    monkeypatch.setattr(np, "empty_like", full)


@both_dtypes
@each_case
def test_bound_passes_have_the_bits_of_copying_ones(name, shape, dtype):
    layer, twin = IMAGES[name](), IMAGES[name]()
    xs, gradients = batches(layer, shape, dtype)
    batches(twin, shape, dtype)
    before = [array.copy() for array in (*xs, *gradients)]
    kept, copies = steps(layer, xs, gradients)
    _, expected = steps(twin, xs, gradients, before=unbind)
    for one, other in zip(copies, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(kept, copies, strict=True):  # later calls do not write to what the caller has
        np.testing.assert_array_equal(one, other)
    for one, other in zip((*xs, *gradients), before, strict=True):
        np.testing.assert_array_equal(one, other)


@each_case
def test_what_the_caller_writes_meanwhile_changes_no_gradient(name, shape):
    def spoil(x, output):
        x[...] = np.nan
        output[...] = np.nan

    layer, twin = IMAGES[name](), IMAGES[name]()
    xs, gradients = batches(layer, shape, np.float64)
    _, expected = steps(twin, *batches(twin, shape, np.float64))
    kept, _ = steps(layer, xs, gradients, between=spoil)
    each = len(expected) // len(xs)
    for i, (one, other) in enumerate(zip(kept, expected, strict=True)):
        if i % each:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["conv", "conv-padded", "relu", "max-pool", "dense"])
def test_any_memory_order_has_the_same_bits(name, order):
    layer, twin = IMAGES[name](), IMAGES[name]()
    xs, gradients = batches(layer, EVEN, np.float64)
    batches(twin, EVEN, np.float64)
    _, expected = steps(twin, xs, gradients)
    _, found = steps(layer, [ORDERS[order](x) for x in xs], [ORDERS[order](gradient) for gradient in gradients])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_gradient_of_another_precision_is_converted():
    layer, twin = fastcnn.ReLU(), fastcnn.ReLU()
    (x,), (gradient,) = batches(layer, EVEN, np.float32, 1)
    for dL_dout in (gradient, gradient.astype(np.float64), gradient.astype(np.float64)):
        layer.forward(x)
        twin.forward(x)
        unbind(twin)
        np.testing.assert_array_equal(layer.backward(dL_dout), twin.backward(gradient))


def test_strides_of_another_precision_are_no_reason_to_read_in_place():
    layer, twin = fastcnn.ReLU(), fastcnn.ReLU()
    (x,), (gradient,) = batches(layer, EVEN, np.float64, 1)
    sparse = np.zeros((3, 6, 6, C, 2), np.float32)[..., 0].transpose(0, 3, 1, 2)
    sparse[...] = gradient
    assert sparse.strides == gradient.strides
    for _ in range(2):
        layer.forward(x)
        twin.forward(x)
        np.testing.assert_array_equal(layer.backward(sparse), twin.backward(sparse.astype(np.float64)))


def test_misaligned_and_read_only_arrays():
    layer = fastcnn.ReLU()
    (x,), (gradient,) = batches(layer, EVEN, np.float64, 1)
    expected = layer.forward(x), layer.backward(gradient)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(np.float64).reshape(3, 6, 6, C).transpose(0, 3, 1, 2)
    odd[...] = x
    assert odd.strides == x.strides
    for array in (odd, x):
        array.flags.writeable = False
        np.testing.assert_array_equal(layer.forward(array), expected[0])
        np.testing.assert_array_equal(layer.backward(gradient), expected[1])


def test_no_copies_between_layers_that_keep_nothing_of_them():
    """The notebook's layers pass maps on where they lie."""
    layers = [fastcnn.Conv2D(C, 3, random_state=0), fastcnn.ReLU(), fastcnn.MaxPool2()]
    x = normal(4, 1, 8, 8)
    for _ in range(2):
        maps = x
        for layer in layers:
            maps = layer.forward(maps)
        for layer in reversed(layers):
            maps = layer.backward(maps)
    in_place = []
    for layer in layers:
        (_, workspace), *_ = layer._executables.last.shards
        forward, backward = (layer._executables.last.bound[direction, True] for direction in ("forward", "backward"))
        in_place.append(
            [
                forward.place is workspace.values[0],
                forward.target is workspace.values[-1],
                backward.place is workspace.gradients[-1],
                backward.target is workspace.gradients[0],
            ]
        )
        assert isinstance(forward, BoundPass)
    assert in_place[1:] == [[True, False, True, True], [True] * 4]


def test_gradients_are_made_for_those_who_look():
    layer = fastcnn.Dense(3, random_state=0)
    x, gradient = normal(2, 5), normal(2, 3)
    layer.forward(x)
    layer.backward(gradient)
    seen = layer.gradients
    assert layer.gradients is seen
    before = seen["weights"].copy()
    layer.forward(2 * x)
    layer.backward(gradient)
    np.testing.assert_array_equal(seen["weights"], before)
    np.testing.assert_allclose(layer.gradients["weights"], 2 * before)
    with pytest.raises(AttributeError, match="gradients: read-only"):
        layer.gradients = {}


@both_dtypes
@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
@pytest.mark.parametrize("images", [1, 2])
def test_a_single_line_is_copied_into_its_halo(images, size, dtype):
    """Against the reference: what the copy spoils, it spoils in the first pass already, when it is recorded."""
    case = ConvCase("line", (images, C, *size), 5, 3, padding=1)
    layer = fastcnn.Conv2D(**case.arguments, random_state=0).build(case.input_shape[1:], dtype)
    for seed in range(3):
        x, dL_dout = (normal(images, channels, *size, seed=seed, dtype=dtype) for channels in (C, 5))
        expect_convolution(case, layer.parameters, x, dL_dout).assert_close(layer, x, dL_dout)
