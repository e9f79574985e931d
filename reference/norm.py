"""Normalisation to mean 0 and variance 1: of each channel, of groups of channels, of whole examples."""

from __future__ import annotations

from typing import final

import numpy as np

from reference.base import Array, Layer, Parameter, Shape, integer, real


def standardize(x: Array, epsilon: float) -> Array:
    """x̂ = (x − μ) / √(σ² + ε), with the mean μ and the variance σ² (divided by the count, m) of all numbers in x."""
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + epsilon))


def standardize_backward(x: Array, dL_dx_hat: Array, epsilon: float) -> Array:
    """dL/dx = (dL/dx̂ − mean(dL/dx̂) − x̂·mean(x̂·dL/dx̂)) / √(σ² + ε): μ and σ² depend on x as well."""
    x_hat = standardize(x, epsilon)
    centred = dL_dx_hat - dL_dx_hat.mean() - x_hat * (x_hat * dL_dx_hat).mean()
    return np.asarray(centred / np.sqrt(x.var() + epsilon))


class _Normalisation(Layer):
    """The scale γ and the shift β that normalisations end with, one of each for each channel."""

    ranks = (2, 4)
    gamma = Parameter()
    beta = Parameter()

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = real(self.name, "epsilon", epsilon, at_least=0)

    def _output_shape(self, input_shape: Shape) -> Shape:
        if self.built:
            self._expect_size("channels", len(self.gamma), input_shape[0])
        return input_shape

    def _build(self, input_shape: Shape) -> None:
        self._add("gamma", np.ones(input_shape[0]))
        self._add("beta", np.zeros(input_shape[0]))


@final
class BatchNorm(_Normalisation):
    """Batch normalisation: each channel c over the batch, y = γ_c·x̂ + β_c, x̂ = (x − μ_c) / √(σ²_c + ε).

    In training μ and σ² are those of the m numbers x[:, c], exactly, over the whole batch, and
    running ← (1 − momentum)·running + momentum·batch, where the running variance takes the unbiased σ²·m/(m − 1). In
    prediction (``training = False``) μ and σ² are the running ones. dL/dγ = Σ dL/dy·x̂, dL/dβ = Σ dL/dy; dL/dx in
    training: ``standardize_backward`` of γ·dL/dy; in prediction γ·dL/dy / √(σ² + ε).

    Parameters
    ----------
    momentum : float
        In [0, 1], the weight of the new batch, as in PyTorch; Keras's momentum is 1 − ours. Keras also takes the
        biased variance for the running one.
    epsilon : float
        ε.
    scale, center : bool
        Whether there are γ and β; without them they are 1 and 0.

    Attributes
    ----------
    gamma, beta : ndarray, (C,)
        1 and 0 at the start.
    running_mean, running_var : ndarray, (C,)
        0 and 1 at the start; there once the layer is built.

    Raises
    ------
    ValueError
        In training, if a channel has a single number, which has no variance.

    References
    ----------
    Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift", algorithms 1 and 2, §3.
    """

    running_mean: Array
    running_var: Array

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5, scale: bool = True, center: bool = True) -> None:
        super().__init__(epsilon)
        self.scale, self.center, self.channels = scale, center, 0
        self.momentum = real(self.name, "momentum", momentum, at_least=0, at_most=1)
        self._by_batch = True

    def _output_shape(self, input_shape: Shape) -> Shape:
        if self.built:
            self._expect_size("channels", self.channels, input_shape[0])
        return input_shape

    def _build(self, input_shape: Shape) -> None:
        self.channels = input_shape[0]
        if self.scale:
            self._add("gamma", np.ones(self.channels))
        if self.center:
            self._add("beta", np.zeros(self.channels))
        self.running_mean, self.running_var = np.zeros(input_shape[0]), np.ones(input_shape[0])

    def _forward(self, input: Array) -> Array:
        m, a = input[:, 0].size, self.momentum
        if self.training and m == 1:
            raise ValueError(f"{self.name}: input: expected more than one number a channel, got shape {input.shape}")
        self._by_batch = self.training
        output = np.empty_like(input)
        for c in range(input.shape[1]):
            x, (gamma, beta) = input[:, c], self._scale_and_shift(c)
            if self._by_batch:
                output[:, c] = gamma * standardize(x, self.epsilon) + beta
                self.running_mean[c] = (1 - a) * self.running_mean[c] + a * x.mean()
                self.running_var[c] = (1 - a) * self.running_var[c] + a * x.var() * m / (m - 1)
            else:
                output[:, c] = gamma * self._by_running(c, x) + beta
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput = np.empty_like(input)
        for c in range(input.shape[1]):
            x, g, (gamma, _) = input[:, c], dL_dout[:, c], self._scale_and_shift(c)
            x_hat = standardize(x, self.epsilon) if self._by_batch else self._by_running(c, x)
            if self.scale:
                self.gradients["gamma"][c] = np.sum(g * x_hat)
            if self.center:
                self.gradients["beta"][c] = np.sum(g)
            if self._by_batch:
                dL_dinput[:, c] = standardize_backward(x, gamma * g, self.epsilon)
            else:
                dL_dinput[:, c] = gamma * g / np.sqrt(self.running_var[c] + self.epsilon)
        return dL_dinput

    def _scale_and_shift(self, c: int) -> tuple[float, float]:
        """γ_c and β_c."""
        return float(self.gamma[c]) if self.scale else 1.0, float(self.beta[c]) if self.center else 0.0

    def _by_running(self, c: int, x: Array) -> Array:
        return np.asarray((x - self.running_mean[c]) / np.sqrt(self.running_var[c] + self.epsilon))


@final
class GroupNorm(_Normalisation):
    """Group normalisation: each example in groups of C/G channels, y = γ_c·x̂ + β_c, x̂ standardized over the group.

    dL/dγ_c = Σ_{n,i,j} dL/dy·x̂, dL/dβ_c = Σ_{n,i,j} dL/dy; dL/dx = ``standardize_backward`` of γ·dL/dy in a group.

    Parameters
    ----------
    num_groups : int
        G; divides the channels.
    epsilon : float
        ε.

    Attributes
    ----------
    gamma, beta : ndarray, (C,)
        1 and 0 at the start.

    References
    ----------
    Wu and He 2018, "Group normalization", §3.
    """

    def __init__(self, num_groups: int, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        self.num_groups = integer(self.name, "num_groups", num_groups, at_least=1)

    def _output_shape(self, input_shape: Shape) -> Shape:
        C = input_shape[0]
        if C % self.num_groups:
            raise ValueError(f"{self.name}: num_groups: expected a divisor of {C} channels, got {self.num_groups}")
        return super()._output_shape(input_shape)

    def _groups(self, input: Array) -> list[tuple[int, slice]]:
        size = input.shape[1] // self.num_groups
        return [(n, slice(g * size, (g + 1) * size)) for n in range(len(input)) for g in range(self.num_groups)]

    def _forward(self, input: Array) -> Array:
        output = np.empty_like(input)
        for n, group in self._groups(input):
            x = input[n, group]
            gamma, beta = _channels(self.gamma[group], x), _channels(self.beta[group], x)
            output[n, group] = gamma * standardize(x, self.epsilon) + beta
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput, x_hat = np.empty_like(input), np.empty_like(input)
        for n, group in self._groups(input):
            x, g = input[n, group], dL_dout[n, group]
            x_hat[n, group] = standardize(x, self.epsilon)
            dL_dinput[n, group] = standardize_backward(x, _channels(self.gamma[group], x) * g, self.epsilon)
        others = tuple(axis for axis in range(input.ndim) if axis != 1)
        self.gradients["gamma"][...] = np.sum(dL_dout * x_hat, axis=others)
        self.gradients["beta"][...] = np.sum(dL_dout, axis=others)
        return dL_dinput


@final
class LayerNorm(_Normalisation):
    """Layer normalisation: each example over all of its numbers, y = γ·x̂ + β, with a γ and a β for every one of them.

    dL/dγ = Σ_n dL/dy·x̂, dL/dβ = Σ_n dL/dy, dL/dx = ``standardize_backward`` of γ·dL/dy, example by example.

    Parameters
    ----------
    epsilon : float
        ε. PyTorch's default is followed; Keras has 1e-3.

    Attributes
    ----------
    gamma, beta : ndarray, (C, H, W) or (D,)
        1 and 0 at the start. As PyTorch's ``LayerNorm((C, H, W))``; Keras normalises the last axis alone.

    References
    ----------
    Ba et al. 2016, "Layer normalization", §3.
    """

    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)

    def _output_shape(self, input_shape: Shape) -> Shape:
        if self.built and input_shape != self.gamma.shape:
            raise ValueError(
                f"{self.name}: input: expected shape {self.gamma.shape}, as the layer was built, got {input_shape}"
            )
        return input_shape

    def _build(self, input_shape: Shape) -> None:
        self._add("gamma", np.ones(input_shape))
        self._add("beta", np.zeros(input_shape))

    def _forward(self, input: Array) -> Array:
        output = np.empty_like(input)
        for n, x in enumerate(input):
            output[n] = self.gamma * standardize(x, self.epsilon) + self.beta
        return output

    def _backward(self, input: Array, dL_dout: Array) -> Array:
        dL_dinput, x_hat = np.empty_like(input), np.empty_like(input)
        for n, x in enumerate(input):
            x_hat[n] = standardize(x, self.epsilon)
            dL_dinput[n] = standardize_backward(x, self.gamma * dL_dout[n], self.epsilon)
        self.gradients["gamma"][...] = np.sum(dL_dout * x_hat, axis=0)
        self.gradients["beta"][...] = np.sum(dL_dout, axis=0)
        return dL_dinput


def _channels(values: Array, like: Array) -> Array:
    """Return (C,) in a shape that multiplies (C, H, W) or (C,)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
