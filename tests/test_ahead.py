"""Kernels that are compiled before they are called: named by a rehearsal, side by side, in folders for others."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastcnn
from fastcnn import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Residual, Sequential
from fastcnn.cli import compile_, main
from fastcnn.codegen.winograd_schemes import F43
from fastcnn.jit import ahead
from fastcnn.jit.kernel import Kernel
from fastcnn.jit.signature import kind_of
from fastcnn.jit.target import BASELINES, NEEDS, SETS, vector_set
from fastcnn.rehearsals import rehearse_networks
from tests.processes import run_python

KINDS = (
    (np.dtype(np.float32), 1, 0x501), int, float, bool, np.float32, np.float64, np.uint64, np.int64, np.bool_,
    kind_of(F43()),
)  # fmt: skip
WITHOUT_STAGES = [Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(3)]
WITH_STAGES = [
    Conv2D(8, 3, padding=1),
    BatchNorm(),
    ReLU(),
    Residual([Conv2D(8, 3, padding=1), BatchNorm()]),
    *WITHOUT_STAGES,
]


def small(layers=WITHOUT_STAGES) -> Sequential:
    return Sequential([layer.copy() for layer in layers]).build((1, 8, 8), random_state=0)


def test_kinds_of_arguments_pass_through_json():
    assert ahead.decode(json.loads(json.dumps(ahead.encode(KINDS)))) == KINDS


def test_every_kind_that_kernels_are_called_with_has_a_word():
    needed = rehearse_networks(["digits_default", "estimators"]).needed
    assert len(needed) > 20
    for kernel, kinds in needed:
        assert ahead.decode(json.loads(json.dumps(ahead.encode(kinds)))) == kinds, kernel.name


@pytest.mark.parametrize("layers", [WITHOUT_STAGES, WITH_STAGES])
def test_a_rehearsal_names_all_kernels_of_a_training_and_runs_none(layers, monkeypatch):
    model = small(layers)
    before = model.digest()
    needed = set(rehearse_networks([model]).needed)
    assert model.digest() == before
    called, call = set(), Kernel.__call__

    def note(self, *arguments):
        called.add((self, tuple(map(kind_of, arguments))))
        call(self, *arguments)

    monkeypatch.setattr(Kernel, "__call__", note)
    x, y = np.random.default_rng(0).random((40, 1, 8, 8), np.float32), np.arange(40) % 3
    for images in (x, (255 * x).astype(np.uint8)):
        trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.01, momentum=0.9), random_state=0)
        trainer.fit(images, y, epochs=2, batch_size=16, verbose=False)
        trainer.evaluate(images, y)
        model.predict(images)
    assert called
    assert called <= needed


class Compiled:
    """A kernel that is compiled by writing down that it was."""

    def __init__(self) -> None:
        self.family, self.name, self.there = "activation", "relu", False

    def is_there(self, kinds):
        return self.there

    def compile(self, kinds):
        self.there = True


@pytest.mark.parametrize("start", [OSError("no processes left"), None])
def test_without_other_processes_this_one_compiles_all(start, monkeypatch):
    def refuse():
        raise start

    monkeypatch.setattr(ahead, "_start", refuse)
    monkeypatch.setattr(ahead, "_can_help", lambda: start is not None)
    kernels = [Compiled() for _ in range(9)]
    assert ahead.compile_together([(kernel, KINDS) for kernel in kernels], 3) == 9
    # What a process that did not start had taken is compiled by the call that needs it.
    assert sum(not kernel.there for kernel in kernels) <= (0 if start is None else 2)
    assert ahead.compile_together([(kernel, KINDS) for kernel in kernels if kernel.there], 3) == 0


# Three kernels by another process, which leaves them on disk; the fourth is asked for by its call.
TWO_PROCESSES = """
import json, threading, numpy as np
from fastcnn.jit import ahead
from fastcnn.jit.kernel import Kernel
from fastcnn.jit.signature import RecordKind
from fastcnn.kernels import activation, compare
from fastcnn.kernels.maps import Maps
mine, compile_here = [], Kernel.compile
others = threading.Event()
def slowly(self, kinds):  # so that the other process has its turn
    others.wait(100)
    mine.append(self.name)
    compile_here(self, kinds)
Kernel.compile = slowly
tell = ahead._Helper._tell
def told(self, line):
    tell(self, line)
    others.set()
ahead._Helper._tell = told
rows = (np.dtype(np.int32), 1, 0x501)
maps = [RecordKind(Maps, ((np.dtype(dtype), 1, 0x501), rows)) for dtype in (np.float64, np.float32)]
needs = [(activation.relu, (each, each, int, int, last)) for each in maps for last in (bool, int)]
count = ahead.compile_together(needs, 2)
there = [kernel.is_there(kinds) for kernel, kinds in needs]
print(json.dumps([count, len(mine), there, activation.relu.compiled]))
"""


def test_two_processes_share_the_work(tmp_path):
    count, mine, there, compiled = json.loads(run_python(TWO_PROCESSES, FASTCNN_CACHE_DIR=str(tmp_path)))
    assert count == 4
    assert there == [True] * 4
    assert mine == compiled < 4


TRAIN = """
import json, sys, numpy as np, fastcnn
model = fastcnn.load(sys.argv[1])
x, y = np.random.default_rng(0).random((40, 1, 8, 8), np.float32), np.arange(40) % 3
trainer = fastcnn.Trainer(model, optimizer=fastcnn.SGD(0.01, momentum=0.9), random_state=0)
trainer.fit(x, y, epochs=2, batch_size=16, verbose=False)
model.predict(x)
print(json.dumps(["numba" in sys.modules, model.digest()]))
"""


def test_what_is_compiled_ahead_serves_a_fresh_process_without_numba(tmp_path, monkeypatch, capsys):
    """Code for all processors of this vector set, in a folder that cannot be written to."""
    name, cache, file = vector_set().name, tmp_path / "kernels", tmp_path / "model.safetensors"
    if name not in BASELINES:
        pytest.skip(f"there is no code ahead of time for {name}")
    fastcnn.save(small(), file)
    monkeypatch.delenv("FASTCNN_SIMD", raising=False)
    assert main(["compile", "--for", name, "--models", str(file), "--into", str(cache), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["vector_set"] == name
    assert report["processor"] == BASELINES[name].name
    assert report["compiled"] == report["kernels"] > 5
    files = sorted(path.name for path in (cache / name).iterdir())
    (cache / name).chmod(0o555)
    numba, digest = json.loads(run_python(TRAIN, str(file), FASTCNN_CACHE_DIR=str(cache)))
    (cache / name).chmod(0o755)
    assert not numba
    assert sorted(path.name for path in (cache / name).iterdir()) == files
    assert digest == json.loads(run_python(TRAIN, str(file)))[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models", "lenet"], "--models: expected some of all, "),
        (["--models", "lenet"], "got 'lenet'; did you mean lenet5?"),
        (["--for", "avx"], "got 'avx'; did you mean "),
        (["--for", "sse,neon"], "expected a vector set of x86_64" if vector_set().name != "neon" else "--for sse"),
        (["--into", "/dev/null/kernels"], "--into /dev/null/kernels: "),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(arguments, message, capsys):
    assert main(["compile", *arguments]) in (1, 2)
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_code_ahead_of_time_is_offered_for_all_vector_sets_that_have_a_baseline():
    assert set(compile_.SETS) == set(BASELINES) == set(NEEDS)
    assert set(SETS) - set(BASELINES) == {"generic"}
