"""The README keeps its word: its examples run, its commands are ours, and what it points to is there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from fastcnn.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```sh\n(.*?)\n```", README, re.DOTALL)


@pytest.mark.parametrize("place", range(len(EXAMPLES)))
def test_the_example_runs_and_learns(place, capsys):
    exec(compile(EXAMPLES[place], f"README.md, example {place}", "exec"), {"__name__": "__main__"})
    accuracy = float(re.search(r"([\d.]+)%", capsys.readouterr().out)[1])
    assert accuracy > 75  # the notebook's own run ended at 85.28 %; a guess would be right at 10 %


def test_there_is_the_drop_in_a_modern_example_and_the_estimator():
    drop_in, modern, estimator, *_ = EXAMPLES
    assert "GridSearchCV(" in estimator
    assert "confusion_matrix(" in estimator
    assert "from fastcnn import Conv2D, MaxPool2, ReLU, Softmax\n" in drop_in
    assert "Trainer(" in modern


def test_one_command_trains_and_one_tests():
    train, test = COMMANDS
    assert train.endswith(".venv/bin/fastcnn train digits")
    assert test.endswith(".venv/bin/pytest")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]\"", test)) <= set(extras)


def test_every_command_in_the_text_is_understood(capsys):
    commands = re.findall(r"`fastcnn (train [^`]*)`", README)
    assert commands
    for command in commands:
        # Two epochs are enough to see; the command line itself is the README's.
        assert main([*shlex.split(command), "--epochs", "2"]) == 0
        assert "Test Accuracy" in capsys.readouterr().out


def test_what_it_points_to_is_there():
    paths = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(paths) > 10
    assert [path for path in paths if not (ROOT / path).exists()] == []
