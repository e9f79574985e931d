"""Activations: elementwise functions of the maps, and softmax over the channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from .. import checks
from ..engine.ir import Graph
from ..kernels import activation as kernels
from ..ops.activation import ChannelSoftmaxOp, ElementwiseOp
from ..ops.epilogue import Activation, Epilogue, Formula
from ..typing import Shape
from .base import Layer


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

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        return replace(epilogue, activation=Activation(self._formula(), self._constants()))

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(ElementwiseOp(self, x, graph.value(graph.shapes[x]), self._formula(), self._constants()))


class ReLU(Elementwise):
    """Rectified linear unit, `max(0, x)`.

    The gradient passes where the output is positive.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    LeakyReLU : Leaky rectifier.
    GELU : Gaussian error linear unit.

    References
    ----------
    Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Examples
    --------
    >>> from fastcnn import ReLU
    >>> ReLU().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[0., 0., 3.]])
    """

    fuses_as = "relu"
    formula = Formula(kernels.relu, kernels.relu_backward, of_output=True)

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        return replace(epilogue, clamp_min=0.0)


class LeakyReLU(Elementwise):
    """Leaky rectifier, `x` where x > 0, `negative_slope · x` elsewhere.

    The gradient is 1 where x > 0, `negative_slope` elsewhere, also at 0.

    Parameters
    ----------
    negative_slope : float
        The default is PyTorch's; Keras has 0.3.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    ReLU : Rectified linear unit.
    ELU : Exponential linear unit.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013, section 2.

    Examples
    --------
    >>> from fastcnn import LeakyReLU
    >>> LeakyReLU(0.1).forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.2,  0. ,  3. ]])
    """

    # In the same pass a training step takes 0.93 to 0.97 of the time: three networks of images, AVX2, one thread.
    fuses_as = "activation"
    formula = Formula(kernels.leaky_relu, kernels.leaky_relu_backward)
    formula_of_output = replace(formula, of_output=True)

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.negative_slope = checks.as_number(negative_slope, self.name, "negative_slope")

    def _formula(self) -> Formula:
        return self.formula_of_output if self.negative_slope > 0 else self.formula  # then both have the same sign

    def _constants(self) -> tuple[float, ...]:
        return (self.negative_slope,)


class ELU(Elementwise):
    """Exponential linear unit, `x` where x > 0, `alpha · (e^x - 1)` elsewhere.

    The gradient is 1 where x > 0, `alpha · e^x` elsewhere.

    Parameters
    ----------
    alpha : float
        What the function approaches, negated, far below 0.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    ReLU : Rectified linear unit.
    SiLU : Sigmoid linear unit, or swish.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear units", ICLR
    2016, section 3.

    Examples
    --------
    >>> from fastcnn import ELU
    >>> ELU().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.8647,  0.    ,  3.    ]])
    """

    formula = Formula(kernels.elu, kernels.elu_backward)

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
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
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    SiLU : Sigmoid linear unit, or swish.
    ReLU : Rectified linear unit.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units", arXiv:1606.08415, section 2.

    Examples
    --------
    >>> from fastcnn import GELU
    >>> GELU().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.0455,  0.    ,  2.996 ]])
    """

    formulas: ClassVar = {
        "none": Formula(kernels.gelu, kernels.gelu_backward),
        "tanh": Formula(kernels.gelu_tanh, kernels.gelu_tanh_backward),
    }

    def __init__(self, approximate: Literal["none", "tanh"] = "none", *, name: str | None = None) -> None:
        super().__init__(name=name)
        if approximate not in ("none", "tanh"):
            raise ValueError(f"{self.name}: approximate: expected 'none' or 'tanh'; got {approximate!r}")
        self.approximate = approximate

    def _formula(self) -> Formula:
        formula: Formula = self.formulas[self.approximate]
        return formula


class SiLU(Elementwise):
    """Sigmoid linear unit, or swish: `x · σ(x)`; its gradient is `σ(x) + x · σ(x) · (1 - σ(x))`.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    GELU : Gaussian error linear unit.
    Sigmoid : Logistic function.

    References
    ----------
    Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units for neural network function approximation in reinforcement
    learning", Neural Networks 107, 2018, section 2.2.

    Examples
    --------
    >>> from fastcnn import SiLU
    >>> SiLU().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.2384,  0.    ,  2.8577]])
    """

    formula = Formula(kernels.silu, kernels.silu_backward)


class Sigmoid(Elementwise):
    """Logistic function, `y = 1 / (1 + e^-x)`; its gradient is `y · (1 - y)`.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    Tanh : Hyperbolic tangent.
    BinaryCrossEntropy : Cross-entropy of independent answers.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.2.

    Examples
    --------
    >>> from fastcnn import Sigmoid
    >>> Sigmoid().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[0.1192, 0.5   , 0.9526]])
    """

    formula = Formula(kernels.sigmoid, kernels.sigmoid_backward, of_output=True, link="logistic")


class Tanh(Elementwise):
    """Hyperbolic tangent, `y = tanh(x)`; its gradient is `1 - y²`.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    Sigmoid : Logistic function.

    References
    ----------
    LeCun, Bottou, Orr and Müller, "Efficient backprop", 1998, section 4.4.

    Examples
    --------
    >>> from fastcnn import Tanh
    >>> Tanh().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.964 ,  0.    ,  0.9951]])
    """

    formula = Formula(kernels.hyperbolic_tangent, kernels.hyperbolic_tangent_backward, of_output=True)


class SoftmaxActivation(Layer):
    """Softmax over axis 1, the features or the channels of each pixel: `p_k = exp(x_k) / Σ_m exp(x_m)`.

    A plain layer with its own derivative, `dL/dx_k = p_k · (dL/dp_k - Σ_m p_m · dL/dp_m)`; the notebook's `Softmax` is
    another, a dense layer that takes the gradient by the logits. `CrossEntropy` takes a model that ends in either of
    them at its logits.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    Softmax : The notebook's dense layer with softmax.
    CrossEntropy : Cross-entropy of one class among several.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.3.4.

    Examples
    --------
    >>> from fastcnn import SoftmaxActivation
    >>> SoftmaxActivation().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[0.0064, 0.0471, 0.9465]])
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        return input_shape

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(ChannelSoftmaxOp(self, x, graph.value(graph.shapes[x])))
