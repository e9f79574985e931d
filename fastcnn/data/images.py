"""Folders of images, a folder for each class; Pillow reads them.

Pillow lends its decoders only: a file is opened here, only by formats that a network may be trained on (a file that is
called .png may be PostScript, and Pillow would run Ghostscript), and whatever a decoder raises, or lets pass, about a
damaged file is a DataError with the file's name.
"""

from __future__ import annotations

import hashlib
import math
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..ranks.communicator import Communicator, check_alike
from ..typing import Array, IntArray
from .files import DataError, check_claim, opened, shown

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp"}
FORMATS = ("PNG", "JPEG", "MPO", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
DEEP = {"I", "F", "I;16", "I;16L", "I;16B", "I;16N"}  # more than eight bits
FLOOR = 1 << 28  # bytes that any folder may take: an empty page packs better than 1000:1

# Held while Pillow's switch for truncated images, one for the whole process, is off. A fork waits until it is free.
_strict = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_strict.acquire, after_in_parent=_strict.release, after_in_child=_strict.release)


class Header(NamedTuple):
    """What is known of an image before its pixels are read."""

    path: Path
    number: int
    mode: str
    height: int
    width: int


def read_images(
    folder: Path,
    size: tuple[int, int] | None = None,
    max_bytes: int | None = None,
    ranks: Communicator | None = None,
) -> tuple[Array, IntArray, list[str]]:
    """Return images (N, C, H, W), classes (N,) and their names: a folder for each class.

    Grey if all are, else RGB; a palette counts as colour, transparency is left out, of an animation the first frame
    is taken. uint8 if all images have eight bits at most. Else float32: eight bits divided by 255, sixteen by 65535,
    and floats and 32-bit or signed integers, whose range nothing tells, as they are. All have one size, or are brought
    to `size`, (H, W). Of several ranks each decodes its share, and all get all.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(folder, "a folder of images is read by Pillow: pip install 'fastcnn[images]'") from None
    classes = image_classes(folder)
    headers = [
        _header(Image, path, number) for number, name in enumerate(classes) for path in _image_files(folder / name)
    ]
    first = headers[0]
    for header in headers if size is None else ():
        if header[3:] != first[3:]:
            raise DataError(
                header.path,
                f"expected {first.height} x {first.width} pixels, as {first.path.name} has; got {header.height} x "
                f"{header.width}",
            )
    grey, deep = all(header.mode in GREY for header in headers), any(header.mode in DEEP for header in headers)
    X = _room(folder, headers, (1 if grey else 3, *(size or first[3:])), deep, max_bytes)
    if ranks is not None:
        files = str([(header.path.name, *header[1:]) for header in headers])
        digest = hashlib.sha256(files.encode(errors="surrogateescape")).hexdigest()
        check_alike(ranks, "load_images", {"images": str(X.shape), "names and sizes of the images": digest})
    own = range(len(X)) if ranks is None else ranks.share(len(X), ranks.rank)
    for n in own:
        X[n] = _pixels(Image, headers[n], grey, deep, (X.shape[3], X.shape[2]))
    if ranks is not None:
        ranks.gather(X.reshape(-1), [bound * X[0].size for bound in ranks.bounds(len(X))])
    return X, np.array([header.number for header in headers]), classes


def _room(folder: Path, headers: list[Header], shape: tuple[int, ...], deep: bool, max_bytes: int | None) -> Array:
    """Return the array for all images, if it is not too large."""
    shape, dtype = (len(headers), *shape), np.dtype(np.float32 if deep else np.uint8)
    claimed = math.prod(shape) * dtype.itemsize
    sizes = sum(header.path.stat().st_size for header in headers)
    check_claim(folder, claimed, sizes, max_bytes, f"images {shape} of {dtype}", FLOOR)
    try:
        return np.empty(shape, dtype)
    except MemoryError:
        raise DataError(folder, f"images {shape} of {dtype} take more memory than there is") from None


def image_classes(folder: Path) -> list[str]:
    """Return the names of the folders in which there are images, in order."""
    folders = [path for path in _shown(folder) if path.is_dir()]
    names = sorted(path.name for path in folders if _image_files(path))
    if not names:
        raise DataError(folder, "expected a folder for each class, with images in it; found none")
    empty = [path.name for path in folders if path.name not in names]
    if empty:
        warnings.warn(f"{shown(folder)}: no images in {', '.join(empty)}: no class is made of that", stacklevel=2)
    return names


def _image_files(folder: Path) -> list[Path]:
    return [path for path in _shown(folder) if path.suffix.lower() in SUFFIXES and not path.is_dir()]


def _shown(folder: Path) -> list[Path]:
    """Return what is in a folder, in order, without what systems and editors hide there."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _header(pillow: Any, path: Path, number: int) -> Header:
    with _opened(pillow, path, verify=True) as image:
        return Header(path, number, image.mode, image.height, image.width)


def _pixels(pillow: Any, header: Header, grey: bool, deep: bool, size: tuple[int, int]) -> Array:
    """Return the pixels of an image, (C, H, W), brought to a size, (W, H)."""
    if header.mode in DEEP:
        with _opened(pillow, header.path) as image:
            pixels = _deep_pixels(pillow, image, size)
        if not np.isfinite(pixels).all():
            raise DataError(header.path, f"expected finite numbers; got {pixels[~np.isfinite(pixels)][0]}")
        return pixels if grey else np.repeat(pixels, 3, axis=0)
    with _opened(pillow, header.path) as image:
        # A palette may have transparency for each colour, which RGB alone does not take.
        whole = image.convert("RGBA") if image.mode in ("P", "PA") else image
        pixels = np.asarray(whole.convert("L" if grey else "RGB").resize(size))
        pixels = pixels.reshape(size[1], size[0], -1).transpose(2, 0, 1)
    return pixels / np.float32(255) if deep else pixels


def _deep_pixels(pillow: Any, image: Any, size: tuple[int, int]) -> Array:
    """Return the pixels of a grey image of more than eight bits, float32 (1, H, W)."""
    most = _largest(image)
    numbers = np.asarray(image).astype(np.float32)
    if most:
        numbers /= np.float32(most)
    if image.size != size:
        numbers = np.asarray(pillow.fromarray(numbers).resize(size))
        if most:  # a cubic goes beyond
            numbers = numbers.clip(0, 1)
    return numbers[None]


def _largest(image: Any) -> int | None:
    """Return the largest number that an image of more than eight bits could have; None if nothing tells it."""
    if image.mode.startswith("I;16"):
        bits = image.tag_v2.get(258, (16,)) if image.format == "TIFF" else (16,)  # BitsPerSample; there are 12
        return (1 << bits[0]) - 1
    # Older Pillows read PNG and PGM of 16 bits as 32.
    return 65535 if image.mode == "I" and image.format in ("PNG", "PPM") else None


@contextmanager
def _opened(pillow: Any, path: Path, *, verify: bool = False) -> Iterator[Any]:
    """Give an image, and say what is wrong with it if it cannot be opened, or used.

    With `verify`, the checksums of a PNG are looked at, which its decoder does not.
    """
    with opened(path) as (file, _):
        try:
            with _without_leniency():
                pillow.init()
                formats = [name for name in FORMATS if name in pillow.OPEN]
                if verify:
                    with pillow.open(file, formats=formats) as image:
                        if image.format == "PNG":
                            image.verify()
                    file.seek(0)
                with pillow.open(file, formats=formats) as image:
                    yield image
        except (pillow.DecompressionBombError, pillow.DecompressionBombWarning):
            raise DataError(path, f"an image of more than {pillow.MAX_IMAGE_PIXELS:,} pixels") from None
        except pillow.UnidentifiedImageError:
            names = "PNG, JPEG, BMP, GIF, PPM, TIFF or WebP"
            raise DataError(path, f"no image that can be read, or a truncated one: expected {names}") from None
        except Exception as error:  # a decoder that is led astray raises of every kind
            raise DataError(path, f"no image that can be read, or a truncated one ({error})") from None


@contextmanager
def _without_leniency() -> Iterator[None]:
    """Let Pillow refuse images that are truncated or too large, whatever others have set; and not warn of the rest."""
    from PIL import Image, ImageFile

    with _strict, warnings.catch_warnings(action="ignore"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
