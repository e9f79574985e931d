"""Layers in which every output sees every input: Dense, and the notebook's Softmax."""

from __future__ import annotations

import math
from typing import final

import numpy as np

from reference.activation import softmax
from reference.base import Array, Layer, Parameter, RandomState, Shape, check_random_state, he_normal, integer


@final
class Dense(Layer):
    """Affine map of feature vectors: Y = X·W + b.

    With G = dL/dY: dL/dX = G·Wᵀ, dL/dW = Xᵀ·G, dL/db = Σ_n G[n].

    Parameters
    ----------
    nodes : int
        Outputs of one example.
    bias : bool
        Whether b is added.
    random_state : None, int, RandomState or Generator
        Source of the initial weights, ``normal((D, nodes)) * sqrt(2 / D)``; biases start at 0.

    Attributes
    ----------
    weights : ndarray, (D, nodes)
    biases : ndarray, (nodes,)

    References
    ----------
    Goodfellow, Bengio and Courville 2016, "Deep Learning", §6.5.
    """

    ranks = (2,)
    weights = Parameter()
    biases = Parameter()

    def __init__(self, nodes: int, bias: bool = True, random_state: RandomState = None) -> None:
        super().__init__()
        self.nodes = integer(self.name, "nodes", nodes, at_least=1)
        self.bias = bias
        self.random_state = random_state

    def _output_shape(self, input_shape: Shape) -> Shape:
        if self.built:
            self._expect_size("features", len(self.weights), input_shape[0])
        return (self.nodes,)

    def _build(self, input_shape: Shape) -> None:
        D = input_shape[0]
        self._add("weights", he_normal(check_random_state(self.random_state), (D, self.nodes), fan_in=D))
        if self.bias:
            self._add("biases", np.zeros(self.nodes))

    def _forward(self, input: Array) -> Array:
        output = input @ self.weights
        return output + self.biases if self.bias else output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        self.gradients["weights"][...] = input.T @ dL_dout
        if self.bias:
            self.gradients["biases"][...] = dL_dout.sum(axis=0)
        return dL_dout @ self.weights.T


@final
class Softmax(Layer):
    """The notebook's last layer, dense and softmax in one: z = x·W + b, p_k = exp(z_k) / Σ_m exp(z_m).

    ``forward`` flattens images in the order C, H, W and returns the probabilities. ``backward`` takes the gradient by
    the logits z, ``probs - y`` for cross-entropy on a target y, and returns the one by the input in the input's shape.

    Parameters
    ----------
    input_len : int
        Numbers in one input, C·H·W.
    nodes : int
        Classes.
    random_state : None, int, RandomState or Generator
        Source of the initial weights, ``normal((input_len, nodes)) * sqrt(2 / input_len)``, drawn by the
        constructor; biases start at 0.

    Attributes
    ----------
    weights : ndarray, (input_len, nodes)
    biases : ndarray, (nodes,)

    References
    ----------
    Bishop 2006, "Pattern Recognition and Machine Learning", §4.3.4.
    """

    weights = Parameter()
    biases = Parameter()

    def __init__(self, input_len: int, nodes: int, random_state: RandomState = None) -> None:
        super().__init__()
        self.input_len = integer(self.name, "input_len", input_len, at_least=1)
        self.nodes = integer(self.name, "nodes", nodes, at_least=1)
        self.random_state = random_state
        generator = check_random_state(random_state)
        self._add("weights", he_normal(generator, (self.input_len, self.nodes), fan_in=self.input_len))
        self._add("biases", np.zeros(self.nodes))

    def _output_shape(self, input_shape: Shape) -> Shape:
        if math.prod(input_shape) != self.input_len:
            raise ValueError(
                f"{self.name}: input: expected {self.input_len} numbers (input_len) in each example, "
                f"got {math.prod(input_shape)} in shape {input_shape}"
            )
        return (self.nodes,)

    def _forward(self, input: Array) -> Array:
        logits = input.reshape(len(input), -1) @ self.weights + self.biases
        return softmax(logits)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        self.gradients["weights"][...] = input.reshape(len(input), -1).T @ dL_dout
        self.gradients["biases"][...] = dL_dout.sum(axis=0)
        return (dL_dout @ self.weights.T).reshape(input.shape)
