"""Augmentation: random changes of images on the way into a step, the same for the same seed, epoch and sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Literal, NamedTuple, final

import numpy as np

from .. import checks, exact
from ..kernels import augment as kernels
from ..layers.repr import ShownAsCall
from ..typing import Array, IntArray
from .crops import boxes_of, jitters, resized_crops

PADDINGS = ("constant", "edge", "reflect")
GOLDEN = 0x9E3779B97F4A7C15
# Which of a sample's random numbers is whose.
MIRROR, UPSET, DOWN, RIGHT, TURN, SIZE, CONTRAST, BRIGHTNESS, CUT_ROW, CUT_COLUMN, PARTNER, SHARE, ORDER = range(13)
BOX_ROW, BOX_COLUMN, COLOURS, CROP = 13, 14, 15, 20  # of the latter two, five numbers and forty


class Chances(NamedTuple):
    """What happens to some samples, a row each; None for what does not.

    Attributes
    ----------
    moves : int64 array of shape (n, 4)
        Whether rows and columns are flipped; pixels down and to the right.
    matrices : array of shape (n, 4), optional
        Lead from a turned and scaled place back to where it was.
    light : array of shape (n, 2), optional
        Contrast and brightness.
    middles : int64 array of shape (n, 2), optional
        Row and column of the middle of what is cut out.
    crops : int64 array of shape (n, 4), optional
        Top, left, height and width of what is made as large as the image.
    factors, order : arrays of shape (n, 4), optional
        How colours are changed, and in which order.
    """

    moves: IntArray
    matrices: Array | None
    light: Array | None
    middles: IntArray | None
    crops: IntArray | None = None
    factors: Array | None = None
    order: IntArray | None = None

    def of(self, first: int, last: int) -> Chances:
        """Return those of some of the samples."""
        others = (rows if rows is None else rows[first:last] for rows in self[1:])
        return Chances(self.moves[first:last], *others)


@final
class Augmentation(ShownAsCall):
    """Changes images by chance: crops, flips, turns, shifts, light and colours, cutout, mixup or cutmix; in this order.

    Every random number is a function of the seed, the epoch, the sample's place in the set, and what it is for. So
    neither threads nor the size of the batches change an image.

    Parameters
    ----------
    horizontal_flip : bool or "alternating"
        Left and right change places: by the toss of a coin for every sample and epoch; alternating: by a coin in the
        first epoch, from then on in every other one, so that two epochs show every image in both ways.
    vertical_flip : bool
        Top and bottom, by a coin.
    shift : int
        Up to so many pixels in each direction, whole pixels: padding and a random crop.
    rotation : float
        Up to so many degrees in both directions, about the middle; bilinear.
    scale : float
        By a factor of [1 - scale, 1 + scale], about the middle; bilinear.
    contrast : float
        v becomes m + c · (v - m), m the mean of the image's numbers, c of [1 - contrast, 1 + contrast].
    brightness : float
        A number of [-brightness, brightness] is added; results are not clipped. Pixels of uint8 count from 0 to 1.
    cutout : int
        The side of a square of `fill` whose middle is a random pixel; part of it may lie beyond the edge.
    mixup : float
        With alpha = mixup: λ · sample + (1 - λ) · partner, and their targets likewise, one-hot for classes;
        λ of Beta(alpha, alpha), the partner any sample of the set. In `Trainer.fit` only.
    padding : {"constant", "edge", "reflect"}
        What comes in from beyond the edge: `fill`, the nearest pixel, or the mirror image.
    fill : float
        What a number beyond the edge, or in a cut-out square, is.
    cutmix : float
        With alpha = cutmix: a box of an image is the partner's, of about 1 - λ of its area, and the targets are mixed
        by the areas; λ and partner as for mixup. In `Trainer.fit` only, and without mixup.
    crop : float or (float, float), optional
        A random part of the image is made as large as the image, bilinear: with a share of its area between these two
        numbers, or between this one and 1 (torchvision: `RandomResizedCrop(scale=...)`).
    crop_ratio : float or (float, float)
        Bounds of the crop's width by its height; of one number and its inverse.
    color_jitter : float or sequence of up to four floats, optional
        Strengths of brightness, contrast, saturation and hue, each at least 0, the last at most 0.5; one number is that
        of the first three. Changes come in a random order, and clip to [0, 1] (torchvision: `ColorJitter`). For images
        of three channels, red, green and blue; of one, brightness and contrast alone.

    See Also
    --------
    Trainer : Trains a model step by step.
    CNNClassifier : Classifier with the interface of scikit-learn.

    Notes
    -----
    In segmentation, labels (N, H, W) are flipped and shifted with their images; what a shift brings in has the loss's
    `ignore_index` as its label, or that of the pixel which `padding` shows. Rotation, scale and crops are
    refused there.

    References
    ----------
    Krizhevsky, Sutskever and Hinton, NeurIPS 2012, §4.1 (flips, crops, light); Jordan, arXiv:2404.00498, §3.6
    (alternating flip); DeVries and Taylor, arXiv:1708.04552 (cutout); Zhang, Cisse, Dauphin and Lopez-Paz, ICLR 2018
    (mixup, there with a partner from the same batch); Yun et al., ICCV 2019 (cutmix, there with one box for all of a
    batch); Szegedy et al., CVPR 2015, §6 (resized crops); Howard, arXiv:1312.5402 (colours). Crops, boxes and colours
    are by torchvision's formulas on numbers of [0, 1]; on bytes, torchvision rounds after each of them. The generator
    is SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014) over a counter.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Augmentation
    >>> Augmentation(horizontal_flip=True, shift=2)(np.ones((4, 1, 8, 8)), seed=0, epoch=3).shape
    (4, 1, 8, 8)
    """

    def __init__(
        self,
        horizontal_flip: bool | Literal["alternating"] = False,
        vertical_flip: bool = False,
        shift: int = 0,
        rotation: float = 0.0,
        scale: float = 0.0,
        contrast: float = 0.0,
        brightness: float = 0.0,
        cutout: int = 0,
        mixup: float = 0.0,
        padding: str = "constant",
        fill: float = 0.0,
        *,
        cutmix: float = 0.0,
        crop: float | Sequence[float] | None = None,
        crop_ratio: float | Sequence[float] = (3 / 4, 4 / 3),
        color_jitter: float | Sequence[float] | None = None,
    ) -> None:
        if horizontal_flip not in (False, True, "alternating"):
            raise ValueError(
                f"Augmentation: horizontal_flip: expected False, True or 'alternating'; got {horizontal_flip!r}"
            )
        if vertical_flip not in (False, True):
            raise ValueError(f"Augmentation: vertical_flip: expected False or True; got {vertical_flip!r}")
        if padding not in PADDINGS:
            raise ValueError(f"Augmentation: padding: expected one of {', '.join(PADDINGS)}; got {padding!r}")
        self.horizontal_flip, self.vertical_flip, self.padding = horizontal_flip, bool(vertical_flip), padding
        self.shift, self.cutout = _whole("shift", shift), _whole("cutout", cutout)
        self.rotation, self.contrast = _number("rotation", rotation), _number("contrast", contrast)
        self.brightness, self.mixup = _number("brightness", brightness), _number("mixup", mixup)
        self.scale = _number("scale", scale, below=1.0)
        self.fill = _number("fill", fill, least=-math.inf)
        self.cutmix = _number("cutmix", cutmix)
        if self.mixup and self.cutmix:
            raise ValueError(f"Augmentation: cutmix: expected 0 with mixup={self.mixup:g}; got {self.cutmix:g}")
        self.crop = None if crop is None else _shares(crop)
        self.crop_ratio, self.color_jitter = _ratios(crop_ratio), _strengths(color_jitter)
        alpha = self.mixup or self.cutmix
        self._beta = _beta_quantiles(alpha) if alpha else (np.zeros(2), np.zeros(2))

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed with partners, which `Trainer.fit` alone does."""
        return bool(self.mixup or self.cutmix)

    def __call__(self, x: Any, *, seed: int = 0, epoch: int = 0, indices: Any = None) -> Array:
        """Return the changed images; all but mixup and cutmix.

        Parameters
        ----------
        x : array of shape (N, C, H, W)
            uint8 is scaled to [0, 1].
        seed, epoch : int
        indices : array of int, shape (N,)
            The samples' places in their set; 0, 1, 2, ... if not given.

        Returns
        -------
        array of shape (N, C, H, W)
            float64 for float64, else float32.
        """
        array = np.asarray(x)
        if array.dtype != np.uint8:
            array = checks.as_images(array, "Augmentation", "x")
        out = np.empty(array.shape, np.float64 if array.dtype == np.float64 else np.float32)
        places = np.arange(len(array)) if indices is None else np.asarray(indices)
        return self._write(array, self._draw(places, (seed, epoch), array.shape), out)

    def _dtype(self, given: Any, wanted: Any) -> np.dtype:
        """Return the dtype in which changed images go into a step, which scales bytes itself.

        Bytes stay bytes where pixels only move, and what comes in is black: a fourth of the memory to write and read.
        """
        changes = self.rotation, self.scale, self.contrast, self.brightness, self.mixup, self.fill
        changed = any(changes) or self.crop is not None or self.color_jitter is not None
        return np.dtype(np.uint8 if given == np.uint8 and not changed else wanted)

    @property
    def _displaces(self) -> bool:
        """Whether pixels come to lie elsewhere: targets that are maps would have to go with them."""
        parts = self.horizontal_flip, self.vertical_flip, self.shift, self.rotation, self.scale, self.cutmix
        return any(parts) or self.crop is not None

    def _draw(self, indices: IntArray, key: tuple[int, int], shape: tuple[int, ...]) -> Chances:
        """Return what happens to the samples `indices` of a set of images of this shape."""
        if len(shape) != 4:
            raise ValueError(f"Augmentation: x: expected images (N, C, H, W); got shape {shape}")
        keys = sample_keys(key[0], key[1], indices)
        matrices = self._matrices(keys) if self.rotation or self.scale else None
        light = middles = None
        if self.contrast or self.brightness:
            light = np.stack([self._between(keys, CONTRAST, self.contrast) + 1,
                              self._between(keys, BRIGHTNESS, self.brightness)], axis=1)  # fmt: skip
        if self.cutout:
            middles = np.stack([below(keys, CUT_ROW, shape[2]), below(keys, CUT_COLUMN, shape[3])], axis=1)
        crops = factors = order = None
        if self.crop is not None:
            size = shape[2], shape[3]
            crops = resized_crops(lambda k: uniform(keys, k), CROP, len(keys), size, self.crop, self.crop_ratio)
        if self.color_jitter is not None:
            if shape[1] not in (1, 3):
                raise ValueError(f"Augmentation: color_jitter: expected images of 1 or 3 channels; got {shape[1]}")
            factors, order = jitters(lambda k: uniform(keys, k), COLOURS, self.color_jitter)
        return Chances(self._moves(keys, key, indices), matrices, light, middles, crops, factors, order)

    def _write(self, x: Array, chances: Chances, out: Array) -> Array:
        """Write changed images to `out`, each with its own chances."""
        n, channels, height, width = x.shape
        y, source = out.reshape(-1), np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(out.dtype, copy=False))
        one, scales = out.dtype.type, x.dtype == np.uint8 and out.dtype != np.uint8
        unit, fill = one(1 / 255 if scales else 1), one(self.fill)
        if chances.crops is not None:
            cropped = np.empty(out.size, out.dtype)
            kernels.crop(source.reshape(-1), n, channels, height, width, unit, chances.crops, cropped)
            source, unit = cropped, one(1)
        common = (source.reshape(-1), n, channels, height, width, unit, chances.moves)
        mode = PADDINGS.index(self.padding)
        if chances.matrices is not None:
            kernels.turn(*common, chances.matrices, mode, fill, y)
        else:
            kernels.move(*common, mode, fill, y)
        if chances.light is not None:
            kernels.adjust(y, n, channels * height * width, chances.light)
        if chances.factors is not None:
            kernels.jitter(y, n, channels, height * width, chances.factors, chances.order)
        if chances.middles is not None:
            kernels.cut(y, n, channels, height, width, chances.middles, self.cutout, fill)
        return out

    def _moves(self, keys: Array, key: tuple[int, int], indices: IntArray) -> IntArray:
        """Return for each sample: rows flipped, columns flipped, pixels down, pixels to the right."""
        moves = np.zeros((len(keys), 4), np.int64)
        if self.vertical_flip:
            moves[:, 0] = below(keys, UPSET, 2)
        if self.horizontal_flip == "alternating":
            moves[:, 1] = (below(sample_keys(key[0], 0, indices), MIRROR, 2) + key[1]) % 2
        elif self.horizontal_flip:
            moves[:, 1] = below(keys, MIRROR, 2)
        if self.shift:
            for place, number in ((2, DOWN), (3, RIGHT)):
                moves[:, place] = below(keys, number, 2 * self.shift + 1) - self.shift
        return moves

    def _matrices(self, keys: Array) -> Array:
        """Return for each sample the matrix that leads from a turned and scaled place back to where it was."""
        cos, sin = exact.cos_and_sin_pi(self._between(keys, TURN, self.rotation / 180))
        size = self._between(keys, SIZE, self.scale) + 1
        return np.stack([cos / size, sin / size, -sin / size, cos / size], axis=1)

    def _between(self, keys: Array, number: int, limit: float) -> Array:
        """Return a random number of [-limit, limit] for each sample."""
        values: Array = limit * (2 * uniform(keys, number) - 1)
        return values

    def _partners(self, indices: IntArray, key: tuple[int, int], samples: int) -> tuple[IntArray, Array]:
        """Return for each sample its partner in the set of so many, and its own share λ."""
        keys = sample_keys(key[0], key[1], indices)
        u, (quantiles, values) = uniform(keys, SHARE), self._beta
        smaller = exact.power(
            _interpolated(np.minimum(u, 1 - u), quantiles, values), 1 / min(self.mixup or self.cutmix, 1.0)
        )
        return below(keys, PARTNER, samples), np.where(u < 0.5, smaller, 1 - smaller)

    def _boxes(
        self, indices: IntArray, key: tuple[int, int], share: Array, size: tuple[int, int]
    ) -> tuple[IntArray, Array]:
        """Return the box of each image that is its partner's, and the image's own share of its targets."""
        keys, (height, width) = sample_keys(key[0], key[1], indices), size
        return boxes_of(share, below(keys, BOX_ROW, height), below(keys, BOX_COLUMN, width), size)


def mix(z: Array) -> Array:
    """Return SplitMix64's finalizer of 64-bit words."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words: Array = z ^ (z >> np.uint64(31))
    return words


def sample_keys(seed: int, epoch: int, indices: IntArray) -> Array:
    """Return a word for each sample of an epoch."""
    start = mix(np.array([seed], np.uint64) + np.uint64(GOLDEN))
    start = mix(start + np.array([epoch + 1], np.uint64) * np.uint64(GOLDEN))
    return mix(start + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(GOLDEN))


def uniform(keys: Array, number: int) -> Array:
    """Return the random number of [0, 1) with this number, for each sample."""
    values: Array = (_words(keys, number) >> np.uint64(11)) * 2.0**-53
    return values


def _words(keys: Array, number: int) -> Array:
    """Return the random word with this number, for each sample."""
    return mix(keys + np.array([number + 1], np.uint64) * np.uint64(GOLDEN))


def below(keys: Array, number: int, limit: int) -> IntArray:
    """Return a random whole number of [0, limit) for each sample."""
    return (uniform(keys, number) * limit).astype(np.int64)


def epoch_order(seed: int, epoch: int, samples: int) -> IntArray:
    """Return the order of the samples in an epoch: sorted by a random word each."""
    places = np.arange(samples, dtype=np.uint64)
    low = np.uint64((1 << max(samples - 1, 0).bit_length()) - 1)
    # The place in the low bits makes the words distinct, so that no sort can order them in another way.
    words = _words(sample_keys(seed, epoch, places), ORDER) & ~low | places
    words.sort()
    order: IntArray = (words & low).astype(np.int64)
    return order


def _beta_quantiles(alpha: float, points: int = 4097) -> tuple[Array, Array]:
    """Return the distribution function of Beta(alpha, alpha) on [0, 1/2], and t = s^p for its arguments s.

    With p = min(alpha, 1) the density s^(alpha-1) (1-s)^(alpha-1) ds is finite in t, even where alpha < 1.
    """
    p = min(alpha, 1.0)
    t = np.arange(points) * (float(exact.power(0.5, p)) / (points - 1))
    if alpha > 1:  # divided by its maximum: a small number to a high power is 0
        density = exact.power(4 * t * (1 - t), alpha - 1)
    else:
        density = exact.power(t, alpha / p - 1) * exact.power(1 - exact.power(t, 1 / p), alpha - 1)
    total = np.array([*accumulate(((density[1:] + density[:-1]) / 2).tolist(), initial=0.0)])
    return total * (0.5 / total[-1]), t


def _interpolated(x: Array, places: Array, values: Array) -> Array:
    """Return the piecewise linear function that has `values` at rising `places`, for x from the first to the last."""
    right = np.clip(np.searchsorted(places, x, side="right"), 1, len(places) - 1)
    left = right - 1
    slope = (values[right] - values[left]) / (places[right] - places[left])
    found: Array = values[left] + slope * (x - places[left])
    return found


def _shares(crop: Any) -> tuple[float, float]:
    """Return the least and the largest share of a crop."""
    low, high = _row("crop", crop, 2) if isinstance(crop, Sequence) else (_number("crop", crop), 1.0)
    if not 0 < low <= high <= 1:
        raise ValueError(f"Augmentation: crop: expected shares above 0, rising, of at most 1; got {crop!r}")
    return low, high


def _ratios(ratio: Any) -> tuple[float, float]:
    """Return the least and the largest ratio of a crop."""
    if isinstance(ratio, Sequence):
        low, high = _row("crop_ratio", ratio, 2)
    else:
        low = high = _number("crop_ratio", ratio)
        if low > 0:
            low, high = min(low, 1 / low), max(low, 1 / low)
    if not 0 < low <= high:
        raise ValueError(f"Augmentation: crop_ratio: expected numbers above 0, rising; got {ratio!r}")
    return low, high


def _strengths(jitter: Any) -> tuple[float, float, float, float] | None:
    """Return how much brightness, contrast, saturation and hue change; None for none."""
    if jitter is None:
        return None
    given = (
        _row("color_jitter", jitter, 4)
        if isinstance(jitter, Sequence)
        else [*[_number("color_jitter", jitter)] * 3, 0.0]
    )
    brightness, contrast, saturation, hue = given
    if hue > 0.5:
        raise ValueError(f"Augmentation: color_jitter: expected a hue of at most 0.5; got {hue:g}")
    return brightness, contrast, saturation, hue


def _row(name: str, values: Any, most: int) -> list[float]:
    """Return numbers of at least 0, so many; of colours, those that are not given are 0."""
    if isinstance(values, str) or not (len(values) == most or (name == "color_jitter" and 0 < len(values) < most)):
        wanted = f"a number or {'up to ' if name == 'color_jitter' else ''}{most}"
        raise ValueError(f"Augmentation: {name}: expected {wanted}; got {values!r}")
    return [_number(f"{name}[{place}]", value) for place, value in enumerate(values)] + [0.0] * (most - len(values))


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Augmentation: {name}: expected an int of at least 0; got {value!r}")
    if value < 0:
        raise ValueError(f"Augmentation: {name}: expected an int of at least 0; got {value!r}")
    return int(value)


def _number(name: str, value: Any, least: float = 0.0, below: float = math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"Augmentation: {name}: expected a number; got {value!r}")
    if not (math.isfinite(value) and least <= value < below):
        limits = f"[{least:g}, {below:g})" if least > -math.inf else "any finite size"
        raise ValueError(f"Augmentation: {name}: expected a number of {limits}; got {value!r}")
    return float(value)
