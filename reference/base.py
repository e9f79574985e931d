"""The protocol of every layer: build, forward, backward, parameters and gradients; and all checks of arguments."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from reference.draws import normal

Array = npt.NDArray[np.float64]
Shape = tuple[int, ...]
Pair = int | tuple[int, int]
Generator = np.random.RandomState | np.random.Generator
RandomState = None | int | Generator


class Parameter:
    """A parameter as an attribute: ``layer.filters`` is ``layer.parameters["filters"]``; assignment writes in place."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, layer: None, owner: type) -> Self: ...
    @overload
    def __get__(self, layer: Layer, owner: type) -> Array: ...
    def __get__(self, layer: Layer | None, owner: type) -> Self | Array:
        if layer is None:
            return self
        if self.name not in layer.parameters:
            state = "has none" if layer.built else "is not built yet: call build(input_shape) or forward first"
            raise AttributeError(f"{layer.name}: {self.name}: the layer {state}")
        return layer.parameters[self.name]

    def __set__(self, layer: Layer, value: npt.ArrayLike) -> None:
        parameter, new = self.__get__(layer, type(layer)), real_array(layer.name, self.name, value)
        if new.shape != parameter.shape:
            raise ValueError(f"{layer.name}: {self.name}: expected shape {parameter.shape}, got {new.shape}")
        parameter[...] = new


class Layer(ABC):
    """A function of an array with a batch axis, its parameters and its gradients.

    A subclass says ``_output_shape``, ``_build`` (if it has parameters), ``_forward`` and ``_backward``; the public
    methods, written once here, check first and compute afterwards, so that an error leaves the layer as it was.

    Attributes
    ----------
    parameters, gradients : dict of str to ndarray
        float64 arrays under equal keys. Gradients are sums over the batch and are overwritten by each ``backward``.
    training : bool
        Default True. Dropout and batch normalisation behave differently in training and in prediction.
    last_input, last_output : ndarray or None
        What the last ``forward`` saw and returned; ``backward`` refers to it.
    ranks : tuple of int
        Numbers of axes that an input may have, the batch axis included; empty if any number from two on is fine.
    """

    ranks: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.name = type(self).__name__
        self.parameters: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.built = False
        self.last_input: Array | None = None
        self.last_output: Array | None = None
        self._training = True

    @property
    def training(self) -> bool:
        """Whether the layer trains or predicts."""
        return self._training

    @training.setter
    def training(self, training: bool) -> None:
        self._training = training
        for layer in self._sublayers():
            layer.training = training

    def build(self, input_shape: Sequence[int]) -> Self:
        """Draw the parameters for inputs of ``input_shape``; the first ``forward`` does so by itself.

        A second call draws nothing: it only checks that the shape fits the parameters that are there.

        Parameters
        ----------
        input_shape : (C, H, W) or (D,)
            Without the batch axis.

        Raises
        ------
        ValueError
            If the layer cannot take this shape, or was built for another one.
        """
        self.output_shape(input_shape)
        if not self.built:
            self._build(tuple(input_shape))
            self.built = True
        return self

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """Shape of one output, without the batch axis, for one input of ``input_shape``; raises as ``build`` does."""
        shape = tuple(integer(self.name, "input_shape", size, at_least=1) for size in input_shape)
        if not self._takes_rank(1 + len(shape)):
            raise ValueError(f"{self.name}: input_shape: expected {self._expected_shapes(batch=False)}, got {shape}")
        return self._output_shape(shape)

    def forward(self, input: npt.ArrayLike) -> Array:
        """Output of the layer for a batch, and what ``backward`` needs to remember.

        Parameters
        ----------
        input : array of real numbers, (N, C, H, W) or (N, D)
            Computed with, and returned, in float64.

        Raises
        ------
        TypeError
            If the input does not hold real numbers.
        ValueError
            If the batch is empty, or the shape is not one that the layer takes.
        """
        x = real_array(self.name, "input", input)
        if not self._takes_rank(x.ndim):
            raise ValueError(f"{self.name}: input: expected {self._expected_shapes(batch=True)}, got shape {x.shape}")
        if 0 in x.shape:
            raise ValueError(f"{self.name}: input: expected a batch without empty axes, got shape {x.shape}")
        self.build(x.shape[1:])
        self.last_input = None  # if a layer inside fails, nothing is left to go back from
        output = self._forward(x)
        self.last_input, self.last_output = x, output
        return output

    def backward(self, dL_dout: npt.ArrayLike, learning_rate: float | None = None) -> Array:
        """Gradient of the loss by the input, given the one by the output of the last ``forward``.

        Leaves the gradients by the parameters, summed over the batch, in ``gradients``. With a learning rate it then
        takes the notebook's step in place, p ← p − learning_rate · gradient / N for a batch of N.

        Raises
        ------
        RuntimeError
            If there was no ``forward``.
        TypeError
            If ``dL_dout`` does not hold real numbers.
        ValueError
            If ``dL_dout`` has not the shape of the last output.
        """
        if self.last_input is None or self.last_output is None:
            raise RuntimeError(f"{self.name}: backward: expected a call of forward before, got none")
        dL_dy = real_array(self.name, "dL_dout", dL_dout)
        if dL_dy.shape != self.last_output.shape:
            raise ValueError(
                f"{self.name}: dL_dout: expected the last output's shape, {self.last_output.shape}, got {dL_dy.shape}"
            )
        dL_dinput = self._backward(self.last_input, dL_dy)
        if learning_rate is not None:
            for name, gradient in self.gradients.items():
                self.parameters[name] -= learning_rate * gradient / len(dL_dy)
        return dL_dinput

    @abstractmethod
    def _output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output; raises ValueError if there is none for this shape."""

    def _build(self, input_shape: Shape) -> None:
        """Call ``_add`` once for each parameter."""

    @abstractmethod
    def _forward(self, input: Array) -> Array:
        """Output for a checked batch."""

    @abstractmethod
    def _backward(self, input: Array, dL_dout: Array) -> Array:
        """Gradient by the input of the last ``forward``; writes ``gradients`` in place."""

    def _sublayers(self) -> Iterable[Layer]:
        return ()

    def _add(self, name: str, value: Array) -> None:
        self.parameters[name] = value
        self.gradients[name] = np.zeros_like(value)

    def _takes_rank(self, rank: int) -> bool:
        return rank in self.ranks if self.ranks else rank >= 2

    def _expected_shapes(self, batch: bool) -> str:
        axes = {2: "D,", 4: "C, H, W"} if not batch else {2: "N, D", 4: "N, C, H, W"}
        any_shape = "(N, ...)" if batch else "at least one axis"
        return " or ".join(f"({axes[rank]})" for rank in self.ranks) or any_shape

    def _expect_size(self, what: str, expected: int, got: int) -> None:
        if got != expected:
            raise ValueError(f"{self.name}: input: expected {expected} {what}, as the layer was built, got {got}")


def real_array(owner: str, argument: str, value: npt.ArrayLike) -> Array:
    """Return `value` in float64 and C order (the same array if it is so), or TypeError if it is not of real numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{owner}: {argument}: expected real numbers, got dtype {array.dtype}")
    return array.astype(np.float64, order="C", copy=False)  # one order, so that sums have the same bits


def integer(owner: str, argument: str, value: SupportsIndex, at_least: int) -> int:
    """Return `value` as an int, or TypeError if it is none, or ValueError if it is too small."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{owner}: {argument}: expected an integer, got {value!r}")
    if operator.index(value) < at_least:
        raise ValueError(f"{owner}: {argument}: expected an integer of at least {at_least}, got {value!r}")
    return operator.index(value)


def pair(owner: str, argument: str, value: Pair, at_least: int) -> tuple[int, int]:
    """Return (vertical, horizontal) from one integer for both or from a pair of them."""
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{owner}: {argument}: expected an integer or a pair of them, got {value!r}")
    return integer(owner, argument, values[0], at_least), integer(owner, argument, values[1], at_least)


def real(
    owner: str,
    argument: str,
    value: float,
    *,
    at_least: float = -np.inf,
    above: float = -np.inf,
    below: float = np.inf,
    at_most: float = np.inf,
) -> float:
    """Return `value` as a float, or TypeError if it is no number, or ValueError if it is NaN or out of bounds."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{owner}: {argument}: expected a number, got {value!r}")
    bounds = {"≥": at_least, ">": above, "<": below, "≤": at_most}
    if not (at_least <= value <= at_most and above < value < below):
        wanted = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items() if np.isfinite(bound)) or "finite"
        raise ValueError(f"{owner}: {argument}: expected a number {wanted}, got {value!r}")
    return float(value)


def check_random_state(random_state: RandomState) -> Generator:
    """Return the generator to draw from: NumPy's global one for None, a new RandomState for a seed, else the given one.

    As ``sklearn.utils.check_random_state``, and a ``numpy.random.Generator`` is taken as well.
    """
    if random_state is None:
        return np.random.mtrand._rand
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    return np.random.RandomState(integer("random_state", "seed", random_state, at_least=0))


def he_normal(generator: Generator, shape: Shape, fan_in: int) -> Array:
    """Draw ``normal(generator, shape) * sqrt(2 / fan_in)``.

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", §2.2.
    """
    weights: Array = normal(generator, shape) * math.sqrt(2 / fan_in)
    return weights
