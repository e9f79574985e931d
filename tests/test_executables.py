"""The notebook's way with batches of several lengths: executables are kept, and nothing else is to be seen of it."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn.engine import executable, executable_cache
from tests.arrays import normal


def epoch(layers, lengths):
    """Take the notebook's steps on batches of these lengths; return what came of each."""
    outputs = []
    for number, n in enumerate(lengths):
        x = normal(n, 1, 6, 6, seed=number)
        for layer in layers:
            x = layer.forward(x)
        gradient = x - np.eye(5)[np.arange(n) % 5]
        for layer in reversed(layers):
            gradient = layer.backward(gradient, 0.1)
        outputs += [x, gradient]
    return outputs


def layers(package):
    return [package.Conv2D(3, 3, random_state=0), package.ReLU(), package.MaxPool2(), package.Softmax(12, 5, 0)]


def test_steps_on_batches_of_alternating_lengths_are_the_references():
    lengths = [4, 4, 3, 4, 3, 1, 2, 5, 6, 4, 3, 7, 1]
    for mine, expected in zip(epoch(layers(fastcnn), lengths), epoch(layers(reference), lengths), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-10, atol=1e-12)


def test_a_length_that_comes_again_finds_its_executable():
    layer = fastcnn.ReLU()
    executables = [layer.forward(np.ones((n, 3))).size and layer._executables.last for n in (4, 3, 4, 3)]
    assert executables[0] is executables[2] is not executables[1] is executables[3]


def test_few_are_kept_and_those_fit():
    layer = fastcnn.ReLU()
    for n in range(1, 20):
        layer.forward(np.ones((n, 3)))
    assert len(layer._executables._kept) == executable_cache.KEPT


def test_large_ones_are_not_kept_beside_others(monkeypatch):
    layer = fastcnn.ReLU()
    layer.forward(np.ones((4, 64)))
    monkeypatch.setattr(executable_cache, "CHUNK", 4 * 64)
    layer.forward(np.ones((3, 64)))
    assert list(layer._executables._kept) == [((3, 64), np.dtype(float))]


def test_precisions_have_executables_of_their_own():
    layer = fastcnn.Dense(3, random_state=0)
    for dtype in (np.float64, np.float32, np.float64):
        assert layer.forward(np.ones((2, 5), dtype)).dtype == dtype


def test_backward_belongs_to_the_last_forward():
    layer = fastcnn.Dense(3, random_state=0)
    layer.forward(np.ones((2, 5)))
    layer.forward(np.ones((4, 5)))
    with pytest.raises(ValueError, match=r"dL_dout: expected shape \(4, 3\)"):
        layer.backward(np.ones((2, 3)))
    layer.forward(np.zeros((2, 5)))
    layer.backward(np.ones((2, 3)))
    assert not layer.gradients["weights"].any()


def test_masks_do_not_depend_on_what_is_kept():
    """The calls are counted on from executable to executable: a step never has the mask of another."""

    def masks(kept):
        layer, found = fastcnn.Dropout(0.5, random_state=0), []
        for n in (4, 3, 4, 4, 3):
            layer.forward(np.ones((n, 50)))
            found.append(layer.last_mask)
            if not kept:
                layer._executables._kept.clear()
        return found

    kept, anew = masks(True), masks(False)
    for one, other in zip(kept, anew, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(np.array_equal(kept[0], other) for other in kept[2:4])


def test_new_weights_leave_no_executable_behind():
    layer = fastcnn.Dense(2, random_state=0)
    for n in (1, 2):
        layer.forward(np.ones((n, 3)))
    layer.build((3,), random_state=1)
    for n in (1, 2):
        expected = np.ones((n, 3)) @ layer.weights + layer.biases
        np.testing.assert_allclose(layer.forward(np.ones((n, 3))), expected, rtol=1e-12)


def test_a_model_alternates_too():
    model = fastcnn.Sequential([fastcnn.Conv2D(3, 3), fastcnn.BatchNorm(), fastcnn.ReLU(), fastcnn.Flatten()])
    model.build((1, 6, 6), random_state=0, dtype=np.float64)
    twin = model.copy()
    for number, n in enumerate((4, 3, 4, 3)):
        x = normal(n, 1, 6, 6, seed=number)
        np.testing.assert_array_equal(model.forward(x), twin.copy().forward(x))
        twin.forward(x)


def test_a_long_batch_passes_through_one_memory_in_parts(monkeypatch):
    """Of as many images as the memory takes, of one at least."""
    for numbers, images in ((16, 2), (8, 1), (3, 1), (1 << 20, 5)):
        monkeypatch.setattr(executable, "CHUNK", numbers)
        made = executable.Executable(fastcnn.MaxPool2D(2).build((2, 2, 2)), (5, 2, 2, 2), np.dtype(np.float64))
        assert list(made.firsts) == list(range(0, 5, images))
