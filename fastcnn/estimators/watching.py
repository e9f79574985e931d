"""Who watches a fit: the estimator's own curves and early stopping, and scikit-learn's callbacks where it has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

import numpy as np

from ..history import Epoch
from ..optim.averaging import ExponentialMovingAverage
from ..training.callbacks import Callback, Run
from ..typing import Array
from .samples import Samples

__all__ = ["CallbackSupportMixin", "Curves", "Watch", "watch_of", "watched"]

CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")

M = TypeVar("M", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """The mixin of scikit-learn 1.9, without its methods."""

    def with_callbacks(method: Any) -> Any:
        """Return the method, with as many frames on the stack as if there were something to do."""

        @functools.wraps(method)
        def as_it_is(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return as_it_is


def watched(method: M) -> M:
    """Let scikit-learn's callbacks end what they began, however the method ends."""
    return with_callbacks(method)  # type: ignore[no-any-return]


class Watched(Protocol):
    """The estimator that a fit is watched for: its settings, and the curves that it keeps."""

    early_stopping: bool
    schedule: Any
    tol: float
    n_iter_no_change: int
    best_loss_: float
    loss_curve_: list[float]
    validation_loss_curve_: list[float] | None
    validation_scores_: list[float] | None

    def _validation_score(self, epoch: Epoch, held: Samples) -> float: ...


class Curves(Callback):
    """Keeps the estimator's curves, and stops where nothing improves any more."""

    def __init__(self, owner: Watched, held: Samples | None = None) -> None:
        self.owner, self.held = owner, held
        self.best, self.since = -np.inf, 0
        self.weights: list[Array] = []
        if held is not None:
            owner.validation_loss_curve_ = owner.validation_loss_curve_ or []
            owner.validation_scores_ = owner.validation_scores_ or []

    def epoch(self, run: Run, epoch: Epoch) -> None:
        owner = self.owner
        owner.loss_curve_.append(epoch.loss)
        owner.best_loss_ = min(owner.best_loss_, epoch.loss)
        measure = -epoch.loss
        if self.held is not None and np.isfinite(epoch.val_loss):
            assert owner.validation_loss_curve_ is not None
            assert owner.validation_scores_ is not None
            measure = owner._validation_score(epoch, self.held)
            owner.validation_loss_curve_.append(epoch.val_loss)
            owner.validation_scores_.append(measure)
        if owner.early_stopping or owner.schedule == "constant":
            self._judge(run, measure)

    def _judge(self, run: Run, measure: float) -> None:
        owner = self.owner
        self.since = 0 if measure > self.best + owner.tol else self.since + 1
        if measure > self.best:
            self.best = measure
            if owner.early_stopping:
                self.weights = run.trainer.model.get_weights()
        if self.since >= owner.n_iter_no_change:
            what = "Validation score" if owner.early_stopping else "Training loss"
            run.stop(f"{what} did not improve more than tol={owner.tol} for {owner.n_iter_no_change} epochs")

    def get_state(self) -> dict[str, Any]:
        owner = self.owner
        own = {"best": float(self.best), "since": self.since, "weights": self.weights}
        return {**own, "best_loss": float(owner.best_loss_), **{name: getattr(owner, name) for name in CURVES}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.best, self.since, self.weights = state["best"], state["since"], [*state["weights"]]
        self.owner.best_loss_ = state["best_loss"]
        for name in CURVES:
            setattr(self.owner, name, state[name])

    def end(self, run: Run) -> None:
        if self.weights:
            run.trainer.model.set_weights(self.weights)
            self.weights = []


class Watch(Callback):
    """Tells scikit-learn's callbacks of a fit and of its epochs, each a task of its own.

    Parameters
    ----------
    owner : estimator
    epochs : int
    data : dict
        X, y and the metadata, as the estimator was given them.
    """

    def __init__(self, owner: Any, epochs: int, **data: Any) -> None:
        weight = data.pop("sample_weight")
        self.owner, self.data = owner, {**data, "metadata": {} if weight is None else {"sample_weight": weight}}
        self.epochs = epochs
        self.task: Any = None
        self.curves: Curves | None = None
        self.fit = owner._init_callback_context(max_subtasks=epochs)
        self.fit.call_on_fit_task_begin(estimator=owner, **self.data)

    def begin(self, run: Run) -> None:
        self._open()

    def epoch(self, run: Run, epoch: Epoch) -> None:
        if self._close(lambda: self._so_far(run)):
            run.stop("a callback of scikit-learn")
        if run.history.stopped is None and epoch.epoch < self.epochs:
            self._open()

    def end(self, run: Run) -> None:
        self._close(lambda: self._so_far(run))  # an epoch that never came

    def done(self) -> None:
        """Tell that the estimator is fitted."""
        self.fit.call_on_fit_task_end(estimator=self.owner, **self.data, reconstruction_attributes={})

    def _open(self) -> None:
        self.task = self.fit.subcontext(task_name="epoch")
        self.task.call_on_fit_task_begin(estimator=self.owner, **self.data)

    def _close(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        task, self.task = self.task, None
        if task is None:
            return False
        stop = task.call_on_fit_task_end(estimator=self.owner, **self.data, reconstruction_attributes=attributes)
        return bool(stop)

    def _so_far(self, run: Run) -> dict[str, Any]:
        """Return what a copy needs that is fitted as if the fit had stopped here."""
        model, average = run.trainer.model, run.trainer.ema
        averages = isinstance(average, ExponentialMovingAverage) and average.steps and average.swapped_in()
        with averages or nullcontext():  # as `partial_fit` leaves it
            model = model.copy()
        if self.curves is not None and self.curves.weights:
            model.set_weights(self.curves.weights)
        curves = {name: None if (curve := getattr(self.owner, name)) is None else [*curve] for name in CURVES}
        return {**curves, "model_": model, "loss_": self.owner.loss_curve_[-1], "n_iter_": len(run.history)}


def watch_of(owner: Any, epochs: int, X: Any, y: Any, sample_weight: Any) -> Watch | None:
    """Return the watch for scikit-learn's callbacks; None where it knows none."""
    if not hasattr(owner, "_init_callback_context"):
        return None
    return Watch(owner, epochs, X=X, y=y, sample_weight=sample_weight)
