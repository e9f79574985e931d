"""Editors and type checkers know the names that exist, in stubs beside the packages whose names are lazy."""

import ast
import importlib
import inspect

import pytest

import fastcnn
from tests.processes import ROOT

PACKAGES = sorted(
    path.parent
    for path in (ROOT / "fastcnn").rglob("__init__.py")
    if "= lazy_names(" in path.read_text(encoding="utf-8") and path.parent.name != "cli"  # which nobody imports from
)
each_package = pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: str(folder.relative_to(ROOT)))


def stub_names(folder):
    """Return the names that a stub says, with the module that each one comes from."""
    names = {}
    assert (folder / "__init__.pyi").exists(), f"{folder.name}: lazy names need an __init__.pyi, as fastcnn/data has"
    for node in ast.parse((folder / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            for one in node.names:
                assert one.asname == one.name, f"{one.name}: a name of a stub is public by `as {one.name}`"
                names[one.name] = node.module or ""
    return names


def lazy_modules(folder):
    """Return the names of a package, with the module that its source imports each one from."""
    package = importlib.import_module(".".join(folder.relative_to(ROOT).parts))
    modules = {**inspect.getclosurevars(package.__getattr__).nonlocals["modules"], "__version__": "version"}
    return {name: modules[name] for name in package.__all__}


def line(name, module):
    return f"from .{module} import {name} as {name}"


def test_there_are_packages_of_lazy_names():
    assert {"fastcnn", "data"} <= {folder.name for folder in PACKAGES}


@each_package
def test_the_stub_says_the_lazy_names(folder):
    said, lazy = stub_names(folder), lazy_modules(folder)
    lacks = [line(name, module) for name, module in lazy.items() if said.get(name) != module]
    assert not lacks, f"{folder.name}/__init__.pyi lacks, in its place by module:\n" + "\n".join(lacks)
    beyond = [line(name, module) for name, module in said.items() if name not in lazy]
    assert not beyond, f"{folder.name}/__init__.py does not have:\n" + "\n".join(beyond)


@each_package
def test_names_are_found_where_the_stub_says(folder):
    package = ".".join(folder.relative_to(ROOT).parts)
    for name, module in stub_names(folder).items():
        if module:
            found = getattr(importlib.import_module(f"{package}.{module}"), name)
            assert getattr(importlib.import_module(package), name) is found
        else:
            assert importlib.import_module(f"{package}.{name}") is getattr(importlib.import_module(package), name)


def test_a_constructor_says_the_types_of_its_arguments():
    """An argument of type Any is one that no type checker looks at."""
    classes = {name: thing for name in fastcnn.__all__ if isinstance(thing := getattr(fastcnn, name), type)}
    untyped = [
        f"{name}({argument.name}=...)"
        for name, thing in classes.items()
        if not issubclass(thing, BaseException)
        for argument in inspect.signature(thing).parameters.values()
        if argument.annotation in (inspect.Parameter.empty, "Any")
    ]
    # What NumPy makes an array of; MPI's communicator, of a package that may not be there.
    assert untyped == ["CrossEntropy(class_weight=...)", "Trainer(communicator=...)"]
