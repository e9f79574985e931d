"""Estimators as transformers: what a layer of the network makes of the samples, one row of numbers each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import get_config
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .. import maps
from ..typing import Array
from .processors import capped_threads

if TYPE_CHECKING:
    from ..model import Sequential


class Embedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """`transform` and `get_feature_names_out`; by default the input of the network's last layer."""

    model_: Sequential

    def transform(self, X: Any, layer: int | str | None = None) -> Array:
        """Return what a layer of the network makes of each sample, its numbers in a row.

        Without `layer` that is the embedding: what the last layer tells the classes by, or computes its numbers from.
        So a fitted estimator serves as a step of a `Pipeline` or for `NearestNeighbors`.

        Parameters
        ----------
        X : array
            As in `predict`.
        layer : int or str, optional
            The layer behind which the numbers are taken, by place or name as in `Sequential.outputs`.

        Returns
        -------
        float64 array of shape (n, features)
            Maps (C, H, W) in the order C, H, W, as `Flatten` has it.

        Raises
        ------
        TypeError, ValueError
            If `layer` is none of the network's; or is given where `set_output` asks for a data frame, whose columns
            are those of the embedding.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.neighbors import KNeighborsClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> from fastcnn import CNNClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> cnn = CNNClassifier(max_iter=2, random_state=0)
        >>> neighbours = make_pipeline(cnn, KNeighborsClassifier()).fit(X[:1000], y[:1000])
        >>> neighbours[:-1].transform(X[1000:]).shape
        (797, 64)
        """
        check_is_fitted(self, "model_")
        place = self._place(layer)
        if layer is not None and self._container() != "default":
            raise ValueError(
                f"{type(self).__name__}: transform: layer: expected None where set_output asks for "
                f"{self._container()!r}, whose columns are those of the embedding; got {layer!r}"
            )
        images = self._read(X, reset=False)
        self._scaler.check_range(images, f"{type(self).__name__}: X")
        with capped_threads(self.n_jobs) as threads:
            scaled = self._scaler(images, self._dtype)
            values = scaled if place is None else self.model_.outputs(scaled, place, threads=threads)[place]
        return np.ascontiguousarray(values, np.float64).reshape(len(values), -1)

    def get_feature_names_out(self, input_features: Any = None, *, layer: int | str | None = None) -> Array:
        """Return the names of the columns of `transform`: the class's name in small letters, and a number.

        Parameters
        ----------
        input_features : array of str, optional
            Checked against the names that `fit` has seen, and not used.
        layer : int or str, optional
            As in `transform`.
        """
        names: Array = super().get_feature_names_out(input_features)
        if layer is None:
            return names
        name = type(self).__name__.lower()
        return np.array([f"{name}{number}" for number in range(self._features(layer))], object)

    @property
    def _n_features_out(self) -> int:
        """How many numbers the embedding has; scikit-learn's mixin names them."""
        return self._features(None)

    def _features(self, layer: int | str | None) -> int:
        place, model = self._place(layer), self.model_
        assert model.input_shape is not None
        return int(np.prod(model.input_shape if place is None else maps.shapes(model)[place]))

    def _place(self, layer: int | str | None) -> str | None:
        """Return the place of a layer, of the last but one by default; None for the input of a single layer."""
        if layer is not None:
            return maps.find_place(self.model_, layer, f"{type(self).__name__}: transform", "layer")
        return str(len(self.model_) - 2) if len(self.model_) > 1 else None

    def _container(self) -> str:
        """Return what `set_output` asks for."""
        own = getattr(self, "_sklearn_output_config", {}).get("transform")
        return str(own or get_config()["transform_output"])
