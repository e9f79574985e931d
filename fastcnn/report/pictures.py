"""Small images in a page: PNG of 8 bits in a data address, of images, maps and filters."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from .. import markup
from ..typing import Array

LARGEST = 96  # pixels a side: larger images are shown by every second pixel, or third, ...


def png(pixels: Array) -> bytes:
    """Return the PNG file of an image of bytes, (H, W) grey or (H, W, 3).

    References
    ----------
    W3C, "Portable Network Graphics specification", third edition, sections 5 and 11.2.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def as_bytes(image: Array) -> Array:
    """Return an image (C, H, W) of any numbers as bytes: (H, W), or (H, W, 3) of three channels; others show one."""
    step = -(-max(image.shape[1:]) // LARGEST)
    shown = image[:, ::step, ::step]
    shown = shown.transpose(1, 2, 0) if len(shown) == 3 else shown[0]
    if shown.dtype == np.uint8:
        return np.ascontiguousarray(shown)
    shown = shown.astype(np.float64)
    low, high = float(shown.min()), float(shown.max())
    scaled: Array = np.rint(255 * (shown - low) / ((high - low) or 1.0)).astype(np.uint8)
    return scaled


def signed(numbers: Array, most: float) -> Array:
    """Return numbers (H, W) as colours: white for 0, red above, blue below, full at `most`."""
    step = -(-max(numbers.shape) // LARGEST)
    share = np.clip(numbers[::step, ::step].astype(np.float64) / (most or 1.0), -1, 1)
    red, blue = np.array([178, 24, 43]), np.array([33, 102, 172])
    full = np.where(share[..., None] > 0, red, blue)
    colours: Array = np.rint(255 + np.abs(share)[..., None] * (full - 255)).astype(np.uint8)
    return colours


def tag(pixels: Array, words: str, side: int = 72) -> str:
    """Return an image of a page, at least so many pixels wide or high; `words` are what a screen reader says."""
    height, width = pixels.shape[:2]
    scale = max(1, side // max(height, width))
    address = base64.b64encode(png(pixels)).decode("ascii")
    return (
        f'<img alt="{markup.text(words)}" width="{width * scale}" height="{height * scale}" '
        f'src="data:image/png;base64,{address}">'
    )


def figure(pictures: str, words: str) -> str:
    """Return pictures with words below."""
    return f"<figure>{pictures}<figcaption>{markup.text(words)}</figcaption></figure>"
