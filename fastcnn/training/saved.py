"""A `Trainer` as a description and tensors, and back: all that an exact continuation needs."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from ..history import Epoch, History
from ..losses import Loss
from ..optim.averaging import Average
from ..optim.flat_state import FlatState
from ..optim.optimizer import Optimizer
from ..optim.schedules import Schedule
from ..storage import network
from ..storage.errors import StorageError
from ..storage.layout import Contents
from ..storage.values import Decoder, Encoder, field
from .stepper import Stepper

INTEGER = int | np.integer

AnyStepper = TypeVar("AnyStepper", bound=Stepper)


def trainer_contents(trainer: Stepper) -> Contents:
    """Return what the file of a trainer holds."""
    encoder = Encoder(network.TABLE)
    description = describe_trainer(trainer, encoder)
    return Contents("Trainer", description, encoder.tensors, network.digest_of(trainer.model))


def describe_trainer(trainer: Stepper, encoder: Encoder, *, whole: bool = True) -> dict[str, Any]:
    """Return the description of a trainer whose model is built.

    Unless it is to be `whole`, what no file can keep, such as a function as a schedule, stands in it by its class: who
    goes on brings it.

    Raises
    ------
    TypeError
        If a part of it cannot be kept.
    """
    parts = {name: getattr(trainer, name) for name in ("loss", "optimizer", "schedule", "ema")}
    return {
        **network.describe(trainer.model, encoder),
        **{name: _described(thing, name, encoder, whole=whole) for name, thing in parts.items()},
        "threads": trainer.threads,
        "random_state": int(trainer.random_state) if isinstance(trainer.random_state, INTEGER) else None,
        **describe_progress(trainer, encoder),
    }


def _described(thing: Any, name: str, encoder: Encoder, *, whole: bool) -> Any:
    try:
        return encoder.encode(thing, name)
    except TypeError:
        if whole:
            raise
        return {"object": type(thing).__qualname__}


def describe_progress(trainer: Stepper, encoder: Encoder) -> dict[str, Any]:
    """Return what changes from step to step, besides the model."""
    trainer._bind()
    for name, thing in (("optimizer", trainer.optimizer), ("ema", trainer.ema)):
        if thing is not None:
            encoder.tensors.update({f"{name}.{key}": array for key, array in thing.get_state().items()})
    schedule = trainer.schedule
    return {
        "seed": trainer._seed,
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        "accuracy": encoder.encode(trainer.accuracy, "accuracy"),
        "weight": encoder.encode(trainer._weight, "weight"),
        "learning_rate": encoder.encode(float(trainer.optimizer.learning_rate), "learning_rate"),
        "gradient_norm": encoder.encode(trainer.optimizer.gradient_norm, "gradient_norm"),
        "schedule_state": encoder.encode(
            schedule.get_state() if isinstance(schedule, Schedule) else {}, "schedule_state"
        ),
        "history": describe_history(trainer.history, encoder),
    }


def describe_history(history: History | None, encoder: Encoder) -> Any:
    """Return the description of a history."""
    if history is None:
        return None
    return {"epochs": encoder.encode([list(epoch) for epoch in history], "history"), "stopped": history.stopped}


def restore_trainer(kind: type[AnyStepper], description: Any, decoder: Decoder) -> AnyStepper:
    """Return the trainer, of class `kind`, of a description."""
    model = network.restore(description, decoder)
    loss = _made(description, "loss", Loss, decoder)
    optimizer = _made(description, "optimizer", Optimizer, decoder)
    schedule = _made(description, "schedule", Schedule | None, decoder)
    ema = _made(description, "ema", Average | None, decoder)
    threads, random_state = (field(description, name, int | None) for name in ("threads", "random_state"))
    try:
        trainer = kind(model, loss, optimizer, threads, random_state, schedule=schedule, ema=ema)
    except (TypeError, ValueError) as error:
        raise StorageError(str(error)) from None
    restore_progress(trainer, description, decoder)
    if "run" in description:  # what callbacks have remembered is for the fit that goes on
        decoder.decode(field(description["run"], "callbacks", list, "run"), "callbacks")
    return trainer


def restore_progress(trainer: Stepper, description: Any, decoder: Decoder) -> None:
    """Let a trainer with a built model go on where the description's was."""
    trainer._bind()
    for name, thing in (("optimizer", trainer.optimizer), ("ema", trainer.ema)):
        if thing is not None:
            _restore_state(name, thing, decoder)
    numbers = {name: _number(description, name, decoder) for name in ("accuracy", "weight", "gradient_norm")}
    rate = _number(description, "learning_rate", decoder)
    try:
        trainer.optimizer.learning_rate = rate
    except ValueError as error:
        raise StorageError(str(error)) from None
    trainer.optimizer.gradient_norm = numbers["gradient_norm"]
    trainer.accuracy, trainer._weight = numbers["accuracy"], numbers["weight"]
    trainer.steps, trainer.epochs, trainer._drawn = (field(description, n, int) for n in ("steps", "epochs", "seed"))
    state = decoder.decode(field(description, "schedule_state", dict), "schedule_state")
    if isinstance(trainer.schedule, Schedule):
        try:
            trainer.schedule.set_state(state)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"schedule_state: {error!r}") from None
    trainer.history = restore_history(field(description, "history", dict | None), decoder)


def restore_history(description: Any, decoder: Decoder) -> History | None:
    """Return the history of a description."""
    if description is None:
        return None
    history = History()
    history.stopped = field(description, "stopped", str | None, "history")
    for row in decoder.decode(field(description, "epochs", list, "history"), "history"):
        if not isinstance(row, list) or len(row) != len(Epoch._fields) or not all(type(x) in (int, float) for x in row):
            raise StorageError(f"history: expected {len(Epoch._fields)} numbers an epoch; got {str(row)[:80]}")
        history.epochs.append(Epoch(*row))
    return history


def _restore_state(name: str, thing: FlatState, decoder: Decoder) -> None:
    state = {key: decoder.tensor(f"{name}.{key}", name) for key in thing._named()}
    try:
        thing.set_state(state)
    except ValueError as error:
        raise StorageError(str(error)) from None


def _made(description: Any, name: str, kinds: Any, decoder: Decoder) -> Any:
    """Return what a call in the description makes, if it is of one of the kinds."""
    thing = decoder.decode(field(description, name, dict | None), name)
    if not isinstance(thing, kinds):
        raise StorageError(f"{name}: expected {kinds}; got {type(thing).__name__}")
    return thing


def _number(description: Any, name: str, decoder: Decoder) -> float:
    """Return a number, which may be NaN."""
    number = decoder.decode(field(description, name, int | float | dict), name)
    if not isinstance(number, int | float):
        raise StorageError(f"{name}: expected a number; got {str(number)[:80]}")
    return float(number)
