"""Activations of straight and clipped pieces: ReLU6, HardSigmoid and HardSwish."""

from __future__ import annotations

from ..kernels import clipped as kernels
from ..ops.epilogue import Formula
from .activation import Elementwise


class ReLU6(Elementwise):
    """Rectified linear unit of at most 6, `min(max(0, x), 6)`.

    The gradient passes where the output is between 0 and 6, not at these.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    ReLU : Rectified linear unit.
    HardSwish : `x · ReLU6(x + 3) / 6`.

    References
    ----------
    Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010, section 3; Sandler, Howard, Zhu, Zhmoginov and
    Chen, "MobileNetV2: inverted residuals and linear bottlenecks", CVPR 2018, section 4.

    Examples
    --------
    >>> from fastcnn import ReLU6
    >>> ReLU6().forward([[-2.0, 3.0, 8.0]]).tolist()
    [[0.0, 3.0, 6.0]]
    """

    fuses_as = "activation"  # 0.93 to 1.01 of the time, see `LeakyReLU`
    formula = Formula(kernels.clip, kernels.clip_backward, of_output=True)

    def _constants(self) -> tuple[float, ...]:
        return 0.0, 6.0


class HardSigmoid(Elementwise):
    """Logistic function of straight pieces, `ReLU6(x + 3) / 6`.

    The gradient is 1/6 where -3 < x < 3, 0 elsewhere. Keras before version 3 has 0.2 · x + 0.5 in the middle.

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
    Howard and others, "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Examples
    --------
    >>> from fastcnn import HardSigmoid
    >>> HardSigmoid().forward([[-4.0, 0.0, 1.5]]).tolist()
    [[0.0, 0.5, 0.75]]
    """

    formula = Formula(kernels.hard_sigmoid, kernels.hard_sigmoid_backward)


class HardSwish(Elementwise):
    """Swish with the hard sigmoid, `x · ReLU6(x + 3) / 6`.

    The gradient is `x / 3 + 1 / 2` where -3 < x < 3; 0 below, 1 above, as PyTorch has it at both ends.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    See Also
    --------
    SiLU : Sigmoid linear unit, or swish.
    HardSigmoid : Logistic function of straight pieces.

    References
    ----------
    Howard and others, "Searching for MobileNetV3", ICCV 2019, section 5.2.

    Examples
    --------
    >>> from fastcnn import HardSwish
    >>> HardSwish().forward([[-4.0, -1.5, 3.0]]).tolist()
    [[-0.0, -0.375, 3.0]]
    """

    formula = Formula(kernels.hard_swish, kernels.hard_swish_backward)
