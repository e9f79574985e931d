"""Dropout: of single numbers, and of whole channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .. import checks
from ..engine.executable_cache import ExecutableCache
from ..engine.ir import Graph
from ..ops.dropout import DropoutOp
from ..typing import Array, RandomState, Shape
from .base import Layer

LARGEST_SEED = 1 << 63


class _Dropout(Layer):
    """In training zero with probability `rate`; what is kept is divided by 1 - rate, so that the mean stays."""

    whole_channels: bool

    def __init__(self, rate: float = 0.5, random_state: RandomState = None, *, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate = checks.as_number(rate, self.name, "rate")
        if not 0 <= self.rate < 1:
            raise ValueError(f"{self.name}: rate: expected a number of [0, 1); got {rate!r}")
        self.random_state = random_state
        self._seed = 0

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if self.whole_channels:
            checks.check_maps(input_shape, self.name)
        return input_shape

    @property
    def last_mask(self) -> Array | None:
        """Where the last `forward` of this layer in training let numbers pass: 1, elsewhere 0; None in prediction."""
        executable = self._executables.last
        if executable is None or not executable.ready or not executable.contexts[0].training:
            return None
        (op,) = executable.plan.ops
        assert isinstance(op, DropoutOp)
        whole = np.concatenate([op.mask(n, workspace) for n, workspace in executable.shards])
        return whole[:, :, 0, 0] if self.whole_channels else whole.reshape(executable.shape)

    def _extra_state(self) -> dict[str, int]:
        return {"seed": self._seed}

    def _set_extra_state(self, state: Mapping[str, int]) -> None:
        self._seed, self._executables = state["seed"] % LARGEST_SEED, ExecutableCache()

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        super()._create(shape, dtype, random_state)
        self._seed = checks.draw_seed(random_state)

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        if not graph.training:
            return x
        op = DropoutOp(self, x, graph.value(graph.shapes[x]), self.rate, self._seed, self.whole_channels)
        return graph.add(op)


def tell_streams_apart(layers: Iterable[Layer]) -> None:
    """Give each dropout of a model a seed of its own: of equal ones the first is kept, the others count on from it.

    Two layers with one seed would drop the same units of maps of one shape.
    """
    taken: set[int] = set()
    for layer in layers:
        if isinstance(layer, _Dropout):
            while layer._seed in taken:
                layer._seed = (layer._seed + 1) % LARGEST_SEED
            taken.add(layer._seed)


class Dropout(_Dropout):
    """Dropout of single numbers: `y = x · m / (1 - rate)`, m = 0 with probability `rate`, else 1.

    In prediction `y = x`. The gradient passes where x did.

    Parameters
    ----------
    rate : float
        Probability of being dropped, in [0, 1).
    random_state : None, int, RandomState or Generator
        For the seed, which is drawn when the layer is built; by None from the model's generator. No two layers of a
        model have the same seed: where the same int was given to several, the first has the masks that it has alone.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    last_mask : array or None
        m of this layer's last own `forward` in training.

    See Also
    --------
    SpatialDropout2D : Dropout of whole channels.

    Notes
    -----
    Whether a unit is dropped is a function of the seed, of the step (in training by `Trainer`; else the layer's own
    count of calls), of the sample's place in the batch and of the unit's place in the sample: for any number of threads
    the same units are dropped. The generator is counter-based: SplitMix64's finalizer for the key of a sample,
    lowbias32 twice for a unit. The reference draws other numbers for the same seed.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15, 2014, sections 4 and 10. Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011, for the idea of a counter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dropout
    >>> layer = Dropout(0.5, random_state=0)
    >>> y = layer.forward(np.ones((100, 100)))
    >>> sorted(set(y.ravel().tolist()))
    [0.0, 2.0]
    >>> bool((layer.eval().forward(np.ones((2, 3))) == 1).all())
    True
    """

    whole_channels = False


class SpatialDropout2D(_Dropout):
    """Dropout of whole channels: `y[n, c] = x[n, c] · m[n, c] / (1 - rate)`, m as in `Dropout`.

    Parameters
    ----------
    rate : float
        Probability that a channel is dropped, in [0, 1).
    random_state : None, int, RandomState or Generator
        As in `Dropout`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    last_mask : array of shape (N, C) or None

    See Also
    --------
    Dropout : Dropout of single numbers.

    References
    ----------
    Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional networks", CVPR 2015,
    section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import SpatialDropout2D
    >>> y = SpatialDropout2D(0.5, random_state=0).forward(np.ones((4, 8, 2, 2)))
    >>> bool((y == y[:, :, :1, :1]).all())
    True
    """

    whole_channels = True
