"""A fitted estimator as a description and tensors, and back: its parameters, and all that its predictions need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .. import caller
from ..history import History
from ..model import Sequential
from ..ranges import read_range
from ..storage import network
from ..storage.errors import StorageError
from ..storage.layout import Contents
from ..storage.values import Decoder, Encoder, Table, field
from ..training.callbacks import EarlyStopping
from ..training.saved import describe_history, restore_history
from ..training.trainer import Trainer
from .base import BaseCNN
from .classifier import CNNClassifier
from .images import Reading
from .online import Paused
from .regressor import CNNRegressor
from .scaling import ARRAYS, Scaler

KINDS: dict[str, type[BaseCNN]] = {"CNNClassifier": CNNClassifier, "CNNRegressor": CNNRegressor}
TABLE: Table = {**network.TABLE, "EarlyStopping": EarlyStopping}
# What stands in a file under a name of its own; all other attributes that a fit has left, by their names.
APART = ("model_", "history_", "_reading", "_scaler", "_dtype", "_trainer", "_settings")
DEFAULTS = ("temperature_", "_left")  # fitted attributes that the class has too, for estimators of former versions
PAUSED = {"steps": int, "epochs": int, "learning_rate": float, "state": dict, "average": dict}


def estimator_contents(estimator: BaseCNN) -> Contents:
    """Return what the file of a fitted estimator holds."""
    check_is_fitted(estimator, "model_")
    encoder = Encoder(TABLE)
    parameters = estimator.get_params(deep=False)
    left = {name: value for name, value in vars(estimator).items() if name not in {*parameters, *APART}}
    reading, scaler = estimator._reading, estimator._scaler
    description = {
        **network.describe(estimator.model_, encoder),
        "parameters": {name: _parameter(name, value, estimator, encoder) for name, value in parameters.items()},
        "fitted": {name: encoder.encode(value, name) for name, value in left.items() if not name.startswith("_skl")},
        "reading": encoder.encode([*reading], "reading"),
        "scaler": {name: encoder.encode(getattr(scaler, name), f"scaler.{name}") for name in (*ARRAYS, "missing")}
        | {"range": None if scaler.range is None else [*scaler.range]},
        "history": describe_history(getattr(estimator, "history_", None), encoder),
        "paused": _paused(estimator, encoder),
        "as_set": [old == now for old, now in zip(estimator._settings, estimator._settings_now, strict=False)],
    }
    return Contents(type(estimator).__name__, description, encoder.tensors, network.digest_of(estimator.model_))


def _parameter(name: str, value: Any, estimator: BaseCNN, encoder: Encoder) -> Any:
    """Return a parameter as JSON; where no file can keep it, its default, with a warning."""
    tensors = dict(encoder.tensors)
    try:
        return encoder.encode(value, f"parameters.{name}")
    except TypeError as error:
        encoder.tensors.clear()
        encoder.tensors.update(tensors)
        default = type(estimator)().get_params(deep=False)[name]
        caller.warn(f"save: {name}: {error}; the estimator in the file has {name}={default!r}")
        return encoder.encode(default, f"parameters.{name}")


def _paused(estimator: BaseCNN, encoder: Encoder) -> Any:
    """Return what `partial_fit` goes on from."""
    trainer = getattr(estimator, "_trainer", None)
    if trainer is None:
        return None
    paused = Paused(trainer) if isinstance(trainer, Trainer) else trainer
    return {name: encoder.encode(getattr(paused, name), f"paused.{name}") for name in PAUSED}


def restorer(kind: str) -> Callable[[Any, Decoder], BaseCNN]:
    """Return what makes the estimator of a description."""

    def restore(description: Any, decoder: Decoder) -> BaseCNN:
        decoder.table = TABLE
        estimator = _estimator(KINDS[kind], field(description, "parameters", dict), decoder)
        for name, value in field(description, "fitted", dict).items():
            taken = hasattr(type(estimator), name) and name not in DEFAULTS
            if not name.isidentifier() or name.startswith("__") or taken:
                raise StorageError(f"fitted: {name[:80]!r} is no attribute of a fitted {kind}")
            setattr(estimator, name, decoder.decode(value, name))
        estimator.model_ = network.restore(description, decoder)
        estimator._dtype = estimator.model_._flat.dtype.type
        estimator._reading = _reading(decoder.decode(field(description, "reading", list), "reading"), estimator.model_)
        estimator._scaler = _scaler(field(description, "scaler", dict), decoder, estimator.model_)
        estimator.history_ = restore_history(field(description, "history", dict | None), decoder) or History()
        estimator._trainer = _paused_again(field(description, "paused", dict | None), decoder)
        # What `partial_fit` went by last, or None for what has been set anew since.
        as_set = zip(field(description, "as_set", list), estimator._settings_now, strict=False)
        estimator._settings = tuple(now if same is True else None for same, now in as_set)
        return estimator

    return restore


def _estimator(kind: type[BaseCNN], parameters: dict[str, Any], decoder: Decoder) -> BaseCNN:
    known = kind().get_params(deep=False)
    unknown = [name for name in parameters if name not in known]
    if unknown:
        raise StorageError(f"parameters: {kind.__name__} has no parameter {unknown[0][:80]!r}")
    estimator = kind(**{name: decoder.decode(value, f"parameters.{name}") for name, value in parameters.items()})
    try:
        estimator._validate_params()
    except ValueError as error:
        raise StorageError(f"parameters: {error}") from None
    return estimator


def _reading(values: list[Any], model: Sequential) -> Reading:
    """Return how X is read: as images of the shape that the model takes."""
    given, shape, last = values if len(values) == 3 else ((), (), None)
    if not (isinstance(given, tuple) and all(type(n) is int and n > 0 for n in given) and isinstance(last, bool)):
        raise StorageError(
            f"reading: expected a shape, a shape, and whether channels come last; got {str(values)[:80]}"
        )
    if shape != model.input_shape or math.prod(given) != math.prod(shape):
        raise StorageError(f"reading: expected samples that are read as {model.input_shape}; got {str(values)[:80]}")
    return Reading(given, shape, last)


def _scaler(values: dict[str, Any], decoder: Decoder, model: Sequential) -> Scaler:
    """Return a scaler; files of former versions know no outliers."""
    scaler = Scaler.__new__(Scaler)
    for name in ARRAYS:
        if name not in values and hasattr(Scaler, name):
            continue
        array = decoder.decode(field(values, name, dict | None, "scaler"), f"scaler.{name}")
        try:
            np.broadcast_to(0 if array is None else array, model.input_shape or ())
        except ValueError as error:
            raise StorageError(f"scaler.{name}: {error}") from None
        setattr(scaler, name, array)
    scaler.range = read_range(values.get("range"))
    if "missing" in values:
        scaler.missing = decoder.decode(values["missing"], "scaler.missing")
    return scaler


def _paused_again(values: Any, decoder: Decoder) -> Paused | None:
    if values is None:
        return None
    paused = Paused.__new__(Paused)
    for name, kind in PAUSED.items():
        if name not in values and hasattr(Paused, name):  # files of former versions
            continue
        value = decoder.decode(values.get(name), f"paused.{name}")
        if not isinstance(value, kind):
            raise StorageError(f"paused.{name}: expected {kind}; got {str(value)[:80]}")
        setattr(paused, name, value)
    return paused
