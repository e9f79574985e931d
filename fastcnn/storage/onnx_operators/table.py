"""Which function reads which operator of ONNX: the operators of all kinds in one table."""

from __future__ import annotations

from ..onnx_nodes import Read
from . import activations, arithmetic, dense, formulas, norms, repeats, shapes, windows
from .strips import of_strips

KINDS = activations, arithmetic, dense, formulas, norms, repeats, shapes, windows
# Their nodes say something of rows and columns, or of axes by number: of signals they say it of one axis less.
OF_IMAGES = (
    "AveragePool", "BatchNormalization", "Concat", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool",
    "InstanceNormalization", "MatMul", "MaxPool", "Pad", "Resize", "Slice", "Softmax", "Upsample",
)  # fmt: skip
OPERATORS: dict[str, Read] = {
    name: of_strips(read) if name in OF_IMAGES else read
    for name, read in sorted(row for kind in KINDS for row in kind.OPERATORS.items())
}
# These take numbers that repeat too, or are a part of a layer's.
MOVES = "Cast", "Expand", "Identity", "Reshape", "Squeeze", "Tile", "Transpose", "Unsqueeze"
