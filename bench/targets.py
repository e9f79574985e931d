"""Regression tasks that anybody can make: smooth targets of images, signals and rows, drawn anew from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

Drawn = tuple[np.ndarray, np.ndarray]  # X and y
Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # X and y to train, X and y to test
TESTED = 1000
NOISE = 0.05  # standard deviation of a pixel's noise
SIZES = (100, 300, 1000, 3000)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    down, right = np.mgrid[:side, :side] - (side - 1) / 2
    return down[None], right[None]


def _images(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    images: np.ndarray = (values + generator.normal(scale=NOISE, size=values.shape)).astype("f")[:, None]
    return images


def _column(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def total(n: int, generator: np.random.Generator, side: int = 8) -> Drawn:
    """Return blobs, and the logarithm of all their light."""
    down, right = _grid(side)
    light = np.zeros((n, side, side))
    for _ in range(3):
        y, x, size, height = (_column(generator.uniform(*ends, n)) for ends in ((-3, 3), (-3, 3), (0.5, 2), (0, 1)))
        light += height * np.exp(-((down - y) ** 2 + (right - x) ** 2) / (2 * size**2))
    return _images(light, generator), np.log(light.sum(axis=(1, 2)))


def centroid(n: int, generator: np.random.Generator, side: int = 16) -> Drawn:
    """Return a blob of any size in noise, and where it is from left to right."""
    down, right = _grid(side)
    y, x = (_column(generator.uniform(-side / 3, side / 3, n)) for _ in range(2))
    size = _column(generator.uniform(1, 2.5, n))
    return _images(np.exp(-((down - y) ** 2 + (right - x) ** 2) / (2 * size**2)), generator), x.ravel()


def angle(n: int, generator: np.random.Generator, side: int = 20) -> Drawn:
    """Return a bar that is somewhere, and its angle from -60 to 60 degrees."""
    down, right = _grid(side)
    turn, y, x = (_column(generator.uniform(-end, end, n)) for end in (np.pi / 3, 3, 3))
    along = (right - x) * np.cos(turn) + (down - y) * np.sin(turn)
    across = (down - y) * np.cos(turn) - (right - x) * np.sin(turn)
    return _images(np.exp(-((along / 5) ** 4) - (across / 1.2) ** 2), generator), np.degrees(turn.ravel())


def frequency(n: int, generator: np.random.Generator, side: int = 24) -> Drawn:
    """Return gratings of any phase, and waves for each image's width."""
    _, right = _grid(side)
    waves, phase = _column(generator.uniform(1.5, 6, n)), _column(generator.uniform(0, 2 * np.pi, n))
    rows = 0.5 + 0.5 * np.sin(2 * np.pi * waves * right / side + phase)
    return _images(rows, generator), waves.ravel()


def radius(n: int, generator: np.random.Generator, side: int = 32) -> Drawn:
    """Return discs of any brightness anywhere, and their radius."""
    down, right = _grid(side)
    size, y, x = (_column(generator.uniform(*ends, n)) for ends in ((3, 9), (-6, 6), (-6, 6)))
    light = _column(generator.uniform(0.4, 1, n))
    edge = np.hypot(down - y, right - x) - size
    return _images(light / (1 + np.exp(np.clip(2 * edge, -50, 50))), generator), size.ravel()


def ageing(n: int, generator: np.random.Generator, side: int = 32) -> Drawn:
    """Return faces, of a kind, that widen, darken and wrinkle with an age, each in its own way, and that age."""
    down, right = _grid(side)
    age = generator.beta(2, 2, n)
    own = generator.normal(size=(5, n))
    wide = _column(8 + 3 * age + own[0])
    face = np.exp(-(((right / wide) ** 2 + (down / 12) ** 2) ** 3)) * _column(0.9 - 0.3 * age + 0.08 * own[1])
    eyes = sum(np.exp(-((right - sign * (4 + _column(0.3 * own[2]))) ** 2 + (down + 3) ** 2) / 3) for sign in (-1, 1))
    lines = _column(0.25 * age**2) * np.sin(2.2 * down + _column(own[3])) * np.exp(-((right / 6) ** 2))
    mouth = np.exp(-(((down - 6 - _column(age + 0.3 * own[4])) / 1.2) ** 2) - (right / 4) ** 4)
    return _images(face * (1 - 0.7 * eyes - 0.5 * mouth + lines), generator), 20 + 60 * age


def pitch(n: int, generator: np.random.Generator, length: int = 64) -> Drawn:
    """Return sines of any phase and loudness, as (n, 1, L), and their frequency."""
    t = np.arange(length) / length
    waves, phase, loud = (generator.uniform(*ends, (n, 1)) for ends in ((2, 9), (0, 6.3), (0.5, 1.5)))
    X = loud * np.sin(2 * np.pi * waves * t + phase) + generator.normal(scale=0.15, size=(n, length))
    return X.astype("f")[:, None], waves.ravel()


def peak(n: int, generator: np.random.Generator, length: int = 100) -> Drawn:
    """Return a peak on a slope, as (n, 1, L), and the width of it."""
    t = np.linspace(0, 1, length)
    middle, width, slope = (generator.uniform(*ends, (n, 1)) for ends in ((0.2, 0.8), (0.02, 0.08), (-1, 1)))
    X = np.exp(-(((t - middle) / width) ** 2)) + slope * t + generator.normal(scale=0.05, size=(n, length))
    return X.astype("f")[:, None], width.ravel()


def _rows(width: int, function: Callable[[np.ndarray], np.ndarray]) -> Callable[[int, np.random.Generator], Drawn]:
    def drawn(n: int, generator: np.random.Generator) -> Drawn:
        X = generator.random((n, width))
        y = function(X)
        return X, y + 0.05 * y.std() * generator.normal(size=n)

    return drawn


TASKS: dict[str, Callable[[int, np.random.Generator], Drawn]] = {
    "light, 8 x 8": total,
    "centroid, 16 x 16": centroid,
    "angle, 20 x 20": angle,
    "frequency, 24 x 24": frequency,
    "radius, 32 x 32": radius,
    "age, 32 x 32": ageing,
    "pitch, 64": pitch,
    "peak, 100": peak,
    "Friedman": _rows(10, lambda X: 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2
                      + 10 * X[:, 3] + 5 * X[:, 4]),
    "sine of a sum": _rows(6, lambda X: np.sin(3 * X.sum(axis=1))),
    "product": _rows(8, lambda X: np.exp(-((X[:, :4] - 0.5) ** 2).sum(axis=1) * 4) * (1 + X[:, 4])),
    "linear": _rows(12, lambda X: X @ np.arange(12.0)),
}  # fmt: skip


def cases(seed: int, sizes: Sequence[int] = SIZES) -> Iterable[tuple[str, Case]]:
    """Yield each task with each size; all sizes are judged by the same samples."""
    for place, (name, draw) in enumerate(TASKS.items()):
        X, y = draw(max(SIZES) + TESTED, np.random.default_rng([seed, place]))
        for n in sizes:
            yield f"{name}, {n}", (X[TESTED:][:n], y[TESTED:][:n], X[:TESTED], y[:TESTED])
