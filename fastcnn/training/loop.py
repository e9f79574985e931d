"""The training loop: epochs of guarded steps, validation, callbacks, and what is shown meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np

from .. import caller, checks
from ..data.augmentation import Augmentation
from ..history import Epoch, History, line
from ..labels import check_range
from ..losses import CrossEntropy
from ..optim.schedules import NamedSchedule, Schedule
from ..ranks.communicator import Communicator, RankLostError
from ..typing import Array, Shape
from .accord import Accord
from .by_epoch import ByEpoch, batch_sizes, resolutions
from .callbacks import Callback, Run
from .checkpoint import Checkpoint, Tally, check_fit
from .feed import ArrayFeed, Batch, BatchFeed, Feed, check_set
from .guard import Guard
from .interrupts import Interrupts
from .progress import Progress, progress

if TYPE_CHECKING:
    from .stepper import Stepper


P = ParamSpec("P")
T = TypeVar("T")
INTERRUPTED = "Ctrl-C"


class Evaluation(NamedTuple):
    """What a model makes of a set.

    Attributes
    ----------
    loss, accuracy : float
        Means over the samples, in segmentation over the pixels that are not ignored; of the loss by sample and class
        weights, where there are any.
    """

    loss: float
    accuracy: float


def _together(work: Callable[Concatenate[Stepper, P], T]) -> Callable[Concatenate[Stepper, P], T]:
    """Return a function that an exception ends on all ranks, where there are several."""

    @wraps(work)
    def call(trainer: Stepper, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if trainer.communicator is None:
            return work(trainer, *args, **kwargs)
        with trainer.communicator.together():
            return work(trainer, *args, **kwargs)

    return call


@_together
def fit(
    trainer: Stepper,
    X: Any,
    y: Any,
    *,
    epochs: int,
    batch_size: Any,
    X_val: Any,
    y_val: Any,
    sample_weight: Any,
    augmentation: Augmentation | None,
    callbacks: Sequence[Callback],
    verbose: int,
    checkpoint: Any = None,
    checkpoint_every: Any = None,
    drop_last: bool = False,
    resolution: Any = None,
) -> History:
    """Train; see `Trainer.fit`."""
    epochs = checks.as_positive_int(epochs, "fit", "epochs")
    _check_callbacks(callbacks)
    ranks = trainer.communicator
    file = _checkpoint(checkpoint, checkpoint_every, ranks)
    feed = _feed(trainer, X, y, batch_size, sample_weight, augmentation, drop_last, resolution)
    validation = _validation(trainer, X_val, y_val, feed)
    if validation is None:
        _check_monitors(callbacks, trainer.schedule)
    trainer.model._enter_mode(False)  # of its own; a step trains whatever it says
    run = Run(trainer, History())
    trainer.history = run.history
    steps = feed.steps_of(epochs)
    _begin_schedule(trainer, steps)
    if ranks is not None:
        check_fit(trainer, ranks, feed, validation, callbacks, epochs, checkpoint)
    with _interrupts(ranks) as interrupts:
        run._interrupts, run._kept = interrupts, checkpoint is not None
        for callback in callbacks:
            callback.begin(run)
        tally = Tally(trainer.epochs) if file is None else file.resume(run, feed, validation, callbacks)

        def go_on(tally: Tally) -> None:
            quiet = not verbose or (ranks is not None and ranks.rank > 0)
            with progress(steps, quiet=quiet) as shown:
                _train_epochs(run, epochs, feed, validation, callbacks, interrupts, shown, tally, file)

        if ranks is None or file is None or not ranks.can_shrink:
            go_on(tally)
        else:
            _outlive(ranks, run, file, callbacks, interrupts, tally, go_on)
        for callback in callbacks:
            callback.end(run)
    return run.history


def _outlive(
    ranks: Communicator,
    run: Run,
    file: Checkpoint,
    callbacks: Sequence[Callback],
    interrupts: Interrupts,
    tally: Tally,
    go_on: Callable[[Tally], None],
) -> None:
    """Train; where a rank dies, the others go back to a moment that all have kept, and train from there."""
    file.keep(run, callbacks, tally if tally.batches else None)
    done = has_died = False
    while not done:
        try:
            if has_died:
                size, dead = ranks.size, ranks.shrink()
                interrupts.begin_anew()
                tally = file.go_back(run, callbacks)
                if ranks.rank == 0:
                    who = ", ".join(map(str, dead))
                    words = f"fit: rank {who} of {size} has died; {ranks.size} went on from step {run.step}"
                    caller.warn(words, RuntimeWarning)
            go_on(tally)
            done = True
        except RankLostError:
            pass
        has_died = not (done := ranks.agree(done))


def _train_epochs(
    run: Run,
    epochs: int,
    feed: Feed,
    validation: Feed | None,
    callbacks: Sequence[Callback],
    interrupts: Interrupts,
    shown: Progress,
    tally: Tally,
    file: Checkpoint | None,
) -> None:
    """Train the epochs that the history does not have yet; the first goes on where `tally` is."""
    trainer, done = run.trainer, len(run.history)
    for _ in range(run.step):
        shown.advance()
    for run.epoch in range(done + 1, epochs + 1):
        if _stopped(run, interrupts):
            break
        _begin_epoch(run, feed, validation)
        epoch, prepared = _train_epoch(run, feed, callbacks, interrupts, shown, tally, file)
        if validation is not None and not _stopped(run, interrupts):
            shown.say("validating")
            loss, accuracy = _evaluate(trainer, validation, interrupts)
            epoch = epoch._replace(val_loss=loss, val_accuracy=accuracy)
        interrupted = _stopped(run, interrupts) and run.history.stopped == INTERRUPTED
        if file is not None and interrupted:
            file.write(run, callbacks, tally)  # the same call goes on within this epoch
        run.history.epochs.append(epoch)
        shown.write(line(epoch, prepared))
        if isinstance(trainer.schedule, Schedule) and not _stopped(run, interrupts):
            trainer.schedule.end_epoch(epoch)
        for callback in callbacks:
            callback.epoch(run, epoch)
        interrupts.meet(run.history)
        if file is not None and not interrupted:
            file.epoch(run, callbacks, last=run.epoch == epochs or run.history.stopped is not None)
        tally = Tally(trainer.epochs)


@_together
def evaluate(trainer: Stepper, X: Any, y: Any, *, batch_size: int | None, sample_weight: Any) -> Evaluation:
    """Measure; see `Trainer.evaluate`."""
    if y is None:
        return _evaluate(trainer, BatchFeed(X, 0, what="evaluate"), None)
    size = checks.as_positive_int(256 if batch_size is None else batch_size, "evaluate", "batch_size")
    return _evaluate(trainer, ArrayFeed(*check_set(X, y, sample_weight, what="evaluate"), size), None)


def _checkpoint(path: Any, every: Any, ranks: Communicator | None) -> Checkpoint | None:
    """Return what keeps the state of a fit: in a file, or in memory where ranks go on without one that dies."""
    if path is None and every is not None:
        raise ValueError(f"fit: checkpoint_every: expected None without a checkpoint; got {every!r}")
    keeps = path is not None or (ranks is not None and ranks.can_shrink)
    return Checkpoint(path, every, ranks) if keeps else None


def _begin_schedule(trainer: Stepper, steps: int | None) -> None:
    """Tell a schedule that was given by its name how many steps there will be."""
    if isinstance(trainer.schedule, NamedSchedule):
        trainer.schedule.begin(float(trainer.optimizer.learning_rate), trainer.steps, steps)


def _interrupts(ranks: Communicator | None) -> Interrupts:
    return Interrupts() if ranks is None else Accord(ranks)


def _begin_epoch(run: Run, feed: Feed, validation: Feed | None) -> None:
    """Get ready for the batch size and the resolution of an epoch."""
    for source in (feed, validation):
        if source is not None:
            source.begin(run.epoch - 1)
    if feed.size is not None:
        _resize(run.trainer, feed.size)


def _resize(trainer: Stepper, size: tuple[int, int]) -> None:
    """Let the model take images of this size, unless it does."""
    model = trainer.model
    assert model.input_shape is not None
    if model.input_shape[1:] != size:
        model.resize((model.input_shape[0], *size))


def _train_epoch(
    run: Run,
    feed: Feed,
    callbacks: Sequence[Callback],
    interrupts: Interrupts,
    shown: Progress,
    tally: Tally,
    file: Checkpoint | None,
) -> tuple[Epoch, float]:
    """Take the steps of an epoch that `tally` does not count yet; fewer, if it is stopped.

    The second number is the seconds of first steps of a shape, which compile or load kernels.
    """
    trainer, guard, aside, before_now = run.trainer, Guard(run.trainer), 0.0, tally.seconds
    began, prepared, first_images = time.perf_counter(), 0.0, 0
    for batch in feed.batches(trainer.epochs, tally.batches):
        tally.batches += 1
        if batch.weight is not None and not batch.weight.any():
            continue  # a mean over samples that do not count is none
        before, is_prepared = time.perf_counter(), _is_prepared(trainer, batch.x.shape)
        if not is_prepared:
            shown.say("compiling kernels, or loading them")
        run.loss = guard.step(batch, run.epoch, run.step + 1)
        if not is_prepared:
            prepared, first_images = prepared + time.perf_counter() - before, first_images + len(batch.x)
        run.step, run.accuracy = run.step + 1, trainer.accuracy
        run.images += len(batch.x)
        counted = len(batch.x) if trainer._counted is None else trainer._counted
        tally.add(len(batch.x), run.loss, trainer._weight, run.accuracy, counted)
        shown.advance()
        if callbacks:
            before = time.perf_counter()
            for callback in callbacks:
                callback.batch(run)
            aside += time.perf_counter() - before
        interrupts.meet(run.history)
        if _stopped(run, interrupts):
            break
        if file is not None:
            before = time.perf_counter()
            tally.seconds = before_now + before - began - aside
            file.step(run, callbacks, tally)
            aside += time.perf_counter() - before
    if not tally.images:
        raise ValueError(f"fit: X: expected at least one batch in each epoch, of some weight; got none in {run.epoch}")
    tally.seconds = max(before_now + time.perf_counter() - began - aside, 1e-9)
    trainer.epochs += 1
    return _row(run, tally, prepared, first_images), prepared


def _row(run: Run, tally: Tally, prepared: float, first_images: int) -> Epoch:
    """Return an epoch's row of the history; its speed leaves out the first steps of a shape and their images."""
    loss, accuracy = tally.means("fit: y")
    speed = tally.images / tally.seconds
    if tally.images > first_images and tally.seconds > prepared:
        speed = (tally.images - first_images) / (tally.seconds - prepared)
    rate = float(run.trainer.optimizer.learning_rate)
    return Epoch(run.epoch, loss, accuracy, math.nan, math.nan, rate, tally.seconds, speed)


def _is_prepared(trainer: Stepper, shape: Shape) -> bool:
    """Tell whether batches of a shape are planned: the first step of a shape compiles or loads kernels."""
    return trainer._program is not None and any(shape in program.shapes for program in trainer._programs)


def _weighty(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Leave out the batches in which no sample counts: a mean over them is none."""
    for batch in batches:
        if batch.weight is None or batch.weight.any():
            yield batch


def _stopped(run: Run, interrupts: Interrupts) -> bool:
    if interrupts.asked:
        run.stop(INTERRUPTED)
    return run.history.stopped is not None


def _evaluate(trainer: Stepper, feed: Feed, interrupts: Interrupts | None) -> Evaluation:
    """Return loss and accuracy in prediction mode; NaN if Ctrl-C comes in between."""
    tally = Tally()
    for batch in _weighty(feed.batches(0)):
        loss, accuracy, weight, counted = trainer._measure(batch.x, batch.y, batch.weight)
        tally.add(len(batch.x), loss, weight, accuracy, counted)
        if interrupts is not None and interrupts.asked:
            return Evaluation(math.nan, math.nan)
    if not tally.images:
        raise ValueError("evaluate: X: expected at least one batch, of some weight; got none")
    return Evaluation(*tally.means("evaluate: y"))


def _feed(
    trainer: Stepper,
    X: Any,
    y: Any,
    batch_size: Any,
    sample_weight: Any,
    augmentation: Augmentation | None,
    drop_last: bool,
    resolution: Any = None,
) -> Feed:
    """Return the source of the batches; the model is built where it is not yet."""
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise TypeError(f"fit: augmentation: expected an Augmentation or None; got {augmentation!r}")
    model = trainer.model
    if y is None:
        if batch_size is not None or sample_weight is not None:
            raise ValueError("fit: batch_size, sample_weight: expected none with batches; a batch is (x, y, weight)")
        if drop_last:
            raise ValueError("fit: drop_last: expected False with batches, which are taken as they come; got True")
        if resolution is not None:
            raise ValueError("fit: resolution: expected None with batches, which are taken as they come")
        dtype = np.float32 if model.input_shape is None else model._flat.dtype
        return BatchFeed(X, trainer._seed, augmentation, dtype, unknown=_unknown(trainer))
    if batch_size is None:
        raise ValueError("fit: batch_size: expected a positive int with arrays X and y, such as 32; got None")
    sizes = batch_sizes(batch_size)
    size = max(sizes.rows.values())
    x, targets, weight = check_set(X, y, sample_weight)
    trainer._build(x)
    by_epoch = None if resolution is None else _resolutions(trainer, resolution, x.shape[1:])
    classes = _check_classes(trainer, targets, "y")
    _check_mixup(trainer, targets, augmentation)
    drop_last = checks.as_bool(drop_last, "fit", "drop_last")
    if drop_last and len(x) < size:
        raise ValueError(f"fit: drop_last: expected at least a batch of {size} samples; got {len(x)}")
    dtype = model._flat.dtype
    feed = ArrayFeed(
        x, targets, weight, sizes, trainer._seed, augmentation, dtype, classes, drop_last, _unknown(trainer),
        by_epoch,
    )  # fmt: skip
    if trainer.communicator is not None:
        feed.own = trainer._own_images
    return feed


def _resolutions(trainer: Stepper, resolution: Any, shape: Shape) -> ByEpoch[tuple[int, int]]:
    """Return the resolution of each epoch, all of which the model can take; it takes the images' own now."""
    by_epoch = resolutions(resolution)
    model = trainer.model
    if len(shape) != 3:
        raise ValueError(f"fit: resolution: expected images (N, C, H, W) with it; got samples of shape {shape}")
    if len(model.output_shape(shape)) != 1:
        raise ValueError("fit: resolution: expected a model with one row of outputs an image; got one with maps")
    for size in by_epoch.rows.values():
        try:
            model._expect_resize((shape[0], *size))
        except ValueError as error:
            raise ValueError(f"fit: resolution: {error}") from None
    _resize(trainer, (shape[1], shape[2]))
    return by_epoch


def _validation(trainer: Stepper, X: Any, y: Any, feed: Feed) -> Feed | None:
    """Return the source of the validation's batches, in their order; at the resolution of training."""
    resolution = feed.resolution if isinstance(feed, ArrayFeed) else None
    if X is None:
        if y is not None:
            raise ValueError("fit: X_val: expected the samples of y_val; got None")
        return None
    if y is None:
        if resolution is not None:
            raise ValueError("fit: X_val: expected arrays X_val and y_val with a resolution; got batches")
        return BatchFeed(X, 0, argument="X_val")
    x, targets, weight = check_set(X, y, None, end="_val")
    if trainer.model.input_shape is not None:
        trainer.model._check_input(x)
        _check_classes(trainer, targets, "y_val")
    size = max(feed.batch_sizes.rows.values()) if isinstance(feed, ArrayFeed) else 256
    return ArrayFeed(x, targets, weight, size, resolution=resolution)


def _check_classes(trainer: Stepper, y: Array, argument: str) -> int | None:
    """Return how many classes the model tells apart, None if `y` are no classes; raise if there are others in `y`."""
    model, loss = trainer.model, trainer.loss
    if not isinstance(loss, CrossEntropy) or y.ndim not in (1, 3) or y.dtype.kind not in "iu":
        return None
    assert model.input_shape is not None
    count = model.output_shape(model.input_shape)[0]
    check_range(y, count, loss.ignore_index, f"fit: {argument}")
    return count if y.ndim == 1 else None


def _unknown(trainer: Stepper) -> int | None:
    """Return the label that the loss ignores."""
    return trainer.loss.ignore_index if isinstance(trainer.loss, CrossEntropy) else None


def _check_mixup(trainer: Stepper, y: Array, augmentation: Augmentation | None) -> None:
    """Raise for targets that cannot be mixed."""
    loss = trainer.loss
    if augmentation is None or not augmentation.mixes or not isinstance(loss, CrossEntropy):
        return
    which = "mixup" if augmentation.mixup else "cutmix"
    if loss.ignore_index is not None or (y.ndim > 2 and y.dtype.kind in "iub"):
        raise ValueError(
            f"fit: augmentation: {which} makes probabilities of classes: expected rows without ignore_index, or one "
            f"class a sample; got y of shape {y.shape}, ignore_index={loss.ignore_index}"
        )


def _check_callbacks(callbacks: Sequence[Callback]) -> None:
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"fit: callbacks: expected a list of Callback objects; got {callbacks!r}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"fit: callbacks: expected Callback objects; got {callback!r}")


def _check_monitors(callbacks: Sequence[Callback], schedule: object) -> None:
    """Raise if something needs what is measured on a validation set only; here there is none."""
    needing: list[Callback | Schedule] = [*callbacks, *([schedule] if isinstance(schedule, Schedule) else [])]
    for needy in needing:
        if (needy.monitor or "").startswith("val_"):
            raise ValueError(
                f"{type(needy).__name__}: monitor: {needy.monitor} is measured on a validation set: pass X_val, y_val "
                "to fit (early_stopping=True lets an estimator hold one out), or monitor 'loss'"
            )
