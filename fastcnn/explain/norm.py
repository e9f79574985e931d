"""Normalisations as loops, in prediction mode."""

from __future__ import annotations

import numpy as np

from ..typing import Array
from .loop import Loop
from .steps import Position, Step

FORMULA = "y = gamma · (x − mean) / √(variance + epsilon) + beta"


def standardize(x: Array, epsilon: float) -> Array:
    """Return (x − μ) / √(σ² + ε) over all numbers of x."""
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + epsilon))


def standardize_backward(x: Array, dL_dx_hat: Array, epsilon: float) -> Array:
    """Return the gradient of `standardize` by x."""
    x_hat = standardize(x, epsilon)
    centred = dL_dx_hat - dL_dx_hat.mean() - x_hat * (x_hat * dL_dx_hat).mean()
    return np.asarray(centred / np.sqrt(x.var() + epsilon))


class Normalised(Loop):
    """What normalisations share: steps with the numbers of the formula."""

    words = ""

    def _parts(self, at: Position) -> tuple[float, float, Array]:
        """Return mean and variance for a number, and its index in gamma and beta."""
        raise NotImplementedError

    def _index(self, at: Position) -> Position:
        return at[:1]

    def _normalised(self) -> Array:
        """Return x̂ for the whole sample."""
        raise NotImplementedError

    def _moments(self, at: Position) -> tuple[float, float]:
        raise NotImplementedError

    def explain(self, at: Position) -> Step:
        mean, variance = self._moments(at)
        index = self._index(at)
        numbers = {
            "mean": mean, "variance": variance, "epsilon": float(self.layer.epsilon),
            "x̂ = (x − mean) / √(variance + epsilon)": float(self._normalised()[(0, *at)]),
            "gamma": self._parameter("gamma", index, 1.0), "beta": self._parameter("beta", index, 0.0),
        }  # fmt: skip
        return self._step(
            "norm", at, FORMULA, terms=(self._input(at),), labels=("input",), numbers=numbers, words=self.words
        )

    def _parameter(self, name: str, index: Position, otherwise: float) -> float:
        """Return a number of gamma or beta, or what stands for it in a layer that has none."""
        return float(self.parameters[name][index]) if name in self.parameters else otherwise

    def explain_gradient(self, name: str, at: Position) -> Step:
        x_hat = self._normalised()
        size = self.output_gradient.shape[2:] if len(at) == 1 else ()
        places = [(*at, *rest) for rest in np.ndindex(*size)]
        if name == "beta":
            terms = [self._slope_at(place) for place in places]
            return self._gradient_step(
                name, at, "dL/dbeta = Σ dL/dy", terms, grid=size or (1,), labels=("dL/dy",), words=self.words
            )
        terms = [self._slope_at(place, float(x_hat[(0, *place)])) for place in places]
        return self._gradient_step(
            name, at, "dL/dgamma = Σ dL/dy · x̂", terms, grid=size or (1,), labels=("dL/dy", "x̂"), words=self.words
        )


class BatchNormalised(Normalised):
    """Batch normalisation by the running mean and variance."""

    words = "In prediction the running mean and variance of the batches so far serve; in training those of the batch."

    def _weights(self) -> dict[str, Array]:
        return {**self.layer.parameters, "mean": self.layer.running_mean, "variance": self.layer.running_var}

    def _moments(self, at: Position) -> tuple[float, float]:
        return float(self.parameters["mean"][at[0]]), float(self.parameters["variance"][at[0]])

    def _by_running(self, c: int, x: Array) -> Array:
        mean, variance = self.parameters["mean"][c], self.parameters["variance"][c]
        return np.asarray((x - mean) / np.sqrt(variance + self.layer.epsilon))

    def _normalised(self) -> Array:
        x_hat = np.empty_like(self.x)
        for c in range(self.x.shape[1]):
            x_hat[:, c] = self._by_running(c, self.x[:, c])
        return x_hat

    def _forward(self, x: Array) -> Array:
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            gamma, beta = self._parameter("gamma", (c,), 1.0), self._parameter("beta", (c,), 0.0)
            y[:, c] = gamma * self._by_running(c, x[:, c]) + beta
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx, channels = np.empty_like(x), range(x.shape[1])
        for c in channels:
            gamma = self._parameter("gamma", (c,), 1.0)
            dL_dx[:, c] = gamma * dL_dy[:, c] / np.sqrt(self.parameters["variance"][c] + self.layer.epsilon)
        sums = {
            "gamma": [np.sum(dL_dy[:, c] * self._by_running(c, x[:, c])) for c in channels],
            "beta": [np.sum(dL_dy[:, c]) for c in channels],
        }
        self.gradients = {name: np.array(sums[name]) for name in sums if name in self.parameters}
        return dL_dx


class Standardized(Normalised):
    """A normalisation over numbers of the sample itself, group by group."""

    words = "Mean and variance are those of this image's numbers."

    def _groups(self, x: Array) -> list[slice]:
        raise NotImplementedError

    def _group(self, at: Position) -> slice:
        return next(group for group in self._groups(self.x) if group.start <= at[0] < group.stop)

    def _moments(self, at: Position) -> tuple[float, float]:
        x = self.x[0, self._group(at)]
        return float(x.mean()), float(x.var())

    def _normalised(self) -> Array:
        x_hat = np.empty_like(self.x)
        for group in self._groups(self.x):
            x_hat[0, group] = standardize(self.x[0, group], self.layer.epsilon)
        return x_hat

    def _shaped(self, values: Array, like: Array) -> Array:
        return values.reshape(-1, *[1] * (like.ndim - 1)) if values.ndim == 1 else values

    def _forward(self, x: Array) -> Array:
        y = np.empty_like(x)
        for group in self._groups(x):
            seen = x[0, group]
            gamma, beta = (self._shaped(self.parameters[name][group], seen) for name in ("gamma", "beta"))
            y[0, group] = gamma * standardize(seen, self.layer.epsilon) + beta
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = np.empty_like(x)
        for group in self._groups(x):
            gamma = self._shaped(self.parameters["gamma"][group], x[0, group])
            dL_dx[0, group] = standardize_backward(x[0, group], gamma * dL_dy[0, group], self.layer.epsilon)
        others = self._others(x)
        self.gradients["gamma"] = np.sum(dL_dy * self._normalised(), axis=others)
        self.gradients["beta"] = np.sum(dL_dy, axis=others)
        return dL_dx

    def _others(self, x: Array) -> tuple[int, ...]:
        return tuple(axis for axis in range(x.ndim) if axis != 1)


class GroupNormalised(Standardized):
    """Group normalisation."""

    def _groups(self, x: Array) -> list[slice]:
        size = x.shape[1] // self.layer.num_groups
        return [slice(g * size, (g + 1) * size) for g in range(self.layer.num_groups)]


class LayerNormalised(Standardized):
    """Layer normalisation."""

    def _groups(self, x: Array) -> list[slice]:
        return [slice(0, x.shape[1])]

    def _index(self, at: Position) -> Position:
        return at

    def _others(self, x: Array) -> tuple[int, ...]:
        return (0,)

    def _shaped(self, values: Array, like: Array) -> Array:
        return values


class Rescaled(Loop):
    """`Scale`: constants by which a channel is multiplied, and that are added."""

    def _constant(self, name: str, c: int) -> float:
        value = getattr(self.layer, name)
        return float(value[c] if isinstance(value, tuple) else value)

    def _forward(self, x: Array) -> Array:
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            y[:, c] = self._constant("factor", c) * x[:, c] + self._constant("shift", c)
        return y

    def _backward(self, x: Array, dL_dy: Array) -> Array:
        dL_dx = np.empty_like(x)
        for c in range(x.shape[1]):
            dL_dx[:, c] = self._constant("factor", c) * dL_dy[:, c]
        return dL_dx

    def explain(self, at: Position) -> Step:
        numbers = {name: self._constant(name, at[0]) for name in ("factor", "shift")}
        return self._step(
            "norm", at, "y = factor · x + shift", terms=(self._input(at),), labels=("input",), numbers=numbers
        )
