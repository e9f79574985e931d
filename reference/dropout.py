"""Dropout: of single numbers, and of whole channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import numpy as np
import numpy.typing as npt

from reference.base import Array, Layer, RandomState, Shape, check_random_state, real


class _Dropout(Layer):
    """In training zero with probability `rate`; what is kept is divided by 1 − rate, so that the mean stays."""

    def __init__(self, rate: float, random_state: RandomState) -> None:
        super().__init__()
        self.rate = real(self.name, "rate", rate, at_least=0, below=1)
        self.random_state = random_state
        self.mask: npt.ArrayLike | None = None
        self.last_mask: Array | None = None
        self._generator = check_random_state(random_state)

    def _output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    @abstractmethod
    def _mask_shape(self, input: Array) -> Shape:
        """Shape of one decision for each thing that is dropped or kept."""

    def _forward(self, input: Array) -> Array:
        self.last_mask = self._mask(self._mask_shape(input)) if self.training else None
        return self._dropped(input)

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        return self._dropped(dL_dout)

    def _mask(self, shape: Shape) -> Array:
        if self.mask is None:
            return np.asarray(self._generator.random(shape) >= self.rate, dtype=np.float64)
        mask: npt.NDArray[np.bool_] = np.asarray(self.mask) != 0
        if mask.shape != shape:
            raise ValueError(f"{self.name}: mask: expected shape {shape}, got {mask.shape}")
        return mask.astype(np.float64)

    def _dropped(self, x: Array) -> Array:
        if self.last_mask is None:
            return x.copy()
        m = self.last_mask.reshape(*self.last_mask.shape, *[1] * (x.ndim - self.last_mask.ndim))
        return np.asarray(x * m / (1 - self.rate))


@final
class Dropout(_Dropout):
    """Dropout of single numbers, "inverted": y = x·m / (1 − rate), m = 1 where u ≥ rate and 0 elsewhere, u ~ U[0, 1).

    In prediction (``training = False``) y = x. The gradient passes where x did: dL/dx = dL/dy·m / (1 − rate).

    Parameters
    ----------
    rate : float
        Probability of being dropped, in [0, 1).
    random_state : None, int, RandomState or Generator
        One ``random(input.shape)`` is drawn in each ``forward`` in training. A seed is the start of one sequence, not
        of each ``forward``. (fastcnn draws other numbers for the same seed.)

    Attributes
    ----------
    mask : array or None
        If it is set, it is taken for m instead of a draw, what is not 0 being kept; the input's shape.
    last_mask : ndarray or None
        m of the last ``forward`` in training, None in prediction.

    References
    ----------
    Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting", §4 and §10.
    """

    def __init__(self, rate: float = 0.5, random_state: RandomState = None) -> None:
        super().__init__(rate, random_state)

    def _mask_shape(self, input: Array) -> Shape:
        return input.shape


@final
class SpatialDropout2D(_Dropout):
    """Dropout of whole channels: y[n,c] = x[n,c]·m[n,c] / (1 − rate), with m (N, C) as in ``Dropout``.

    Parameters and attributes are those of ``Dropout``; ``random((N, C))`` is drawn, and ``mask`` is (N, C).

    References
    ----------
    Tompson et al. 2015, "Efficient object localization using convolutional networks", §3.2.
    """

    ranks = (4,)

    def __init__(self, rate: float = 0.5, random_state: RandomState = None) -> None:
        super().__init__(rate, random_state)

    def _mask_shape(self, input: Array) -> Shape:
        return input.shape[:2]
