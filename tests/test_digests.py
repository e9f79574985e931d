"""One seed, one set of bits: whatever the threads and the process."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import fastcnn
from tests import digests
from tests.processes import finish, start_python

LIMIT = 600  # seconds: all kernels may have to be compiled


def test_threads_and_processes_give_the_same_bits():
    other = start_python("import json; from tests.digests import digests; print(json.dumps(digests()))")
    here = digests.digests(1)
    for threads in (2, 3, 5, 16):
        assert digests.digests(threads) == here
    assert json.loads(finish(other, LIMIT)) == here


def test_something_of_every_kind_is_trained():
    source = Path(digests.__file__).read_text(encoding="utf-8")
    kinds = fastcnn.Layer, fastcnn.Loss, fastcnn.Optimizer, fastcnn.Schedule
    public = {name: getattr(fastcnn, name) for name in fastcnn.__all__}
    trained = [name for name, kind in public.items() if inspect.isclass(kind) and issubclass(kind, kinds)]
    assert {name for name in trained if f"{name}(" not in source} == {"Layer", "Loss", "Optimizer", "Schedule"}
