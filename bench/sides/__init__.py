"""The same training step on each side: forward, backward, plain SGD, float32, the loss returned.

All sides start from `initial_parameters` and train on `batches` in turn, so their losses are one list of numbers. The
peers get what suits them best: batches already in their own arrays and memory order, no optimizer object, donated
buffers. One file for each, imported only where it takes part.
"""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from ..networks import Network
from ..timing import KEEP_MEMORY, RemoteSide, Side, cores


def all_sides(network: Network, compiled: bool, fresh: bool, jax: bool = True) -> Iterator[Side]:
    """Yield all sides of a network: fastcnn's first, then the peers that are installed, if `fresh` each in a process.

    XLA fixes its threads when it starts, so JAX on one thread is always in a process of its own.
    """
    counts = sorted({1, cores()})
    for count in counts:
        yield _make("ours", network, count)
    make = _make_apart if fresh else _make
    if find_spec("torch"):
        for build, last, count in itertools.product((False, True) if compiled else (False,), (False, True), counts):
            yield make("pytorch", network, count, last, build)
    if jax and find_spec("jax"):
        yield _make_apart("xla", network, 1, environment={"NPROC": "1"} | ({} if fresh else KEEP_MEMORY))
        if cores() > 1:
            yield make("xla", network, cores())


def all_predictors(network: Network, compiled: bool) -> Iterator[Side]:
    """Yield all sides that predict: fastcnn's first, then the peers that are installed."""
    counts = sorted({1, cores()})
    for count in counts:
        yield import_module(".ours", __name__).predictor(network, count)
    if find_spec("torch"):
        choices = itertools.product((False, True) if compiled else (False,), (False, True), (False, True), counts)
        for build, folded, last, count in choices:
            if folded or not build:  # the compiler has nothing to gain from what is not folded
                yield import_module(".pytorch", __name__).predictor(network, count, last, folded, build)
    if find_spec("onnxruntime") and find_spec("onnx"):
        for count in counts:
            yield import_module(".ort", __name__).predictor(network, count)


def _make(module: str, *arguments: Any) -> Side:
    """Return a side in this process."""
    return import_module(f".{module}", __name__).make(*arguments)


def _make_apart(module: str, *arguments: Any, environment: Mapping[str, str] = MappingProxyType({})) -> Side:
    """Return a side in a child process."""
    return RemoteSide(f"{__name__}.{module}", arguments, environment)


def compiler_missing() -> str | None:
    """Return why torch.compile cannot take part, or None if it can."""
    if not find_spec("torch"):
        return "PyTorch is not installed"
    return None if any(map(shutil.which, ("g++", "c++", "clang++"))) else "there is no C++ compiler"


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after `seconds`, where the system has alarms."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
