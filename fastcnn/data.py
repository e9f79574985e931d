"""Data sets as arrays: images (N, C, H, W), scaled to [0, 1], and their classes (N,)."""

from __future__ import annotations

from typing import Any

from .typing import Array, IntArray


def load_digits() -> tuple[Array, IntArray]:
    """Return scikit-learn's handwritten digits, 1797 images of 8 × 8 pixels.

    Returns
    -------
    X : float32 array of shape (1797, 1, 8, 8)
        Pixels / 16, from 0 to 1: exact in float32 and float64.
    y : int64 array of shape (1797,)
        0 to 9.

    References
    ----------
    Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998).
    """
    from sklearn import datasets

    pixels, y = datasets.load_digits(return_X_y=True)
    return (pixels / 16).astype("float32").reshape(-1, 1, 8, 8), y


def hold_out(X: Any, y: Any, share: float = 0.2, random_state: int = 42) -> tuple[Array, Array, IntArray, IntArray]:
    """Return `X_train, X_test, y_train, y_test`: the notebook's split, if nothing else is said.

    Parameters
    ----------
    X, y : arrays of the same length
    share : float
        Share of the samples that are held out.
    random_state : int
        Which samples these are.
    """
    from sklearn.model_selection import train_test_split

    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=share, random_state=random_state)
    return X_train, X_test, y_train, y_test


LOADERS = {"digits": load_digits}
