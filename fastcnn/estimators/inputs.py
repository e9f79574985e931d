"""Estimators read X: rows and images, checked as scikit-learn does, become images (n, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from .. import caller, checks
from ..typing import Array, Shape
from .images import Kind, Reading, as_numbers, choose_reading, expect_no_names, expect_one_size, kind_of, rectangles
from .networks import takes_rows


class ImageInput(BaseEstimator):  # type: ignore[misc]
    """How an estimator reads X: settled by `fit`, and held to by all that comes after it."""

    layers: Any
    input_shape: Any
    missing_values: float | None

    def _read(self, X: Any, *, reset: bool) -> Array:
        """Return X as images (n, C, H, W), checked; `reset` settles how this estimator reads them."""
        name = type(self).__name__
        expect_one_size(checks.unmasked(X, name, "X"), name)
        expect_no_names(X, name)
        if getattr(X, "ndim", None) in (3, 4) or (isinstance(X, list | tuple) and np.ndim(X) in (3, 4)):
            X = self._checked_images(X, reset=reset)
        else:
            X = self._checked_rows(X, reset=reset)
        X = as_numbers(X, name)
        given = X.shape[1:]
        if reset:
            self._reading: Reading = choose_reading(given, self.input_shape, name)
            self.input_shape_: Shape = self._reading.shape
            return self._reading.images(X)
        if given == self._reading.given or len(given) == 1:
            return self._reading.images(X)
        return choose_reading(given, self._reading.shape, name).images(X)

    def _checked_images(self, X: Any, *, reset: bool) -> Array:
        X = check_array(
            X, allow_nd=True, ensure_2d=False, dtype="numeric", ensure_all_finite=self._finite, estimator=self,
            input_name="X",
        )  # fmt: skip
        if reset:
            self.n_features_in_ = int(np.prod(X.shape[1:]))
            self.__dict__.pop("feature_names_in_", None)
        elif X[0].size != self.n_features_in_:
            raise ValueError(
                f"X has images of shape {X.shape[1:]}, but {type(self).__name__} is expecting "
                f"{self._reading.given} as input."
            )
        return X  # type: ignore[no-any-return]

    def _checked_rows(self, X: Any, *, reset: bool) -> Array:
        if getattr(X, "ndim", 2) > 4:
            raise ValueError(
                f"{type(self).__name__}: X: expected rows (n, features), or images (n, H, W), (n, C, H, W) or "
                f"(n, H, W, C); got shape {X.shape}"
            )
        rows: Array = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=self._finite)
        return rows

    @property
    def _takes_nan(self) -> bool:
        return self.missing_values is not None and bool(np.isnan(self.missing_values))

    @property
    def _finite(self) -> bool | str:
        """What scikit-learn's checks call `ensure_all_finite`."""
        return "allow-nan" if self._takes_nan else True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_nan
        return tags

    @property
    def _kind(self) -> Kind:
        return kind_of(self._reading, self.input_shape)

    def _warn_of_channels_last(self) -> None:
        """Warn of an `input_shape` that is more likely (height, width, channels)."""
        if words := checks.channels_last_words(self._reading.shape):
            channels, height, width = self._reading.shape
            name = type(self).__name__
            caller.warn(f"{name}: input_shape: {words}, or say input_shape={(width, channels, height)}")

    def _warn_of_strips(self) -> None:
        """Warn of rows that are read as strips, though they may be images, unless the network knows no places."""
        given, shape = self._reading.given, self.input_shape_
        shapes = rectangles(given[0]) if len(given) == 1 and self._kind is Kind.FEATURES else []
        if not shapes or self.input_shape is not None or takes_rows(self.layers):
            return
        caller.warn(
            f"X: rows of {given[0]} features are read as numbers in a row, input_shape={shape}. If they are images, "
            f"set input_shape to their (channels, height, width): {' or '.join(map(str, shapes))}; if not, set "
            f"input_shape={shape}, which gives no warning, and takes them for signals along which a pattern may be "
            "anywhere."
        )
