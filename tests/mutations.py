"""Damaged files of data by the thousand: ``python -m tests.mutations --count 75000``.

Each is loaded, and is either right or a DataError or OSError of one line that names its path; memory is limited. Number
`n` is always the same file: ``--first n --count 1`` looks at it alone.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from fastcnn.data import DataError, load

MEMORY = 2 << 30  # bytes of address space; the libraries take half of it
METHODS = {"stored": 0, "deflated": 8, "bzip2": 12, "lzma": 14}
Files = dict[str, bytes]
Maker = Callable[[Callable[[bytes], bytes]], Files]


def mutate(content: bytes, random: Random) -> bytes:
    """Return a damaged copy: bits turned, bytes replaced, put in or left out, cut off, lengths at their extremes."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        # Headers are at the beginning, or, of archives, at the end.
        area = random.choice((len(data), len(data), 64, -256))
        at = random.randrange(max(0, len(data) + area), len(data) + 1) if area < 0 else random.randrange(area + 1)
        size = random.choice((1, 2, 4, 8))
        kind = random.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at : at + size] = random.randbytes(size)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = random.randbytes(random.randrange(1, 40))
        elif kind == 4:
            del data[at : at + random.randrange(1, 40)]
        elif kind == 5:
            extremes = (0, 1, (1 << 8 * size) - 1, 1 << (8 * size - 1), (1 << (8 * size - 1)) - 1)
            data[at : at + size] = random.choice(extremes).to_bytes(size, random.choice(("little", "big")))
        else:
            other = random.randrange(len(data) + 1)
            data[at : at + 32] = data[other : other + 32]
    return bytes(data)


# ------------------------------------------------------------------------------------- files, whole and damaged within


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def pixels(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, size=shape).astype(np.uint8)


IMAGES, LABELS = idx(pixels(6, 5, 4)), idx(np.arange(6, dtype=np.uint8) % 3)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(method: int, change: Callable[[bytes], bytes] = lambda content: content) -> bytes:
    """Return an NPZ file of three arrays, one of them packed; the second one's bytes are changed before."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, array in (("y_train", np.arange(6) % 3), ("x_train", pixels(6, 5, 4)), ("other", np.ones(3))):
            archive.writestr(f"{name}.npy", change(npy(array)) if name[0] == "x" else npy(array))
    return file.getvalue()


def picture(kind: str, mode: str = "L", **options: object) -> bytes:
    from PIL import Image

    if mode == "F":
        image = Image.fromarray(pixels(9, 7).astype("f"))
    elif mode == "I;16":
        image = Image.fromarray(pixels(9, 7).astype(np.uint16) * 257)
    elif mode == "P":
        image = Image.fromarray(pixels(9, 7)).convert("P")
        options["transparency"] = bytes(range(200))
    else:
        image = Image.fromarray(pixels(9, 7, 3)).convert(mode)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_checksums(content: bytes) -> bytes:
    """Return a damaged PNG whose checksums are right, so that its decoder sees the damage."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def cifar(labels: int) -> bytes:
    return np.concatenate([pixels(3, labels) % 10, pixels(3, 3072)], axis=1).tobytes()


def of_idx(end: str, pack: Callable[[bytes], bytes]) -> dict[str, Maker]:
    """Return how the files of an IDX pair come about, the images damaged, or the classes."""

    def files(images: bytes, labels: bytes) -> Files:
        return {f"train-images-idx3-ubyte{end}": images, f"train-labels-idx1-ubyte{end}": labels}

    return {
        f"idx{end} images": lambda change: files(change(pack(IMAGES)), pack(LABELS)),
        f"idx{end} classes": lambda change: files(pack(IMAGES), change(pack(LABELS))),
    }


def of_picture(
    name: str, end: Callable[[bytes], bytes] = lambda content: content, **options: object
) -> dict[str, Maker]:
    kind = name.partition(" ")[0]
    whole = picture(kind, **options)
    return {name: lambda change: {f"a/0.{kind}": whole, f"b/0.{kind}": end(change(whole))}}


def recipes() -> dict[str, Maker]:
    """Return how the files of each kind come about, from what damages one of them; images if Pillow is there."""
    whole = {name: npz(method) for name, method in METHODS.items()}
    made = {
        **of_idx("", bytes),
        **of_idx(".gz", gzip.compress),
        "idx.gz packed again": lambda change: {
            "train-images-idx3-ubyte.gz": gzip.compress(change(IMAGES)),
            "train-labels-idx1-ubyte": LABELS,
        },
        **{f"npz {name}": lambda change, name=name: {"set.npz": change(whole[name])} for name in METHODS},
        **{
            f"npz {name} packed again": lambda change, method=method: {"set.npz": npz(method, change)}
            for name, method in METHODS.items()
        },
        "cifar 10": lambda change: {"data_batch_1.bin": change(cifar(1))},
        "cifar 100": lambda change: {"train.bin": change(cifar(2))},
    }
    try:
        from PIL import features
    except ImportError:
        return made
    for name, options in {
        "png grey": {},
        "png colour": {"mode": "RGB"},
        "png palette": {"mode": "P"},
        "png transparent": {"mode": "LA"},
        "png 1": {"mode": "1"},
        "png 16": {"mode": "I;16"},
        "jpeg": {"mode": "RGB"},
        "jpeg progressive": {"mode": "RGB", "progressive": True},
        "jpeg cmyk": {"mode": "CMYK"},
        "tiff": {},
        "tiff 16": {"mode": "I;16"},
        "tiff float": {"mode": "F"},
        "tiff lzw": {"mode": "RGB", "compression": "tiff_lzw"},
        "tiff deflate": {"mode": "I;16", "compression": "tiff_adobe_deflate"},
        "tiff fax": {"mode": "1", "compression": "group4"},
        "bmp": {"mode": "P"},
        "gif": {"mode": "L"},
        "ppm": {"mode": "RGB"},
        **({"webp": {"mode": "RGB"}} if features.check("webp") else {}),
    }.items():
        made |= of_picture(name, **options)
    made |= of_picture("png damaged within", with_checksums, mode="RGB")
    made |= of_picture("png 16 damaged within", with_checksums, mode="I;16")
    return made


# ----------------------------------------------------------------------------------------------------------- the search


def problem_of(folder: Path) -> str | None:
    """Return what is wrong with how a folder is loaded; None if it is right, "" if it is refused as it should be."""
    try:
        with warnings.catch_warnings(action="error"):
            found = load(next(folder.glob("*.npz"), folder))
    except (DataError, OSError) as error:
        line = str(error)
        return "" if str(folder) in line and "\n" not in line else f"a message without path, or of lines: {line}"
    except BaseException:
        return traceback.format_exc()
    if not found.X.size or len(found.X) != len(found.y) or not np.isfinite(found.X.sum(dtype=float)):
        return f"{found.X.dtype} {found.X.shape} for {len(found.y)} classes"
    return None


def search(first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Return how many files of each kind were loaded and refused, and what was wrong."""
    seen: Counter[str] = Counter()
    wrong, makers = [], list(recipes().items())
    with tempfile.TemporaryDirectory() as root:
        for number in range(first, first + count):
            damage = partial(mutate, random=Random(number))
            name, maker = makers[number % len(makers)]
            folder = Path(root, name)
            for file, content in maker(damage).items():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
            problem = problem_of(folder)
            seen[f"{name} {'loaded' if problem is None else 'refused'}"] += 1
            if problem:
                wrong.append(f"{number}, {name}: {problem}")
    return seen, wrong


def limit_memory() -> None:
    """Let a claim of gigabytes be a MemoryError; where there are no such limits, do nothing."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def quieten() -> None:
    """Leave out what libtiff writes to standard error about damaged files; this process writes nothing there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=75_000, help="files (75000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (0)")
    options = parser.parse_args()
    limit_memory()
    quieten()
    began = time.perf_counter()
    seen, wrong = search(options.first, options.count)
    for name in sorted({key.rpartition(" ")[0] for key in seen}):
        print(f"{name:25} {seen[f'{name} loaded']:7} loaded {seen[f'{name} refused']:7} refused")
    print(*wrong, sep="\n")
    print(f"{options.count} files, {len(wrong)} wrong, {time.perf_counter() - began:.0f} s")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
