"""A file of a model, as `evaluate`, `predict` and `info` see it: what it takes, and the probabilities that it gives."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..layers.activation import SoftmaxActivation
from ..layers.dense import Softmax
from ..losses import CrossEntropy
from ..measures import softmax
from ..model import Sequential
from ..ranges import read_range, warning_of
from ..saving import ESTIMATORS, model_of, thing_of
from ..storage import layout
from ..storage.errors import StorageError, naming
from ..training.trainer import Trainer
from .common import CommandError, check_model

if TYPE_CHECKING:
    from ..typing import Array, Shape

CHUNK = 1024  # samples that are predicted at once


class Opened:
    """A model of a file.

    Attributes
    ----------
    path : str
    contents : Contents
    thing : Sequential, CNNClassifier, CNNRegressor or Trainer
    model : Sequential
    about : dict
        What `fastcnn train` has noted; empty for files of others.
    classes : list of str or None
        None for a model of numbers.
    """

    def __init__(self, path: str) -> None:
        self.path, self._has_warned = path, False
        try:
            self.contents = layout.read(path)
            with naming(path):
                self.thing = thing_of(self.contents, {})
        except (StorageError, OSError) as error:
            raise check_model(path, error) from None
        thing = self.thing
        self.model: Sequential = model_of(thing)
        about = self.contents.description.get("about")
        self.about: dict[str, Any] = about if isinstance(about, dict) else {}
        self.classes = self._classes()

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.contents.kind

    @property
    def shape(self) -> Shape:
        """(C, H, W) or (D,)."""
        assert self.model.input_shape is not None
        return self.model.input_shape

    @property
    def in_words(self) -> str:
        """What it takes."""
        return " x ".join(map(str, self.shape))

    def _classes(self) -> list[str] | None:
        if self.kind == "CNNRegressor" or (
            isinstance(self.thing, Trainer) and not isinstance(self.thing.loss, CrossEntropy)
        ):
            return None
        if self.kind in ESTIMATORS:
            return None if self.thing._labels is not None else [str(name) for name in self.thing.classes_]
        outputs = self.model.output_shape(self.shape)
        if len(outputs) != 1:
            return None
        names = self.about.get("classes")
        return names if isinstance(names, list) and len(names) == outputs[0] else [str(n) for n in range(outputs[0])]

    def expect_classes(self) -> list[str]:
        """Return the classes; raise if it has none."""
        if self.classes is None:
            given = "maps" if len(self.model.output_shape(self.shape)) > 1 else "numbers"
            raise CommandError(f"{self.path}: expected a model of classes; this one gives {given}", status=1)
        return self.classes

    def outputs(self, X: Any, threads: int | None, views: str | None = None) -> Array:
        """Return probabilities (n, classes), or numbers (n, ...) of a model that has no classes."""
        chunks = [slice(first, first + CHUNK) for first in range(0, len(X), CHUNK)]
        try:
            as_bytes = self._are_bytes(X, chunks)
            self._check_range(X[:CHUNK], is_scaled=as_bytes or X.dtype == np.uint8)
            return np.concatenate(
                [self._chunk(X[chunk].astype(np.uint8) if as_bytes else X[chunk], threads, views) for chunk in chunks]
            )
        except (TypeError, ValueError) as error:
            raise CommandError(f"{self.path}: {error}", status=1) from None

    def _check_range(self, x: Array, *, is_scaled: bool) -> None:
        """Say, once, that samples are on another scale than those of the training."""
        missing: float | None = None
        if self.kind in ESTIMATORS:
            known, missing = self.thing._scaler.range, self.thing.missing_values
            self.thing._scaler.has_warned = True  # here it is said in one line
        else:
            known = read_range(self.about.get("range"))
            if known is not None and is_scaled:  # bytes, which the network sees from 0 to 1
                known, x = known._replace(whole=True), x / np.float32(255)
        words = None if self._has_warned else warning_of(known, x, missing)
        if words is not None:
            self._has_warned = True
            print(f"fastcnn: warning: {self.path}: {words}", file=sys.stderr)

    def _chunk(self, x: Array, threads: int | None, views: str | None) -> Array:
        if self.kind in ESTIMATORS:
            self.thing.n_jobs = threads
            predict = self.thing.predict if self.classes is None else self.thing.predict_proba
            found: Array = predict(x, views=views)
            return found
        z: Array = self.model.predict(x, threads=threads, views=views)
        if self.classes is None or isinstance(self.model.layers[-1], Softmax | SoftmaxActivation):
            return z
        return softmax(z)

    def _are_bytes(self, X: Any, chunks: list[slice]) -> bool:
        """Tell whether numbers up to 255 are bytes in another dtype, as of a CSV file, for a model trained on bytes."""
        if self.kind in ESTIMATORS or self.about.get("dtype") != "uint8" or X.dtype == np.uint8:
            return False
        least, largest = min(float(X[chunk].min()) for chunk in chunks), max(float(X[chunk].max()) for chunk in chunks)
        if largest <= 1 and X.dtype.kind == "f":
            return False
        for chunk in chunks:
            x = X[chunk]
            if x.min() < 0 or x.max() > 255 or (x != np.floor(x)).any():
                raise ValueError(
                    f"trained on bytes: expected bytes, or numbers from 0 to 1; got {least:g} to {largest:g}"
                )
        return True
