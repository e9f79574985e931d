"""Data sets as arrays: images (N, C, H, W), from 0 to 1 or of uint8, and their classes (N,); nothing is downloaded."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .. import markup
from ..ranks.communicator import Communicator
from ..typing import Array, IntArray
from . import formats
from .files import DataError, check_kind, check_max_bytes, shown
from .images import read_images

__all__ = [
    "DataError", "Dataset", "hold_out", "load", "load_cifar", "load_digits", "load_idx", "load_images", "load_npz",
]  # fmt: skip


SHOWN = 10  # classes that are named


@dataclass(frozen=True, repr=False)
class Dataset:
    """Images to train on, and those to test on where the data set says which.

    Parameters
    ----------
    X : array of shape (N, C, H, W)
        Images to train on.
    y : int64 array of shape (N,)
        Their classes.
    X_test : array of shape (M, C, H, W), or None
        Images to test on.
    y_test : int64 array of shape (M,), or None
        Their classes.
    classes : list of str
        The names of the classes.

    Attributes
    ----------
    X, X_test : array of shape (N, C, H, W)
        uint8 stays uint8: a `Trainer` scales it on the way in, to numbers from 0 to 1. Other numbers are as the file
        has them, but images of 16 bits in a folder, which are float32 from 0 to 1. Where the file can be mapped, it is.
    y, y_test : int64 array of shape (N,)
    classes : list of str
        The names of the classes.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> from fastcnn.data import load
    >>> load("digits").X.shape
    (1797, 1, 8, 8)
    """

    X: Array
    y: IntArray
    X_test: Array | None
    y_test: IntArray | None
    classes: list[str]

    def __repr__(self) -> str:
        """Return shapes, not pixels."""
        arrays = [(name, getattr(self, name)) for name in ("X", "y", "X_test", "y_test")]
        parts = [f"{name}={None if array is None else _shape_words(array)}" for name, array in arrays]
        names = ", ".join(map(repr, self.classes[:SHOWN])) + (", ..." if len(self.classes) > SHOWN else "")
        return f"Dataset({', '.join(parts)}, classes=[{names}])"

    def _repr_html_(self) -> str:
        """Return a table of shapes for a notebook."""
        arrays = [(name, getattr(self, name)) for name in ("X", "y", "X_test", "y_test")]
        rows = [(name, array.dtype, _sizes(array)) for name, array in arrays if array is not None]
        classes = ", ".join(self.classes[:SHOWN]) + (", ..." if len(self.classes) > SHOWN else "")
        words = f"<p>{len(self.classes)} classes: {markup.text(classes)}</p>"
        return markup.framed(markup.table(("Dataset", "dtype", "shape"), rows) + words)


def _sizes(array: Array) -> str:
    return " × ".join(map(str, array.shape))


def _shape_words(array: Array) -> str:
    """Return what repr says of an array: its dtype and shape."""
    return f"{array.dtype} {array.shape}"


def load(source: str | PathLike[str], max_bytes: int | None = None, communicator: Any = None) -> Dataset:
    """Return a data set by its name or path.

    Parameters
    ----------
    source : str or path
        `"digits"`; a folder with IDX files such as those of MNIST, Fashion-MNIST, EMNIST, or one file of an IDX pair;
        a folder or a file of the binary CIFAR-10 or CIFAR-100; an NPZ file; a folder with a folder of images for each
        class, or with two such, `train` and `test`.
    max_bytes : int, optional
        The most bytes that what is packed in one file, or in a folder of images, may take in memory. Default: 1000 for
        each byte of the file, and a MiB in any case; for images 256 MiB. A file that is not packed has no such limit.
    communicator : mpi4py.MPI.Comm, optional
        As in `load_images`; of other data sets each rank reads all.

    Raises
    ------
    DataError
        If a file is truncated, too long, damaged, of another kind, or claims to hold more than `max_bytes`; the message
        is a line that begins with its path. A FIFO, a socket or a device is not waited for.
    OSError
        If there is nothing of that name, or it may not be read.

    See Also
    --------
    load_images : Reads a folder of images.
    load_idx : Reads a file of MNIST's format.
    load_npz : Reads an archive of NumPy arrays.

    Examples
    --------
    >>> from fastcnn.data import load
    >>> digits = load("digits")
    >>> digits.X.shape, digits.y.shape
    ((1797, 1, 8, 8), (1797,))
    """
    if source in LOADERS:
        return _dataset(Path(source), *LOADERS[str(source)]())
    check_max_bytes(max_bytes)
    path = Path(source)
    if not path.exists():
        names = ", ".join(LOADERS)
        raise FileNotFoundError(f"{shown(path)}: no such file or folder, and no name of a data set ({names})")
    if not path.is_dir():
        check_kind(path)
    if path.suffix.lower() == ".npz":
        return load_npz(path, max_bytes)
    if path.suffix.lower() == ".bin" or (path.is_dir() and _cifar_files(path)):
        return load_cifar(path)
    if path.is_file() or _idx_images(path, "*idx*ubyte*"):
        return load_idx(path, max_bytes)
    return load_images(path, max_bytes=max_bytes, communicator=communicator)


def load_idx(source: str | PathLike[str], max_bytes: int | None = None) -> Dataset:
    """Return the data set of a folder of IDX files, or of one pair by its images' file; `.gz` too.

    The files are called as MNIST's: `train-images-idx3-ubyte.gz` and `train-labels-idx1-ubyte.gz`, the test set's with
    `t10k` or `test` in place of `train`, and perhaps words before. Images are as they are stored (EMNIST's lie on
    their side). `max_bytes` as in `load`.

    Parameters
    ----------
    source : str or path
        The folder, or the images' file of a pair.
    max_bytes : int, optional
        As in `load`.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastcnn.data import load_idx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images, labels = Path(folder, "train-images-idx3-ubyte"), Path(folder, "train-labels-idx1-ubyte")
    ...     written = images.write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 8, 0, 0, 0, 8, *[128] * 128]))
    ...     written = labels.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 0]))
    ...     print(load_idx(folder).X.shape)
    (2, 1, 8, 8)
    """
    check_max_bytes(max_bytes)
    path = Path(source)
    if not path.is_dir():
        check_kind(path)
        return _dataset(path, *formats.read_idx_pair(*_idx_pair(path), max_bytes))
    found: dict[str, list[Path]] = {"train": [], "test": []}
    for images in _idx_images(path):
        found["test" if "t10k" in images.name or "test" in images.name else "train"].append(images)
    for kind, files in found.items():
        if len(files) > 1 or (kind == "train" and not files):
            names = ", ".join(file.name for file in files)
            raise DataError(path, f"expected one IDX file of {kind} images; got {names or 'none'}")
    train = formats.read_idx_pair(*_idx_pair(found["train"][0]), max_bytes)
    test = formats.read_idx_pair(*_idx_pair(found["test"][0]), max_bytes) if found["test"] else (None, None)
    return _dataset(path, *train, *test)


def load_cifar(source: str | PathLike[str]) -> Dataset:
    """Return the data set of a folder of the binary CIFAR-10 or CIFAR-100, or of one such file.

    Parameters
    ----------
    source : str or path
        The folder, or one file of it.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastcnn.data import load_cifar
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "data_batch_1.bin")
    ...     written = path.write_bytes(bytes([7, *[128] * 3072]) * 5)  # a label, then 3 x 32 x 32 pixels
    ...     print(load_cifar(path).X.shape)
    (5, 3, 32, 32)
    """
    path = Path(source)
    if not path.is_dir():
        return _dataset(path, *formats.read_cifar([path]))
    files = _cifar_files(path)
    train = [file for file in files if not file.name.startswith("test")]
    if not train:
        raise DataError(path, "expected data_batch_1.bin, ... or train.bin, the binary version of CIFAR; found neither")
    test = (
        formats.read_cifar([file for file in files if file not in train]) if len(train) < len(files) else (None, None)
    )
    return _dataset(path, *formats.read_cifar(train), *test)


def load_npz(source: str | PathLike[str], max_bytes: int | None = None) -> Dataset:
    """Return the data set of an NPZ file: x_train, y_train, x_test, y_test, or x and y; images with channels first.

    Classes are whole numbers from 0 on, or names (an array of strings), which are counted in their order. `max_bytes`
    as in `load`.

    Parameters
    ----------
    source : str or path
        The file.
    max_bytes : int, optional
        As in `load`.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from fastcnn.data import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "set.npz")
    ...     np.savez(path, x=np.zeros((5, 1, 8, 8), np.uint8), y=np.arange(5))
    ...     print(load_npz(path).X.shape)
    (5, 1, 8, 8)
    """
    check_max_bytes(max_bytes)
    path = Path(source)
    parts, names = formats.read_npz(path, max_bytes)
    found = _dataset(path, *parts["train"], *parts.get("test", (None, None)))
    return found if names is None else replace(found, classes=names)


def load_images(
    source: str | PathLike[str],
    size: tuple[int, int] | None = None,
    max_bytes: int | None = None,
    communicator: Any = None,
) -> Dataset:
    """Return the data set of a folder of images, a folder for each class; Pillow reads them (extra `[images]`).

    Grey if all images are, else in colour (RGB). uint8 if none has more than eight bits. Else float32: what has eight
    bits is divided by 255, what has sixteen by 65535, and floats and other integers, whose range nothing tells, are as
    they are. Pillow reads colours of sixteen bits as eight. Transparency is left out; of an animation the first frame
    is taken.

    Parameters
    ----------
    source : str or path
        With two such folders in it, `train` and `test`, both are read.
    size : (int, int), optional
        Height and width that all images are brought to; without it they must have one size.
    max_bytes : int, optional
        As in `load`.
    communicator : mpi4py.MPI.Comm, optional
        The ranks of a `Trainer`, all of which call this: each decodes its share of the images, and all get all.

    Raises
    ------
    RankError
        If the folders of the ranks differ.

    See Also
    --------
    load : Reads a data set of any known kind.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from fastcnn.data import load_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("cats", "dogs"):
    ...         Path(folder, name).mkdir()
    ...         Image.new("RGB", (8, 8)).save(Path(folder, name, "1.png"))
    ...     print(load_images(folder).classes)
    ['cats', 'dogs']
    """
    check_max_bytes(max_bytes)
    if communicator is None:
        return _of_images(Path(source), size, max_bytes, None)
    from ..ranks.mpi import as_communicator

    ranks = as_communicator(communicator)
    with nullcontext() if ranks is None else ranks.together():
        return _of_images(Path(source), size, max_bytes, ranks)


def _of_images(path: Path, size: tuple[int, int] | None, max_bytes: int | None, ranks: Communicator | None) -> Dataset:
    """Return the data set of a folder of images; see `load_images`."""
    if not path.is_dir():
        raise DataError(path, "expected a folder with a folder of images for each class")
    if (path / "train").is_dir() and (path / "test").is_dir():
        X, y, classes = read_images(path / "train", size, max_bytes, ranks)
        X_test, y_test, others = read_images(path / "test", size or (X.shape[2], X.shape[3]), max_bytes, ranks)
        if others != classes:
            raise DataError(
                path / "test", f"expected the classes of train, {', '.join(classes)}; got {', '.join(others)}"
            )
        if X.shape[1] != X_test.shape[1]:
            raise DataError(path / "test", "expected images as those of train: all grey, or in colour")
        if X.dtype != X_test.dtype:
            bits = "eight" if X.dtype == np.uint8 else "sixteen"
            raise DataError(path / "test", f"expected images as those of train: all of {bits} bits")
        return Dataset(X, y, X_test, y_test, classes)
    X, y, classes = read_images(path, size, max_bytes, ranks)
    return Dataset(X, y, None, None, classes)


def _dataset(path: Path, X: Array, y: IntArray, X_test: Array | None = None, y_test: IntArray | None = None) -> Dataset:
    """Return the data set of a path; its classes are all numbers up to the largest."""
    count = 1 + int(np.max(y))
    if X_test is not None and y_test is not None:
        if X_test.shape[1:] != X.shape[1:]:
            raise DataError(path, f"expected test images as those of train, {X.shape[1:]}; got {X_test.shape[1:]}")
        count = max(count, 1 + int(np.max(y_test)))
    return Dataset(X, y, X_test, y_test, [str(number) for number in range(count)])


def _cifar_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.bin") if not path.is_dir())


def _idx_images(folder: Path, pattern: str = "*images*idx*ubyte*") -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.is_dir())


def _is_there(path: Path) -> bool:
    """Tell whether there is something that is no folder; what it is will be seen when it is opened."""
    return path.exists() and not path.is_dir()


def _idx_pair(path: Path) -> tuple[Path, Path]:
    """Return the file of images and that of their classes, from either; packed or not, each."""
    plain = path.name.removesuffix(".gz")
    images = plain.replace("labels", "images").replace("idx1", "idx3")
    labels = plain.replace("images", "labels").replace("idx3", "idx1")
    if images == labels:
        raise DataError(
            path,
            "expected the images of an IDX pair, such as train-images-idx3-ubyte beside train-labels-idx1-ubyte, or a "
            "file whose name ends in .npz or .bin",
        )
    pair = []
    for name in (images, labels):
        files = [path.with_name(name + end) for end in ("", ".gz") if _is_there(path.with_name(name + end))]
        if not files:
            raise DataError(path, f"expected its other half beside it, {name} or {name}.gz")
        pair.append(files[0])
    return pair[0], pair[1]


def load_digits() -> tuple[Array, IntArray]:
    """Return scikit-learn's handwritten digits, 1797 images of 8 × 8 pixels.

    Returns
    -------
    X : float32 array of shape (1797, 1, 8, 8)
        Pixels / 16, from 0 to 1: exact in float32 and float64.
    y : int64 array of shape (1797,)
        0 to 9.

    See Also
    --------
    hold_out : Splits samples, a part of each class held out.

    References
    ----------
    Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository (1998).

    Examples
    --------
    >>> from fastcnn.data import load_digits
    >>> X, y = load_digits()
    >>> X.shape, y[:5].tolist()
    ((1797, 1, 8, 8), [0, 1, 2, 3, 4])
    """
    from sklearn import datasets

    pixels, y = datasets.load_digits(return_X_y=True)
    return (pixels / 16).astype("float32").reshape(-1, 1, 8, 8), y


def hold_out(X: Any, y: Any, share: float = 0.2, random_state: int = 42) -> tuple[Array, Array, IntArray, IntArray]:
    """Return `X_train, X_test, y_train, y_test`: the notebook's split, if nothing else is said.

    Parameters
    ----------
    X : array
        The samples.
    y : array of the same length
        Their classes.
    share : float
        Share of the samples that are held out.
    random_state : int
        Which samples these are.

    See Also
    --------
    load_digits : Reads scikit-learn's handwritten digits.

    Examples
    --------
    >>> from fastcnn.data import hold_out, load_digits
    >>> X_train, X_test, y_train, y_test = hold_out(*load_digits())
    >>> X_train.shape, X_test.shape
    ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    from sklearn.model_selection import train_test_split

    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=share, random_state=random_state)
    return X_train, X_test, y_train, y_test


LOADERS = {"digits": load_digits}
