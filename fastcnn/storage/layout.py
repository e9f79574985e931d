"""The safetensors layout: the length of a JSON header (8 bytes), the header, the tensors' bytes, little-endian.

The header names for each tensor its dtype, shape and place; under `__metadata__`, strings by name, is fastcnn's
part: the number of the format, the version that wrote the file, what kind of thing it is, its description as JSON,
and a checksum of all this and the tensors. A reader believes none of it: sizes are compared before memory is taken.

References
----------
https://huggingface.co/docs/safetensors, section "Format".
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import numpy as np

from ..typing import Array
from ..version import __version__
from .atomic import replace_file
from .errors import StorageError, naming

FORMAT = 1  # raised when an older fastcnn could not read a file rightly
LONGEST_HEADER = 1 << 24  # bytes
MOST_AXES = 32
PIECE = 1 << 24  # bytes that are read in one go: memory grows with what has come
DTYPES = {
    "F64": "<f8", "I64": "<i8", "U64": "<u8", "F32": "<f4", "I32": "<i4", "U32": "<u4", "F16": "<f2", "I16": "<i2",
    "U16": "<u2", "I8": "|i1", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {np.dtype(text): name for name, text in DTYPES.items()}


@dataclass
class Contents:
    """What a file holds.

    Attributes
    ----------
    kind : str
        The class of what is kept.
    description : dict
        JSON, see `values`.
    tensors : dict of str to array
    digest : str or None
        That of the model, see `Sequential.digest`.
    version : str
        Of the fastcnn that wrote the file.
    number : int
        Of its format.
    """

    kind: str
    description: Any
    tensors: dict[str, Array]
    digest: str | None = None
    version: str = field(default=__version__)
    number: int = FORMAT


# Writing.


def write(contents: Contents, target: Any) -> None:
    """Write a file, to a path in one go, or to a binary file object."""
    if not hasattr(target, "write"):
        replace_file(os.fspath(target), lambda file: _write(contents, file))
        return
    try:
        target.write(b"")
    except TypeError:
        raise TypeError(f"save: path: expected a path or a binary file; got a text file, {target!r}") from None
    _write(contents, target)


def _write(contents: Contents, file: BinaryIO) -> None:
    # The widest numbers first: each tensor begins at a multiple of its item's size.
    arrays = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        for name, array in sorted(contents.tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    }
    entries: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        shape = list(contents.tensors[name].shape)
        entries[name] = {"dtype": NAMES[array.dtype], "shape": shape, "data_offsets": [begin, end]}
    metadata = {
        "format": "fastcnn", "format_number": str(FORMAT), "fastcnn": contents.version, "kind": contents.kind,
        "description": json.dumps(contents.description, allow_nan=False),
        **({} if contents.digest is None else {"digest": contents.digest}),
    }  # fmt: skip
    metadata["checksum"] = _checksum(metadata, entries, (_bytes(array) for array in arrays.values()))
    header = json.dumps({"__metadata__": metadata, **entries}, allow_nan=False).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > LONGEST_HEADER:
        raise ValueError(f"save: what describes the model takes {len(header):,} bytes; at most {LONGEST_HEADER:,} do")
    file.write(struct.pack("<Q", len(header)) + header)
    for array in arrays.values():
        file.write(_bytes(array))


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _checksum(metadata: Mapping[str, str], entries: Mapping[str, Any], data: Iterable[memoryview | bytearray]) -> str:
    """Return SHA-256 of the header, in one spelling, and the data."""
    others = {name: text for name, text in metadata.items() if name != "checksum"}
    spelling = json.dumps({"__metadata__": others, **entries}, sort_keys=True, separators=(",", ":"))
    checksum = hashlib.sha256(spelling.encode())
    for piece in data:
        checksum.update(piece)
    return checksum.hexdigest()


# Reading.


def read(source: Any) -> Contents:
    """Read a file, from a path or a binary file object, and check all of it.

    Raises
    ------
    StorageError
        If it is not what it should be.
    OSError
        If it cannot be opened.
    """
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the file"))
        if not isinstance(source.read(0), bytes):
            raise TypeError(f"load: path: expected a path or a binary file; got a text file, {source!r}")
        with naming(name):
            return _read(source, None)
    path = os.fspath(source)
    if os.path.isdir(path):  # which the call below would name by its number
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file, naming(str(path)):
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError("expected a regular file")
        return _read(file, status.st_size)


def _read(file: BinaryIO, size: int | None) -> Contents:
    """Read a file of so many bytes, where that is known."""
    metadata, entries = _read_header(file, size)
    _check_format(metadata)
    end = _check_entries(entries)
    if size is not None:
        rest = size - file.tell()
        if rest != end:
            what = "truncated" if rest < end else "too long"
            raise StorageError(f"{what}: its tensors take {end:,} bytes after the header; there are {rest:,}")
    data = _read_exactly(file, end, "its tensors")
    if size is None and file.read(1):
        raise StorageError(f"too long: its tensors take {end:,} bytes; there are more")
    if metadata.get("checksum") != _checksum(metadata, entries, [data]):
        raise StorageError("damaged: the checksum is another than that of what it holds")
    tensors = {name: _tensor(data, entry) for name, entry in entries.items()}
    description = _parse(metadata.get("description", ""), "description")
    writer, number = metadata.get("fastcnn", "unknown"), int(metadata["format_number"])
    return Contents(metadata.get("kind", ""), description, tensors, metadata.get("digest"), writer, number)


def _read_header(file: BinaryIO, size: int | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the metadata and the entries of the tensors."""
    head = file.read(8)
    if len(head) < 8:
        raise StorageError(f"no file of fastcnn: expected at least 8 bytes; got {len(head)}")
    (length,) = struct.unpack("<Q", head)
    most = LONGEST_HEADER if size is None else min(LONGEST_HEADER, size - 8)
    if length > most:
        raise StorageError(
            f"no file of fastcnn, or a truncated one: its header would take {length:,} bytes; at most {most:,} can be"
        )
    try:
        text = _read_exactly(file, length, "its header").decode()
    except UnicodeDecodeError as error:
        raise StorageError(f"no file of fastcnn, or a damaged one: the header is no UTF-8 ({error})") from None
    header = _parse(text, "header")
    if not isinstance(header, dict):
        raise StorageError("no file of fastcnn: expected a JSON object as the header")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise StorageError("no file of fastcnn: expected an object of strings under __metadata__ in the header")
    return metadata, header


def _check_format(metadata: Mapping[str, str]) -> None:
    """Raise unless the file is of a format that this version reads."""
    number = metadata.get("format_number", "")
    if metadata.get("format") != "fastcnn" or not (number.isascii() and number.isdigit() and len(number) < 10):
        raise StorageError("a safetensors file, but not of fastcnn: its metadata say nothing of layers")
    if not 1 <= int(number) <= FORMAT:
        writer = metadata.get("fastcnn", "unknown")[:40]
        raise StorageError(
            f"format {int(number)}, written by fastcnn {writer}; this is fastcnn {__version__}, which reads formats up "
            f"to {FORMAT}: it takes a newer one"
        )


def _check_entries(entries: Mapping[str, Any]) -> int:
    """Return how many bytes the tensors take; raise unless they lie side by side and are as large as they say."""
    places = []
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise StorageError(f"tensor {name[:80]!r}: expected a dtype, a shape and data_offsets")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise StorageError(
                f"tensor {name[:80]!r}: expected a dtype of {', '.join(DTYPES)}; got {str(dtype)[:40]!r}"
            )
        if not (_are_sizes(shape) and len(shape) <= MOST_AXES):
            raise StorageError(f"tensor {name[:80]!r}: expected a shape of at most {MOST_AXES} whole numbers")
        if not (_are_sizes(offsets) and len(offsets) == 2 and offsets[0] <= offsets[1]):
            raise StorageError(f"tensor {name[:80]!r}: expected data_offsets of two numbers, the second not below")
        if offsets[1] - offsets[0] != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
            raise StorageError(f"tensor {name[:80]!r}: its offsets are not as far apart as its shape and dtype take")
        places.append((*offsets, name))
    end = 0
    for begin, after, name in sorted(places):
        if begin != end:
            what = "overlaps another" if begin < end else "leaves a hole before it"
            raise StorageError(f"tensor {name[:80]!r}: {what}: it begins at byte {begin:,}, the others end at {end:,}")
        end = after
    return end


def _are_sizes(value: Any) -> bool:
    """Tell whether it is a list of whole numbers from 0 to 2^63."""
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 1 << 63 for number in value)


def _read_exactly(file: BinaryIO, length: int, what: str) -> bytearray:
    """Read so many bytes; memory never grows far beyond what has come."""
    data = bytearray()
    while len(data) < length:
        piece = file.read(min(PIECE, length - len(data)))
        if not piece:
            raise StorageError(f"truncated: {what} take {length:,} bytes; there are {len(data):,}")
        data += piece
    return data


def _tensor(data: bytearray, entry: Mapping[str, Any]) -> Array:
    """Return a tensor, a writable view of the data."""
    begin, end = entry["data_offsets"]
    flat = np.frombuffer(memoryview(data)[begin:end], DTYPES[entry["dtype"]])
    try:
        array = flat.reshape(entry["shape"])
    except ValueError as error:  # nothing, but of sizes beyond NumPy's
        raise StorageError(f"a tensor of shape {entry['shape']}: {error}") from None
    return array.astype(array.dtype.newbyteorder("="), copy=not array.flags.aligned)


def _parse(text: str, what: str) -> Any:
    """Return what a JSON text says; strictly: no NaN, no name twice."""
    try:
        return json.loads(text, parse_constant=_refuse, parse_int=_as_int, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise StorageError(
            f"no file of fastcnn, or a damaged one: its {what} is no JSON ({str(error)[:120]})"
        ) from None


def _as_int(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a whole number beyond 64 bits")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return names
