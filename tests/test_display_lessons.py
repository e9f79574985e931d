"""Pictures and lessons of docs/ are what the library makes today."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from tests.processes import ROOT

matplotlib = pytest.importorskip("matplotlib")  # of the extra [plot]
LESSONS = ROOT / "docs" / "lessons"
MOST = 100_000  # bytes of a notebook


def script(path):
    """Return the module of a script of docs/."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pictures_show_the_same_numbers():
    """By their data, for a renderer may move a pixel."""
    insight = script(ROOT / "docs" / "pictures" / "insight.py")
    made, stored = insight.displays(), np.load(ROOT / "docs" / "pictures" / "insight.npz")
    assert {*made} == {*stored}
    for name, display in made.items():
        np.testing.assert_allclose(insight.numbers(display), stored[name], rtol=1e-3, atol=1e-4, err_msg=name)
        assert (ROOT / "docs" / "pictures" / f"{name}.png").stat().st_size < MOST
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize("name", ["loops", "filters", "gradients", "accuracy"])
def test_a_lesson_is_its_source_executed(name):
    make = script(LESSONS / "make.py")
    assert name in make.LESSONS
    text = (LESSONS / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < MOST
    notebook = json.loads(text)
    written = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert written == make.cells((LESSONS / f"{name}.py").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
