"""What the processor can do: FMA in registers alone, and copying memory. Every share of the peak is a share of these.

Run as ``python -m bench.peak``.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

CHAINS = 12  # independent sums: two FMA units of latency 4 to 5 need ten, and 12 + 2 operands fit 16 registers
UNROLL = 8  # FMAs of a chain per turn of the loop, so that counting the turns costs nothing
TURNS = 500_000  # 12 chains x 8 FMAs x 500,000 turns: 8 ms on a processor with two FMA units at 3 GHz


def vector_bytes() -> int:
    """Return the width of this processor's vector registers, whatever set the kernels were told to use."""
    features = llvm.get_host_cpu_features() if llvm.get_process_triple().startswith("x86_64") else {}
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


@intrinsic
def _fma_chains(typing_context: Any, turns: Any, factor: Any, addend: Any) -> Any:
    """Emit `turns` rounds of UNROLL times ``sum = sum * factor + addend`` on CHAINS vectors; return the sum of all."""
    lanes = vector_bytes() // (factor.bitwidth // 8)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        count, *scalars = values
        vector = ir.VectorType(scalars[0].type, lanes)
        factors, addends = (_splat(builder, vector, scalar) for scalar in scalars)
        fmuladd = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}f{factor.bitwidth}"
        )
        # Unequal starts: equal chains would be one chain to the optimiser.
        starts = [ir.Constant(vector, [float(1 + chain)] * lanes) for chain in range(CHAINS)]
        sums = [cgutils.alloca_once_value(builder, start) for start in starts]  # promoted to registers
        with cgutils.for_range(builder, count):
            for _ in range(UNROLL):
                for place in sums:
                    builder.store(builder.call(fmuladd, [builder.load(place), factors, addends]), place)
        total = builder.load(sums[0])
        for place in sums[1:]:
            total = builder.fadd(total, builder.load(place))
        lane = [builder.extract_element(total, ir.Constant(ir.IntType(32), index)) for index in range(lanes)]
        result = lane[0]
        for value in lane[1:]:
            result = builder.fadd(result, value)
        return result

    return factor(turns, factor, addend), generate


def _splat(builder: ir.IRBuilder, vector: ir.VectorType, scalar: Any) -> Any:
    """Emit a vector of copies of one number."""
    result = ir.Constant(vector, ir.Undefined)
    for index in range(vector.count):
        result = builder.insert_element(result, scalar, ir.Constant(ir.IntType(32), index))
    return result


@cache
def _loop(scalar: types.Float) -> Any:
    """Compile the loop for one number type."""

    @njit(scalar(types.intp, scalar, scalar), nogil=True)
    def loop(turns, factor, addend):
        return _fma_chains(turns, factor, addend)

    return loop


def fma_peak(dtype: Any = np.float32, repeats: int = 12) -> float:
    """Return the GFLOP/s of one core in registers alone: the best of `repeats` runs, for it is an upper bound."""
    dtype = np.dtype(dtype)
    loop = _loop(types.float32 if dtype == np.float32 else types.float64)
    flops = 2 * CHAINS * UNROLL * TURNS * (vector_bytes() // dtype.itemsize)
    factor, addend = dtype.type(0.5), dtype.type(0.5)  # every sum tends to 1: no overflow, no subnormal number
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        total = loop(TURNS, factor, addend)
        best = min(best, time.perf_counter() - start)
    if abs(total - CHAINS * (vector_bytes() // dtype.itemsize)) > 1e-3:
        raise RuntimeError(f"the FMA loop ended at {total}: it did not compute what it was timed for")
    return flops / best / 1e9


def conditions(before: float, after: float, others: float | None) -> str:
    """Return the lines that stand under a table of shares: peaks before and after, and whether to believe the table."""
    lines = [f"FMA peak of one core: {before:.1f} GFLOP/s before, {after:.1f} after; shares are of the larger"]
    if others is not None:
        lines.append(f"other processes kept {others:.2f} cores busy meanwhile")
    if abs(after - before) > 0.03 * max(before, after) or (others or 0) > 0.1:
        lines.append(
            "The machine was not quiet, and sides with several threads suffer most from that: repeat this run."
        )
    return "\n".join(lines)


def copy_bandwidth(megabytes: int = 128, repeats: int = 5, threads: int = 1) -> float:
    """Return the GB/s, bytes read plus bytes written, of threads copying an array far beyond the caches."""
    source = np.ones(megabytes << 18, np.float32)
    target = np.empty_like(source)
    pieces = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats + 1):  # the first copy pays for the pages
            start = time.perf_counter()
            list(pool.map(lambda piece: np.copyto(*piece), pieces))
            best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best / 1e9


if __name__ == "__main__":
    for name in ("float32", "float64"):
        print(f"FMA peak of one core, {name}: {fma_peak(name):6.1f} GFLOP/s")
    print(f"memory copy, one thread:          {copy_bandwidth():6.1f} GB/s (read + written)")
