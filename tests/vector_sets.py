"""Which vector sets the processor has, and which the suite is run under besides its own.

Code for a wider set than the processor has runs too: LLVM splits its vectors. Its bounds and bits are those of the
real thing; what it does not show is an instruction that only the wider set has.
"""

from __future__ import annotations

import sys

import llvmlite.binding as llvm

from fastcnn.jit.target import vector_set

NEEDS = {"sse": (), "avx2": ("avx2", "fma"), "avx512": ("avx512f", "avx512vl")}  # instructions


def lacking() -> list[str]:
    """Return the sets for which this processor lacks instructions."""
    if llvm.get_process_triple().split("-")[0] not in {"x86_64", "amd64"}:
        return list(NEEDS)
    features = llvm.get_host_cpu_features()
    return [name for name, needs in NEEDS.items() if not all(features.get(need) for need in needs)]


def report() -> str:
    """Return in one line what this run of the suite is not for want of hardware."""
    missing = ", ".join(lacking())
    return f"vector set {vector_set().name}; " + (
        f"not run for want of hardware: {missing} (.ci/run has its code split into narrower vectors)"
        if missing
        else "the processor lacks none"
    )


if __name__ == "__main__":  # those that `.ci/run` adds to the processor's own
    sys.stdout.write(" ".join(name for name in NEEDS if name != vector_set().name) + "\n")
