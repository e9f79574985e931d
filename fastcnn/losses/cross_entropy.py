"""Cross-entropy of one class among several: of a sample or of each pixel, by integers or by probabilities."""

from __future__ import annotations

import math
from typing import Any, final

import numpy as np

from .. import checks, exact
from ..engine.workspace import Workspace
from ..kernels import loss as kernels
from ..labels import checked_labels, counts, wrong_labels
from ..settings import Setting, number, optional_whole
from ..typing import Array, Shape
from .base import End, Loss, Targets


@final
class CrossEntropy(Loss):
    """Cross-entropy of a target distribution y and the softmax p of the logits.

    With K classes, label smoothing ε and class weights w: `y' = (1 − ε)·y + ε/K`, `ℓ_n = −Σ_k w_k·y'_nk·log p_nk`,
    `m_n = Σ_k w_k·y_nk`; the gradient by the logits is `p_nk·Σ_m w_m·y'_nm − w_k·y'_nk`, over the sum of `s·m`: plainly
    `(p − y) / N`. Targets are classes (N,) of integers, or one-hot or soft rows (N, K) that sum to 1. A model that ends
    in a softmax is taken at its logits.

    For segmentation, an output of maps (N, K, H, W): n counts the pixels of all images, each with the weight of its
    image; the softmax is along the channels. Targets are classes (N, H, W), or probabilities (N, K, H, W).

    Parameters
    ----------
    label_smoothing : float
        ε, in [0, 1).
    class_weight : array of shape (K,), optional
        w, at least 0.
    ignore_index : int, optional
        The label of samples or pixels that do not count, neither in the sums nor in the accuracy: any whole number. If
        it is one of the classes, that class is no target. Every label counts if not given.

    See Also
    --------
    BinaryCrossEntropy : Cross-entropy of independent answers.
    models.unet : A network for segmentation.

    Notes
    -----
    With class weights the mean is divided by the sum of the weights of the targets, as PyTorch does for integer
    targets. For rows PyTorch divides by N; here a one-hot row counts as the integer that it stands for.

    PyTorch's `ignore_index` is −100 unless it is given; here nothing is ignored then, so that a wrong label is an
    error. Where every label of a batch is ignored, or has a class weight of 0 in all pixels, PyTorch's mean is NaN;
    here the loss and its gradient are 0, the accuracy is NaN, and the batch does not count in the means of an epoch.

    A loss near 0 is exact to a few units in the last place, and so is its gradient: `−log p` of the likeliest class is
    computed as `log(1 + Σ_m exp(z_m − z_k))` over the other classes, where PyTorch's is 0 below 6e-8.

    References
    ----------
    Bishop, "Pattern recognition and machine learning", 2006, section 4.3.4; Szegedy et al., "Rethinking the Inception
    architecture for computer vision", CVPR 2016, section 7, for the smoothing; Long, Shelhamer and Darrell, "Fully
    convolutional networks for semantic segmentation", CVPR 2015, section 4, for the sum over pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import CrossEntropy
    >>> round(CrossEntropy()([[2.0, -1.0, 0.0]], [0]), 4)
    0.1698
    >>> round(CrossEntropy(label_smoothing=0.1)([[2.0, -1.0, 0.0]], [0]), 4)
    0.3365
    >>> maps, labels = np.zeros((1, 3, 2, 2)), [[[0, 1], [2, 255]]]
    >>> round(CrossEntropy(ignore_index=255)(maps, labels), 4)  # the logarithm of 3
    1.0986
    """

    name = "cross_entropy"
    swallows = "softmax"
    has_accuracy = True
    replayable = True
    label_smoothing = number(at_least=0, below=1)
    class_weight: Setting[Array | None] = Setting(lambda value, owner, name: _class_weight(value))
    ignore_index = optional_whole()

    def __init__(self, label_smoothing: float = 0.0, class_weight: Any = None, ignore_index: int | None = None) -> None:
        self.label_smoothing, self.class_weight, self.ignore_index = label_smoothing, class_weight, ignore_index

    def targets(self, end: End, y: Any, n: int, sample_weight: Any = None) -> Targets:
        array = y if type(y) is np.ndarray else np.asarray(checks.unmasked(y, self.name, end.argument))
        classes, class_weight = end.channels, self.class_weight
        if class_weight is not None and class_weight.size != classes:
            raise ValueError(
                f"{self.name}: class_weight: expected {classes} weights, one a class; got {class_weight.size}"
            )
        is_plain = self.ignore_index is None and end.pixels == 1
        if is_plain and array.shape == (n,) and array.dtype.kind in "biu":
            return self._labels(end, array, sample_weight)
        labels, rows = _target_shapes(end, n)
        if array.shape in rows and array.dtype.kind in "biuf":
            return self._distributions(end, array, n, sample_weight)
        if array.shape not in labels or array.dtype.kind not in "biu":
            raise self._wrong_kind(end, array, n)
        if is_plain:
            return self._labels(end, array.reshape(n), sample_weight)
        return self._label_maps(end, array, n, sample_weight)

    def _labels(self, end: End, array: Array, sample_weight: Any) -> Targets:
        """Return the targets of one class for each sample."""
        n, classes, class_weight = len(array), end.channels, self.class_weight
        labels = array.astype(np.int64)  # a copy: what is checked is what is used, whatever another thread does to y
        if labels.item(labels.argmin()) < 0 or labels.item(labels.argmax()) >= classes:
            wrong = labels[(labels < 0) | (labels >= classes)].astype(array.dtype)
            raise wrong_labels(wrong, classes, None, f"{self.name}: {end.argument}")
        if sample_weight is None and class_weight is None and self.label_smoothing == 0:
            return Targets((labels,), float(n), float(n))
        mass = None if class_weight is None else class_weight[labels]
        return self._soft(end, np.eye(classes)[labels], mass, self._sample_weight(sample_weight, n))

    def _label_maps(self, end: End, array: Array, n: int, sample_weight: Any) -> Targets:
        """Return the targets of classes that lie in maps, or of which some are ignored."""
        classes, smoothing, where = end.channels, self.label_smoothing, f"{self.name}: {end.argument}"
        labels = checked_labels(array, classes, self.ignore_index, where).reshape(n, end.pixels)
        s, w = self._sample_weight(sample_weight, n), self._weights_of(classes)
        self._total(s)
        found = np.count_nonzero(labels >= 0, axis=1)
        mass = s * found if self.class_weight is None else (s[:, None] * (w * counts(labels, classes))).ravel()
        total = self._sum(mass)
        scale = s / total if total else np.zeros(n)
        parts = [smoothing / classes * w, (1 - smoothing) * w]
        table = np.array([*parts[0], *parts[1], math.fsum(parts[0].tolist())])
        arrays = labels.ravel(), table.astype(end.dtype), scale.astype(end.dtype)
        return Targets(arrays, 1.0, total, int(found.sum()))

    def _distributions(self, end: End, array: Array, n: int, sample_weight: Any) -> Targets:
        """Return the targets of probabilities, for each sample or pixel."""
        if self.ignore_index is not None:
            raise ValueError(
                f"{self.name}: {end.argument}: expected integer classes with ignore_index = {self.ignore_index}; got "
                f"probabilities of shape {array.shape}"
            )
        pixels = np.moveaxis(array.reshape(n, end.channels, end.pixels), 1, 2).reshape(-1, end.channels)
        rows = _check_rows(pixels, f"{self.name}: {end.argument}")
        weighted = rows if self.class_weight is None else rows * self.class_weight
        s = np.repeat(self._sample_weight(sample_weight, n), end.pixels)
        targets = self._soft(end, rows, exact.total(weighted.T), s)
        return targets if end.pixels == 1 else targets._replace(counted=n * end.pixels)

    def _wrong_kind(self, end: End, array: Array, n: int) -> Exception:
        """Return what to raise for targets that are neither classes nor rows."""
        where, (labels, rows) = f"{self.name}: {end.argument}", _target_shapes(end, n)
        if array.dtype.kind not in "biu" and (array.dtype.kind != "f" or array.shape in labels):
            return TypeError(f"{where}: expected integer classes; got dtype {array.dtype}")
        one, other = ("pixel", "probabilities") if end.pixels > 1 else ("sample", "one row")
        hint = ""
        if end.pixels > 1 and array.ndim < 3:
            hint = f", and samples of shape {end.layout.shape} from the model: for one class an image, end it in Dense"
        return ValueError(
            f"{where}: expected shape {labels[0]}, one class per {one}, or {rows[0]}, {other}; "
            f"got shape {array.shape}{hint}"
        )

    def _weights_of(self, classes: int) -> Array:
        return np.ones(classes) if self.class_weight is None else self.class_weight

    def _soft(self, end: End, rows: Array, mass: Array | None, s: Array) -> Targets:
        """Return s·w·y' / Σ s·m for each row, and the likeliest classes; `mass` is m, None where all are 1."""
        w = self._weights_of(end.channels)
        smooth = (1 - self.label_smoothing) * rows + self.label_smoothing / end.channels
        total = self._total(s if mass is None else s * mass)
        weights = (s[:, None] * w * smooth / total).astype(end.dtype).ravel()
        return Targets((rows.argmax(axis=1), weights), 1.0, total)

    def evaluate(self, end: End, n: int, workspace: Workspace, targets: Targets, first: int, totals: Array) -> None:
        labels, *weights = targets.arrays
        x, dx = end.maps(workspace)
        if len(weights) == 2:
            table, scale = weights
            kernels.label_cross_entropy(x, n, end.pixels, end.channels, labels, table, scale, first, dx, totals)
        elif weights:
            first, n = first * end.pixels, n * end.pixels
            kernels.soft_cross_entropy(x, n, end.channels, weights[0], labels, first, dx, totals)
        else:
            share = end.dtype.type(1 / targets.total)
            kernels.softmax_cross_entropy(x, n, end.channels, labels, first, share, dx, totals)


def _class_weight(value: Any) -> Array | None:
    """Return checked class weights, a read-only copy in float64."""
    if value is None:
        return None
    weights = np.array(checks.as_images(value, "CrossEntropy", "class_weight"), np.float64)
    if weights.ndim != 1 or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"CrossEntropy: class_weight: expected (K,) finite weights of at least 0; got {value!r}")
    weights.flags.writeable = False
    return weights


def _target_shapes(end: End, n: int) -> tuple[list[Shape], list[Shape]]:
    """Return the shapes that classes may have, and those of probabilities; errors tell the first of each."""
    channels, *size = end.layout.shape
    labels: list[Shape] = [(n, *size)]
    rows: list[Shape] = [(n, channels, *size)]
    return (labels, rows) if end.pixels > 1 else ([(n,), *labels], [(n, channels), *rows])


def _check_rows(rows: Array, where: str) -> Array:
    """Return rows of probabilities in float64."""
    y = rows.astype(np.float64)
    if not ((y >= 0).all() and np.allclose(y.sum(axis=1), 1, atol=1e-3)):
        raise ValueError(f"{where}: expected rows of probabilities that sum to 1; got {rows}")
    return y
