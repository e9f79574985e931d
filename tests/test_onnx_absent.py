"""Where the package onnx is not installed, its functions say which extra brings it."""

from __future__ import annotations

import sys

import pytest

import fastcnn


def test_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"to_onnx: expected the package onnx; .*fastcnn\[onnx\]"):
        fastcnn.to_onnx(fastcnn.Sequential([fastcnn.Dense(3)]).build((2,)))
    with pytest.raises(ImportError, match=r"from_onnx: expected the package onnx; .*fastcnn\[onnx\]"):
        fastcnn.from_onnx("x.onnx")
