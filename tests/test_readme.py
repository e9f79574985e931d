"""The README keeps its word: its example runs, its commands are ours, and what it points to is there."""

import re
import shlex
import tomllib

import pytest

from fastcnn.cli import main
from tests.processes import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)


def test_the_example_fits_saves_and_predicts_an_image_of_ones_own(capsys):
    (example,) = EXAMPLES
    assert len([line for line in example.splitlines() if line]) <= 30
    exec(compile(example, "README.md", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert float(re.search(r"([\d.]+)% of the held-out digits", printed)[1]) > 95
    assert "my image is a 7\n" in printed


def test_one_command_trains_and_one_tests():
    train, test = COMMANDS
    assert train.endswith(".venv/bin/fastcnn train digits")
    assert test.endswith(".venv/bin/pytest -n auto")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]\"", test)) <= set(extras)


def test_every_command_in_the_text_is_understood(capsys):
    commands = re.findall(r"`fastcnn (train [^`]*)`", README)
    assert commands
    for command in commands:
        # Two epochs are enough to see; the command line itself is the README's.
        assert main([*shlex.split(command), "--epochs", "2"]) == 0
        assert "Test Accuracy" in capsys.readouterr().out


def test_there_is_a_picture_one_table_of_accuracy_and_one_of_speed():
    assert re.search(r"!\[.+\]\(docs/\S+\.png\)", README)
    assert len(re.findall(r"^\|.*test accuracy.*\|$", README, re.MULTILINE)) == 1
    assert len(re.findall(r"^\|.*best peer ÷ fastcnn.*\|$", README, re.MULTILINE)) == 1


@pytest.mark.parametrize("page", ["README.md", "bench/RESULTS.md"])
def test_what_it_points_to_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"\]\(([^)#:]+)\)", text)
    assert paths
    assert [path for path in paths if not (ROOT / page).parent.joinpath(path).exists()] == []
