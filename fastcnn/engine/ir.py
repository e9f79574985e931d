"""The intermediate representation: operations in order, on values; and the plan, which says where values lie.

A layer owns parameters and formulas; an operation is a layer, or a run of layers that one kernel does at once, for the
shapes of one network. A value is what one operation hands to others: feature maps. `planner` decides where values lie.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array, Gradients, IntArray, Shape
from .arrays import aligned_zeros
from .layout import BlockedLayout, Halo, Layout
from .weights import Weights
from .workspace import Workspace


@dataclass
class RunContext:
    """The pass in which an operation is called: training or prediction, of which images, in which step.

    Attributes
    ----------
    training : bool
        Whether layers such as dropout are on.
    first : int
        The number of the shard's first image: random numbers depend on the sample and not on the shard.
    number : int64 array of shape (1,)
        Of the step; recorded calls look it up.
    """

    training: bool = True
    first: int = 0
    number: IntArray = field(default_factory=lambda: aligned_zeros(1, np.int64))

    @property
    def step(self) -> int:
        """The number of the step."""
        return int(self.number[0])


@dataclass(frozen=True)
class Traits:
    """What the planner must know of an operation.

    Attributes
    ----------
    reads_any_pitch : bool
        It reads its input through tables, so that channels need no padding.
    syncs : bool
        In training it reduces something over the whole batch: all shards come as far as `forward_partial`,
        `sync_forward` sees them all, and they go on with `forward`. Backward likewise.
    replayable : bool
        It does nothing but call kernels, with the same arguments at every step: a training step repeats the recorded
        calls, those of sync points too, and spares the Python around them.
    backward_reads_input : bool
        Its backward pass reads the values of its inputs.
    micro_batches : bool
        It takes the images of a shard a few at a time: it keeps nothing of single images, and adds what it sums over
        images to what those before, `workspace.done`, have left.
    writes_blocked : bool
        `recompute` can write its output, and backward the gradient of its input, in the blocked layout.
    reads_blocked, reads_blocked_gradient : bool
        Backward can read its input, and the gradient of its output, in the blocked layout.
    rectifies : bool
        A ReLU ends it, so that many numbers of its output are zero.
    skips_zeros : bool
        It passes over the zeros of its input.
    link : str
        "softmax" or "logistic" if it is that and nothing else: a loss that contains the function takes it out.
    passes_gradient : bool
        Its backward passes the gradient on as it is: what it is given belongs to its input, and not to its output.
    forward_by_image, backward_by_image : bool
        Its images do not depend on each other, so that threads may share out those of a shard; backward but for
        `parameter_gradients`.
    """

    reads_any_pitch: bool = False
    syncs: bool = False
    replayable: bool = False
    backward_reads_input: bool = True
    micro_batches: bool = False
    writes_blocked: bool = False
    reads_blocked: bool = False
    reads_blocked_gradient: bool = False
    rectifies: bool = False
    skips_zeros: bool = False
    link: str = ""
    passes_gradient: bool = False
    forward_by_image: bool = False
    backward_by_image: bool = False


@dataclass(frozen=True)
class Piece:
    """One of `count` pieces of a computation, which are cut along another axis than its sums."""

    number: int = 0
    count: int = 1

    def cut(self, size: int, unit: int = 1) -> slice:
        """Return the piece's numbers of `size`, in whole units: all numbers are in some piece."""
        units = -(-size // unit)
        first, last = (units * number // self.count * unit for number in (self.number, self.number + 1))
        return slice(first, min(last, size))


class Op(ABC):
    """One operation, from the value `x` to the value `y`.

    Attributes
    ----------
    weights : Weights
        The layer, as the weights that the operation reads and whose gradients it writes.
    traits : Traits
    index : int
        Its place among the graph's operations.
    """

    traits = Traits()
    index: int

    def __init__(self, weights: Weights, x: int, y: int) -> None:
        self.weights, self.x, self.y = weights, x, y

    @property
    def replayable(self) -> bool:
        """See `Traits`."""
        return self.traits.replayable

    @property
    def forward_by_image(self) -> bool:
        """See `Traits`."""
        return self.traits.forward_by_image

    @property
    def backward_by_image(self) -> bool:
        """See `Traits`; known once it is bound."""
        return self.traits.backward_by_image

    @property
    def reads(self) -> tuple[int, ...]:
        """The values that it reads: `x`, where there is but one."""
        return (self.x,)

    @property
    def writes(self) -> tuple[int, ...]:
        """The values that it writes, and whose gradients it reads: `y`, where there is but one."""
        return (self.y,)

    @property
    def trains(self) -> bool:
        """Whether one of the layer's parameters is trained."""
        return any(self.weights._trains(name) for name in self.weights._specs)

    @property
    def is_frozen(self) -> bool:
        """Whether the layer has parameters, and one of them is not trained."""
        return not all(self.weights._trains(name) for name in self.weights._specs)

    def overwrites_gradient(self, value: int) -> bool:
        """Tell whether backward writes every number of the gradient of `value`, which it reads, but the halo's."""
        return False

    def fills_maps(self, plan: Plan) -> bool:
        """Tell whether forward writes every number of its output, and backward of its input's gradient, but the halo's.

        It has been bound to `plan`.
        """
        return False

    @property
    def keeps_gradient(self) -> bool:
        """Whether backward leaves the gradient of its output as it is."""
        return False

    def input_halo(self) -> Halo:
        """Return the zeros that it needs around its inputs."""
        return Halo()

    def gradient_halo(self) -> Halo:
        """Return the zeros that it needs around the gradient of its output."""
        return Halo()

    def work(self, graph: Graph) -> float:
        """Return the multiply-adds of one image's forward pass, roughly."""
        return 0.0

    @abstractmethod
    def bind(self, plan: Plan) -> None:
        """Write the tables: all layouts are known now."""

    def allocate(self, plan: Plan) -> Any:
        """Return what it saves between forward and backward, and its scratch."""
        return None

    def scratchpad(self, shared: Store) -> Any:
        """Return scratch that several operations reuse; `shared` holds it from one operation to the next."""
        return None

    def prepare(self) -> None:
        """Bring the parameters into the order that the kernels read; once for each new value of the parameters."""

    def prepare_backward(self) -> None:
        """Prepare what only the backward pass reads, where that is worth a task of its own."""

    @property
    def backward_filters(self) -> int:
        """How many numbers `prepare_backward` writes, all of them, to memory that operations can take turns in."""
        return 0

    def take_turns_in(self, memory: Array) -> None:
        """Let `prepare_backward` write to `memory`, of `backward_filters` numbers, from now on."""

    def copied(self) -> list[Array]:
        """Return the arrays that `prepare` copies: after a change of one, `prepare` is called again."""
        idle = type(self).prepare is Op.prepare
        return [] if idle else [self.weights._flat, *self.weights._state().values()]

    @abstractmethod
    def forward(self, n: int, workspace: Workspace, context: RunContext) -> None:
        """Compute the output of `n` images."""

    def recompute(self, n: int, workspace: Workspace, context: RunContext) -> None:
        """Compute the output again, for backward."""
        self.forward(n, workspace, context)

    @abstractmethod
    def backward(self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext) -> None:
        """Compute the gradients of `n` images: of the parameters, and of the input where it is needed."""

    def saved_from(self, plan: Plan, saved: Any, image: int) -> Any:
        """Return what it saves from an image of the shard on, with scratch of its own, for one of several threads."""
        return saved

    def backward_images(self, n: int, workspace: Workspace, context: RunContext) -> None:
        """Compute what of `backward` is done image by image: all but the gradients of the parameters."""
        self.backward(n, workspace, {}, context)

    def pieces(self, most: int) -> int:
        """Return into how many pieces, up to `most`, threads may cut `parameter_gradients`; 0 if there are none."""
        return 0

    def parameter_gradients(
        self, n: int, workspace: Workspace, gradients: Gradients, context: RunContext, piece: Piece
    ) -> None:
        """Compute a piece of the parameters' gradients, once `backward_images` is done for all images of the shard."""

    def forward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        """Compute the shard's part of what `sync_forward` reduces."""

    def sync_forward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        """Reduce the parts of all shards, in the order of the shards."""

    def shared_forward(self, workspace: Workspace) -> Array:
        """Return the result of `forward_partial` that `sync_forward` reads: all that other ranks need of a shard."""
        raise NotImplementedError(f"{type(self).__name__}: it has no shared_forward, which ranks need")

    def backward_partial(self, n: int, workspace: Workspace, context: RunContext) -> None:
        """Compute the shard's part of what `sync_backward` reduces."""

    def sync_backward(self, shards: Sequence[tuple[int, Workspace]]) -> None:
        """Reduce the parts of all shards, in the order of the shards."""

    def shared_backward(self, workspace: Workspace) -> Array:
        """Return the result of `backward_partial` that `sync_backward` reads."""
        raise NotImplementedError(f"{type(self).__name__}: it has no shared_backward, which ranks need")


MANY = 16  # images: with so many, what is made of the parameters once takes little of what each image takes
Store = dict[Hashable, Any]  # what the workspaces that are made with it have in common


def images_as_planned(n: int) -> int:
    """Return the number of images that a batch of `n` is planned for: 1, 2, 4, 8 or MANY."""
    return min(1 << (n.bit_length() - 1), MANY)


@dataclass
class Graph:
    """A network as operations in order.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W), or (D,) for features.
    dtype : dtype
    training : bool
        Whether there will be a backward pass.
    images : int
        How many images share what is made of the parameters, as far as that decides how a layer is computed.
    fuse : bool
        Whether runs of layers become one operation.
    watch : function of (graph, layer, value), optional
        Called behind each layer of a row with its output; returns the value that the next layer reads.

    Attributes
    ----------
    ops : list of Op
    shapes : list of tuple of int
        Of each value, (C, H, W); the first value is the input.
    aliases : dict of int to int
        Values that are another one under a second name, with a gradient of their own.
    output : int
        The last value.
    """

    input_shape: Shape
    dtype: np.dtype
    training: bool = True
    images: int = MANY
    fuse: bool = True
    watch: Callable[[Graph, Any, int], int] | None = None
    ops: list[Op] = field(default_factory=list)
    shapes: list[tuple[int, int, int]] = field(default_factory=list)
    aliases: dict[int, int] = field(default_factory=dict)
    output: int = 0

    def __post_init__(self) -> None:
        self.value(self.input_shape)

    def value(self, shape: Shape) -> int:
        """Add a value: maps of the public `shape`; features are channels of one pixel."""
        channels, height, width = shape if len(shape) == 3 else (*shape, 1, 1)
        self.shapes.append((channels, height, width))
        return len(self.shapes) - 1

    def alias(self, x: int) -> int:
        """Add a second name for the value `x`, with a gradient of its own."""
        value = self.value(self.shapes[x])
        self.aliases[value] = self.aliases.get(x, x)
        return value

    def add(self, op: Op) -> int:
        """Append an operation and return its output value."""
        op.index = len(self.ops)
        self.ops.append(op)
        return op.y

    def producer(self, value: int) -> Op | None:
        """Return the operation that writes a value; None for the network's input."""
        return next((op for op in self.ops if value in op.writes), None)

    def readers(self, value: int) -> list[Op]:
        """Return the operations that read a value, by any of its names."""
        names = {value, *(alias for alias, root in self.aliases.items() if root == value)}
        return [op for op in self.ops if names & set(op.reads)]


class Allocation(NamedTuple):
    """The buffer of a value: values with allocations of the same name reuse it.

    Attributes
    ----------
    persistent : bool
        Whether it is in use in several stages. If not, the shards of a worker reuse it too.
    name : hashable
    size : int
        Numbers for each image.
    images : int
        How many images are there at a time.
    """

    persistent: bool
    name: Hashable
    size: int
    images: int


@dataclass(frozen=True)
class Plan:
    """A network, bound to shapes: its operations in order, and where their values lie.

    Attributes
    ----------
    graph : Graph
    images : int
        The most images that a workspace holds.
    values, gradients : list of Layout
        Of each value, and of its gradient; None where there is none.
    sync_points : list of int
        The places of the operations that reduce over the whole batch: between them are the stages.
    microbatches : list of int
        How many images go through each stage at a time.
    descending : list of bool
        Whether each stage goes backward from the last image to the first.
    recomputed : set of int
        The values that are not saved, and computed again for backward.
    blocked_values, blocked_gradients : dict of int to BlockedLayout
        What lies in blocks of channels, when it is computed again, or written backward.
    allocations : pair of lists
        Of the values, and of the gradients; filled when all operations are bound.
    late : dict of int to list of Op
        By stage: operations whose `prepare_backward` is called just before the stage goes backward, since they take
        turns in one memory.
    """

    graph: Graph
    images: int
    values: list[Layout]
    gradients: list[Layout | None]
    sync_points: list[int]
    microbatches: list[int]
    descending: list[bool]
    recomputed: set[int]
    blocked_values: dict[int, BlockedLayout]
    blocked_gradients: dict[int, BlockedLayout]
    allocations: tuple[list[Allocation], list[Allocation | None]] = ([], [])
    late: dict[int, list[Op]] = field(default_factory=dict)

    @property
    def ops(self) -> list[Op]:
        """The operations, in order."""
        return self.graph.ops

    def goes_back(self, op: Op) -> bool:
        """Tell whether an operation has work backward: nothing is trained before those that have none."""
        return any(self.gradients[value] is not None for value in op.writes)

    @property
    def output(self) -> int:
        """The last value."""
        return self.graph.output

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the computation."""
        return self.graph.dtype

    @property
    def training(self) -> bool:
        """Whether there will be a backward pass."""
        return self.graph.training
