"""The pages for those who carry this on: the files and names on them exist, and no file of a folder is left out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.processes import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "fastcnn").glob("*/README.md"))
ARCHITECTURE, CONTRIBUTING = (ROOT / "docs" / name for name in ("architecture.md", "contributing.md"))
PAGES = [*(folder / "README.md" for folder in FOLDERS), ARCHITECTURE, CONTRIBUTING]
ids = {"ids": lambda path: str(path.relative_to(ROOT))}
PATH = re.compile(r"[\w./-]+(\.py|\.pyi|\.md|/)")
NAME = re.compile(r"@?[A-Za-z_][\w.]*(\(.*\))?")


def quoted(page: Path) -> set[str]:
    """Return what a page has between backticks, outside of blocks of code; `a_{b,c}.py` is two files."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"`([^`]+)`", text)
    return {each for given in found for each in expanded(given)}


def expanded(given: str) -> list[str]:
    match = re.fullmatch(r"([^{]*)\{([^}:]*)\}(.*)", given)
    return [f"{match[1]}{each}{match[3]}" for each in match[2].split(",")] if match else [given]


def exists(path: str, page: Path) -> bool:
    """Return whether a file is there, seen from the page, the package or the clone."""
    places = [page.parent, ROOT / "fastcnn", ROOT]
    if page == ARCHITECTURE:  # a sentence of the walk names the folder of its first file alone
        places += [folder for folder in (ROOT / "fastcnn").iterdir() if folder.is_dir()]
    return any((place / path).exists() for place in places)


@cache
def names() -> set[str]:
    """Return the names of modules, functions, classes, arguments and variables, and words that stand as strings."""
    sources = [path for folder in ("fastcnn", "reference", "tests") for path in (ROOT / folder).rglob("*.py")]
    found = {"bench", *(path.stem for path in sources), *(path.parent.name for path in sources)}
    return found.union(*(names_of(ast.parse(path.read_text(encoding="utf-8"))) for path in sources))


def names_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.alias(name=name):
                yield name
            case ast.Constant(value=str() as name) if name.isidentifier():
                yield name


@pytest.mark.parametrize("page", PAGES, **ids)
def test_each_file_and_each_name_on_a_page_exists(page):
    paths = {given for given in quoted(page) if PATH.fullmatch(given)}
    assert {path for path in paths if not exists(path, page)} == set()
    given = {name for name in quoted(page) - paths if NAME.fullmatch(name)}
    parts = {part for name in given for part in re.findall(r"[A-Za-z_]\w+", name)}
    assert parts - names() == set()


@pytest.mark.parametrize("folder", FOLDERS, **ids)
def test_each_file_of_a_folder_is_on_its_page(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.py") if path.name != "__init__.py"}
    assert files - quoted(folder / "README.md") == set()


def test_each_folder_is_on_the_plan_of_the_architecture():
    plan = re.search(r"^```\n(.*?)^```", ARCHITECTURE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    folders = {f"{path.parent.name}/" for path in (ROOT / "fastcnn").glob("*/__init__.py")}
    assert plan is not None
    assert folders - set(re.findall(r"\w+/", plan[1])) == set()
