"""`History`: the results of each epoch of a training, as a table on the screen and as columns for a data frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import markup
from .lazy import from_above

HEADERS = {
    "epoch": "Epoch",
    "loss": "Loss",
    "accuracy": "Accuracy",
    "val_loss": "Val loss",
    "val_accuracy": "Val acc.",
    "learning_rate": "Rate",
    "seconds": "Seconds",
    "images_per_second": "Images/s",
}

TOLD = 0.5  # seconds of compiling or loading from which on the epoch's line tells them
MEASURES = ("loss", "accuracy", "val_loss", "val_accuracy")  # the columns that tell how good a model is


class Epoch(NamedTuple):
    """The results of one epoch.

    Attributes
    ----------
    epoch : int
        Its number, from 1.
    loss, accuracy : float
        Means over the images, as each batch found the model before its step; of the loss by sample and class weights,
        where there are any.
    val_loss, val_accuracy : float
        Of the validation set, after the epoch; NaN without one.
    learning_rate : float
        That of the last step.
    seconds : float
        Of training; validation and callbacks left out.
    images_per_second : float
        Of training; the first step of each shape of batch, which compiles or loads kernels, is left out too, unless
        there is no other.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float


class History:
    """The epochs of a fit.

    Attributes
    ----------
    stopped : str or None
        Why the fit ended before its last epoch; None if it did not.

    See Also
    --------
    Trainer : Trains a model step by step.
    Callback : What happens at the moments of a fit.

    Examples
    --------
    `print(history)` shows the table, `history["val_loss"]` is a column, `history[-1].accuracy` a value, and
    `pandas.DataFrame(history.to_dict())` a data frame.

    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential, Trainer
    >>> trainer = Trainer(Sequential([Dense(2)]), random_state=0)
    >>> history = trainer.fit(np.eye(3), [0, 1, 1], epochs=5, batch_size=3, verbose=0)
    >>> len(history), history[-1].loss < history[0].loss
    (5, True)
    >>> sorted(history.to_dict())
    ['accuracy', 'epoch', 'images_per_second', 'learning_rate', 'loss', 'seconds', 'val_accuracy', 'val_loss']
    """

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.stopped: str | None = None

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def __getitem__(self, key: str | int) -> list[float] | Epoch:
        if not isinstance(key, str):
            return self.epochs[key]
        if key not in Epoch._fields:
            raise KeyError(f"History: expected one of {', '.join(Epoch._fields)}; got {key!r}")
        return [getattr(epoch, key) for epoch in self.epochs]

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns by name, all equally long: what `pandas.DataFrame` takes."""
        return {name: [getattr(epoch, name) for epoch in self.epochs] for name in Epoch._fields}

    def plot(self, ax: Any = None, *, measures: tuple[str, ...] | None = None, **line: Any) -> Any:
        """Draw the curves with matplotlib (extra `[plot]`).

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided; not given: a new figure.
        measures : tuple of str, optional
            Of "loss", "accuracy" and "learning_rate"; not given: the first two, where they are known.
        **line : dict
            Of matplotlib's `plot`.

        Returns
        -------
        TrainingCurveDisplay
            With `figure_` and `axes_`.

        Raises
        ------
        ImportError
            If matplotlib is not installed; the message says how to install it.
        """
        display = from_above("display", "TrainingCurveDisplay")
        return display.from_history(self, ax=ax, measures=measures, **line)

    def __str__(self) -> str:
        columns = [
            [HEADERS[name], *(_cell(name, value) for value in values)]
            for name, values in self.to_dict().items()
            if not (values and all(math.isnan(value) for value in values))
        ]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in zip(*columns, strict=True)
        ]
        if self.stopped:
            lines.append(f"Stopped: {self.stopped}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return curves and, folded, the table."""
        columns = {name: values for name, values in self.to_dict().items() if _is_known(values)}
        count = len(self.epochs)
        title = f"History: {count or 'no'} epoch{'' if count == 1 else 's'}"
        if self.stopped:
            title += f", stopped: {self.stopped}"
        rows = zip(*[[_cell(name, value) for value in values] for name, values in columns.items()], strict=True)
        shown = markup.table([HEADERS[name] for name in columns], rows)
        return markup.framed(f"<p>{markup.text(title)}</p>{self._curves()}{markup.fold('table', shown)}")

    def _curves(self) -> str:
        """Return pictures of loss and accuracy, where they are known."""
        pictures = []
        for name in ("loss", "accuracy"):
            pairs = {label: self[column] for label, column in (("training", name), ("validation", f"val_{name}"))}
            lines = {label: values for label, values in pairs.items() if isinstance(values, list) and _is_known(values)}
            if lines:
                pictures.append(
                    markup.curves(HEADERS[name], [epoch.epoch for epoch in self.epochs], lines, below="epoch")
                )
        return "".join(pictures)


def _is_known(values: list[float]) -> bool:
    """Tell whether something was measured; without epochs, nothing is."""
    return any(not math.isnan(value) for value in values)


def _cell(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    if name in ("accuracy", "val_accuracy"):
        return f"{value:.2%}"
    if name == "images_per_second":
        return f"{value:,.0f}"
    return {"epoch": "{:d}", "learning_rate": "{:.4g}", "seconds": "{:.2f}"}.get(name, "{:.4f}").format(value)


def line(epoch: Epoch, prepared: float = 0.0) -> str:
    """Return an epoch as one line of the screen; it tells the seconds that compiling took, where there are many."""
    parts = [f"Epoch {epoch.epoch}", f"Loss: {epoch.loss:.4f}"]
    for name, form in (("accuracy", "Accuracy: {:.2%}"), ("val_loss", "Val loss: {:.4f}"),
                       ("val_accuracy", "Val accuracy: {:.2%}")):  # fmt: skip
        if not math.isnan(getattr(epoch, name)):
            parts.append(form.format(getattr(epoch, name)))
    took = f"{epoch.seconds:.2f} s"
    if prepared >= TOLD:
        took += f", {prepared:.2f} s of them for kernels, which a first run compiles"
    parts += [f"Rate: {epoch.learning_rate:.4g}", took, f"{epoch.images_per_second:,.0f} images/s"]
    return " | ".join(parts)
