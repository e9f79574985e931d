"""`check_gradients`: whether a model's backward pass says the slopes that its forward pass has."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import checks
from .kinks import Kink, displace, kinked_losses, kinked_outputs
from .layers.base import Layer
from .layers.dense import Softmax
from .losses import Loss
from .model import Sequential
from .optim.groups import frozen_parameters
from .optim.optimizers import SGD
from .training.trainer import Trainer
from .typing import Array, RandomState

STEPS = (1e-5, 1e-6, 1e-7, 1e-4)  # a step may cross a kink or drown in rounding; a wrong gradient is wrong with each
ENOUGH = 1e-2  # share of the tolerance below which no other step is tried
MOVES = 3  # points nearby, where the check finds kinks: a gradient that is wrong is wrong at each
SMALL = 1e-4  # share of the largest gradient's norm below which a gradient is measured against that share


class GradientRow(NamedTuple):
    """What the check found out about one array.

    Attributes
    ----------
    name : str
        A parameter, or "input"; "3.input" is that of the model's layer 3 alone.
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
    kinks : tuple of Kink
        The layers with outputs at a kink, and how many, where the check had to move off them; empty where it had not.
    """

    rows: tuple[GradientRow, ...]
    tolerance: float
    kinks: tuple[Kink, ...] = ()

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
        if self.kinks:
            places = ", ".join(f"{kink.outputs:,} of {kink.of:,} outputs of {kink.name}" for kink in self.kinks)
            total = sum(kink.outputs for kink in self.kinks)
            lines.append(f"Moved off {total:,} kinks, where there is no slope: {places}.")
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

    so that kinks nearby, such as those of ReLU, and rounding disturb as little as they can.

    At a kink itself there is no slope: where ReLU gets exactly 0, as from a black background and biases of 0, where two
    maxima of a window are equal, where an absolute error is 0. If a gradient does not agree, the check looks for such
    outputs, layer by layer. If it finds some, it says so in the report and checks two things instead: each layer alone
    at its own input, the outputs at a kink left out; and the whole model beside the point, `x` and the parameters moved
    at random by a twentieth of their size. What a layer's gradient is exactly at a kink is a choice, and not checked.
    `MaxPool2`, which gives its gradient to every one of several equal maxima, is called wrong where they stay equal
    beside the point too: behind overlapping windows, or a convolution of regions in which ReLU gives 0.

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
        The relative error that is let pass.
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

    See Also
    --------
    Layer : What all layers share, and a layer of your own.

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
    generator, point = checks.as_generator(random_state), _point(x)
    twin = _in_double(model, point, generator)
    projected = _Projected(twin, point, generator)
    repeats = _repeats(twin, point, generator)
    if y is None and not repeats:
        raise ValueError(
            "check_gradients: y: expected targets, since two forward passes of this model differ, as with dropout; "
            "got None"
        )
    loss_of = projected if y is None else _Trained(twin, point, y, loss, always_new=not repeats)
    measure, frozen = _Measure(directions, tolerance, generator), frozen_parameters(twin)

    def rows_of(names: Container[str] | None = None) -> list[GradientRow]:
        gradients = loss_of.gradients()
        trained = {name: array for name, array in twin.parameters.items() if name not in frozen}
        problems = [_Problem(name, array, gradients[name], loss_of) for name, array in trained.items()]
        if repeats:
            problems.insert(0, _Problem("input", point, projected.gradients()["input"], projected))
        return measure.rows(problems, names)

    rows, kinks = rows_of(), list[Kink]()
    if not all(row.right for row in rows):
        kinks, alone = _layers_alone(twin, point, measure)
        if isinstance(loss_of, _Trained):
            kinks += loss_of.kinks(generator)
        if kinks:
            rows = _beside(rows_of, [point, *twin.parameters.values()], generator)
            rows = _with_wrong(rows, [row for row in alone if not row.right])
    report = GradientReport(tuple(rows), tolerance, tuple(kinks))
    if raises and not report.right:
        raise AssertionError(f"check_gradients: {len(report.wrong)} of {len(rows)} gradients are wrong\n{report}")
    return report


def _point(x: Any) -> Array:
    """Return the batch in float64; uint8 is scaled to [0, 1]."""
    point = checks.as_images(x, "check_gradients", "x").astype(np.float64)
    return point / 255 if np.asarray(x).dtype == np.uint8 else point


def _repeats(layer: Layer, x: Array, generator: Any) -> bool:
    """Tell whether a layer gives the same output again; beside `x`, as dropout of a black image is black."""
    beside = x.copy()
    displace([beside], generator)
    return np.array_equal(layer.forward(beside), layer.forward(beside))


class _Problem(NamedTuple):
    """An array, the gradient that is claimed for it, and the loss."""

    name: str
    array: Array
    gradient: Array
    value: Callable[[], float]


class _Measure(NamedTuple):
    """How gradients are measured against slopes."""

    directions: int
    tolerance: float
    generator: Any

    def rows(self, problems: list[_Problem], names: Container[str] | None = None) -> list[GradientRow]:
        """Return the rows of some problems, of all without names."""
        norms = [float(np.linalg.norm(problem.gradient)) for problem in problems]
        rows = []
        for problem, norm in zip(problems, norms, strict=True):
            if names is not None and problem.name not in names:
                continue
            others = [other for other, one in zip(norms, problems, strict=True) if one.value is problem.value]
            scale = max(norm, SMALL * max(others)) or 1.0
            error = max(self._error(problem, scale) for _ in range(self.directions))
            rows.append(GradientRow(problem.name, problem.array.size, norm, error, error <= self.tolerance))
        return rows

    def _error(self, problem: _Problem, scale: float) -> float:
        """Return by how much the slope along a random direction differs from the promised one, times sqrt(m) / scale.

        A random slope is about ‖g‖ / sqrt(m).
        """
        direction = self.generator.standard_normal(problem.array.shape)
        direction /= np.linalg.norm(direction)
        promised, least = float(np.sum(problem.gradient * direction)), np.inf
        for step in STEPS:
            error = abs(_slope(problem.value, problem.array, direction, step) - promised)
            least = min(least, np.sqrt(problem.array.size) * error / scale)  # a NaN is not less
            if least <= ENOUGH * self.tolerance:
                break
        return float(least)


def _layers_alone(model: Sequential, x: Array, measure: _Measure) -> tuple[list[Kink], list[GradientRow]]:
    """Return the layers at kinks, and the rows of each layer alone without outputs at kinks; none of random layers."""
    kinks: list[Kink] = []
    rows: list[GradientRow] = []
    for place, layer in enumerate(model.layers):
        y = layer.forward(x)
        if _repeats(layer, x, measure.generator):
            at_kinks = kinked_outputs(layer, x, measure.generator)
            if at_kinks.any():
                kinks.append(Kink(f"{place} ({layer.name})", int(at_kinks.sum()), at_kinks.size))
            alone = _Projected(layer, x, measure.generator, ~at_kinks)
            gradients, arrays = alone.gradients(), {"input": x, **layer.parameters}
            frozen = frozen_parameters(layer)
            rows += measure.rows(
                [
                    _Problem(f"{place}.{name}", array, gradients[name], alone)
                    for name, array in arrays.items() if name not in frozen
                ]
            )  # fmt: skip
        x = y
    return kinks, rows


def _beside(
    rows_of: Callable[[Container[str] | None], list[GradientRow]], arrays: list[Array], generator: Any
) -> list[GradientRow]:
    """Return the rows at a point nearby; those that are wrong there are measured at others too."""
    displace(arrays, generator)
    rows = rows_of(None)
    for _ in range(MOVES - 1):
        wrong = {row.name for row in rows if not row.right}
        if not wrong:
            break
        displace(arrays, generator)
        again = {row.name: row for row in rows_of(wrong)}
        rows = [again.get(row.name, row) for row in rows]
    return rows


def _with_wrong(rows: list[GradientRow], wrong: list[GradientRow]) -> list[GradientRow]:
    """Return the rows with wrong ones in their places, and those behind that have no place."""
    by_name = {row.name: row for row in wrong}
    return [by_name.pop(row.name, row) for row in rows] + [*by_name.values()]


def _in_double(model: Layer, point: Array, generator: Any) -> Sequential:
    """Return a copy as a model in float64, in training; built, if it was not."""
    twin = model.copy().train()
    model = twin if isinstance(twin, Sequential) else Sequential([twin])
    if twin.input_shape is None:
        return model.build(point.shape[1:], random_state=generator, dtype=np.float64)
    model._keep(input_shape=twin.input_shape)
    model._gather(np.dtype(np.float64))
    return model


class _Projected:
    """The loss `Σ w · model(x)` for random weights w, those of outputs that are not kept 0.

    The notebook's Softmax takes the gradient of its logits z: there the loss is `Σ w · log(model(x))`, whose weights
    add up to 0 for each sample, so that it is `Σ w · z`.
    """

    def __init__(self, model: Layer, x: Array, generator: Any, kept: Array | None = None) -> None:
        self.model, self.x = model, x
        output = model.forward(x)
        last = model.layers[-1] if isinstance(model, Sequential) else model
        self.of_logits = isinstance(last, Softmax)
        self.weights = generator.standard_normal(output.shape) / len(x)
        if kept is not None:
            self.weights *= kept
        if self.of_logits:
            self.weights -= self.weights.mean(axis=-1, keepdims=True)

    def __call__(self) -> float:
        output = self.model.forward(self.x)
        return float(np.sum(self.weights * (np.log(output) if self.of_logits else output)))

    def gradients(self) -> dict[str, Array]:
        """Return the gradients of the input and of the parameters."""
        self()
        dL_dinput = self.model.backward(self.weights)
        return {"input": dL_dinput.copy(), **{name: g.copy() for name, g in self.model.gradients.items()}}


class _Trained:
    """The loss of a training step that does not move."""

    def __init__(self, model: Sequential, x: Array, y: Any, loss: str | Loss, *, always_new: bool) -> None:
        self.model, self.x, self.y, self.loss = model, x, y, loss
        self.trainer, self.always_new = self._new_trainer(), always_new

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

    def kinks(self, generator: Any) -> list[Kink]:
        """Return the samples whose loss is at a kink; a loss that swallows an activation has none."""
        loss = self.trainer.loss
        if loss.swallows:
            return []
        at_kinks = kinked_losses(loss, self.model.forward(self.x), self.y, generator)
        return [Kink("loss", int(at_kinks.sum()), at_kinks.size)] if at_kinks.any() else []


def _slope(value: Callable[[], float], array: Array, direction: Array, step: float) -> float:
    """Return the central difference, and leave the array as it was."""
    point, values = array.copy(), []
    for signed in (step, -step):
        array[...] = point + signed * direction
        values.append(value())
    array[...] = point
    return (values[0] - values[1]) / (2 * step)
