"""What version 0.1.0 has left: its import paths and its pickles go on working."""

from __future__ import annotations

import importlib
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.former_names import FORMER_NAMES

PICKLE = Path(__file__).parent / "files" / "estimator_0.1.0.pickle"  # made by 483564c


@pytest.mark.parametrize("name", FORMER_NAMES)
def test_a_former_module_is_the_module_of_today(name):
    module = importlib.import_module(name)
    assert module is importlib.import_module(FORMER_NAMES[name])
    assert module.__name__ == module.__spec__.name == FORMER_NAMES[name]


def test_imports_of_before():
    from fastcnn.optimizers import SGD

    from fastcnn.data import load_digits
    from fastcnn.models import lenet5
    from fastcnn.training import Trainer

    assert (SGD, Trainer) == (fastcnn.SGD, fastcnn.Trainer)
    assert lenet5 is fastcnn.models.lenet5
    assert load_digits()[0].shape == (1797, 1, 8, 8)
    with pytest.raises(ModuleNotFoundError, match=r"fastcnn\.nonsense"):
        importlib.import_module("fastcnn.nonsense")


def test_an_estimator_of_before_predicts_what_it_did():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Trying to unpickle estimator")  # it was scikit-learn 1.9's
        kept = pickle.loads(PICKLE.read_bytes())
    np.testing.assert_allclose(kept["classifier"].predict_proba(kept["X"]), kept["probabilities"], rtol=1e-5)
    assert isinstance(kept["classifier"].solver, fastcnn.AdamW)
