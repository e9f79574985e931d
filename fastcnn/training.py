"""The training step: shards of the batch through the blocks and back, gradients summed in order, one update."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import parallel
from .averaging import ExponentialMovingAverage
from .kernels import update as update_kernels
from .kernels.tape import Tape
from .layers import checks
from .layers.base import Layer
from .layers.block import Call, Gradients, Graph, Memory, Pass, Store, record_calls
from .layers.layout import aligned_zeros
from .losses import LOSSES, End, Loss, Targets
from .model import Sequential
from .optimizers import SGD, Optimizer
from .typing import Array, IntArray, RandomState

if TYPE_CHECKING:
    from .augmentation import Augmentation
    from .callbacks import Callback
    from .history import History
    from .loop import Evaluation

SHARDS = 8  # the most slices of a batch: each has a gradient vector of its own
SHARD_WORK = 20e6  # floating-point operations below which a slice is not worth a hand-over to a thread
SWEEP = 1 << 17  # numbers that are worth a thread in the update


class Trainer:
    """Trains a model step by step.

    Parameters
    ----------
    model : Sequential
        Built already, or built by the first step from the batch's shape.
    loss : str or Loss
        "cross_entropy", "binary_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber", or a loss with
        arguments of its own.
    optimizer : Optimizer, optional
        `SGD(learning_rate=0.01)` if not given.
    schedule : Schedule or function, optional
        At the beginning of each step, `optimizer.learning_rate = schedule(steps)`, with the steps taken before it.
    ema : ExponentialMovingAverage, optional
        Averages the parameters: updated after each step.
    threads : int, optional
        The most threads of a step; `fastcnn.get_num_threads()` if not given. The bits are the same for any number.
    random_state : None, int, RandomState or Generator
        For the parameters of a model that is not built yet, then for the order and the augmentation of `fit`.

    Attributes
    ----------
    accuracy : float
        Share of the last batch that the model had right before the step (sample weights do not count); of answers in
        multi-label classification; NaN in regression.
    steps : int
        How many steps were taken; a part of the seed of each step's random numbers, and what a schedule goes by.
    epochs : int
        How many epochs `fit` has trained, in all its calls: each has an order of its own.
    history : History or None
        Of the last `fit`, also if it ended with an exception.

    Notes
    -----
    A step trains all parameters, and all layers compute as in training. To train only the last layers, as in transfer
    learning, let a model of the first ones predict their input once, and train a model of the others on that.
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss = "cross_entropy",
        optimizer: Optimizer | None = None,
        threads: int | None = None,
        random_state: RandomState = None,
        *,
        schedule: Callable[[int], float] | None = None,
        ema: ExponentialMovingAverage | None = None,
    ) -> None:
        _expect(model, Sequential, "model", "a Sequential")
        _expect(optimizer, Optimizer | None, "optimizer", "an Optimizer")
        _expect(schedule, Callable | None, "schedule", "a function of the step")
        _expect(ema, ExponentialMovingAverage | None, "ema", "an ExponentialMovingAverage")
        self.model = model
        self.loss = _as_loss(loss)
        self.optimizer = SGD() if optimizer is None else optimizer
        self.schedule, self.ema = schedule, ema
        self.threads = None if threads is None else parallel.check_threads(threads)
        self.random_state = random_state
        self.accuracy = float("nan")
        self.steps = 0
        self._weight = float("nan")  # of the last batch: by it the means of batches add up to that of an epoch
        self.epochs = 0
        self.history: History | None = None
        self._plan: _Plan | None = None
        if model.input_shape is not None:
            self._bind()

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int,
        batch_size: int | None = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight: Any = None,
        augmentation: Augmentation | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: int = 1,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        X : array of shape (N, C, H, W) or (N, D), or iterable of batches
            A memory map is read batch by batch; uint8 is scaled to [0, 1] batch by batch. Without `y`: anything that
            yields the batches of an epoch, (x, y) or (x, y, weight), each time it is iterated.
        y : array of length N
            As `step` takes it.
        epochs : int
        batch_size : int
            The last batch of an epoch may be smaller.
        X_val, y_val : array, or X_val alone an iterable of batches
            Measured after every epoch; they choose nothing, unless a callback does.
        sample_weight : array of shape (N,), optional
        augmentation : Augmentation, optional
        callbacks : sequence of Callback
        verbose : int
            0 for silence; else a line an epoch, and on a terminal a progress bar.

        Returns
        -------
        History
            Loss, accuracy, validation, learning rate and speed of each epoch.

        Raises
        ------
        ValueError
            If the data hold NaN or infinity: before the first step, or in batches of one's own, before that batch's.
        FloatingPointError
            If the loss or a weight is not finite after a step; the weights are those from before it.

        Notes
        -----
        Each epoch has an order of its own, which depends on `random_state` and the number of the epoch alone. The same
        seed gives the same bits, for any number of threads, from arrays or a memory map.

        Ctrl-C ends the fit after the current step, with the history and the weights so far; a second one interrupts at
        once. The trainer can go on after whatever ended a fit.
        """
        from .loop import fit

        return fit(
            self, X, y, epochs=epochs, batch_size=batch_size, X_val=X_val, y_val=y_val, sample_weight=sample_weight,
            augmentation=augmentation, callbacks=callbacks, verbose=verbose,
        )  # fmt: skip

    def evaluate(
        self, X: Any, y: Any = None, *, batch_size: int | None = None, sample_weight: Any = None
    ) -> Evaluation:
        """Return mean loss and accuracy of the model, as it predicts, on arrays or an iterable of batches."""
        from .loop import evaluate

        return evaluate(self, X, y, batch_size=batch_size, sample_weight=sample_weight)

    def step(self, x: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Take one step on a batch and return its loss before the step.

        Parameters
        ----------
        x : array of shape (N, C, H, W) or (N, D)
            Real numbers; uint8 is scaled to [0, 1].
        y : array
            What the loss wants: integer classes (N,), or rows (N, K), or numbers in the shape of the output.
        sample_weight : array of shape (N,), optional
            At least 0. The loss is the weighted mean over the batch, see `Loss`.
        """
        x = _as_batch(x)
        n = len(x)
        plan = self._planned(x)
        targets = self.loss.targets(plan.end, y, n, sample_weight)
        batch = plan.batch(targets, x)
        graph, cuts, stages = plan.graph, batch.cuts, len(plan.graph.cuts)
        threads = self.threads or parallel.get_num_threads()
        for run, (first, _) in zip(plan.passes, cuts, strict=False):
            run.step, run.first = self.steps, first
        batch.play("prepare")
        for stage in range(stages + 1):
            if stage:
                graph.blocks[graph.cuts[stage - 1]].meet_forward(plan.meeting(cuts))
            batch.run("forward", stage, threads)
        for stage in range(stages - 1, -1, -1):
            graph.blocks[graph.cuts[stage]].meet_backward(plan.meeting(cuts))
            batch.run("backward", stage, threads)
        loss, accuracy = self._means(plan, targets, len(cuts), n)
        if self.schedule is not None:
            self.optimizer.learning_rate = float(self.schedule(self.steps))
        self._update(plan, len(cuts), threads)
        self.accuracy, self.steps, self._weight = accuracy, self.steps + 1, targets.weight
        return loss

    def _means(self, plan: _Plan, targets: Targets, shards: int, n: int) -> tuple[float, float]:
        """Return mean loss and accuracy of a batch from its shards' totals."""
        totals, *others = plan.totals[:shards].tolist()
        for other in others:
            totals = [mine + theirs for mine, theirs in zip(totals, other, strict=True)]
        accuracy = totals[1] / n if self.loss.has_accuracy else float("nan")
        return self.loss.mean(plan.end, targets, totals), accuracy

    def _measure(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[float, float, float]:
        """Return loss and accuracy of a batch in prediction mode, and the sum of weights that the loss is a mean by."""
        x = _as_batch(x)
        plan, n = self._planned(x), len(x)
        targets = self.loss.targets(plan.end, y, n, sample_weight)
        graph, cuts, run = plan.graph, plan.cuts(n), Pass(training=False)

        def forward(s: int, worker: int) -> None:
            first, last = cuts[s]
            memory = plan.memory(s, worker)
            graph.load(x[first:last], last - first, memory)
            for block in graph.blocks:
                block.forward(last - first, memory, run)
            plan.totals[s] = 0.0
            self.loss.evaluate(plan.end, last - first, memory, targets, first, plan.totals[s])

        graph.prepare()
        parallel.run(len(cuts), forward, self.threads or parallel.get_num_threads())
        return *self._means(plan, targets, len(cuts), n), targets.weight

    def _update(self, plan: _Plan, shards: int, threads: int) -> None:
        """Sum the shards' gradients and change the parameters; the flat vector is long enough to share, or is not."""
        size, gradients, optimizer, ema = self.model._flat.size, plan.gradients, self.optimizer, self.ema
        pieces = min(SHARDS, 1 + size * shards // SWEEP)
        step = -(-size // (16 * pieces)) * 16
        if ema is not None:
            ema._begin(self.model)
        optimizer._begin(self.model)
        if optimizer.clip_norm is not None:
            squares, scratch = np.zeros(pieces), optimizer._scratch(pieces)

            def add_up(piece: int, worker: int) -> None:
                first, last = piece * step, min((piece + 1) * step, size)
                update_kernels.sum_squares(gradients, shards, size, first, last, scratch, squares, piece)

            parallel.run(pieces, add_up, threads)
            optimizer._clip(squares)

        rows = shards if optimizer.clip_norm is None else 1
        arrays = optimizer._rates, *optimizer._vectors, *(() if ema is None else (ema._rates, *ema._vectors))
        if plan.sweep is None or not plan.sweep.fits(optimizer, arrays, rows, pieces):
            plan.sweep = _Sweep(optimizer, arrays, rows, [])
            for first in range(0, size, step):
                last = min(first + step, size)
                calls = [Call(optimizer, optimizer._update, (gradients, rows, first, last))]
                if ema is not None:
                    calls.append(Call(ema, ema._update, (first, last)))
                plan.sweep.tapes.append(record_calls(calls))
        else:
            plan.sweep.play(threads)

    def _build(self, x: Array) -> None:
        """Build the model from a batch, or from all samples, unless it is built."""
        if self.model.input_shape is None:
            self.model.build(x.shape[1:], random_state=self.random_state)

    @cached_property
    def _seed(self) -> int:
        """What the order and the augmentation of all epochs depend on; drawn when it is first needed."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        generator = checks.as_generator(self.random_state)
        draw = generator.integers if isinstance(generator, np.random.Generator) else generator.randint
        return int(draw(2**31 - 1))

    def _check_modes(self) -> None:
        """Raise if a layer inside is to predict while the model trains: a step cannot hold single layers still."""
        for place, layer in enumerate(self.model.layers):
            if self.model.training and not all(one.training for one in layer._modes()):
                raise ValueError(
                    f"Trainer: model: layer {place} ({layer.name}): expected training = True; got False: a step trains "
                    "all layers; to train some alone, let a model of the others compute their input"
                )

    def _bind(self) -> None:
        """Let the optimizer and the average know their model, so that their state can be read and set."""
        self.optimizer._bind(self.model)
        if self.ema is not None:
            self.ema._bind(self.model)

    def _planned(self, x: Array) -> _Plan:
        """Return the plan for such batches; the last one is kept."""
        model, plan = self.model, self._plan
        if plan is not None and plan.is_for(model, self.loss) and x.shape in plan.shapes:
            return plan
        self._build(x)
        self._check_modes()
        model._check_input(x)
        if plan is None or not (plan.is_for(model, self.loss) and plan.has_room(len(x))):
            self._plan = plan = _Plan(model, self.loss, len(x))
            model.gradients = model._show(plan.gradients[: model._size])
            self._bind()
        plan.shapes.add(x.shape)
        return plan


class _Plan:
    """A model's blocks for training, with memory for each worker and a gradient vector for each shard."""

    def __init__(self, model: Sequential, loss: Loss, n: int) -> None:
        assert model.input_shape is not None
        self.flat, self.loss, self.input_shape = model._flat, loss, model.input_shape
        self.graph = Graph(model.input_shape, 1, model._flat.dtype)
        self.graph.output = model._connect(self.graph, 0)
        loss.attach(self.graph)
        self.work = 6.0 * sum(block.work(self.graph) for block in self.graph.blocks)
        self.shapes: set[tuple[int, ...]] = set()  # of batches that were checked
        self._cuts: dict[int, list[tuple[int, int]]] = {}
        self.graph.images = max(last - first for first, last in self.cuts(n))
        self.graph.finish()
        loss.check_end(self.graph.values[self.graph.output])
        self.end = End(self.graph)
        self.gradients = aligned_zeros(SHARDS * model._size, model._flat.dtype)
        rows = self.gradients.reshape(SHARDS, -1)
        self.gradients_by_layer: list[dict[Layer, Gradients]] = [model._gradients_by_layer(row) for row in rows]
        self.totals = np.zeros((SHARDS, 3))
        self.passes = [Pass() for _ in range(SHARDS)]
        self.memories: dict[tuple[int, int], Memory] = {}
        self.stores: dict[tuple[str, int], Store] = {}
        self.batches: dict[Any, _Batch] = {}
        self.sweep: _Sweep | None = None

    def batch(self, targets: Targets, x: Array) -> _Batch:
        """Return what there is for such batches; the targets are copied to it, and it knows where `x` is."""
        key = len(x), x.dtype.char, *[(array.size, array.dtype.char) for array in targets.arrays]
        batch = self.batches.get(key)
        if batch is None:
            self.batches[key] = batch = _Batch(self, targets, x)
        else:
            for own, array in zip(batch.targets.arrays, targets.arrays, strict=True):
                own[...] = array
        batch.source[0] = x.ctypes.data
        self.totals[...] = 0.0
        return batch

    def cuts(self, n: int) -> list[tuple[int, int]]:
        """Return the slices of a batch of `n`: by its work alone, never by the number of threads."""
        if n not in self._cuts:
            worthwhile = min(SHARDS, n, int(n * self.work / SHARD_WORK))
            count = 1 << (max(1, worthwhile).bit_length() - 1)
            self._cuts[n] = [(s * n // count, (s + 1) * n // count) for s in range(count)]
        return self._cuts[n]

    def is_for(self, model: Sequential, loss: Loss) -> bool:
        """Tell whether it was made for these very parameters and this loss."""
        return self.flat is model._flat and self.loss is loss

    def has_room(self, n: int) -> bool:
        """Tell whether a batch of `n` fits its memory."""
        return max(last - first for first, last in self.cuts(n)) <= self.graph.images

    def memory(self, shard: int, worker: int) -> Memory:
        """Return the buffers of a worker, with the shard's own where shards wait for each other."""
        place = (shard if self.graph.cuts else worker), worker
        if place not in self.memories:
            own, shared = ("own", place[0]), ("shared", worker)
            self.memories[place] = self.graph.allocate(*(self.stores.setdefault(key, {}) for key in (own, shared)))
        return self.memories[place]

    def meeting(self, cuts: list[tuple[int, int]]) -> list[tuple[int, Memory]]:
        """Return the size and the memory of each shard, in order."""
        return [(last - first, self.memory(s, 0)) for s, (first, last) in enumerate(cuts)]


class _Batch:
    """Batches of one length and dtype, with targets of one kind: their slices, and the recorded calls of a step.

    The targets are copied to where the recorded calls read them; `source` has the address of the images.
    """

    def __init__(self, plan: _Plan, targets: Targets, x: Array) -> None:
        self.plan, self.cuts = plan, plan.cuts(len(x))
        self.targets = targets._replace(arrays=tuple(array.copy() for array in targets.arrays))
        self.source, self.like = np.zeros(1, np.int64), np.zeros(0, x.dtype)
        self.tapes: dict[tuple[str, int, int, int], Tape] = {}
        self.tables: dict[tuple[str, int, int], IntArray | None] = {}
        self.turns: dict[tuple[str, int, int], int] = {}

    def run(self, direction: str, stage: int, threads: int) -> None:
        """Run a stage of all shards: without Python, as soon as every worker has recorded every shard."""
        # Back and forth: what was written last is still in the caches.
        shards = range(len(self.cuts))[:: -1 if stage % 2 else 1]
        threads = min(threads, len(shards))
        key = direction, stage, threads
        table = self.tables.get(key)
        if threads == 1:
            for shard in shards:
                self.play(direction, stage, shard)
        elif table is not None:
            parallel.play(table, threads)
        elif key in self.tables:
            parallel.run(len(shards), lambda i, worker: self.play(direction, stage, shards[i], worker), threads)
        else:
            self._take_turns(direction, stage, shards, threads)

    def _take_turns(self, direction: str, stage: int, shards: range, threads: int) -> None:
        """Run a stage, each worker with shards that it has not had in this way before."""
        key = direction, stage, threads
        turn = self.turns.get(key, 0)
        self.turns[key] = turn + 1

        def group(worker: int, _: int) -> None:
            for shard in shards[(worker + turn) % threads :: threads]:
                self.play(direction, stage, shard, worker)

        parallel.run(threads, group, threads)
        tapes = [self.tapes.get((direction, stage, shard, worker)) for worker in range(threads) for shard in shards]
        if None not in tapes:
            calls = [tape.native() for tape in tapes if tape is not None]
            table = None if None in calls else np.array(calls, np.int64).reshape(threads, len(shards), 2)
            self.tables[key] = table

    def play(self, direction: str, stage: int = 0, shard: int = 0, worker: int = 0) -> None:
        """Run a stage of a shard; what the first time records is repeated later."""
        key = direction, stage, shard, worker
        tape = self.tapes.get(key)
        if tape is None:
            self.tapes[key] = record_calls(self._calls(*key))
        else:
            tape.play()

    def _calls(self, direction: str, stage: int, shard: int, worker: int) -> Iterator[Call]:
        """Yield the calls of a stage; the last one forward goes on with the loss, and back again."""
        plan, graph = self.plan, self.plan.graph
        if direction == "prepare":
            yield from graph.prepare_calls()
            return
        first, last = self.cuts[shard]
        n, memory, run = last - first, plan.memory(shard, worker), plan.passes[shard]
        if direction == "forward":
            if stage == 0:
                yield Call(graph, graph.load_from, (self.source, self.like, first, n, memory))
            yield from graph.forward_calls(stage, n, memory, run)
            if stage < len(graph.cuts):
                return
            arguments = plan.end, n, memory, self.targets, first, plan.totals[shard]
            yield Call(plan.loss, plan.loss.evaluate, arguments)
        yield from graph.backward_calls(stage, n, memory, plan.gradients_by_layer[shard], run)


class _Sweep(NamedTuple):
    """The recorded update, in pieces of the flat vector.

    Attributes
    ----------
    optimizer : Optimizer
    arrays : tuple of array
        What the optimizer and the average work on: with others the record is void.
    rows : int
        Gradients that are summed.
    tapes : list of Tape
        One a piece.
    """

    optimizer: Optimizer
    arrays: tuple[Array, ...]
    rows: int
    tapes: list[Tape]

    def fits(self, optimizer: Optimizer, arrays: tuple[Array, ...], rows: int, pieces: int) -> bool:
        """Tell whether this is the update of these very arrays."""
        same = len(arrays) == len(self.arrays) and all(map(operator.is_, arrays, self.arrays))
        return optimizer is self.optimizer and same and rows == self.rows and pieces == len(self.tapes)

    def play(self, threads: int) -> None:
        """Update all pieces."""
        threads = min(threads, len(self.tapes))
        calls = [tape.native() for tape in self.tapes]
        if threads == 1 or None in calls:
            parallel.run(len(self.tapes), lambda piece, worker: self.tapes[piece].play(), threads)
        else:
            parallel.play(np.array([calls] * threads, np.int64), threads)


def _as_batch(x: Any) -> Array:
    """Return a batch as real numbers, C-ordered; uint8 stays."""
    array = np.asarray(x)
    return np.ascontiguousarray(array if array.dtype == np.uint8 else checks.as_images(array, "Trainer", "x"))


def _as_loss(loss: Any) -> Loss:
    """Return a loss, given or called by its name."""
    _expect(loss, str | Loss, "loss", f"a Loss or one of {sorted(LOSSES)}")
    if isinstance(loss, str) and loss not in LOSSES:
        raise ValueError(f"Trainer: loss: expected one of {sorted(LOSSES)}; got {loss!r}")
    return LOSSES[loss]() if isinstance(loss, str) else loss


def _expect(value: Any, kind: Any, argument: str, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"Trainer: {argument}: expected {wanted}; got {value!r}")
