"""`save` and `load`: models, estimators and trainers in one file, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from .model import Sequential
from .storage import layout, network
from .storage.errors import StorageError, naming
from .storage.layout import Contents
from .storage.values import Decoder, Encoder
from .training.saved import restore_trainer, trainer_contents
from .training.trainer import Trainer

if TYPE_CHECKING:
    from .estimators.base import BaseCNN

ESTIMATORS = ("CNNClassifier", "CNNRegressor")


def save(what: Sequential | Trainer | BaseCNN, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a model, a fitted estimator or a trainer to a file.

    The file is in the safetensors layout: any reader of that finds the weights under their public names
    (`"0.filters"`). Layers stand in it as the calls that make them. There is no pickle in it.

    Parameters
    ----------
    what : Sequential, CNNClassifier, CNNRegressor or Trainer
        A model that is built; an estimator that is fitted; a trainer of a model that is built, with the optimizer's
        state, averages, schedule, seeds, epoch, step and history.
    path : path or binary file
        A file of that name is replaced as a whole: until the new one is written and synced, the old one is there.

    Raises
    ------
    TypeError
        If it is something else, or has a part that no file can keep, such as a function as a schedule.
    RuntimeError
        If a model is not built yet.
    sklearn.exceptions.NotFittedError
        If an estimator is not fitted yet.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Reads what `save` has written.
    to_onnx : Writes a model or an estimator as ONNX.

    Notes
    -----
    A parameter of an estimator that no file can keep (callbacks, functions, generators) is left out with a warning: its
    predictions do not need it.

    Examples
    --------
    >>> import io
    >>> import fastcnn
    >>> from fastcnn import Dense, Flatten, Sequential
    >>> model = Sequential([Flatten(), Dense(10)]).build((1, 8, 8), random_state=0)
    >>> file = io.BytesIO()
    >>> fastcnn.save(model, file)
    >>> same = fastcnn.load(io.BytesIO(file.getvalue()))
    >>> bool((same.parameters["1.weights"] == model.parameters["1.weights"]).all())
    True
    """
    layout.write(contents_of(what), path)


def contents_of(what: Any) -> Contents:
    """Return what a file of it holds."""
    if isinstance(what, Trainer):
        return trainer_contents(what)
    if isinstance(what, Sequential):
        return model_contents(what)
    if type(what).__name__ in ESTIMATORS:
        from .estimators.saved import estimator_contents

        return estimator_contents(what)
    raise TypeError(f"save: what: expected a Sequential, a CNNClassifier, a CNNRegressor or a Trainer; got {what!r}")


def model_contents(model: Sequential) -> Contents:
    """Return what the file of a model holds."""
    encoder = Encoder(network.TABLE)
    description = network.describe(model, encoder)
    return Contents("Sequential", description, encoder.tensors, network.digest_of(model))


def load(
    path: str | os.PathLike[str] | BinaryIO, *, custom_layers: Iterable[type] | Mapping[str, type] | None = None
) -> Any:
    """Return what `save` has written: a model, an estimator or a trainer that goes on exactly.

    Nothing in a file is executed or imported: layers come from a fixed table of fastcnn's, and those of a person's own
    from `custom_layers` alone.

    Parameters
    ----------
    path : path or binary file
        What `save` has written.
    custom_layers : list of classes, or dict of classes by name, optional
        Layers of your own that the file may name.

    Returns
    -------
    Sequential, CNNClassifier, CNNRegressor or Trainer

    Raises
    ------
    StorageError
        A ValueError: the file is damaged, of another kind, of a newer format, or has layers that are not known. The
        message begins with the file's name.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Writes a model, an estimator or a trainer.
    StorageError : What `load` raises for a damaged file.

    Examples
    --------
    >>> import io
    >>> import fastcnn
    >>> from fastcnn import Dense, Sequential
    >>> file = io.BytesIO()
    >>> fastcnn.save(Sequential([Dense(10)]).build((4,), random_state=0), file)
    >>> fastcnn.load(io.BytesIO(file.getvalue()))
    Sequential([Dense(10)])
    """
    custom = network.custom_table(custom_layers)
    contents = layout.read(path)
    with naming(str(getattr(path, "name", "the file") if hasattr(path, "read") else path)):
        return thing_of(contents, custom)


def thing_of(contents: Contents, custom: Mapping[str, type]) -> Any:
    """Return the thing that a file holds."""
    decoder = Decoder(network.TABLE, custom, contents.tensors)
    restore = _restorer(contents.kind)
    try:
        thing = restore(contents.description, decoder)
    except StorageError:
        raise
    except Exception as error:  # a setting or a constructor refuses what the file says
        raise StorageError(str(error) or type(error).__name__) from error
    decoder.done()
    network.check_digest(model_of(thing), contents.digest)
    return thing


def _restorer(kind: str) -> Callable[[Any, Decoder], Any]:
    if kind == "Sequential":
        return network.restore
    if kind == "Trainer":
        return partial(restore_trainer, Trainer)
    if kind in ESTIMATORS:
        from .estimators.saved import restorer

        return restorer(kind)
    raise StorageError(f"expected a model, an estimator or a trainer; it holds a {kind[:40]!r}")


def model_of(thing: Any) -> Sequential:
    """Return the network of what `load` gives."""
    model: Sequential = thing if isinstance(thing, Sequential) else getattr(thing, "model_", None) or thing.model
    return model
