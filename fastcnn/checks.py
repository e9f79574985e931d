"""What a layer refuses, and how it says so: the layer, the argument, what was expected, what came."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from . import draws
from .typing import Array, RandomState, Shape

MANY_CHANNELS = 8  # more than images have, fewer than they have rows
DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)


def unmasked(value: Any, layer: str, argument: str) -> Any:
    """Return `value`; raise ValueError if a part of it is masked: no mask is read, and what lies below is no data."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{layer}: {argument}: expected an array without masked numbers; got {np.count_nonzero(value.mask)} of "
            f"{value.size} masked: fill them (array.filled(0)), or leave their samples out"
        )
    return value


def as_images(value: Any, layer: str, argument: str) -> Array:
    """Return `value` as a float array: float32 and float64 stay, float16 becomes float32, all others float64."""
    if type(value) is np.ndarray and (value.dtype is DOUBLE or value.dtype is SINGLE):  # nearly always
        return value
    array = np.asarray(unmasked(value, layer, argument))
    dtype = array.dtype
    if dtype.char in "fd" and dtype.isnative:
        return array
    if array.dtype.kind == "f":  # half and long precision, and the other byte order
        return array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64)
    if array.dtype.kind in "iub":
        return array.astype(np.float64)
    raise TypeError(
        f"{layer}: {argument}: expected real numbers (float32, float64 or integers); got dtype {array.dtype}"
    )


def check_shape(array: Array, expected: tuple[int | None, ...], layer: str, argument: str, names: str) -> None:
    """Raise ValueError unless `array` has the `expected` shape; None stands for any size. `names` explains the axes."""
    agree = array.ndim == len(expected) and all(
        want is None or want == have for want, have in zip(expected, array.shape, strict=True)
    )
    if not agree:
        wanted = ", ".join("any" if want is None else str(want) for want in expected)
        raise ValueError(f"{layer}: {argument}: expected {names} of shape ({wanted}); got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{layer}: {argument}: expected at least one number; got an empty batch, shape {array.shape}")


def channels_last_words(shape: Shape) -> str:
    """Return what to say of a shape (C, H, W) that is more likely (H, W, C); nothing of others.

    Three or four columns, or one beside a square, are channels in nearly every data set; (12, 1000, 1), signals of
    twelve channels, is meant.
    """
    if len(shape) != 3 or min(shape[:2]) < MANY_CHANNELS:
        return ""
    channels, height, width = shape
    if width not in (3, 4) and not (width == 1 and channels == height):
        return ""
    return (
        f"samples of shape {shape} are read as {channels} channels of {height} x {width} pixels; "
        f"if they are images of {channels} x {height} pixels with the channels last, as Keras has them, "
        "give X.transpose(0, 3, 1, 2)"
    )


def as_bool(value: Any, layer: str, name: str) -> bool:
    """Return `value` if it is True or False; a number in its place is more likely one argument too many."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{layer}: {name}: expected True or False; got {value!r}")
    return bool(value)


def as_positive_int(value: Any, layer: str, name: str) -> int:
    """Return `value` if it is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{layer}: {name}: expected a positive int; got {value!r}")
    if value < 1:
        raise ValueError(f"{layer}: {name}: expected a positive int; got {value!r}")
    return int(value)


def as_number(
    value: Any,
    layer: str,
    name: str,
    at_least: float = -np.inf,
    at_most: float = np.inf,
    *,
    above: float = -np.inf,
    below: float = np.inf,
) -> float:
    """Return `value` if it is a finite real number within the bounds."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{layer}: {name}: expected a number; got {value!r}")
    if not (np.isfinite(value) and at_least <= value <= at_most and above < value < below):
        signs = ((">=", at_least), (">", above), ("<=", at_most), ("<", below))
        bounds = [f"{sign} {bound}" for sign, bound in signs if np.isfinite(bound)]
        wanted = " ".join(["a finite number", " and ".join(bounds)]).rstrip()
        raise ValueError(f"{layer}: {name}: expected {wanted}; got {value!r}")
    return float(value)


def check_input_shape(shape: Any, layer: str) -> Shape:
    """Return the shape of one sample, (C, H, W) or (D,), as a tuple of positive ints."""
    try:
        result = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"{layer}: input_shape: expected a tuple (C, H, W) or (D,); got {shape!r}") from None
    if len(result) not in (1, 3) or min(result) < 1:
        raise ValueError(f"{layer}: input_shape: expected (C, H, W) or (D,), all positive; got {shape!r}")
    return result


def as_float_dtype(dtype: Any, layer: str) -> np.dtype:
    """Return the dtype of a network's parameters: float32 or float64."""
    if dtype not in (np.float32, np.float64, "float32", "float64"):
        raise TypeError(f"{layer}: dtype: expected float32 or float64; got {dtype!r}")
    known: np.dtype = np.dtype(dtype)
    return known


def check_maps(shape: Shape, layer: str) -> None:
    """Raise ValueError unless samples of `shape` are images (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"{layer}: input: expected images (N, C, H, W); got samples of shape {tuple(shape)}")


def draw_seed(random_state: RandomState, limit: int = 2**63 - 1) -> int:
    """Return a seed below `limit` that a generator has drawn."""
    return draws.below(as_generator(random_state), limit)


def as_generator(random_state: RandomState) -> np.random.RandomState | np.random.Generator:
    """Return a generator; None is NumPy's global one, as in scikit-learn."""
    if random_state is None:
        return np.random.mtrand._rand
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        return np.random.RandomState(random_state)
    raise TypeError(
        f"random_state: expected None, an int, a RandomState or a Generator; got {type(random_state).__name__}"
    )
