"""Programs that train in threads, forks and workers: never an abort, never a hang, wherever training begins."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

from tests.processes import run_python

# Trains with shards on two threads and returns the losses, which no way of starting may change. `fit` is what workers
# run, so the program is a file that they can import.
PROGRAM = '''
import sys
import numpy as np
import fastcnn
from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, SGD, Sequential, Trainer
from fastcnn.runtime import threads as parallel
from fastcnn.training import step

step.SHARD_WORK = 1e4


def make():
    layers = [Conv2D(8, 3), ReLU(), MaxPool2D(), Flatten(), Dense(10)]
    return Sequential(layers).build((1, 12, 12), random_state=0)


def fit(seed=0, threads=2, steps=40):
    """Return the losses of a training run."""
    trainer = Trainer(make(), optimizer=SGD(0.1), threads=threads)
    rng = np.random.RandomState(seed)
    x, y = rng.rand(32, 1, 12, 12).astype("f"), rng.randint(10, size=32)
    losses = [trainer.step(x, y) for _ in range(steps)]
    assert len(trainer._program.slices(32)) == 8
    return losses


def check(results, seeds):
    assert results == [fit(seed, 1) for seed in seeds], results
    assert len(set(map(tuple, results))) == len(results)

'''


@pytest.fixture
def run(tmp_path):
    """Return a function that runs PROGRAM with a main part, from a file, and sees that it ends quietly."""

    def run_file(main: str, **environment: str) -> str:
        file = tmp_path / "program.py"
        body = "".join(f"    {line}\n" for line in main.strip().splitlines())
        file.write_text(f"{PROGRAM}\nif __name__ == '__main__':\n{body}", encoding="utf-8")
        return run_python(
            "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.insert(0, sys.argv[1]); "
            "runpy.run_path(sys.argv[0], run_name='__main__')",
            str(file),
            str(tmp_path),
            **environment,
        )

    return run_file


def test_fits_from_two_python_threads_at_once(run):
    run("""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    check(list(pool.map(fit, range(4))), range(4))
""")


def test_the_first_kernels_are_compiled_from_two_threads_at_once(run, tmp_path):
    run(
        """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    check(list(pool.map(fit, range(2))), range(2))
""",
        FASTCNN_CACHE_DIR=str(tmp_path / "empty"),
    )


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
# Python 3.12 warns of every fork in a process with threads; here that is the point.
QUIET = {"PYTHONWARNINGS": "ignore::DeprecationWarning"}


@needs_fork
def test_a_forked_child_trains_after_its_parent_has(run):
    """The parent's helper threads are not there in the child: it must not wait for them."""
    run(
        """
import multiprocessing
expected = fit()
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    results = pool.map_async(fit, range(4)).get(timeout=60)
check(results, range(4))
assert fit() == expected
""",
        **QUIET,
    )


@needs_fork
def test_a_forked_child_has_helpers_of_its_own(run):
    run(
        """
import multiprocessing, threading, time
def threads_at_work(_):
    seen = set()
    def task(i, worker):
        seen.add(threading.get_ident())
        time.sleep(0.02)
    parallel.run(20, task, 2)
    return len(seen)
assert threads_at_work(None) == 2
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map_async(threads_at_work, [None]).get(timeout=60) == [2]
""",
        **QUIET,
    )


@needs_fork
def test_a_fork_in_the_middle_of_a_training_step(run):
    """Another thread is training, its helpers are at work, while the child is made."""
    run(
        """
import multiprocessing, threading
expected = fit()
stop = threading.Event()
def train():
    while not stop.is_set():
        fit(steps=5)
thread = threading.Thread(target=train)
thread.start()
context = multiprocessing.get_context("fork")
for _ in range(5):
    with context.Pool(1) as pool:
        assert pool.apply_async(fit).get(timeout=60) == expected
stop.set()
thread.join()
""",
        **QUIET,
    )


@needs_fork
def test_a_fork_at_any_moment_of_another_threads_training(run):
    """Whatever that thread held, planning or training, the child does not wait for it."""
    run(
        """
import faulthandler, os, threading
expected = fit(steps=3)
def train():
    while True:
        fit(steps=1)
threading.Thread(target=train, daemon=True).start()
sys.setswitchinterval(1e-5)
for _ in range(100):
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(60, exit=True)
        os._exit(0 if fit(steps=3) == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
os._exit(0)
""",
        **QUIET,
    )


@needs_fork
def test_a_fork_while_another_thread_compiles(run, tmp_path):
    """A fork waits until the compiler's locks are open: the child compiles too."""
    run(
        """
import faulthandler, os, threading, time
thread = threading.Thread(target=fit)
thread.start()
children = []
for _ in range(3):
    time.sleep(0.3)
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(100, exit=True)
        os._exit(0 if len(fit()) == 40 else 3)
    children.append(child)
thread.join()
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 3
""",
        FASTCNN_CACHE_DIR=str(tmp_path / "empty"),
        **QUIET,
    )


def test_spawned_workers_train(run):
    run("""
import multiprocessing
fit()
with multiprocessing.get_context("spawn").Pool(2) as pool:
    results = pool.map_async(fit, range(2)).get(timeout=60)
check(results, range(2))
""")


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib comes with scikit-learn")
def test_loky_workers_train(run):
    """As `GridSearchCV(n_jobs=2)` would: models go there and come back."""
    run("""
import joblib
from program import fit, make
fit()
results = joblib.Parallel(n_jobs=2, timeout=60)(joblib.delayed(fit)(seed) for seed in range(4))
check(results, range(4))

def train(model):
    Trainer(model, optimizer=SGD(0.1)).step(np.ones((4, 1, 12, 12), "f"), np.arange(4))
    return model

here, there = train(make()), joblib.Parallel(n_jobs=2, timeout=60)([joblib.delayed(train)(make())])[0]
for name, parameter in here.parameters.items():
    np.testing.assert_array_equal(there.parameters[name], parameter)
""")


def test_training_in_a_thread_that_outlives_the_program(run):
    """When the interpreter is closing no new helper begins; the step goes on without."""
    run("""
import threading, time
thread = threading.Thread(target=fit, kwargs={"steps": 400})
thread.start()
time.sleep(0.05)
""")


def test_a_daemon_thread_does_not_hold_the_program(run):
    run("""
import threading, time
threading.Thread(target=fit, kwargs={"steps": 10**9}, daemon=True).start()
time.sleep(0.3)
""")


def test_training_while_blas_is_at_work(run):
    run("""
from concurrent.futures import ThreadPoolExecutor
def multiply(_):
    a = np.ones((300, 300), "f")
    for _ in range(50):
        a = a @ a / 300
    return float(a[0, 0])
with ThreadPoolExecutor(3) as pool:
    other = pool.map(multiply, range(2))
    check([fit(0), fit(1)], range(2))
    assert list(other) == [1.0, 1.0]
""")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_the_affinity_is_respected():
    code = (
        "import os\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from fastcnn.runtime import threads as parallel\n"
        "assert parallel.available_cpus() == 1, parallel.available_cpus()\n"
        "assert parallel.get_num_threads() == 1\n"
    )
    run_python(code, FASTCNN_NUM_THREADS="", OPENBLAS_NUM_THREADS="")


@pytest.mark.skipif(sys.platform != "linux", reason="quotas of containers are an affair of Linux")
@pytest.mark.parametrize("quota", [1, 2])
def test_the_quota_of_a_container_is_respected(quota):
    """A quota is a file that says how many microseconds of each 100000 there are; here one is made up."""
    code = (
        "import builtins, io, os, sys\n"
        "opened, exists = builtins.open, os.path.exists\n"
        "file = '/sys/fs/cgroup/cpu.max'\n"
        f"quota = '{quota}00000 100000'\n"
        "made_up = lambda name, *rest, **more: io.StringIO(quota) if name == file else opened(name, *rest, **more)\n"
        "builtins.open = made_up\n"
        "os.path.exists = lambda name: name == file or exists(name)\n"
        "os.cpu_count = lambda: 64\n"
        "os.sched_getaffinity = lambda pid: set(range(64))\n"
        "from fastcnn.runtime import threads as parallel\n"
        f"assert parallel.available_cpus() == {quota}, parallel.available_cpus()\n"
    )
    run_python(code)
