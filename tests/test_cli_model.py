"""The command line after training: `--save`, `--checkpoint`, and the verbs `evaluate`, `predict` and `info`."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, CNNRegressor, Conv2D, Dense, Flatten, ReLU, Sequential
from fastcnn.cli import main
from fastcnn.cli.main import _parser
from fastcnn.training.checkpoint import Checkpoint
from tests.test_cli_train import write
from tests.test_data import idx

NAMES = ("bright", "dark")


def pictures(folder, sizes=((8, 8),), counts=(24, 24), mode="L"):
    """Write a folder of images for each class."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.RandomState(0)
    for name, low, count in zip(NAMES, (150, 0), counts, strict=True):
        (folder / name).mkdir(parents=True)
        for n in range(count):
            pixels = rng.randint(low, low + 100, size=sizes[n % len(sizes)]).astype(np.uint8)
            image.fromarray(pixels).convert(mode).save(folder / name / f"{n}.png")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the file of a network that was trained on a folder of images, and the folder."""
    folder = pictures(tmp_path_factory.mktemp("images"))
    path = folder.parent / "model.safetensors"
    assert main(["train", str(folder), "--epochs", "8", "--batch-size", "8", "--quiet", "--save", str(path)]) == 0
    return str(path), folder


def status(*arguments) -> int:
    try:
        return main([*map(str, arguments)])
    except SystemExit as end:
        return end.code


def line_of_error(capsys, *arguments) -> str:
    assert status(*arguments) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("fastcnn")
    return err


# train.


def test_what_is_saved_knows_what_it_was_trained_on(saved, capsys):
    path, folder = saved
    assert main(["info", path, "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["classes"] == [*NAMES]
    assert (known["data"], known["images"], known["held_out"], known["epochs"]) == (str(folder), 38, 10, 8)
    assert (known["optimizer"], known["batch_size"], known["kind"]) == ("momentum", 8, "Sequential")
    assert known["layers"][0].startswith("Conv2D(")
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert re.search(r"classes +bright, dark\n", out)
    assert "place  layer" in out
    assert isinstance(fastcnn.load(path), Sequential)


def test_the_same_command_goes_on_from_its_checkpoint(tmp_path, capsys, monkeypatch):
    folder, whole, resumed = (tmp_path / name for name in ("data", "whole", "resumed"))
    arguments = ["train", str(write(folder)), "--epochs", "3", "--batch-size", "10", "--augment", "shift=1"]
    assert main([*arguments, "--save", str(whole)]) == 0
    checkpoint = ["--checkpoint", str(tmp_path / "run"), "--save", str(resumed)]

    def broken(self, run, callbacks, *, last):
        self.write(run, callbacks, None)
        if run.epoch == 2:
            raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "epoch", broken)
        assert main([*arguments, *checkpoint]) == 1
    assert not resumed.exists()
    capsys.readouterr()
    assert main([*arguments, *checkpoint]) == 0
    out = capsys.readouterr().out
    assert f"Going on from {tmp_path / 'run'}." in out
    assert re.findall(r"Epoch (\d)", out) == ["3"]
    one, other = fastcnn.load(whole), fastcnn.load(resumed)
    for name, array in one.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], array)
    assert status(*arguments, *checkpoint, "--seed", "1") == 1
    assert "is of a run with another seed: 0, not 1" in capsys.readouterr().err


def test_images_of_several_sizes_are_an_error_that_names_size(tmp_path, capsys):
    folder = pictures(tmp_path / "images", sizes=((8, 8), (9, 12)))
    assert line_of_error(capsys, "train", folder).endswith("got 9 x 12; --size HxW brings all images to one size\n")
    path = tmp_path / "model"
    assert main(["train", str(folder), "--size", "8x8", "--epochs", "1", "--quiet", "--save", str(path)]) == 0
    assert fastcnn.load(path).input_shape == (1, 8, 8)
    assert main(["evaluate", str(path), str(folder), "--size", "8x8"]) == 0


def test_unbalanced_classes_are_told_one_by_one(tmp_path, capsys):
    folder = pictures(tmp_path / "images", counts=(60, 4))
    arguments = ["train", str(folder), "--epochs", "1", "--learning-rate", "1e-9", "--validation", "0.5"]
    assert main([*arguments, "--quiet"]) == 0
    words = (
        r"Test Accuracy: [\d.]+% \(recall: bright [\d.]+%, dark [\d.]+%; the largest class alone: 9[\d.]+%\) \| .*\n"
    )
    assert re.fullmatch(words, capsys.readouterr().out)
    assert main([*arguments, "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(last["recall"]) == {*NAMES}
    assert last["majority"] > 0.9


def test_a_balanced_weight_counts_rare_classes_as_much(tmp_path, capsys):
    from fastcnn.cli.recipes import balanced

    np.testing.assert_allclose(balanced(np.array([0, 0, 0, 1]), 3), [4 / 9, 4 / 3, 0])
    folder = pictures(tmp_path / "images", counts=(40, 8))

    def losses(*more):
        assert main(["train", str(folder), "--epochs", "2", "--json", *more]) == 0
        return [json.loads(line).get("loss") for line in capsys.readouterr().out.splitlines()]

    assert losses("--class-weight", "balanced") != losses()


# evaluate.


def test_evaluate_tells_precision_and_recall_and_where_classes_go(saved, tmp_path, capsys):
    path, _ = saved
    folder = pictures(tmp_path / "others")
    assert main(["evaluate", path, str(folder), "--confusion"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["class", "precision", "recall", "images"]
    assert [line.split()[0] for line in out[1:3]] == [*NAMES]
    assert re.fullmatch(r"Accuracy: [\d.]+% \| Loss: \d+\.\d{4} \| 48 images", out[-1])
    assert main(["evaluate", path, str(folder), "--confusion", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    matrix = np.array(known["confusion"])
    assert known["accuracy"] == matrix.trace() / 48 > 0.9
    assert known["classes"]["dark"]["recall"] == matrix[1, 1] / matrix[1].sum()
    assert known["classes"]["dark"]["precision"] == matrix[1, 1] / matrix[:, 1].sum()
    model, X = fastcnn.load(path), fastcnn.data.load(folder)
    assert known["accuracy"] == np.mean(model.predict(X.X).argmax(axis=1) == X.y)
    assert main(["evaluate", path, str(folder), "--validation", "0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 10


@pytest.mark.parametrize("share", ["0.2", "0.35"])
def test_images_that_the_network_was_trained_on_are_not_measured_on(share, tmp_path, capsys):
    folder, path = pictures(tmp_path / "images", counts=(20, 19)), str(tmp_path / "model")
    arguments = ["train", str(folder), "--epochs", "2", "--batch-size", "8", "--save", path]
    assert main([*arguments, *([] if share == "0.2" else ["--validation", share])]) == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    assert main(["evaluate", path, str(folder)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith(f" | {math.ceil(float(share) * 39)} held-out images")
    assert re.search(r"[\d.]+%", line)[0] == re.search(r"[\d.]+%", trained)[0]
    other = shutil.copytree(folder, tmp_path / "other" / "name")  # other data, for all that is known
    assert main(["evaluate", path, str(other)]) == 0
    assert capsys.readouterr().out.endswith(" | 39 images\n")


def test_evaluate_knows_classes_by_their_names(saved, tmp_path, capsys):
    path, _ = saved
    folder = pictures(tmp_path / "images", counts=(3, 5))
    (folder / "bright").rename(folder / "x")
    assert "its class 'x' is none of the model's: bright, dark" in line_of_error(capsys, "evaluate", path, folder)
    (folder / "dark").rename(folder / "bright")  # of another number, and darker than bright ones should be
    for file in (folder / "x").iterdir():
        file.unlink()
    (folder / "x").rmdir()
    assert main(["evaluate", path, str(folder), "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert (known["images"], known["classes"]["bright"]["images"]) == (5, 5)
    assert known["accuracy"] < 0.5


def test_evaluate_refuses_what_does_not_fit(saved, tmp_path, capsys):
    path, _ = saved
    larger = pictures(tmp_path / "larger", sizes=((9, 9),))
    err = line_of_error(capsys, "evaluate", path, larger)
    assert "images of 9 x 9 pixels; the model takes 8 x 8; --size 8x8 brings the images of a folder to that" in err
    assert main(["evaluate", path, str(larger), "--size", "8x8"]) == 0
    capsys.readouterr()
    coloured = pictures(tmp_path / "coloured", mode="RGB")
    assert "samples of shape (3, 8, 8); the model takes (1, 8, 8)" in line_of_error(capsys, "evaluate", path, coloured)
    assert "--size: only the images of a folder" in line_of_error(capsys, "evaluate", path, "digits", "--size", "8x8")
    regressor = tmp_path / "numbers"
    X = np.random.RandomState(0).rand(20, 64)
    fastcnn.save(CNNRegressor([Flatten()], max_iter=9, random_state=0).fit(X, X[:, 0]), regressor)
    assert "expected a model of classes; this one gives numbers" in line_of_error(
        capsys, "evaluate", regressor, "digits"
    )


# predict.


def test_predict_takes_images_folders_arrays_and_tables(saved, tmp_path, capsys, monkeypatch):
    path, folder = saved
    data = fastcnn.data.load(folder)
    X, model = data.X[:5], fastcnn.load(path)
    expected = [NAMES[k] for k in model.predict(X).argmax(axis=1)]
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "maps.npy", X[:, 0].astype(np.int64))
    np.savez(tmp_path / "x.npz", other=np.zeros(3), x=X)
    (tmp_path / "x-idx3-ubyte").write_bytes(idx(X[:, 0]))
    header = ",".join(f"pixel{n}" for n in range(64))
    np.savetxt(tmp_path / "x.csv", X.reshape(5, -1), "%d", ",", header=header, comments="")
    np.savetxt(tmp_path / "share.csv", X.reshape(5, -1) / 255, delimiter=",")
    table = np.column_stack([X.reshape(5, -1)[:, :9], [7, 8, 9, 7, 8], X.reshape(5, -1)[:, 9:]])
    names = header.replace("pixel9,", '"Label",pixel9,', 1)
    np.savetxt(tmp_path / "label.csv", table, "%d", ",", header=names, comments="", encoding="utf-8-sig")
    np.savetxt(tmp_path / "semicolons.csv", X.reshape(5, -1), "%d", ";", header=header.replace(",", ";"), comments="")
    np.savetxt(tmp_path / "tabs.csv", X.reshape(5, -1), "%d", "\t")
    tables = ("x.csv", "share.csv", "label.csv", "semicolons.csv", "tabs.csv")
    for name in ("x.npy", "maps.npy", "x.npz", "x-idx3-ubyte", *tables):
        assert main(["predict", path, str(tmp_path / name)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [re.fullmatch(r".*\[(\d)\]: (\w+) [\d.]+%", line).groups() for line in lines] == [
            (str(n), name) for n, name in enumerate(expected)
        ]
    files = sorted((folder / "dark").glob("*.png"))[:2]
    assert main(["predict", path, *map(str, files), str(folder / "bright"), "--top", "2", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines[:2]] == [*map(str, files)]
    assert len(lines) == 26
    assert [one["class"] for one in lines[0]["classes"]] == ["dark", "bright"]
    assert sum(one["probability"] for one in lines[0]["classes"]) == pytest.approx(1)
    assert main(["predict", path, str(tmp_path / "x.npy"), "--csv", "--top", "9"]) == 0
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == ["name", "class1", "probability1", "class2", "probability2"]
    assert [row[1] for row in rows] == expected
    for given in (tmp_path / "x.csv", tmp_path / "x.npy", tmp_path / "x.npz", files[0]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.read_bytes())))
        assert main(["predict", path]) == 0
        assert capsys.readouterr().out.startswith("standard input")


def test_predict_goes_by_what_estimators_know(tmp_path, capsys):
    rng = np.random.RandomState(0)
    X, names = rng.rand(30, 8, 8), np.array(["cat", "dog", "eel"])
    y = names[rng.randint(3, size=30)]
    one = CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=4, random_state=0).fit(X, y)
    fastcnn.save(one, tmp_path / "classifier")
    np.save(tmp_path / "x.npy", X)
    assert main(["predict", str(tmp_path / "classifier"), str(tmp_path / "x.npy"), "--json"]) == 0
    lines = [json.loads(line)["classes"][0]["class"] for line in capsys.readouterr().out.splitlines()]
    assert lines == one.predict(X).tolist()
    regressor = CNNRegressor([Conv2D(4, 3), ReLU()], max_iter=9, random_state=0).fit(X, X[:, 0, 0])
    fastcnn.save(regressor, tmp_path / "regressor")
    assert main(["predict", str(tmp_path / "regressor"), str(tmp_path / "x.npy"), "--json"]) == 0
    values = [json.loads(line)["values"][0] for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(values, regressor.predict(X))


def test_rows_of_pixels_and_names_of_classes(tmp_path, capsys):
    """An NPZ file as people write it: images flattened, classes as words; a name with a line end stays in its line."""
    rng = np.random.RandomState(0)
    y = np.array(["light", "dim"])[rng.randint(2, size=60)]
    X = rng.randint(100, size=(60, 64)) + 100 * (y == "light")[:, None]
    for name, rows in (("rows", X), ("images", X.reshape(-1, 8, 8))):
        np.savez(tmp_path / f"{name}.npz", x=rows.astype(np.uint8), y=y)
        np.save(tmp_path / f"{name}\n.npy", rows.astype(np.uint8))
    ends = []
    for name in ("rows", "images"):
        arguments = ["train", str(tmp_path / f"{name}.npz"), "--epochs", "3", "--save", str(tmp_path / name), "--quiet"]
        assert main(arguments) == 0
        ends.append(re.search(r"Digest: \w+", capsys.readouterr().out)[0])
        assert main(["evaluate", str(tmp_path / name), str(tmp_path / "rows.npz"), "--json"]) == 0
        assert [*json.loads(capsys.readouterr().out)["classes"]] == ["dim", "light"]
    assert ends[0] == ends[1]
    assert main(["predict", str(tmp_path / "rows"), str(tmp_path / "rows\n.npy")]) == 0
    assert re.fullmatch(r"'.*rows\\n.npy\[0\]': (dim|light) [\d.]+%", capsys.readouterr().out.splitlines()[0])
    np.savez(tmp_path / "strip.npz", x=X[:, :50], y=y)
    words = "expected images, or rows of the pixels of square ones; got rows of 50 numbers"
    assert words in line_of_error(capsys, "train", tmp_path / "strip.npz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "x: an empty file"),
        (b"1,2,3\n", r"x: expected samples of shape \(1, 8, 8\), or rows of 64 numbers; got \(1, 3\)"),
        (b"1,2,x\n1,2,x\n", "x: an array that cannot be read"),
        (b"a,b\n", "x: a CSV file without numbers"),
        (b"nan" + b",0" * 63, "x: expected finite numbers"),
        (b"\x93NUMPY", "x: an array that cannot be read"),
        (b"PK\x03\x04", "x: no NPZ file, or a truncated or damaged one"),
        (b"\x1f\x8b", "x: a truncated or damaged gzip file"),
        (b"\x89PNG\r\n\x1a\n", "x: no image that can be read"),
    ],
)
def test_predict_refuses_what_it_cannot_read(saved, tmp_path, capsys, content, words):
    (tmp_path / "x").write_bytes(content)
    assert re.search(words, line_of_error(capsys, "predict", saved[0], tmp_path / "x"))


def test_predict_refuses_images_of_other_sizes(saved, tmp_path, capsys, monkeypatch):
    path, _ = saved
    folder = pictures(tmp_path / "images", sizes=((9, 9),), mode="RGB")
    words = "an image of 9 x 9 pixels; the model takes 8 x 8; --size 8x8 brings images to that"
    assert words in line_of_error(capsys, "predict", path, folder)
    assert main(["predict", path, str(folder), "--size", "8x8"]) == 0
    capsys.readouterr()
    assert "--size: the model takes 1 x 8 x 8" in line_of_error(capsys, "predict", path, folder, "--size", "9x9")
    np.save(tmp_path / "x.npy", np.full((2, 1, 8, 8), 300.0))
    assert "trained on bytes: expected bytes, or" in line_of_error(capsys, "predict", path, tmp_path / "x.npy")
    assert "no such file or folder" in line_of_error(capsys, "predict", path, tmp_path / "nothing")
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + bytes(99))
    words = "fastcnn import .*m.onnx makes a model of an ONNX file"
    assert re.search(words, line_of_error(capsys, "predict", tmp_path / "m.onnx", folder))
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input is closed; expected a PATH" in line_of_error(capsys, "predict", path)
    assert "--csv, --json: expected one of them" in line_of_error(capsys, "predict", path, "x", "--csv", "--json")


# info, and all verbs.


def test_info_tells_what_it_runs_on(capsys):
    assert main(["info", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["fastcnn"] == fastcnn.__version__
    assert known["numpy"] == np.__version__
    assert known["threads"] == fastcnn.get_num_threads()
    assert main(["info"]) == 0
    assert re.search(r"^vector set +\w+$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("verb", ["evaluate", "predict", "info"])
def test_a_file_that_is_no_model_is_one_line(verb, tmp_path, capsys):
    path = tmp_path / "x"
    more = [] if verb == "info" else ["digits"]
    assert f"{path}: No such file or directory" in line_of_error(capsys, verb, path, *more)
    path.write_bytes(b"words")
    assert f"fastcnn {verb}: {path}: no file of fastcnn" in line_of_error(capsys, verb, path, *more)
    theirs = Sequential([type("Mine", (ReLU,), {})(), Flatten(), Dense(2)]).build((1, 8, 8))
    fastcnn.save(theirs, path)
    assert f"fastcnn {verb}: {path}: " in line_of_error(capsys, verb, path, *more)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian digits", "got 'trian'; did you mean train?"),
        ("train digits --epoch 3", "fastcnn train: unknown option '--epoch'; did you mean --epochs?"),
        ("train digits --model lenet", "got 'lenet'; did you mean lenet5?"),
        ("train digits --optimizer addamw", "got 'addamw'; did you mean adamw?"),
        ("train digits --schedule cosinus", "got 'cosinus'; did you mean cosine?"),
        ("train digits --recipe defualt", "got 'defualt'; did you mean default?"),
        ("train digits more", "fastcnn train: one word too many: 'more'"),
        ("train digts", "or the path of a file or folder; did you mean digits?"),
        ("train digits --size 8", "--size: expected HxW, height and width, such as 32x32; got '8'"),
        ("train digits --size 0x8", "--size: expected HxW"),
        ("train digits --save nowhere/x", "--save nowhere/x: expected a file in a folder that can be written to"),
        ("train digits --checkpoint /", "--checkpoint /: expected the path of a file; this is none"),
        ("train digits --class-weight equal", "--class-weight: expected one of balanced; got 'equal'"),
        ("train digits --recipe notebook --save x", "--save: the notebook's recipe leaves no choice"),
        ("predict x y --top 0", "--top: expected a whole number of at least 1; got '0'"),
        ("train digits --augment shfit=2", "got 'shfit=2'; did you mean shift?"),
        ("train digits --views flop", "got 'flop'; did you mean flip?"),
        ("info nowhere", "fastcnn info: nowhere: No such file or directory"),
        ("predict tests .", "fastcnn predict: tests: Is a directory"),
        ("info x y", "fastcnn info: one word too many: 'y'"),
    ],
)
def test_nonsense_is_one_line_that_suggests_what_was_meant(command, words, capsys):
    assert words in line_of_error(capsys, *command.split())


def test_every_option_says_its_default_and_every_verb_writes_json():
    _, verbs = _parser()
    assert [*verbs] == [
        "train", "evaluate", "predict", "explore", "info", "export", "import", "compile", "report",
    ]  # fmt: skip
    for name, verb in verbs.items():
        options = [action for action in verb._actions if action.option_strings and action.dest != "help"]
        assert "json" in {action.dest for action in options}, name
        for action in options:
            if action.required:
                continue
            assert re.search(r"\([^()]+\)|\(the default\)|default: ", action.help), f"{name} {action.option_strings}"


def test_a_folder_of_one_class_is_said_when_it_is_trained_on(tmp_path, capsys):
    folder = pictures(tmp_path / "images", counts=(12, 1))
    (folder / NAMES[1] / "0.png").unlink()
    (folder / NAMES[1]).rmdir()
    assert main(["train", str(folder), "--model", "digits_default", "--epochs", "1", "--quiet"]) == 0
    assert "all images to train on are of one class: there is nothing to tell apart" in capsys.readouterr().err
