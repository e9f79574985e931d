"""What the processor offers: its vector set, its caches, and the tile of the micro-kernel that fits its registers.

Machine code is for this very processor, or for all that have a vector set: such as is compiled ahead of time, for a
container or for the nodes of a cluster.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache
from glob import glob
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np

from .native import undisturbed


@dataclass(frozen=True)
class VectorSet:
    """A family of vector instructions: its width and how many registers it has.

    Attributes
    ----------
    name : str
    bits : int
        Width of one register.
    registers : int
    """

    name: str
    bits: int
    registers: int

    def lanes(self, dtype: np.dtype | type) -> int:
        """Return how many numbers of `dtype` one register holds."""
        return self.bits // (8 * np.dtype(dtype).itemsize)

    def tile_rows(self, vectors: int) -> int:
        """Return the most rows that a tile of `vectors` registers per row may have.

        Each row needs `vectors` accumulators; beside them live `vectors` registers of the right matrix and one
        broadcast number.
        """
        return min(MAX_ROWS, (self.registers - vectors - 1) // vectors)


MAX_ROWS = 10  # of a tile: each height is code of its own, and AVX-512 and NEON alone have registers for more


@dataclass(frozen=True)
class Caches:
    """Sizes in bytes: of a cache line, of a core's first- and second-level cache, and of its part of the last level.

    Attributes
    ----------
    line, first, second, last : int
    """

    line: int
    first: int
    second: int
    last: int


# The sizes by which work is cut wherever the cut decides in which order numbers are summed, or which algorithm is
# chosen: a processor of some years ago, the same for all. Only what changes no sum may ask `caches()` instead.
COMMON = Caches(line=64, first=32 << 10, second=512 << 10, last=8 << 20)

# Bits do not depend on the processor: where the lanes of registers are added up, they are sixteen, in one register or
# in several; and what decides in which order numbers are summed counts channels in sixteens.
LANES = 16

SETS = {
    "sse": VectorSet("sse", 128, 16),
    "avx2": VectorSet("avx2", 256, 16),
    "avx512": VectorSet("avx512", 512, 32),
    "neon": VectorSet("neon", 128, 32),
    "generic": VectorSet("generic", 128, 16),
}


# The fewest registers that a vector set has: what is kept in registers by all of them fits these.
FEWEST_REGISTERS = min(vectors.registers for vectors in SETS.values())


@cache
def caches(folder: str = "/sys/devices/system/cpu/cpu0/cache") -> Caches:
    """Return the caches of this processor as the system tells them, and as `COMMON` has them where it does not."""
    found: dict[str, int] = {}
    for place in sorted(glob(f"{folder}/index*")):
        level, kind, size, line = (_property(place, word) for word in ("level", "type", "size", "coherency_line_size"))
        names = {"1": "first", "2": "second", "3": "last"}
        if kind in {"Data", "Unified"} and level in names and size.endswith("K") and size[:-1].isdigit():
            found[names[level]] = int(size[:-1]) << 10
            found["line"] = int(line) if line.isdigit() and int(line) > 0 else COMMON.line
    # Many cores share the last level, and a machine with a large one has many.
    return replace(COMMON, **{name: min(size, COMMON.last) for name, size in found.items() if size})


def _property(place: str, word: str) -> str:
    """Return a property of a cache as Linux states it, "" where it does not."""
    try:
        with open(f"{place}/{word}", encoding="ascii") as file:
            return file.read().strip()
    except (OSError, UnicodeError):
        return ""


class Processor(NamedTuple):
    """A target of machine code, in LLVM's terms: a processor, and the features that it has besides (+) or lacks (-)."""

    name: str
    features: str


# For each vector set, what all processors that have it can run: the levels of the x86-64 psABI. At the fourth, LLVM
# would cut vectors of 512 bits in two, if it were not told otherwise.
BASELINES = {
    "sse": Processor("x86-64-v2", "+sse4.2"),
    "avx2": Processor("x86-64-v3", "+avx2"),
    "avx512": Processor("x86-64-v4", "+avx512f,-prefer-256-bit"),
    "neon": Processor("generic", "+neon"),
}
NEEDS = {
    "sse": ("sse4.2", "popcnt"),
    "avx2": ("avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe"),
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    "neon": ("neon",),
}
# Numba reads these variables when it is imported; set before that, they choose another processor.
NAME_VARIABLE, FEATURES_VARIABLE = "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"


@cache
def processors() -> list[Processor]:
    """Return the processors whose machine code may be loaded here; code is compiled for the first of them."""
    return undisturbed(_processors)


def _processors() -> list[Processor]:
    name, features = os.environ.get(NAME_VARIABLE), os.environ.get(FEATURES_VARIABLE)
    own = llvm.get_host_cpu_features()
    first = Processor(name or llvm.get_host_cpu_name(), own.flatten() if features is None else features)
    chosen = vector_set().name
    usable = chosen in NEEDS and all(own.get(need) for need in NEEDS[chosen])
    return list(dict.fromkeys([first, *([BASELINES[chosen]] if usable else [])]))


def architecture() -> str:
    """Return the first part of LLVM's triple in one spelling: x86_64, aarch64, or another."""
    first = str(llvm.get_process_triple()).split("-")[0]
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(first, first)


def has_fused_multiply_add() -> bool:
    """Tell whether the processor rounds a·b + c once; without that, trainings have other bits than elsewhere.

    All 64-bit Arm processors do, and those of x86-64 since 2013.
    """
    return architecture() != "x86_64" or bool(llvm.get_host_cpu_features().get("fma"))


@cache
def vector_set() -> VectorSet:
    """Return the vector set of this processor, or the one that the environment variable `FASTCNN_SIMD` names."""
    chosen = os.environ.get("FASTCNN_SIMD")
    if chosen:
        if chosen not in SETS:
            raise ValueError(f"FASTCNN_SIMD: expected one of {', '.join(SETS)}; got {chosen!r}")
        return SETS[chosen]
    return undisturbed(_host_set)


def _host_set() -> VectorSet:
    if architecture() == "aarch64":
        return SETS["neon"]
    if architecture() != "x86_64":
        return SETS["generic"]
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return SETS["avx512"]
    return SETS["avx2"] if features.get("avx2") and features.get("fma") else SETS["sse"]
