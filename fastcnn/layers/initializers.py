"""Initialisers: objects that draw the first values of a layer's filters or weights, the same bits everywhere."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from .. import checks, draws, exact
from ..typing import Array, Shape
from .repr import ShownAsCall

SAMPLED = 1 << 20  # windows whose covariance is taken
SWEEPS = 60  # of Jacobi's method; it ends by itself after some ten
SMALL = 1e-30  # of the squares off the diagonal, by those on it: nothing is left


class Initializer(ShownAsCall, ABC):
    """A rule for the first values of filters (F, C, kH, kW) or weights (inputs, nodes).

    A layer takes one as `initializer`; without one it is `HeNormal()`. A rule of one's own is a subclass with `draw`.

    See Also
    --------
    HeNormal : Normal numbers, by the number of products.
    Whitening : Filters that make windows uncorrelated.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Initializer
    >>> class Ones(Initializer):
    ...     def draw(self, generator, shape, fan_in):
    ...         return np.ones(shape)
    >>> Dense(2, initializer=Ones()).build((3,)).weights.tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """

    @abstractmethod
    def draw(self, generator: Any, shape: Shape, fan_in: int) -> Array:
        """Return the values, in the public `shape`.

        Parameters
        ----------
        generator : RandomState
            What the values are drawn from.
        shape : tuple of int
            The shape of the parameter, as it is public.
        fan_in : int
            How many products make an output number.
        """

    def _draw_in_groups(self, generator: Any, shape: Shape, fan_in: int, groups: int) -> Array:
        """Return the filters of a layer with so many groups."""
        return self.draw(generator, shape, fan_in)

    def __call__(self, shape: Sequence[int], random_state: Any = None) -> Array:
        """Return values of a public shape: of filters (F, C, kH, kW), or of weights (inputs, nodes)."""
        sizes = tuple(checks.as_positive_int(size, type(self).__name__, "shape") for size in shape)
        if len(sizes) not in (2, 4):
            raise ValueError(
                f"{type(self).__name__}: shape: expected (F, C, kH, kW) or (inputs, nodes); got {tuple(shape)}"
            )
        fan_in = sizes[0] if len(sizes) == 2 else math.prod(sizes[1:])
        return self.draw(checks.as_generator(random_state), sizes, fan_in)


@final
class HeNormal(Initializer):
    """Normal numbers of variance scale / fan_in, where fan_in products make an output number.

    Parameters
    ----------
    scale : float
        2 suits a ReLU behind (He et al.), 1 no activation (LeCun); PyTorch's default for its layers is uniform, with
        the variance of 1/3.

    See Also
    --------
    Orthogonal : Filters that are orthogonal to each other.
    Initializer : What all rules for first values share.

    References
    ----------
    He et al., "Delving deep into rectifiers", ICCV 2015, section 2.2.

    Examples
    --------
    >>> from fastcnn import Dense, HeNormal
    >>> Dense(10, initializer=HeNormal(1.0))
    Dense(10, initializer=HeNormal(scale=1.0))
    """

    def __init__(self, scale: float = 2.0) -> None:
        self.scale = checks.as_number(scale, "HeNormal", "scale", above=0)

    def draw(self, generator: Any, shape: Shape, fan_in: int) -> Array:
        values: Array = draws.normal(generator, shape) * math.sqrt(self.scale / fan_in)
        return values


@final
class Orthogonal(Initializer):
    """Filters, or the columns of weights, that are orthogonal to each other and of length `gain`.

    Where there are more of them than numbers in each, the others way round: the numbers of one place in all filters
    are. The matrix is that of normal numbers, made orthogonal by Gram and Schmidt: any orthogonal matrix is as likely.

    Parameters
    ----------
    gain : float
        The length of each filter, or column of weights.

    See Also
    --------
    HeNormal : Normal numbers, by the number of products.
    Dirac : Filters that pass their channel on.

    References
    ----------
    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Orthogonal
    >>> weights = Dense(3, initializer=Orthogonal()).build((5,), random_state=0).weights
    >>> bool(np.allclose(weights.T @ weights, np.eye(3)))
    True
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = checks.as_number(gain, "Orthogonal", "gain", above=0)

    def draw(self, generator: Any, shape: Shape, fan_in: int) -> Array:
        rows = (shape[1], shape[0]) if len(shape) == 2 else (shape[0], math.prod(shape[1:]))
        matrix = draws.normal(generator, (min(rows), max(rows)))
        _orthonormalise(matrix)
        matrix = matrix if rows[0] <= rows[1] else matrix.T
        values: Array = self.gain * (matrix.T if len(shape) == 2 else matrix).reshape(shape)
        return values


@final
class Dirac(Initializer):
    """Filter f passes channel f of its group on: 1 in its middle, else 0; further filters are drawn by `others`.

    Parameters
    ----------
    others : Initializer, optional
        For filters beyond the channels; by None they are zeros, as those of PyTorch's `dirac_`.

    See Also
    --------
    HeNormal : Normal numbers, by the number of products.
    Orthogonal : Filters that are orthogonal to each other.

    References
    ----------
    Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without skip-connections",
    arXiv:1706.00388, section 3.

    Examples
    --------
    >>> from fastcnn import Conv2D, Dirac
    >>> layer = Conv2D(2, 3, padding=1, initializer=Dirac()).build((2, 8, 8))
    >>> layer.filters[0, 0].round(1)
    array([[0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.]])
    """

    def __init__(self, others: Initializer | None = None) -> None:
        self.others = as_initializer(others, "Dirac", "others")

    def draw(self, generator: Any, shape: Shape, fan_in: int) -> Array:
        return self._draw_in_groups(generator, shape, fan_in, 1)

    def _draw_in_groups(self, generator: Any, shape: Shape, fan_in: int, groups: int) -> Array:
        if len(shape) != 4:
            raise ValueError(f"Dirac: shape: expected filters (F, C, kH, kW); got {shape}")
        values = np.zeros(shape) if self.others is None else self.others.draw(generator, shape, fan_in)
        of_group = shape[0] // groups
        channels = np.arange(min(of_group, shape[1]))
        for first in range(0, shape[0], of_group):
            values[first + channels] = 0
            values[first + channels, channels, shape[2] // 2, shape[3] // 2] = 1
        return values


@final
class Whitening(Initializer):
    """Filters that make the windows of images uncorrelated, of variance about 1: ± e_k / √(λ_k + epsilon).

    λ_k and e_k are the eigenvalues and eigenvectors of the windows' covariance, the largest first; the first
    kH·kW·C filters are the positive ones, the next the negative ones. A layer with less filters has the first of them.

    Parameters
    ----------
    X : array of shape (N, C, H, W)
        Images as the layer sees them; of many, evenly spaced ones serve. They are not copied. In a file there is none
        of it: the filters are among the weights, and a model that is loaded and built anew begins as `HeNormal` does.
    epsilon : float
        Keeps the root above 0, and filters of what hardly varies small.

    See Also
    --------
    HeNormal : Normal numbers, by the number of products.
    Dirac : Filters that pass their channel on.

    Notes
    -----
    The covariance is summed in a fixed order, and its eigenvectors are found by Jacobi's rotations in a fixed order:
    the bits are the same on every processor. The largest number of an eigenvector is positive.

    References
    ----------
    Coates and Ng, "Learning feature representations with k-means", 2012, section 3.1; Jordan, "94% on CIFAR-10 in 3.29
    seconds on a single GPU", arXiv:2404.00498, section 3.2, has them as a first layer that is not trained.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Whitening
    >>> X = np.random.RandomState(0).normal(size=(100, 3, 8, 8))
    >>> Conv2D(24, 2, initializer=Whitening(X)).build((3, 8, 8)).filters.shape
    (24, 3, 2, 2)
    """

    def __init__(self, X: Array, epsilon: float = 5e-4) -> None:
        images = np.asarray(X)
        if images.ndim != 4 or not images.size or images.dtype.kind not in "fiub":
            raise ValueError(
                f"Whitening: X: expected real images (N, C, H, W); got shape {images.shape} of {images.dtype}"
            )
        self.X = images
        self.epsilon = checks.as_number(epsilon, "Whitening", "epsilon", at_least=0)

    def __repr__(self) -> str:
        """Return the call, without the images."""
        return f"Whitening(<images of {' x '.join(map(str, self.X.shape))}>, epsilon={self.epsilon})"

    def __deepcopy__(self, memo: Any) -> Whitening:
        """Return itself: nothing about it can change, and the images are many."""
        return self

    def draw(self, generator: Any, shape: Shape, fan_in: int) -> Array:
        if len(shape) != 4 or shape[1] != self.X.shape[1] or min(np.subtract(self.X.shape[2:], shape[2:])) < 0:
            raise ValueError(
                f"Whitening: X: expected images that windows of {shape[1:]} fit into; got shape {self.X.shape}"
            )
        size = math.prod(shape[1:])
        if shape[0] > 2 * size:
            raise ValueError(f"Whitening: expected at most {2 * size} filters of {shape[1:]}; got {shape[0]}")
        eigenvalues, vectors = _eigen(_covariance(self.X, shape[1:]))
        if (eigenvalues + self.epsilon <= 0).any():
            raise ValueError(
                "Whitening: epsilon: expected more than 0 for images whose windows do not span all numbers"
            )
        filters = vectors / np.sqrt(eigenvalues + self.epsilon)[:, None]
        values: Array = np.concatenate([filters, -filters])[: shape[0]].reshape(shape)
        return values


USUAL = HeNormal()


def as_initializer(value: Any, owner: str, argument: str = "initializer") -> Initializer | None:
    """Return an initialiser, or None."""
    if value is not None and not isinstance(value, Initializer):
        raise TypeError(
            f"{owner}: {argument}: expected an Initializer, such as HeNormal() or Orthogonal(), or None; got {value!r}"
        )
    return value


def _orthonormalise(rows: Array) -> None:
    """Make rows orthogonal to those before them and of length 1, in place; twice, so that rounding leaves nothing."""
    for k in range(len(rows)):
        before = rows[:k]
        for _ in range(2 if k else 0):
            rows[k] -= exact.total(exact.total((before * rows[k]).T)[:, None] * before)
        rows[k] /= math.sqrt(float(exact.total(rows[k] * rows[k])))


def _covariance(X: Array, window: Shape) -> Array:
    """Return the covariance (k, k) of the windows (C, kH, kW) of images, in the order of a filter's numbers."""
    _, height, width = window
    rows, columns = X.shape[2] - height + 1, X.shape[3] - width + 1
    images = X[:: -(-len(X) * rows * columns // SAMPLED)].astype(np.float64)
    if X.dtype == np.uint8:
        images /= 255
    shifted = [
        images[:, c, r : r + rows, t : t + columns].ravel()
        for c in range(window[0]) for r in range(height) for t in range(width)
    ]  # fmt: skip
    shifted = [values - exact.mean(values) for values in shifted]
    size = len(shifted)
    covariance = np.zeros((size, size))
    for a in range(size):
        for b in range(a + 1):
            covariance[a, b] = covariance[b, a] = float(exact.mean(shifted[a] * shifted[b]))
    return covariance


def _eigen(symmetric: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of a matrix, the largest first, and its eigenvectors, a row each: cyclic Jacobi rotations.

    Source: Golub and Van Loan, "Matrix computations", 4th edition, section 8.5.
    """
    a, vectors, size = symmetric.copy(), np.eye(len(symmetric)), len(symmetric)
    for _ in range(SWEEPS):
        squares = a * a
        if float(exact.total(squares.ravel())) * SMALL >= float(exact.total((squares * (1 - np.eye(size))).ravel())):
            break
        for p in range(size - 1):
            for q in range(p + 1, size):
                _rotate(a, vectors, p, q)
    values = a.diagonal()
    order = np.argsort(-values, kind="stable")
    values, vectors = values[order], vectors[order]
    largest = vectors[np.arange(size), np.abs(vectors).argmax(axis=1)]
    return values, vectors * np.where(largest < 0, -1.0, 1.0)[:, None]


def _rotate(a: Array, vectors: Array, p: int, q: int) -> None:
    """Turn rows and columns p and q so that a[p, q] becomes 0."""
    if a[p, q] == 0:
        return
    theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
    t = (1.0 if theta >= 0 else -1.0) / (abs(theta) + math.sqrt(theta * theta + 1))
    cos = 1 / math.sqrt(t * t + 1)
    sin = t * cos
    for matrix in (a.T, a, vectors):  # columns, rows; and the rows that are gathered
        first, second = cos * matrix[p] - sin * matrix[q], sin * matrix[p] + cos * matrix[q]
        matrix[p], matrix[q] = first, second
    a[p, q] = a[q, p] = 0
