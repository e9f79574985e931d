"""Why a network says what it says, in pictures: `SaliencyDisplay`, `MistakesDisplay`."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

import numpy as np

from .. import checks
from ..inspection.attribution import grad_cam, saliency
from ..inspection.mistakes import Mistakes, worst_mistakes
from ..inspection.subject import Subject
from ..typing import Array
from .figures import INCHES, make_axes, picture, show, square, symmetric

Method = Literal["gradient", "smooth_grad", "integrated_gradients", "grad_cam"]
WAYS = get_args(Method)


class SaliencyDisplay:
    """Images, and below each which of its pixels move the score of a class.

    Parameters
    ----------
    images : array of shape (N, C, H, W)
        Shown above.
    saliency : array of shape (N, H, W)
        Red speaks for the class, blue against it.
    titles : sequence of str, optional
        One for each image.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes, of shape (2, N)
        Images in the first row, saliency in the second.

    See Also
    --------
    inspection.saliency : The arrays, and the formulas.
    inspection.grad_cam : Of the method "grad_cam".

    Examples
    --------
    With matplotlib, `SaliencyDisplay.from_estimator(classifier, X[:5], method="smooth_grad")`; without a picture:

    >>> import numpy as np
    >>> from fastcnn.display import SaliencyDisplay
    >>> SaliencyDisplay(np.zeros((2, 1, 8, 8)), np.zeros((2, 8, 8))).saliency.shape
    (2, 8, 8)
    """

    def __init__(self, images: Array, saliency: Array, titles: Any = None) -> None:
        images, saliency = np.asarray(images), np.asarray(saliency)
        if images.ndim != 4 or saliency.shape != (len(images), *images.shape[2:]):
            raise ValueError(
                "SaliencyDisplay: saliency: expected images (N, C, H, W) and (N, H, W); "
                f"got shapes {images.shape} and {saliency.shape}"
            )
        self.images, self.saliency = images, saliency
        self.titles = [""] * len(images) if titles is None else [str(title) for title in titles]

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, target: Any = None, *, method: Method = "gradient", ax: Any = None, **settings: Any
    ) -> Self:
        """Draw the saliency of an estimator or a model, for each of the samples.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor, Trainer or Sequential
            Fitted or built.
        X : array of shape (N, ...)
            As `predict` takes it; few.
        target : class, or array of shape (N,), optional
            As in `inspection.saliency`.
        method : {"gradient", "smooth_grad", "integrated_gradients", "grad_cam"}
            Gradients are added up over the channels.
        ax : Axes or array of Axes, optional
            A single one is divided; of an array 2·N are needed.
        **settings : dict
            Of the method, such as `samples` or `layer`.

        Returns
        -------
        SaliencyDisplay
        """
        if method not in WAYS:
            raise ValueError(f"SaliencyDisplay: method: expected one of {', '.join(WAYS)}; got {method!r}")
        subject = Subject(estimator, "SaliencyDisplay")
        images, x = subject.images(X), subject.read(X)
        if method == "grad_cam":
            heat = grad_cam(estimator, X, target, size="input", **settings)
        else:
            found = saliency(estimator, X, target, method=method, **settings)
            heat = np.add.reduce(subject.unshaped(found), axis=1)
        classes = getattr(subject.estimator, "classes_", None)
        targets = subject.targets(target, x)
        return cls(images, heat, targets if classes is None else classes[targets]).plot(ax=ax)

    from_model = from_estimator

    def plot(self, ax: Any = None) -> Self:
        """Draw images and saliency.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided; of an array 2·N are needed.

        Returns
        -------
        SaliencyDisplay
            Itself.
        """
        count = len(self.images)
        self.figure_, axes = make_axes("SaliencyDisplay", ax, 2 * count, count, (1.2 * INCHES, 1.2 * INCHES))
        self.axes_ = axes.reshape(2, count)
        for n in range(count):
            show(self.axes_[0, n], picture(self.images[n]), self.titles[n])
            show(self.axes_[1, n], self.saliency[n], **symmetric(self.saliency[n]))
        return self


class MistakesDisplay:
    """What a classifier has wrong, the surest mistakes first.

    Parameters
    ----------
    images : array of shape (M, C, H, W)
        Those of the mistakes, in their order.
    mistakes : Mistakes
        As `inspection.worst_mistakes` returns them.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        One for each mistake; one that says so, if there is none.

    See Also
    --------
    inspection.worst_mistakes : The same as arrays.

    Examples
    --------
    With matplotlib, `MistakesDisplay.from_estimator(classifier, X_test, y_test)`; without a picture:

    >>> import numpy as np
    >>> from fastcnn import Dense, Flatten, Sequential
    >>> from fastcnn.display import MistakesDisplay
    >>> from fastcnn.inspection import worst_mistakes
    >>> model = Sequential([Flatten(), Dense(2)]).build((1, 2, 2), random_state=0)
    >>> X = np.ones((2, 1, 2, 2))
    >>> found = worst_mistakes(model, X, [0, 1])
    >>> MistakesDisplay(X[found.indices], found).images.shape
    (1, 1, 2, 2)
    """

    def __init__(self, images: Array, mistakes: Mistakes) -> None:
        images = np.asarray(images)
        if images.ndim != 4 or len(images) != len(mistakes.indices):
            raise ValueError(
                f"MistakesDisplay: images: expected one (C, H, W) for each of {len(mistakes.indices)} mistakes; "
                f"got shape {images.shape}"
            )
        self.images, self.mistakes = images, mistakes

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, count: int = 16, ax: Any = None) -> Self:
        """Draw the worst mistakes of a classifier or a model of classes.

        Parameters
        ----------
        estimator : CNNClassifier, Trainer or Sequential
            Fitted or built.
        X : array of shape (N, ...)
            As `predict` takes it.
        y : array of shape (N,)
            The true classes.
        count : int
            The most mistakes.
        ax : Axes or array of Axes, optional
            A single one is divided.

        Returns
        -------
        MistakesDisplay
        """
        count = checks.as_positive_int(count, "MistakesDisplay", "count")
        found = worst_mistakes(estimator, X, y, count=count)
        return cls(Subject(estimator, "MistakesDisplay").images(X)[found.indices], found).plot(ax=ax)

    from_model = from_estimator

    def plot(self, ax: Any = None) -> Self:
        """Draw the mistakes, each with its class and the one that it was taken for.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided.

        Returns
        -------
        MistakesDisplay
            Itself.
        """
        count = max(1, len(self.images))
        self.figure_, self.axes_ = make_axes("MistakesDisplay", ax, count, square(count), (1.4 * INCHES, 1.6 * INCHES))
        for axes, image, truth, guess, p in zip(
            self.axes_,
            self.images,
            self.mistakes.truth,
            self.mistakes.predicted,
            self.mistakes.probability,
            strict=False,
        ):
            show(axes, picture(image), f"{truth}, not {guess} ({p:.0%})")
        if not len(self.images):
            self.axes_[0].set_axis_off()
            self.axes_[0].text(0.5, 0.5, "no mistakes", ha="center", va="center", transform=self.axes_[0].transAxes)
        return self
