"""What is in a network: `FiltersDisplay`, `FeatureMapsDisplay`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from .. import checks, maps
from ..inspection.subject import Subject
from ..typing import Array
from .figures import INCHES, make_axes, picture, show, square, symmetric

MOST = 64  # pictures of a grid, where nothing else is said


class FiltersDisplay:
    """The filters of a convolution, side by side: blue below 0, white at 0, red above, all on one scale.

    Parameters
    ----------
    filters : array of shape (F, C, kH, kW)
        Three channels of a first layer are shown in colour, each filter on a scale of its own; of others `channel`.
    channel : int
        The channel that is shown where there are neither one nor three.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        One for each filter.

    See Also
    --------
    FeatureMapsDisplay : What the filters make of an image.

    Examples
    --------
    With matplotlib, `FiltersDisplay.from_estimator(model).figure_.savefig("filters.png")`; without a picture:

    >>> import numpy as np
    >>> from fastcnn.display import FiltersDisplay
    >>> FiltersDisplay(np.zeros((16, 1, 3, 3))).filters.shape
    (16, 1, 3, 3)
    """

    def __init__(self, filters: Array, *, channel: int = 0) -> None:
        filters = np.asarray(filters)
        if filters.ndim != 4:
            raise ValueError(f"FiltersDisplay: filters: expected shape (F, C, kH, kW); got shape {filters.shape}")
        if not 0 <= channel < filters.shape[1]:
            raise ValueError(f"FiltersDisplay: channel: expected one of {filters.shape[1]}; got {channel!r}")
        self.filters, self.channel = filters, channel

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, layer: int | str | None = None, channel: int = 0, ax: Any = None, count: int = MOST
    ) -> Self:
        """Draw the filters of a layer of an estimator or a model.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor, Trainer or Sequential
            Fitted or built.
        layer : int or str, optional
            By place or name, as in `Sequential.outputs`; not given: the first one with filters.
        channel : int
            The channel that is shown where there are neither one nor three.
        ax : Axes or array of Axes, optional
            A single one is divided.
        count : int
            The most filters.

        Returns
        -------
        FiltersDisplay
        """
        model = Subject(estimator, "FiltersDisplay").model
        having = {place: _filters(one) for place, one in maps.places(model).items() if _filters(one) is not None}
        if layer is None and not having:
            raise ValueError("FiltersDisplay: estimator: expected a network with a convolution; this one has none")
        place = next(iter(having)) if layer is None else maps.find_place(model, layer, "FiltersDisplay", "layer")
        if having.get(place) is None:
            raise ValueError(f"FiltersDisplay: layer: expected one with filters, of {', '.join(having)}; got {layer!r}")
        return cls(np.array(having[place]), channel=channel).plot(ax=ax, count=count)

    from_model = from_estimator

    def plot(self, ax: Any = None, *, count: int = MOST) -> Self:
        """Draw the filters.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided.
        count : int
            The most filters.

        Returns
        -------
        FiltersDisplay
            Itself.
        """
        shown = self.filters[: checks.as_positive_int(count, "FiltersDisplay", "count")]
        colour = shown.shape[1] == 3
        self.figure_, self.axes_ = make_axes("FiltersDisplay", ax, len(shown), square(len(shown)), (INCHES, INCHES))
        for number, (axes, filter) in enumerate(zip(self.axes_, shown, strict=True)):
            image = picture(filter) if colour else filter[self.channel]
            show(axes, image, str(number), **({} if colour else symmetric(shown[:, self.channel])))
        return self


def _filters(layer: Any) -> Array | None:
    """Return the first array of filters that a layer itself owns."""
    if layer._specs:
        for array in layer.parameters.values():
            if array.ndim == 4:
                return np.asarray(array)
    return None


class FeatureMapsDisplay:
    """What a layer makes of an image: its maps, side by side.

    Parameters
    ----------
    maps : array of shape (C, h, w)
        Features (D,) are shown as a strip.
    image : array of shape (C, H, W), optional
        Shown before them.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : array of matplotlib Axes
        That of the image first, if there is one.

    See Also
    --------
    FiltersDisplay : The filters that make them.
    Sequential.outputs : The maps as arrays.

    Examples
    --------
    With matplotlib, `FeatureMapsDisplay.from_estimator(model, X[0], layer=1)`; without a picture:

    >>> import numpy as np
    >>> from fastcnn.display import FeatureMapsDisplay
    >>> FeatureMapsDisplay(np.zeros((16, 6, 6))).maps.shape
    (16, 6, 6)
    """

    def __init__(self, maps: Array, image: Array | None = None) -> None:
        maps = np.asarray(maps)
        if maps.ndim not in (1, 3):
            raise ValueError(f"FeatureMapsDisplay: maps: expected shape (C, h, w) or (D,); got shape {maps.shape}")
        self.maps, self.image = maps if maps.ndim == 3 else maps[None, None, :], image

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, layer: int | str, sample: int = 0, ax: Any = None, count: int = MOST
    ) -> Self:
        """Draw the maps behind a layer of an estimator or a model, for one of the samples.

        Parameters
        ----------
        estimator : CNNClassifier, CNNRegressor, Trainer or Sequential
            Fitted or built.
        X : array of shape (N, ...)
            As `predict` takes it.
        layer : int or str
            By place or name, as in `Sequential.outputs`.
        sample : int
            Which one of X.
        ax : Axes or array of Axes, optional
            A single one is divided.
        count : int
            The most maps.

        Returns
        -------
        FeatureMapsDisplay
        """
        subject = Subject(estimator, "FeatureMapsDisplay")
        place = maps.find_place(subject.model, layer, "FeatureMapsDisplay", "layer")
        images = one_of(subject, X, sample, "FeatureMapsDisplay")
        found = subject.model.outputs(subject.read(X)[sample : sample + 1 or None], place)[place]
        return cls(found[0], images[0]).plot(ax=ax, count=count)

    from_model = from_estimator

    def plot(self, ax: Any = None, *, count: int = MOST) -> Self:
        """Draw the maps.

        Parameters
        ----------
        ax : Axes or array of Axes, optional
            A single one is divided.
        count : int
            The most maps.

        Returns
        -------
        FeatureMapsDisplay
            Itself.
        """
        shown = self.maps[: checks.as_positive_int(count, "FeatureMapsDisplay", "count")]
        first = [] if self.image is None else [picture(self.image)]
        number = len(first) + len(shown)
        self.figure_, self.axes_ = make_axes("FeatureMapsDisplay", ax, number, square(number), (INCHES, INCHES))
        for axes, image in zip(self.axes_, first, strict=False):
            show(axes, image, "input")
        low, high = float(shown.min()), float(shown.max())
        for channel, axes in enumerate(self.axes_[len(first) :]):
            show(axes, shown[channel], str(channel), cmap="viridis", vmin=low, vmax=high if high > low else low + 1)
        return self


def one_of(subject: Subject, X: Any, sample: int, caller: str) -> Array:
    """Return one of the samples as an image, (1, C, H, W)."""
    images = subject.images(X)
    if not -len(images) <= sample < len(images):
        raise ValueError(f"{caller}: sample: expected one of {len(images)} samples; got {sample!r}")
    return images[sample : sample + 1 or None]
