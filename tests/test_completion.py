"""The words that the shell offers after the Tab key."""

from __future__ import annotations

import sys

import pytest

from tests.processes import ROOT, run_python

pytest.importorskip("argcomplete", reason="the extra [completion] is not installed")

ASKED = "import sys; from fastcnn.cli import main; sys.exit(main())"


def offered(line: str, tmp_path) -> list[str]:
    """Return what is offered at the end of a line, as the shell's script asks for it."""
    answer = tmp_path / "answer"
    run_python(
        ASKED, _ARGCOMPLETE="1", _ARGCOMPLETE_IFS="\n", _ARGCOMPLETE_STDOUT_FILENAME=str(answer),
        _ARGCOMPLETE_SUPPRESS_SPACE="1", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_TYPE="9",
    )  # fmt: skip
    return answer.read_text().split("\n")


@pytest.mark.skipif(sys.platform == "win32", reason="argcomplete serves bash, zsh and fish")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fastcnn tr", ["train"]),
        ("fastcnn train fash", ["fashion-mnist"]),
        ("fastcnn train pypro", ["pyproject.toml"]),
        ("fastcnn train digits --model res", ["resnet6", "resnet20"]),
        ("fastcnn train digits --optimizer ada", ["adam", "adamw"]),
        ("fastcnn train digits --recipe l", ["long"]),
        ("fastcnn evaluate x --confu", ["--confusion"]),
    ],
)
def test_the_shell_is_offered(line, words, tmp_path):
    assert (ROOT / "pyproject.toml").exists()
    assert sorted(offered(line, tmp_path)) == sorted(words)
