"""An ONNX graph as a model: constants are folded, nodes become layers, and branches come together again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..model import Sequential
from ..typing import Array, Shape
from .errors import StorageError
from .onnx_nodes import Node, flat
from .onnx_operators.strips import axis_of_rows
from .onnx_operators.table import MOVES, OPERATORS
from .onnx_rows import Place, Value, forget, places_before, row_between

ANY_BATCH = 7919  # stands for a number of samples that is not said: a prime that no other size is
MOST = 1 << 24  # numbers of a constant that a small node may make
FOLDED = {
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Floor", "Gather",
    "Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Reciprocal", "ReduceProd",
    "Pow", "Reshape", "Shape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
OLDEST, DEFAULT_DOMAINS = 7, ("", "ai.onnx")


def read_model(onnx: Any, proto: Any, input_shape: Shape | None) -> Sequential:
    """Return the model of a graph, with its weights.

    A graph does not say what the axes of its input are: each layout that it may have is tried, the likeliest first.

    Raises
    ------
    StorageError
        If the graph has what no layer computes; the message names the node: of the layout that led furthest.
    """
    graph, opset = proto.graph, _opset(proto)
    constants = {each.name: _array(onnx, each, f"constant {each.name!r}") for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        names = [", ".join(each.name for each in many) for many in (inputs, graph.output)]
        raise StorageError(f"expected a graph of one input and one output; got inputs {names[0]}; outputs {names[1]}")
    layouts, batch = _input(onnx, graph, inputs[0], input_shape)
    failed: list[tuple[int, StorageError]] = []
    try:
        for first in layouts:
            values: dict[str, Any] = {**constants, inputs[0].name: first}
            try:
                return _read_model(onnx, graph, first, values, opset, batch)
            except StorageError as error:
                failed.append((len(values), error))
    finally:
        forget()
    raise max(failed, key=lambda each: each[0])[1]


def _read_model(onnx: Any, graph: Any, first: Value, values: dict[str, Any], opset: int, batch: int) -> Sequential:
    """Return the model of a graph whose input is `first`; `values` gets what its nodes give."""
    constants = [each for each in values.values() if each is not first]
    uses = Counter(name for node in graph.node for name in node.input)
    uses.update(each.name for each in graph.output)
    for node in graph.node:
        _read_node(onnx, node, values, uses, opset, batch)
    last = values.get(graph.output[0].name)
    if not isinstance(last, Value):
        raise StorageError(f"output {graph.output[0].name!r}: expected it to depend on the input")
    return _model(first.place, _as_output(last), constants)


def _opset(proto: Any) -> int:
    versions = {each.domain: each.version for each in proto.opset_import}
    opset = max((versions.get(domain, 0) for domain in DEFAULT_DOMAINS), default=0)
    if opset < OLDEST:
        raise StorageError(f"opset: expected {OLDEST} or newer; got {opset}")
    return int(opset)


def _input(onnx: Any, graph: Any, given: Any, input_shape: Shape | None) -> tuple[Iterator[Value], int]:
    """Return the input in each layout that it may have, and what stands for the batch in constant shapes."""
    tensor, types = given.type.tensor_type, onnx.TensorProto
    if tensor.elem_type not in (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16):
        names = dict(zip(types.DataType.values(), types.DataType.keys(), strict=True))
        name = names.get(tensor.elem_type, f"type {tensor.elem_type}")
        raise StorageError(f"input {given.name!r}: expected floating-point numbers; got {name}")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
    last = _channels_last(graph, given.name, len(sizes))
    shape = tuple(sizes[1:]) if input_shape is None else tuple(input_shape)
    ours = input_shape is not None and len(shape) == 3
    fits = len(shape) == len(sizes) - 1 or (ours and len(sizes) == 3 and 1 in shape[:2])
    if len(sizes) not in (1, 2, 3, 4) or not fits or not all(size > 0 for size in shape):
        raise StorageError(
            f"input {given.name!r}: expected (N, C, H, W), (N, C, L) or (N, D) of known sizes; got {sizes}: give "
            "input_shape=(C, H, W), (C, 1, L) or (D,)"
        )
    found = _layouts(shape, len(sizes) - 1, ours=ours, last=last)
    return found, sizes[0] if sizes[0] > 0 else ANY_BATCH


def _layouts(shape: Shape, rank: int, *, ours: bool, last: bool) -> Iterator[Value]:
    """Give the input in each layout that fits: images with channels first and last, rows of pixels, signals.

    The shape is that of our samples, or of those of the graph.
    """
    if rank < 2:  # (N, D), or (N,), one number a sample
        place = Place("input", [], shape or (1,))
        yield Value(place, np.arange(shape[0]) if shape else np.zeros((), np.int64))
    elif rank == 2:
        for axis, order in ((0, (0, 1, 2)), (1, (0, 1, 2)), (0, (1, 2, 0))):  # the axis that the graph leaves out
            own = shape if ours else _in_order((*shape[:axis], 1, *shape[axis:]), order)
            if own[order[axis]] == 1:
                value = Value.at(Place("input", [], own), order)
                yield value.moved(value.index.squeeze(axis))
    else:
        for order in ((1, 2, 0), (0, 1, 2)) if last else ((0, 1, 2), (1, 2, 0)):
            yield Value.at(Place("input", [], shape if ours else _in_order(shape, order)), order)


def _in_order(shape: Shape, order: tuple[int, ...]) -> Shape:
    """Return the shape of a place whose axes lie in the order of `order`, with these sizes."""
    return tuple(shape[order.index(axis)] for axis in range(len(shape)))


def _channels_last(graph: Any, name: str, rank: int) -> bool:
    """Tell whether an input of images goes into a Transpose to NCHW, but for what is done pixel by pixel, and pads."""
    if rank != 4:
        return False
    names, found = {name}, False
    for node in graph.node:
        if not names & set(node.input):
            continue
        if node.op_type in ("Sub", "Add", "Mul", "Div", "Identity", "Cast", "Pad", "Resize", "Relu", "MatMul"):
            names.update(node.output)
        elif node.op_type == "Transpose" and [*node.attribute[0].ints] == [0, 3, 1, 2]:
            found = True
        else:
            return False
    return found


def _read_node(onnx: Any, proto: Any, values: dict[str, Any], uses: Counter[str], opset: int, batch: int) -> None:
    """Give the outputs of a node their values."""
    name = proto.name or (proto.output[0] if proto.output else "")
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
    missing = [each for each in proto.input if each and each not in values]
    inputs = [values.get(each) if each else None for each in proto.input]
    sole = [uses[each] == 1 for each in proto.input]
    node = Node(proto.op_type, name, attributes, inputs, sole, opset, batch)
    if proto.domain not in DEFAULT_DOMAINS:
        node.refuse(f"expected ONNX's own operators; got one of {proto.domain!r}")
    if missing:
        node.refuse(f"expected its inputs before it; got {missing[0]!r}, which nothing has computed")
    if proto.op_type == "Constant":
        values[proto.output[0]] = _constant(onnx, node)
    elif proto.op_type == "Shape" and isinstance(inputs[0], Value):
        whole = np.array([batch, *inputs[0].index.shape])
        values[proto.output[0]] = whole[attributes.get("start", 0) : attributes.get("end", len(whole))]
    elif not any(isinstance(each, Value) for each in inputs):
        values.update(zip(proto.output, _folded(onnx, proto, node), strict=False))
    elif proto.op_type == "LogSoftmax":
        node.refuse("no layer computes it: export the network without it, for the losses of fastcnn take logits")
    elif proto.op_type not in OPERATORS:
        node.refuse(f"no layer computes it; known operators: {', '.join(OPERATORS)}")
    elif proto.op_type not in MOVES and any(isinstance(each, Value) and not each.whole for each in inputs):
        node.refuse("expected all numbers of a layer, each once; got some that repeat, or a part of them")
    elif any(each and uses[each] for each in proto.output[1:]):
        node.refuse("expected that only its first output is used")
    else:
        try:
            values[proto.output[0]] = OPERATORS[proto.op_type](node)
        except StorageError:
            raise
        except Exception as error:  # a file may say anything
            node.refuse(f"{type(error).__name__}: {error}")


def _array(onnx: Any, tensor: Any, what: str) -> Array:
    """Return the numbers of a tensor."""
    try:
        array = np.asarray(onnx.numpy_helper.to_array(tensor))
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    except Exception as error:  # a file may say anything
        raise StorageError(f"{what}: {type(error).__name__}: {error}") from None


def _constant(onnx: Any, node: Node) -> Array:
    for name, value in node.attributes.items():
        if name == "value":
            return _array(onnx, value, str(node))
        if name in ("value_float", "value_floats"):
            return np.array(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.array(value, np.int64)
    node.refuse("expected a dense constant of numbers")


def _folded(onnx: Any, proto: Any, node: Node) -> list[Array]:
    """Return what a node of constants computes."""
    if proto.op_type not in FOLDED:
        node.refuse("of constants alone: it is none of the operators that are computed while reading")
    if proto.op_type in ("ConstantOfShape", "Expand"):
        size = math.prod(int(n) for n in np.ravel(node.inputs[-1]))
        if size > MOST:
            node.refuse(f"expected at most {MOST} numbers; got {size}")
    from onnx.reference import ReferenceEvaluator

    try:
        names = [each for each in proto.input if each]
        types = [
            onnx.helper.make_tensor_value_info(each, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for each, array in zip(proto.input, node.inputs, strict=True)
            if each
        ]
        outputs = [onnx.helper.make_tensor_value_info(each, onnx.TensorProto.UNDEFINED, None) for each in proto.output]
        graph = onnx.helper.make_graph([proto], "constants", types, outputs)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.opset)])
        arrays = [array for each, array in zip(proto.input, node.inputs, strict=True) if each]
        return [
            np.asarray(array) for array in ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
        ]
    except Exception as error:  # a file may say anything
        node.refuse(f"of constants alone: {error}")


def _as_output(value: Value) -> Place:
    """Return the place whose numbers a graph gives, in the same order."""
    if value.index.ndim == 1:
        value = flat(value, "the output")
    shape = value.place.shape
    in_order = value.whole and np.array_equal(value.index.ravel(), np.arange(value.index.size))
    images = len(shape) == 3 == value.index.ndim and value.axes is not None
    if not (in_order or images or axis_of_rows(value) is not None):
        raise StorageError(f"the output: expected numbers in the order of a layer's; got shape {value.index.shape}")
    return value.place


def _model(first: Place, last: Place, constants: Any) -> Sequential:
    """Return the model that leads from one place to the other, built, with its weights."""
    row = row_between(first, last)
    if not row:
        raise StorageError("expected at least one layer")
    double = any(array.dtype == np.float64 and array.size > 1 for array in constants)
    try:
        model = Sequential(row).build(first.shape, random_state=0, dtype=np.float64 if double else np.float32)
    except (TypeError, ValueError) as error:
        raise StorageError(str(error)) from None
    for place in places_before(last):
        if place.layer is not None and place.taken:
            for name, array in place.weights.items():
                try:
                    setattr(place.layer, name, array)
                except (TypeError, ValueError) as error:
                    raise StorageError(f"{place.node}: {error}") from None
    return model.eval()
