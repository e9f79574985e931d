"""The command line's way to ONNX and back."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, Dense, Flatten, Sequential
from fastcnn.cli import main
from tests.onnx_runs import assert_close, needs_onnx, run_onnxruntime

needs_onnx()


@pytest.fixture
def saved(tmp_path):
    """Return a model and its file."""
    model = Sequential([Flatten(), Dense(4)]).build((1, 3, 3), random_state=0)
    fastcnn.save(model, tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


def test_export(saved, tmp_path, capsys):
    import onnx

    model, path = saved
    target = tmp_path / "model.onnx"
    assert main(["export", str(path), "--to", "onnx", "--output", str(target), "--input-dtype", "uint8"]) == 0
    assert capsys.readouterr().out.startswith(f"{target}: ONNX, opset 17, ")
    x = np.arange(18, dtype=np.uint8).reshape(2, 1, 3, 3)
    assert_close(run_onnxruntime(onnx.load(target), x)[0], model.predict(x))


def test_export_of_an_estimator_as_json(tmp_path, capsys):
    X = np.random.default_rng(0).random((12, 7)).astype(np.float32)
    estimator = CNNClassifier([Flatten()], max_iter=1, random_state=0, schedule="cosine", input_shape=(1, 1, 7))
    estimator.set_params(max_iter=2).fit(X, np.arange(12) % 2)
    fastcnn.save(estimator, tmp_path / "model.safetensors")
    files = str(tmp_path / "model.safetensors"), str(tmp_path / "model.onnx")
    assert main(["export", files[0], "--to", "onnx", "--output", files[1], "--batch", "3", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["outputs"] == ["label", "probabilities"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "onnx"], "the following arguments are required: --output"),
        (["--to", "onxx", "--output", "x.onnx"], "did you mean onnx?"),
        (["--to", "onnx", "--output", "nowhere/x.onnx"], "--output nowhere/x.onnx: expected a file in a folder"),
    ],
)
def test_export_complains_in_one_line(saved, arguments, words, capsys):
    try:
        status = main(["export", str(saved[1]), *arguments])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_without_onnx_the_command_says_so(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(saved[1]), "--to", "onnx", "--output", str(tmp_path / "x.onnx")]) == 1
    assert "fastcnn[onnx]" in capsys.readouterr().err
    assert not (tmp_path / "x.onnx").exists()


def test_import(saved, tmp_path, capsys):
    model, _ = saved
    source, target = tmp_path / "model.onnx", tmp_path / "back.safetensors"
    fastcnn.to_onnx(model, source)
    assert main(["import", str(source), "--output", str(target)]) == 0
    assert capsys.readouterr().out.endswith(f"{target}: digest {model.digest()}\n")
    assert main(["import", str(source), "--output", str(target), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == fastcnn.load(target).digest() == model.digest()


def test_import_complains_in_one_line(tmp_path, capsys):
    path, target = tmp_path / "model.onnx", tmp_path / "x.safetensors"
    path.write_bytes(b"none")
    for source, words in ((path, "expected a file of ONNX"), (tmp_path / "nothing.onnx", "No such file")):
        assert main(["import", str(source), "--output", str(target)]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    assert not target.exists()
