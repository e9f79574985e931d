"""Filters of a few neighbouring groups as one matrix: blocks on the diagonal, zeros elsewhere.

Shape legend: T taps; G groups of C channels and F filters; `w` (T, C, pitch) has all filters, those here begin at
column `f0`; `dense` (T, G · C, N) has those of the G groups alone, N >= G · F.
"""

from __future__ import annotations

from ..jit.source import kernel


@kernel
def spread(w, f0, pitch, T, G, C, F, dense, N):
    """Dense = the filters of each group beside the channels of the group, zeros elsewhere."""
    for t in range(T):
        for row in range(G * C):
            group, i, o = row // C, (t * C + row % C) * pitch + f0, (t * G * C + row) * N
            for n in range(N):
                dense[o + n] = w[i + n] if group * F <= n < (group + 1) * F else w.dtype.type(0)


@kernel
def gather(dense, N, T, G, C, F, w, f0, pitch):
    """Put the blocks on the diagonal of `dense` back to `w`, and nothing else."""
    for t in range(T):
        for row in range(G * C):
            group, i, o = row // C, (t * G * C + row) * N, (t * C + row % C) * pitch + f0
            for n in range(group * F, (group + 1) * F):
                w[o + n] = dense[i + n]
