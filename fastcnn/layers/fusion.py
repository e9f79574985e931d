"""Which runs of layers become one fused block, and how a row of layers becomes a row of blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..engine.graph import Graph
from .activation import ReLU
from .base import Layer
from .branches import Residual
from .conv import Conv2D
from .dense import Dense, Softmax
from .depthwise import DepthwiseConv2D, SeparableConv2D
from .norm import BatchNorm, GroupNorm, LayerNorm
from .pool import Pooling
from .shape import Flatten
from .transpose import Conv2DTranspose


def _is_relu(layer: Layer) -> bool:
    return type(layer) is ReLU


def _is_pooling_of_2(layer: Layer) -> bool:
    return isinstance(layer, Pooling) and layer.halves


def _is_dense(layer: Layer) -> bool:
    return type(layer) is Dense


def _is_softmax(layer: Layer) -> bool:
    return type(layer) is Softmax


def _is_batch_norm(layer: Layer) -> bool:
    return type(layer) is BatchNorm


Run = tuple[Callable[[Layer], bool], ...]

# For each head, the runs that may follow it, the longest first.
RUNS: dict[type[Layer], tuple[Run, ...]] = {
    BatchNorm: ((_is_relu,),),
    Conv2D: ((_is_relu, _is_pooling_of_2), (_is_relu,), (_is_pooling_of_2,)),
    Conv2DTranspose: ((_is_relu,),),
    Dense: ((_is_relu,),),
    Residual: ((_is_relu,),),
    DepthwiseConv2D: ((_is_relu, _is_pooling_of_2), (_is_relu,), (_is_pooling_of_2,)),
    Flatten: ((_is_dense, _is_relu), (_is_dense,), (_is_softmax,)),
    GroupNorm: ((_is_relu,),),
    LayerNorm: ((_is_relu,),),
    SeparableConv2D: ((_is_relu, _is_pooling_of_2), (_is_relu,), (_is_pooling_of_2,)),
}

# Without a backward pass a batch normalisation behind a convolution is part of the filters and biases.
RUNS_OF_PREDICTION: dict[type[Layer], tuple[Run, ...]] = {
    **RUNS,
    **{
        convolution: (*((_is_batch_norm, *run) for run in (*RUNS[convolution], ())), *RUNS[convolution])
        for convolution in (Conv2D, DepthwiseConv2D, SeparableConv2D)
    },
}


def find_runs(layers: Sequence[Layer], training: bool = True) -> Iterator[tuple[Layer, Sequence[Layer]]]:
    """Yield each head layer with the layers behind it that its block computes in the same pass."""
    runs = RUNS if training else RUNS_OF_PREDICTION
    start = 0
    while start < len(layers):
        head = layers[start]
        end = start + 1
        for run in runs.get(type(head), ()):
            followers = layers[start + 1 : start + 1 + len(run)]
            if len(followers) == len(run) and all(fits(layer) for fits, layer in zip(run, followers, strict=True)):
                end += len(run)
                break
        yield head, layers[start + 1 : end]
        start = end


def connect_row(graph: Graph, layers: Sequence[Layer], x: int) -> int:
    """Add the blocks of layers in a row behind edge `x`; return the last edge."""
    runs = find_runs(layers, graph.training) if graph.fuse else ((layer, ()) for layer in layers)
    for head, followers in runs:
        x = head._connect(graph, x, followers)
    return x
