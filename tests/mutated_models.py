"""Damaged and malicious files of models; `python -m tests.mutated_models 20000` tries that many of each kind.

A damaged file must give a `StorageError` or the same model. A file whose checksum was computed anew, as somebody would
do who wants to do harm, must give a `StorageError` or some model. Memory stays below a limit.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import struct
import sys
import time
import warnings
from random import Random

import numpy as np

import fastcnn
from fastcnn import BatchNorm, CNNClassifier, Conv2D, Dense, Dropout, EarlyStopping, Flatten, ReLU, Sequential
from fastcnn.storage import layout
from tests.fits import CLASSES, samples, trainer
from tests.mutations import mutate

KINDS = ("model", "trainer", "classifier")
MEMORY = 1 << 28  # bytes by which the process may grow, whatever the files say of their sizes


def content_of(kind: str) -> bytes:
    X, y = samples(40)
    if kind == "model":
        what = Sequential([Conv2D(2, 3), BatchNorm(), ReLU(), Dropout(0.2), Flatten(), Dense(2)])
        what.build((1, 5, 5), random_state=0)
    elif kind == "trainer":
        what = trainer()
        what.fit(X, y, epochs=1, batch_size=20, verbose=0, callbacks=[EarlyStopping("loss")])
    else:
        words = np.array([*"abcd"])
        what = CNNClassifier([Flatten()], max_iter=2, random_state=0).fit(X, words[y % CLASSES])
    file = io.BytesIO()
    fastcnn.save(what, file)
    return file.getvalue()


def _mutated_header(content: bytes, random: Random) -> bytes:
    """Return a file with another header, whose checksum is right where it can be."""
    (length,) = struct.unpack("<Q", content[:8])
    text, data = content[8 : 8 + length], content[8 + length :]
    header = json.loads(text)
    metadata = header.pop("__metadata__")
    if random.random() < 0.5:
        metadata["description"] = _mutated_text(metadata["description"], random)
    else:
        header = _mutated_json(header, random)
    with contextlib.suppress(TypeError, ValueError):
        metadata["checksum"] = layout._checksum(metadata, header, [data])
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    return struct.pack("<Q", len(text)) + text + data


def _mutated_text(text: str, random: Random) -> str:
    if random.random() < 0.3:
        return mutate(text.encode(), random).decode(errors="replace")
    return json.dumps(_mutated_json(json.loads(text), random))


def _mutated_json(value, random: Random):
    """Return JSON in which something is another value, is missing, or stands elsewhere."""
    places: list = []

    def walk(inner) -> None:
        for key in inner if isinstance(inner, dict) else range(len(inner)):
            places.append((inner, key))
            if isinstance(inner[key], dict | list):
                walk(inner[key])

    walk(value)
    for _ in range(random.choice((1, 1, 2))):
        inner, key = random.choice(places)
        other, place = random.choice(places)
        extremes = (
            0,
            -1,
            1,
            10**9,
            2**63,
            10**400,
            1.5,
            True,
            None,
            "",
            "x" * 99,
            [],
            {},
            [[]],
            {"tensor": "0.filters"},
        )
        if (isinstance(inner, dict) and key not in inner) or (isinstance(inner, list) and key >= len(inner)):
            continue
        if random.random() < 0.2:
            del inner[key]
        elif random.random() < 0.4 and (place in other if isinstance(other, dict) else place < len(other)):
            inner[key] = json.loads(json.dumps(other[place]))
        else:
            inner[key] = random.choice(extremes)
    return value


def try_mutations(kind: str, count: int, *, signed: bool, seed: int = 0) -> tuple[int, int]:
    """Load mutated files; return how many were refused, and how many gave a model."""
    content, random = content_of(kind), Random(f"{kind}{signed}{seed}")
    whole = _values(fastcnn.load(io.BytesIO(content)))
    refused = loaded = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        mutated = _mutated_header(content, random) if signed else mutate(content, random)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                thing = fastcnn.load(io.BytesIO(mutated))
        except fastcnn.StorageError as error:
            refused += 10 < len(str(error)) < 4000
        else:
            assert signed or _values(thing) == whole
            loaded += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < MEMORY, "memory beyond what such files can hold"
    return refused, loaded


def _values(thing) -> bytes:
    model = getattr(thing, "model_", None) or getattr(thing, "model", thing)
    return b"".join(np.ascontiguousarray(array).tobytes() for array in model._weights().values())


if __name__ == "__main__":
    for kind in KINDS:
        for signed in (False, True):
            began = time.perf_counter()
            refused, loaded = try_mutations(kind, int(sys.argv[1]), signed=signed, seed=1)
            what = "malicious" if signed else "damaged"
            print(
                f"{kind}, {what}: {refused} refused, {loaded} loaded, {time.perf_counter() - began:.0f} s", flush=True
            )
