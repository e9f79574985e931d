"""`explain` and `explain_gradient`: the sum behind a number of a network, and behind the gradient of a weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layers.activation import Sigmoid, SoftmaxActivation
from ..layers.dense import Softmax
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..model import Sequential
from ..typing import Array
from .branches import LayerRow
from .loop import Loop
from .slopes import slope, softmax_slope
from .steps import Explanation, Position


class Loops:
    """A network as it is at this moment, as loops in float64.

    Parameters
    ----------
    model : Sequential
        Built. Its parameters and running statistics are copied; what is written to them afterwards does not count.

    Attributes
    ----------
    paths : dict of str to Loop
        All layers by their places, those inside others too: `"0"`, `"3.layers.0"`.
    """

    def __init__(self, model: Sequential) -> None:
        model._expect_built("explain")
        assert model.input_shape is not None
        self.input_shape = model.input_shape
        with model._lock:  # between two steps
            self.row = LayerRow(model.layers, "", "", model.input_shape)
        self.paths: dict[str, Loop] = {}
        for loop in self.row.loops:
            self.paths[loop.path] = loop
            self.paths.update((one.path, one) for one in loop.inner())
        self.sample: Array | None = None

    def forward(self, x: Any) -> Array:
        """Return the output of one sample, in prediction mode; uint8 is scaled to [0, 1]."""
        array = np.asarray(x)
        if array.dtype.kind not in "buif":
            raise TypeError(f"explain: x: expected real numbers; got dtype {array.dtype}")
        if array.shape == (1, *self.input_shape):
            array = array[0]
        if array.shape != self.input_shape:
            raise ValueError(f"explain: x: expected one sample of shape {self.input_shape}; got {array.shape}")
        scaled = array / 255 if array.dtype == np.uint8 else array
        self.sample = scaled.astype(np.float64, order="C")[None]
        return self.row.forward(self.sample)

    def backward(self, target: Any, loss: Loss | None = None) -> Array:
        """Return the gradient of the last sample's loss by the sample; leave those of all layers."""
        loops, loss = list(self.row.loops), CrossEntropy() if loss is None else loss
        last = loops[-1]
        if isinstance(last.layer, Softmax):
            dL_dz = softmax_slope(loss, last.y, target)
        elif isinstance(last.layer, SoftmaxActivation) and isinstance(loss, CrossEntropy):
            dL_dz = softmax_slope(loss, loops.pop().y, target)
        elif isinstance(last.layer, Sigmoid) and isinstance(loss, BinaryCrossEntropy):
            dL_dz = slope(loss, loops.pop().x, target)
        else:
            dL_dz = slope(loss, last.y, target)
        for loop in reversed(loops):
            dL_dz = loop.backward(dL_dz)
        return dL_dz

    def explain(self, layer: int | str, position: Sequence[int]) -> Explanation:
        """Return the explanation of one number of the last sample; see `explain`."""
        loop = self._loop(layer)
        at = _place(position, loop.y.shape[1:], "position")
        steps = [loop.explain(at)]
        while (source := steps[0].source) is not None and source[0] in self.paths:
            steps.insert(0, self.paths[source[0]].explain(source[1]))
        return Explanation(loop.path, at, steps[-1].value, tuple(steps))

    def explain_gradient(self, parameter: str, index: Sequence[int]) -> Explanation:
        """Return the explanation of one number of a gradient, behind `backward`; see `explain_gradient`."""
        path, _, name = parameter.rpartition(".")
        loop = self.paths.get(path)
        if loop is None or name not in loop.gradients:
            known = [f"{one.path}.{name}" for one in self.paths.values() for name in one.gradients]
            raise ValueError(f"explain_gradient: parameter: expected one of {', '.join(known)}; got {parameter!r}")
        at = _place(index, loop.gradients[name].shape, "index")
        step = loop.explain_gradient(name, at)
        return Explanation(parameter, at, step.value, (step,))

    def _loop(self, layer: int | str) -> Loop:
        count = len(self.row.loops)
        if isinstance(layer, int | np.integer) and not isinstance(layer, bool) and -count <= layer < count:
            return self.row.loops[layer]
        named = [loop for loop in self.paths.values() if loop.layer._name == layer and layer is not None]
        found = self.paths.get(layer) if isinstance(layer, str) else None
        if found is None and len(named) == 1:
            found = named[0]
        if found is None:
            raise ValueError(f"explain: layer: expected a place, one of {', '.join(self.paths)}; got {layer!r}")
        return found


def explain(model: Sequential, x: Any, layer: int | str, position: Sequence[int]) -> Explanation:
    """Return the sum behind one number of a feature map.

    The network computes in prediction mode, in float64, by the loops of `reference/`: the value has their bits.

    Parameters
    ----------
    model : Sequential
        Built.
    x : array of shape (C, H, W) or (D,)
        One sample; uint8 is scaled to [0, 1].
    layer : int or str
        A layer by its place, `2` or `"2"`, inside others `"3.layers.0"`, or by its name.
    position : tuple of int
        (channel, row, column) in its output, or (feature,).

    Returns
    -------
    Explanation
        Its steps lead from the sum to the number: of a pooling's pixel the window that it chooses from, before that
        the ReLU, before that the window of the input, the filter, their products and the bias.

    Raises
    ------
    RuntimeError
        If the model is not built.
    TypeError, ValueError
        If an argument does not fit the model.

    See Also
    --------
    explain_gradient : The sum behind the gradient of a weight.
    fastcnn.live.LivePage : The same sums in a browser, where a pixel is clicked.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, MaxPool2D, ReLU, Sequential
    >>> from fastcnn.explain import explain
    >>> model = Sequential([Conv2D(1, 2), ReLU(), MaxPool2D(2)]).build((1, 3, 3))
    >>> model.parameters["0.filters"][...] = [[[[1, 2], [0, 1]]]]
    >>> found = explain(model, np.arange(9.0).reshape(1, 3, 3), 2, (0, 0, 0))
    >>> found.value
    22.0
    >>> [step.kind for step in found.steps]
    ['sum', 'function', 'choice']
    >>> [term.factors for term in found.steps[0].terms]
    [(4.0, 1.0), (5.0, 2.0), (7.0, 0.0), (8.0, 1.0)]
    """
    loops = Loops(model)
    loops.forward(x)
    return loops.explain(layer, position)


def explain_gradient(
    model: Sequential, x: Any, y: Any, parameter: str, index: Sequence[int], loss: Loss | None = None
) -> Explanation:
    """Return the sum behind the gradient of one weight, for the loss of one sample.

    Of a filter's weight it goes over all pixels of the filter's map, `dL/dw = Σ dL/dy · x`. The network computes in
    prediction mode, in float64, by the loops of `reference/`: the value has their bits.

    Parameters
    ----------
    model : Sequential
        Built.
    x : array of shape (C, H, W) or (D,)
        One sample; uint8 is scaled to [0, 1].
    y : int or array
        The target, as the loss takes it of one sample.
    parameter : str
        Its name in `model.parameters`, such as `"0.filters"`.
    index : tuple of int
        Such as (filter, channel, row, column).
    loss : Loss, optional
        `CrossEntropy()` if not given.

    Returns
    -------
    Explanation

    See Also
    --------
    explain : The sum behind a number of a feature map.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Flatten, Dense, Sequential
    >>> from fastcnn.explain import explain_gradient
    >>> model = Sequential([Conv2D(2, 3), Flatten(), Dense(3)]).build((1, 4, 4), random_state=0)
    >>> found = explain_gradient(model, np.ones((1, 4, 4)), 1, "0.filters", (1, 0, 2, 2))
    >>> len(found.steps[0].terms)
    4
    """
    loops = Loops(model)
    loops.forward(x)
    loops.backward(y, loss)
    return loops.explain_gradient(parameter, index)


def _place(position: Sequence[int], shape: tuple[int, ...], argument: str) -> Position:
    """Return a position as ints, if it lies in an array of that shape."""
    words = f"explain: {argument}: expected {len(shape)} whole numbers within {shape}; got {position!r}"
    if isinstance(position, str) or not isinstance(position, Sequence | np.ndarray):
        raise TypeError(words)
    if any(isinstance(k, bool) or not isinstance(k, int | np.integer) for k in position):
        raise TypeError(words)
    if len(position) != len(shape) or any(not 0 <= k < size for k, size in zip(position, shape, strict=True)):
        raise ValueError(words)
    return tuple(int(k) for k in position)
