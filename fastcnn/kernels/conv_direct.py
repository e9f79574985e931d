"""Direct convolution: the indirect matrix product, without an im2col copy.

Forward, input gradient and filter gradient are `product` and `gradient_product` on tables of offsets
(`layers/conv.py` writes the tables). Here stands what is more than that: the fused block.

Shape legend: x haloed maps; 4P convolution pixels, the four of each 2 x 2 window side by side; K taps; N filters,
padded to whole vectors.
"""

from __future__ import annotations

from .cache import kernel
from .pool import pool2
from .product import BAND, ZERO, product

forward = product


@kernel
def forward_pool(x, x_row, x_col, K, w, start, floor, every, band, band_row, y, y_row, winners, P, N):
    """y (P, N) = max-pool 2 x 2 of max(floor, start + x * w), in one pass: the convolution lives in a cached band."""
    step = BAND // 4
    for p0 in range(0, P, step):
        p1 = min(p0 + step, P)
        product(x, x_row, 4 * p0, 4 * p1, x_col, K, w, ZERO, band, band_row, N, start, floor)
        pool2(band, band_row, 0, y, y_row, winners, p0, p1, N, floor, every)


@kernel
def clear_columns(a, rows, pitch, first):
    """Put zeros to a[:, first:] of a (rows, pitch): what padding channels of an input left in a filter gradient."""
    for row in range(rows):
        for n in range(first, pitch):
            a[row * pitch + n] = a.dtype.type(0)
