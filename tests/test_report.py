"""The report: one page that needs nothing else, with the right numbers; from Python and by `fastcnn report`."""

from __future__ import annotations

import base64
import json
import re
import shlex
import struct
import zlib

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

import fastcnn
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, ReLU, Sequential, Trainer, write_report
from fastcnn.cli import main
from fastcnn.inspection import worst_mistakes
from fastcnn.report import pictures
from tests.test_markup import Page

NAMES = ["<ape>", "bee", "c & d"]


@pytest.fixture(scope="module")
def data():
    rng = np.random.RandomState(0)
    y = np.arange(90) % 3
    X = rng.rand(90, 1, 7, 6) + np.eye(3)[y][:, :, None].repeat(14, axis=2).reshape(90, 1, 7, 6)
    return X, y


@pytest.fixture(scope="module")
def classifier(data):
    X, y = data
    return CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=3, random_state=0).fit(X, np.array(NAMES)[y])


def decoded(address: str) -> np.ndarray:
    """Return the pixels of a PNG in a data address, read by the standard library alone."""
    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    parts, at = {}, 8
    while at < len(file):
        (length,), name = struct.unpack(">I", file[at : at + 4]), file[at + 4 : at + 8]
        parts[name] = file[at + 8 : at + 8 + length]
        assert struct.unpack(">I", file[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + parts[name]),)
        at += 12 + length
    width, height, depth, kind = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    assert depth == 8
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width) if kind == 0 else (height, width, 3))


def images(html: str) -> dict[str, list[np.ndarray]]:
    """Return the pictures of a page by their words."""
    found: dict[str, list[np.ndarray]] = {}
    for words, address in re.findall(r'<img alt="([^"]*)"[^>]*src="([^"]*)"', html):
        found.setdefault(words, []).append(decoded(address))
    return found


def test_the_page_has_the_numbers_of_scikit_learn(classifier, data, tmp_path):
    X, y = data
    truth, guess = np.array(NAMES)[y], classifier.predict(X)
    path = tmp_path / "report.html"
    write_report(classifier, X, truth, path, title="A & <b>", data="noise", about={"seed": 7}, command="make report")
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert {"h1", "section", "svg", "table", "img"} <= {*page.tags}
    assert "A & <b>" in page.text
    assert f"accuracy {np.mean(guess == truth):.2%}" in page.text
    for values in zip(NAMES, *precision_recall_fscore_support(truth, guess, labels=NAMES), strict=True):
        name, p, r, f1, count = values
        assert f"{name} {p:.2%} {r:.2%} {f1:.2%} {count}" in page.text
    for name, row in zip(NAMES, confusion_matrix(truth, guess, labels=NAMES), strict=True):
        assert " ".join([name, *(str(count or "·") for count in row)]) in page.text
    for words in (
        "noise",
        "seed 7",
        "make report",
        classifier.model_.digest(),
        fastcnn.__version__,
        "History: 3 epochs",
    ):
        assert words in page.text
    assert len(html) < 200_000
    assert "Confusion Worst mistakes Filters" in re.sub("<[^>]*>", "", html.split("<nav>")[1].split("</nav>")[0])
    write_report(classifier, X, truth, path)
    assert "Data samples" in Page(path.read_text(encoding="utf-8")).text  # no row for a name that nobody gave


def test_the_pictures_are_those_of_the_data_and_of_the_network(classifier, data, tmp_path):
    X, y = data
    path = tmp_path / "report.html"
    write_report(classifier, X, np.array(NAMES)[y], path)
    found = images(path.read_text(encoding="utf-8"))
    first = X[0, 0]
    scaled = np.rint(255 * (first - first.min()) / (first.max() - first.min()))
    np.testing.assert_array_equal(found["a sample of class &lt;ape&gt;"][0], scaled)
    mistakes = worst_mistakes(classifier, X, np.array(NAMES)[y], count=12)
    assert sum(len(many) for words, many in found.items() if words.startswith("saliency")) == len(mistakes.indices)
    filters = classifier.model_.parameters["0.filters"]
    np.testing.assert_array_equal(
        found["filter 2"][0], pictures.signed(filters[2, 0], float(np.abs(filters[:, 0]).max()))
    )


def test_colours_of_signed_numbers():
    colours = pictures.signed(np.array([[0.0, 1.0, -1.0, 0.5, 9.0]]), 1.0)
    assert colours[0].tolist() == [[255, 255, 255], [178, 24, 43], [33, 102, 172], [216, 140, 149], [178, 24, 43]]
    large = pictures.as_bytes(np.zeros((3, 500, 20), np.uint8))
    assert large.shape == (84, 4, 3)


def test_the_calibration_error_is_that_of_its_formula(data, tmp_path):
    """A model whose outputs are the logarithms of its input."""
    model = Sequential([Dense(2)]).build((2,), random_state=0, dtype=np.float64)
    model.parameters["0.weights"][...] = np.eye(2)
    p = np.array([0.95, 0.95, 0.65, 0.65])
    write_report(model, np.log(np.stack([p, 1 - p], axis=1)), [0, 1, 0, 0], tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert f"Expected calibration error: {(2 * 0.45 + 2 * 0.35) / 4:.2%}" in page.text
    assert "90% to 100% 2 95.0% 50.0%" in page.text
    assert "The network has no convolution." in page.text
    assert "The file keeps no history" in page.text


def test_a_model_a_trainer_and_many_classes(tmp_path):
    X, y = np.random.RandomState(0).rand(60, 3, 8, 8).astype("f"), np.arange(60) % 50
    model = Sequential([Conv2D(4, 3), Flatten(), Dense(50)])
    trainer = Trainer(model, random_state=0)
    trainer.fit(X, y, epochs=1, batch_size=20, verbose=0)
    before = model.digest()
    write_report(trainer, X, y, tmp_path / "r.html", classes=[f"class {k}" for k in range(50)])
    assert model.digest() == before
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "History: 1 epoch" in page.text
    assert "class taken for samples" in page.text
    right = Sequential([Flatten(), Dense(1)]).build((1, 2, 2), random_state=0)
    write_report(right, np.ones((1, 1, 2, 2)), [0], tmp_path / "r.html")
    assert "All samples are right." in Page((tmp_path / "r.html").read_text(encoding="utf-8")).text


def test_errors_leave_no_file(classifier, data, tmp_path):
    X, y = data
    path = tmp_path / "r.html"
    for change, words in (
        ({"y": y}, r"y: expected classes of <ape>, bee, c & d; got 0"),
        ({"y": ["bee"]}, r"y: expected shape \(90,\)"),
        ({"classes": ["a"]}, "classes: expected 3 names; got 1"),
        ({"X": X + np.nan}, "NaN"),
    ):
        given = {"X": X, "y": np.array(NAMES)[y], **change}
        with pytest.raises(ValueError, match=words):
            write_report(classifier, given.pop("X"), given.pop("y"), path, **given)
    regressor = CNNRegressor([Flatten()], max_iter=2, random_state=0).fit(X, X[:, 0, 0, 0])
    with pytest.raises(ValueError, match="model: expected a classifier with one class a sample; got CNNRegressor"):
        write_report(regressor, X, y, path)
    assert not [*tmp_path.iterdir()]


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--epochs", "1", "--save", "m.safetensors", "--quiet"]) == 0
    digest = capsys.readouterr().out.split()[-1]
    assert main(["report", "m.safetensors", "digits", "--output", "r.html"]) == 0
    assert capsys.readouterr().out == "Wrote r.html: 360 held-out images.\n"
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    size = (tmp_path / "r.html").stat().st_size
    assert size < 2_000_000
    assert "fastcnn report m.safetensors digits --output r.html" in page.text
    assert digest in page.text
    assert "History: 1 epoch" in page.text
    again = re.search(r"fastcnn (train digits --model digits_default --epochs 1 .* --seed 0)", page.text)
    assert main([*shlex.split(again[1]), "--quiet"]) == 0
    assert digest in capsys.readouterr().out
    assert main(["report", "m.safetensors", "digits", "--output", "r.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": "r.html", "bytes": size, "images": 360}
    for wrong, status in ((["--output", "no/r.html"], 2), (["--output", "."], 2), ([], 2)):
        try:
            found = main(["report", "m.safetensors", "digits", *wrong])
        except SystemExit as ended:
            found = ended.code
        assert found == status
    fastcnn.save(CNNRegressor([Flatten()], max_iter=2).fit(np.random.rand(9, 64), np.arange(9.0)), "numbers")
    assert main(["report", "numbers", "digits", "--output", "n.html"]) == 1
    assert "expected a model of classes" in capsys.readouterr().err
    assert not (tmp_path / "n.html").exists()
