"""Dense layers, and the notebook's `Softmax`: dense and softmax in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import checks
from ..codegen.blocking import PIXELS, is_panel
from ..engine.graph import Graph
from ..engine.ir import Block, Gradients, Memory, Pass
from ..engine.layout import aligned_zeros, padded
from ..engine.parameter import Parameter
from ..kernels import activation as activation_kernels
from ..kernels import dense as kernels
from ..kernels import loss as loss_kernels
from ..kernels import product
from ..typing import Array, RandomState, Shape
from .base import Layer

NEAR = 1024  # features of an example that stay in the first-level cache, beside those of the other rows of a tile
FEW = 2  # examples at once that are better multiplied by weights as they lie than by packed ones


def dense_parameters(inputs: int, nodes: int, bias: bool) -> dict[str, Parameter]:
    """Return the parameters of a dense layer: He initialisation, normal with variance 2 / inputs; biases zero."""
    deviation = np.sqrt(2.0 / inputs)
    specs = {
        "weights": Parameter(
            (inputs, nodes),
            (inputs, padded(nodes)),
            lambda stored: stored[:, :nodes],
            lambda generator: generator.standard_normal((inputs, nodes)) * deviation,
        )
    }
    if bias:
        specs["biases"] = Parameter(
            (nodes,), (padded(nodes),), lambda stored: stored[:nodes], lambda generator: np.zeros(nodes)
        )
    return specs


class Dense(Layer):
    """Fully connected layer, `y = x · weights + biases`.

    Parameters
    ----------
    nodes : int
        Number of outputs.
    bias : bool
    random_state : None, int, RandomState or Generator
        For the first weights; None is NumPy's global generator.

    Attributes
    ----------
    weights : array of shape (inputs, nodes)
        He initialisation: normal with variance 2 / inputs.
    biases : array of shape (nodes,)
        Zero at first.
    """

    def __init__(self, nodes: int, bias: bool = True, random_state: RandomState = None) -> None:
        super().__init__()
        self.nodes = checks.as_positive_int(nodes, self.name, "nodes")
        self.bias, self.random_state = bool(bias), random_state

    @property
    def weights(self) -> Array:
        """The weights, (inputs, nodes)."""
        return self._get("weights")

    @weights.setter
    def weights(self, value: Any) -> None:
        self._set("weights", value)

    @property
    def biases(self) -> Array:
        """The biases, (nodes,)."""
        return self._get("biases")

    @biases.setter
    def biases(self, value: Any) -> None:
        self._set("biases", value)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (nodes,)."""
        if len(input_shape) != 1:
            raise ValueError(
                f"{self.name}: input: expected features (N, D); got samples of shape {input_shape}: "
                "put Flatten() before it"
            )
        return (self.nodes,)

    def _check_input(self, x: Array) -> None:
        inputs = self.input_shape[0] if self.input_shape else None
        checks.check_shape(x, (None, inputs), self.name, "input", "features (N, D)")

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return dense_parameters(input_shape[0], self.nodes, self.bias)

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        return graph.add(DenseBlock(self, x, graph.edge((self.nodes,)), has_relu=bool(followers)))


class Softmax(Layer):
    """The notebook's last layer: dense and softmax in one.

    `probs = softmax(x · weights + biases)`; images are flattened in the order C, H, W. `backward` takes the gradient of
    the cross-entropy with respect to the logits, `probs - y` for one-hot targets y.

    Parameters
    ----------
    input_len : int
        Number of inputs.
    nodes : int
        Number of classes.
    random_state : None, int, RandomState or Generator
        For the first weights; None is NumPy's global generator.

    Attributes
    ----------
    weights : array of shape (input_len, nodes)
        Normal with variance 2 / input_len.
    biases : array of shape (nodes,)
        Zero at first.
    """

    def __init__(self, input_len: int, nodes: int, random_state: RandomState = None) -> None:
        super().__init__()
        self.input_len = checks.as_positive_int(input_len, self.name, "input_len")
        self.nodes = checks.as_positive_int(nodes, self.name, "nodes")
        self.random_state = random_state
        self._create((self.input_len,), np.dtype(np.float64), random_state)
        self._drawn = self._flat.copy()

    weights = Dense.weights
    biases = Dense.biases

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (nodes,)."""
        if math.prod(input_shape) != self.input_len:
            raise ValueError(
                f"{self.name}: input: expected samples of input_len = {self.input_len} numbers; "
                f"got {math.prod(input_shape)} in shape {tuple(input_shape)}"
            )
        return (self.nodes,)

    def _has_weights(self) -> bool:
        """Tell whether they were used or changed: the notebook's layer draws its first ones before it has a model."""
        return self._session is not None or not np.array_equal(self._flat, self._drawn)

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        self.output_shape(x.shape[1:])

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return dense_parameters(self.input_len, self.nodes, bias=True)

    def _connect(self, graph: Graph, x: int, followers: Sequence[Layer] = ()) -> int:
        logits = graph.add(DenseBlock(self, x, graph.edge((self.nodes,)), has_relu=False))
        return graph.add(SoftmaxBlock(self, logits, graph.edge((self.nodes,))))


class DenseBlock(Block):
    """`x · weights + biases` [+ ReLU]; maps are read in the public order C, H, W wherever their numbers lie."""

    replayable = True
    reads_any_pitch = True

    def __init__(self, layer: Layer, x: int, y: int, has_relu: bool) -> None:
        super().__init__(layer, x, y)
        self.has_relu = has_relu

    def work(self, graph: Graph) -> float:
        return math.prod(graph.shapes[self.x]) * math.prod(graph.shapes[self.y])

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        dx, dy = graph.gradients[self.x], graph.gradients[self.y]
        images = graph.images
        self.dtype, self.pitch, self.nodes = graph.dtype, y.pitch, y.channels
        # Features in memory order; `numbers` are their rows in the weights. Weights of one panel are packed as they
        # stand, if the features are read in the public order. Where these are near, it is better for all weights.
        self.x_col, numbers = x.physical_order()
        self.is_panel = is_panel(y.pitch, graph.dtype)
        if self.is_panel or self.x_col.size <= NEAR:
            order = np.argsort(numbers)
            self.x_col, numbers = self.x_col[order], numbers[order]
        self.inputs = self.x_col.size
        self.w_row = (numbers * y.pitch).astype(np.int32)
        self.x_row = (np.arange(images) * x.image_size).astype(np.int32)
        self.y_row = y.pixel_table(images)
        self.few = not graph.training and images <= FEW
        self.packed = aligned_zeros(0 if self.few else self.inputs * y.pitch, graph.dtype)
        self.no_biases = aligned_zeros(y.pitch, graph.dtype)
        self.none = graph.dtype.type(-np.inf)
        self.nothing = np.zeros(0, graph.dtype)  # that memory could be asked for meanwhile
        self.floor = graph.dtype.type(0) if self.has_relu else self.none
        self.dx_size = 0
        if dy:
            self.dy_row = dy.pixel_table(images)
            self.dy_col = np.arange(y.channels, dtype=np.int32)
        if dx and dy:
            self.dx_size = dx.image_size
            self.dx_row = (np.arange(images) * dx.image_size).astype(np.int32)
            # Halo and padding channels are columns of zeros, so that whole images are stored without a gap.
            offsets, rows = dx.physical_order()
            self.lane_row = np.full(dx.image_size, -1, np.int32)
            self.lane_row[offsets] = rows * y.pitch
            self.block = np.zeros(1, np.int32)
            self.packed_transposed = aligned_zeros(self.nodes * dx.image_size, graph.dtype)
            self.zeros = aligned_zeros(dx.image_size, graph.dtype)

    def allocate(self, graph: Graph) -> tuple[Array, Array]:
        return aligned_zeros(PIXELS * self.pitch, self.dtype), aligned_zeros(self.pitch, self.dtype)

    def copied(self) -> list[Array]:
        return [] if self.few or self.is_panel else super().copied()

    def prepare(self) -> None:
        weights = self.layer._values("weights", self.dtype)
        self.biases = self.layer._values("biases", self.dtype) if "biases" in self.layer.parameters else self.no_biases
        if self.is_panel or self.few:
            self.packed = weights
        else:
            product.pack(weights, self.w_row, self.inputs, self.pitch, self.packed)

    def prepare_backward(self) -> None:
        if self.dx_size:
            weights = self.layer._values("weights", self.dtype)
            product.pack_transposed(
                weights, self.block, 1, self.nodes, self.lane_row, self.dx_size, self.packed_transposed
            )

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        if self.few:
            kernels.few_rows(
                memory.values[self.x], self.x_row, n, self.x_col, self.inputs, self.packed, self.w_row,
                memory.values[self.y], self.y_row, self.pitch, self.biases, self.floor,
            )  # fmt: skip
            return
        product.product(
            memory.values[self.x], self.x_row, 0, n, self.x_col, self.inputs, self.packed, 0,
            memory.values[self.y], self.y_row, self.pitch, self.biases, self.floor, self.nothing,
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        panel, unused = memory.kept[self.index]
        dy, dx = memory.gradients[self.y], memory.gradients[self.x]
        if self.has_relu:
            activation_kernels.relu_backward(
                memory.values[self.y], self.y_row, dy, self.dy_row, dy, self.dy_row, n, self.pitch, False
            )
        product.gradient_product(
            memory.values[self.x], self.x_col, self.inputs, self.x_row, n, dy, self.dy_row, self.pitch, PIXELS,
            panel, gradients["weights"], self.w_row, self.no_biases, gradients.get("biases", unused), True,
        )  # fmt: skip
        if dx is not None:
            product.product(
                dy, self.dy_row, 0, n, self.dy_col, self.nodes, self.packed_transposed, 0, dx, self.dx_row,
                self.dx_size, self.zeros, self.none, self.nothing,
            )  # fmt: skip


class SoftmaxBlock(Block):
    """Logits to probabilities. The notebook's gradient belongs to the logits, so it passes as it is."""

    link = "softmax"
    replayable = True

    def plan(self, graph: Graph) -> None:
        x, y = graph.values[self.x], graph.values[self.y]
        self.begin = np.zeros(1, np.int32)
        self.x_row, self.y_row = x.pixel_table(graph.images), y.pixel_table(graph.images)
        self.classes = y.channels

    def forward(self, n: int, memory: Memory, run: Pass) -> None:
        loss_kernels.softmax(
            memory.values[self.x], self.x_row, n, self.classes, memory.values[self.y], self.y_row
        )  # fmt: skip

    def backward(self, n: int, memory: Memory, gradients: Gradients, run: Pass) -> None:
        dx, dy = memory.gradients[self.x], memory.gradients[self.y]
        assert dx is not None
        assert dy is not None
        activation_kernels.copy(dy, self.begin, dx, self.begin, 1, dx.size, False)
