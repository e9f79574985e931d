"""Which function reads which operator of ONNX: the operators of all kinds in one table."""

from __future__ import annotations

from ..onnx_nodes import Read
from . import activations, arithmetic, dense, formulas, norms, repeats, shapes, windows

KINDS = activations, arithmetic, dense, formulas, norms, repeats, shapes, windows
OPERATORS: dict[str, Read] = dict(sorted(row for kind in KINDS for row in kind.OPERATORS.items()))
# These take numbers that repeat too, or are a part of a layer's.
MOVES = "Cast", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"
