"""Data from files: what they hold, and an error with the file's name and what is wrong where they hold it not."""

from __future__ import annotations

import gzip
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastcnn import Dense, Flatten, Sequential, Trainer, data
from fastcnn.data import DataError, load


def images(n: int = 6, shape: tuple[int, ...] = (4, 5), seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, size=(n, *shape)).astype(np.uint8)


def idx(array: np.ndarray, code: int = 0x08) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


def write_pair(folder: Path, kind: str = "train", n: int = 6, packed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    X, y = images(n), np.arange(n).astype(np.uint8) % 3
    for what, array in (("images-idx3", X), ("labels-idx1", y)):
        path = folder / f"{kind}-{what}-ubyte"
        if packed:
            Path(f"{path}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            path.write_bytes(idx(array))
    return X, y


# --------------------------------------------------------------------------------------------------------------- IDX


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_idx_files(packed, tmp_path):
    X, y = write_pair(tmp_path, packed=packed)
    X_test, y_test = write_pair(tmp_path, "t10k", 3, packed=packed)
    found = load(tmp_path)
    for actual, expected in [
        (found.X, X[:, None]),
        (found.y, y),
        (found.X_test, X_test[:, None]),
        (found.y_test, y_test),
    ]:
        np.testing.assert_array_equal(actual, expected)
    assert found.X.dtype == np.uint8
    assert found.y.dtype == np.int64
    assert found.classes == ["0", "1", "2"]


def test_either_file_of_a_pair_stands_for_both(tmp_path):
    X, y = write_pair(tmp_path)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        found = load(str(tmp_path / name))
        np.testing.assert_array_equal(found.X, X[:, None])
        np.testing.assert_array_equal(found.y, y)
        assert found.X_test is None


def test_a_plain_idx_file_is_mapped_and_trains(tmp_path):
    write_pair(tmp_path, n=30)
    found = load(tmp_path)
    assert isinstance(found.X, np.memmap) or isinstance(found.X.base, np.memmap)
    assert not found.X.flags.writeable
    history = Trainer(Sequential([Flatten(), Dense(3)])).fit(found.X, found.y, epochs=1, batch_size=8, verbose=0)
    assert len(history) == 1


@pytest.mark.parametrize(("code", "dtype"), [(9, "i1"), (0xB, ">i2"), (0xC, ">i4"), (0xD, ">f4"), (0xE, ">f8")])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_all_types_of_idx(code, dtype, pack, tmp_path):
    array = (images() / 2).astype(dtype)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(pack(idx(array, code)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6, np.uint8)))
    np.testing.assert_array_equal(load(tmp_path).X[:, 0], array)


WHOLE = idx(images())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no IDX file: expected it to begin with 00 00"),
        (b"\x89PNG\r\n\x1a\n", "no IDX file.*got '89 50 4e 47'"),
        (b"\0\0\x07\x03", "no IDX file"),
        (WHOLE[:9], "truncated: the header of an IDX file of 3 axes has 16 bytes"),
        (WHOLE[:-1], r"truncated: \(6, 4, 5\) of uint8 take 120 bytes after the header; got 119"),
        (WHOLE + b"!", r"too long: \(6, 4, 5\) of uint8 take 120 bytes after the header; there are more"),
        (struct.pack(">HBB3I", 0, 8, 3, *3 * [0xFFFFFFFF]) + b"few", r"truncated: .* take 79,.* bytes"),
        (idx(images(7)), "labels-idx1-ubyte.*: expected 7 classes, as many as .* has images; got 6"),
        (idx(images(6)[0]), r"expected images, \(N, H, W\)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_that_are_wrong(content, words, packed, tmp_path):
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)
    path.write_bytes(gzip.compress(content) if packed else content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6, np.uint8)))
    with pytest.raises(DataError, match=words) as error:
        load(tmp_path)
    assert str(error.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    "change", [lambda b: b[:-20], lambda b: b[:40] + b"\0\xff" * 9 + b[58:]], ids=["cut", "damaged"]
)
def test_gzip_that_is_wrong(change, tmp_path):
    write_pair(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: a truncated or damaged gzip file"):
        load(tmp_path)


def test_a_half_of_a_pair(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"expected its other half beside it, train-labels-idx1-ubyte or"):
        load(tmp_path)


def test_labels_without_images(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="expected one IDX file of train images; got none"):
        load(tmp_path)


def test_a_class_that_only_the_test_set_has(tmp_path):
    write_pair(tmp_path)
    write_pair(tmp_path, "t10k")
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(6, dtype=np.uint8)))
    assert len(load(tmp_path).classes) == 6


def test_labels_that_are_no_classes(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(6, ">f4"), 0xD))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: expected whole numbers \(N,\)"):
        load(tmp_path)


# ------------------------------------------------------------------------------------------------------------- CIFAR


def cifar(n: int, labels: int, top: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    X, y = images(n, (3, 32, 32)), np.arange(n) % top
    heads = np.stack([y % 20, y][-labels:], axis=1).astype(np.uint8)
    return X, y, np.concatenate([heads, X.reshape(n, -1)], axis=1).tobytes()


def test_cifar_10(tmp_path):
    X, y, content = cifar(8, 1, 10)
    half = 4 * 3073
    (tmp_path / "data_batch_1.bin").write_bytes(content[:half])
    (tmp_path / "data_batch_2.bin").write_bytes(content[half:])
    (tmp_path / "test_batch.bin").write_bytes(content[:half])
    found = load(tmp_path)
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.y, y)
    np.testing.assert_array_equal(found.X_test, X[:4])
    np.testing.assert_array_equal(load(tmp_path / "data_batch_2.bin").X, X[4:])


def test_cifar_100_takes_the_fine_labels(tmp_path):
    X, y, content = cifar(100, 2, 100)
    (tmp_path / "train.bin").write_bytes(content)
    found = load(tmp_path)
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.y, y)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 3072, b"\xff" * 3073, cifar(2, 1, 10)[2][:-1], cifar(2, 1, 10)[2] + b"!"]
)
def test_cifar_files_that_are_wrong(content, tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"data_batch_1\.bin: no CIFAR file, or a truncated one.*got {len(content):,} b"
    ):
        load(tmp_path)


# --------------------------------------------------------------------------------------------------------------- NPZ


@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), ("X", "y"), ("images", "labels")])
def test_npz(names, tmp_path):
    X, y = images(), np.arange(6)
    np.savez_compressed(tmp_path / "set.npz", **dict(zip(names, [X, y, X[:2], y[:2, None]], strict=False)))
    found = load(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.X, X[:, None])
    np.testing.assert_array_equal(found.y, y)
    assert (found.X_test is None) == (len(names) == 2)
    if found.X_test is not None:
        np.testing.assert_array_equal(found.y_test, y[:2])


def test_npz_with_names_of_classes(tmp_path):
    """They are counted in their order, those of the test images included, in both byte orders."""
    y, y_test = np.array(["eel", "ant", "eel", "cow", "ant", "eel"]), np.array([["bee"], ["cow"]])
    for order in "<>":
        np.savez(
            tmp_path / "set.npz", x_train=images(), y_train=y.astype(f"{order}U5"), x_test=images(2), y_test=y_test
        )
        found = load(tmp_path / "set.npz")
        assert found.classes == ["ant", "bee", "cow", "eel"]
        assert (found.y.tolist(), found.y_test.tolist()) == ([3, 0, 3, 2, 0, 3], [1, 2])
    np.savez(tmp_path / "set.npz", x=images(), y=np.frombuffer(np.full(6, 0x110000, "<u4").tobytes(), "<U1"))
    with pytest.raises(DataError, match="y: a damaged member: expected characters of Unicode"):
        load(tmp_path / "set.npz")


def test_npz_with_channels_last(tmp_path):
    X = images(6, (5, 6, 3))
    np.savez(tmp_path / "set.npz", x=X, y=np.zeros(6, int))
    np.testing.assert_array_equal(load(tmp_path / "set.npz").X, X.transpose(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": np.ones(3)}, "expected arrays x_train, y_train, or x, y; got a"),
        ({}, "got none"),
        ({"x": np.ones(3), "y": np.ones(3, int)}, r"x: expected images or features; got float64 of shape \(3,\)"),
        (
            {"x": images(), "y": np.ones(5, int)},
            r"y: expected 6 whole numbers, or names of classes; got int64 of shape \(5,\)",
        ),
        ({"x": images(), "y": np.ones(6)}, r"y: expected 6 whole numbers, or names of classes; got float64"),
        ({"x": images(), "y": np.arange(6) - 1}, r"y: expected classes from 0 to 65,535 at most; got -1"),
        ({"x": images(), "y": 10**9 * np.arange(6)}, r"y: expected classes from 0 to 65,535 at most; got 5000000000"),
        ({"x": images() + np.float32("inf"), "y": np.ones(6, int)}, r"x: expected finite numbers; got inf in sample 0"),
        (
            {"x_train": images(), "y_train": np.ones(6, int), "x_test": images(6, (4, 4)), "y_test": np.ones(6, int)},
            r"expected test images as those of train, \(1, 4, 5\); got \(1, 4, 4\)",
        ),
        ({"x": np.array([print, len]), "y": np.ones(2, int)}, "an array that cannot be read: .*allow_pickle=False"),
    ],
)
def test_npz_files_that_are_wrong(arrays, words, tmp_path):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=words) as error:
        load(tmp_path / "set.npz")
    assert str(error.value).startswith(f"{tmp_path / 'set.npz'}: ")


def test_npz_files_that_are_damaged(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, x=images(), y=np.arange(6))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:60] + b"\xff" * 40 + whole[100:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"set\.npz: "):
            load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\0\x10\0{'nonsense")
        file.writestr("y.npy", b"")
    with pytest.raises(DataError, match=r"set\.npz: an array that cannot be read"):
        load(path)


# ---------------------------------------------------------------------------------------------------- folders of images


def write_images(folder: Path, mode: str = "L", n: int = 2) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, name in enumerate(["cat", "dog"]):
        (folder / name).mkdir(parents=True)
        for k in range(n):
            shape = (4, 5) if mode == "L" else (4, 5, 3)
            pillow.fromarray(images(1, shape, 10 * number + k)[0]).save(folder / name / f"{k}.png")


def test_a_folder_of_images(tmp_path):
    write_images(tmp_path / "grey")
    (tmp_path / "grey" / "cat" / "._0.png").write_bytes(b"what a system hides is no image")
    (tmp_path / "grey" / ".thumbnails").mkdir()
    (tmp_path / "grey" / ".thumbnails" / "0.png").write_bytes(b"")
    found = load(tmp_path / "grey")
    np.testing.assert_array_equal(found.X[:, 0], np.concatenate([images(1, (4, 5), seed) for seed in (0, 1, 10, 11)]))
    np.testing.assert_array_equal(found.y, [0, 0, 1, 1])
    assert found.classes == ["cat", "dog"]
    write_images(tmp_path / "both" / "train", "RGB", 3)
    write_images(tmp_path / "both" / "test", "RGB", 1)
    found = load(tmp_path / "both")
    np.testing.assert_array_equal(found.X_test[1], images(1, (4, 5, 3), 10)[0].transpose(2, 0, 1))
    assert found.X.shape == (6, 3, 4, 5)
    assert data.load_images(tmp_path / "both", size=(8, 6)).X_test.shape == (2, 3, 8, 6)


def test_folders_of_images_that_are_wrong(tmp_path):
    write_images(tmp_path)
    pillow = pytest.importorskip("PIL.Image")
    bad = tmp_path / "dog" / "9.png"
    pillow.fromarray(images(1, (7, 5))[0]).save(bad)
    with pytest.raises(DataError, match=r"9\.png: expected 4 x 5 pixels, as 0\.png has; got 7 x 5"):
        load(tmp_path)
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    for content in (b"text", b"", whole[:-24]):
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"9\.png: no image that can be read, or a truncated one"):
            load(tmp_path)


def test_an_image_bomb_is_refused(tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.setattr(pytest.importorskip("PIL.Image"), "MAX_IMAGE_PIXELS", 11)
    with pytest.raises(DataError, match=r"0\.png: an image of more than 11 pixels"):
        load(tmp_path)


# ---------------------------------------------------------------------------------------------------------- all others


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such file or folder, and no name of a data set \(digits"):
        load(tmp_path / "nowhere")
    pytest.importorskip("PIL")
    with pytest.raises(DataError, match="expected a folder for each class, with images in it; found none"):
        load(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    with pytest.raises(DataError, match=r"text\.txt: expected the images of an IDX pair"):
        load(tmp_path / "text.txt")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(tmp_path):
    write_pair(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").chmod(0)
    with pytest.raises(PermissionError, match="train-images-idx3-ubyte"):
        load(tmp_path)


def test_digits_by_their_name():
    found = load("digits")
    assert found.X.shape == (1797, 1, 8, 8)
    assert len(found.classes) == 10


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files(name):
    folder = os.environ.get("FASTCNN_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"FASTCNN_DATA names no folder with {name} in it")
    found = load(Path(folder) / name)
    assert (found.X.shape, found.X_test.shape) == ((60000, 1, 28, 28), (10000, 1, 28, 28))
    assert np.bincount(found.y).sum() == 60000
    assert set(found.y) == set(found.y_test) == set(range(10))


def test_an_empty_folder_is_warned_of(tmp_path):
    from fastcnn.data.images import image_classes

    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.warns(UserWarning, match="no images in b, c"):
        assert image_classes(tmp_path) == ["a"]
    (tmp_path / "b" / "1.png").touch()
    (tmp_path / "c" / "1.png").touch()
    assert image_classes(tmp_path) == ["a", "b", "c"]
