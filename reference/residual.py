"""Layers made of layers: a chain with a shortcut around it, and chains side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, final

import numpy as np

from reference.base import Array, Layer, Shape


class _Chain:
    """Layers one after another, and what they are called in errors and in the names of parameters."""

    def __init__(self, owner: str, name: str, layers: Sequence[Layer]) -> None:
        self.owner, self.name, self.layers = owner, name, list(layers)
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"{owner}: {name}[{i}]: expected a layer, got {layer!r}")

    def shapes(self, shape: Shape) -> list[Shape]:
        """Shapes of the input of each layer, and of the output of the last."""
        shapes = [shape]
        for i, layer in enumerate(self.layers):
            try:
                shapes.append(layer.output_shape(shapes[-1]))
            except ValueError as error:
                raise ValueError(f"{self.owner}: {self.name}[{i}]: {error}") from error
        return shapes

    def build(self, shape: Shape) -> None:
        for layer, input_shape in zip(self.layers, self.shapes(shape), strict=False):
            layer.build(input_shape)

    def forward(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dL_dx: Array) -> Array:
        for layer in reversed(self.layers):
            dL_dx = layer.backward(dL_dx)
        return dL_dx


class _Composite(Layer):
    """A layer whose parameters are those of its chains, the same arrays, under ``chain.position.name``."""

    _chains: list[_Chain]

    def _build(self, input_shape: Shape) -> None:
        for chain in self._chains:
            chain.build(input_shape)
            for i, layer in enumerate(chain.layers):
                for name in layer.parameters:
                    self.parameters[f"{chain.name}.{i}.{name}"] = layer.parameters[name]
                    self.gradients[f"{chain.name}.{i}.{name}"] = layer.gradients[name]

    def _sublayers(self) -> Iterator[Layer]:
        for chain in self._chains:
            yield from chain.layers

    def _expect_distinct(self) -> None:
        layers = list(self._sublayers())
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError(f"{self.name}: expected each layer once, since it remembers one input, got one twice")


@final
class Residual(_Composite):
    """A chain of layers and a shortcut around it: y = F(x) + S(x); dL/dx = F'ᵀ·dL/dy + S'ᵀ·dL/dy.

    Parameters
    ----------
    layers : sequence of layers
        F, one after another. (He et al. put a ReLU after the sum: add it behind this layer.)
    shortcut : None, "pad" or sequence of layers
        S. None: x itself; the shapes must agree. "pad": every s-th pixel of x, with zeros for the channels that are
        missing, behind the ones that are there (option A); s = ⌈H / H_out⌉. Layers: a 1×1 ``Conv2D`` for example
        (option B).

    Attributes
    ----------
    parameters, gradients : dict
        Those of the layers, the same arrays, as "layers.0.filters", "shortcut.0.filters".

    Raises
    ------
    ValueError
        If F(x) and S(x) differ in shape.

    References
    ----------
    He et al. 2016, "Deep residual learning for image recognition", §3.2, §3.3 and §4.1 (options A and B).
    """

    def __init__(self, layers: Sequence[Layer], shortcut: Literal["pad"] | Sequence[Layer] | None = None) -> None:
        super().__init__()
        if isinstance(shortcut, str) and shortcut != "pad":
            raise ValueError(f"{self.name}: shortcut: expected None, 'pad' or layers, got {shortcut!r}")
        self.layers, self.shortcut = list(layers), shortcut
        self._main = _Chain(self.name, "layers", layers)
        self._side = _Chain(self.name, "shortcut", () if shortcut is None or isinstance(shortcut, str) else shortcut)
        self._chains = [self._main, self._side]
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one, got none")
        self._expect_distinct()

    def _output_shape(self, input_shape: Shape) -> Shape:
        output_shape = self._main.shapes(input_shape)[-1]
        if self.shortcut == "pad":
            side_shape = self._padded_shape(input_shape, output_shape)
        else:
            side_shape = self._side.shapes(input_shape)[-1]
        if side_shape != output_shape:
            raise ValueError(
                f"{self.name}: shortcut: expected the shape of the layers' output, {output_shape}, got {side_shape} "
                f"from an input of {input_shape}"
            )
        return output_shape

    def _padded_shape(self, input_shape: Shape, output_shape: Shape) -> Shape:
        if len(input_shape) != 3 or len(output_shape) != 3 or input_shape[0] > output_shape[0]:
            return input_shape  # cannot be padded: reported by the caller
        s_H, s_W = _strides(input_shape, output_shape)
        return (output_shape[0], -(-input_shape[1] // s_H), -(-input_shape[2] // s_W))

    def _forward(self, input: Array) -> Array:
        output = self._main.forward(input)
        if self.shortcut != "pad":
            return output + self._side.forward(input)
        (s_H, s_W), C = _strides(input.shape[1:], output.shape[1:]), input.shape[1]
        padded = np.zeros_like(output)
        padded[:, :C] = input[:, :, ::s_H, ::s_W]
        return output + padded

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput = self._main.backward(dL_dout)
        if self.shortcut != "pad":
            return dL_dinput + self._side.backward(dL_dout)
        (s_H, s_W), C = _strides(input.shape[1:], dL_dout.shape[1:]), input.shape[1]
        spread = np.zeros_like(input)
        spread[:, :, ::s_H, ::s_W] = dL_dout[:, :C]
        return dL_dinput + spread


def _strides(input_shape: Shape, output_shape: Shape) -> tuple[int, int]:
    return -(-input_shape[1] // output_shape[1]), -(-input_shape[2] // output_shape[2])


@final
class Concat(_Composite):
    """Chains of layers side by side, their outputs concatenated over the channels: y = [B₁(x), B₂(x), …] along axis 1.

    dL/dx = Σ_b B_b'ᵀ·dL/dy_b, dL/dy_b being the channels of dL/dy that came from branch b.

    Parameters
    ----------
    branches : sequence of sequences of layers
        An empty branch is x itself.

    Attributes
    ----------
    parameters, gradients : dict
        Those of the layers, the same arrays, as "branches.0.1.filters".

    Raises
    ------
    ValueError
        If the branches' outputs differ in height or width.

    References
    ----------
    Szegedy et al. 2015, "Going deeper with convolutions", §4.
    """

    def __init__(self, branches: Sequence[Sequence[Layer]]) -> None:
        super().__init__()
        self.branches = [list(layers) for layers in branches]
        self._chains = [_Chain(self.name, f"branches.{b}", layers) for b, layers in enumerate(self.branches)]
        if not self.branches:
            raise ValueError(f"{self.name}: branches: expected at least one, got none")
        self._expect_distinct()

    def _channels(self, input_shape: Shape) -> list[int]:
        """Where each branch's channels end in the output."""
        return list(np.cumsum([chain.shapes(input_shape)[-1][0] for chain in self._chains]))

    def _output_shape(self, input_shape: Shape) -> Shape:
        shapes = [chain.shapes(input_shape)[-1] for chain in self._chains]
        if len({shape[1:] for shape in shapes}) > 1:
            raise ValueError(f"{self.name}: branches: expected outputs that differ in channels only, got {shapes}")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _forward(self, input: Array) -> Array:
        return np.concatenate([chain.forward(input) for chain in self._chains], axis=1)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        parts = np.split(dL_dout, self._channels(input.shape[1:])[:-1], axis=1)
        dL_dinput = np.zeros_like(input)
        for chain, part in zip(self._chains, parts, strict=True):
            dL_dinput += chain.backward(part)
        return dL_dinput
