"""Dropout: of single numbers, and of whole channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .. import checks
from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..kernels import activation as activation_kernels
from ..kernels import dropout as kernels
from ..typing import Array, IntArray, RandomState, Shape
from .base import Layer

LARGEST_SEED = 1 << 63
WORD = 1 << 32  # random numbers of a unit are 32 bits


class _Dropout(Layer):
    """In training zero with probability `rate`; what is kept is divided by 1 - rate, so that the mean stays."""

    whole_channels: bool

    def __init__(self, rate: float = 0.5, random_state: RandomState = None) -> None:
        super().__init__()
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
        session = self._session
        if session is None or not session.ready or not session.passes[0].training:
            return None
        (block,) = session.graph.blocks
        assert isinstance(block, _DropoutBlock)
        whole = np.concatenate([block.mask(n, memory) for n, memory in session.shards])
        return whole[:, :, 0, 0] if self.whole_channels else whole.reshape(session.shape)

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        super()._create(shape, dtype, random_state)
        self._seed = checks.draw_seed(random_state)

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        if not graph.training:
            return x
        return graph.add(_DropoutBlock(self, x, graph.edge(graph.shapes[x])))


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

    Attributes
    ----------
    last_mask : array or None
        m of this layer's last own `forward` in training.

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
    """

    whole_channels = False


class SpatialDropout2D(_Dropout):
    """Dropout of whole channels: `y[n, c] = x[n, c] · m[n, c] / (1 - rate)`, m as in `Dropout`.

    Parameters
    ----------
    rate : float
    random_state : None, int, RandomState or Generator
        As in `Dropout`.

    Attributes
    ----------
    last_mask : array of shape (N, C) or None

    References
    ----------
    Tompson, Goroshin, Jain, LeCun and Bregler, "Efficient object localization using convolutional networks", CVPR 2015,
    section 3.2.
    """

    whole_channels = True


class _DropoutBlock(Block):
    """Keeps one key for each sample; both passes compute the mask from it."""

    replayable = True
    layer: _Dropout

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        images = graph.images
        self.y_layout, self.dtype, self.images = y, graph.dtype, images
        self.x_row, self.y_row = x.line_table(images), y.line_table(images)
        self.past = y.outlasts_cache(images, graph.dtype)
        if dx and dy:
            self.dx_row, self.dy_row = dx.line_table(images), dy.line_table(images)
            self.dx_past = dx.outlasts_cache(images, graph.dtype)
        self.units = 0 if self.layer.whole_channels else x.channels
        self.drop = min(WORD - 1, round(self.layer.rate * WORD))
        self.scale = graph.dtype.type(1 / (1 - self.layer.rate))
        self.one = graph.dtype.type(1)

    def allocate(self, graph: Graph) -> Array:
        return np.zeros(graph.images, np.uint64)

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        if run.training:
            kernels.sample_keys(self.layer._seed, run.number, run.first, n, memory.kept[self.index])
        self._pass(
            run, n, memory.kept[self.index], memory.values[self.x], self.x_row, memory.values[self.y], self.y_row,
            self.past,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx, dy = memory.gradients[self.x], memory.gradients[self.y]
        if dx is not None and dy is not None:
            self._pass(run, n, memory.kept[self.index], dy, self.dy_row, dx, self.dx_row, self.dx_past)

    def _pass(
        self, run: Pass, n: int, keys: Array, x: Array, x_row: IntArray, y: Array, y_row: IntArray, past: bool
    ) -> None:
        layout = self.y_layout
        if run.training:
            kernels.dropout(
                x, x_row, y, y_row, keys, n, layout.height, layout.width, layout.pitch, self.units, self.drop,
                self.scale, past,
            )  # fmt: skip
        else:
            activation_kernels.copy(x, x_row, y, y_row, n * layout.height, layout.width * layout.pitch, past)

    def mask(self, n: int, memory: Memory) -> Array:
        """Return which units of `n` images passed, (n, C, H, W) of 0 and 1."""
        layout = self.y_layout
        ones, mask = (layout.allocate(self.images, self.dtype) for _ in range(2))
        ones[...] = 1
        kernels.dropout(
            ones, self.y_row, mask, self.y_row, memory.kept[self.index], n, layout.height, layout.width, layout.pitch,
            self.units, self.drop, self.one, False,
        )  # fmt: skip
        return layout.view(mask, n)
