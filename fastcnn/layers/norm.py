"""Normalisation to mean 0 and variance 1: of each channel, of groups of channels, of whole examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import checks
from ..engine.arrays import aligned_zeros, owned
from ..engine.ir import Graph
from ..engine.layout import padded
from ..engine.parameter import Parameter
from ..engine.weights import ArrayProperty
from ..ops.epilogue import Epilogue, FoldedNorm
from ..ops.norm import BatchNormOp, GroupNormOp, LayerNormOp
from ..typing import Array, RandomState, Shape
from .base import Layer, epilogue_of

FIRST = {"gamma": 1.0, "beta": 0.0}


class _Normalisation(Layer):
    """What all normalisations have: epsilon, and the scale gamma and shift beta that they end with."""

    absorbs = (("relu",),)
    gamma = ArrayProperty("The scale.")
    beta = ArrayProperty("The shift.")

    def __init__(self, epsilon: float, *, trainable: bool | Sequence[str] = True, name: str | None = None) -> None:
        super().__init__(name=name, trainable=trainable)
        self._epsilon = checks.as_number(epsilon, self.name, "epsilon", at_least=0)

    @property
    def epsilon(self) -> float:
        """What is added to the variance; it cannot be changed, for recorded steps would not see it."""
        return self._epsilon

    def _has(self, name: str) -> bool:
        """Tell whether there is a scale, "gamma", or a shift, "beta"."""
        return True

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[0]
        return {
            name: Parameter((channels,), (padded(channels),), lambda stored: stored[:channels], first)
            for name, first in FIRST.items()
            if self._has(name)
        }

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        channels = self.input_shape[0] if self.input_shape else x.shape[1]
        if x.shape[1] != channels:
            raise ValueError(
                f"{self.name}: input: expected {channels} channels, as the layer was built; "
                f"got {x.shape[1]} in shape {x.shape}"
            )


class BatchNorm(_Normalisation):
    """Batch normalisation of each channel c over the whole batch.

    For the m numbers x[:, c], with mean μ and variance σ² = Σ (x - μ)² / m,

        y = gamma[c] · (x - μ) / sqrt(σ² + epsilon) + beta[c]

    In training μ and σ² are those of the batch, exactly, into however many shards it is cut, and

        running = (1 - momentum) · running + momentum · batch

    where the running variance takes the unbiased σ² · m / (m - 1). In prediction the running ones serve.

    Parameters
    ----------
    momentum : float
        In [0, 1], the weight of the new batch, as in PyTorch; Keras's momentum is 1 - ours.
    epsilon : float
        Keeps the root above 0; PyTorch's default, Keras has 1e-3.
    scale, center : bool
        Whether there are gamma and beta; without them they are 1 and 0, and nothing of them is trained.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    gamma, beta : array of shape (C,)
        1 and 0 at first.
    running_mean, running_var : array of shape (C,)
        0 and 1 at first.

    Raises
    ------
    ValueError
        In training, if a channel has a single number, which has no variance.

    See Also
    --------
    GroupNorm : Normalisation of groups of channels, example by example.
    LayerNorm : Normalisation of each example over all its numbers.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization: accelerating deep network training by reducing internal covariate shift",
    ICML 2015, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import BatchNorm
    >>> x = np.arange(8.0).reshape(2, 1, 2, 2)
    >>> y = BatchNorm().forward(x)
    >>> float(y.mean().round(6)), float(y.std().round(4))
    (0.0, 1.0)
    """

    fuses_as = "batch_norm"
    running_mean = ArrayProperty("The mean that prediction uses.")
    running_var = ArrayProperty("The variance that prediction uses.")

    def __init__(
        self,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        scale: bool = True,
        center: bool = True,
        *,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon, trainable=trainable, name=name)
        self.scale = checks.as_bool(scale, self.name, "scale")
        self.center = checks.as_bool(center, self.name, "center")
        self._running: dict[str, Array] = {}
        self._momentum = checks.as_number(momentum, self.name, "momentum", at_least=0, at_most=1)

    @property
    def momentum(self) -> float:
        """The weight of the new batch; it cannot be changed, as epsilon cannot."""
        return self._momentum

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        super()._create(shape, dtype, random_state)
        self._running = {"running_mean": aligned_zeros(shape[0], dtype), "running_var": owned(np.ones(shape[0], dtype))}

    def _has(self, name: str) -> bool:
        return self.scale if name == "gamma" else self.center

    def _state(self) -> dict[str, Array]:
        return self._running

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        return replace(epilogue, norm=FoldedNorm(self, self.epsilon))

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        y, epilogue = graph.value(graph.shapes[x]), epilogue_of(absorbed)
        return graph.add(BatchNormOp(self, x, y, self.epsilon, self.momentum, epilogue))


class GroupNorm(_Normalisation):
    """Group normalisation: each example in groups of C / num_groups channels.

    y = gamma[c] · (x - μ) / sqrt(σ² + epsilon) + beta[c], with the mean μ and the variance σ² (divided by the count) of
    the numbers of the example that lie in the group of channel c.

    Parameters
    ----------
    num_groups : int
        Divides the channels.
    epsilon : float
        Keeps the root above 0; PyTorch's default, Keras has 1e-3.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    gamma, beta : array of shape (C,)
        1 and 0 at first.

    See Also
    --------
    BatchNorm : Normalisation of each channel over the batch.
    LayerNorm : Normalisation of each example over all its numbers.

    References
    ----------
    Wu and He, "Group normalization", ECCV 2018, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import GroupNorm
    >>> GroupNorm(2).forward(np.ones((4, 6, 8, 8))).shape
    (4, 6, 8, 8)
    """

    def __init__(
        self,
        num_groups: int,
        epsilon: float = 1e-5,
        *,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(epsilon, trainable=trainable, name=name)
        self.num_groups = checks.as_positive_int(num_groups, self.name, "num_groups")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if input_shape[0] % self.num_groups:
            raise ValueError(
                f"{self.name}: num_groups: expected a divisor of {input_shape[0]} channels; got {self.num_groups}"
            )
        return input_shape

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        y, epilogue = graph.value(graph.shapes[x]), epilogue_of(absorbed)
        return graph.add(GroupNormOp(self, x, y, self.epsilon, self.num_groups, epilogue))


class LayerNorm(_Normalisation):
    """Layer normalisation: each example over all its numbers, with a scale and a shift for every one of them.

    y = gamma · (x - μ) / sqrt(σ² + epsilon) + beta, with the mean μ and the variance σ² (divided by the count) of the
    example. As PyTorch's `LayerNorm((C, H, W))`; Keras normalises the last axis alone.

    Parameters
    ----------
    epsilon : float
        PyTorch's default; Keras has 1e-3.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    gamma, beta : array of shape (C, H, W) or (D,)
        1 and 0 at first.

    See Also
    --------
    GroupNorm : Normalisation of groups of channels, example by example.
    BatchNorm : Normalisation of each channel over the batch.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import LayerNorm
    >>> LayerNorm().forward(np.ones((4, 3, 8, 8))).shape
    (4, 3, 8, 8)
    """

    def __init__(
        self, epsilon: float = 1e-5, *, trainable: bool | Sequence[str] = True, name: str | None = None
    ) -> None:
        super().__init__(epsilon, trainable=trainable, name=name)

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels, *size = input_shape

        def view(stored: Array) -> Array:
            return np.moveaxis(stored[..., :channels], -1, 0)

        return {name: Parameter(input_shape, (*size, padded(channels)), view, first) for name, first in FIRST.items()}

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        if self.input_shape is not None and x.shape[1:] != self.input_shape:
            raise ValueError(
                f"{self.name}: input: expected samples of shape {self.input_shape}, as the layer was built; "
                f"got {x.shape[1:]} in shape {x.shape}"
            )

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(LayerNormOp(self, x, graph.value(graph.shapes[x]), self.epsilon, epilogue_of(absorbed)))
