"""The protocol of all layers: shapes, parameters, and the notebook's `forward` and `backward`, written once."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from .. import checks, hints
from ..engine.arrays import aligned_zeros
from ..engine.executable import Executable
from ..engine.executable_cache import ExecutableCache
from ..engine.ir import Graph
from ..engine.parameter import Parameter
from ..engine.weights import Weights
from ..ops.epilogue import NOTHING, Epilogue
from ..ops.numpy_formula import NumpyFormula, NumpyOp
from ..runtime.exclusive import Exclusive
from ..typing import Array, Gradients, RandomState, Shape
from ..views import Views
from .repr import call


class Layer(Weights, Exclusive, hints.Called):
    """A layer owns parameters and formulas; the caller owns the memory.

    A subclass says the shape that it returns, its parameters, and the blocks that compute it. `forward` and `backward`
    take and return public arrays, (N, C, H, W) or (N, D), and remember the last input.

    **A layer of your own** says its formula in plain NumPy, `_forward(x) -> y`, and the gradient,
    `_backward(x, y, dL_dout) -> dL_dinput`; with parameters `-> (dL_dinput, {name: gradient})`, summed over the batch.
    `output_shape` is needed where it is not the input's shape. Arrays are (n, C, H, W), or (n, D) for features: `n`
    images of a batch, which several threads may share out, so a layer keeps nothing on `self` in between.

    Each layer takes `name=...`, by which messages call it, and searches find it in a list: `layers__first__nodes`.
    Layers with parameters, and those that are made of layers, take `trainable=...`.

    Parameters
    ----------
    name : str, optional
        By which messages call the layer, and searches find it.
    trainable : bool
        Whether a `Trainer` changes the parameters.

    Attributes
    ----------
    parameters, gradients : dict of str to array
        Writable views with equal keys; `gradients` is empty before the first `backward`. An array that is assigned to a
        name is copied into the view.
    input_shape : tuple of int or None
        (C, H, W) or (D,), known after `build` or the first `forward`.
    trainable : bool or tuple of str
        Whether training changes the parameters, or which of them, by name. What is frozen has no gradient (zeros in
        `gradients`), optimizers leave it alone, and where nothing before a layer trains, backward ends there. Running
        statistics are no parameters: a frozen `BatchNorm` goes on with them, as in PyTorch.
    training : bool
        Whether `forward` computes as in training, True at first; set, it is for all layers inside too. The layers of a
        built model have the model's mode: on a layer inside it cannot be set. A `Trainer` trains all layers of its
        model, and predicts in its validation, whatever the model's `training` says; see `Trainer`.

    See Also
    --------
    Parameter : How a parameter of a layer is stored.
    Sequential : Layers in a row.
    check_gradients : Compares gradients with finite differences.

    Notes
    -----
    The constructor's arguments are read-only: the calls of a step are recorded, and would not see another value.
    Another value needs a new layer, and a new model that it is a part of; `layer.copy()` brings the weights of the
    others. (A layer of your own in plain NumPy is called anew in each step: its attributes take effect at the next.)

    Examples
    --------
    A ReLU that learns its slope below zero, one for each channel (He et al., ICCV 2015):

    >>> import numpy as np
    >>> from fastcnn import Conv2D, Dense, Flatten, Layer, Parameter, Sequential, Trainer
    >>> class PReLU(Layer):
    ...     def _parameters(self, input_shape):
    ...         return {"slope": Parameter((input_shape[0], 1, 1), initial=0.25)}
    ...
    ...     def _forward(self, x):
    ...         return np.where(x > 0, x, self.parameters["slope"] * x)
    ...
    ...     def _backward(self, x, y, dL_dout):
    ...         below = np.where(x > 0, 0, x)
    ...         dL_dinput = np.where(x > 0, 1, self.parameters["slope"]) * dL_dout
    ...         return dL_dinput, {"slope": (below * dL_dout).sum(axis=(0, 2, 3), keepdims=True)[0]}
    >>> model = Sequential([Conv2D(8, 3), PReLU(), Flatten(), Dense(10)]).build((1, 8, 8), random_state=0)
    >>> model.parameters["1.slope"].shape
    (8, 1, 1)
    >>> loss = Trainer(model).step(np.ones((4, 1, 8, 8)), np.array([0, 1, 2, 3]))
    """

    _gradients: Views | None  # of `_flat_gradients`; None until they are asked for
    _training = True
    _name: str | None = None  # the layer's own
    _trainable: bool | tuple[str, ...] = True
    _mode: bool | None = None  # the mode that was set on this very layer, not on one that it is a part of

    # Fusion: by which word other layers absorb this one in the same pass, and the rows of words that this one absorbs,
    # the longest first.
    fuses_as: str = ""
    absorbs: tuple[tuple[str, ...], ...] = ()
    absorbs_in_prediction: tuple[tuple[str, ...], ...] | None = None  # where it differs

    def __init_subclass__(cls) -> None:
        """Let a class that says its own formula compute by it, whatever its base class fuses with."""
        super().__init_subclass__()
        if "_forward" in vars(cls) and "_lower" not in vars(cls):
            cls._lower, cls.fuses_as, cls.absorbs = Layer._lower, "", ()  # type: ignore[method-assign]
            cls.absorbs_in_prediction = None

    def __init__(self, *, name: str | None = None, trainable: bool | Sequence[str] = True) -> None:
        super().__init__()
        self._open()
        self._name = _checked_name(name)
        self._trainable = _checked_trainable(trainable, self.name)
        self._owner: Array | None = None  # the flat vector of the model that the layer is a part of
        self._flat_gradients: Array = np.zeros(0)
        self._gradients = Views()
        self._executables = ExecutableCache()

    def _arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments: a layer keeps them as attributes of the same names."""
        names = inspect.signature(type(self)).parameters
        own = {"name": self._name} if "name" in names else {}
        return {**{name: getattr(self, name) for name in names if hasattr(self, name)}, **own}

    @property
    def name(self) -> str:
        """The name that error messages use: the layer's own, or that of its class."""
        return self._name or type(self).__name__

    @property
    def trainable(self) -> bool | tuple[str, ...]:
        """Whether training changes the parameters, or the names of those that it changes."""
        return self._trainable

    def _fixed_by(self) -> type | None:
        return Layer if type(self)._lower is Layer._lower else type(self)  # NumPy formulas are called anew

    def _instead(self, name: str) -> str:
        if name in ("parameters", "gradients"):
            return f"write into its arrays, {name}[name][...] = array, or call set_weights"
        if name == "input_shape":
            return "call build(input_shape)"
        return f"make a new {self.name}, and a new model with it"

    if not TYPE_CHECKING:  # which would take any name for one of a layer

        def __getattr__(self, name: str) -> NoReturn:
            """Raise: a layer has no such attribute, or its constructor has not begun with that of its base class."""
            if "_flat_gradients" not in vars(self) and not name.startswith("__"):
                kind = type(self).__name__
                raise AttributeError(
                    f"{kind}: {name}: not there yet: `super().__init__()` begins the __init__ of a layer"
                )
            if hasattr(type(self), name):  # a property, whose own error comes again
                object.__getattribute__(self, name)
            raise hints.no_attribute(self, name)

    def __repr__(self) -> str:
        """Return the call that makes such a layer; what is as usual is left out."""
        return call(type(self), self._arguments())

    @property
    def gradients(self) -> Views:
        """Views of the last gradients, by the names of the parameters."""
        if self._gradients is None:  # a training loop need not look at each
            self._gradients = self._show(self._flat_gradients)
        return self._gradients

    # What a subclass says.

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output for one input of `input_shape`, batch axis left out.

        Parameters
        ----------
        input_shape : tuple of int
            (C, H, W) or (D,), the batch axis left out.
        """
        return input_shape

    def _parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        """Return how the parameters are stored."""
        return {}

    def _forward(self, x: Array) -> Array:
        """Return the output for a batch: a layer in plain NumPy."""
        raise NotImplementedError(f"{self.name}: _forward(x) -> y: a layer of your own says its formula here")

    def _backward(self, x: Array, y: Array, dL_dout: Array) -> Array | tuple[Array, dict[str, Array]]:
        """Return the gradient of the input; with parameters a pair, the second part their gradients by name."""
        raise NotImplementedError(f"{self.name}: _backward(x, y, dL_dout): a layer of your own says its gradient here")

    def _lower(self, graph: Graph, x: int, absorbed: Sequence[Layer] = ()) -> int:
        """Add the layer's operations, with the layers that they absorb, behind the value `x`; return the output."""
        assert self.input_shape is not None
        shape: Shape = graph.shapes[x][: len(self.input_shape)]
        formula = NumpyFormula(self._forward, self._backward, shape, self.output_shape(shape))
        return graph.add(NumpyOp(self, x, graph.value(formula.output_shape), formula))

    def _fuse(self, epilogue: Epilogue) -> Epilogue:
        """Return the epilogue of an operation that absorbs this layer, behind `epilogue`."""
        raise NotImplementedError

    # Training and prediction.

    @property
    def training(self) -> bool:
        """Whether layers that differ between training and prediction are in training."""
        return self._training

    @training.setter
    def training(self, training: bool) -> None:
        if self._owner is not None:
            raise AttributeError(
                f"{self.name}: training: read-only in a part of a built model, all of whose layers are in one mode; "
                f"got {training!r}: set that of the model"
            )
        for layer in self._modes():
            layer._mode = None
        self._mode = bool(training)
        self._enter_mode(self._mode)

    def _enter_mode(self, training: bool) -> None:
        """Let this layer and all inside compute as in training or not."""
        for layer in self._modes():
            layer._training = training

    def train(self, training: bool = True) -> Self:
        """Let `forward` compute as in training, for this layer and all inside; return the layer.

        Parameters
        ----------
        training : bool
            False for prediction, as `eval` says.
        """
        self.training = training
        return self

    def eval(self) -> Self:
        """Let `forward` compute as in prediction, for this layer and all inside; return the layer."""
        return self.train(False)

    # Parameters.

    def build(self, input_shape: Shape, dtype: Any = np.float64, random_state: RandomState = None) -> Layer:
        """Create the parameters for inputs of `input_shape`, (C, H, W) or (D,), and return the layer.

        `random_state` serves where the layer has none of its own. A layer that is built already begins anew.

        Parameters
        ----------
        input_shape : tuple of int
            (C, H, W) or (D,), the batch axis left out.
        dtype : float32 or float64
            Of the parameters.
        random_state : None, int, RandomState or Generator
            For the first parameters.

        Raises
        ------
        RuntimeError
            If the layer is a part of a model: its parameters are that model's.
        """
        shape = checks.check_input_shape(input_shape, self.name)
        if self._owner is not None:
            raise RuntimeError(f"{self.name}: build: it is a part of a model: build that, or a copy of it")
        self.output_shape(shape)
        self._frozen_outside = False
        self._create(shape, checks.as_float_dtype(dtype, self.name), self._draws_from(random_state))
        return self

    def _draws_from(self, random_state: RandomState) -> RandomState:
        """Return the layer's own random state, or, if it has none, that of the caller."""
        own: RandomState = getattr(self, "random_state", None)
        return random_state if own is None else own

    def _join(self, owner: Array, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        """Build as a part of a model, known by its flat vector: a layer that comes with weights keeps them."""
        if self._owner is not None and self._owner is not owner:
            raise ValueError(
                f"{self.name}: this object is a part of another model, and a layer has room for the parameters of one: "
                "give each model layers of its own, such as layer.copy(), which has the same weights"
            )
        self._frozen_outside = False
        brought = self.get_weights() if self._owner is None and self._has_weights() else []
        before, precision = self.input_shape, self._flat.dtype
        self._create(shape, dtype, self._draws_from(random_state))
        if not brought:
            return
        try:
            self.set_weights(brought)
        except ValueError:
            assert before is not None
            self._create(before, precision, 0)
            self.set_weights(brought)
            raise ValueError(
                f"{self.name}: input: expected samples of shape {before}, for which the weights that the layer brings "
                f"were made; got {shape}"
            ) from None

    def _has_weights(self) -> bool:
        """Tell whether there are weights to keep when the layer joins a model."""
        return self.input_shape is not None

    def _create(self, shape: Shape, dtype: np.dtype, random_state: RandomState) -> None:
        generator = checks.as_generator(random_state)
        self._keep(input_shape=shape)
        self._gradients = Views()
        self._specs = self._parameters(shape)
        self._check_trainable()
        self._executables = ExecutableCache()
        self._bind(aligned_zeros(self._size, dtype))
        self._flat_gradients = np.zeros(0)
        for name, spec in self._specs.items():
            self.parameters[name][...] = spec.draw(generator)

    def _check_resize(self, shape: Shape) -> None:
        """Raise unless the parameters for inputs of another shape are of the shapes that they have."""
        for name, spec in self._parameters(shape).items():
            own = self._specs[name].shape
            if spec.shape != own:
                raise ValueError(
                    f"{self.name}: {name} have the shape {own}, and would have {spec.shape} for inputs of {shape}: "
                    "they depend on the size of the maps; with GlobalAvgPool2D in place of Flatten, Dense is free of it"
                )

    def _resize(self, shape: Shape) -> None:
        """Take inputs of another shape from now on; `_check_resize` has agreed."""
        self._keep(input_shape=shape)
        self._executables = ExecutableCache()

    def _check_trainable(self) -> None:
        """Raise if a name of `trainable` is that of no parameter."""
        names = () if isinstance(self._trainable, bool) else self._trainable
        for name in names:
            if name not in self._specs:
                known = ", ".join(self._specs) or "none"
                raise ValueError(f"{self.name}: trainable: expected names of parameters ({known}); got {name!r}")

    def _trains(self, name: str) -> bool:
        if self._frozen_outside:
            return False
        return self._trainable if isinstance(self._trainable, bool) else name in self._trainable

    def _bind(self, flat: Array) -> None:
        self._executables = ExecutableCache()
        super()._bind(flat)

    # The notebook's way of working.

    def forward(self, input: Any) -> Array:
        """Return the layer's output for a batch.

        Parameters
        ----------
        input : array of shape (N, C, H, W) or (N, D)
            Real numbers; float32 and float64 keep their precision throughout.

        Returns
        -------
        array of shape (N, ...)

        Raises
        ------
        TypeError, ValueError
            If dtype or shape are not what the layer expects; its parameters stay as they are.
        """
        x = checks.as_images(input, self.name, "input")
        with self._lock:
            return self._executable_for(x).forward(x, self.training)

    def _executable_for(self, x: Array) -> Executable:
        """Return the executable for batches such as `x`; the first one creates the parameters."""
        executable = self._executables.find(x)
        if executable is None:
            last = self._executables.last
            self._check_input(x)
            self._create_for(x)
            executable = self._executables.compile(self, x, last.calls if last else 0)
        return executable

    def _create_for(self, x: Array) -> None:
        """Create the parameters from a batch, if there are none yet; a layer without any takes any shape."""
        if self.input_shape is None or (not self._size and x.shape[1:] != self.input_shape):
            self.output_shape(x.shape[1:])
            self._create(x.shape[1:], x.dtype, self._draws_from(None))

    def backward(self, dL_dout: Any, learning_rate: float | None = None) -> Array:
        """Return the gradient of the loss with respect to the last input.

        Parameters
        ----------
        dL_dout : array
            Gradient with respect to the last output, of the output's shape.
        learning_rate : float, optional
            If given, take the notebook's step, `p -= learning_rate · gradient / N`, in place.

        Raises
        ------
        RuntimeError
            If there was no `forward` before.
        ValueError, TypeError
            If `dL_dout` has another shape than the last output, or is not made of real numbers.
        """
        with self._lock:
            return self._backward_of_last(dL_dout, learning_rate)

    def _backward_of_last(self, dL_dout: Any, learning_rate: float | None) -> Array:
        executable = self._executables.last
        if executable is None or not executable.ready:
            raise RuntimeError(f"{self.name}: backward: call forward first: the gradient belongs to its input")
        gradient = checks.as_images(dL_dout, self.name, "dL_dout")
        if gradient.shape != executable.output_shape:
            raise ValueError(
                f"{self.name}: dL_dout: expected shape {executable.output_shape}, that of the last output; "
                f"got shape {gradient.shape}"
            )
        dL_dinput = executable.backward(gradient)
        if executable.gradient.size:
            flat = executable.gradient.copy()
            vars(self).update(_flat_gradients=flat, _gradients=None)  # past `__setattr__`, which takes 0.4 µs
            if learning_rate is not None:
                np.subtract(self._flat, np.multiply(flat, learning_rate / len(gradient)), self._flat)
        return dL_dinput

    def _extra_state(self) -> dict[str, int]:
        """Return the whole numbers, besides the weights, that the layer's values depend on: what a file keeps."""
        return {}

    def _set_extra_state(self, state: Mapping[str, int]) -> None:
        """Take in what `_extra_state` has returned."""

    def _modes(self) -> Iterator[Layer]:
        """Yield this layer and all layers inside, which change between training and prediction together."""
        yield self

    def _gradients_by_layer(self, flat: Array) -> dict[Weights, Gradients]:
        """Return where the parameters of each layer lie in a flat vector."""
        return {self: self._storage(flat)}

    def _check_input(self, x: Array) -> None:
        """Raise unless `x` is a batch that the layer takes."""
        if x.ndim not in (2, 4):
            raise ValueError(
                f"{self.name}: input: expected images (N, C, H, W) or features (N, D); "
                f"got {x.ndim} axes, shape {x.shape}"
            )
        if x.size == 0:
            raise ValueError(f"{self.name}: input: expected at least one number; got an empty batch, shape {x.shape}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a call has left behind, plans and buffers, and how this machine stores parameters."""
        left_out = {"_executables", "_lock", "_specs", "_stored", "_flat", "_owner", "_gradients", "_flat_gradients"}
        kept = {name: value for name, value in self.__dict__.items() if name not in left_out}
        parameters = {name: np.ascontiguousarray(array) for name, array in self.parameters.items()}
        return {**kept, "parameters": parameters, "dtype": self._flat.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the parameters, stored as this machine's kernels read them."""
        Layer.__init__(self)
        parameters, dtype = state.pop("parameters"), state.pop("dtype")
        self.__dict__.update(state)
        for argument in inspect.signature(type(self)).parameters.values():
            # A pickle of a former version lacks arguments that have come since; their defaults do what was done then.
            if argument.default is not argument.empty and not hasattr(self, argument.name):
                self.__dict__[argument.name] = argument.default
        if self.input_shape is not None:
            self._restore(parameters, dtype)

    def _restore(self, parameters: dict[str, Array], dtype: np.dtype) -> None:
        assert self.input_shape is not None
        self._specs = self._parameters(self.input_shape)
        self._bind(aligned_zeros(self._size, dtype))
        for name, array in parameters.items():
            self.parameters[name][...] = array

    def copy(self) -> Self:
        """Return an independent copy: the same layers, parameters and running statistics, but no gradients."""
        return copy.deepcopy(self)


def epilogue_of(absorbed: Sequence[Layer]) -> Epilogue:
    """Return what absorbed layers compute behind an operation."""
    epilogue = NOTHING
    for layer in absorbed:
        epilogue = layer._fuse(epilogue)
    return epilogue


def shape_behind(layers: Sequence[Layer], shape: Shape) -> Shape:
    """Return the shape behind a row of layers."""
    for layer in layers:
        shape = layer.output_shape(shape)
    return shape


def _checked_trainable(value: Any, owner: str) -> bool | tuple[str, ...]:
    """Return whether all parameters train, or the names of those that do."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    is_row = isinstance(value, Sequence) and not isinstance(value, str)
    if not (is_row and all(isinstance(name, str) for name in value)):
        raise TypeError(f"{owner}: trainable: expected True, False or a sequence of names; got {value!r}")
    return tuple(value)


def _checked_name(name: Any) -> str | None:
    """Return the name of a layer, if it can be one: a word that stands for no place, and without two underscores."""
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name: expected a word or None; got {name!r}")
    if name is not None and (not name.isidentifier() or "__" in name):
        raise ValueError(f"name: expected letters, digits and single underscores, a letter first; got {name!r}")
    return name
