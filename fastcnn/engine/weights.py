"""Where a layer's weights live: the parameters in one flat vector, with public views, and the state beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np

from ..digest import digest
from ..settings import Fixed
from ..typing import Array, Gradients, Shape
from ..views import Views
from .arrays import aligned_zeros, owned
from .parameter import Parameter


class Weights(Fixed):
    """The weights of a layer: its parameters, which are trained, and its state, which is not."""

    input_shape: Shape | None
    parameters: Views
    _frozen_outside = False  # by a layer that this one is a part of

    def __init__(self) -> None:
        self._keep(input_shape=None, parameters=Views())
        self._specs: dict[str, Parameter] = {}
        self._flat: Array = np.zeros(0)
        self._stored: Gradients = {}

    def _keep(self, **attributes: Any) -> None:
        """Set attributes that are read-only for others."""
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    @property
    def name(self) -> str:
        """The name that error messages use."""
        return type(self).__name__

    @property
    def _size(self) -> int:
        """Numbers in the flat vector of all parameters."""
        return sum(spec.size for spec in self._specs.values())

    def _bind(self, flat: Array) -> None:
        """Let the parameters live in `flat`."""
        self._flat = flat
        self._stored = self._storage(flat)
        self._keep(parameters=self._show(flat))

    def _show(self, flat: Array) -> Views:
        """Return the public views of a flat vector of parameters or gradients."""
        pieces = zip(self._specs.items(), self._pieces(flat), strict=True)
        return Views({name: spec.show(piece) for (name, spec), piece in pieces})

    def _pieces(self, flat: Array) -> list[Array]:
        """Return each parameter's piece of a flat vector."""
        pieces, start = [], 0
        for spec in self._specs.values():
            pieces.append(flat[start : start + spec.stored_size])
            start += spec.size
        return pieces

    def _storage(self, flat: Array) -> Gradients:
        """Return the pieces by name, flat, as operations read them."""
        return dict(zip(self._specs, self._pieces(flat), strict=True))

    def _trains(self, name: str) -> bool:
        """Tell whether training changes a parameter."""
        return True

    def _values(self, name: str, dtype: np.dtype) -> Array:
        """Return a parameter's flat storage in the dtype of the computation."""
        stored = self._stored[name]
        return stored if stored.dtype == dtype else owned(stored.astype(dtype))

    def _state(self) -> dict[str, Array]:
        """Return the arrays that belong to the layer's values but are not trained, such as running statistics."""
        return {}

    def _weights(self) -> dict[str, Array]:
        """Return everything that makes the layer compute what it computes: parameters, then state."""
        return {**self.parameters, **self._state()}

    def get_weights(self) -> list[Array]:
        """Return copies of all parameters and running statistics.

        Returns
        -------
        list of array
            Layer by layer, in each first the parameters, then the running statistics: the order of Keras. (By name,
            and as views, the parameters are in `parameters`.)

        Raises
        ------
        RuntimeError
            If the layer is not built.
        """
        self._expect_built("get_weights")
        return [array.copy() for array in self._weights().values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Copy a list as `get_weights` returns it into the parameters and running statistics.

        Raises
        ------
        RuntimeError
            If the layer is not built.
        ValueError
            If the number of arrays or a shape differs; nothing is changed then.
        """
        self._expect_built("set_weights")
        own = self._weights()
        arrays = [np.asarray(array) for array in weights]
        if len(arrays) != len(own):
            raise ValueError(f"{self.name}: set_weights: expected {len(own)} arrays; got {len(arrays)}")
        for (name, target), array in zip(own.items(), arrays, strict=True):
            if array.shape != target.shape:
                raise ValueError(
                    f"{self.name}: set_weights: {name}: expected shape {target.shape}; got shape {array.shape}"
                )
        for target, array in zip(own.values(), arrays, strict=True):
            target[...] = array

    def digest(self) -> str:
        r"""Return the SHA-256 of all parameters and running statistics: equal digests are equal bits.

        Two trainings with the same seed, data and release have the same digest on any processor with fused
        multiply-add; `docs/reproducibility.md` says what is promised.

        Returns
        -------
        str
            64 hexadecimal digits. In the order of the names, as Python sorts text, each array adds a header in UTF-8,
            `name dtype shape` and a line feed (such as `0.filters float32 16,1,3,3`), and its bytes: little-endian, C
            order, in the public shape.

        Raises
        ------
        RuntimeError
            If the layer is not built.

        Examples
        --------
        >>> import numpy as np
        >>> from hashlib import sha256
        >>> from fastcnn import Dense, Sequential
        >>> model = Sequential([Dense(3)]).build((2,), random_state=0)
        >>> model.digest()[:8]
        '28389c7e'
        >>> weights, biases = (model.parameters[name].astype("<f4") for name in ("0.weights", "0.biases"))
        >>> parts = b"0.biases float32 3\n", biases.tobytes(), b"0.weights float32 2,3\n", weights.tobytes()
        >>> sha256(b"".join(parts)).hexdigest() == model.digest()
        True
        """
        self._expect_built("digest")
        return digest(self._weights())

    def _expect_built(self, method: str) -> None:
        if self.input_shape is None:
            raise RuntimeError(f"{self.name}: {method}: not built yet: call build(input_shape) first")

    def _get(self, name: str) -> Array:
        """Return a parameter, or an array of the state; it exists once the input's shape is known."""
        weights = self._weights()
        if name not in weights:
            raise AttributeError(f"{self.name}: {name}: not there before build(input_shape) or the first forward")
        return weights[name]

    def _set(self, name: str, value: Any) -> None:
        """Copy `value` into a parameter, or into an array of the state."""
        array, target = np.asarray(value), self._get(name)
        if array.shape != target.shape:
            raise ValueError(f"{self.name}: {name}: expected shape {target.shape}; got shape {array.shape}")
        target[...] = array


class ArrayProperty(property):
    """A parameter of a layer, or an array of its state: read as a view, set by a copy into it."""

    def __init__(self, doc: str) -> None:
        super().__init__(self._read, self._write)
        self.__doc__ = doc  # the class has one too, which would hide that of a property

    def __set_name__(self, kind: type, name: str) -> None:
        self.name = name

    if TYPE_CHECKING:

        @overload
        def __get__(self, layer: None, kind: type, /) -> Self: ...

        @overload
        def __get__(self, layer: Any, kind: type | None = None, /) -> Array: ...

        def __get__(self, layer: Any, kind: type | None = None, /) -> Any: ...

    def _read(self, layer: Weights) -> Array:
        return layer._get(self.name)

    def _write(self, layer: Weights, value: Any) -> None:
        layer._set(self.name, value)


def gradient_places(by_layer: dict[Weights, Gradients]) -> dict[Weights, Gradients]:
    """Return where operations leave the gradients of each layer: what is frozen has another place than `by_layer` says.

    So its gradient stays zero in the flat vector, also where a kernel computes it together with others.
    """
    frozen = [(named, name) for layer, named in by_layer.items() for name in named if not layer._trains(name)]
    if frozen:
        size = max(named[name].size for named, name in frozen)
        beside = aligned_zeros(size, frozen[0][0][frozen[0][1]].dtype)
        for named, name in frozen:
            named[name] = beside[: named[name].size]
    return by_layer
