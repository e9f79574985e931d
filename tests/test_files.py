"""Odd, damaged and hostile files of data: refused in one line with the path, at once, and in little memory."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import struct
import sys
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fastcnn.cli import main
from fastcnn.data import DataError, load, load_idx, load_images, load_npz, npz
from tests import mutations
from tests.mutations import IMAGES, LABELS, npy, picture, pixels
from tests.processes import ROOT, run_python


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


@pytest.fixture(autouse=os.name != "nt")
def _never_waits():
    """Let what would block for ever be a failure."""

    def late(*_):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refuse(path: Path, words: str, culprit: Path | None = None, **options: object) -> None:
    """See a path refused, in one line that begins with what is wrong there."""
    with pytest.raises(DataError, match=words) as error:
        load(path, **options)
    assert str(error.value).startswith(f"{culprit or path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is Linux's")
def test_thousands_of_damaged_files():
    """Each is loaded, or refused by an error of ours: the same ones every time, in 2 GiB of address space."""
    code = "from tests import mutations\nimport sys\nmutations.limit_memory()\nmutations.quieten()\n"
    code += "seen, wrong = mutations.search(0, 2000)\nassert not wrong, wrong\nprint(*sorted(seen), sep='|')"
    seen = set(run_python(code, root=ROOT).strip().split("|"))
    assert seen >= {f"{name} refused" for name in mutations.recipes()}


def test_the_same_files_whole(tmp_path):
    for name, maker in mutations.recipes().items():
        for file, content in maker(bytes).items():
            put(tmp_path / name / file, content)
        assert mutations.problem_of(tmp_path / name) is None, name


# ------------------------------------------------------------------------------------------------- what is no file


@pytest.mark.skipif(os.name == "nt", reason="there are none")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("folder", "x.npz"), *product(["fifo", "socket", "device"], ["x.npz", "x.bin", "x-images-idx3-ubyte", "x"])],
)
def test_what_is_no_file_is_refused_at_once(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    path, words = tmp_path / name, {"fifo": "a FIFO", "socket": "a socket", "folder": "a folder", "device": "a device"}
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refuse(path, f"expected a file; got {words[kind]}")


@pytest.mark.skipif(os.name == "nt", reason="there are none")
@pytest.mark.parametrize(
    "name", ["data_batch_1.bin", "train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz", "a/0.png"]
)
def test_a_fifo_in_a_folder_is_refused_at_once(name, tmp_path):
    if "labels" in name:
        put(tmp_path / "train-images-idx3-ubyte", IMAGES)
    if "images" in name:
        put(tmp_path / "train-labels-idx1-ubyte", LABELS)
    if name.endswith("png"):
        pytest.importorskip("PIL")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    refuse(tmp_path, "expected a file; got a FIFO", tmp_path / name)


def test_a_path_with_line_ends_is_one_line(tmp_path, capsys):
    path = put(tmp_path / "a\nb.npz", b"text")
    with pytest.raises(DataError) as error:
        load(path)
    assert str(error.value).startswith(f"{str(path)!r}: no NPZ file")
    for name in (str(path), str(tmp_path / "none\nat all")):
        assert main(["train", name]) in (1, 2)
        assert capsys.readouterr().err.count("\n") == 1


# ------------------------------------------------------------------------------------------------------ how large it is


def test_a_packed_idx_file_may_claim_a_thousand_times_its_size(tmp_path, capsys):
    array = np.zeros((3000, 28, 28), np.uint8)
    path = put(tmp_path / "train-images-idx3-ubyte.gz", gzip.compress(mutations.idx(array)))
    put(tmp_path / "train-labels-idx1-ubyte", mutations.idx(np.zeros(3000, np.uint8)))
    assert array.nbytes > 1000 * path.stat().st_size
    words = r"\(3000, 28, 28\) of uint8 take 2,352,000 bytes; expected at most [\d,]+, for [\d,]+ packed"
    refuse(tmp_path, words, path)
    assert load(tmp_path, max_bytes=2_352_000).X.shape == (3000, 1, 28, 28)
    assert load_idx(path, max_bytes=1 << 40).X.shape == (3000, 1, 28, 28)
    refuse(tmp_path, "expected at most max_bytes, 2,351,999", path, max_bytes=2_351_999)
    assert main(["train", str(tmp_path)]) == 1
    assert "(argument max_bytes, or --max-bytes)" in capsys.readouterr().err
    assert main(["train", str(tmp_path), "--max-bytes", "5"]) == 1
    assert "at most max_bytes, 5 " in capsys.readouterr().err


def test_a_packed_idx_file_that_cannot_hold_what_it_claims(tmp_path):
    content = struct.pack(">HBB3I", 0, 8, 3, 60_000, 1000, 1000) + bytes(100_000)
    path = put(tmp_path / "train-images-idx3-ubyte.gz", gzip.compress(content))
    put(tmp_path / "train-labels-idx1-ubyte", LABELS)
    for limit in (None, 1 << 50):
        refuse(
            tmp_path,
            r"truncated: .* take 60,000,000,000 bytes after the header; .* hold no more",
            path,
            max_bytes=limit,
        )


@pytest.mark.parametrize(
    ("method", "n"), [(zipfile.ZIP_DEFLATED, 60_000), (zipfile.ZIP_BZIP2, 3000), (zipfile.ZIP_LZMA, 3000)]
)
def test_a_packed_npz_file_may_claim_a_thousand_times_its_size(method, n, tmp_path):
    """Zeros pack better than that, by bzip2 a million times; they are taken when the caller says how many."""
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", npy(np.zeros((n, 28, 28), np.uint8)))
        file.writestr("y.npy", npy(np.zeros(n, np.int64)))
    refuse(path, rf"arrays x, y take {n * 792:,} bytes; expected at most [\d,]+, for [\d,]+ packed")
    assert load_npz(path, max_bytes=n * 792).X.shape == (n, 1, 28, 28)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_is_unpacked_in_small_pieces(method):
    """However well it is packed: a member of a kilobyte that holds gigabytes never is in memory."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x", bytes(5_000_000))
        (info,) = archive.infolist()
    pieces = [len(piece) for piece in npz._unpacked(Path("x"), "x", file, info)]
    assert sum(pieces) == 5_000_000
    assert max(pieces) <= npz.PIECE


def test_the_dictionary_of_lzma_is_no_larger_than_its_member(tmp_path):
    content = bytearray(mutations.npz(zipfile.ZIP_LZMA))
    at = content.index(b"x_train.npy") + len("x_train.npy")
    assert content[at + 2 : at + 4] == b"\5\0"
    content[at + 5 : at + 9] = b"\xff" * 4  # it would take 4 GiB at once
    path = put(tmp_path / "set.npz", bytes(content))
    if sys.platform == "linux":
        code = "import sys\nfrom tests.mutations import limit_memory\nfrom fastcnn.data import load\nlimit_memory()\n"
        assert run_python(code + "print(load(sys.argv[1]).X.shape)", str(path), root=ROOT) == "(6, 1, 5, 4)\n"
    np.testing.assert_array_equal(load(path).X[:, 0], pixels(6, 5, 4))


@pytest.mark.parametrize(("value", "kind"), [(0, ValueError), (-5, ValueError), (2.5, TypeError), (True, TypeError)])
def test_a_limit_that_makes_no_sense(value, kind, tmp_path):
    for function in (load, load_idx, load_npz, load_images):
        with pytest.raises(kind, match=r"^max_bytes: expected .*; got"):
            function(tmp_path, max_bytes=value)


# --------------------------------------------------------------------------------------------------------- IDX and NPZ


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("head", "words"),
    [
        (struct.pack(">HBB65I", 0, 8, 65, *65 * [1]) + b"1", "expected an IDX file .* 1 to 4 axes; got 65 axes"),
        (struct.pack(">HBB3I", 0, 8, 3, 0, 1 << 31, 1 << 31), r"expected at least one image or class; got shape \(0, "),
        (struct.pack(">HBB4I", 0, 14, 4, *4 * [1 << 31]), "truncated: "),
    ],
)
def test_idx_files_of_odd_shapes(head, words, packed, tmp_path):
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)
    put(path, gzip.compress(head) if packed else head)
    put(tmp_path / "train-labels-idx1-ubyte", LABELS)
    refuse(tmp_path, words, path)


def raw_npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header.encode() + data


def claim(dtype: str, shape: object, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return raw_npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}", data, version)


NO_HEADER = "x: no .npy, or a damaged header"


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (b"plain text", NO_HEADER),
        (b"", NO_HEADER),
        (raw_npy("{'descr': " + 5000 * "(" + "}"), NO_HEADER),
        (raw_npy(" " * 60_000), NO_HEADER),
        (raw_npy("{}", version=b"\2\0"), NO_HEADER),
        (raw_npy("", version=b"\2\0")[:8] + b"\xff" * 4, NO_HEADER),
        (claim("'<f4'", "(6,)", bytes(24), b"\3\0"), NO_HEADER),
        (claim("'|O'", "(6,)"), "x: expected numbers; got objects, which only a pickle could hold"),
        (claim("'<U3'", "(6,)", bytes(72)), "x: expected numbers; got dtype <U3"),
        (claim("[('a', '<i4')]", "(6,)", bytes(24)), "x: expected numbers; got dtype"),
        (claim("('<f4', (3,))", "(6,)", bytes(72)), "x: expected numbers; got dtype"),
        (claim("'<f4'", f"({10**12}, {10**12})"), "x: truncated or too long: .* take 4,000,000,000,000,000"),
        (claim("'<f4'", f"(0, {10**20})"), "x: expected at least one number"),
        (claim("'<f4'", "(-1, 4)"), r"x: expected 1 to 4 axes; got shape \(-1"),
        (claim("'<f4'", (1,) * 65, bytes(4)), "x: expected 1 to 4 axes; got shape"),
        (claim("'<f4'", "(6, 4)", bytes(95)), "x: truncated or too long: .* got 95"),
        (claim("'<f4'", "(6, 4)", bytes(97)), "x: truncated or too long: .* got 97"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_that_are_no_arrays_of_numbers(member, words, method, tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x.npy", member)
        file.writestr("y.npy", npy(np.zeros(6, int)))
    refuse(path, words)


@pytest.mark.parametrize(
    "change", [np.asfortranarray, lambda x: x.astype(">i4"), lambda x: np.asfortranarray(x, ">f8")]
)
def test_members_in_other_orders(change, tmp_path):
    X = pixels(6, 3, 5, 4)
    np.savez(tmp_path / "set.npz", x=change(X), y=np.arange(6).astype(">i2"))
    found = load(tmp_path / "set.npz")
    np.testing.assert_array_equal(found.X, X)
    np.testing.assert_array_equal(found.y, np.arange(6))
    assert found.X.dtype.isnative


def test_a_member_in_version_2(tmp_path):
    member = raw_npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 4), }", bytes(range(24)), b"\2\0")
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as file:
        file.writestr("X.npy", member)
        file.writestr("Y.npy", npy(np.zeros(6, int)))
    np.testing.assert_array_equal(load(tmp_path / "set.npz").X.ravel(), range(24))


def changed(content: bytes, field: int, value: int) -> bytes:
    """Return an archive with a two-byte field of the first member's entry in the directory changed."""
    at = content.index(b"PK\1\2") + field
    return content[:at] + value.to_bytes(2, "little") + content[at + 2 :]


def test_members_that_are_encrypted_or_packed_in_an_unknown_way(tmp_path):
    np.savez(tmp_path / "set.npz", x=pixels(6, 5, 4), y=np.arange(6))
    whole = (tmp_path / "set.npz").read_bytes()
    for field, value, words in (
        (8, 1, "x: an encrypted member; expected one that is not"),
        (10, 9, r"x: packed by method 9; expected 0 \(stored\), 8"),
        (10, 93, "x: packed by method 93"),
        (10, zipfile.ZIP_DEFLATED, "x: a .*damaged member"),
        (10, zipfile.ZIP_BZIP2, "x: a truncated or damaged member"),
        (10, zipfile.ZIP_LZMA, r"x: a truncated or damaged member \(no properties of LZMA\)"),
    ):
        refuse(put(tmp_path / "bad.npz", changed(whole, field, value)), words)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_are_damaged(method, tmp_path):
    content = bytearray(mutations.npz(method))
    at = content.index(b"x_train.npy", content.index(b"x_train.npy")) + 60
    content[at : at + 20] = bytes(range(50, 70))
    refuse(put(tmp_path / "set.npz", bytes(content)), "x_train: ")


def test_cifar_files_of_wrong_lengths(tmp_path):
    for length in (1, 3072, 3073 * 3 + 1, 3073 * 3 - 1, 3074 * 2 - 1):
        refuse(
            put(tmp_path / "data_batch_1.bin", bytes(length)), rf"no CIFAR file, or a truncated one.*got {length:,} b"
        )


# -------------------------------------------------------------------------------------------------- images of all modes


def folder_of(tmp_path: Path, *contents: tuple[str, bytes]) -> Path:
    for number, (end, content) in enumerate(contents):
        put(tmp_path / "ab"[number % 2] / f"{number}.{end}", content)
    return tmp_path


def saved(image: object, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "order"), [("png", "<u2"), ("tiff", "<u2"), ("tiff", ">u2"), ("ppm", "<u2")])
def test_images_of_16_bits_keep_their_range(kind, order, pillow, tmp_path):
    numbers = np.random.RandomState(0).randint(0, 65536, size=(2, 4, 5)).astype(order)
    numbers[0, 0, :2] = 0, 65535
    found = load(folder_of(tmp_path, *((kind, saved(pillow.fromarray(each), kind)) for each in numbers)))
    assert found.X.dtype == np.float32
    np.testing.assert_array_equal(found.X[:, 0], numbers.astype("f") / np.float32(65535))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_float_images_are_as_they_are(compression, pillow, tmp_path):
    numbers = np.random.RandomState(0).standard_normal((2, 4, 5)).astype("f") * 300
    images = [pillow.fromarray(each) for each in numbers]
    found = load(folder_of(tmp_path, *(("tif", saved(image, "tiff", compression=compression)) for image in images)))
    np.testing.assert_array_equal(found.X[:, 0], numbers)
    numbers[1, 2, 3] = np.nan
    put(tmp_path / "b" / "1.tif", saved(pillow.fromarray(numbers[1]), "tiff"))
    refuse(tmp_path, "expected finite numbers; got nan", tmp_path / "b" / "1.tif")


def test_integers_of_32_bits_are_as_they_are(pillow, tmp_path):
    numbers = np.arange(-20, 20, dtype=np.int32).reshape(2, 4, 5) * 1000
    found = load(folder_of(tmp_path, *(("tif", saved(pillow.fromarray(each), "tiff")) for each in numbers)))
    np.testing.assert_array_equal(found.X[:, 0], numbers)


def test_images_of_8_and_of_16_bits_are_floats_from_0_to_1(pillow, tmp_path):
    deep, flat = pillow.fromarray(np.full((4, 5), 65535, np.uint16)), pillow.fromarray(np.full((4, 5), 51, np.uint8))
    found = load(folder_of(tmp_path / "grey", ("png", saved(deep, "png")), ("png", saved(flat, "png"))))
    assert (found.X.dtype, found.X.shape) == (np.float32, (2, 1, 4, 5))
    np.testing.assert_array_equal(found.X[:, 0, 0, 0], np.float32([1, 51 / 255]))
    colour = pillow.fromarray(np.full((4, 5, 3), (0, 51, 255), np.uint8))
    found = load(folder_of(tmp_path / "colour", ("png", saved(deep, "png")), ("png", saved(colour, "png"))))
    np.testing.assert_array_equal(found.X[:, :, 0, 0], np.float32([[1, 1, 1], [0, 51 / 255, 1]]))
    folder_of(tmp_path / "two" / "train", ("png", saved(flat, "png")), ("png", saved(flat, "png")))
    folder_of(tmp_path / "two" / "test", ("png", saved(deep, "png")), ("png", saved(deep, "png")))
    refuse(tmp_path / "two", "expected images as those of train: all of eight bits", tmp_path / "two" / "test")


def test_images_of_16_bits_are_resized_within_their_range(pillow, tmp_path):
    numbers = (np.indices((8, 8)).sum(axis=0) % 2 * 65535).astype(np.uint16)
    folder_of(tmp_path, *2 * [("png", saved(pillow.fromarray(numbers), "png"))])
    X = load_images(tmp_path, size=(20, 30)).X
    assert X.shape == (2, 1, 20, 30)
    assert 0 <= X.min() < 0.1
    assert 0.9 < X.max() <= 1


@pytest.mark.parametrize(
    ("mode", "kind", "grey"),
    [("1", "png", True), ("1", "tiff", True), ("L", "png", True), ("LA", "png", True), ("P", "png", False),
     ("P", "gif", False), ("PA", "tiff", False), ("RGB", "png", False), ("RGBA", "png", False), ("RGBA", "tiff", False),
     ("CMYK", "tiff", False), ("YCbCr", "tiff", False)],
)  # fmt: skip
def test_images_of_8_bits_of_all_modes(mode, kind, grey, pillow, tmp_path):
    image = pillow.fromarray(pixels(4, 5, 3)).convert(mode)
    found = load(folder_of(tmp_path, *2 * [(kind, saved(image, kind))]))
    assert found.X.dtype == np.uint8
    whole = image.convert("RGBA") if mode[0] == "P" else image
    expected = np.asarray(whole.convert("L" if grey else "RGB")).reshape(4, 5, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(found.X, [expected, expected])


def test_a_palette_with_transparency_is_no_warning(pillow, tmp_path):
    assert load(folder_of(tmp_path, *2 * [("png", picture("png", "P"))])).X.shape == (2, 3, 9, 7)


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    ("kind", "mode"), [("png", "RGB"), ("png", "I;16"), ("jpeg", "RGB"), ("tiff", "L"), ("gif", "L")]
)
def test_a_truncated_image_is_refused_whatever_pillow_is_told(kind, mode, lenient, pillow, tmp_path, monkeypatch):
    files = pytest.importorskip("PIL.ImageFile")
    monkeypatch.setattr(files, "LOAD_TRUNCATED_IMAGES", lenient)
    whole = picture(kind, mode)
    for length in (len(whole) // 2, len(whole) * 3 // 4):
        folder_of(tmp_path, (kind, whole), (kind, whole[:length]))
        refuse(tmp_path, "no image that can be read, or a truncated one", tmp_path / "b" / f"1.{kind}")
    assert files.LOAD_TRUNCATED_IMAGES is lenient


def test_a_png_whose_checksum_is_wrong_is_refused(pillow, tmp_path):
    """Its decoder would show other pixels without a word."""
    whole = bytearray(picture("png", "L"))
    whole[whole.index(b"IDAT") + 12] ^= 4
    folder_of(tmp_path, ("png", picture("png", "L")), ("png", bytes(whole)))
    refuse(tmp_path, "no image that can be read", tmp_path / "b" / "1.png")


def test_only_images_are_decoded(pillow, tmp_path):
    """PostScript would be run by Ghostscript."""
    image = pillow.fromarray(pixels(4, 5))
    for kind in ("eps", "pdf", "tga", "ico", "icns"):
        folder_of(tmp_path, ("png", picture("png")), ("png", saved(image.resize((64, 64)), kind)))
        refuse(tmp_path, "expected PNG, JPEG, BMP, GIF, PPM, TIFF or WebP", tmp_path / "b" / "1.png")


def test_a_folder_of_images_may_be_limited(pillow, tmp_path):
    folder_of(tmp_path, *2 * [("png", picture("png", "RGB"))])
    assert load_images(tmp_path, max_bytes=2 * 3 * 9 * 7).X.shape == (2, 3, 9, 7)
    refuse(tmp_path, r"images \(2, 3, 9, 7\) of uint8 take 378 bytes; expected at most max_bytes, 377", max_bytes=377)


def test_images_that_claim_more_than_there_is(pillow, tmp_path, monkeypatch):
    """An image is small packed; a folder of such is not."""
    monkeypatch.setattr("fastcnn.data.images.FLOOR", 1000)
    blank = saved(pillow.new("1", (3000, 3000)), "png")
    folder_of(tmp_path, *4 * [("png", blank)])
    refuse(tmp_path, r"images \(4, 1, 3000, 3000\) of uint8 take 36,000,000 bytes; expected at most ")
