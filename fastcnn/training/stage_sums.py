"""Sums of the shards' gradients, stage by stage: no row of all parameters for each shard, where that is much memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..engine import ir
from ..engine.arrays import aligned_zeros
from ..engine.stages import stage_of
from ..engine.weights import Weights
from ..kernels import update as kernels
from ..runtime import threads as parallel
from ..runtime.record import Call, KernelCalls
from ..typing import Array, Gradients

LEAST = 1 << 27  # bytes of a row of all parameters for each shard, below which there are such rows
PIECE = 1 << 14  # numbers that are worth a thread


class GradientSpan(NamedTuple):
    """A parameter's gradient: where it begins in the flat vector and in the rows, and how many numbers it has."""

    first: int
    place: int
    size: int


class StageSums:
    """Rows of gradients in which each stage takes the place of the one before it, as soon as that is summed up.

    The first shard's row is the flat vector itself, and the sums are left there: in the order of the shards, as the
    update takes them, so with the same bits.

    Parameters
    ----------
    stages : list of (weights, name, offset in the flat vector, whether the place may be another stage's too)
        What is summed up behind each stage.
    dtype : dtype
    shards : int
    """

    def __init__(self, stages: list[list[tuple[Weights, str, int, bool]]], dtype: np.dtype, shards: int) -> None:
        self.places: dict[tuple[Weights, str], int] = {}
        self.spans: list[list[GradientSpan]] = []
        own = 0  # places that one stage has to itself: of what is not written to the last number, and shall stay zero
        for weights, name, _, shares in (one for stage in stages for one in stage):
            if not shares:
                self.places[weights, name] = own
                own += weights._specs[name].size
        self.pitch = own
        for stage in stages:
            end, spans = own, []
            for weights, name, first, shares in stage:
                size = weights._specs[name].size
                if shares:
                    self.places[weights, name] = end
                    end += size
                spans.append(GradientSpan(first, self.places[weights, name], size))
            self.spans.append(spans)
            self.pitch = max(self.pitch, end)
        self.rows = aligned_zeros((shards - 1) * self.pitch, dtype)

    def gradients(self, shard: int, first: dict[Weights, Gradients]) -> dict[Weights, Gradients]:
        """Return where a shard behind the first leaves its gradients, in the form of the `first` one's."""
        row = self.rows[(shard - 1) * self.pitch :]

        def place(weights: Weights, name: str, array: Array) -> Array:
            begin = self.places.get((weights, name))  # None: nothing writes it
            return array if begin is None else row[begin : begin + array.size]

        return {
            weights: {name: place(weights, name, array) for name, array in named.items()}
            for weights, named in first.items()
        }

    def tasks(self, total: Array, shards: int) -> list[parallel.Tasks]:
        """Return for each stage what adds the rows of the other shards to the first one's, which is `total`."""

        def calls(spans: list[GradientSpan]) -> Iterator[list[Call]]:
            for span in spans:
                for begin in range(0, span.size, PIECE):
                    size = min(PIECE, span.size - begin)
                    places = span.first + begin, span.place + begin, size
                    yield [Call(KernelCalls(), kernels.add_rows, (total, self.rows, self.pitch, shards - 1, *places))]

        return [parallel.Tasks(list(calls(spans))) for spans in self.spans]


def stage_sums(plan: ir.Plan, offsets: dict[Weights, Gradients], size: int, shards: int) -> StageSums | None:
    """Return the rows of a plan's stages; None where rows of all parameters take little, or a layer is in two stages.

    `offsets` has the numbers of the flat vector's places, and `size` is its length.
    """
    if not plan.sync_points or shards * size * plan.dtype.itemsize < LEAST:
        return None
    stages: list[list[tuple[Weights, str, int, bool]]] = [[] for _ in range(len(plan.sync_points) + 1)]
    found: dict[Weights, int] = {}
    for op in plan.ops:
        stage = stage_of(plan.sync_points, op.index)
        if not plan.goes_back(op) or not offsets.get(op.weights):  # residual layers have no parameters, in many stages
            continue
        if found.setdefault(op.weights, stage) != stage:
            return None
        for name, places in offsets[op.weights].items():
            spec = op.weights._specs[name]
            one = op.weights, name, int(places[0]), op.replayable and spec.size == math.prod(spec.shape)
            if op.weights._trains(name) and all(one[:2] != other[:2] for other in stages[stage]):
                stages[stage].append(one)
    return StageSums(stages, plan.dtype, shards)
