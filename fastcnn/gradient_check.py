"""`check_gradients`: whether a model's backward pass says the slopes that its forward pass has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .layers.base import Layer
from .losses import Loss
from .model import Sequential
from .optim.optimizers import SGD
from .training.trainer import Trainer
from .typing import Array, RandomState

STEPS = (1e-4, 1e-5, 1e-6, 1e-7)  # a step may cross a kink or drown in rounding; a wrong gradient is wrong with each
SMALL = 1e-4  # share of the largest gradient's norm below which a gradient is measured against that share


class GradientRow(NamedTuple):
    """What the check found out about one array.

    Attributes
    ----------
    name : str
        A parameter, or "input".
    size : int
    norm : float
        Euclidean norm of the gradient.
    error : float
        The worst disagreement over all directions, relative to the slope to expect.
    right : bool
    """

    name: str
    size: int
    norm: float
    error: float
    right: bool


@dataclass(frozen=True)
class GradientReport:
    """The result of `check_gradients`; `print(report)` shows it as a table.

    Attributes
    ----------
    rows : tuple of GradientRow
        The input first, then the parameters in order.
    tolerance : float
    """

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def right(self) -> bool:
        """Whether all gradients are right."""
        return not self.wrong

    @property
    def wrong(self) -> list[str]:
        """The names whose gradients are wrong."""
        return [row.name for row in self.rows if not row.right]

    def __str__(self) -> str:
        """Return the table."""
        width = max(len("gradient of"), *(len(row.name) for row in self.rows))
        lines = [f"{'gradient of':{width}}  {'numbers':>9}  {'norm':>9}  {'error':>9}"]
        for row in self.rows:
            line = f"{row.name:{width}}  {row.size:9,}  {row.norm:9.3g}  {row.error:9.1e}"
            lines.append(line if row.right else line + "  wrong")
        verdict = f"wrong: {', '.join(self.wrong)}" if self.wrong else "all are slopes of the loss"
        return "\n".join([*lines, f"Relative error of at most {self.tolerance:.1e} is expected: {verdict}."])


def check_gradients(
    model: Layer,
    x: Any,
    y: Any = None,
    *,
    loss: str | Loss = "cross_entropy",
    directions: int = 3,
    tolerance: float = 1e-5,
    random_state: RandomState = 0,
    raises: bool = True,
) -> GradientReport:
    """Compare a model's gradients with finite differences, in float64, on a copy.

    Along random directions v, ‖v‖ = 1, of each parameter p of m numbers, the slope that the gradient g promises must be
    that of the loss L:

        g · v = (L(p + h·v) - L(p - h·v)) / 2h    within tolerance · ‖g‖ / sqrt(m),  for one of h = 1e-4, ..., 1e-7

    so that kinks, such as those of ReLU, and rounding disturb as little as they can. Where two maxima tie, as in images
    with equal pixels, there is no slope: take random numbers for `x`.

    Parameters
    ----------
    model : Sequential or Layer
        Built or not; it is not changed. Layers are in training.
    x : array of shape (N, C, H, W) or (N, D)
        A few samples are enough.
    y : array, optional
        Targets. Without them L is a random linear function of the output, and `loss` is not used.
    loss : str or Loss
        As for `Trainer`.
    directions : int
        For each parameter.
    tolerance : float
    random_state : None, int, RandomState or Generator
        For the directions, and for the parameters if the model is not built.
    raises : bool
        Whether to raise if a gradient is wrong.

    Returns
    -------
    GradientReport

    Raises
    ------
    AssertionError
        If a gradient is wrong, with the report's table, unless `raises` is False.
    ValueError
        If there are no targets and two forward passes differ, as with dropout.

    Notes
    -----
    The gradient of the input is always checked by the random linear function; not at all, where two forward passes
    differ, as with dropout.

    References
    ----------
    Griewank and Walther, "Evaluating derivatives", 2nd ed. 2008, section 1.1; Higham, "Accuracy and stability of
    numerical algorithms", 2nd ed. 2002, section 1.14, for the choice of h.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, ReLU, Sequential, check_gradients
    >>> x, y = np.random.RandomState(0).standard_normal((4, 6)), np.array([0, 1, 2, 1])
    >>> report = check_gradients(Sequential([Dense(5), ReLU(), Dense(3)]), x, y)
    >>> report.right, [row.name for row in report.rows]
    (True, ['input', '0.weights', '0.biases', '2.weights', '2.biases'])
    """
    if not isinstance(model, Layer):
        raise TypeError(f"check_gradients: model: expected a Sequential or another layer; got {model!r}")
    checks.as_positive_int(directions, "check_gradients", "directions")
    generator = checks.as_generator(random_state)
    given = np.asarray(x)
    point = checks.as_images(given, "check_gradients", "x").astype(np.float64)
    if given.dtype == np.uint8:
        point /= 255
    twin = _in_double(model, point, generator)
    projected = _Projected(twin, point, generator)
    problems: list[tuple[str, Array, Array, Callable[[], float]]] = []
    if projected.repeats():
        problems.append(("input", point, projected.gradients()["input"], projected))
    elif y is None:
        raise ValueError(
            "check_gradients: y: expected targets, since two forward passes of this model differ, as with dropout; "
            "got None"
        )
    loss_of = projected if y is None else _Trained(twin, point, y, loss)
    gradients = loss_of.gradients()
    problems += [(name, array, gradients[name], loss_of) for name, array in twin.parameters.items()]
    norms = [float(np.linalg.norm(gradient)) for _, _, gradient, _ in problems]
    rows = []
    for (name, array, gradient, value), norm in zip(problems, norms, strict=True):
        others = [other for other, problem in zip(norms, problems, strict=True) if problem[3] is value]
        scale = max(norm, SMALL * max(others)) or 1.0
        errors = [_error(value, array, gradient, generator) / scale for _ in range(directions)]
        rows.append(GradientRow(name, array.size, norm, max(errors), max(errors) <= tolerance))
    report = GradientReport(tuple(rows), tolerance)
    if raises and not report.right:
        raise AssertionError(f"check_gradients: {len(report.wrong)} of {len(rows)} gradients are wrong\n{report}")
    return report


def _in_double(model: Layer, point: Array, generator: Any) -> Sequential:
    """Return a copy as a model in float64, in training; built, if it was not."""
    twin = model.copy().train()
    model = twin if isinstance(twin, Sequential) else Sequential([twin])
    if twin.input_shape is None:
        return model.build(point.shape[1:], random_state=generator, dtype=np.float64)
    model.input_shape = twin.input_shape
    model._gather(np.dtype(np.float64))
    return model


class _Projected:
    """The loss `Σ w · model(x)` for random weights w."""

    def __init__(self, model: Sequential, x: Array, generator: Any) -> None:
        self.model, self.x = model, x
        self.weights = generator.standard_normal(model.forward(x).shape) / len(x)

    def __call__(self) -> float:
        return float(np.sum(self.weights * self.model.forward(self.x)))

    def repeats(self) -> bool:
        """Tell whether the same input has the same loss again."""
        return self() == self()

    def gradients(self) -> dict[str, Array]:
        """Return the gradients of the input and of the parameters."""
        self()
        dL_dinput = self.model.backward(self.weights)
        return {"input": dL_dinput.copy(), **{name: g.copy() for name, g in self.model.gradients.items()}}


class _Trained:
    """The loss of a training step that does not move."""

    def __init__(self, model: Sequential, x: Array, y: Any, loss: str | Loss) -> None:
        self.model, self.x, self.y, self.loss = model, x, y, loss
        self.trainer, self.always_new = self._new_trainer(), False
        self.always_new = self() != self()

    def _new_trainer(self) -> Trainer:
        return Trainer(self.model, self.loss, SGD(0.0), threads=1)

    def __call__(self) -> float:
        if self.always_new:  # random layers draw by the number of the step: each is the first of a trainer
            self.trainer = self._new_trainer()
        before = self.model._flat.copy()
        value = self.trainer.step(self.x, self.y)
        self.model._flat[...] = before  # 0 · NaN is NaN
        return value

    def gradients(self) -> dict[str, Array]:
        """Return the gradients of the parameters."""
        self.trainer = self._new_trainer()  # whose gradients `model.gradients` shows
        self()
        return {name: gradient.copy() for name, gradient in self.model.gradients.items()}


def _error(value: Callable[[], float], array: Array, gradient: Array, generator: Any) -> float:
    """Return by how much the slope along a random direction differs from the promised one, times sqrt(m).

    A random slope is about ‖g‖ / sqrt(m).
    """
    direction = generator.standard_normal(array.shape)
    direction /= np.linalg.norm(direction)
    promised = float(np.sum(gradient * direction))
    errors = [abs(_slope(value, array, direction, step) - promised) for step in STEPS]
    return float(np.sqrt(array.size)) * min((error for error in errors if not np.isnan(error)), default=np.inf)


def _slope(value: Callable[[], float], array: Array, direction: Array, step: float) -> float:
    """Return the central difference, and leave the array as it was."""
    point, values = array.copy(), []
    for signed in (step, -step):
        array[...] = point + signed * direction
        values.append(value())
    array[...] = point
    return (values[0] - values[1]) / (2 * step)
