"""The reference equals the notebook that it grew out of, whose classes stand here as they were."""

from __future__ import annotations

import numpy as np
import pytest

import reference


class NotebookConv2D:
    """Valid convolution of one channel with stride 1, as in the notebook."""

    def __init__(self, filters, biases):
        self.filters, self.biases = filters.copy(), biases.copy()

    def forward(self, input):
        self.input = input
        n, _, h, w = input.shape
        f, k, _ = self.filters.shape
        output = np.zeros((n, f, h - k + 1, w - k + 1))
        for i in range(h - k + 1):
            for j in range(w - k + 1):
                region = input[:, 0, i : i + k, j : j + k]
                output[:, :, i, j] = np.tensordot(region, self.filters, axes=([1, 2], [1, 2])) + self.biases
        return output

    def backward(self, dL_dout, learning_rate):
        n, f, k = len(dL_dout), *self.filters.shape[:2]
        dL_dfilters, dL_dinput = np.zeros_like(self.filters), np.zeros_like(self.input)
        for i in range(dL_dout.shape[2]):
            for j in range(dL_dout.shape[3]):
                region = self.input[:, 0, i : i + k, j : j + k]
                for m in range(f):
                    dL_dfilters[m] += np.sum(dL_dout[:, m, i, j, None, None] * region, axis=0)
                    dL_dinput[:, 0, i : i + k, j : j + k] += dL_dout[:, m, i, j, None, None] * self.filters[m]
        self.filters -= learning_rate * dL_dfilters / n
        self.biases -= learning_rate * dL_dout.sum(axis=(0, 2, 3)) / n
        return dL_dinput


class NotebookReLU:
    """Mask of what is positive."""

    def forward(self, input):
        self.input = input
        return np.maximum(0, input)

    def backward(self, dL_dout, learning_rate=None):
        return dL_dout * (self.input > 0)


class NotebookMaxPool2:
    """2×2 windows of an even image; the gradient goes wherever the patch equals its maximum."""

    def forward(self, input):
        self.input = input
        n, c, h, w = input.shape
        output = np.zeros((n, c, h // 2, w // 2))
        for i in range(h // 2):
            for j in range(w // 2):
                patch = input[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                output[:, :, i, j] = np.max(patch, axis=(2, 3))
        return output

    def backward(self, dL_dout, learning_rate=None):
        dL_dinput = np.zeros_like(self.input)
        for i in range(dL_dout.shape[2]):
            for j in range(dL_dout.shape[3]):
                patch = self.input[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                mask = patch == np.max(patch, axis=(2, 3), keepdims=True)
                dL_dinput[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = mask * dL_dout[:, :, i, j][:, :, None, None]
        return dL_dinput


class NotebookSoftmax:
    """Dense and softmax; the gradient comes by the logits."""

    def __init__(self, weights, biases):
        self.weights, self.biases = weights.copy(), biases.copy()

    def forward(self, input):
        self.shape, self.flat = input.shape, input.reshape(len(input), -1)
        exponentials = np.exp(np.dot(self.flat, self.weights) + self.biases)
        return exponentials / np.sum(exponentials, axis=1, keepdims=True)

    def backward(self, dL_dout, learning_rate):
        dL_dinput = np.dot(dL_dout, self.weights.T).reshape(self.shape)
        self.weights -= learning_rate * np.dot(self.flat.T, dL_dout) / len(dL_dout)
        self.biases -= learning_rate * np.sum(dL_dout, axis=0) / len(dL_dout)
        return dL_dinput


@pytest.mark.parametrize(("n", "h", "w", "filters", "k"), [(1, 4, 4, 1, 3), (7, 8, 8, 16, 3), (3, 11, 7, 5, 2)])
def test_the_notebooks_training_loop(n, h, w, filters, k):
    rng = np.random.RandomState(0)
    outputs = filters * ((h - k + 1) // 2) * ((w - k + 1) // 2)
    ref = [
        reference.Conv2D(num_filters=filters, filter_size=k, random_state=rng).build((1, h, w)),
        reference.ReLU(),
        reference.MaxPool2(),
        reference.Softmax(input_len=outputs, nodes=10, random_state=rng),
    ]
    ref[0].biases = rng.standard_normal(filters)
    ref[3].biases = rng.standard_normal(10)
    book = [
        NotebookConv2D(ref[0].filters[:, 0], ref[0].biases),
        NotebookReLU(),
        NotebookMaxPool2(),
        NotebookSoftmax(ref[3].weights, ref[3].biases),
    ]
    y = np.eye(10)[rng.randint(10, size=n)]
    for _ in range(5):
        # Whole sixteenths, as the digits are, and many of them 0: ties in the pooling, zeros in the ReLU.
        ref_x = book_x = rng.randint(17, size=(n, 1, h, w)) * (rng.rand(n, 1, h, w) > 0.5) / 16
        for ref_layer, book_layer in zip(ref, book, strict=True):
            ref_x, book_x = ref_layer.forward(ref_x), book_layer.forward(book_x)
            np.testing.assert_allclose(ref_x, book_x, rtol=1e-12, atol=1e-12)
        ref_dL, book_dL = ref_x - y, book_x - y
        for ref_layer, book_layer in zip(ref[::-1], book[::-1], strict=True):
            ref_dL, book_dL = ref_layer.backward(ref_dL, 0.1), book_layer.backward(book_dL, 0.1)
            np.testing.assert_allclose(ref_dL, book_dL, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[0].filters[:, 0], book[0].filters, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[0].biases, book[0].biases, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[3].weights, book[3].weights, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ref[3].biases, book[3].biases, rtol=1e-12, atol=1e-12)
