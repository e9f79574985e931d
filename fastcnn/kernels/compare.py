"""Whether numbers have changed."""

from __future__ import annotations

from .cache import kernel


@kernel
def same_words(a, b, size):
    """Tell whether a[:size] and b[:size] are the same, as unsigned integers of 64 bits."""
    block = 1024
    for start in range(0, size, block):
        different = a[start] ^ b[start]
        for i in range(start, min(start + block, size)):
            different |= a[i] ^ b[i]
        if different != 0:
            return False
    return True
