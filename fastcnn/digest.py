"""The digest of named arrays: one line of text that is equal where all bits are."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from .typing import Array


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of arrays, as 64 hexadecimal digits.

    In the order of the names, as Python sorts text, each array adds a header in UTF-8, `name dtype shape` and a line
    feed (such as `0.filters float32 16,1,3,3`), and its bytes: little-endian, in C order. How it lies in memory does
    not matter.
    """
    state = sha256()
    for name, array in sorted(arrays.items()):
        shape = ",".join(str(size) for size in array.shape)
        state.update(f"{name} {array.dtype.name} {shape}\n".encode())
        state.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return state.hexdigest()
