"""Examples of all docstrings run; in the environment of the docs, numpydoc finds each public docstring complete."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import types

import pytest

import fastcnn
from tests.processes import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "fastcnn").rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)
NEEDS = {"fastcnn.exchange": "onnx", "fastcnn.data.sets": "PIL"}  # an extra that a module's examples ask for
# What numpydoc finds: a parameter that is not described (PR01, PR07), described but not there (PR02), or without a
# type (PR04); no "See Also" (SA01), or one without a word (SA04), no example (EX01), an order of its own (GL07).
ALWAYS = {"PR01", "PR02", "PR04", "PR07", "GL07"}
OF_WHAT_IS_NAMED = {"SA01", "SA04", "EX01"}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed


def public_names():
    """Yield the path of each public class and function, and those of the methods that a class says first."""
    packages = [fastcnn, *(thing for name in fastcnn.__all__ if inspect.ismodule(thing := getattr(fastcnn, name)))]
    for package in packages:
        for name in getattr(package, "__all__", None) or functions_of(package):
            thing = getattr(package, name)
            if isinstance(thing, types.ModuleType | str):
                continue
            yield f"{package.__name__}.{name}"
            if inspect.isclass(thing):
                yield from (f"{package.__name__}.{name}.{method}" for method in own_methods(thing))


def functions_of(module):
    return [
        name
        for name, thing in vars(module).items()
        if inspect.isfunction(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    ]


def own_methods(thing):
    """Yield the methods with a docstring that no base class has: an override says what is new, and no more."""
    for name, method in vars(thing).items():
        above = any(name in vars(base) for base in thing.__mro__[1:])
        if inspect.isfunction(method) and not name.startswith("_") and method.__doc__ and not above:
            yield name


def test_every_public_docstring_is_complete():
    validate = pytest.importorskip("numpydoc.validate").validate
    lacks = []
    for name in public_names():
        is_method = inspect.isclass(pkgutil.resolve_name(name.rpartition(".")[0]))
        wanted = ALWAYS if is_method else ALWAYS | OF_WHAT_IS_NAMED
        lacks += [f"{name}: {code} {what}" for code, what in validate(name)["errors"] if code in wanted]
    assert not lacks, "\n".join(lacks)
