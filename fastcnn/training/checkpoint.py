"""Checkpoints: the state of a fit in a file, so that the same call goes on after whatever has ended it.

Ranks that can go on without one that dies keep the state in memory too, all of them: at the moments at which it is
written, and at the beginning. A rank that has died may have been the only one to see the file.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..layers.repr import ShownAsCall
from ..optim.schedules import NamedSchedule
from ..ranks.communicator import Communicator, RankFailedError, check_alike
from ..storage import layout, network
from ..storage.errors import StorageError, naming
from ..storage.layout import Contents
from ..storage.values import Decoder, Encoder, field
from .callbacks import Callback, Run
from .facts import digest_arrays, spelt, start_of
from .feed import ArrayFeed, BatchFeed, Feed
from .saved import INTEGER, describe_trainer, restore_history, restore_progress

if TYPE_CHECKING:
    from .stepper import Stepper

SECONDS = re.compile(r"(\d+(?:\.\d+)?) ?s")
COUNTED = 5  # the place of `Tally.images`
PATIENCE = 60.0  # seconds within an epoch after which a file is written, if nothing else is said
SHARE = 0.01  # of the time that may go into files, if nothing else is said


@dataclass
class Tally:
    """The sums over an epoch's steps so far.

    Attributes
    ----------
    number : int
        Of the epoch's order: the epochs that the trainer had trained before.
    batches : int
        Taken from the feed.
    loss, hits, total : float
        Sums of losses and hits, and the weights that the losses are a mean by.
    images : int
    seconds : float
    counted : int
        Predictions that the hits are of; in files of 0.1.0 and before that is `images`.
    """

    number: int = 0
    batches: int = 0
    loss: float = 0.0
    hits: float = 0.0
    total: float = 0.0
    images: int = 0
    seconds: float = 0.0
    counted: int = 0

    def add(self, images: int, loss: float, weight: float, accuracy: float, counted: int) -> None:
        """Count a batch: its mean loss and the weight of that mean, the accuracy of the predictions that count."""
        self.images += images
        self.loss, self.total = self.loss + weight * loss, self.total + weight
        if counted:
            self.hits, self.counted = self.hits + counted * accuracy, self.counted + counted

    def means(self, where: str) -> tuple[float, float]:
        """Return mean loss and accuracy; `where` is for the words of an error."""
        if not self.total:
            raise ValueError(f"{where}: expected targets of which some count; got none that is not ignored")
        return self.loss / self.total, self.hits / self.counted


class Checkpoint:
    """Writes the state of a fit to a file, and brings it back.

    Parameters
    ----------
    path : str, path or None
        None: it is kept in memory alone.
    every : int, str or None
        Epochs from file to file; or seconds, also within an epoch, as "30 s"; None: as often as takes a hundredth of
        the time, at the ends of epochs, and in epochs of more than a minute within them.

    Raises
    ------
    TypeError, ValueError
        If an argument is something else.
    OSError
        If the file cannot be written there.
    """

    def __init__(self, path: Any, every: Any, ranks: Communicator | None = None) -> None:
        if not isinstance(path, str | os.PathLike | None):
            raise TypeError(f"fit: checkpoint: expected a path; got {path!r}")
        self.path, self.ranks = None if path is None else Path(path), ranks
        self.epochs, self.seconds = _interval(every)
        self.moments: dict[int, bytes] = {}  # the last two, by their number: ranks may be one apart when one dies
        self.moment = 0
        if self.path is not None and self.speaks:
            folder = Path(os.path.realpath(self.path)).parent
            if not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise OSError(f"fit: checkpoint: {self.path}: expected a file in a folder that can be written to")
        self.written, self.cost = time.perf_counter(), 0.0
        self.identity: dict[str, Any] = {}
        self.token = secrets.token_hex(8)  # of the run; a trainer that has begun it in this process knows it
        if ranks is not None:
            self.token = ranks.first(self.token.encode()).decode()

    @property
    def speaks(self) -> bool:
        """Whether this process reads and writes the file: of several ranks the first does."""
        return self.ranks is None or self.ranks.rank == 0

    def _decided(self, wish: bool) -> bool:
        """Return the first rank's decision: the clocks of ranks differ."""
        return wish if self.ranks is None else self.ranks.decide(wish)

    # Writing.

    def step(self, run: Run, callbacks: Sequence[Callback], tally: Tally) -> None:
        """Write the file after a step, if it is time."""
        waited = time.perf_counter() - self.written
        if self.epochs is None and self._decided(waited >= (self.seconds or max(PATIENCE, self.cost / SHARE))):
            self.write(run, callbacks, tally)

    def epoch(self, run: Run, callbacks: Sequence[Callback], *, last: bool) -> None:
        """Write the file after an epoch, if it is time; after the last one in any case."""
        waited = time.perf_counter() - self.written
        due = waited >= (self.seconds or self.cost / SHARE) if self.epochs is None else run.epoch % self.epochs == 0
        if self._decided(due) or last:
            self.write(run, callbacks, None)

    def write(self, run: Run, callbacks: Sequence[Callback], tally: Tally | None) -> None:
        """Write the file, and keep what others may need; `tally` is that of the epoch which is not over."""
        began = time.perf_counter()
        self.keep(run, callbacks, tally)
        if self.speaks and self.path is not None:
            layout.write(self._contents(run, callbacks, tally), self.path)
        self.written = time.perf_counter()
        self.cost = self.written - began

    def keep(self, run: Run, callbacks: Sequence[Callback], tally: Tally | None) -> None:
        """Keep the state in memory, where ranks may go back to it; of a model that is not built there is none."""
        if self.ranks is None or not self.ranks.can_shrink or run.trainer.model.input_shape is None:
            return
        data = io.BytesIO()
        layout.write(self._contents(run, callbacks, tally), data)
        self.moments = {number: kept for number, kept in self.moments.items() if number == self.moment}
        self.moment += 1
        self.moments[self.moment] = data.getvalue()

    def _contents(self, run: Run, callbacks: Sequence[Callback], tally: Tally | None) -> Contents:
        trainer, encoder = run.trainer, Encoder(network.TABLE)
        description = describe_trainer(trainer, encoder, whole=False)
        if tally is not None:
            description["epochs"] = tally.number
            description["history"]["stopped"] = None
        states = _states(callbacks)
        description["run"] = {
            "token": self.token,
            "identity": self.identity,
            "step": run.step,
            "tally": None if tally is None else encoder.encode([*astuple(tally)], "tally"),
            "callbacks": [encoder.encode(state, f"callbacks.{n}") for n, (_, state) in enumerate(states)],
        }
        return Contents("Trainer", description, encoder.tensors, network.digest_of(trainer.model))

    # Going on.

    def go_back(self, run: Run, callbacks: Sequence[Callback]) -> Tally:
        """Go back to the last moment that all ranks have kept; return what its epoch had come to."""
        assert self.ranks is not None
        numbers = np.zeros(self.ranks.size, np.int64)
        numbers[self.ranks.rank] = self.moment
        self.ranks.gather(numbers, range(self.ranks.size + 1))
        self.moment = int(numbers.min())
        if not self.moment:
            raise RankFailedError("fit: a rank has died before the first step: start the ranks anew")
        self.moments = {self.moment: self.moments[self.moment]}
        contents = layout.read(io.BytesIO(self.moments[self.moment]))
        return self._take_in(run, contents, callbacks)

    def resume(self, run: Run, feed: Feed, validation: Feed | None, callbacks: Sequence[Callback]) -> Tally:
        """Bring back what the file holds, if there is one; return what the epoch has come to in which it was written.

        Raises
        ------
        StorageError
            If the file is damaged.
        ValueError
            If it is of another run.
        """
        self.identity = _identity(run.trainer, feed, validation, callbacks)
        contents = self._read()
        if contents is None:
            run.trainer._run = self.token
            return Tally(run.trainer.epochs)
        with naming(str(self.path)):
            description = contents.description
            if contents.kind != "Trainer" or not isinstance(description, dict) or "run" not in description:
                raise StorageError("fit: checkpoint: expected the file of a fit; it holds something else")
            self._compare(run.trainer, description)
            tally = self._take_in(run, contents, callbacks)
        assert isinstance(feed, ArrayFeed | BatchFeed)
        feed.seed = run.trainer._seed
        self.written, run.trainer._run = time.perf_counter(), self.token
        return tally

    def _take_in(self, run: Run, contents: Contents, callbacks: Sequence[Callback]) -> Tally:
        """Bring a state back; return what its epoch had come to."""
        decoder = Decoder(network.TABLE, {}, contents.tensors)
        self._restore(run, contents.description, decoder, callbacks)
        network.check_digest(run.trainer.model, contents.digest)
        kept = decoder.decode(field(contents.description["run"], "tally", list | None, "run"), "tally")
        if kept is None:
            return Tally(run.trainer.epochs)
        if len(kept) == len(fields(Tally)) - 1:
            kept.append(kept[COUNTED])  # written when each sample had one prediction
        if len(kept) != len(fields(Tally)) or not all(type(n) in (int, float) for n in kept):
            raise StorageError(f"run.tally: expected {len(fields(Tally))} numbers")
        return Tally(*kept)

    def _read(self) -> Contents | None:
        """Return what the file holds, None if there is none; of several ranks the first one reads it for all."""
        if self.path is None or not self._decided(os.path.lexists(self.path)):
            return None
        if self.ranks is None:
            return layout.read(self.path)
        with naming(str(self.path)):
            return layout.read(io.BytesIO(self.ranks.first(self.path.read_bytes() if self.speaks else b"")))

    def _compare(self, trainer: Stepper, description: Any) -> None:
        """Raise unless the file is of this run."""
        theirs, ours = field(description["run"], "identity", dict, "run"), dict(self.identity)
        token = field(description["run"], "token", str, "run")
        goes_on = trainer._run == token or trainer.steps == field(description, "steps", int)
        if goes_on or None in (theirs.get("weights"), ours["weights"]):
            ours["weights"] = theirs.get("weights")
        if None in (theirs.get("seed"), ours["seed"]):
            ours["seed"] = theirs.get("seed")
        if goes_on:
            ours["began"] = theirs.get("began")
        for name, own in ours.items():
            their = theirs.get(name)
            if (_settled(own) != _settled(their)) if goes_on else own != their:
                raise ValueError(
                    f"fit: checkpoint: {self.path} is of a run with another {NAMES.get(name, name)}"
                    f"{_words(their, own)}; give what it had, or another path"
                )
        self.identity, self.token = theirs, token

    def _restore(self, run: Run, description: Any, decoder: Decoder, callbacks: Sequence[Callback]) -> None:
        trainer, model = run.trainer, run.trainer.model
        if model.input_shape is None:
            model._build_unasked(tuple(field(description, "input_shape", list)), random_state=trainer.random_state)
        network.take_weights(model, decoder)
        network.set_extra_state(model, field(description, "extra_state", dict))
        trainer._program = None  # what is recorded may hold a seed
        restore_progress(trainer, description, decoder)
        history = restore_history(field(description, "history", dict | None), decoder) or run.history
        run.history.epochs, run.history.stopped = history.epochs, history.stopped
        trainer.history = run.history
        run.step, run.accuracy = field(description["run"], "step", int, "run"), trainer.accuracy
        states = field(description["run"], "callbacks", list, "run")
        for n, ((callback, _), state) in enumerate(zip(_states(callbacks), states, strict=True)):
            callback.set_state(decoder.decode(state, f"callbacks.{n}"))


# What tells one run from another.

NAMES = {
    "architecture": "model", "weights": "seed or start: the model began with other weights",
    "data": "set of data", "validation": "validation set", "began": "start: the trainer had taken other steps",
}  # fmt: skip


def _identity(trainer: Stepper, feed: Feed, validation: Feed | None, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return what a file and the call that goes on with it have in common, as JSON."""
    model, schedule = trainer.model, trainer.schedule
    seeded = trainer.random_state is not None
    built = model.input_shape is not None
    watching = [
        [type(one).__name__, repr(one) if isinstance(one, ShownAsCall) else ""] for one, _ in _states(callbacks)
    ]
    augmentation, resolution = getattr(feed, "augmentation", None), getattr(feed, "resolution", None)
    return {
        "architecture": spelt(model),
        "dtype": model._flat.dtype.name if built else None,
        "loss": spelt(trainer.loss),
        "optimizer": spelt(trainer.optimizer),
        "schedule": spelt(schedule),
        "schedule_steps": schedule.steps if isinstance(schedule, NamedSchedule) else None,
        "ema": spelt(trainer.ema),
        "augmentation": spelt(augmentation),
        "callbacks": watching,
        "batch_size": feed.batch_sizes.spelt() if isinstance(feed, ArrayFeed) else None,
        "resolution": None if resolution is None else resolution.spelt(),
        "drop_last": getattr(feed, "drop_last", None) or None,
        "data": _digest(feed),
        "validation": None if validation is None else _digest(validation),
        "seed": trainer._seed if seeded else None,
        "began": [trainer.steps, trainer.epochs],
        "weights": start_of(model) if built and isinstance(trainer.random_state, INTEGER) else None,
    }


def check_fit(
    trainer: Stepper,
    ranks: Communicator,
    feed: Feed,
    validation: Feed | None,
    callbacks: Sequence[Callback],
    epochs: int,
    path: Any,
) -> None:
    """Raise on all ranks, before the first step, unless all of them are about to do the same."""
    identity = _identity(trainer, feed, validation, callbacks)
    facts: dict[str, Any] = {"epochs": epochs, "batch_size": identity.pop("batch_size")}
    facts |= {NAMES.get(name, name): fact for name, fact in identity.items()}
    facts["checkpoint"] = None if path is None else str(path)
    check_alike(ranks, "fit", {name: json.dumps(fact) for name, fact in facts.items()})


def _settled(spelt: Any) -> Any:
    """Return JSON without learning rates: a trainer that goes on in its own process has those of its last step."""
    if isinstance(spelt, dict):
        return {name: _settled(value) for name, value in spelt.items() if name != "learning_rate"}
    return [_settled(value) for value in spelt] if isinstance(spelt, list) else spelt


def _words(their: Any, own: Any) -> str:
    """Return both sides of a difference, where they are short."""
    texts = [json.dumps(side) for side in (their, own)]
    if max(map(len, texts)) > 400:
        return ""
    return f": {texts[0]}, not {texts[1]}"


def _states(callbacks: Sequence[Callback]) -> list[tuple[Callback, dict[str, Any]]]:
    """Return the callbacks that remember something, with what it is."""
    states = [(callback, dict(callback.get_state())) for callback in callbacks]
    return [(callback, state) for callback, state in states if state]


def _digest(feed: Feed) -> str | None:
    """Return a digest of the data of a feed; None for batches that are made when they are asked for."""
    if isinstance(feed, ArrayFeed):
        return digest_arrays([feed.X, feed.y, *([] if feed.weight is None else [feed.weight])])
    assert isinstance(feed, BatchFeed)
    if not isinstance(feed.source, list | tuple):
        return None
    return digest_arrays(np.asarray(array) for batch in feed.source for array in batch if array is not None)


def _interval(every: Any) -> tuple[int | None, float | None]:
    """Return epochs or seconds from file to file."""
    if every is None:
        return None, None
    if isinstance(every, str):
        match = SECONDS.fullmatch(every)
        if match is None or not float(match[1]):
            raise ValueError(f"fit: checkpoint_every: expected epochs, or seconds as '30 s'; got {every!r}")
        return None, float(match[1])
    return checks.as_positive_int(every, "fit", "checkpoint_every"), None
