"""How many small faults the tests find.

    python -m bench.mutants [--count 500] [--seed 0] [--folders engine ops kernels] [--tests FILE ...] [--list]

A mutant is the source with one change: an operator, a comparison, a number, a condition. Which ones are tried is drawn
by the seed, with the same share for each folder. Each runs in a copy of the tree, test after test, until one fails,
those first whose file shares words with the mutant's; a mutant that no test finds has survived, and is printed as it
stands in the source. A change of `kernels/` compiles all kernels anew, so that the whole run takes hours: `--list`
shows the draw alone.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("engine", "ops", "kernels")
# What finds most mutants first: a mutant ends at the first test that fails.
TESTS = (
    "tests/test_layers.py", "tests/test_layers_conv.py", "tests/test_layers_pool.py", "tests/test_layers_dense.py",
    "tests/test_norm.py", "tests/test_layers_conv_variants.py", "tests/test_layers_pool_average.py",
    "tests/test_residual.py", "tests/test_elementwise.py", "tests/test_losses.py", "tests/test_optimizers.py",
    "tests/test_training_step.py",
    "tests/test_kernels.py", "tests/test_kernels_pool.py", "tests/test_winograd.py", "tests/test_pointwise.py",
    "tests/test_blocked_layout.py", "tests/test_memory_plan.py", "tests/test_microbatch.py",
    "tests/test_random_networks.py", "tests/test_digests.py", "tests/test_tape.py",
)  # fmt: skip
OPERATORS = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Div: "*", ast.Mod: "//",
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.And: "or", ast.Or: "and",
}  # fmt: skip
LIMIT = 3600  # seconds that the tests of a mutant may take: one that does not end is found


class Mutant(NamedTuple):
    """A change of one line: the text from `first` to `last`, counted in characters, becomes another."""

    path: Path
    line: int
    first: int
    last: int
    text: str

    def apply(self, root: Path) -> None:
        """Make the change in the copy of the tree at `root`."""
        path = root / self.path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        line = lines[self.line - 1]
        lines[self.line - 1] = line[: self.first] + self.text + line[self.last :]
        path.write_text("".join(lines), encoding="utf-8")

    def __str__(self) -> str:
        """Return where it is and what it changes."""
        line = (ROOT / self.path).read_text(encoding="utf-8").splitlines()[self.line - 1]
        return f"{self.path}:{self.line}: {line[self.first : self.last].strip()} -> {self.text.strip()}: {line.strip()}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield the changes of a file: none in annotations, docstrings and messages."""
    source = (ROOT / path).read_text(encoding="utf-8")
    lines, tree = source.splitlines(), ast.parse(source)
    hidden = {inner for node in ast.walk(tree) for part in _left_out(node) for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.BinOp):
            yield from _between(path, lines, node.left, node.op, node.right)
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield from _between(path, lines, node.left, node.ops[0], node.comparators[0])
        elif isinstance(node, ast.BoolOp):
            yield from _between(path, lines, node.values[0], node.op, node.values[1])
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.lineno == node.end_lineno:
            first, last = (_place(lines, node.lineno, column) for column in (node.col_offset, node.end_col_offset or 0))
            yield Mutant(path, node.lineno, first, last, str(node.value + 1))


def _left_out(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node in which a change has no meaning."""
    if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
        yield node.annotation
    if isinstance(node, ast.FunctionDef) and node.returns:
        yield node.returns
    if isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert):
        yield node


def _between(path: Path, lines: list[str], left: ast.expr, operator: ast.AST, right: ast.expr) -> Iterator[Mutant]:
    """Yield the change of the operator between two expressions of one line."""
    if left.end_lineno != right.lineno or type(operator) not in OPERATORS:
        return
    first, last = _place(lines, right.lineno, left.end_col_offset or 0), _place(lines, right.lineno, right.col_offset)
    between = lines[right.lineno - 1][first:last]
    if "(" not in between and ")" not in between:
        yield Mutant(path, right.lineno, first, last, f" {OPERATORS[type(operator)]} ")


def _place(lines: list[str], line: int, column: int) -> int:
    """Return a column of the syntax tree, which counts bytes, in characters."""
    return len(lines[line - 1].encode()[:column].decode())


def draw(count: int, seed: int, folders: list[str]) -> list[Mutant]:
    """Return the mutants that are tried: as many of each folder, in an order that the seed decides."""
    generator, chosen = random.Random(seed), []
    for folder in folders:
        paths = sorted((ROOT / "fastcnn" / folder).rglob("*.py"))
        known = [mutant for path in paths for mutant in mutants(path.relative_to(ROOT))]
        chosen += generator.sample(known, min(len(known), -(-count // len(folders))))
    generator.shuffle(chosen)
    return chosen[:count]


def in_order(mutant: Mutant, tests: list[str]) -> list[str]:
    """Return the tests of a mutant: first those, given or not, whose file shares most words with the mutant's file."""
    shared = {
        path.relative_to(ROOT).as_posix(): len(_words(mutant.path) & _words(path))
        for path in sorted((ROOT / "tests").glob("test_*.py"))
    }
    near = sorted((test for test, count in shared.items() if count), key=lambda test: -shared[test])
    return list(dict.fromkeys([*near, *tests]))


def _words(path: Path) -> set[str]:
    """Return the beginnings of the words of a file's name: divide.py is tested by test_division.py."""
    return {word[:4] for word in path.stem.split("_")} - {"", "op", "init", "base", "test"}


def finder(mutant: Mutant | None, tests: list[str]) -> str | None:
    """Return the first test that fails for a mutant, None if it survives; without one, for the source as it is."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("fastcnn", "tests", "reference", "bench"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", root)
        variables = {**os.environ, "PYTHONPATH": folder}
        if mutant is not None:
            mutant.apply(root)
            if mutant.path.is_relative_to("fastcnn/kernels"):
                variables["FASTCNN_CACHE_DIR"] = str(root / "cache")  # of no use afterwards
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command, cwd=root, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return "no end"
        if not done.returncode:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
        return failed[1] if failed else f"status {done.returncode}"


def main() -> None:
    """Draw, try each, tell which survive and what share does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folders", nargs="+", choices=FOLDERS, default=[*FOLDERS])
    parser.add_argument("--tests", nargs="+", default=[*TESTS], help="test files, in the order in which they run")
    parser.add_argument("--list", action="store_true", help="show the draw, and try nothing")
    options = parser.parse_args()
    chosen = draw(options.count, options.seed, options.folders)
    if options.list:
        print(*chosen, sep="\n")
        return
    if (broken := finder(None, options.tests)) is not None:
        raise SystemExit(f"{broken} fails for the source as it is: nothing can be told")
    survivors = []
    for number, mutant in enumerate(chosen, 1):
        began = time.monotonic()
        found = finder(mutant, in_order(mutant, options.tests))
        survivors += [] if found else [mutant]
        print(f"{number:4}  {found or 'SURVIVED':64.64} {time.monotonic() - began:6.0f} s  {mutant}", flush=True)
    print(f"{1 - len(survivors) / len(chosen):.1%} of {len(chosen)} mutants were found (seed {options.seed})")


if __name__ == "__main__":
    main()
