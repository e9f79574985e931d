"""Whether numbers have changed."""

from __future__ import annotations

from ..jit.source import kernel

BLOCK = 1024  # numbers that are compared without a branch, so that LLVM makes a loop of vectors


@kernel
def note_change(a, b, size, changed):
    """changed[0] = 1 if a[:size] and b[:size] differ, as unsigned integers: bit by bit, NaN and zeros too."""
    for start in range(0, size, BLOCK):
        different = a[start] ^ b[start]
        for i in range(start, min(start + BLOCK, size)):
            different |= a[i] ^ b[i]
        if different != 0:
            changed[0] = 1
            return
