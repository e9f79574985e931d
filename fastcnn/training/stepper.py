"""`Stepper`: a model, a loss and an optimizer, and the steps that they take on batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from .. import caller, checks, hints, markup
from ..history import History
from ..losses import LOSSES, Loss
from ..model import Sequential
from ..optim.averaging import Average
from ..optim.optimizer import Optimizer
from ..optim.optimizers import OPTIMIZERS, SGD
from ..optim.schedules import SCHEDULES, NamedSchedule
from ..ranks.communicator import Communicator
from ..runtime import threads as parallel
from ..settings import Setting
from ..typing import Array, RandomState
from .step import Program, Step


def _expect(value: Any, kind: Any, argument: str, wanted: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"Trainer: {argument}: expected {wanted}; got {value!r}")


def _instance(kind: Any, wanted: str) -> Setting[Any]:
    """Return a setting that is an instance of `kind`."""

    def check(value: Any, owner: str, name: str) -> Any:
        _expect(value, kind, name, wanted)
        return value

    return Setting(check)


class Stepper:
    """Takes steps and measures batches: what a `Trainer` is made of, below its loop of epochs."""

    model: Setting[Sequential] = _instance(Sequential, "a Sequential")
    loss: Setting[Loss] = Setting(lambda value, owner, name: _as_loss(value))
    optimizer: Setting[Optimizer] = Setting(lambda value, owner, name: _as_optimizer(value))
    schedule: Setting[Callable[[int], float] | None] = Setting(lambda value, owner, name: _as_schedule(value))
    ema: Setting[Average | None] = _instance(Average | None, "an ExponentialMovingAverage or a Lookahead")
    threads: Setting[int | None] = Setting(
        lambda value, owner, name: None if value is None else parallel.check_threads(value)
    )
    random_state: Setting[RandomState] = Setting(lambda value, owner, name: value)
    communicator: Setting[Communicator | None] = Setting(lambda value, owner, name: _as_communicator(value))

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss = "cross_entropy",
        optimizer: str | Optimizer | None = None,
        threads: int | None = None,
        random_state: RandomState = None,
        *,
        schedule: str | Callable[[int], float] | None = None,
        ema: Average | None = None,
        communicator: Any = None,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.communicator = communicator
        self.schedule, self.ema, self.threads, self.random_state = schedule, ema, threads, random_state
        self._changed("threads")
        self.accuracy = float("nan")
        self.steps = 0
        self._weight = float("nan")  # of the last batch: by it the means of batches add up to that of an epoch
        self._counted: int | None = None  # predictions of the last batch; None for one a sample
        self.epochs = 0
        self.history: History | None = None
        self._drawn: int | None = None  # the seed
        self._run = ""  # the fit whose checkpoint this trainer has begun
        self._program: Program | None = None  # that of the last batch
        self._programs: list[Program] = []  # it, and those before it for batches of other lengths
        if model.input_shape is not None:
            self._bind()

    def step(self, x: Any, y: Any, *, sample_weight: Any = None) -> float:
        """Take one step on a batch and return its loss before the step.

        Parameters
        ----------
        x : array of shape (N, C, H, W) or (N, D)
            Real numbers; uint8 is scaled to [0, 1].
        y : array
            What the loss wants: integer classes (N,), of pixels (N, H, W), or rows (N, K), or numbers in the shape of
            the output.
        sample_weight : array of shape (N,), optional
            At least 0. The loss is the weighted mean over the batch, see `Loss`.

        Notes
        -----
        Targets and weights are copied before they are checked; another thread may overwrite `x`, `y` and the weights at
        any moment. A large `x` is read where it is: then a step sees old and new pixels, and the memory must stay, as
        NumPy sees to unless `x.resize(refcheck=False)` is called.
        """
        if self.communicator is not None and not self.communicator.is_together:
            with self.communicator.together():
                return self.step(x, y, sample_weight=sample_weight)
        model, _, optimizer, schedule, ema, threads = self._parts
        with model._lock:
            try:
                x = _as_batch(x)  # which lives until the step is taken: recorded calls know its address
                step = self._step(x, y, sample_weight)
                if schedule is not None:
                    optimizer._take_rate(float(schedule(self.steps)))
                loss, self.accuracy = step.train(self.steps, optimizer, ema, threads or parallel.get_num_threads())
                self.steps, targets = self.steps + 1, step.targets
                self._weight, self._counted = targets.weight, targets.counted
                step.program.underway = None
                return loss
            except BaseException:
                try:
                    self._settle()
                finally:  # a second Ctrl-C may have come in between
                    self._settle()
                raise

    def _release(self) -> None:
        """Give back the memory of steps; the next step makes a program anew."""
        with self.model._lock:
            last, known = self._program, self._programs
            self._program, self._programs = None, []
            for program in known if last is None or last in known else [*known, last]:
                program.release()

    def _settle(self) -> None:
        """Take back, or end, a step that an exception has interrupted."""
        taken = None if self._program is None else self._program.settle()
        if taken is not None:
            self.steps = taken

    def _measure(self, x: Any, y: Any, sample_weight: Any = None) -> tuple[float, float, float, int]:
        """Return loss and accuracy of a batch in prediction mode, and what both are means by: weights, predictions."""
        with self.model._lock:
            x = _as_batch(x)
            step = self._step(x, y, sample_weight)
            loss, accuracy = step.measure(self.threads or parallel.get_num_threads())
            counted = step.targets.counted
            return loss, accuracy, step.targets.weight, len(x) if counted is None else counted

    def _take_in_statistics(self, x: Any, y: Any, sample_weight: Any = None) -> None:
        """Let batch norms take in the statistics of a batch, and change nothing else."""
        with self.model._lock:
            x = _as_batch(x)
            self._step(x, y, sample_weight).take_in_statistics(self.threads or parallel.get_num_threads())

    def _step(self, x: Array, y: Any, sample_weight: Any) -> Step:
        """Return what there is for such a batch, with this one in it, checked."""
        program = self._program_of(x)
        return program.step(x, program.loss.targets(program.end, y, len(x), sample_weight))

    if not TYPE_CHECKING:  # which would take any name for one of a trainer

        def __getattr__(self, name: str) -> NoReturn:
            """Raise: a trainer has no such attribute; perhaps it has what is meant under another name."""
            if hasattr(type(self), name):  # a property, whose own error comes again
                object.__getattribute__(self, name)
            raise hints.no_attribute(self, name)

    def __repr__(self) -> str:
        """Return what is trained, and how."""
        parts = {"loss": self.loss, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}
        shown = [f"{name}={part!r}" for name, part in parts.items() if part is not None]
        return f"{type(self).__name__}({', '.join([f'{self.model.name} of {len(self.model)} layers', *shown])})"

    def _repr_html_(self) -> str:
        """Return what is trained and how, the model and the history folded, for a notebook."""
        parts = {"loss": self.loss, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}
        rows: list[tuple[str, Any]] = [(name, part) for name, part in parts.items() if part is not None]
        rows += [("epochs", f"{self.epochs:,}"), ("steps", f"{self.steps:,}")]
        history = "" if self.history is None else markup.fold("history", self.history._repr_html_(), opened=True)
        title = f"<p>{markup.text(type(self).__name__)}</p>"
        return markup.framed(title + markup.facts(rows) + self.model._repr_html_() + history)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out programs and buffers; carry what optimizer and average remember, which they leave out."""
        with self.model._lock:
            self._settle()
            if self.ema is not None:
                self.ema._expect_own("pickle")
            if self.model.input_shape is not None:
                self._drawn = self._seed  # now, so that the copy has the same orders and augmentation
            remembered = {
                name: thing.get_state()
                for name, thing in (("optimizer", self.optimizer), ("ema", self.ema))
                if thing is not None and thing._model is self.model
            }
            return {**vars(self), "_program": None, "_programs": [], "communicator": None, "_remembered": remembered}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Let optimizer and average go on where those of the original were."""
        remembered = state.pop("_remembered")
        vars(self).update(state)
        for name, numbers in remembered.items():
            thing = state[name]
            thing._bind(self.model)
            thing.set_state(numbers)

    def _build(self, x: Array) -> None:
        """Build the model from a batch, or from all samples, unless it is built."""
        with self.model._lock:
            if self.model.input_shape is None:
                self.model._build_unasked(x.shape[1:], random_state=self.random_state)
                if words := checks.channels_last_words(x.shape[1:]):
                    caller.warn(f"Trainer: X: {words}")
                if self.communicator is not None and not isinstance(self.random_state, int | np.integer):
                    from .facts import share_start

                    share_start(self.communicator, self.model)

    @property
    def _seed(self) -> int:
        """What the order and the augmentation of all epochs depend on; drawn when it is first needed."""
        if self._drawn is None:
            drawn = self._draw_seed()
            if self.communicator is not None and not isinstance(self.random_state, int | np.integer):
                drawn = int(self.communicator.first(str(drawn).encode()))
            self._drawn = drawn
        return self._drawn

    def _draw_seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            if not 0 <= self.random_state < 1 << 64:
                raise ValueError(
                    f"Trainer: random_state: expected an int of at least 0, below 2⁶⁴; got {self.random_state}"
                )
            return int(self.random_state)
        return checks.draw_seed(self.random_state, 2**31 - 1)

    def _changed(self, name: str) -> None:
        """Take in that an attribute was set."""
        # Read by each step, at once: attributes that are checked take longer.
        self._parts = self.model, self.loss, self.optimizer, self.schedule, self.ema, self.threads
        if name == "random_state":
            self._drawn = None
        if name == "communicator":
            self._program = None

    def _bind(self) -> None:
        """Let the optimizer and the average know their model, so that their state can be read and set."""
        self.optimizer._bind(self.model)
        if self.ema is not None:
            self.ema._bind(self.model)

    def _program_of(self, x: Array) -> Program:
        """Return the program for such batches; the last one is kept."""
        parts, program = self._parts, self._program
        model, loss = parts[0], parts[1]
        if program is not None and program.underway is not None:
            self._settle()
        if program is not None and program.is_for(model, loss) and x.shape in program.shapes:
            return program
        self._build(x)
        model._check_input(x)
        program = self._program_for(len(x))
        program.shapes.add(x.shape)
        return program

    def _program_for(self, n: int) -> Program:
        """Return a program with room for a batch of `n`; the model is built."""
        model, loss, program = self.model, self.loss, self._program
        if program is None or not (program.is_for(model, loss) and program.has_room(n)):
            known = [] if program is None else [one for one in self._programs if one.is_for(model, loss)]
            program = next((one for one in known if one.has_room(n)), None) or self._new_program(n)
            others = [one for one in known if one.images_as_planned != program.images_as_planned]
            self._programs = [*others, program]
            model._gradients = model._show(program.gradients[: model._size])
            self._bind()
            self._program = program
        return program

    def _own_images(self, n: int) -> slice:
        """Return which images of a batch of `n` this rank looks at; from now on batches are those of a feed."""
        program = self._program_for(n)
        program.is_fed = True
        return program.images(n)

    def _new_program(self, n: int) -> Program:
        if self.communicator is None:
            return Program(self.model, self.loss, n)
        from .facts import check_parts
        from .ranked import RankedProgram

        parts = {name: getattr(self, name) for name in ("loss", "optimizer", "schedule", "ema")}
        self.communicator.expect_processors(self.threads or parallel.asked_threads())
        check_parts(self.communicator, self.model, {**parts, "steps": [self.steps, self.epochs]})
        return RankedProgram(self.model, self.loss, n, self.communicator)


def _as_batch(x: Any) -> Array:
    """Return a batch as real numbers, C-ordered; uint8 stays. The array is a view or copy of its own."""
    array = (x if type(x) is np.ndarray else np.asarray(checks.unmasked(x, "Trainer", "x"))).view()
    return np.ascontiguousarray(array if array.dtype.char == "B" else checks.as_images(array, "Trainer", "x"))


def _as_communicator(communicator: Any) -> Communicator | None:
    """Return the ranks; None if this is the only one."""
    if communicator is None:
        return None
    from ..ranks.mpi import as_communicator

    return as_communicator(communicator)


def _as_optimizer(optimizer: Any) -> Optimizer:
    """Return an optimizer, given or called by its name."""
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
        name = optimizer.__name__
        raise TypeError(f"Trainer: optimizer: expected an Optimizer; got the class {name}: {name}(...) makes one")
    _expect(optimizer, str | Optimizer | None, "optimizer", f"an Optimizer or one of {sorted(OPTIMIZERS)}")
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"Trainer: optimizer: expected one of {sorted(OPTIMIZERS)}; got {optimizer!r}")
        return OPTIMIZERS[optimizer]()
    return SGD() if optimizer is None else optimizer


def _as_schedule(schedule: Any) -> Callable[[int], float] | None:
    """Return a schedule, given or called by its name."""
    _expect(schedule, str | Callable | None, "schedule", f"a Schedule, a function or one of {sorted(SCHEDULES)}")
    return NamedSchedule(schedule) if isinstance(schedule, str) else schedule


def _as_loss(loss: Any) -> Loss:
    """Return a loss, given or called by its name."""
    _expect(loss, str | Loss, "loss", f"a Loss or one of {sorted(LOSSES)}")
    if isinstance(loss, str) and loss not in LOSSES:
        raise ValueError(f"Trainer: loss: expected one of {sorted(LOSSES)}; got {loss!r}")
    return LOSSES[loss]() if isinstance(loss, str) else loss
