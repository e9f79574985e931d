"""`Sequential`: layers in a row, their shapes, and the one flat vector that holds all parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import caller, checks
from .data.viewing import as_views, predict_views
from .engine.ir import Graph
from .layers.base import Layer
from .layers.container import Container, check_row, row_shapes
from .layers.fusion import lower_row
from .prediction import Predictors
from .runtime import threads as parallel
from .summary import summarize
from .typing import Array, RandomState, Shape

if TYPE_CHECKING:
    from .maps import FeatureMaps


class Sequential(Container):
    """Layers in a row: the output of each is the input of the next.

    Parameters
    ----------
    layers : sequence of Layer
        The first takes the input, the last gives the output.
    fuse : bool
        Whether runs such as `Conv2D, ReLU, MaxPool2D` are computed in one pass. The result is the same.
    trainable : bool
        False: no parameter inside is trained; for a part of a model, such as what another training has brought.
    name : str, optional
        By which messages call the layer, and searches find it.

    Attributes
    ----------
    layers : list of Layer
        It cannot be changed. `len(model)`, `model[0]` and `for layer in model` are those of this list. `model[:3]` is a
        model of copies of the first three layers, with their weights: two models cannot share parameters.
    parameters, gradients : dict of str to array
        Named by the layer's place: `"0.filters"`, `"0.biases"`, ...; writable views in the public layout.

    See Also
    --------
    Trainer : Trains a model step by step.
    Layer : What all layers share, and a layer of your own.

    Examples
    --------
    >>> from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
    >>> model = Sequential([Conv2D(16, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
    >>> model.build((1, 8, 8), random_state=0).output_shape((1, 8, 8))
    (10,)
    """

    _maps: FeatureMaps  # of `outputs`, unless a call has them

    def __init__(
        self, layers: Sequence[Layer], *, fuse: bool = True, trainable: bool = True, name: str | None = None
    ) -> None:
        super().__init__(name=name, trainable=trainable)
        self.layers = check_row(layers, self.name)
        self.fuse = fuse
        self._predictors: Predictors | None = None
        self._seen: Array | None = None
        if not self.layers:
            raise ValueError(f"{self.name}: layers: expected at least one layer; got none")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape behind the last layer."""
        *_, (_, _, shape) = row_shapes(self.layers, input_shape, self.name)
        return shape

    def build(  # type: ignore[override]
        self, input_shape: Shape, random_state: RandomState = None, dtype: Any = np.float32
    ) -> Sequential:
        """Create all parameters for inputs of `input_shape`, (C, H, W) or (D,), and return the model.

        A layer that was built before it came here, alone or in a model of which it is a copy, brings its weights. A
        model that is built already begins anew: all its weights are drawn again.

        Parameters
        ----------
        input_shape : tuple of int
            (C, H, W) or (D,), the batch axis left out.
        random_state : None, int, RandomState or Generator
            One generator serves all layers in order, except those with a `random_state` of their own.
        dtype : float32 or float64
            Of the parameters, and so of all that is computed.

        Raises
        ------
        ValueError
            If a layer does not take the shape that comes to it, or is a part of another model already: the parameters
            of a model are one vector, so that two models cannot share them. `layer.copy()` has the same weights.
        RuntimeError
            If this model is itself a part of another one.
        """
        self._build_unasked(input_shape, random_state, dtype)
        if words := checks.channels_last_words(tuple(self.input_shape or ())):
            caller.warn(f"{self.name}: input_shape: {words}")
        return self

    def _build_unasked(self, input_shape: Shape, random_state: RandomState = None, dtype: Any = np.float32) -> None:
        """Build without a look at what the shape may mean: somebody has looked, or no person has chosen it."""
        with self._lock:
            super().build(input_shape, dtype, random_state)

    def resize(self, input_shape: Shape) -> Sequential:
        """Let a built model take images of another height and width, with all its weights, and return it.

        Parameters, running statistics and what a `Trainer` remembers of them, momentum for instance, stay as they are.
        For another model of the other size, which leaves this one alone: `model.copy().resize(shape)`.

        Parameters
        ----------
        input_shape : tuple of int
            (C, H, W), the batch axis left out.

        Raises
        ------
        RuntimeError
            If the model is not built, or is a part of another one.
        ValueError
            If a layer does not take the shape that comes to it, or has parameters whose shapes depend on it, as `Dense`
            behind `Flatten`; nothing is changed then.

        Examples
        --------
        >>> from fastcnn import Conv2D, Dense, GlobalAvgPool2D, Sequential
        >>> model = Sequential([Conv2D(8, 3), GlobalAvgPool2D(), Dense(10)]).build((3, 16, 16), random_state=0)
        >>> before = model.digest()
        >>> model.resize((3, 32, 32)).input_shape
        (3, 32, 32)
        >>> model.digest() == before
        True
        """
        shape = checks.check_input_shape(input_shape, self.name)
        self._expect_built("resize")
        if self._owner is not None:
            raise RuntimeError(f"{self.name}: resize: it is a part of a model: resize that, or a copy of it")
        with self._lock:
            self._expect_resize(shape)
            self._resize(shape)
            self._predictors = self._seen = None
            vars(self).pop("_maps", None)
        return self

    def _expect_resize(self, shape: Shape) -> None:
        """Raise unless the model can be resized to inputs of this shape."""
        try:
            self.output_shape(shape)
            self._check_resize(shape)
        except ValueError as error:
            raise ValueError(
                f"{self.name}: resize: expected a shape that all layers take with the weights that they have; "
                f"got {shape}: {str(error).removeprefix(f'{self.name}: ')}"
            ) from None

    def forward(self, input: Any) -> Array:
        """Return the model's output for a batch, as a layer does; uint8 is scaled to [0, 1], as in training.

        In prediction mode it is `predict(input)`, to the bit, and changes neither parameters nor running statistics.

        What `backward` needs is kept in the model: threads that call it take turns, and for several at once there is
        `predict`.
        """
        x = np.asarray(checks.unmasked(input, self.name, "input"))
        if x.dtype == np.uint8:
            x = x * (self._flat.dtype if self.input_shape else np.dtype(np.float32)).type(1 / 255)
        if self.training:
            with self._lock:
                self._seen = None
                return super().forward(x)
        x = checks.as_images(x, self.name, "input")
        self._check_input(x)
        with self._lock:
            self._create_for(x)
            self._seen = x.astype(self._flat.dtype)  # a copy
        return self.predict(input)

    def backward(self, dL_dout: Any, learning_rate: float | None = None) -> Array:
        """Return the gradient of the loss with respect to the last input; see `Layer.backward`.

        After a `forward` in prediction mode it computes the maps that it needs first.
        """
        with self._lock:
            if self._seen is not None:
                x, self._seen = self._seen, None
                self._executable_for(x).forward(x, training=False)
            return super().backward(dL_dout, learning_rate)

    def predict(self, x: Any, batch_size: int = 256, threads: int | None = None, *, views: str | None = None) -> Array:
        """Return the outputs for a batch of any length, as in prediction, whatever `training` says.

        Several Python threads may call it at once. What is written to the parameters counts from the next call.

        Parameters
        ----------
        x : array of shape (N, C, H, W) or (N, D)
            Real numbers; uint8 is scaled to [0, 1].
        batch_size : int
            The most images that are in memory as feature maps, in all threads together.
        threads : int, optional
            The most threads of this call; `fastcnn.get_num_threads()` if not given.
        views : str, optional
            Test-time augmentation: the mean of the outputs for several views of each image, words separated by commas.
            "flip", "vertical-flip": the image and its mirror image. "shift=k": the image (half of the weight), and
            shifted by k pixels up and left, down and right (a quarter each). "crop": of images that are larger than the
            model's input, the middle and the four corners.

        Returns
        -------
        array of shape (N, ...), of the parameters' dtype
            The last layer's output: for a model that is trained with cross-entropy, the logits.

        Raises
        ------
        RuntimeError
            If the model is not built.
        TypeError, ValueError
            If `x` is not what the model was built for.
        """
        if views is not None:
            self._expect_built("predict")
            chosen = as_views(views, self.name)
            return predict_views(
                lambda seen: self.predict(seen, batch_size, threads), x, chosen, self.input_shape, self.name
            )
        predictors = self._predictors
        if predictors is not None and predictors.flat is self._flat:
            output = predictors.repeat(x, batch_size, threads)
            if output is not None:
                return output
        self._expect_built("predict")
        images = self._as_batch(x, "x")
        checks.as_positive_int(batch_size, self.name, "batch_size")
        workers = parallel.get_num_threads() if threads is None else parallel.check_threads(threads)
        if predictors is None or predictors.flat is not self._flat:
            predictors = self._predictors = Predictors(self)
        return predictors.predict(self, images, batch_size, workers)

    def outputs(
        self, X: Any, layers: Any = None, *, batch_size: int = 256, threads: int | None = None
    ) -> dict[Any, Array]:
        """Return the feature maps behind each layer, as in prediction; nothing in the model changes.

        Parameters
        ----------
        X : array of shape (N, C, H, W) or (N, D)
            As `predict` takes it.
        layers : int, str, or sequence of them, optional
            Which layers: by their place in the row, negative from the end; by place as a word, as in the names of
            parameters and in `summary`, `"0"` or `"3.layers.1"` for one inside a residual block; or by a layer's own
            name. Not given: all, those inside others too, in order.
        batch_size, threads : int
            As in `predict`.

        Returns
        -------
        dict of array, of shape (N, C, H, W) or (N, D) each
            By what was asked for; without `layers` by place, `"0"`, `"1"`, ... In the parameters' dtype.

        Raises
        ------
        RuntimeError
            If the model is not built.
        TypeError, ValueError
            If `X` is not what the model was built for, or a layer is none of the model's.

        Notes
        -----
        Each layer is computed by itself: behind a `ReLU` and before it there are two maps. `predict` computes several
        layers in one pass and folds batch norms into filters, so that its last bits may differ.

        Examples
        --------
        >>> import numpy as np
        >>> from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
        >>> model = Sequential([Conv2D(16, 3, name="first"), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
        >>> maps = model.build((1, 8, 8), random_state=0).outputs(np.ones((4, 1, 8, 8)), ["first", 2, -1])
        >>> {place: array.shape for place, array in maps.items()}
        {'first': (4, 16, 6, 6), 2: (4, 16, 3, 3), -1: (4, 10)}
        """
        from . import maps

        self._expect_built("outputs")
        wanted = maps.chosen(self, layers, f"{self.name}: outputs")
        images = self._as_batch(X, "X")
        checks.as_positive_int(batch_size, self.name, "batch_size")
        workers = parallel.get_num_threads() if threads is None else parallel.check_threads(threads)
        mine = vars(self).pop("_maps", None)  # None in the first call, or while another thread has it
        if mine is None or mine.flat is not self._flat:
            mine = maps.FeatureMaps(self)
        found = mine.outputs(self, images, wanted.values(), batch_size, workers)
        self._maps = mine
        return {one: found[place] for one, place in wanted.items()}

    def _as_batch(self, x: Any, argument: str) -> Array:
        """Return a batch that the built model takes: integers and half precision as they are."""
        images = np.asarray(checks.unmasked(x, self.name, argument))
        if images.dtype != self._flat.dtype or images.shape[1:] != self.input_shape or not len(images):
            if images.dtype.kind not in "iub" and images.dtype != np.float16:
                images = checks.as_images(images, self.name, argument)
            self._check_input(images)
        return images

    def summary(self, input_shape: Shape | None = None, batch_size: int = 32) -> str:
        """Return a table of the layers: output shapes, parameters, floating-point operations, memory of a step.

        Parameters
        ----------
        input_shape : tuple of int, optional
            (C, H, W) or (D,); needed if the model is not built, which it is not afterwards either.
        batch_size : int
            Images of the training step whose memory is told.

        Examples
        --------
        >>> from fastcnn import Dense, Flatten, ReLU, Sequential
        >>> print(Sequential([Flatten(), Dense(32), ReLU(), Dense(10)]).summary((1, 8, 8)))
        place  layer    output  parameters   FLOP
        0      Flatten  64               0      0
        1      Dense    32           2,080  4,096
        2      ReLU     32               0      0
        3      Dense    10             330    640
        total                        2,410  4,736
        A training step of 32 images: 0.32 MFLOP, about 0.1 MB in memory.
        """
        checks.as_positive_int(batch_size, self.name, "batch_size")
        model = self
        if input_shape is not None and tuple(input_shape) != self.input_shape:
            model = self.copy().build(input_shape, random_state=0)
        model._expect_built("summary")
        return summarize(model, batch_size)

    def _repr_html_(self) -> str:
        """Return a drawing of the layers for a notebook."""
        from . import drawing

        return drawing.draw(self)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what predictions have left behind."""
        state = {**super().__getstate__(), "_predictors": None, "_seen": None}
        state.pop("_maps", None)
        return state

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: int) -> Layer: ...

    @overload
    def __getitem__(self, key: slice) -> Sequential: ...

    def __getitem__(self, key: int | slice) -> Layer | Sequential:
        if isinstance(key, slice):
            return self._slice(key)
        if isinstance(key, bool) or not hasattr(key, "__index__"):
            raise TypeError(f"{self.name}: expected the place of a layer, an int, or a slice such as [:3]; got {key!r}")
        if not -len(self.layers) <= key < len(self.layers):
            raise IndexError(f"{self.name}: expected a place below {len(self.layers)}, that of a layer; got {key}")
        return self.layers[key]

    def _slice(self, key: slice) -> Sequential:
        """Return a model of copies of some layers in a row, built if this one is."""
        if key.step not in (None, 1):
            raise ValueError(f"{self.name}: expected a slice of layers in a row, without a step; got step {key.step}")
        first, last, _ = key.indices(len(self.layers))
        if first >= last:
            raise ValueError(
                f"{self.name}: expected a slice with at least one of the {len(self.layers)} layers; "
                f"got none in [{'' if key.start is None else key.start}:{'' if key.stop is None else key.stop}]"
            )
        with self._lock:
            part = Sequential([layer.copy() for layer in self.layers[first:last]], fuse=self.fuse)
            part._mode, part._training = self._mode, self._training
            if self.input_shape is not None:
                _, inside, _ = [*row_shapes(self.layers, self.input_shape, self.name)][first]
                part._build_unasked(inside, random_state=0, dtype=self._flat.dtype)
        return part

    def _inner_rows(self) -> Iterator[list[tuple[str, Layer]]]:
        yield [*self._children()]

    def _children(self) -> Iterator[tuple[str, Layer]]:
        for place, layer in enumerate(self.layers):
            yield str(place), layer

    def _inner_shapes(self, input_shape: Shape) -> Iterator[tuple[Layer, Shape]]:
        for layer, inside, _ in row_shapes(self.layers, input_shape, self.name):
            yield layer, inside

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        graph.fuse = graph.fuse and self.fuse
        return lower_row(graph, self.layers, x)
