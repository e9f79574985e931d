"""Files of data sets: IDX, the CIFAR binaries, NPZ. What is wrong with a file is said with its name.

Nothing is downloaded and no pickle is read. An array never becomes larger than the file says that it is, and a file
that says too much is found out before memory is taken for it.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from ..typing import Array, IntArray
from .files import FLOOR, DataError, check_claim, opened
from .npz import read_arrays

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_AXES = 4
MOST_CLASSES = 1 << 16
DEFLATE = 1032  # bytes that a byte of gzip holds at most
PIECE = 1 << 20  # bytes that are read in one go


def read_idx(path: Path, max_bytes: int | None = None) -> Array:
    """Return the array of an IDX file, `.gz` or not; one that is not packed is mapped and not read.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "File formats".
    """
    with opened(path) as (file, size):
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            dtype, shape, offset = _read_idx_header(path, file)
            expected = math.prod(shape) * dtype.itemsize
            _compare(path, size - offset, expected, f"{shape} of {dtype}")
            return np.memmap(file, dtype, "r", offset, shape)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read_idx(path, unpacked, size, max_bytes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(path, f"a truncated or damaged gzip file ({error})") from None


def _read_idx_header(path: Path, file: BufferedIOBase) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return dtype and shape of an IDX file, and where its data begin."""
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not head[3]:
        raise DataError(path, f"no IDX file: expected it to begin with 00 00, a type and a rank; got {head.hex(' ')!r}")
    dtype, rank = np.dtype(IDX_TYPES[head[2]]), head[3]
    if rank > MOST_AXES:
        raise DataError(path, f"expected an IDX file of images or classes, 1 to {MOST_AXES} axes; got {rank} axes")
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(path, f"truncated: the header of an IDX file of {rank} axes has {4 + 4 * rank} bytes")
    shape = struct.unpack(f">{rank}I", sizes)
    if not math.prod(shape):
        raise DataError(path, f"expected at least one image or class; got shape {shape}")
    return dtype, shape, 4 + 4 * rank


def _read_idx(path: Path, file: BufferedIOBase, size: int, max_bytes: int | None) -> Array:
    """Return the array of a packed IDX file of `size` bytes; memory is used as far as there are data."""
    dtype, shape, _ = _read_idx_header(path, file)
    expected = math.prod(shape) * dtype.itemsize
    if expected > max(FLOOR, DEFLATE * size):
        what = f"{shape} of {dtype} take {expected:,} bytes after the header"
        raise DataError(path, f"truncated: {what}; {size:,} packed bytes hold no more than {DEFLATE * size:,}")
    check_claim(path, expected, size, max_bytes, f"{shape} of {dtype}")
    try:
        array = np.empty(expected, np.uint8)
    except MemoryError:
        raise DataError(path, f"{shape} of {dtype} take {expected:,} bytes, more than there is memory for") from None
    got, target = 0, array.data
    while got < expected and (piece := file.read(min(PIECE, expected - got))):
        target[got : got + len(piece)] = piece
        got += len(piece)
    _compare(path, got + len(file.read(1)), expected, f"{shape} of {dtype}")
    return array.view(dtype).reshape(shape)


def _compare(path: Path, got: int, expected: int, what: str) -> None:
    if got < expected:
        raise DataError(path, f"truncated: {what} take {expected:,} bytes after the header; got {got:,}")
    if got > expected:
        raise DataError(path, f"too long: {what} take {expected:,} bytes after the header; there are more")


def read_idx_pair(images: Path, labels: Path, max_bytes: int | None = None) -> tuple[Array, IntArray]:
    """Return images (N, 1, H, W) and classes (N,) from a pair of IDX files."""
    X, y = read_idx(images, max_bytes), read_idx(labels, max_bytes)
    if X.ndim not in (3, 4):
        raise DataError(images, f"expected images, (N, H, W) or (N, C, H, W); got shape {X.shape}")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(labels, f"expected whole numbers (N,), one class for each image; got {y.dtype} {y.shape}")
    if len(X) != len(y):
        raise DataError(labels, f"expected {len(X)} classes, as many as {images.name} has images; got {len(y)}")
    return (X[:, None] if X.ndim == 3 else X), _as_classes(labels, y)


def read_cifar(paths: Sequence[Path]) -> tuple[Array, IntArray]:
    """Return images (N, 3, 32, 32) of uint8 and classes (N,) from files of CIFAR-10 or CIFAR-100 (its fine labels).

    References
    ----------
    Krizhevsky, "The CIFAR-10 and CIFAR-100 datasets", section "Binary version": one or two bytes of labels, then
    3072 of red, green and blue.
    """
    images, classes = zip(*(_read_cifar(path) for path in paths), strict=True)
    return (images[0] if len(images) == 1 else np.concatenate(images)), np.concatenate(classes)


def _read_cifar(path: Path) -> tuple[Array, IntArray]:
    with opened(path) as (file, size):
        for labels, limits in ((1, (10,)), (2, (20, 100))):
            length = 3072 + labels
            if size and size % length == 0:
                records = np.memmap(file, np.uint8, "r", shape=(size // length, length))
                if all(records[:, k].max() < limit for k, limit in enumerate(limits)):
                    return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int64)
    raise DataError(
        path,
        "no CIFAR file, or a truncated one: expected records of 3073 bytes with a class below 10, or of 3074 with "
        f"classes below 20 and 100; got {size:,} bytes",
    )


def read_npz(path: Path, max_bytes: int | None = None) -> tuple[dict[str, tuple[Array, IntArray]], list[str] | None]:
    """Return `{"train": (X, y), "test": (X, y)}`, without "test" where the file has none, and the names of the classes.

    The names are None where the file has numbers; strings are counted in their order, those of both parts together.

    The arrays are called x_train, y_train, x_test, y_test (as in Keras's mnist.npz), or x and y, images and labels,
    data and target, in any case; images are (N, C, H, W), (N, H, W) or, if the last axis is 1, 3 or 4 and the second
    is not, (N, H, W, C).
    """
    found = read_arrays(path, max_bytes)
    ends = {"train": "_train", "test": "_test"} if "x_train" in found else {"train": ""}
    labels = [found[f"y{end}"][1] for end in ends.values() if f"y{end}" in found]
    names = None
    if all(y.dtype.kind == "U" and y.size for y in labels):
        names = sorted({str(name) for y in labels for name in np.unique(y)})
        for end in ends.values():
            if f"y{end}" in found:
                name, y = found[f"y{end}"]
                found[f"y{end}"] = name, np.searchsorted(names, y)
    parts = {
        part: _as_set(path, found[f"x{end}"], found[f"y{end}"]) for part, end in ends.items() if f"x{end}" in found
    }
    return parts, names


def _as_set(path: Path, images: tuple[str, Array], classes: tuple[str, Array]) -> tuple[Array, IntArray]:
    names, X, y = (images[0], classes[0]), images[1], classes[1]
    if X.dtype.kind not in "fiub" or X.ndim not in (2, 3, 4) or not X.size:
        raise DataError(path, f"{names[0]}: expected images or features; got {X.dtype} of shape {X.shape}")
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        where = tuple(np.argwhere(~np.isfinite(X))[0])
        raise DataError(path, f"{names[0]}: expected finite numbers; got {X[where]} in sample {where[0]}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iu" or y.shape != (len(X),):
        raise DataError(
            path, f"{names[1]}: expected {len(X)} whole numbers, or names of classes; got {y.dtype} of shape {y.shape}"
        )
    if X.ndim == 3:
        X = X[:, None]
    elif X.ndim == 4 and X.shape[3] in (1, 3, 4) and X.shape[1] not in (1, 3, 4):
        X = np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    return X, _as_classes(path, y, f"{names[1]}: ")


def _as_classes(path: Path, y: Array, name: str = "") -> IntArray:
    """Return the classes of a file: small numbers from 0 on, since a network has an output for each."""
    if y.min() < 0 or y.max() >= MOST_CLASSES:
        wrong = y.min() if y.min() < 0 else y.max()
        raise DataError(path, f"{name}expected classes from 0 to {MOST_CLASSES - 1:,} at most; got {wrong}")
    return y.astype(np.int64)
