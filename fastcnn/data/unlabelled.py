"""Samples without classes: images, folders of them, NPZ, NPY, IDX and CSV files, told apart by how they begin."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ..typing import Array, Shape
from . import formats, images, npz
from .files import DataError, check_claim, check_kind, opened, shown

NPY, ZIP, GZIP, BOM = b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b", b"\xef\xbb\xbf"
NAMES = ("x_test", "x", "images", "data", "arr_0", "x_train")  # of what is predicted in an NPZ file; the first found
LABELS = ("label", "labels", "class", "target", "y")  # of a CSV file's column of classes, in a first line of names
PICTURES = 256  # images of a folder that are in memory at once
STREAM = "standard input"


class NamedSamples(NamedTuple):
    """Some samples, and what each is called.

    Attributes
    ----------
    names : list of str
        A path; for a sample of an array with its place, `path[3]`.
    X : array
        As the file has them; images of (n, C, H, W) and uint8.
    """

    names: list[str]
    X: Array


def read_samples(
    path: Path, shape: Shape, size: tuple[int, int] | None = None, max_bytes: int | None = None
) -> Iterator[NamedSamples]:
    """Yield the samples of a file or folder, in pieces.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        (C, H, W) or (D,) that is wanted: images are made grey or coloured after it, and rows of a CSV file are read as
        it.
    size : (int, int), optional
        Height and width that images are brought to.
    max_bytes : int, optional
        As of `load`.

    Raises
    ------
    DataError
        If a file is not what it should be, or images have another size than `shape`.
    OSError
        If it cannot be read.
    """
    if path.is_dir():
        yield from _pictures(_picture_files(path), shape, size)
        return
    if not path.exists():
        raise FileNotFoundError(f"{shown(path)}: no such file or folder")
    check_kind(path)
    with opened(path) as (file, length):
        kind = _kind(file.read(8), path)
        if kind == "csv":
            file.seek(0)
            X = _rows(path, file.read())
        elif kind == "npz":
            X = _member(path, file, length, max_bytes)
    if kind == "picture":
        yield from _pictures([path], shape, size)
        return
    if kind == "idx":
        X = formats.read_idx(path, max_bytes)
    elif kind == "npy":
        X = _npy(path)
    yield _named(path, _shaped(path, X, shape))


def read_stream(
    stream: BinaryIO, shape: Shape, size: tuple[int, int] | None = None, max_bytes: int | None = None
) -> Iterator[NamedSamples]:
    """Yield the samples of a stream of bytes, which are kept in a file meanwhile; arguments and errors as above."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stream")
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        try:
            for names, X in read_samples(path, shape, size, max_bytes):
                yield NamedSamples([name.replace(str(path), STREAM, 1) for name in names], X)
        except DataError as error:
            raise DataError(STREAM, str(error).removeprefix(f"{shown(path)}: ")) from None


def _kind(head: bytes, path: Path) -> str:
    """Return what a file is by how it begins: npy, npz, idx, csv or picture."""
    if head.startswith(NPY):
        return "npy"
    if head.startswith(ZIP):
        return "npz"
    if (head[:2] == b"\0\0" and len(head) > 3 and head[2] in formats.IDX_TYPES) or head.startswith(GZIP):
        return "idx"
    text = all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head.removeprefix(BOM))
    return "csv" if text and path.suffix.lower() not in images.SUFFIXES and not _is_ppm(head) else "picture"


def _is_ppm(head: bytes) -> bool:
    """Tell whether it is one of Netpbm's images, which begin with a P, a digit and a blank."""
    return len(head) > 2 and head[:1] == b"P" and head[1:2].isdigit() and head[2:3].isspace()


def _npy(path: Path) -> Array:
    """Return the array of an NPY file, mapped: it cannot be larger than the file."""
    try:
        found: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(path, f"an array that cannot be read: {error}") from None
    return found


def _member(path: Path, file: BufferedReader, length: int, max_bytes: int | None) -> Array:
    """Return the array of an NPZ file that is called as images are, or its first one."""
    members = npz._listed(path, file)
    chosen = [members[name] for name in NAMES if name in members] or list(members.values())[:1]
    if not chosen:
        raise DataError(path, "an NPZ file without arrays")
    member = npz._open_member(path, file, chosen[0])
    check_claim(path, member.size, length, max_bytes, f"array {member.name}")
    return npz._read(path, member)


def _rows(path: Path, content: bytes) -> Array:
    """Return the rows of a CSV file, without a first line of words and without a column that is called as classes are.

    Numbers are divided by commas, semicolons or tabs: by what the first line has most of.
    """
    try:
        lines = [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
        if not lines:
            raise DataError(path, "an empty file")
        mark = max(",;\t", key=lines[0].count)
        names = []
        if not _are_numbers(lines[0], mark):
            names = [name.strip().strip("\"'").lower() for name in lines.pop(0).split(mark)]
        if not lines:
            raise DataError(path, "a CSV file without numbers")
        kept = [k for k, name in enumerate(names) if name not in LABELS]
        columns = kept if 0 < len(kept) < len(names) else None
        return np.loadtxt(lines, delimiter=mark, ndmin=2, comments=None, usecols=columns)
    except DataError:
        raise
    except ValueError as error:  # of the text or of a number in it
        raise DataError(path, f"an array that cannot be read: {error}") from None


def _are_numbers(line: str, mark: str) -> bool:
    try:
        [float(word) for word in line.split(mark)]
    except ValueError:
        return False
    return True


def _shaped(path: Path, X: Array, shape: Shape) -> Array:
    """Return samples (n, *shape) where they have as many numbers; also (n, H, W), (n, H, W, C) and a single one."""
    if X.dtype.kind not in "fiub" or not X.size:
        raise DataError(path, f"expected real numbers; got {X.dtype} of shape {X.shape}")
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise DataError(path, "expected finite numbers; got NaN or infinity")
    if X.shape == shape or (len(shape) == 3 and X.shape == shape[1:] and shape[0] == 1):
        return X.reshape(1, *shape)
    if X.shape[1:] == shape:
        return X
    if len(shape) == 3:
        last = (*shape[1:], shape[0])
        if X.shape[1:] == last:
            return np.ascontiguousarray(X.transpose(0, 3, 1, 2))
        if X.shape == last:
            return np.ascontiguousarray(X.transpose(2, 0, 1))[None]
        if X.shape[1:] == shape[1:] and shape[0] == 1:
            return X[:, None]
    if X.ndim == 2 and X.shape[1] == math.prod(shape):
        return X.reshape(-1, *shape)
    raise DataError(path, f"expected samples of shape {shape}, or rows of {math.prod(shape)} numbers; got {X.shape}")


def _named(path: Path, X: Array) -> NamedSamples:
    return NamedSamples([str(path)] if len(X) == 1 else [f"{path}[{n}]" for n in range(len(X))], X)


def _picture_files(folder: Path) -> list[Path]:
    """Return the images of a folder and of those inside, in order."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in images.SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(folder, "expected images; found none")
    return files


def _pictures(files: list[Path], shape: Shape, size: tuple[int, int] | None) -> Iterator[NamedSamples]:
    for first in range(0, len(files), PICTURES):
        some = files[first : first + PICTURES]
        pixels = [_picture(path, shape, size) for path in some]
        if any(one.dtype != np.uint8 for one in pixels):  # of more than eight bits, from 0 to 1
            pixels = [one / np.float32(255) if one.dtype == np.uint8 else one for one in pixels]
        yield NamedSamples([str(path) for path in some], np.stack(pixels))


def _picture(path: Path, shape: Shape, size: tuple[int, int] | None) -> Array:
    """Return an image (C, H, W), as `images` reads those of a folder."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError(path, "an image is read by Pillow: pip install 'fastcnn[images]'") from None
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(path, f"an image; the model takes samples of shape {shape}")
    channels, height, width = shape
    header = images._header(Image, path, 0)
    if size is None and (header.height, header.width) != (height, width):
        raise DataError(
            path,
            f"an image of {header.height} x {header.width} pixels; the model takes {height} x {width}; "
            f"--size {height}x{width} brings images to that",
        )
    return images._pixels(Image, header, channels == 1, header.mode in images.DEEP, (width, height))
