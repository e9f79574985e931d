"""NPZ files: zip archives of NumPy arrays, read member by member, in pieces, and never more than a member declares.

`numpy.load` would do but for two things: members packed by bzip2 or LZMA are unpacked there without a bound (a kilobyte
of bzip2 can be gigabytes), and damaged archives raise whatever the module `zipfile` and the parser of headers raise.
"""

from __future__ import annotations

import bz2
import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..typing import Array
from .files import DataError, check_claim, opened

NAMES = (("x", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1"))
PIECE = 1 << 16  # bytes of a packed member that are taken in one go
MOST_HEADER = 10_000  # bytes, as NumPy's own limit
MOST_AXES = 4
ENCRYPTED = 1  # the bit of a member's flags


class Member(NamedTuple):
    """An array in an archive: what its header says, and its bytes as they come."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool
    pieces: Iterator[bytes]

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_arrays(path: Path, max_bytes: int | None = None) -> dict[str, tuple[str, Array]]:
    """Return the arrays x, y of an NPZ file, or x_train, y_train, x_test, y_test, each with the name it has there.

    Raises
    ------
    DataError
        If the archive is damaged, has no such arrays, or one of them is not numbers (of y: numbers or strings), or
        larger than it may be.
    """
    with opened(path) as (file, size):
        members = _chosen(path, _listed(path, file))
        found = {key: _open_member(path, file, info, text=key[0] == "y") for key, info in members.items()}
        claimed = sum(member.size for member in found.values())
        check_claim(path, claimed, size, max_bytes, f"arrays {', '.join(member.name for member in found.values())}")
        return {key: (member.name, _read(path, member)) for key, member in found.items()}


def _listed(path: Path, file: BufferedReader) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by their names in small letters."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile raises a dozen kinds when it is led astray
        problem = "no NPZ file, or a truncated or damaged one: expected a zip archive of NumPy arrays"
        raise DataError(path, f"{problem} ({error})") from None
    return {info.filename.removesuffix(".npy").lower(): info for info in infos}


def _chosen(path: Path, members: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the members x, y or x_train, y_train, x_test, y_test of an archive, under whatever names they go there."""
    for x, y in NAMES:
        parts = [(kind, f"_{kind}") for kind in ("train", "test") if {f"{x}_{kind}", f"{y}_{kind}"} <= members.keys()]
        if parts and parts[0][0] == "train":
            return {f"{key}{end}": members[f"{name}{end}"] for _, end in parts for key, name in (("x", x), ("y", y))}
        if {x, y} <= members.keys():
            return {"x": members[x], "y": members[y]}
    names = ", ".join(repr(info.filename)[1:-1].removesuffix(".npy") for info in members.values())
    raise DataError(path, f"expected arrays x_train, y_train, or x, y; got {names[:200] or 'none'}")


def _open_member(path: Path, file: BufferedReader, info: zipfile.ZipInfo, *, text: bool = False) -> Member:
    """Return a member whose header has been read; of numbers, or of strings where there may be text."""
    name = repr(info.filename)[1:-1].removesuffix(".npy")
    if info.flag_bits & ENCRYPTED:
        raise DataError(path, f"{name}: an encrypted member; expected one that is not")
    if info.compress_type not in UNPACKERS:
        known = "0 (stored), 8 (deflated), 12 (bzip2) or 14 (LZMA)"
        raise DataError(path, f"{name}: packed by method {info.compress_type}; expected {known}")
    pieces = _unpacked(path, name, file, info)
    start = b""
    while len(start) < MOST_HEADER and (piece := next(pieces, b"")):
        start += piece
    dtype, shape, fortran, length = _parse_header(path, name, start, "fiubU" if text else "fiub")
    member = Member(name, dtype, shape, fortran, chain([start[length:]], pieces))
    if info.file_size != length + member.size:
        what = f"{name}: truncated or too long: {shape} of {dtype} take {member.size:,} bytes"
        raise DataError(path, f"{what}; got {info.file_size - length:,}")
    return member


def _parse_header(path: Path, name: str, start: bytes, kinds: str) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Return dtype, shape and order of an array from the first bytes of its member, and where its data begin."""
    file = BytesIO(start)
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python 2, and of what a damaged header looks like
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file, max_header_size=MOST_HEADER)
    except Exception as error:  # Python's parser too raises many kinds
        raise DataError(path, f"an array that cannot be read: {name}: no .npy, or a damaged header ({error})") from None
    if dtype.hasobject:
        words = "objects, which only a pickle could hold (allow_pickle=False)"
        raise DataError(path, f"an array that cannot be read: {name}: expected numbers; got {words}")
    if dtype.kind not in kinds or dtype.subdtype or not dtype.itemsize:
        raise DataError(path, f"{name}: expected numbers; got dtype {dtype}")
    if not 1 <= len(shape) <= MOST_AXES or min(shape) < 0:
        raise DataError(path, f"{name}: expected 1 to {MOST_AXES} axes; got shape {str(shape)[:100]}")
    if not math.prod(shape):
        raise DataError(path, f"{name}: expected at least one number; got shape {str(shape)[:100]}")
    return dtype, shape, fortran, file.tell()


def _read(path: Path, member: Member) -> Array:
    """Return the array of a member."""
    try:
        array = np.empty(member.size, np.uint8)
    except (MemoryError, ValueError):
        raise DataError(path, f"{member.name}: {member.size:,} bytes are more than there is memory for") from None
    target, got = array.data, 0
    for piece in member.pieces:
        if got + len(piece) > member.size:
            raise DataError(path, f"{member.name}: too long: expected {member.size:,} bytes; there are more")
        target[got : got + len(piece)] = piece
        got += len(piece)
    if got < member.size:
        raise DataError(path, f"{member.name}: truncated: expected {member.size:,} bytes; got {got:,}")
    typed = array.view(member.dtype)
    shaped = typed.reshape(member.shape[::-1]).T if member.fortran else typed.reshape(member.shape)
    if member.dtype.kind == "U":
        codes = array.view(f"{member.dtype.byteorder}u4")
        if ((codes > 0x10FFFF) | (codes >> 11 == 0xD800 >> 11)).any():  # beyond Unicode, or half a character
            raise DataError(path, f"{member.name}: a damaged member: expected characters of Unicode")
    return np.asarray(shaped, member.dtype.newbyteorder("="))


def _unpacked(path: Path, name: str, file: BufferedReader, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member in pieces of bounded size, none of them empty; at their end, check them."""
    checksum = 0
    try:
        for piece in UNPACKERS[info.compress_type](_packed(file, info), info):
            checksum = zlib.crc32(piece, checksum)
            if piece:
                yield piece
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, lzma.LZMAError) as error:
        raise DataError(path, f"{name}: a truncated or damaged member ({error})") from None
    if checksum != info.CRC:
        raise DataError(path, f"{name}: a damaged member: its checksum is {checksum:08x}; expected {info.CRC:08x}")


def _packed(file: BufferedReader, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the bytes of a member as they are in the archive."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError("no header where the archive says")
    place = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    end = place + info.compress_size
    while place < end:
        file.seek(place)  # members are read by turns
        piece = file.read(min(PIECE, end - place))
        if not piece:
            return
        place += len(piece)
        yield piece


def _stored(packed: Iterator[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    return packed


def _inflated(packed: Iterator[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    for piece in packed:
        left = piece
        while left and not unpacker.eof:
            yield unpacker.decompress(left, PIECE)
            left = unpacker.unconsumed_tail
    yield unpacker.flush()  # a few bytes: all that it was given is consumed


def _of_bzip2(packed: Iterator[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    return _drained(bz2.BZ2Decompressor(), packed)


def _of_lzma(packed: Iterator[bytes], info: zipfile.ZipInfo) -> Iterator[bytes]:
    # A version, the size of the properties, which is 5, and these: a byte, and the size of the dictionary. The unpacker
    # takes that much memory at once, up to 4 GiB, and needs no more than the member has bytes.
    start = b""
    while len(start) < 9 and (piece := next(packed, b"")):
        start += piece
    if len(start) < 9 or start[2:4] != b"\5\0":
        raise ValueError("no properties of LZMA")
    dictionary = min(int.from_bytes(start[5:9], "little"), max(info.file_size, 1 << 12))
    alone = start[4:5] + dictionary.to_bytes(4, "little") + b"\xff" * 8  # the header of an .lzma file
    return _drained(lzma.LZMADecompressor(lzma.FORMAT_ALONE), chain([alone, start[9:]], packed))


def _drained(unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor, packed: Iterator[bytes]) -> Iterator[bytes]:
    for piece in packed:
        if unpacker.eof:
            return
        yield unpacker.decompress(piece, PIECE)
        while not (unpacker.eof or unpacker.needs_input):
            yield unpacker.decompress(b"", PIECE)


Unpacker = Callable[[Iterator[bytes], zipfile.ZipInfo], Iterator[bytes]]
UNPACKERS: dict[int, Unpacker] = {
    zipfile.ZIP_STORED: _stored,
    zipfile.ZIP_DEFLATED: _inflated,
    zipfile.ZIP_BZIP2: _of_bzip2,
    zipfile.ZIP_LZMA: _of_lzma,
}
