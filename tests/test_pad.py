"""Pad: rows and columns around images, against the reference and NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import Conv2D, Dense, Flatten, Pad, Sequential, Trainer
from fastcnn.ops.window import as_margins
from tests.arrays import both_dtypes, normal

PADS = [
    (1, "constant", 0.0), ((0, 2), "constant", -0.5), (((0, 3), (1, 0)), "constant", 2.0),
    (((1, 2), (3, 0)), "reflect", 0.0), ((3, 4), "reflect", 0.0), (((9, 0), (1, 7)), "edge", 0.0), (0, "edge", 0.0),
]  # fmt: skip


@both_dtypes
@pytest.mark.parametrize("channels", [1, 16, 35])
@pytest.mark.parametrize("pad", PADS, ids=str)
def test_output_and_gradient_are_those_of_the_reference(pad, channels, dtype):
    x, fast = normal(2, channels, 4, 5, dtype=dtype), Pad(*pad)
    slow = reference.Pad(fast.padding, *pad[1:])
    output = fast.forward(x)
    np.testing.assert_array_equal(output, slow.forward(x).astype(dtype))
    ((top, bottom), (left, right)), mode = as_margins(fast.padding), fast.mode
    constant = {"constant_values": fast.value} if mode == "constant" else {}
    expected = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode, **constant)
    np.testing.assert_array_equal(output, expected)
    dy = normal(*output.shape, seed=1, dtype=dtype)
    n = 1 + max(top, bottom, left, right)  # rows, and columns, that repeat one, at most
    scale = np.abs(slow.backward(np.abs(dy)))
    assert (np.abs(fast.backward(dy) - slow.backward(dy)) <= n * n * np.finfo(dtype).eps * scale).all()


@pytest.mark.parametrize("pad", [(((2, 0), (1, 3)), "constant", 0.5), (2, "reflect", 0.0)], ids=str)
def test_inside_a_network_that_is_trained(pad):
    layers = [Conv2D(8, 3, padding=1), Pad(*pad), Conv2D(6, 3), Flatten(), Dense(3)]
    model = Sequential(layers).build((2, 6, 5), random_state=0)
    assert fastcnn.check_gradients(model, normal(3, 2, 6, 5), np.arange(3)).right
    x, y = normal(6, 2, 6, 5, dtype=np.float32), np.arange(6) % 3
    model = Sequential([layer.copy() for layer in layers]).build((2, 6, 5), random_state=0)
    trainer = Trainer(model, random_state=0)
    losses = [trainer.step(x, y) for _ in range(5)]  # the first is recorded, the others are replayed
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(model.predict(x), np.concatenate([model.predict(x[k : k + 1]) for k in range(6)]), 1e-4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Pad((1, 2, 3, 4)), TypeError, r"Pad: padding: expected an int or a pair .*; got \(1, 2, 3, 4\)"),
        (lambda: Pad("same"), TypeError, "Pad: padding: expected an int or pairs of ints; got 'same'"),
        (lambda: Pad(1.5), TypeError, r"Pad: padding: .*; got 1.5"),
        (lambda: Pad(((1, 2), (1,))), TypeError, r"Pad: padding: expected .*; got \(1,\)"),
        (lambda: Pad((1, -1)), ValueError, r"Pad: padding: expected at least 0; got \(1, -1\)"),
        (lambda: Pad(1, "wrap"), ValueError, "Pad: mode: expected 'constant', 'reflect' or 'edge'; got 'wrap'"),
        (lambda: Pad(1, "edge", 1.0), ValueError, "Pad: value: expected 0 with mode='edge'"),
        (lambda: Pad(1, value=np.inf), ValueError, "Pad: value: expected a finite number; got inf"),
        (lambda: Pad(2, "reflect").build((1, 2, 5)), ValueError, r"Pad: input: expected images larger .* got 2 x 5"),
        (lambda: Pad(1).build((4,)), ValueError, "Pad: input: expected images"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
