"""What of scikit-learn is private, and used all the same: each name is here, so a release without it is seen."""

import ast

import pytest
from sklearn.base import BaseEstimator

from tests.processes import ROOT

MODULE = ROOT / "fastcnn" / "estimators" / "private_names.py"
FILES = sorted((ROOT / "fastcnn").rglob("*.py"))
IMPORTED = {
    "sklearn.utils._param_validation.Interval",
    "sklearn.utils._param_validation.Options",
    "sklearn.utils._param_validation.StrOptions",
    "sklearn.utils.validation._check_sample_weight",
}
METHODS = {"_validate_params"}  # of BaseEstimator
SINCE_1_9 = {"_init_callback_context"}  # of the mixin for callbacks


def private_imports(path):
    """Return the names below sklearn with a part that begins with an underscore."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module]
    names = {f"{node.module}.{one.name}" for node in froms for one in node.names}
    return {name for name in names if name.startswith("sklearn") and "._" in name}


def test_private_names_are_imported_in_one_module():
    assert private_imports(MODULE) == IMPORTED
    assert {path.name: found for path in FILES if path != MODULE and (found := private_imports(path))} == {}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_base_class_has_its_private_method(name):
    assert hasattr(BaseEstimator, name)


@pytest.mark.parametrize("name", sorted(SINCE_1_9))
def test_the_mixin_for_callbacks_has_its_private_method(name):
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")
    assert hasattr(callback.CallbackSupportMixin, name)
