"""One convolution with what is fused behind it, bound to the implementation that `select` has chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...engine.arrays import aligned_zeros
from ...engine.ir import Graph, Op, Piece, Plan, RunContext, Store, Traits
from ...engine.layout import Halo, Layout
from ...engine.weights import Weights
from ...engine.workspace import Workspace
from ...kernels import activation as activation_kernels
from ...kernels import pool as pool_kernels
from ...kernels.maps import Lines, Maps, PooledGradient, PostOps
from ...typing import Array, Gradients, Shape
from ..epilogue import NOTHING, Epilogue
from ..fused_activation import FusedActivation
from ..norm import fold
from ..window import Window
from .algorithm import NO_TAPS, UNCUT, Convolution, MicroBatch, bias_gradient
from .behind_max_pool import Scratch, Sparse
from .direct import Direct
from .pointwise import Pointwise
from .select import Problem, select


@dataclass(frozen=True)
class Spec:
    """One convolution of a layer, as the layer declares it.

    Attributes
    ----------
    filters : str
        Name of the filters among the layer's parameters; the biases are called `"biases"`.
    num_filters : int
    window : Window
    groups : int
    bias : bool
    algorithm : str
    """

    filters: str
    num_filters: int
    window: Window
    groups: int = 1
    bias: bool = True
    algorithm: str = "auto"


def lower_convolution(
    graph: Graph, weights: Weights, part: Spec, x: int, epilogue: Epilogue = NOTHING, output_shape: Shape | None = None
) -> int:
    """Add a convolution of the value `x`, with what is fused behind it; return the output value.

    `output_shape` is that behind the epilogue, where it changes the shape.
    """
    problem = Problem(
        part.window, graph.shapes[x][0], part.num_filters, part.groups, graph.dtype, part.algorithm, epilogue,
        _is_rectified(graph, x), graph.images,
    )  # fmt: skip
    y = graph.value(output_shape or (part.num_filters, *part.window.outputs))
    return graph.add(ConvolutionOp(weights, part, problem, x, y))


def _is_rectified(graph: Graph, x: int) -> bool:
    """Tell whether a ReLU ends the operation that writes `x`."""
    root = graph.aliases.get(x, x)
    return any(op.traits.rectifies for op in graph.ops if op.y == root)


class ConvolutionOp(Op):
    """Convolution + bias [+ ReLU] [+ max-pool 2 x 2], forward and backward; in prediction also [+ batch norm]."""

    def __init__(self, weights: Weights, part: Spec, problem: Problem, x: int, y: int) -> None:
        super().__init__(weights, x, y)
        self.conv, self.problem, self.epilogue = part, problem, problem.epilogue
        self.implementation = select(problem)
        alone = self.epilogue.pool is None
        activation = self.epilogue.activation
        self.fused: FusedActivation | None = None
        blocked = alone and self.implementation.reads_panels(part.window)
        self.traits = Traits(
            reads_any_pitch=self.implementation.reads_any_pitch,
            replayable=self.implementation.replayable,
            micro_batches=self.implementation.accumulates
            and alone
            and (activation is None or activation.formula.of_output),
            reads_blocked=blocked,
            reads_blocked_gradient=blocked and not (part.bias or self.epilogue.rectifies or activation),
            rectifies=self.epilogue.rectifies,
            skips_zeros=self.implementation is Pointwise,
        )

    def input_halo(self) -> Halo:
        return self.implementation.input_halo(self.conv.window)

    def gradient_halo(self) -> Halo:
        return Halo() if self.epilogue.pool else self.implementation.gradient_halo(self.conv.window)

    def work(self, graph: Graph) -> float:
        window = self.conv.window
        taps = window.vertical.taps * window.horizontal.taps * graph.shapes[self.x][0] / self.conv.groups
        return self.conv.num_filters * taps * math.prod(window.outputs)

    def bind(self, plan: Plan) -> None:
        channels, window, algorithm = self.problem.channels, self.conv.window, self.implementation
        y, dy, dx = plan.values[self.y], plan.gradients[self.y], plan.gradients[self.x]
        self.gradient, value = dy, y
        if self.epilogue.pool:
            value = Layout(y.channels, *window.outputs, y.pitch)
            self.gradient = dy and value.with_halo(algorithm.gradient_halo(window))
        convolution = Convolution(
            window, channels, self.conv.num_filters, self.conv.groups, plan.images,
            plan.values[self.x], value, self.gradient, dx, plan.dtype, y if self.epilogue.pool else None,
            plan.blocked_values.get(self.x), plan.blocked_gradients.get(self.y),
        )  # fmt: skip
        self.sparse = None
        self.frozen = not self.weights._trains(self.conv.filters)
        if (
            dy
            and not self.frozen
            and algorithm is Direct
            and self.epilogue.pool == "first"
            and Sparse.pays(convolution)
        ):
            self.sparse = Sparse(convolution, dy)
            convolution, self.gradient = replace(convolution, dy=None, dx=None), None
        self.algorithm = algorithm(convolution)
        self._spreads_pooling = self.epilogue.pool is not None and algorithm.spreads_pooling and dx is None
        self.pitch, self.dtype, self.pixels = y.pitch, plan.dtype, y.pixels
        self.no_biases = aligned_zeros(y.pitch, plan.dtype)
        self.gradient_line = self.gradient.line_table(plan.images) if self.frozen and self.gradient else NO_TAPS
        self.clamp_min = plan.dtype.type(self.epilogue.clamp_min)
        self.x_size = plan.values[self.x].image_size
        if self.epilogue.activation:
            self.fused = FusedActivation(self.epilogue.activation, plan, self.y)
        self.lines = None
        if self.epilogue.pool and dy and self.gradient:
            self.dy_row = dy.pixel_table(plan.images)
            self.conv_row = self.gradient.table(plan.images, *convolution.output_pixels())
        elif self.epilogue.rectifies and dy:
            self.lines = y.line_table(plan.images), dy.line_table(plan.images), y.height, y.width * y.pitch

    def allocate(self, plan: Plan) -> Saved:
        kept = Saved(aligned_zeros(self.pitch, self.dtype))
        if self.fused:
            kept.before = self.fused.allocate()
        if self.epilogue.pool:
            # Only a backward pass asks which pixel was the largest.
            kept.argmax = aligned_zeros(plan.training * plan.images * self.pixels * self.pitch, np.uint8)
            if self.sparse:
                kept.entries = self.sparse.allocate()
            elif self.gradient and not self._spreads_pooling:
                kept.gradient = self.gradient.allocate(plan.images, self.dtype)
        return kept

    @property
    def forward_by_image(self) -> bool:
        return self.algorithm.forward_by_image

    @property
    def backward_by_image(self) -> bool:
        return self.algorithm.backward_by_image and self.sparse is None and not self.frozen

    def saved_from(self, plan: Plan, saved: Saved, image: int) -> Saved:
        size, layout = image * self.pixels * self.pitch, self.gradient
        return replace(
            saved,
            before=self.fused.saved_from(saved.before, image) if self.fused else None,
            argmax=None if saved.argmax is None else saved.argmax[size:],
            gradient=saved.gradient[image * layout.image_size :] if saved.gradient is not None and layout else None,
        )

    def scratchpad(self, shared: Store) -> Any:
        key = "scratch", self.algorithm.scratch_key
        if key not in shared:
            shared[key] = self.algorithm.allocate()
        return shared[key]

    def overwrites_gradient(self, value: int) -> bool:
        return self.algorithm.fills

    def fills_maps(self, plan: Plan) -> bool:
        return self.algorithm.fills

    @property
    def keeps_gradient(self) -> bool:
        return not (self.lines or self.fused)

    def copied(self) -> list[Array]:
        norm = self.epilogue.norm
        folded = [norm.weights._flat, *norm.weights._state().values()] if norm else []
        return [*super().copied(), *folded] if folded or self.algorithm.copies else []

    def prepare(self) -> None:
        filters = self.weights._values(self.conv.filters, self.dtype)
        biases = self.weights._values("biases", self.dtype) if self.conv.bias else self.no_biases
        if self.epilogue.norm:
            filters, biases = fold(self.epilogue.norm, filters, biases)
        self.post = PostOps(biases, self.clamp_min)
        self.algorithm.pack(filters)
        if self.sparse:
            self.sparse.pack(filters)

    def prepare_backward(self) -> None:
        if self.algorithm.backward_filters:
            self.algorithm.pack_backward(self.weights._values(self.conv.filters, self.dtype))

    @property
    def backward_filters(self) -> int:
        return self.algorithm.backward_filters

    def take_turns_in(self, memory: Array) -> None:
        self.algorithm.take_turns_in(memory)

    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        x, y, kept = workspace.values[self.x], workspace.values[self.y], workspace.saved[self.index]
        scratch = workspace.scratchpad[self.index]
        if self.epilogue.pool:
            self.algorithm.forward_pool(n, x, self.post, y, self.epilogue.pool == "all", kept.argmax, scratch)
        elif self.fused:

            def compute(first: int, count: int, out: Array) -> None:
                self.algorithm.forward(count, x[first * self.x_size :], self.post, out, scratch)

            self.fused.forward(n, y, kept.before, compute)
        else:
            self.algorithm.forward(n, x, self.post, y, scratch, MicroBatch(prefetch=workspace.prefetch))

    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        if self.sparse:
            kept, (dw, dbias) = workspace.saved[self.index], self._parameter_gradients(workspace, gradients)
            x, dy, dx = workspace.values[self.x], workspace.gradients[self.y], workspace.gradients[self.x]
            assert dy is not None
            self.sparse.backward(n, x, dy, kept.argmax, dx, dw, dbias, kept.entries)
            return
        self._backward_epilogue(n, workspace)
        self._backward_parameters(n, workspace, gradients, workspace.prefetch[:2], UNCUT)
        self._backward_input(n, workspace)

    def backward_images(self, n: int, workspace: Workspace, context: RunContext) -> None:
        self._backward_epilogue(n, workspace)
        self._backward_input(n, workspace)

    def pieces(self, most: int) -> int:
        return 1 if self._spreads_pooling else self.algorithm.pieces(most)

    def parameter_gradients(
        self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext, piece: Piece
    ) -> None:
        self._backward_parameters(n, workspace, gradients, (), piece)

    def _backward_epilogue(self, n: int, workspace: Workspace) -> None:
        """Turn the gradient of the output into that of the convolution itself, before what is fused behind it."""
        kept, dy = workspace.saved[self.index], workspace.gradients[self.y]
        assert dy is not None
        if self._spreads_pooling:
            return
        if self.epilogue.pool:
            pool_kernels.pool2_backward(
                Maps(dy, self.dy_row), kept.argmax, n * self.pixels, self.pitch, Maps(kept.gradient, self.conv_row),
                False,
            )  # fmt: skip
        elif self.lines:
            y_row, dy_row, lines, length = self.lines
            gradient = Maps(dy, dy_row)
            activation_kernels.relu_backward(
                Maps(workspace.values[self.y], y_row), gradient, gradient, n * lines, length, False
            )
        elif self.fused:
            self.fused.backward(n, workspace.values[self.y], kept.before, dy)

    def _convolution_gradient(self, workspace: Workspace) -> Array:
        """Return where `_backward_epilogue` leaves its result."""
        gradient: Array | None = workspace.gradients[self.y]
        if self.epilogue.pool:
            gradient = workspace.saved[self.index].gradient
        assert gradient is not None
        return gradient

    def _parameter_gradients(self, workspace: Workspace, gradients: Gradients) -> tuple[Array, Array]:
        """Return where the gradients of filters and biases go."""
        unused: Array = workspace.saved[self.index].dbias
        return gradients[self.conv.filters], gradients["biases"] if self.conv.bias else unused

    def _backward_parameters(
        self, n: int, workspace: Workspace, gradients: Gradients, prefetch: Sequence[Array], piece: Piece
    ) -> None:
        x, scratch, accumulate = workspace.values[self.x], workspace.scratchpad[self.index], workspace.done > 0
        dw, dbias = self._parameter_gradients(workspace, gradients)
        if self._spreads_pooling:
            kept, dy = workspace.saved[self.index], workspace.gradients[self.y]
            assert dy is not None
            pooled = PooledGradient(dy, self.dy_row, kept.argmax)
            self.algorithm.filter_gradient_pool(n, x, pooled, dw, dbias, scratch)
            return
        dy = self._convolution_gradient(workspace)
        if not self.frozen:
            micro_batch = MicroBatch(accumulate, prefetch)
            self.algorithm.filter_gradient(n, x, dy, dw, dbias, scratch, micro_batch, piece)
        elif self.conv.bias and self.weights._trains("biases"):
            layout = self.gradient
            assert layout is not None
            pixels = Lines(dy, self.gradient_line, layout.pitch)
            bias_gradient(pixels, n * layout.height, layout.width, layout.pitch, dbias, accumulate)

    def _backward_input(self, n: int, workspace: Workspace) -> None:
        dx = workspace.gradients[self.x]
        if dx is not None:
            micro_batch = MicroBatch(workspace.done > 0, workspace.prefetch[2:])
            dy, scratch = self._convolution_gradient(workspace), workspace.scratchpad[self.index]
            self.algorithm.input_gradient(n, dy, dx, scratch, micro_batch)


@dataclass
class Saved:
    """What a convolution saves for backward."""

    dbias: Array
    before: Array | None = None  # a fused activation
    argmax: Array | None = None
    gradient: Array | None = None
    entries: Scratch | None = None
