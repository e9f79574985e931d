"""The mutants of the bench: its tests are there, and each of them is one change of a line that runs."""

from __future__ import annotations

import pytest

from bench import mutants
from tests.processes import ROOT

DRAWN = mutants.draw(60, seed=0, folders=[*mutants.FOLDERS])


def test_the_tests_that_it_runs_are_there():
    assert not [name for name in mutants.TESTS if not (ROOT / name).exists()]


def test_the_same_seed_draws_the_same_mutants_of_each_folder():
    assert mutants.draw(60, seed=0, folders=[*mutants.FOLDERS]) == DRAWN
    assert {mutant.path.parts[1] for mutant in DRAWN} == {*mutants.FOLDERS}


@pytest.mark.parametrize("mutant", DRAWN[:20], ids=lambda mutant: f"{mutant.path}:{mutant.line}:{mutant.first}")
def test_a_mutant_changes_one_line_and_is_python(mutant, tmp_path):
    path = tmp_path / mutant.path
    path.parent.mkdir(parents=True)
    before = (ROOT / mutant.path).read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    mutant.apply(tmp_path)
    after = path.read_text(encoding="utf-8")
    compile(after, str(path), "exec")
    changed = [k for k, (a, b) in enumerate(zip(before.splitlines(), after.splitlines(), strict=True), 1) if a != b]
    assert changed == [mutant.line]
