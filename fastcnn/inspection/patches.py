"""Which parts of an image a score depends on: it is computed anew with each of them covered."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..typing import Array
from .subject import Subject


def occlusion(
    model: Any,
    X: Any,
    target: Any = None,
    *,
    size: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] = 1,
    value: Any = None,
) -> Array:
    """Return by how much the score of a class falls where a patch of the image is covered.

    With S_c the score of the class before a last softmax or sigmoid, and x[i, j] the image whose rows i·s … i·s + k - 1
    and columns j·s … j·s + k - 1 have the `value` in all channels, k the size and s the stride,

        D[i, j] = S_c(x) - S_c(x[i, j]),    i < (H - k) // s + 1,  j < (W - k) // s + 1

    Parameters
    ----------
    model : Sequential, Trainer, CNNClassifier or CNNRegressor
        Of images, built or fitted; computed as in prediction, and not changed.
    X : array of shape (N, ...)
        As `predict` takes it.
    target : class, or array of shape (N,), optional
        As in `saliency`.
    size, stride : int or pair of int
        Of the patch, (vertical, horizontal). A size that is not given is 3, or the image's where that is less.
    value : float, or array of shape (C,), optional
        What covers, in the numbers of X (bytes count from 0 to 1 for a model). Not given: what the model sees as 0, to
        an estimator the darkest value in training.

    Returns
    -------
    array of shape (N, h, w)
        In the parameters' dtype: positive where the patch speaks for the class.

    Raises
    ------
    TypeError, ValueError
        If the model is none of images, or the patch is larger than they are.

    See Also
    --------
    saliency : By the gradient, in one pass.

    References
    ----------
    Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Dense, Flatten, Sequential
    >>> from fastcnn.inspection import occlusion
    >>> model = Sequential([Conv2D(4, 3), Flatten(), Dense(3)]).build((1, 8, 8), random_state=0)
    >>> occlusion(model, np.ones((2, 1, 8, 8)), size=2, stride=2).shape
    (2, 4, 4)
    """
    subject = Subject(model, "occlusion")
    if len(subject.shape) != 3:
        raise ValueError(f"occlusion: model: expected a model of images (C, H, W); this one takes {subject.shape}")
    image = subject.shape[1], subject.shape[2]
    tall, wide = (min(3, image[0]), min(3, image[1])) if size is None else _pair(size, "size")
    down, right = _pair(stride, "stride")
    if tall > image[0] or wide > image[1]:
        raise ValueError(f"occlusion: size: expected at most the image's {image}; got {(tall, wide)}")
    x, cover = subject.read(X), subject.scaled(value, "value")
    targets = subject.targets(target, x)
    scorer, rows = subject.scorer(), np.arange(len(x))
    before = scorer(x)[rows, targets]
    fall = np.empty((len(x), (image[0] - tall) // down + 1, (image[1] - wide) // right + 1), subject.dtype)
    for i in range(fall.shape[1]):
        for j in range(fall.shape[2]):
            top, left = i * down, j * right
            covered = x.copy()
            window = np.s_[..., top : top + tall, left : left + wide]
            covered[window] = np.broadcast_to(cover, subject.shape)[window]
            fall[:, i, j] = before - scorer(covered)[rows, targets]
    return fall


def _pair(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"occlusion: {name}: expected an int or (vertical, horizontal); got {value!r}")
        return checks.as_positive_int(value[0], "occlusion", name), checks.as_positive_int(value[1], "occlusion", name)
    return (checks.as_positive_int(value, "occlusion", name),) * 2
