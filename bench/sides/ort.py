"""onnxruntime's prediction: the network written as ONNX, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..networks import Network, Place, initial_parameters, places, predicted_images, running_statistics
from ..timing import Side, threads_text


def predictor(network: Network, threads: int) -> Side:
    """Return the prediction of a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_Model(network).serialized(), options, ["CPUExecutionProvider"])
    feed = {"x": np.ascontiguousarray(predicted_images(network))}
    return Side(f"onnxruntime, {threads_text(threads)}", lambda: session.run(None, feed)[0], threads)


class _Model:
    """The nodes and the numbers of a network's ONNX model."""

    def __init__(self, network: Network) -> None:
        self.shape = network.batch, *network.input_shape
        self.arrays = {**initial_parameters(network), **running_statistics(network)}
        self.nodes: list[Any] = []
        self.numbers: dict[str, np.ndarray] = {}
        self.fresh = (f"edge{number}" for number in count())
        self.output = self.row(places(network), "x")

    def serialized(self) -> bytes:
        """Return the model as bytes; opset 17, IR version 8: old enough for every onnxruntime of today."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(self.output, TensorProto.FLOAT, None)
        numbers = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in self.numbers.items()]
        graph = helper.make_graph(self.nodes, "network", [x], [y], numbers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return model.SerializeToString()

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output."""
        output = next(self.fresh)
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        """Add numbers and return their name."""
        self.numbers[name] = np.asarray(array)
        return name

    def row(self, row: Sequence[Place], x: str) -> str:
        """Add layers in a row."""
        for place in row:
            x = self.residual(place, x) if place.inside else self.layer(place, x)
        return x

    def residual(self, place: Place, x: str) -> str:
        """Add the layers and the shortcut, every s-th pixel and zeros for the channels that are missing."""
        short, key = x, place.key
        stride, missing = place.before[1] // place.after[1], place.after[0] - place.before[0]
        if missing:
            steps = (("starts", [0, 0]), ("ends", place.before[1:]), ("axes", [2, 3]), ("steps", [stride, stride]))
            names = [self.constant(f"{key}.{name}", np.array(numbers, np.int64)) for name, numbers in steps]
            pads = self.constant(f"{key}.pads", np.array([0, 0, 0, 0, 0, missing, 0, 0], np.int64))
            short = self.node("Pad", self.node("Slice", short, *names), pads)
        return self.node("Add", self.row(place.inside, x), short)

    def layer(self, place: Place, x: str) -> str:
        """Add one layer."""
        names = [key for key in self.arrays if key.rpartition(".")[0] == place.key]
        parameters = [self.constant(name, self.arrays[name]) for name in names]
        arguments: dict[str, Any] = place.layer.arguments
        match place.layer.kind:
            case "Conv2D" | "DepthwiseConv2D" as kind:
                return self.node(
                    "Conv", x, *parameters, group=place.before[0] if kind[0] == "D" else 1,
                    kernel_shape=[arguments["filter_size"]] * 2, pads=[arguments["padding"]] * 4,
                    strides=[arguments.get("stride", 1)] * 2,
                )  # fmt: skip
            case "BatchNorm":
                return self.node("BatchNormalization", x, *parameters, epsilon=1e-5)
            case "ReLU":
                return self.node("Relu", x)
            case "MaxPool2" | "MaxPool2D":
                return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
            case "GlobalAvgPool2D":
                return self.node("Flatten", self.node("GlobalAveragePool", x))
            case "Flatten":
                return self.node("Flatten", x)
            case "Dense":
                return self.node("Gemm", x, *parameters)
        raise ValueError(f"no ONNX is known for {place.layer}")
