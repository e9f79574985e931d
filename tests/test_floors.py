"""The house: who may import whom, who may import what from outside, and what `import fastcnn` costs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

from fastcnn import kernels
from tests.processes import ROOT, run_python

# From the ground up, a floor for each folder and for each file beside the folders. A file imports from its own folder
# and from the floors below.
FLOORS = [
    "typing", "version", "lazy", "caller", "ranges", "markup", "former_names", "history", "digest", "views", "exact",
    "draws", "checks", "hints", "settings", "jit", "codegen", "kernels", "runtime", "ranks", "engine", "ops", "layers",
    "labels", "losses", "optim", "data", "prediction", "maps", "measures", "drawing", "summary", "model", "kinks",
    "models", "storage", "training", "gradient_check", "estimators", "inspection", "saving", "exchange", "explain",
    "live", "display", "rehearsals", "report", "cli", "__main__",
]  # fmt: skip
FILES = sorted((ROOT / "fastcnn").rglob("*.py"))
REFERENCE = sorted((ROOT / "reference").glob("*.py"))
# What a test says of the files that do not hold a rule: each file, and what in it. A test of its own for each file and
# each rule would be one in ten of the suite's.
NONE: dict[str, object] = {}


def module_of(path: Path) -> tuple[str, ...]:
    """Return ("fastcnn", "layers", "conv") for fastcnn/layers/conv.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


MODULES = {module_of(path) for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    """Return what a file says, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def faults(files: list[Path], of) -> dict[str, object]:
    """Return what a function finds in each of the files in which it finds anything."""
    return {str(path.relative_to(ROOT)): found for path in files if (found := of(path))}


def imports(path: Path, *, whole: bool = True) -> Iterator[tuple[str, ...]]:
    """Yield the modules that a file imports, those for the type checker too; with `whole`, also in functions."""
    tree = tree_of(path)
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    hidden = () if whole else [node for node in ast.walk(tree) if isinstance(node, functions)]
    skipped = {inner for node in hidden for inner in ast.walk(node)}
    package = module_of(path) if path.name == "__init__.py" else module_of(path)[:-1]
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                named = (*origin, alias.name)
                yield named if named in MODULES else origin


def test_every_folder_has_a_floor_and_every_floor_is_there():
    assert {module[1] for module in MODULES if len(module) > 1} == set(FLOORS)
    assert len(FLOORS) == len(set(FLOORS))


def test_imports_go_only_downward():
    """The package's own names are lazy and reach every floor; they are for users, and no other file imports them."""

    def upward(path):
        module = module_of(path)
        names = [name for name in imports(path) if name[0] == "fastcnn"] if module != ("fastcnn",) else []
        return [".".join(name) for name in names if len(name) == 1 or FLOORS.index(name[1]) > FLOORS.index(module[1])]

    assert faults(FILES, upward) == NONE


def test_no_file_imports_in_a_circle():
    """Imports for the type checker, and those inside functions, count."""
    graph = {
        module_of(path): {name for name in imports(path) if name in MODULES}
        for path in FILES
        if module_of(path) != ("fastcnn",)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join('.'.join(name) for name in error.args[1])}")


@cache
def outside(path: Path, *, whole: bool = True) -> set[str]:
    return {name[0] for name in imports(path, whole=whole)}


def room_of(path: Path) -> str:
    """Return the folder in the package, or the name of a file beside the folders."""
    return (*module_of(path), "")[1]


def test_only_what_compiles_or_runs_machine_code_knows_numba():
    rooms = {"kernels", "codegen", "jit", "runtime"}
    assert faults(FILES, lambda path: room_of(path) not in rooms and outside(path) & {"numba", "llvmlite"}) == NONE


def test_only_estimators_data_and_display_import_scikit_learn_and_display_alone_matplotlib():
    rooms = {"estimators", "data", "display", "inspection"}
    assert faults(FILES, lambda path: room_of(path) not in rooms and outside(path) & {"sklearn"}) == NONE
    assert faults(FILES, lambda path: room_of(path) != "display" and outside(path) & {"matplotlib"}) == NONE


def test_what_is_large_is_imported_in_functions():
    """But for the base classes of the estimators."""
    large = {"sklearn", "matplotlib", "scipy", "joblib"}
    assert faults(FILES, lambda path: room_of(path) != "estimators" and outside(path, whole=False) & large) == NONE


def test_no_file_has_a_dependency_that_pyproject_does_not_have():
    known = {*sys.stdlib_module_names, "fastcnn", "numpy", "numba", "llvmlite", "sklearn", "joblib", "threadpoolctl"}
    optional = {"matplotlib", "onnx", "skl2onnx", "PIL", "mpi4py", "tqdm", "torch", "argcomplete"}
    assert faults(FILES, lambda path: outside(path) - known - optional) == NONE


def test_only_the_command_line_and_the_progress_write_to_the_terminal():
    def writes(path):
        if module_of(path)[1:2] in {("cli",), ("__main__",)} or path.stem == "progress":
            return []
        return [
            f"line {node.lineno}"
            for node in ast.walk(tree_of(path))
            if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
            or (isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.stdout", "sys.stderr"})
        ]

    assert faults(FILES, writes) == NONE


def test_the_reference_imports_numpy_alone():
    assert faults(REFERENCE, lambda path: outside(path) - {*sys.stdlib_module_names, "numpy", "reference"}) == NONE


def test_each_file_says_in_its_first_line_what_lives_there():
    def silent(path):
        source = path.read_text(encoding="utf-8")
        return source and not (ast.get_docstring(tree_of(path)) and source.startswith('"""'))

    assert faults(FILES + REFERENCE, silent) == NONE


def test_nothing_compiles_code_from_text():
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            assert not (isinstance(node, ast.Name) and node.id in {"exec", "eval"}), f"{path.name}: {node.id}"


# ------------------------------------------------------------------------------------------------ what an import costs


def kernels_of(path: Path) -> dict[str, list[str]]:
    """Return the public kernels that a file declares, and their arguments."""
    functions = [node for node in tree_of(path).body if isinstance(node, ast.FunctionDef)]
    declared = [one for one in functions if any(ast.unparse(decorator) == "kernel" for decorator in one.decorator_list)]
    return {one.name: [each.arg for each in one.args.args] for one in declared if not one.name.startswith("_")}


KERNELS = {path.stem: kernels_of(path) for path in FILES if path.parent.name == "kernels"}


def test_the_table_of_kernels_is_complete():
    """A file that is not in it is imported by its users, and Numba with it."""
    assert {family: tuple(found) for family, found in KERNELS.items() if found} == kernels.FAMILIES


def test_no_kernel_takes_more_than_twelve_arguments():
    """Nor a table beside its array: together they are a record of `kernels/maps.py`, so that tables are not swapped."""
    arguments = {f"{family}.{name}": names for family, found in KERNELS.items() for name, names in found.items()}
    assert {name: len(names) for name, names in arguments.items() if len(names) > 12} == {}
    loose = {name: [each for each in names if each.endswith(("_row", "_line"))] for name, names in arguments.items()}
    assert {name: names for name, names in loose.items() if names} == {}


def test_no_part_of_a_kernel_takes_more_than_twelve_arguments():
    """Functions that kernels call, and intrinsics, take records too; `typingctx` is Numba's."""
    parts = [path for path in FILES if path.parent.name in ("kernels", "codegen")]
    functions = [
        (f"{path.stem}.{node.name}", {each.arg for each in node.args.args} - {"typingctx"})
        for path in parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(functions) > 200
    assert {name: len(arguments) for name, arguments in functions if len(arguments) > 12} == {}


def test_import_fastcnn_loads_neither_numba_nor_scikit_learn():
    """Measured beyond NumPy; the budget is 0.3 s, and as nothing but a short file is loaded, it is far away."""
    code = (
        "import sys, time, numpy; before = set(sys.modules); start = time.perf_counter()\n"
        "import fastcnn\n"
        "print(time.perf_counter() - start, *sorted(set(sys.modules) - before))"
    )
    seconds, *loaded = run_python(code).split()
    assert "fastcnn" in loaded
    assert {name.partition(".")[0] for name in loaded} <= {"fastcnn", *sys.stdlib_module_names}
    assert [name for name in loaded if name.startswith("fastcnn")] == [
        "fastcnn", "fastcnn.former_names", "fastcnn.lazy", "fastcnn.version",
    ]  # fmt: skip
    assert float(seconds) < 0.3


def test_looking_around_loads_nothing():
    code = (
        "import sys, fastcnn\n"
        "dir(fastcnn), fastcnn.__all__, fastcnn.__version__, hasattr(fastcnn, 'nonsense')\n"
        "assert not {'numba', 'llvmlite', 'sklearn', 'scipy', 'joblib'} & set(sys.modules), sorted(sys.modules)"
    )
    run_python(code)


def test_training_loads_no_scikit_learn_and_numba_only_to_compile():
    code = (
        "import sys, numpy, fastcnn\n"
        "model = fastcnn.Sequential([fastcnn.Dense(2)])\n"
        "fastcnn.Trainer(model).step(numpy.ones((2, 3), 'f'), [0, 1])\n"
        "assert not {'sklearn', 'matplotlib', 'torch', *sys.argv[1:]} & set(sys.modules)"
    )
    run_python(code)
    run_python(code, "numba")


def test_public_names():
    import fastcnn

    for name in fastcnn.__all__:
        assert getattr(fastcnn, name) is not None
        assert name in dir(fastcnn)
    with pytest.raises(AttributeError, match="module 'fastcnn' has no attribute 'nonsense'"):
        fastcnn.nonsense  # noqa: B018
    assert np.array_equal(sorted(set(fastcnn.__all__)), sorted(fastcnn.__all__))
