"""Transposed convolution: the direct implementation with forward and input gradient exchanged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...engine.arrays import aligned_zeros
from ...engine.ir import Graph, Op, Plan, RunContext, Traits
from ...engine.layout import Halo
from ...engine.weights import Weights
from ...engine.workspace import Workspace
from ...kernels import activation as activation_kernels
from ...kernels import conv_direct
from ...kernels.maps import Lines, Maps, PostOps
from ...typing import Array, Gradients
from ..epilogue import NOTHING, Epilogue
from .algorithm import Convolution, bias_gradient
from .direct import Direct
from .groups import Grouped
from .op import Spec


class _Transposed(Direct):
    transposes = True


class TransposedConvolutionOp(Op):
    """Transposed convolution + bias [+ ReLU]: the direct algorithm with forward and input gradient exchanged."""

    def __init__(self, weights: Weights, part: Spec, x: int, y: int, epilogue: Epilogue = NOTHING) -> None:
        super().__init__(weights, x, y)
        self.part, self.epilogue = part, epilogue
        self.traits = Traits(replayable=True, forward_by_image=True, rectifies=epilogue.rectifies)

    def input_halo(self) -> Halo:
        return self.part.window.gradient_halo

    def gradient_halo(self) -> Halo:
        return self.part.window.input_halo

    def work(self, graph: Graph) -> float:
        window = self.part.window
        taps = window.vertical.taps * window.horizontal.taps
        return math.prod(graph.shapes[self.x]) * taps * self.part.num_filters / self.part.groups

    def bind(self, plan: Plan) -> None:
        x, y = plan.values[self.x], plan.values[self.y]
        dx, dy = plan.gradients[self.x], plan.gradients[self.y]
        # What the convolution calls its output is this layer's input.
        convolution = Convolution(
            self.part.window, y.channels, x.channels, self.part.groups, plan.images,
            dy or y, dx or x, x, y, plan.dtype,
        )  # fmt: skip
        self.algorithm = (_Transposed if self.part.groups == 1 else Grouped)(convolution)
        self.dtype, self.filters = plan.dtype, (convolution.taps, x.pitch, x.channels)
        self.no_post = PostOps(aligned_zeros(max(x.pitch, y.pitch), plan.dtype), plan.dtype.type(-np.inf))
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        self.height, self.width, self.pitch = y.height, y.width, y.pitch
        self.y_row, self.dy_row = y.line_table(plan.images), (dy or y).line_table(plan.images)

    def allocate(self, plan: Plan) -> Saved:
        return Saved(self.algorithm.allocate(), aligned_zeros(self.no_post.biases.size, self.dtype))

    def prepare(self) -> None:
        self.algorithm.pack(self.weights._values("filters", self.dtype))
        biases = self.weights._values("biases", self.dtype) if self.part.bias else self.no_post.biases
        self.post = PostOps(biases, self.clamp_min)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        self.algorithm.transposed(n, workspace.values[self.x], self.post, workspace.values[self.y])

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        kept, x = workspace.saved[self.index], workspace.values[self.x]
        dy, dx = workspace.gradients[self.y], workspace.gradients[self.x]
        assert dy is not None
        lines, dw = n * self.height, gradients["filters"]
        if self.epilogue.rectifies:
            activation_kernels.relu_backward(
                Maps(workspace.values[self.y], self.y_row), Maps(dy, self.dy_row), Maps(dy, self.dy_row), lines,
                self.width * self.pitch, False,
            )  # fmt: skip
        if self.part.bias and self.weights._trains("biases"):
            pixels = Lines(dy, self.dy_row, self.pitch)
            bias_gradient(pixels, lines, self.width, self.pitch, gradients["biases"])
        if self.weights._trains("filters"):
            self.algorithm.filter_gradient(n, dy, x, dw, kept.unused, kept.scratch)
            conv_direct.clear_columns(dw, *self.filters)
        if dx is not None:
            self.algorithm.forward(n, dy, self.no_post, dx, kept.scratch)


@dataclass
class Saved:
    """Scratch of a transposed convolution; `unused` takes sums that are not needed."""

    scratch: Any
    unused: Array
