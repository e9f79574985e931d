"""The program of docs/onnx.md does what it says."""

from __future__ import annotations

import re

import pytest

from tests.onnx_runs import needs_onnx
from tests.processes import ROOT, run_python

needs_onnx()


def test_the_program_runs():
    pytest.importorskip("torch", reason="expected torch, which the program begins with")
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8"), re.DOTALL)
    run_python(f"import warnings\nwarnings.simplefilter('ignore')\n{program}")
