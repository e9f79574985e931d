"""What both directions of ONNX share: the package, imported when it is first needed, and a graph that is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..typing import Array, Shape
from ..version import __version__

OPSET = 17  # LayerNormalization is new in it; runtimes of 2022 and later know it
IR_VERSIONS = {17: 8, 19: 9}  # of the same releases


def onnx_package(function: str) -> Any:
    """Return the package onnx.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that brings it.
    """
    try:
        import onnx
    except ImportError:
        raise ImportError(
            f"{function}: expected the package onnx; install it with pip install 'fastcnn[onnx]'"
        ) from None
    return onnx


class GraphWriter:
    """Nodes and constants of an ONNX graph, in the order in which they are computed.

    Parameters
    ----------
    onnx : module
    batch : "dynamic" or int
        The first axis of inputs and outputs.
    """

    def __init__(self, onnx: Any, batch: str | int) -> None:
        self.onnx, self.batch = onnx, "N" if batch == "dynamic" else batch
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.opset = OPSET
        self._number = 0

    def name(self, hint: str) -> str:
        """Return a name that no value has yet."""
        self._number += 1
        return f"{hint}_{self._number}"

    def require(self, opset: int) -> None:
        """Note that a node is of an opset newer than the usual one."""
        self.opset = max(self.opset, opset)

    def constant(self, hint: str, array: Any, dtype: Any = None) -> str:
        """Add a constant; return its name, which is `hint` where no other has it."""
        name = hint if hint not in self.constants else self.name(hint)
        array = np.array(array, dtype, order="C")
        self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        output = output or self.name(operator.lower())
        made = self.onnx.helper.make_node(operator, list(inputs), [output], name=f"{operator}:{output}", **attributes)
        self.nodes.append(made)
        return output

    def add_input(self, name: str, dtype: Any, shape: Shape) -> str:
        """Add an input of samples of `shape`."""
        self.inputs.append(self._typed(name, dtype, shape))
        return name

    def add_output(self, value: str, name: str, dtype: Any, shape: Shape) -> None:
        """Let a value be an output called `name`."""
        self.node("Identity", [value], name)
        self.outputs.append(self._typed(name, dtype, shape))

    def _typed(self, name: str, dtype: Any, shape: Shape) -> Any:
        helper = self.onnx.helper
        element = self.onnx.TensorProto.STRING if dtype is str else helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return helper.make_tensor_value_info(name, element, [self.batch, *shape])

    def model(self, name: str, notes: Mapping[str, str]) -> Any:
        """Return the model, checked with all its shapes.

        Raises
        ------
        onnx.checker.ValidationError
            If the graph is not what ONNX allows.
        """
        onnx = self.onnx
        graph = onnx.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, initializer=list(self.constants.values())
        )
        model = onnx.helper.make_model(
            graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)], ir_version=IR_VERSIONS[self.opset],
            producer_name="fastcnn", producer_version=__version__,
        )  # fmt: skip
        onnx.helper.set_model_props(model, dict(notes))
        onnx.checker.check_model(model, full_check=True)
        return model


def as_float(array: Array) -> Array:
    """Return numbers in float32, the precision in which runtimes compute convolutions."""
    return np.asarray(array, np.float32)
