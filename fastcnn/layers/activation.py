"""Activations: elementwise functions of the maps, and softmax over the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import checks
from ..codegen.blocking import SOFTMAX
from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import aligned_zeros, padded
from ..kernels import activation as kernels
from ..typing import Array, Shape
from .base import Layer


@dataclass(frozen=True)
class Formula:
    """The kernels of an elementwise function.

    Attributes
    ----------
    forward, backward : callable
    of_output : bool
        Whether the slope is computed from the output and not from the input.
    link : str
        See `Block`.
    """

    forward: Callable[..., None]
    backward: Callable[..., None]
    of_output: bool = False
    link: str = ""


class Elementwise(Layer):
    """A function of single numbers: any shape in, the same shape out.

    A subclass names its kernels, and the constants that they take.
    """

    formula: ClassVar[Formula]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return input_shape

    def _formula(self) -> Formula:
        return self.formula

    def _constants(self) -> tuple[float, ...]:
        return ()

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(ElementwiseBlock(self, x, graph.edge(graph.shapes[x]), self._formula(), self._constants()))


class ElementwiseBlock(Block):
    """A function of single numbers, swept line by line: the layouts of input and output may differ in their halos."""

    replayable = True
    in_pieces = True

    def __init__(self, layer: Layer, x: int, y: int, formula: Formula, constants: tuple[float, ...] = ()) -> None:
        super().__init__(layer, x, y)
        self.formula, self.constants, self.link = formula, constants, formula.link

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        images, dtype = graph.images, graph.dtype
        self.x_row, self.y_row = x.line_table(images), y.line_table(images)
        self.lines, self.length = x.height, x.width * x.pitch
        self.typed_constants: tuple[Any, ...] = tuple(dtype.type(c) for c in self.constants)
        self.past = y.outlasts_cache(images, dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.line_table(images), dy.line_table(images)
            self.dx_past = dx.outlasts_cache(images, dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        self.formula.forward(
            memory.values[self.x], self.x_row, memory.values[self.y], self.y_row, n * self.lines, self.length,
            *self.typed_constants, self.past,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            of_output = self.formula.of_output
            self.formula.backward(
                memory.values[self.y if of_output else self.x], self.y_row if of_output else self.x_row,
                memory.gradients[self.y], self.dy_row, memory.gradients[self.x], self.dx_row,
                n * self.lines, self.length, *self.typed_constants, self.dx_past,
            )  # fmt: skip


class ReLU(Elementwise):
    """Rectified linear unit, `max(0, x)`.

    The gradient passes where the output is positive.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
    """

    formula = Formula(kernels.relu, kernels.relu_backward, of_output=True)


class LeakyReLU(Elementwise):
    """Leaky rectifier, `x` where x > 0, `negative_slope · x` elsewhere.

    The gradient is 1 where x > 0, `negative_slope` elsewhere, also at 0.

    Parameters
    ----------
    negative_slope : float
        The default is PyTorch's; Keras has 0.3.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013, section 2.
    """

    formula = Formula(kernels.leaky_relu, kernels.leaky_relu_backward)

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = checks.as_number(negative_slope, self.name, "negative_slope")

    def _constants(self) -> tuple[float, ...]:
        return (self.negative_slope,)


class ELU(Elementwise):
    """Exponential linear unit, `x` where x > 0, `alpha · (e^x - 1)` elsewhere.

    The gradient is 1 where x > 0, `alpha · e^x` elsewhere.

    Parameters
    ----------
    alpha : float

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units", ICLR
    2016, section 3.
    """

    formula = Formula(kernels.elu, kernels.elu_backward)

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = checks.as_number(alpha, self.name, "alpha")

    def _constants(self) -> tuple[float, ...]:
        return (self.alpha,)


class GELU(Elementwise):
    """Gaussian error linear unit, `x · Φ(x)` with the normal distribution Φ.

    The gradient is `Φ(x) + x · φ(x)` with the normal density φ. The approximation is `x · (1 + tanh(u)) / 2` with
    `u = √(2/π) · (x + 0.044715 · x³)`.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        The exact function is the default, as in PyTorch and Keras; the paper's authors used the approximation.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units", arXiv:1606.08415, section 2.
    """

    formulas: ClassVar = {
        "none": Formula(kernels.gelu, kernels.gelu_backward),
        "tanh": Formula(kernels.gelu_tanh, kernels.gelu_tanh_backward),
    }

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"{self.name}: approximate: expected 'none' or 'tanh'; got {approximate!r}")
        self.approximate = approximate

    def _formula(self) -> Formula:
        formula: Formula = self.formulas[self.approximate]
        return formula


class SiLU(Elementwise):
    """Sigmoid linear unit, or swish: `x · σ(x)`; its gradient is `σ(x) + x · σ(x) · (1 - σ(x))`.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", Neural Networks 107, 2018, section 2.2.
    """

    formula = Formula(kernels.silu, kernels.silu_backward)


class Sigmoid(Elementwise):
    """Logistic function, `y = 1 / (1 + e^-x)`; its gradient is `y · (1 - y)`.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.2.
    """

    formula = Formula(kernels.sigmoid, kernels.sigmoid_backward, of_output=True, link="logistic")


class Tanh(Elementwise):
    """Hyperbolic tangent, `y = tanh(x)`; its gradient is `1 - y²`.

    References
    ----------
    LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.4.
    """

    formula = Formula(kernels.hyperbolic_tangent, kernels.hyperbolic_tangent_backward, of_output=True)


class SoftmaxActivation(Layer):
    """Softmax over axis 1, the features or the channels of each pixel: `p_k = exp(x_k) / Σ_m exp(x_m)`.

    A plain layer with its own derivative, `dL/dx_k = p_k · (dL/dp_k - Σ_m p_m · dL/dp_m)`; the notebook's `Softmax` is
    another, a dense layer that takes the gradient by the logits. `CrossEntropy` takes a model that ends in either of
    them at its logits.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.3.4.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return input_shape

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(_SoftmaxActivationBlock(self, x, graph.edge(graph.shapes[x])))


class _SoftmaxActivationBlock(Block):
    replayable = True
    link = "softmax"

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        self.x_row, self.y_row = x.pixel_table(graph.images), y.pixel_table(graph.images)
        self.pixels, self.channels = x.pixels, x.channels
        self.past = y.outlasts_cache(graph.images, graph.dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.pixel_table(graph.images), dy.pixel_table(graph.images)
            self.dx_past = dx.outlasts_cache(graph.images, graph.dtype)

    def allocate(self, graph: Graph) -> Array:
        return aligned_zeros(SOFTMAX * (padded(1) + padded(self.channels)), graph.dtype)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        kernels.channel_softmax(
            memory.values[self.x], self.x_row, n * self.pixels, self.channels, memory.values[self.y], self.y_row,
            memory.kept[self.index], self.past,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        if memory.gradients[self.x] is not None:
            kernels.channel_softmax_backward(
                memory.values[self.y], self.y_row, memory.gradients[self.y], self.dy_row, n * self.pixels,
                self.channels, memory.gradients[self.x], self.dx_row, self.dx_past,
            )  # fmt: skip
