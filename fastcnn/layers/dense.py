"""Dense layers, and the notebook's `Softmax`: dense and softmax in one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import checks
from ..engine.ir import Graph
from ..engine.layout import padded
from ..engine.parameter import Parameter
from ..engine.weights import ArrayProperty
from ..ops.dense import SoftmaxOp
from ..ops.dense_wide import lower_dense
from ..typing import Array, RandomState, Shape
from .base import Layer, epilogue_of
from .initializers import USUAL, Initializer, as_initializer


def dense_parameters(
    inputs: int, nodes: int, bias: bool, initializer: Initializer | None = None
) -> dict[str, Parameter]:
    """Return the parameters of a dense layer: He initialisation, if nothing else is given; biases zero."""
    rule = initializer or USUAL
    specs = {
        "weights": Parameter(
            (inputs, nodes),
            (inputs, padded(nodes)),
            lambda stored: stored[:, :nodes],
            lambda generator: rule.draw(generator, (inputs, nodes), inputs),
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
        Whether biases are added.
    random_state : None, int, RandomState or Generator
        For the first weights; None is NumPy's global generator.
    initializer : Initializer, optional
        Of the weights; `HeNormal()` if not given.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    weights : array of shape (inputs, nodes)
        By default He initialisation: normal with variance 2 / inputs.
    biases : array of shape (nodes,)
        Zero at first.

    See Also
    --------
    Flatten : Maps as features.
    Softmax : The notebook's dense layer with softmax.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense
    >>> Dense(10).forward(np.ones((4, 64))).shape
    (4, 10)
    """

    fuses_as = "dense"
    absorbs = (("relu",), ("activation",))
    weights = ArrayProperty("The weights, (inputs, nodes).")
    biases = ArrayProperty("The biases, (nodes,).")

    def __init__(
        self,
        nodes: int,
        bias: bool = True,
        random_state: RandomState = None,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.initializer = as_initializer(initializer, self.name)
        self.nodes = checks.as_positive_int(nodes, self.name, "nodes")
        self.bias, self.random_state = checks.as_bool(bias, self.name, "bias"), random_state

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
        return dense_parameters(input_shape[0], self.nodes, self.bias, self.initializer)

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return lower_dense(graph, self, self.nodes, x, epilogue_of(absorbed))


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
    initializer : Initializer, optional
        Of the weights; `HeNormal()` if not given.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    weights : array of shape (input_len, nodes)
        By default normal with variance 2 / input_len.
    biases : array of shape (nodes,)
        Zero at first.

    See Also
    --------
    Dense : Fully connected layer.
    SoftmaxActivation : Softmax over the channels.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Softmax
    >>> probs = Softmax(input_len=64, nodes=10, random_state=0).forward(np.ones((4, 64)))
    >>> probs.shape, float(probs[0].sum().round(6))
    ((4, 10), 1.0)
    """

    fuses_as = "softmax"
    weights = ArrayProperty("The weights, (input_len, nodes).")
    biases = ArrayProperty("The biases, (nodes,).")

    def __init__(
        self,
        input_len: int,
        nodes: int,
        random_state: RandomState = None,
        *,
        initializer: Initializer | None = None,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.initializer = as_initializer(initializer, self.name)
        self.input_len = checks.as_positive_int(input_len, self.name, "input_len")
        self.nodes = checks.as_positive_int(nodes, self.name, "nodes")
        self.random_state = random_state
        self._create((self.input_len,), np.dtype(np.float64), random_state)
        self._drawn = self._flat.copy()

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
        return self._executables.last is not None or not np.array_equal(self._flat, self._drawn)

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        self.output_shape(x.shape[1:])

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return dense_parameters(self.input_len, self.nodes, True, self.initializer)

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        logits = lower_dense(graph, self, self.nodes, x)
        return graph.add(SoftmaxOp(self, logits, graph.value((self.nodes,))))
