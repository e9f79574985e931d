"""The estimators keep scikit-learn's contract, and read what they are given."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from fastcnn import CNNClassifier, CNNRegressor

QUICK = [CNNClassifier(max_iter=30), CNNRegressor(max_iter=60)]


@parametrize_with_checks(QUICK)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize(("estimator", "least"), [*zip(QUICK, (55, 50), strict=True)])
def test_scikit_learn_really_runs_its_checks(estimator, least):
    """With a tag set wrongly it would silently run one."""
    assert len([*estimator_checks_generator(estimator)]) >= least
