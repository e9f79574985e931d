"""Outside of the kernels, no bits of a machine or a version decide: each use of such functions is known."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.test_floors import FILES, NONE, ROOT, faults, tree_of

# Compiled code, which `test_digests.py` holds to its bits; and what measures or explains, and changes no weight.
EXEMPT = {"kernels", "codegen", "jit", "runtime", "gradient_check.py", "kinks.py", "explain"}
# Of NumPy and of the mathematical library: not rounded correctly everywhere, or summed in an order of their own.
FUNCTIONS = {
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "pow", "power", "float_power", "hypot"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh", "atan", "atan2", "arctan", "arctan2", "erf", "erfc", "cbrt"),
    *("sum", "nansum", "mean", "nanmean", "average", "var", "std", "median", "quantile", "percentile", "cov"),
    *("dot", "vdot", "inner", "matmul", "einsum", "tensordot", "linalg", "convolve", "bincount", "corrcoef"),
    *("interp", "linspace", "trapezoid"),
}
METHODS = {"sum", "mean", "var", "std", "dot"}  # of arrays
# Of generators: of `Generator` they may change with any version, and normal numbers take logarithms.
DRAWS = {
    *("standard_normal", "normal", "randn", "permutation", "permuted", "shuffle", "integers", "choice", "default_rng"),
}

ALLOWED = {
    "train.py: (recipe.predict(X_test) == y_test).mean": "shown; and counts are exact",
    "evaluate.py: matrix.sum": "whole numbers",
    "measures.py: matrix.sum": "whole numbers",
    "measures.py: np.bincount": "whole numbers",
    "measures.py: np.exp": "shown",
    "measures.py: z.sum": "shown",
    "recipes.py: np.bincount": "whole numbers",
    "notebook.py: np.log": "shown",
    "notebook.py: np.log(np.maximum(probs[rows, classes], np.finfo(np.float64).tiny)).sum": "shown",
    "notebook.py: self.generator.permutation": "of a RandomState, which NumPy has frozen; whole numbers",
    "labels.py: np.bincount": "whole numbers",
    "cross_entropy.py: found.sum": "whole numbers",
    "cross_entropy.py: y.sum": "compared with 1, to three digits",
    "formulas.py: x ** 3": "a formula is compared with known ones, to five digits",
    "formulas.py: np.linspace": "a formula is compared with known ones, to five digits",
    "formulas.py: math.exp": "a formula is compared with known ones, to five digits",
    "formulas.py: math.log": "a formula is compared with known ones, to five digits",
    "formulas.py: math.log1p": "a formula is compared with known ones, to five digits",
    "formulas.py: np.power": "a formula is compared with known ones, to five digits",
    "formulas.py: math.erf": "a formula is compared with known ones, to five digits",
    "formulas.py: math.tanh": "a formula is compared with known ones, to five digits",
    "im2col.py: gradient.sum": "BLAS's products have no order either; chosen by its name alone",
    "optimizer.py: squares.sum": "infinite or NaN",
    "sections.py: matrix.sum": "whole numbers",
    "sections.py: np.bincount": "whole numbers",
    "measures.py: np.log": "shown",
    "measures.py: np.log(np.maximum(right, np.finfo(np.float64).tiny)).mean": "shown",
    "sections.py: sure[inside].mean": "shown",
    "sections.py: right[inside].mean": "shown",
    "snapshot.py: np.vdot": "tells whether all numbers are finite",
}


def uses(tree: ast.AST) -> set[str]:
    """Return what a file takes of all these, as written."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            found.add(ast.unparse(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not is_known(node):
            found.add(ast.unparse(node))
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            ours = owner in {"exact", "draws", "self", "kernels"} or owner.startswith("loss")
            if node.attr in (FUNCTIONS if owner in {"np", "math"} else set() if ours else METHODS | DRAWS):
                found.add(ast.unparse(node))
    return found


def is_known(node: ast.BinOp) -> bool:
    """Tell whether a power is a square, which is one multiplication, or of constants, such as 2.0**-53."""
    is_square = isinstance(node.right, ast.Constant) and node.right.value == 2
    return is_square or not any(isinstance(leaf, ast.Name) for leaf in ast.walk(node))


@cache
def uses_in(path: Path) -> set[str]:
    """Return what a file takes, behind its name."""
    return {f"{path.name}: {use}" for use in uses(tree_of(path))}


def test_what_decides_has_the_same_bits_everywhere():
    deciding = [path for path in FILES if path.relative_to(ROOT / "fastcnn").parts[0] not in EXEMPT]
    assert faults(deciding, lambda path: uses_in(path) - ALLOWED.keys()) == NONE


def test_no_reason_is_left_over():
    assert ALLOWED.keys() <= {use for path in FILES for use in uses_in(path)}


@pytest.mark.parametrize("line", ["np.exp(x)", "x.sum()", "a @ b", "a ** b", "math.pow(a, b)", "rng.permutation(9)",
                                  "np.linalg.norm(x)"])  # fmt: skip
def test_such_uses_are_found(line):
    assert uses(ast.parse(line))
