"""Workflow files are what the schema of GitHub's says, and what they call is there; they cannot run here."""

import importlib.util
import re
import subprocess
import sys

import pytest

from fastcnn.jit.target import SETS
from tests.processes import ROOT

FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)


def test_the_workflows_are_there():
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "tests"]


@pytest.mark.parametrize(
    ("schema", "paths"),
    [("vendor.github-workflows", WORKFLOWS), ("vendor.dependabot", [FOLDER / "dependabot.yml"])],
)
def test_the_files_fit_their_schema(schema, paths):
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema, of the extra test-extras, is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_they_call_is_there():
    files = set(re.findall(r"\btests/[\w*]+\.py", TEXT))
    assert files
    assert [name for name in files if not [*ROOT.glob(name)]] == []
    modules = set(re.findall(r"python -m (tests\.\w+)", TEXT))
    assert modules >= {"tests.digests", "tests.protected_memory", "tests.versions"}
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []


def test_each_vector_set_of_x86_is_in_the_matrix():
    (listed,) = re.findall(r"set: \[(.*)\]", TEXT)
    assert set(listed.split(", ")) == {*SETS} - {"neon"}  # which is Arm's own


def test_nothing_is_published_with_a_token():
    assert "secrets." not in TEXT
    assert "id-token: write" in TEXT
