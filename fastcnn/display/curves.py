"""`TrainingCurveDisplay`: loss, accuracy and their like over the epochs of a fit."""

from __future__ import annotations

import math
from typing import Any, Self

from ..history import History
from .figures import make_axes

LABELS = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}


class TrainingCurveDisplay:
    """Curves of a training, one picture for each measure: on the training images, and on the validation set.

    Parameters
    ----------
    curves : dict of str to list of float
        Columns of a `History`, all equally long; NaN where something was not measured.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        One for each measure.
    lines_ : dict of str to matplotlib Line2D
        By column.

    See Also
    --------
    History.plot : The same, for a history.

    Examples
    --------
    With matplotlib, `TrainingCurveDisplay.from_estimator(classifier).figure_.savefig("curves.png")`; without a picture:

    >>> from fastcnn import History
    >>> from fastcnn.display import TrainingCurveDisplay
    >>> TrainingCurveDisplay(History().to_dict()).curves["loss"]
    []
    """

    def __init__(self, curves: dict[str, list[float]]) -> None:
        self.curves = {name: [*values] for name, values in curves.items()}

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, ax: Any = None, measures: tuple[str, ...] | None = None, **line: Any
    ) -> Self:
        """Draw the curves of the last `fit` of an estimator or a trainer.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor or Trainer
            Fitted.
        ax : Axes or array of Axes, optional
            A single one is divided.
        measures : tuple of str, optional
            Of "loss", "accuracy" and "learning_rate"; not given: the first two, where they are known.
        **line : dict
            Of matplotlib's `plot`.

        Returns
        -------
        TrainingCurveDisplay
        """
        history = getattr(estimator, "history_", None) or getattr(estimator, "history", None)
        if not isinstance(history, History):
            raise ValueError(
                f"TrainingCurveDisplay: estimator: expected a fitted estimator or trainer; "
                f"got {type(estimator).__name__} without a history"
            )
        return cls.from_history(history, ax=ax, measures=measures, **line)

    @classmethod
    def from_history(
        cls, history: History, *, ax: Any = None, measures: tuple[str, ...] | None = None, **line: Any
    ) -> Self:
        """Draw the curves of a history.

        Parameters
        ----------
        history : History
            Of at least one epoch.
        ax : Axes or array of Axes, optional
            A single one is divided.
        measures : tuple of str, optional
            As in `from_estimator`.
        **line : dict
            Of matplotlib's `plot`.

        Returns
        -------
        TrainingCurveDisplay
        """
        if not isinstance(history, History):
            raise TypeError(f"TrainingCurveDisplay: history: expected a History; got {type(history).__name__}")
        if not len(history):
            raise ValueError("TrainingCurveDisplay: history: expected at least one epoch; got none")
        return cls(history.to_dict()).plot(ax=ax, measures=measures, **line)

    def plot(self, ax: Any = None, *, measures: tuple[str, ...] | None = None, **line: Any) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided.
        measures : tuple of str, optional
            As in `from_estimator`.
        **line : dict
            Of matplotlib's `plot`.

        Returns
        -------
        TrainingCurveDisplay
            Itself.
        """
        known = [name for name in ("loss", "accuracy") if self._is_known(name)]
        shown = [*known] if measures is None else [*measures]
        wrong = [name for name in shown if name not in LABELS or not self._is_known(name)]
        if wrong or not shown:
            raise ValueError(
                f"TrainingCurveDisplay: measures: expected some of {', '.join([*known, 'learning_rate'])}; "
                f"got {measures!r}"
            )
        self.figure_, self.axes_ = make_axes("TrainingCurveDisplay", ax, len(shown), len(shown), (4.5, 3.2))
        self.lines_: dict[str, Any] = {}
        for axes, name in zip(self.axes_, shown, strict=True):
            for column, label in ((name, "training"), (f"val_{name}", "validation")):
                if self._is_known(column):
                    (self.lines_[column],) = axes.plot(
                        self.curves["epoch"], self.curves[column], **{"marker": ".", "label": label, **line}
                    )
            axes.set(xlabel="Epoch", ylabel=LABELS[name])
            axes.grid(visible=True, alpha=0.3)
            if f"val_{name}" in self.lines_:
                axes.legend()
        return self

    def _is_known(self, column: str) -> bool:
        return not all(math.isnan(value) for value in self.curves.get(column, [math.nan]))
