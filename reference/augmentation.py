"""Augmentation as its definition reads: one sample after the other, one pixel after the other, in float64."""

from __future__ import annotations

import math
from colorsys import hsv_to_rgb, rgb_to_hsv
from itertools import permutations
from typing import Any, Literal

import numpy as np

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


class Augmentation:
    """Crop, flip, turn and scale, shift; light and colours; cutout; mixup or cutmix: see `fastcnn.Augmentation`."""

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
        crop: tuple[float, float] | None = None,
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        color_jitter: tuple[float, float, float, float] | None = None,
    ) -> None:
        self.horizontal_flip, self.vertical_flip, self.shift = horizontal_flip, vertical_flip, shift
        self.rotation, self.scale, self.contrast, self.brightness = rotation, scale, contrast, brightness
        self.cutout, self.mixup, self.padding, self.fill = cutout, mixup, padding, fill
        self.cutmix, self.crop, self.crop_ratio, self.color_jitter = cutmix, crop, crop_ratio, color_jitter

    def __call__(self, x: Any, *, seed: int = 0, epoch: int = 0, indices: Any = None) -> np.ndarray:
        """Return the changed images (N, C, H, W); uint8 is scaled to [0, 1]."""
        x = np.asarray(x)
        images = x / 255 if x.dtype == np.uint8 else x.astype(np.float64)
        places = range(len(x)) if indices is None else indices
        return np.array([self._one(image, seed, epoch, int(i)) for image, i in zip(images, places, strict=True)])

    def mixed(self, x: Any, y: Any, *, seed: int = 0, epoch: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return changed samples (N, C, H, W) of a whole set, and targets (N, K), each mixed with a partner's.

        With λ of Beta(α, α), α = `mixup`: λ · sample + (1 - λ) · partner. With `cutmix` the sample, but for a box of
        1 - λ of its area, of its proportions, about a random pixel and cut off at the edge; targets by the areas.
        """
        changed, y = self(x, seed=seed, epoch=epoch), np.asarray(y, np.float64)
        images, targets = np.zeros_like(changed), np.zeros_like(y)
        for i in range(len(changed)):
            partner = int(uniform(seed, epoch, i, 10) * len(changed))
            share = beta_quantile(self.mixup or self.cutmix, uniform(seed, epoch, i, 11))
            images[i] = share * changed[i] + (1 - share) * changed[partner]
            if self.cutmix:
                _, _, height, width = changed.shape
                row, column = int(uniform(seed, epoch, i, 13) * height), int(uniform(seed, epoch, i, 14) * width)
                down, right = (int(0.5 * math.sqrt(1 - share) * side) for side in (height, width))
                rows = range(max(0, row - down), min(height, row + down))
                columns = range(max(0, column - right), min(width, column + right))
                images[i] = changed[i]
                for h in rows:
                    for w in columns:
                        images[i, :, h, w] = changed[partner, :, h, w]
                share = 1 - len(rows) * len(columns) / (height * width)
            targets[i] = share * y[i] + (1 - share) * y[partner]
        return images, targets

    def _one(self, image: np.ndarray, seed: int, epoch: int, index: int) -> Any:
        def chance(number: int) -> float:
            return uniform(seed, epoch, index, number)

        mirrored, upset = False, self.vertical_flip and chance(1) >= 0.5
        if self.horizontal_flip == "alternating":
            mirrored = (int(uniform(seed, 0, index, 0) >= 0.5) + epoch) % 2 == 1
        elif self.horizontal_flip:
            mirrored = chance(0) >= 0.5
        down = int(chance(2) * (2 * self.shift + 1)) - self.shift
        right = int(chance(3) * (2 * self.shift + 1)) - self.shift
        angle = math.radians(self.rotation) * (2 * chance(4) - 1)
        size = 1 + self.scale * (2 * chance(5) - 1)

        image = self._cropped(image, chance)
        image = image[:, ::-1] if upset else image
        image = image[:, :, ::-1] if mirrored else image
        changed = np.zeros_like(image)
        _, height, width = image.shape
        for h in range(height):
            for w in range(width):
                # Where the pixel comes from: back by the shift, then turned back about the middle and scaled back.
                u, v = h - down - (height - 1) / 2, w - right - (width - 1) / 2
                row = (height - 1) / 2 + (math.cos(angle) * u + math.sin(angle) * v) / size
                column = (width - 1) / 2 + (-math.sin(angle) * u + math.cos(angle) * v) / size
                changed[:, h, w] = self._between(image, row, column)

        contrast = 1 + self.contrast * (2 * chance(6) - 1)
        mean = changed.mean()
        changed = mean + contrast * (changed - mean) + self.brightness * (2 * chance(7) - 1)
        changed = self._coloured(changed, chance)
        if self.cutout:
            top = int(chance(8) * height) - self.cutout // 2
            left = int(chance(9) * width) - self.cutout // 2
            changed[:, max(0, top) : max(0, top + self.cutout), max(0, left) : max(0, left + self.cutout)] = self.fill
        return changed

    def _cropped(self, image: np.ndarray, chance: Any) -> Any:
        """Return a part of the image, as large as the image: torchvision's RandomResizedCrop."""
        if self.crop is None:
            return image
        _, height, width = image.shape
        top, left, h, w = self._crop_box(height, width, chance)
        part, grown = image[:, top : top + h, left : left + w], np.zeros_like(image)
        for row in range(height):
            for column in range(width):
                # Middles of pixels lie at halves; beyond the part's own middles, its border goes on.
                y = min(max((row + 0.5) * h / height - 0.5, 0), h - 1)
                x = min(max((column + 0.5) * w / width - 0.5, 0), w - 1)
                i, j = math.floor(y), math.floor(x)
                below, beside = min(i + 1, h - 1), min(j + 1, w - 1)
                f, g = y - i, x - j
                upper = (1 - g) * part[:, i, j] + g * part[:, i, beside]
                lower = (1 - g) * part[:, below, j] + g * part[:, below, beside]
                grown[:, row, column] = (1 - f) * upper + f * lower
        return grown

    def _crop_box(self, height: int, width: int, chance: Any) -> tuple[int, int, int, int]:
        assert self.crop is not None
        low, high = self.crop_ratio
        for number in range(20, 60, 4):
            area = height * width * (self.crop[0] + (self.crop[1] - self.crop[0]) * chance(number))
            aspect = math.exp(math.log(low) + (math.log(high) - math.log(low)) * chance(number + 1))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(chance(number + 2) * (height - h + 1)), int(chance(number + 3) * (width - w + 1)), h, w
        h, w = height, width
        if width / height < low:
            h = max(1, round(width / low))
        elif width / height > high:
            w = max(1, round(height * high))
        return (height - h) // 2, (width - w) // 2, h, w

    def _coloured(self, image: np.ndarray, chance: Any) -> Any:
        """Return the image in other colours: torchvision's ColorJitter."""
        if self.color_jitter is None:
            return image
        channels = len(image)
        factors = []
        for number, strength in enumerate(self.color_jitter):
            low, high = (-strength, strength) if number == 3 else (max(0.0, 1 - strength), 1 + strength)
            factors.append(low + (high - low) * chance(15 + number))
        order = [*permutations(range(4))][int(chance(19) * 24)]
        for what in order:
            if not self.color_jitter[what] or (channels == 1 and what > 1):
                continue
            grey = image[0] if channels == 1 else 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
            if what == 3:
                image = turned_hue(image, factors[3])
                continue
            other = (np.zeros_like(grey), np.full_like(grey, grey.mean()), grey)[what]
            image = np.clip(factors[what] * image + (1 - factors[what]) * other, 0, 1)
        return image

    def _between(self, image: np.ndarray, row: float, column: float) -> Any:
        """Return the bilinear mean of the four pixels around a place."""
        top, left = math.floor(row), math.floor(column)
        f, g = row - top, column - left
        return (
            (1 - f) * (1 - g) * self._pixel(image, top, left)
            + (1 - f) * g * self._pixel(image, top, left + 1)
            + f * (1 - g) * self._pixel(image, top + 1, left)
            + f * g * self._pixel(image, top + 1, left + 1)
        )

    def _pixel(self, image: np.ndarray, h: int, w: int) -> Any:
        """Return the pixel at a place that may lie beyond the edge."""
        _, height, width = image.shape
        if self.padding == "constant":
            return image[:, h, w] if 0 <= h < height and 0 <= w < width else self.fill
        if self.padding == "edge":
            return image[:, min(max(h, 0), height - 1), min(max(w, 0), width - 1)]
        return image[:, reflected(h, height), reflected(w, width)]


def turned_hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Return the image (3, H, W) with its hues turned by a part of the circle: by way of HSV, pixel after pixel."""
    turned = image.copy()
    for h in range(image.shape[1]):
        for w in range(image.shape[2]):
            hue, saturation, value = rgb_to_hsv(*image[:, h, w].tolist())
            turned[:, h, w] = hsv_to_rgb((hue + turn) % 1.0, saturation, value)
    return turned


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the image (C, H, W) at another size: means weighted by a triangle about each pixel's middle."""
    _, rows, columns = image.shape
    out = np.zeros((len(image), height, width))
    for h in range(height):
        for w in range(width):
            down, right = triangle(h, rows, height), triangle(w, columns, width)
            for i, a in down.items():
                for j, b in right.items():
                    out[:, h, w] += a * b * image[:, i, j]
    return out


def triangle(place: int, size: int, length: int) -> dict[int, float]:
    """Return by which weights `size` numbers make up number `place` of `length`: twice as wide as what it covers."""
    middle, support = (place + 0.5) * size / length - 0.5, max(size / length, 1.0)
    weights = {i: max(1 - abs(i - middle) / support, 0.0) for i in range(size)}
    total = sum(weights.values())
    return {i: weight / total for i, weight in weights.items() if weight}


def reflected(i: int, size: int) -> int:
    """Where `i` comes to lie when the line is mirrored at the middles of its first and last pixel, again and again."""
    if size == 1:
        return 0
    while not 0 <= i < size:
        i = -i if i < 0 else 2 * (size - 1) - i
    return i


def beta_quantile(alpha: float, u: float) -> float:
    """Return the s in [0, 1] below which a number of Beta(alpha, alpha) lies with probability u: by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if beta_distribution(alpha, middle) < u:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_distribution(alpha: float, s: float, steps: int = 400) -> float:
    """Return the probability that a number of Beta(alpha, alpha) is at most s."""
    if s > 0.5:
        return 1 - beta_distribution(alpha, 1 - s, steps)
    # The density, s^(α-1) (1-s)^(α-1) ds, is finite as one of t = s^p, p = min(α, 1). Simpson's rule.
    p = min(alpha, 1.0)
    total = 0.0
    for k in range(steps + 1):
        t = s**p * k / steps
        factor = 1 if k in (0, steps) else 4 if k % 2 else 2
        total += factor * t ** (alpha / p - 1) * (1 - t ** (1 / p)) ** (alpha - 1) / p
    probability: float = total * s**p / (3 * steps) * math.gamma(2 * alpha) / math.gamma(alpha) ** 2
    return probability


def mix(z: int) -> int:
    """SplitMix64's finalizer: Steele, Lea and Flood, OOPSLA 2014."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
    return z ^ z >> 31


def uniform(seed: int, epoch: int, index: int, number: int) -> float:
    """Return the random number of [0, 1) that has this number in this epoch of this sample."""
    z = mix((seed + GOLDEN) % WORD)
    for counter in (epoch, index, number):
        z = mix((z + (counter + 1) * GOLDEN) % WORD)
    return (z >> 11) * 2.0**-53
