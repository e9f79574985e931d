"""The identity of a training, as JSON and digests: whether two runs are one, and whether all ranks do the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..jit.target import vector_set
from ..model import Sequential
from ..ranks.communicator import Communicator, check_alike
from ..storage import network
from ..storage.values import Encoder
from ..typing import Array
from ..version import __version__
from .feed import Rows

DIGESTED = 1 << 28  # bytes of an array beyond which evenly spaced samples of it are looked at


def spelt(thing: Any) -> Any:
    """Return a thing as JSON, arrays by their digest; of what no file can keep the name of its class."""
    encoder = Encoder(network.TABLE)
    try:
        encoded = encoder.encode(thing, "")
    except TypeError:
        if callable(thing) and hasattr(thing, "__qualname__"):
            return {"function": thing.__qualname__}
        return {"object": type(thing).__qualname__}
    return [encoded, digest_arrays(encoder.tensors.values())] if encoder.tensors else encoded


def start_of(model: Sequential) -> str:
    """Return a digest of the weights, and of the seeds of layers."""
    states = [layer._extra_state() for layer in model._modes()]
    return digest_arrays(model._weights().values(), json.dumps(states))


def digest_arrays(arrays: Any, words: str = "") -> str:
    """Return SHA-256 of arrays, of large ones of evenly spaced samples."""
    digest = hashlib.sha256(words.encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for piece in _pieces(array):
            digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _pieces(array: Array | Rows) -> Any:
    """Yield an array in pieces, or samples of it."""
    if array.ndim == 0 or not array.size:
        yield np.asarray(array)
        return
    bytes_each = array.size // len(array) * array.dtype.itemsize
    spacing = max(1, -(-bytes_each * len(array) // DIGESTED))
    rows = max(1, (1 << 22) // max(1, bytes_each)) * spacing
    for first in range(0, len(array), rows):
        yield array[first : first + rows : spacing]


def check_parts(communicator: Communicator, model: Sequential, parts: Mapping[str, Any]) -> None:
    """Raise on all ranks unless their trainers are of one kind, with the same weights; the model is built."""
    facts: dict[str, Any] = {
        "version of fastcnn": __version__,
        "vector set": vector_set().name,
        "model": spelt(model),
        "dtype": model._flat.dtype.name,
        **{name: part if isinstance(part, list) else spelt(part) for name, part in parts.items()},
        "weights of the model": start_of(model),
    }
    check_alike(communicator, "Trainer", {name: json.dumps(fact) for name, fact in facts.items()})


def share_start(communicator: Communicator, model: Sequential) -> None:
    """Give the weights and seeds of rank 0's new model to all others: no seed says that theirs are the same."""
    communicator.gather(model._flat, [0, *[model._flat.size] * communicator.size])
    own = {place: state for place, layer in network.leaves(model) if (state := layer._extra_state())}
    network.set_extra_state(model, json.loads(communicator.first(json.dumps(own).encode())))
