"""`PReLU`: a rectifier that learns its slopes below zero."""

from __future__ import annotations

from collections.abc import Sequence

from .. import checks
from ..engine.ir import Graph
from ..engine.layout import padded
from ..engine.parameter import Parameter
from ..engine.weights import ArrayProperty
from ..ops.prelu import PReLUOp
from ..typing import Array, Shape
from .base import Layer


class PReLU(Layer):
    """Parametric rectifier, `x` where x > 0, `negative_slope · x` elsewhere; the slopes are trained.

    The gradient of the input is 1 where x > 0, `negative_slope` elsewhere, also at 0; that of a slope is
    `Σ min(0, x) · dL/dy` over the numbers that it is the slope of.

    Parameters
    ----------
    num_parameters : int
        1, a slope for all channels, or the number of channels, one for each. PyTorch's default is 1, too; Keras has a
        slope for each number of a sample.
    init : float
        The slopes at first, as in PyTorch and in the paper; Keras begins with 0.
    trainable : bool or sequence of str
        See `Layer`.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    negative_slope : array of shape (num_parameters,)
        PyTorch calls it `weight`.

    See Also
    --------
    LeakyReLU : Leaky rectifier, of a slope that is not trained.

    Notes
    -----
    Weight decay draws the slopes to 0, the ReLU: the paper leaves them out, `no_decay=("*.negative_slope",)`.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
    classification", ICCV 2015, section 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import PReLU
    >>> layer = PReLU(2)
    >>> layer.forward(np.array([[-2.0, 3.0], [4.0, -8.0]])).tolist()
    [[-0.5, 3.0], [4.0, -2.0]]
    >>> layer.negative_slope.tolist()
    [0.25, 0.25]
    """

    negative_slope = ArrayProperty("The slopes.")

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        trainable: bool | Sequence[str] = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.num_parameters = checks.as_positive_int(num_parameters, self.name, "num_parameters")
        self.init = checks.as_number(init, self.name, "init")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if self.num_parameters not in (1, input_shape[0]):
            raise ValueError(
                f"{self.name}: num_parameters: expected 1 or the number of channels, {input_shape[0]}; "
                f"got {self.num_parameters}"
            )
        return input_shape

    def _check_input(self, x: Array) -> None:
        super()._check_input(x)
        self.output_shape(x.shape[1:])

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        count = self.num_parameters
        return {"negative_slope": Parameter((count,), (padded(count),), lambda stored: stored[:count], self.init)}

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        return graph.add(PReLUOp(self, x, graph.value(graph.shapes[x]), self.num_parameters == 1))
