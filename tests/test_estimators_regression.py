"""`CNNRegressor` with no argument beside scikit-learn's: smooth functions, noise, images; the decay that it chooses."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from bench import targets
from fastcnn import SGD, CNNRegressor, Conv2D, ReLU, load, save
from fastcnn.estimators.regressor import DECAYS, STRONGEST, UNKNOWING

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # short fits
NET = [Conv2D(2, 3), ReLU()]


def peer(model):
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), model), transformer=StandardScaler())


def noisy(n, noise, seed=0):
    generator = np.random.RandomState(seed)
    X = generator.random_sample((n + 1000, 10))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    y += noise * y.std() * generator.normal(size=len(y))
    return X[:n], y[:n], X[n:], y[n:]


@pytest.mark.parametrize("task", ["Friedman", "sine of a sum", "product"])
def test_smooth_functions_of_rows_are_learnt_better_than_by_svr(task):
    X, y = targets.TASKS[task](1200, np.random.default_rng(5))
    model = CNNRegressor(random_state=0).fit(X[:200], y[:200])
    error, of_peer = (1 - one.score(X[200:], y[200:]) for one in (model, peer(SVR()).fit(X[:200], y[:200])))
    assert error < 0.8 * of_peer


def test_noise_is_not_learnt_by_heart():
    """As much noise as there is function: without a choice of the weight decay, R² was below 0."""
    X, y, X_test, y_test = noisy(200, 1.0)
    model = CNNRegressor(random_state=0).fit(X, y)
    assert model.alpha_ > DECAYS[0] / len(X)
    assert model.score(X_test, y_test) > peer(Ridge()).fit(X, y).score(X_test, y_test) - 0.05


def test_without_noise_the_first_decay_is_kept():
    X, y, *_ = noisy(300, 0.0)
    assert CNNRegressor(random_state=0, max_iter=100).fit(X, y).alpha_ == DECAYS[0] / 300


def test_where_something_is_in_an_image_is_learnt_better_than_by_svr():
    X, y = targets.centroid(600, np.random.default_rng(3))
    model = CNNRegressor(random_state=0, max_iter=25).fit(X[:100], y[:100])
    rows = X.reshape(len(X), -1)
    assert 1 - model.score(X[100:], y[100:]) < 0.7 * (
        1 - peer(SVR()).fit(rows[:100], y[:100]).score(rows[100:], y[100:])
    )


@pytest.mark.parametrize(
    ("parameters", "n", "expected"),
    [({}, 40, UNKNOWING), ({"alpha": 0.3}, 80, 0.3), ({"solver": "sgd"}, 80, 0.01), ({"solver": SGD(0.01)}, 80, 0.01)],
)
def test_the_decay_of_rows(parameters, n, expected):
    X, y, *_ = noisy(n, 0.1)
    assert CNNRegressor(random_state=0, max_iter=2, **parameters).fit(X, y).alpha_ == expected
    assert CNNRegressor(random_state=0, **parameters).partial_fit(X, y).alpha_ == parameters.get("alpha", 0.01)


@pytest.mark.parametrize(("n", "expected"), [(60, 0.3), (300, 0.1), (4000, 0.01)])
def test_the_decay_of_images(n, expected):
    X = np.random.RandomState(0).random_sample((n, 1, 6, 6))
    model = CNNRegressor(NET, random_state=0, max_iter=1).fit(X, X.mean(axis=(1, 2, 3)))
    assert model.alpha_ == expected


def test_a_decay_that_is_set_counts_where_a_training_goes_on(tmp_path):
    X, y, *_ = noisy(60, 0.5)
    model = CNNRegressor(random_state=0, max_iter=3).fit(X, y)
    chosen = model.alpha_
    assert 0 < chosen <= STRONGEST
    model.partial_fit(X, y)
    assert model._trainer.optimizer.weight_decay == chosen == model.alpha_
    save(model, tmp_path / "model.fcnn")
    again = load(tmp_path / "model.fcnn")
    assert again.alpha_ == chosen
    np.testing.assert_array_equal(again.partial_fit(X, y).predict(X), model.partial_fit(X, y).predict(X))
    model.set_params(alpha=0.07).partial_fit(X, y)
    assert model._trainer.optimizer.weight_decay == 0.07


def test_weights_of_samples_count_in_the_choice():
    """Samples of pure noise that weigh nothing change nothing."""
    X, y, *_ = noisy(120, 0.0)
    more, noise = noisy(60, 0.0, seed=1)[0], np.random.RandomState(2).normal(size=60) * 9
    weight = np.append(np.ones(120), np.zeros(60))
    fit = {"random_state": 0, "max_iter": 10}
    one = CNNRegressor(**fit).fit(X, y)
    other = CNNRegressor(**fit).fit(np.concatenate([X, more]), np.append(y, noise), sample_weight=weight)
    assert one.alpha_ == other.alpha_
