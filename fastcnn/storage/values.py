"""Values as JSON and back: numbers, words, rows of them, arrays, and the calls that make things of a fixed table.

A number, a word, None and a list stand for themselves. All else is an object with one name that tells what it is:
`{"float": "nan"}`, `{"tuple": [...]}`, `{"dict": [[key, value], ...]}`, `{"tensor": name}`, `{"words": [...]}`,
`{"call": name, "arguments": {...}}`, and `{"custom": name, "arguments": {...}}` for a layer of a person's own. What a
call may make is in a table; no name that stands in a file is ever imported.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..layers.base import Layer
from ..typing import Array
from .errors import StorageError
from .layout import NAMES

Table = Mapping[str, type]


class Encoder:
    """Makes JSON of values, and gathers the tensors that it speaks of.

    Attributes
    ----------
    tensors : dict of str to array
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.tensors: dict[str, Array] = {}

    def encode(self, value: Any, place: str) -> Any:
        """Return a value as JSON; `place` is its path in the description, by which its tensors are named.

        Raises
        ------
        TypeError
            If it cannot be kept in a file.
        """
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, np.bool_):
            return bool(value)
        if isinstance(value, int | np.integer):
            return int(value)
        if isinstance(value, float | np.floating):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, np.ndarray):
            return self._array(value, place)
        if isinstance(value, list):
            return self._row(value, place)
        if isinstance(value, tuple):
            return {"tuple": self._row(value, place)}
        if isinstance(value, dict):
            pairs = [[self.encode(key, place), self.encode(one, f"{place}.{key}")] for key, one in value.items()]
            return {"dict": pairs}
        return self._call(value, place)

    def _is_known(self, thing: Any) -> bool:
        return self.table.get(type(thing).__name__) is type(thing)

    def _row(self, values: Sequence[Any], place: str) -> list[Any]:
        return [self.encode(value, f"{place}.{number}") for number, value in enumerate(values)]

    def _array(self, array: Array, place: str) -> Any:
        if array.dtype.newbyteorder("<") in NAMES:
            self.tensors[place] = array
            return {"tensor": place}
        if array.dtype.kind in "UO" and array.ndim == 1 and all(_is_word(value) for value in array.tolist()):
            kind = "object" if array.dtype.kind == "O" else array.dtype.newbyteorder("<").str
            return {"words": array.tolist(), "dtype": kind}
        raise TypeError(f"{place}: arrays of {array.dtype} and shape {array.shape} cannot be kept in a file")

    def _call(self, thing: Any, place: str) -> Any:
        name, kind = type(thing).__name__, type(thing)
        if self.table.get(name) is kind:
            how = "call"
        elif isinstance(thing, Layer):
            how = "custom"
        else:
            raise TypeError(f"{place}: {name} objects cannot be kept in a file; got {thing!r}"[:300])
        given = thing._arguments()
        for argument, known in inspect.signature(kind).parameters.items():
            if argument not in given or known.kind in (known.VAR_POSITIONAL, known.VAR_KEYWORD):
                raise TypeError(
                    f"{place}: {name}: {argument}: a layer that is kept in a file has each argument of its constructor "
                    "as an attribute of the same name"
                )
        if "random_state" in given and not isinstance(given["random_state"], int | np.integer):
            given["random_state"] = None  # what a generator has drawn is in the weights
        if "initializer" in given and not self._is_known(given["initializer"]):
            given["initializer"] = None  # likewise
        return {how: name, "arguments": {key: self.encode(value, f"{place}.{key}") for key, value in given.items()}}


class Decoder:
    """Makes values of JSON and the tensors of a file; a tensor serves once.

    Parameters
    ----------
    table : dict of str to type
    custom : dict of str to type
        The layers of a person's own that may be made.
    tensors : dict of str to array
    """

    def __init__(self, table: Table, custom: Table, tensors: Mapping[str, Array]) -> None:
        self.table, self.custom, self.tensors = table, custom, dict(tensors)

    def decode(self, value: Any, place: str) -> Any:
        """Return what JSON stands for; `place` is for the words of an error."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return self._row(value, place)
        if isinstance(value, dict):
            kind = next(iter(value), "")
            if value.keys() == {"float"} and value["float"] in ("nan", "inf", "-inf"):
                return float(value["float"])
            if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
                return tuple(self._row(value["tuple"], place))
            if value.keys() == {"dict"} and _are_pairs(value["dict"]):
                keys = [self.decode(key, place) for key, _ in value["dict"]]
                if all(_is_word(key) for key in keys):
                    values = (
                        self.decode(one, f"{place}.{key}") for key, (_, one) in zip(keys, value["dict"], strict=True)
                    )
                    return dict(zip(keys, values, strict=True))
            if value.keys() == {"tensor"}:
                return self.tensor(value["tensor"], place)
            if value.keys() == {"words", "dtype"}:
                return _words(value["words"], value["dtype"], place)
            if kind in ("call", "custom") and value.keys() == {kind, "arguments"}:
                return self._make(kind, value[kind], value["arguments"], place)
        raise StorageError(f"{place}: expected a value; got {str(value)[:80]}")

    def tensor(self, name: Any, place: str) -> Array:
        """Return a tensor, and take it out."""
        if not isinstance(name, str) or name not in self.tensors:
            raise StorageError(f"{place}: there is no tensor {str(name)[:80]!r}, or it serves twice")
        return self.tensors.pop(name)

    def done(self) -> None:
        """Raise if a tensor is left that nothing has asked for."""
        for name in self.tensors:
            raise StorageError(f"tensor {name[:80]!r}: nothing in the description asks for it")

    def _row(self, values: list[Any], place: str) -> list[Any]:
        return [self.decode(value, f"{place}.{number}") for number, value in enumerate(values)]

    def _make(self, how: str, name: Any, given: Any, place: str) -> Any:
        """Return what a call makes."""
        table = self.table if how == "call" else self.custom
        if not isinstance(name, str) or name not in table:
            if how == "custom":
                raise StorageError(
                    f"{place}: a layer of your own, {str(name)[:80]!r}: give its class: load(..., custom_layers=[...])"
                )
            raise StorageError(f"{place}: no layer or setting of fastcnn is called {str(name)[:80]!r}")
        known = inspect.signature(table[name]).parameters
        if not isinstance(given, dict) or not given.keys() <= known.keys():
            raise StorageError(f"{place}: {name}: expected arguments of {', '.join(known)}; got {str(given)[:80]}")
        values = {key: self.decode(value, f"{place}.{key}") for key, value in given.items()}
        try:
            return table[name](**values)
        except Exception as error:  # the arguments are what the file says
            raise StorageError(f"{place}: {error}") from error


def _is_word(value: Any) -> bool:
    return value is None or type(value) in (str, int, float, bool)


def _are_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)


def _words(values: Any, dtype: Any, place: str) -> Array:
    """Return an array of words."""
    if not (isinstance(values, list) and all(_is_word(value) for value in values) and isinstance(dtype, str)):
        raise StorageError(f"{place}: expected a list of words")
    longest = max((len(value) for value in values if isinstance(value, str)), default=0)
    if dtype != "object" and not (
        dtype.startswith("<U") and dtype[2:].isdecimal() and longest <= int(dtype[2:8]) <= max(1, 64 * longest)
    ):
        raise StorageError(f"{place}: expected words as object or <U{longest or 1}; got {dtype[:40]!r}")
    array = np.empty(len(values), dtype)
    array[:] = values
    return array


# The fields of a description.


def field(description: Any, name: str, kinds: Any, place: str = "description") -> Any:
    """Return a field, if it is of one of the kinds."""
    if not isinstance(description, dict) or name not in description:
        raise StorageError(f"{place}: expected a field {name!r}")
    value = description[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds in (int, int | None)):
        raise StorageError(f"{place}.{name}: expected {kinds}; got {str(value)[:80]}")
    return value
