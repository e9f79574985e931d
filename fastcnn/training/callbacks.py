"""Callbacks: the user's code at documented moments of a fit; and early stopping."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from .. import checks
from ..history import MEASURES
from ..layers.repr import ShownAsCall
from ..typing import Array

if TYPE_CHECKING:
    from ..history import Epoch, History
    from .interrupts import Interrupts
    from .stepper import Stepper


# Methods of Keras's and Lightning's callbacks, and the moment that each is here.
ELSEWHERE = {
    "on_train_begin": "begin(run)", "on_train_start": "begin(run)", "on_fit_start": "begin(run)",
    "on_batch_end": "batch(run)", "on_train_batch_end": "batch(run)", "on_batch_begin": "batch(run), after each step",
    "on_train_batch_begin": "batch(run), after each step", "on_train_batch_start": "batch(run), after each step",
    "on_epoch_end": "epoch(run, epoch)", "on_train_epoch_end": "epoch(run, epoch)",
    "on_validation_end": "epoch(run, epoch)", "on_test_end": "epoch(run, epoch)",
    "on_epoch_begin": "epoch(run, epoch), after each epoch",
    "on_train_epoch_start": "epoch(run, epoch), after each epoch",
    "on_train_end": "end(run)", "on_fit_end": "end(run)",
}  # fmt: skip


class Run:
    """A running fit, as callbacks see it.

    Attributes
    ----------
    trainer : Trainer
        Its `model` and `optimizer` may be changed at any moment.
    history : History
        Of the epochs that have ended.
    epoch : int
        The number of this epoch, from 1.
    step : int
        How many steps of this fit are done.
    images : int
        How many images were trained on since the fit began, or went on from a checkpoint.
    loss, accuracy : float
        Of the last batch, before its step.
    """

    def __init__(self, trainer: Stepper, history: History) -> None:
        self.trainer, self.history = trainer, history
        self._interrupts: Interrupts | None = None
        self._kept = False  # whether a checkpoint is written, from which the same settings go on
        self.epoch = self.step = self.images = 0
        self.loss = self.accuracy = math.nan

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C asks the fit to end after this step: a callback that waits looks at it meanwhile."""
        return self._interrupts is not None and self._interrupts.asked

    def stop(self, reason: str) -> None:
        """End the fit: after this step, if called in `batch`; `history.stopped` will tell the reason."""
        self.history.stopped = self.history.stopped or reason


class Callback:
    """What happens at the moments of a fit; override those that are needed.

    The moments are, in this order: `begin`, then for each epoch `batch` after every step and `epoch` after validation,
    then `end`. When a fit is stopped, by `run.stop`, or by Ctrl-C, the epoch that it is in ends early, with no
    validation, and `epoch` and `end` follow. An exception in a callback ends the fit at once and comes out of `fit`;
    model and trainer can go on from the last step. `begin` of every callback comes before the first step.

    Attributes
    ----------
    monitor : str or None
        A column of the history that the callback needs. `fit` refuses `"val_loss"` and `"val_accuracy"` without
        validation.

    See Also
    --------
    EarlyStopping : Ends a fit that no longer improves.
    Trainer : Trains a model step by step.

    Examples
    --------
    >>> from fastcnn import Callback
    >>> class Clock(Callback):
    ...     def batch(self, run):
    ...         if run.step == 1000:
    ...             run.stop("a thousand steps are enough")
    """

    monitor: str | None = None

    def __init_subclass__(cls, **settings: Any) -> None:
        """Refuse the methods that other libraries call: here they would never be called."""
        super().__init_subclass__(**settings)
        for name, moment in ELSEWHERE.items():
            own = moment.partition("(")[0]
            if name in vars(cls) and getattr(cls, own) is getattr(Callback, own):
                raise TypeError(
                    f"{cls.__name__}: expected methods named begin, batch, epoch or end; got {name}, which is never "
                    f"called: {moment} is what is meant"
                )

    def begin(self, run: Run) -> None:
        """Act before the first step; the model may not be built yet.

        Parameters
        ----------
        run : Run
            The fit: its trainer, its history, and `stop(why)`.
        """

    def batch(self, run: Run) -> None:
        """Act after each step.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """Act after each epoch, with its results.

        Parameters
        ----------
        run : Run
            The fit.
        epoch : Epoch
            The row of the history.
        """

    def end(self, run: Run) -> None:
        """Act after the last epoch.

        Parameters
        ----------
        run : Run
            The fit.
        """

    def get_state(self) -> dict[str, Any]:
        """Return what a later process needs to go on: numbers, words, arrays, and lists of them; see `checkpoint`."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take in what `get_state` has returned; after `begin`.

        Parameters
        ----------
        state : dict
            What `get_state` has returned.
        """


class EarlyStopping(ShownAsCall, Callback):
    """Stop when a measured value has not improved for some epochs; restore the weights of the best epoch.

    Parameters
    ----------
    monitor : str
        A column of the history, such as `"val_loss"` or `"val_accuracy"`.
    patience : int
        How many epochs in a row without an improvement stop the fit; 0 is as 1 (as in Keras).
    min_delta : float
        What counts as an improvement: more than this.
    mode : {"auto", "min", "max"}
        Whether less is better, or more; `"auto"`: more for accuracies.
    restore_best : bool
        Whether the best epoch's weights, running statistics included, are restored when the fit ends, however it ends
        (but for an exception).

    Attributes
    ----------
    best : float
    best_epoch : int
        0 before the first.

    See Also
    --------
    Callback : What happens at the moments of a fit.
    ReduceOnPlateau : Less once a measured value no longer improves.

    References
    ----------
    Prechelt, "Early stopping, but when?", in: Neural Networks: Tricks of the Trade, Springer 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, EarlyStopping, Sequential, Trainer
    >>> trainer = Trainer(Sequential([Dense(2)]), random_state=0)
    >>> stop = EarlyStopping("val_loss", patience=2)
    >>> x, y = np.eye(3), [0, 1, 1]
    >>> history = trainer.fit(x, y, epochs=3, batch_size=3, X_val=x, y_val=y, callbacks=[stop], verbose=0)
    >>> stop.best_epoch
    3
    """

    monitor: str

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        restore_best: bool = True,
    ) -> None:
        if monitor not in MEASURES:
            raise ValueError(f"EarlyStopping: monitor: expected one of {', '.join(MEASURES)}; got {monitor!r}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"EarlyStopping: mode: expected 'auto', 'min' or 'max'; got {mode!r}")
        if not min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta: expected a number of at least 0; got {min_delta!r}")
        self.monitor, self.mode = monitor, mode
        self.restore_best = checks.as_bool(restore_best, "EarlyStopping", "restore_best")
        self.patience = 0 if patience == 0 else checks.as_positive_int(patience, "EarlyStopping", "patience")
        self.min_delta = float(min_delta)
        self._forget()

    def _forget(self) -> None:
        more = self.mode == "max" or (self.mode == "auto" and self.monitor.endswith("accuracy"))
        self.sign = -1.0 if more else 1.0
        self.best, self.best_epoch = self.sign * math.inf, 0
        self.weights: list[Array] = []

    def begin(self, run: Run) -> None:
        self._forget()

    def epoch(self, run: Run, epoch: Epoch) -> None:
        value = getattr(epoch, self.monitor)
        if math.isnan(value):
            if run.history.stopped:
                return  # an epoch that ended early was not validated
            raise ValueError(
                f"EarlyStopping: monitor: {self.monitor} was not measured in epoch {epoch.epoch}; "
                "fit measures it with X_val, y_val"
            )
        if self.sign * (self.best - value) > self.min_delta:
            self.best, self.best_epoch = value, epoch.epoch
            if self.restore_best:
                self.weights = run.trainer.model.get_weights()
        elif epoch.epoch - self.best_epoch >= self.patience:
            run.stop(f"{self.monitor} has not improved since epoch {self.best_epoch}")

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.best_epoch = float(state["best"]), int(state["best_epoch"])
        self.weights = [*state["weights"]]

    def end(self, run: Run) -> None:
        if self.weights:
            run.trainer.model.set_weights(self.weights)
            self.weights = []
