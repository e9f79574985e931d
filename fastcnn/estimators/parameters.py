"""Parameters that lie in the layers of a list: `layers__0__num_filters`."""

from __future__ import annotations

import re
from typing import Any, Self

from sklearn.base import BaseEstimator

from ..layers.base import Layer

NESTED = re.compile(r"layers__(\d+)(?:__(.+))?")


class LayerParameters(BaseEstimator):  # type: ignore[misc]
    """`get_params` and `set_params` that reach into `layers`."""

    layers: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of the layers of a list, as `layers__0__num_filters`."""
        params: dict[str, Any] = super().get_params(deep=deep)
        if deep and isinstance(self.layers, list | tuple):
            for place, layer in enumerate(self.layers):
                params[f"layers__{place}"] = layer
                if isinstance(layer, Layer):
                    params.update({f"layers__{place}__{name}": value for name, value in layer._arguments().items()})
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a layer with a changed one is replaced by a new layer, in a new list."""
        nested = {key: params.pop(key) for key in [*params] if key.startswith("layers__")}
        super().set_params(**params)
        if not nested:
            return self
        if not isinstance(self.layers, list | tuple):
            raise ValueError(f"Invalid parameters {sorted(nested)}: layers={self.layers!r} is no list of layers.")
        layers = [*self.layers]
        changed: dict[int, dict[str, Any]] = {}
        for key, value in sorted(nested.items()):
            match = NESTED.fullmatch(key)
            if match is None or int(match[1]) >= len(layers):
                raise ValueError(f"Invalid parameter {key!r} for estimator {self}: there are {len(layers)} layers.")
            if match[2] is None:
                layers[int(match[1])] = value
            else:
                changed.setdefault(int(match[1]), {})[match[2]] = value
        for place, arguments in changed.items():
            layers[place] = with_arguments(layers[place], arguments, type(self).__name__)
        self.layers = type(self.layers)(layers)
        return self


def with_arguments(layer: Layer, changed: dict[str, Any], name: str) -> Layer:
    """Return a new layer like `layer`, with some constructor arguments changed."""
    known = layer._arguments()
    for argument in changed:
        if argument not in known:
            raise ValueError(
                f"Invalid parameter {argument!r} for layer {layer.name} of {name}. Valid parameters are: {[*known]}."
            )
    return type(layer)(**{**known, **changed})
