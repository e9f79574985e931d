"""Which pixels and places a score depends on, by its gradient: saliency and Grad-CAM."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .. import checks, draws, exact, maps
from ..layers.base import Layer
from ..typing import Array, IntArray, RandomState, Shape
from .subject import BATCH, Executables, Subject

METHODS = ("gradient", "smooth_grad", "integrated_gradients")


def saliency(
    model: Any,
    X: Any,
    target: Any = None,
    *,
    method: Literal["gradient", "smooth_grad", "integrated_gradients"] = "gradient",
    samples: int = 25,
    noise: float = 0.1,
    steps: int = 32,
    baseline: Any = None,
    random_state: RandomState = None,
) -> Array:
    """Return how each number of a sample moves the score S_c of a class.

    With x the sample, S_c the output for the class before a last softmax or sigmoid,

        "gradient":              dS_c/dx
        "smooth_grad":           1/samples · Σ_k dS_c/dx at x + noise · (max x - min x) · z_k, z_k standard normal
        "integrated_gradients":  (x - x') · 1/steps · Σ_k dS_c/dx at x' + (k - 1/2)/steps · (x - x'), k = 1 … steps

    The last one adds up to S_c(x) - S_c(x'), as far as `steps` midpoints are the integral.

    Parameters
    ----------
    model : Sequential, Trainer, CNNClassifier or CNNRegressor
        Built or fitted; computed as in prediction, and not changed.
    X : array of shape (N, ...)
        As `predict` takes it.
    target : class, or array of shape (N,), optional
        Of a classifier from `classes_`, else the number of an output. Not given: the likeliest class of each sample.
    method : {"gradient", "smooth_grad", "integrated_gradients"}
    samples, noise : int, float
        Of "smooth_grad".
    steps : int
        Of "integrated_gradients".
    baseline : float, or array of shape (C,), optional
        x' of "integrated_gradients", in the numbers of X. Not given: what the model sees as 0, to an estimator the
        darkest value in training (the mean of a strip).
    random_state : None, int, RandomState or Generator
        Of "smooth_grad".

    Returns
    -------
    array of the shape of X
        In the numbers of X; where X is bytes and `model` is no estimator, by their values from 0 to 1. In the
        parameters' dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as it should be, or the model has other outputs than (N, classes).

    See Also
    --------
    grad_cam : Places in feature maps, rather than pixels.
    occlusion : Without gradients.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", ICLR workshop 2014, section 3.
    Smilkov et al., "SmoothGrad: removing noise by adding noise", arXiv:1706.03825 (2017), section 3.
    Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", ICML 2017, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Flatten, Sequential
    >>> from fastcnn.inspection import saliency
    >>> model = Sequential([Flatten(), Dense(3)]).build((1, 2, 2), random_state=0, dtype="float64")
    >>> gradient = saliency(model, np.ones((1, 1, 2, 2)), target=2)
    >>> bool(np.allclose(gradient.ravel(), model.parameters["1.weights"][:, 2]))
    True
    """
    if method not in METHODS:
        raise ValueError(f"saliency: method: expected one of {', '.join(METHODS)}; got {method!r}")
    subject = Subject(model, "saliency")
    x = subject.read(X)
    targets = subject.targets(target, x)
    if method == "gradient":
        return subject.by_numbers(subject.gradients(x, targets), X)
    if method == "smooth_grad":
        samples = checks.as_positive_int(samples, "saliency", "samples")
        noise = checks.as_number(noise, "saliency", "noise", at_least=0)
        return subject.by_numbers(_smooth(subject, x, targets, samples, noise, random_state), X)
    steps = checks.as_positive_int(steps, "saliency", "steps")
    start = np.broadcast_to(subject.scaled(baseline, "baseline"), x.shape)
    # The scaling of an estimator cancels out: it divides the gradient and multiplies the way.
    return subject.shaped(_integrated(subject, x, start, targets, steps), X)


def _smooth(
    subject: Subject, x: Array, targets: IntArray, samples: int, noise: float, random_state: RandomState
) -> Array:
    generator, axes = checks.as_generator(random_state), tuple(range(1, x.ndim))
    width = noise * (x.max(axis=axes, keepdims=True) - x.min(axis=axes, keepdims=True))
    executables, total = Executables(subject.segment()), np.zeros(x.shape)
    for _ in range(samples):
        noisy = x + width * draws.normal(generator, x.shape)
        total += subject.gradients(noisy.astype(subject.dtype), targets, executables)
    return (total / samples).astype(subject.dtype)


def _integrated(subject: Subject, x: Array, start: Array, targets: IntArray, steps: int) -> Array:
    executables, total, way = Executables(subject.segment()), np.zeros(x.shape), x.astype(np.float64) - start
    for k in range(steps):
        between = start + (k + 0.5) / steps * way
        total += subject.gradients(between.astype(subject.dtype), targets, executables)
    return (total / steps * way).astype(subject.dtype)


def grad_cam(
    model: Any, X: Any, target: Any = None, *, layer: int | str | None = None, size: Literal["layer", "input"] = "layer"
) -> Array:
    """Return where in a layer's feature maps the evidence for a class is: Grad-CAM.

    With A[k] the maps of the layer, of h × w pixels, and S_c the score of the class before a last softmax or sigmoid,

        alpha[k] = 1/(h·w) · Σ_i Σ_j dS_c/dA[k, i, j]
        L[i, j]  = max(0, Σ_k alpha[k] · A[k, i, j])

    Parameters
    ----------
    model : Sequential, Trainer, CNNClassifier or CNNRegressor
        Built or fitted; computed as in prediction, and not changed.
    X : array of shape (N, ...)
        As `predict` takes it.
    target : class, or array of shape (N,), optional
        As in `saliency`.
    layer : int or str, optional
        A layer with maps (C, h, w), by place or name as in `Sequential.outputs`. Not given: the last one behind a
        convolution whose maps have more than one pixel.
    size : {"layer", "input"}
        Whether the maps are of h × w pixels, or brought to those of X by bilinear interpolation.

    Returns
    -------
    array of shape (N, h, w)
        In the parameters' dtype; not scaled.

    Raises
    ------
    TypeError, ValueError
        If the layer has no maps, or `model` no layer that convolves and none was given.

    See Also
    --------
    saliency : By the pixels.
    Sequential.outputs : The feature maps.

    References
    ----------
    Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization", ICCV 2017,
    section 3, equations 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Dense, GlobalAvgPool2D, ReLU, Sequential
    >>> from fastcnn.inspection import grad_cam
    >>> model = Sequential([Conv2D(4, 3), ReLU(), GlobalAvgPool2D(), Dense(3)]).build((1, 8, 8), random_state=0)
    >>> grad_cam(model, np.ones((2, 1, 8, 8))).shape
    (2, 6, 6)
    """
    if size not in ("layer", "input"):
        raise ValueError(f"grad_cam: size: expected 'layer' or 'input'; got {size!r}")
    subject = Subject(model, "grad_cam")
    place = _map_layer(subject, layer)
    x = subject.read(X)
    targets = subject.targets(target, x)
    probe = _Probe()
    probe.build(maps.shapes(subject.model)[place], dtype=subject.dtype)
    executables = Executables(subject.segment({maps.places(subject.model)[place]: probe}))
    heat = []
    for first in range(0, len(x), BATCH):
        rows = slice(first, first + BATCH)
        probe.begin()
        executables.gradient(x[rows], targets[rows])
        seen, slopes = np.concatenate(probe.maps), np.concatenate(probe.slopes)
        pixels = slopes.reshape(*slopes.shape[:2], -1)
        alpha = exact.mean(pixels.transpose(2, 0, 1))[:, :, None, None]
        heat.append(np.maximum(exact.total((alpha * seen).transpose(1, 0, 2, 3)), 0))
    found = np.concatenate(heat).astype(subject.dtype)
    return found if size == "layer" else resize(found, (*subject.shape, 1)[1:3])


class _Probe(Layer):
    """The identity; it keeps the maps of forward passes and the gradients of backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Array] = []
        self.slopes: list[Array] = []

    def begin(self) -> None:
        """Forget all maps and gradients."""
        self.maps, self.slopes = [], []

    def _forward(self, x: Array) -> Array:
        self.maps.append(x.copy())
        return x

    def _backward(self, x: Array, y: Array, dL_dout: Array) -> Array:
        self.slopes.append(dL_dout.copy())
        return dL_dout


def _map_layer(subject: Subject, layer: int | str | None) -> str:
    """Return the place of a layer with maps that the scores are computed from."""
    model, shapes = subject.model, maps.shapes(subject.model)
    if layer is not None:
        place = maps.find_place(model, layer, "grad_cam", "layer")
        if len(shapes[place]) != 3:
            raise ValueError(f"grad_cam: layer: expected one with maps (C, h, w); {layer!r} has {shapes[place]}")
        return place
    convolved, behind = False, list[str]()
    for place, one in zip(map(str, range(len(model))), model.layers, strict=True):
        convolved = convolved or any(array.ndim == 4 for array in one.parameters.values())
        if convolved and len(shapes[place]) == 3:
            behind.append(place)
    if not behind:
        raise ValueError(
            "grad_cam: model: expected a convolution, whose maps show places; this model has none: "
            "name another layer with maps by layer=, or see saliency"
        )
    wide = [place for place in behind if shapes[place][1] * shapes[place][2] > 1]
    return (wide or behind)[-1]


def resize(maps: Array, size: Shape) -> Array:
    """Return maps (N, h, w) brought to (N, H, W) by bilinear interpolation between the middles of pixels."""
    for axis, length in ((1, size[0]), (2, size[1])):
        have = maps.shape[axis]
        at = np.clip((np.arange(length) + 0.5) * have / length - 0.5, 0, have - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape(-1, *[1] * (2 - axis)).astype(maps.dtype)
        high = np.minimum(low + 1, have - 1)
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps
