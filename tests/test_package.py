"""The archives: the same bytes twice, complete, and what indexes want; versions are said in one place."""

import hashlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

import fastcnn
from tests.processes import ROOT
from tests.versions import floors, requirements

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_said_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert f"version: {fastcnn.__version__}\n" in (ROOT / "docs" / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{fastcnn.__version__}}}" in (ROOT / "docs" / "citation.md").read_text(encoding="utf-8")


def test_floors_are_those_of_the_page_of_versions():
    assert requirements("oldest") == [f"{name}=={version}.*" for name, version in floors().items()]
    oldest = dict(
        re.findall(r"^\| ([\w, -]+?) \| ([\d., ]+?) \|", (ROOT / "docs" / "versions.md").read_text(), re.MULTILINE)
    )
    assert oldest["Python"] == PROJECT["requires-python"].removeprefix(">=")
    assert oldest["NumPy"] == floors()["numpy"]
    assert oldest["Numba, llvmlite"] == f"{floors()['numba']}, {floors()['llvmlite']}"
    assert oldest["scikit-learn"] == floors()["scikit-learn"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Build sdist and wheel twice; the wheel is built from the sdist."""
    for package in ("build", "hatchling"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package}, of the extra test-extras, is not installed")
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "second")]
    for folder in folders:
        command = [sys.executable, "-m", "build", "--no-isolation", "-o", folder, ROOT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return [sorted(folder.iterdir()) for folder in folders]


def test_two_builds_have_the_same_bytes(archives):
    first, second = ([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] for paths in archives)
    assert len(first) == 2
    assert first == second


def test_the_wheel_has_the_package_and_nothing_else(archives):
    wheel = next(path for path in archives[0] if path.suffix == ".whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"fastcnn", f"fastcnn-{fastcnn.__version__}.dist-info"}
    source = {str(path.relative_to(ROOT)) for path in ROOT.glob("fastcnn/**/*") if path.is_file()}
    assert {name for name in source if "__pycache__" not in name} == {
        name for name in names if ".dist-info" not in name
    }


def test_archives_are_what_indexes_want(archives):
    wheel = next(path for path in archives[0] if path.suffix == ".whl")
    for command in (["check_wheel_contents", wheel], ["twine", "check", "--strict", *archives[0]]):
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_run_from_the_source_archive(archives, tmp_path):
    sdist = next(path for path in archives[0] if path.name.endswith(".tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    tests = {path.name for path in (ROOT / "tests").glob("*.py")}
    assert tests == {path.name for path in (folder / "tests").glob("*.py")}
    some = ["tests/test_floors.py", "tests/test_public_names.py", "tests/test_readme.py"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *some]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    every = subprocess.run([*command[:3], "--collect-only"], cwd=folder, capture_output=True, text=True, check=False)
    assert every.returncode == 0, every.stdout
