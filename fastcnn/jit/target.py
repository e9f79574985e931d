"""What the processor offers: its vector set, and the tile of the micro-kernel that fits its registers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

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


MAX_ROWS = 10

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


def has_fused_multiply_add() -> bool:
    """Tell whether the processor rounds a·b + c once; without that, trainings have other bits than elsewhere.

    All 64-bit Arm processors do, and those of x86-64 since 2013.
    """
    machine = llvm.get_process_triple().split("-")[0]
    return machine not in {"x86_64", "amd64"} or bool(llvm.get_host_cpu_features().get("fma"))


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
    machine = llvm.get_process_triple().split("-")[0]
    if machine in {"aarch64", "arm64"}:
        return SETS["neon"]
    if machine not in {"x86_64", "amd64"}:
        return SETS["generic"]
    features = llvm.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return SETS["avx512"]
    return SETS["avx2"] if features.get("avx2") and features.get("fma") else SETS["sse"]
