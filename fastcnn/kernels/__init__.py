"""Compiled numerics: arrays in, arrays out; never allocates, checks or prints.

Here `kernels.norm`, say, is a family of kernels that were compiled before and are kept on disk. The file itself is
imported, and Numba with it, only when one of its kernels must be compiled.
"""

from __future__ import annotations

from typing import Any

FAMILIES = {
    "activation", "augment", "compare", "conv_depthwise", "conv_direct", "conv_groups", "conv_pixels", "conv_pointwise",
    "conv_sparse", "conv_winograd", "dense", "dropout", "load", "loss", "norm", "pool", "product", "residual", "update",
    "winograd_products",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in FAMILIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..jit.kernel import Family

    family = globals()[name] = Family(name)
    return family
