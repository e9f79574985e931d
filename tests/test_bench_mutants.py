"""The mutants of the bench: its tests are there, and each of them is one change of a line that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import mutants
from tests.processes import ROOT


@pytest.fixture(scope="module")
def drawn() -> list[mutants.Mutant]:
    return mutants.draw(60, seed=0, folders=[*mutants.FOLDERS])


def test_the_tests_that_it_runs_are_there():
    assert not [name for name in mutants.TESTS if not (ROOT / name).exists()]


def test_the_same_seed_draws_the_same_mutants_of_each_folder(drawn):
    assert mutants.draw(60, seed=0, folders=[*mutants.FOLDERS]) == drawn
    assert {mutant.path.parts[1] for mutant in drawn} == {*mutants.FOLDERS}


def test_a_mutant_changes_one_line_and_is_python(drawn, tmp_path):
    for number, mutant in enumerate(drawn[:20]):
        path = tmp_path / str(number) / mutant.path
        path.parent.mkdir(parents=True)
        before = (ROOT / mutant.path).read_text(encoding="utf-8")
        path.write_text(before, encoding="utf-8")
        mutant.apply(tmp_path / str(number))
        after = path.read_text(encoding="utf-8")
        compile(after, str(path), "exec")
        pairs = zip(before.splitlines(), after.splitlines(), strict=True)
        changed = [line for line, (was, comes) in enumerate(pairs, 1) if was != comes]
        assert changed == [mutant.line], mutant


def test_tests_that_share_a_word_with_the_file_come_first():
    def of(path: str) -> list[str]:
        return mutants.in_order(mutants.Mutant(Path(path), 1, 0, 1, ""), ["tests/test_norm.py", "tests/test_pad.py"])

    assert of("fastcnn/ops/pad.py") == ["tests/test_pad.py", "tests/test_norm.py"]
    assert of("fastcnn/ops/op.py") == ["tests/test_norm.py", "tests/test_pad.py"]
    assert of("fastcnn/engine/memory_plan.py")[0] == "tests/test_memory_plan.py"
    assert of("fastcnn/engine/divide.py")[0] == "tests/test_division.py"
