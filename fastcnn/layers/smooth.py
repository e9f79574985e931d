"""Smooth rectifiers: CELU, Softplus and Mish."""

from __future__ import annotations

from .. import checks
from ..kernels import smooth as kernels
from ..ops.epilogue import Formula
from .activation import Elementwise


class CELU(Elementwise):
    """Continuously differentiable exponential linear unit, `x` where x > 0, `alpha · (e^(x / alpha) - 1)` elsewhere.

    The gradient is 1 where x > 0, `e^(x / alpha)` elsewhere: without a step at 0, whatever `alpha`, which an `ELU` has.

    Parameters
    ----------
    alpha : float
        Above 0; what the function approaches, negated, far below 0. PyTorch takes negative ones, which the paper does
        not have.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    ELU : Exponential linear unit.
    Softplus : Smooth rectifier.

    References
    ----------
    Barron, "Continuously differentiable exponential linear units", arXiv:1704.07483, 2017, equation 3.

    Examples
    --------
    >>> from fastcnn import CELU
    >>> CELU(2.0).forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-1.2642,  0.    ,  3.    ]])
    """

    formula = Formula(kernels.celu, kernels.celu_backward)

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.alpha = checks.as_number(alpha, self.name, "alpha", above=0)

    def _constants(self) -> tuple[float, ...]:
        return self.alpha, 1 / self.alpha


class Softplus(Elementwise):
    """Smooth rectifier, `log(1 + e^(beta · x)) / beta`; `x` itself where beta · x > threshold.

    The gradient is the logistic function of `beta · x`; 1 where beta · x > threshold.

    Parameters
    ----------
    beta : float
        Above 0; the larger, the nearer is the function to a ReLU.
    threshold : float
        PyTorch's default: from there on the difference is below 2.1e-9 / beta.
    name : str, optional
        By which messages call the layer, and searches find it.

    See Also
    --------
    ReLU : Rectified linear unit.
    Mish : `x · tanh(Softplus(x))`.

    References
    ----------
    Dugas, Bengio, Bélisle, Nadeau and Garcia, "Incorporating second-order functional knowledge for better option
    pricing", NIPS 2000, section 2.

    Examples
    --------
    >>> from fastcnn import Softplus
    >>> Softplus().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[0.1269, 0.6931, 3.0486]])
    """

    formula = Formula(kernels.softplus, kernels.softplus_backward)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.beta = checks.as_number(beta, self.name, "beta", above=0)
        self.threshold = checks.as_number(threshold, self.name, "threshold")

    def _constants(self) -> tuple[float, ...]:
        return self.beta, 1 / self.beta, self.threshold


class Mish(Elementwise):
    """Self-regularised rectifier, `x · t` with `t = tanh(log(1 + e^x))`; its gradient is `t + x · (1 - t²) · σ(x)`.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    SiLU : Sigmoid linear unit, or swish, of much the same form.
    Softplus : Smooth rectifier.

    References
    ----------
    Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020, section 3.

    Examples
    --------
    >>> from fastcnn import Mish
    >>> Mish().forward([[-2.0, 0.0, 3.0]]).round(4)
    array([[-0.2525,  0.    ,  2.9865]])
    """

    formula = Formula(kernels.mish, kernels.mish_backward)
