"""What a training step is made of: calls that are recorded once and repeated without Python between them.

The first step of a kind walks through the operations and records every call of a kernel; the steps after it replay the
records. Nothing in a record ever moves: a step only writes other numbers into the same arrays, those of the batch,
of its targets, of the optimizer's rates. In their order:

1. *prepare*: parameters are brought into the order that the kernels read;
2. *forward and backward*: each shard, a slice of the batch, goes through loading, operations and loss, and back;
   what it leaves is a row of gradients and a row of totals. Where a layer needs the whole batch (`sync_points`), all
   shards meet: one stage ends there, and the next begins;
3. *update*: chunks of the flat vector sum the rows, in the order of the shards, and take the optimizer's step. A rule
   that must see whole parameters, as Muon's, takes it in a pass of its own behind that, one task a parameter.

Shards and chunks are what threads share out. How they are cut depends on the work alone, never on the threads, and so
do the bits. Once every thread has recorded every shard, all three parts are one native call, if no Python is needed.

`Program` is a model with a loss, bound to memory; `Step` what batches of one kind do in it. Who does what of it is in
files of their own: threads that take whole shards (`shards.py`) or parts of them (`division.py`), and the optimizer's
part (`update.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..engine import schedule
from ..engine.allocate import allocate
from ..engine.arrays import aligned_zeros, owned
from ..engine.divide import DividedShard, Divider, allocate_divided, roomy
from ..engine.ir import Graph, Plan, RunContext, Store, images_as_planned
from ..engine.load import load_from
from ..engine.planner import make_plan
from ..engine.weights import Weights, gradient_places
from ..engine.workspace import Workspace
from ..losses import End, Loss, Targets
from ..model import Sequential
from ..optim.averaging import Average
from ..optim.flat_state import FlatState
from ..optim.optimizer import Optimizer
from ..runtime import threads as parallel
from ..runtime.record import Call, KernelCalls, record_calls
from ..runtime.rehearsal import rehearse
from ..runtime.tape import Tape
from ..typing import Array, Gradients, IntArray
from .division import Division, parts_for
from .shards import WholeShards
from .snapshot import Snapshot
from .stage_sums import StageSums, stage_sums
from .update import Update, one_call

SHARDS = 8  # the most slices of a batch: each has a gradient vector of its own
SHARD_WORK = 20e6  # floating-point operations below which a slice is not worth a hand-over to a thread
ROW_WORK = 64  # operations for each parameter below which it is not worth a row of gradients, which memory must bring
COPIED = 1 << 14  # bytes of a batch that are copied in less time than it takes to find out where they are


class Program:
    """A model's operations for training with a loss, with memory for each worker and a row of gradients for each shard.

    It serves any batch whose shards have room in its memory, as long as model and loss stay what they are. Batches of
    few images have programs of their own: what is made of the parameters once for a batch pays with many.
    """

    sums_by_stage = True  # where rows of all parameters take much memory

    def __init__(self, model: Sequential, loss: Loss, n: int) -> None:
        assert model.input_shape is not None
        self.model, self.flat, self.loss, self.input_shape = model, model._flat, loss, model.input_shape
        self.images_as_planned = images_as_planned(n)
        graph = Graph(model.input_shape, model._flat.dtype, images=self.images_as_planned)
        graph.output = model._lower(graph, 0)
        loss.attach(graph)
        self.work = 6 * sum(op.work(graph) for op in graph.ops)
        self.parameters = sum(array.size for array in model.parameters.values())  # padding is the processor's
        self.shapes: set[tuple[int, ...]] = set()  # of batches that were checked
        self._slices: dict[int, list[tuple[int, int]]] = {}
        self.graph = make_plan(graph, max(last - first for first, last in self.slices(n)))
        loss.check_end(self.graph.values[self.graph.output])
        self.end = End(self.graph)
        self.gradients, self.stage_sums, places = self._rows()
        self.gradients_by_layer: list[dict[Weights, Gradients]] = [gradient_places(named) for named in places]
        self.totals = aligned_zeros((SHARDS, 2), np.float64)  # of each shard: loss, hits
        self.number = aligned_zeros(1, np.int64)  # of the step; inverted when the step is taken, see `Underway`
        self.underway: Underway | None = None
        self.contexts = [RunContext(number=self.number) for _ in range(SHARDS)]
        self.workspaces: dict[tuple[int, int], Workspace] = {}
        self.stores: dict[tuple[str, int], Store] = {}
        self.small = aligned_zeros(COPIED, np.uint8)  # of a batch
        self.steps: dict[Any, Step] = {}
        self.is_fed = False  # whether batches come from a feed whose data is known
        self.syncs: dict[tuple[str, int, int], Tape] = {}  # by direction, stage, length of the batch
        self.rehearsed = False  # whether all kernels of a step are there

    def _rows(self) -> tuple[Array, StageSums | None, list[dict[Weights, Gradients]]]:
        """Return rows of gradients, what sums them up before the update, and where each shard leaves its own."""
        model, size, dtype = self.model, self.model._size, self.model._flat.dtype
        offsets = model._gradients_by_layer(np.arange(size))
        sums = stage_sums(self.graph, offsets, size, SHARDS) if self.sums_by_stage else None
        count = SHARDS if sums is None else 1
        gradients = aligned_zeros(count * size, dtype)
        rows = [model._gradients_by_layer(row) for row in gradients.reshape(count, size)]
        return gradients, sums, rows if sums is None else rows + [sums.gradients(s, rows[0]) for s in range(1, SHARDS)]

    def release(self) -> None:
        """Give back the memory at once: the program and its steps know each other, and would wait for the collector."""
        for step in self.steps.values():
            step.release()
        for held in (self.steps, self.workspaces, self.stores, self.syncs, self._slices):
            held.clear()
        self.contexts.clear()

    def is_for(self, model: Sequential, loss: Loss) -> bool:
        """Tell whether it was made for these very parameters and this loss."""
        return self.flat is model._flat and self.loss is loss and self.input_shape is model.input_shape

    def has_room(self, n: int) -> bool:
        """Tell whether a batch of `n` is computed in its way, and fits its memory."""
        return (
            images_as_planned(n) == self.images_as_planned
            and max(last - first for first, last in self.slices(n)) <= self.graph.images
        )

    def step(self, x: Array, targets: Targets) -> Step:
        """Return what there is for such batches, with this one in it."""
        key = x.shape, x.dtype, *[array.dtype for array in targets.arrays]
        step = self.steps.get(key)
        if step is None:
            self.steps[key] = step = self._new_step(x, targets)
        step.take_in(x, targets)
        return step

    def new_update(self, rows: int, optimizer: Optimizer, ema: Average | None) -> Update:
        """Return the update by these two, from so many rows of gradients."""
        if not any(layer._trains(name) for layer, named in self.gradients_by_layer[0].items() for name in named):
            raise ValueError(
                "Trainer: model: expected a model with parameters to train; got one that has none, or frozen ones"
            )
        return Update(self.model, self.gradients, rows, self.number, optimizer, ema)

    def images(self, n: int) -> slice:
        """Return which images of a batch of `n` this process looks at."""
        return slice(0, n)

    def _new_step(self, x: Array, targets: Targets) -> Step:
        return Step(self, x, targets)

    def settle(self) -> int | None:
        """Take back a step that an exception has interrupted, or end it if its update is done; return the steps taken.

        None if no step is under way. If `settle` is itself interrupted, it is called again.
        """
        parallel.drain()
        if self.underway is None:
            return None
        number, things, before = self.underway
        taken = int(self.number[0] == ~number)
        if before is not None and not taken:
            before.restore()
        for thing, steps in things:
            thing.steps = steps + taken
            thing._rates_are_stale()
        self.underway = None
        return number + taken

    def slices(self, n: int) -> list[tuple[int, int]]:
        """Return the slices of a batch of `n`: by its work alone, never by the number of threads."""
        if n not in self._slices:
            least = max(SHARD_WORK, ROW_WORK * self.parameters)
            worthwhile = min(SHARDS, n, int(n * self.work / least))
            count = 1 << (max(1, worthwhile).bit_length() - 1)
            self._slices[n] = [(s * n // count, (s + 1) * n // count) for s in range(count)]
        return self._slices[n]

    def workspace(self, shard: int, worker: int) -> Workspace:
        """Return the buffers of a worker, with the shard's own where shards wait for each other."""
        place = (shard if self.graph.sync_points else worker), worker
        if place not in self.workspaces:
            own, shared = ("own", place[0]), ("shared", worker)
            self.workspaces[place] = allocate(self.graph, *(self.stores.setdefault(key, {}) for key in (own, shared)))
        return self.workspaces[place]

    def divided_workspace(self, plan: Plan, shard: int) -> Workspace:
        """Return the buffers of a shard that several threads work on, for a `roomy` plan."""
        divided = self.stores.setdefault(("divided", shard), {})  # one attribute more slowed the look-up of all
        if not divided:
            images = self.workspace(0, 0).values[0] if shard == 0 else None  # batches may be copied there
            divided["workspace"] = allocate_divided(plan, self.stores.setdefault(("own", shard), {}), images)
        workspace: Workspace = divided["workspace"]
        return workspace

    def forget_syncs(self) -> None:
        """Let the next syncs be recorded anew."""
        self.syncs.clear()
        for step in self.steps.values():
            step.whole.clear()

    def at_sync(self, slices: list[tuple[int, int]]) -> list[tuple[int, Workspace]]:
        """Return the size and the memory of each shard, in order."""
        return [(last - first, self.at_shard(s)) for s, (first, last) in enumerate(slices)]

    def at_shard(self, shard: int) -> Workspace:
        """Return a workspace with what a shard saves, however it is worked on."""
        divided: Workspace | None = self.stores.get(("divided", shard), {}).get("workspace")
        return divided or self.workspace(shard, 0)


# A step that has begun, and what is needed to take it back: its number, which is that of the steps taken before; the
# optimizer and the average with their steps before; copies of what was before. What a step changes for good it changes
# all at once, in the last native call, which also inverts `Program.number`: after an exception at any moment that tells
# whether the step was taken. Only where Python has a part in the update or in running statistics are there copies.
Underway = tuple[int, Sequence[tuple[FlatState, int]], Snapshot | None]


class Step:
    """The steps on batches of one shape and dtype, with targets of one kind.

    The recorded calls read the images where `source` says that they are, and the targets in `targets`.
    """

    def __init__(self, program: Program, x: Array, targets: Targets) -> None:
        self.program, self.n, self.slices = program, len(x), program.slices(len(x))
        self.targets = targets._replace(arrays=tuple(map(owned, targets.arrays)))
        self.images, self.is_loaded = self._place(x)
        self.source, self.like = owned(np.array([program.small.ctypes.data])), np.zeros(0, x.dtype)
        self.totals = program.totals[: len(self.slices)]
        self.shards = self._own_shards()
        self.preparation = parallel.Tasks([[call] for call in schedule.prepare_calls(program.graph)])
        self.late = {
            stage: parallel.Tasks([[call] for call in schedule.late_calls(program.graph, stage)])
            for stage in program.graph.late
        }
        self.stage_sums = program.stage_sums.tasks(program.gradients, len(self.slices)) if program.stage_sums else []
        self.whole_shards = WholeShards(self.shards, self._calls)
        self.divisions: dict[int, Division] = {}  # by parts of a shard
        self.update: Update | None = None
        self.whole: dict[int, Tape | parallel.Jobs | None] = {}  # all that a step on so many threads does, as one call

    def _own_shards(self) -> range:
        """Return the shards that are computed in this process."""
        return range(len(self.slices))

    def release(self) -> None:
        """Part from what knows this step: else both would wait for the collector."""
        self.divisions.clear()
        del self.whole_shards

    def _place(self, x: Array) -> tuple[Array | None, bool]:
        """Return where batches are copied to, if they are, and whether that is the network's first value already."""
        workspace = self.program.workspace(0, 0)
        is_held = len(self.slices) == 1 and not self.program.graph.sync_points
        # Not asked of a view's flags: NumPy calls one image contiguous, whatever halo lies around it.
        if is_held and x.dtype == workspace.input.dtype and self.program.graph.values[0].is_public:
            return workspace.values[0][: x.size].reshape(x.shape), True
        return np.ndarray(x.shape, x.dtype, self.program.small) if x.nbytes <= COPIED else None, False

    def take_in(self, x: Array, targets: Targets) -> None:
        """Put a batch where the recorded calls read it."""
        if self.images is None:
            self.source[0] = x.ctypes.data
        else:
            self.images[...] = x
        for place, array in enumerate(targets.arrays):
            self.targets.arrays[place][...] = array
        if targets[1:] != self.targets[1:]:
            self.targets = targets._replace(arrays=self.targets.arrays)

    def train(self, number: int, optimizer: Optimizer, ema: Average | None, threads: int) -> tuple[float, float]:
        """Take the step of this `number`; return loss and accuracy before it.

        The program's `underway` is left to the caller, who takes it away when its own numbers are those of after it.
        """
        program, update = self.program, self.update
        self.totals.fill(0)
        program.number[0] = number
        if update is None or not update.is_for(optimizer, ema):
            self.whole.clear()
            self.update = update = self._new_update(optimizer, ema)
            if not program.rehearsed:
                self._rehearse(update)
                program.rehearsed = True
        whole = self.whole.get(threads)
        if whole is not None:
            program.underway = number, update.steps(), None
            update.begin()
            whole.play()
            return self._means()
        program.underway = number, update.steps(), update.snapshot(threads)
        self._forward_and_backward(threads)
        self._reduce(threads)
        update.begin()
        update.run(threads)
        if threads not in self.whole and self._is_recorded(threads):
            self.whole[threads] = self._join(update, threads)
        return self._means()

    def _new_update(self, optimizer: Optimizer, ema: Average | None) -> Update:
        return self.program.new_update(1 if self.stage_sums else len(self.slices), optimizer, ema)

    def _reduce(self, threads: int) -> None:
        """Do what comes before the update, which sums the rows of all shards: nothing, but between ranks."""

    def measure(self, threads: int) -> tuple[float, float]:
        """Return loss and accuracy of the model as it predicts."""
        self.totals.fill(0)
        self.preparation.run(min(threads, len(self.slices)))
        self.run("measure", 0, threads)
        return self._means()

    def take_in_statistics(self, threads: int) -> None:
        """Let batch norms take in the statistics of the batch, as a step of training does, and do no more."""
        for context, (first, _) in zip(self.program.contexts, self.slices, strict=False):
            context.first = first
        self.preparation.run(min(threads, len(self.slices)))
        for stage in range(len(self.program.graph.sync_points)):
            self.run("forward", stage, threads)
            self._meet("meet_forward", stage)

    def _means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the batch from its shards' totals, added up in their order."""
        totals, *others = self.totals.tolist()
        for other in others:
            totals = [mine + theirs for mine, theirs in zip(totals, other, strict=True)]
        loss, counted = self.program.loss, self.targets.counted
        counted = self.n if counted is None else counted
        accuracy = totals[1] / counted if loss.has_accuracy and counted else float("nan")
        return loss.mean(self.targets, totals), accuracy

    def _is_recorded(self, threads: int) -> bool:
        """Tell whether every worker has recorded every shard."""
        division = self._division(threads)
        if division is not None:
            return division.is_recorded()
        taken = [part for part in self._parts() if part[0] in {"forward", "backward"}]
        return all(self.whole_shards.is_recorded(*part, threads) for part in taken)

    def _join(self, update: Update, threads: int) -> Tape | parallel.Jobs | None:
        """Return one record of the whole step, if it is nothing but kernels."""
        if update.clips:
            return None
        stages = [record for direction, stage in self._parts() for record in self._records(direction, stage, threads)]
        return one_call([self.preparation.part(self._preparing(threads)), *stages, *update.parts(threads)])

    def _preparing(self, threads: int) -> int:
        """Return how many threads bring the parameters into the kernels' order."""
        return threads if self._division(threads) else min(threads, len(self.slices))

    def _division(self, threads: int) -> Division | None:
        """Return the tasks for so many threads, if they are more than there are shards for; else None."""
        count = self._parts_for(threads)
        if count == 1:
            return None
        if count not in self.divisions:
            self.divisions[count] = self._divide(count)
        return self.divisions[count]

    def _parts_for(self, threads: int) -> int:
        """Return into how many parts each shard is cut for so many threads; 1 where whole shards do."""
        program, shards = self.program, self.shards
        # A rank has some of the shards. Where a batch makes fewer than it could, its work is little for many threads.
        enough = len(shards) if len(shards) < len(self.slices) else SHARDS
        if threads <= enough or not (program.loss.replayable and all(op.replayable for op in program.graph.ops)):
            return 1
        images = [last - first for first, last in self.slices[shards.start : shards.stop]]
        return parts_for(images, program.work, threads, enough)

    def _divide(self, count: int) -> Division:
        """Return the tasks of shards that are cut into so many parts."""
        program, plan, shards = self.program, roomy(self.program.graph), []
        for shard in self.shards:
            first, last = self.slices[shard]
            context = RunContext(first=first, number=program.number)
            workspace = program.divided_workspace(plan, shard)
            gradients = program.gradients_by_layer[shard]
            shards.append(DividedShard(shard, last - first, workspace, context, gradients, {}))
        load = None if self.is_loaded else self._load_part
        return Division(Divider(plan, shards, count), load, self._end_of, bool(self.stage_sums))

    def _load_part(self, n: int, workspace: Workspace, shard: DividedShard, context: RunContext) -> Call:
        arguments = self.program.graph, self.source, self.like, context.first, n, workspace
        return Call(KernelCalls(), load_from, arguments)

    def _end_of(self, shard: DividedShard) -> Call:
        arguments = shard.context.first, shard.n, shard.workspace, self.program.totals[shard.number]
        return Call(self.program.loss, self._evaluate, arguments)

    def _records(self, direction: str, stage: int, threads: int) -> list[Tape | IntArray | None]:
        """Return the records of a part of the step as parts of `Jobs`."""
        division = self._division(threads)
        if division is not None and (direction, stage) in division.phases:
            return division.records(direction, stage, threads)
        return [self._part(direction, stage, threads)]

    def _part(self, direction: str, stage: int, threads: int) -> Tape | IntArray | None:
        """Return the record of a stage, of a sync or of a sum, as a part of `Jobs`, if it is nothing but kernels."""
        if direction == "sum":
            return self.stage_sums[stage].part(threads)
        if direction == "prepare":
            return self.late[stage].part(threads)
        sync = self.program.syncs.get((direction, stage, self.n))
        if sync is not None:
            return parallel.part_of_jobs([[sync]])
        return self.whole_shards.record(direction, stage, threads)

    def _parts(self) -> Iterator[tuple[str, int]]:
        """Yield direction and stage of all that is done between preparation and update, in its order."""
        last = len(self.program.graph.sync_points)
        for stage in range(last):
            yield from [("forward", stage), ("meet_forward", stage)]
        yield from [("forward", last), *self._sum(last)]
        for stage in range(last - 1, -1, -1):
            late = [("prepare", stage)] if stage in self.late else []
            yield from [("meet_backward", stage), *late, ("backward", stage), *self._sum(stage)]

    def _sum(self, stage: int) -> list[tuple[str, int]]:
        """Return the part that sums up the gradients of a stage, if there is one before the update."""
        return [("sum", stage)] if self.stage_sums and self.stage_sums[stage].tasks else []

    def _forward_and_backward(self, threads: int) -> None:
        """Run the operations on all shards, stage by stage."""
        for context, (first, _) in zip(self.program.contexts, self.slices, strict=False):
            context.first = first
        self.preparation.run(self._preparing(threads))
        for direction, stage in self._parts():
            if direction.startswith("meet"):
                self._meet(direction, stage)
            elif direction == "sum":
                self.stage_sums[stage].run(threads)
            elif direction == "prepare":
                self.late[stage].run(threads)
            else:
                self.run(direction, stage, threads)

    def _meet(self, direction: str, stage: int) -> None:
        """Let the operation at the end of a stage see all shards; what the first time records is repeated later."""
        syncs, key = self.program.syncs, (direction, stage, self.n)
        if key in syncs:
            syncs[key].play()
            return
        syncs[key] = record_calls(self._sync_calls(direction, stage))

    def _sync_calls(self, direction: str, stage: int) -> Iterator[Call]:
        """Yield the call of a sync; none backward where nothing before it is trained."""
        op = self.program.graph.ops[self.program.graph.sync_points[stage]]
        if direction == "meet_forward":
            yield Call(op, op.sync_forward, (self.program.at_sync(self.slices),))
        elif self.program.graph.goes_back(op):
            yield Call(op, op.sync_backward, (self.program.at_sync(self.slices),))

    def _rehearse(self, update: Update) -> None:
        rehearse(self._all_calls(update))

    def _all_calls(self, update: Update) -> Iterator[Call]:
        """Yield the calls of a step, of the first shard: the others need the same kernels."""
        yield from schedule.prepare_calls(self.program.graph)
        for direction, stage in self._parts():
            if direction.startswith("meet"):
                yield from self._sync_calls(direction, stage)
            elif direction == "sum":
                yield from self.stage_sums[stage].tasks[0]
            elif direction == "prepare":
                yield from schedule.late_calls(self.program.graph, stage)
            else:
                yield from self._calls(direction, stage, self.shards[0] if self.shards else 0, 0)
        for each in ([update.norm] if update.clips else []) + update.passes:
            for task in each.tasks:
                yield from task

    def run(self, direction: str, stage: int, threads: int) -> None:
        """Run a stage of all shards: without Python, as soon as it is recorded."""
        division = self._division(threads)
        if division is not None and (direction, stage) in division.phases:
            division.run(direction, stage, threads)
        else:
            self.whole_shards.run(direction, stage, threads)

    def _calls(self, direction: str, stage: int, shard: int, worker: int) -> Iterator[Call]:
        """Yield the calls of a stage; the last one forward goes on with the loss, and back again."""
        program, graph = self.program, self.program.graph
        first, last = self.slices[shard]
        n, workspace, context = last - first, program.workspace(shard, worker), program.contexts[shard]
        load = Call(KernelCalls(), load_from, (graph, self.source, self.like, first, n, workspace))
        begin = [] if self.is_loaded else [load]
        end = Call(program.loss, self._evaluate, (first, n, workspace, program.totals[shard]))
        if direction == "measure":
            predicting = RunContext(training=False)
            program.forget_syncs()  # operations keep what they have predicted with, until the next sync that is held
            yield from begin
            for number in range(len(graph.sync_points) + 1):
                yield from schedule.forward_calls(graph, number, n, workspace, predicting)
            yield end
            return
        if direction == "forward":
            if stage == 0:
                yield from begin
            yield from schedule.forward_calls(graph, stage, n, workspace, context)
            if stage < len(graph.sync_points):
                return
            yield end
        yield from schedule.backward_calls(graph, stage, n, workspace, program.gradients_by_layer[shard], context)

    def _evaluate(self, first: int, n: int, workspace: Workspace, totals: Array) -> None:
        """Let the loss see a shard, with the targets that stand here now."""
        self.program.loss.evaluate(self.program.end, n, workspace, self.targets, first, totals)
