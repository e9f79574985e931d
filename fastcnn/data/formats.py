"""Files of data sets: IDX, the CIFAR binaries, NPZ, folders of images. What is wrong with a file is said with its name.

Nothing is downloaded and no pickle is read. An array never becomes larger than the file says that it is, and a file
that says too much is found out before memory is taken for it.
"""

from __future__ import annotations

import gzip
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..typing import Array, IntArray

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_CLASSES = 1 << 16
PIECE = 1 << 24  # bytes that are read in one go
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp"}
NPZ_NAMES = (("x", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1"))


class DataError(ValueError):
    """A file of data that is not what it should be; the message begins with its path."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


def read_idx(path: Path) -> Array:
    """Return the array of an IDX file, `.gz` or not; one that is not packed is mapped and not read.

    References
    ----------
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "File formats".
    """
    packed = _begins(path, b"\x1f\x8b")
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            return _read_idx(path, file, None if packed else path.stat().st_size)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(path, f"a truncated or damaged gzip file ({error})") from None


def _read_idx(path: Path, file: BinaryIO, size: int | None) -> Array:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or not head[3]:
        raise DataError(path, f"no IDX file: expected it to begin with 00 00, a type and a rank; got {head.hex(' ')!r}")
    dtype, rank = np.dtype(IDX_TYPES[head[2]]), head[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise DataError(path, f"truncated: the header of an IDX file of {rank} axes has {4 + 4 * rank} bytes")
    shape = struct.unpack(f">{rank}I", sizes)
    expected, offset = math.prod(shape) * dtype.itemsize, 4 + 4 * rank
    if size is not None:
        _compare(path, size - offset, expected, f"{shape} of {dtype}")
        if expected:
            return np.memmap(path, dtype, "r", offset, shape)
    pieces, got = [], 0
    while got <= expected and (piece := file.read(min(PIECE, expected + 1 - got))):
        pieces.append(piece)
        got += len(piece)
    _compare(path, got, expected, f"{shape} of {dtype}")
    return np.frombuffer(b"".join(pieces), dtype).reshape(shape)


def _compare(path: Path, got: int, expected: int, what: str) -> None:
    if got < expected:
        raise DataError(path, f"truncated: {what} take {expected:,} bytes after the header; got {got:,}")
    if got > expected:
        raise DataError(path, f"too long: {what} take {expected:,} bytes after the header; there are more")


def read_idx_pair(images: Path, labels: Path) -> tuple[Array, IntArray]:
    """Return images (N, 1, H, W) and classes (N,) from a pair of IDX files."""
    X, y = read_idx(images), read_idx(labels)
    if X.ndim not in (3, 4):
        raise DataError(images, f"expected images, (N, H, W) or (N, C, H, W); got shape {X.shape}")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DataError(labels, f"expected whole numbers (N,), one class for each image; got {y.dtype} {y.shape}")
    if len(X) != len(y):
        raise DataError(labels, f"expected {len(X)} classes, as many as {images.name} has images; got {len(y)}")
    if not X.size:
        raise DataError(images, f"expected at least one image; got shape {X.shape}")
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
    size = path.stat().st_size
    for labels, limits in ((1, (10,)), (2, (20, 100))):
        length = 3072 + labels
        if size and size % length == 0:
            records = np.memmap(path, np.uint8, "r", shape=(size // length, length))
            if all(records[:, k].max() < limit for k, limit in enumerate(limits)):
                return records[:, labels:].reshape(-1, 3, 32, 32), records[:, labels - 1].astype(np.int64)
    raise DataError(
        path,
        "no CIFAR file, or a truncated one: expected records of 3073 bytes with a class below 10, or of 3074 with "
        f"classes below 20 and 100; got {size:,} bytes",
    )


def read_npz(path: Path) -> dict[str, tuple[Array, IntArray]]:
    """Return `{"train": (X, y), "test": (X, y)}`, without "test" where the file has none.

    The arrays are called x_train, y_train, x_test, y_test (as in Keras's mnist.npz), or x and y, images and labels,
    data and target, in any case; images are (N, C, H, W), (N, H, W) or, if the last axis is 1, 3 or 4 and the second
    is not, (N, H, W, C).
    """
    if not zipfile.is_zipfile(path):
        raise DataError(path, "no NPZ file, or a truncated one: expected a zip archive of NumPy arrays")
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {name.lower(): name for name in file.files}
            for x, y in NPZ_NAMES:
                if {f"{x}_train", f"{y}_train"} <= names.keys():
                    parts = {part: (f"{x}_{part}", f"{y}_{part}") for part in ("train", "test")}
                elif {x, y} <= names.keys():
                    parts = {"train": (x, y)}
                else:
                    continue
                return {
                    part: _as_set(path, pair, file[names[pair[0]]], file[names[pair[1]]])
                    for part, pair in parts.items()
                    if set(pair) <= names.keys()
                }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(path, f"an array that cannot be read: {error}") from None
    raise DataError(path, f"expected arrays x_train, y_train, or x, y; got {', '.join(names) or 'none'}")


def _as_set(path: Path, names: tuple[str, str], X: Array, y: Array) -> tuple[Array, IntArray]:
    if X.dtype.kind not in "fiub" or X.ndim not in (2, 3, 4) or not X.size:
        raise DataError(path, f"{names[0]}: expected images or features; got {X.dtype} of shape {X.shape}")
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        where = tuple(np.argwhere(~np.isfinite(X))[0])
        raise DataError(path, f"{names[0]}: expected finite numbers; got {X[where]} in sample {where[0]}")
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "iu" or y.shape != (len(X),):
        raise DataError(path, f"{names[1]}: expected {len(X)} whole numbers; got {y.dtype} of shape {y.shape}")
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


def read_images(folder: Path, size: tuple[int, int] | None = None) -> tuple[Array, IntArray, list[str]]:
    """Return images (N, C, H, W) of uint8, classes (N,) and their names: a folder for each class.

    Grey if all are, else RGB. All have one size, or are brought to `size`, (H, W).
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(folder, "a folder of images is read by Pillow: pip install 'fastcnn[images]'") from None
    classes = image_classes(folder)
    files = [(path, number) for number, name in enumerate(classes) for path in _image_files(folder / name)]
    grey, sizes = True, []
    for path, _ in files:
        with _opened(Image, path) as image:
            grey = grey and image.mode in ("1", "L")
            sizes.append((image.height, image.width))
    height, width = size or sizes[0]
    X = np.empty((len(files), 1 if grey else 3, height, width), np.uint8)
    for target, (path, _), own in zip(X, files, sizes, strict=True):
        if size is None and own != sizes[0]:
            raise DataError(
                path, f"expected {height} x {width} pixels, as {files[0][0].name} has; got {own[0]} x {own[1]}"
            )
        with _opened(Image, path) as image:
            pixels = np.asarray(image.convert("L" if grey else "RGB").resize((width, height)))
        target[...] = pixels.reshape(height, width, -1).transpose(2, 0, 1)
    return X, np.array([number for _, number in files]), classes


def image_classes(folder: Path) -> list[str]:
    """Return the names of the folders in which there are images, in order."""
    names = sorted(path.name for path in _shown(folder) if path.is_dir() and _image_files(path))
    if not names:
        raise DataError(folder, "expected a folder for each class, with images in it; found none")
    return names


def _image_files(folder: Path) -> list[Path]:
    return [path for path in _shown(folder) if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir()]


def _shown(folder: Path) -> list[Path]:
    """Return what is in a folder, in order, without what systems and editors hide there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


@contextmanager
def _opened(pillow: Any, path: Path) -> Iterator[Any]:
    """Give an image, and say what is wrong with it if it cannot be opened, or used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            with pillow.open(path) as image:
                yield image
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
        raise DataError(path, f"an image of more than {pillow.MAX_IMAGE_PIXELS:,} pixels") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DataError(path, f"no image that can be read, or a truncated one ({error})") from None


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
