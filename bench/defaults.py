"""Estimators with no argument beside each other: few images, damaged images, digits, signals, smooth targets.

    FASTCNN_DATA=<folder> python -m bench.defaults [--table sets] [--sizes 100 1000] [--seeds 0 1 2] [--only SVC ...]
    python -m bench.defaults --table corruptions (or digits, signals, regression)

Pixels are from 0 to 1, which `MLPClassifier` needs and nobody else minds. Sets are MNIST, Fashion-MNIST and CIFAR-10,
each in a folder of its name; the training images are drawn anew for each seed, the first 2,000 test images judge. A
cell is accuracy, log-loss and expected calibration error (15 bins), means over the seeds; of regression,
R². With `--keep FILE`, figures that are in the file are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, SVR

from fastcnn import CNNClassifier, CNNRegressor
from fastcnn.data import load

from . import targets
from .timing import about, table

Figures = dict[str, float]
Case = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # X and y to train, X and y to test
TESTED = 2000
SETS = ("mnist", "fashion-mnist", "cifar10")
SIZES = (100, 300, 1000, 3000)
BINS = 15


def hog(X: np.ndarray) -> np.ndarray:
    """Return histograms of oriented gradients (Dalal and Triggs, CVPR 2005): cells of 4 x 4 pixels, blocks of 2 x 2."""
    down, right = np.gradient(X, axis=(2, 3))
    size = np.hypot(down, right)
    angle = np.arctan2(down, right) % np.pi * (9 / np.pi)
    strongest = size.argmax(axis=1)[:, None]
    size, angle = (np.take_along_axis(values, strongest, 1)[:, 0] for values in (size, angle))
    low, share = np.floor(angle).astype(int), angle % 1
    votes = np.zeros((*size.shape, 9))
    for place, weight in ((low % 9, 1 - share), ((low + 1) % 9, share)):
        np.put_along_axis(votes, place[..., None], np.take_along_axis(votes, place[..., None], -1)
                          + (size * weight)[..., None], -1)  # fmt: skip
    side = 4 if min(X.shape[2:]) >= 16 else 2
    n, height, width = len(X), X.shape[2] // side, X.shape[3] // side
    cells = votes[:, : height * side, : width * side].reshape(n, height, side, width, side, 9).sum(axis=(2, 4))
    blocks = np.concatenate(
        [cells[:, i : height - 1 + i, j : width - 1 + j] for i in (0, 1) for j in (0, 1)], axis=-1
    ).reshape(n, -1, 36)
    for _ in range(2):
        blocks = np.minimum(blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-4), 0.2)
    return blocks.reshape(n, -1)


def svc() -> Any:
    """Return an SVC with probabilities of Platt's kind; they are fitted across five folds."""
    return CalibratedClassifierCV(SVC(), ensemble=False)


def flat(X: np.ndarray) -> np.ndarray:
    """Return images as rows."""
    return X.reshape(len(X), -1)


def rows(model: Any) -> Any:
    """Return a model of images as rows, with no-data values as means."""
    return make_pipeline(FunctionTransformer(flat), SimpleImputer(keep_empty_features=True), model)


CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "CNNClassifier": lambda seed: CNNClassifier(random_state=seed),
    "SVC": lambda seed: rows(svc()),
    "RandomForest": lambda seed: rows(RandomForestClassifier(random_state=seed)),
    "HistGradientBoosting": lambda seed: rows(HistGradientBoostingClassifier(random_state=seed)),
    "MLP": lambda seed: rows(MLPClassifier(random_state=seed)),
    "HOG+SVC": lambda seed: make_pipeline(FunctionTransformer(hog), StandardScaler(), svc()),
}


REGRESSORS: dict[str, Callable[[int], Any]] = {
    "CNNRegressor": lambda seed: CNNRegressor(random_state=seed),
    "SVR": lambda seed: rows(make_pipeline(StandardScaler(), SVR())),
    "RandomForest": lambda seed: rows(RandomForestRegressor(random_state=seed)),
    "HistGradientBoosting": lambda seed: rows(HistGradientBoostingRegressor(random_state=seed)),
    "MLP": lambda seed: rows(make_pipeline(StandardScaler(), MLPRegressor(random_state=seed))),
    "Ridge": lambda seed: rows(make_pipeline(StandardScaler(), Ridge())),
}


def calibration_error(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: |accuracy - confidence|, by bins of the confidence."""
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((right - confidence)[bins == one].sum()) for one in range(BINS)]
    return float(sum(gaps) / len(right))


def measure(model: Any, case: Case) -> Figures:
    """Fit a classifier, and return what its predictions are worth."""
    X, y, X_test, y_test = case
    began = time.perf_counter(), time.process_time()
    model.fit(X, y)
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    probabilities = np.asarray(model.predict_proba(X_test), float)
    right = model.predict(X_test) == y_test
    known = np.zeros((len(y_test), int(max(y.max(), y_test.max())) + 1))
    known[:, model.classes_] = probabilities
    return {
        "accuracy": float(right.mean()), "log_loss": float(log_loss(y_test, known, labels=range(known.shape[1]))),
        "ece": calibration_error(probabilities, right), "seconds": seconds, "processor": processor,
    }  # fmt: skip


def read(name: str) -> Case:
    """Return a set's images from 0 to 1, (n, C, H, W)."""
    folder = Path(os.environ["FASTCNN_DATA"]) / name
    data = load(folder / "cifar-10-batches-bin" if (folder / "cifar-10-batches-bin").exists() else folder)
    assert data.X_test is not None
    assert data.y_test is not None
    return data.X, data.y, data.X_test[:TESTED] / np.float32(255), data.y_test[:TESTED]


def few(data: Case, size: int, seed: int) -> Case:
    """Return a case with so many of the training images."""
    chosen = np.random.default_rng(seed).permutation(len(data[0]))[:size]
    return data[0][chosen] / np.float32(255), data[1][chosen], *data[2:]


def cells(names: Iterable[str], sizes: Iterable[int], seed: int) -> Iterable[tuple[str, Case]]:
    """Yield the cases of the table of sets."""
    for name in names:
        data = read(name)
        for size in sizes:
            yield f"{name} {size}", few(data, size, seed)


def half_of_digits(seed: int) -> Case:
    """Return the digits in two: 1,400 to train."""
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    X, y = (X / 16).reshape(-1, 1, 8, 8)[order].astype("f"), y[order]
    return X[:1400], y[:1400], X[1400:], y[1400:]


def corruptions(seed: int) -> Iterable[tuple[str, Case]]:
    """Yield digits that are damaged as data are, and the clean ones first."""
    X, y, X_test, y_test = half_of_digits(seed)
    generator = np.random.default_rng(100 + seed)

    def both(change: Callable[[np.ndarray], np.ndarray]) -> Case:
        return change(X.copy()), y, change(X_test.copy()), y_test

    def filled(value: float, share: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda Z: np.where(generator.random(Z.shape) < share, np.float32(value), Z)

    def hot(Z: np.ndarray) -> np.ndarray:
        Z[:, :, 3, 4] *= 1000
        return Z

    bad, image = X.copy(), X.copy()
    bad[17, 0, 2, 2], image[17] = 1000, 1e6
    yield "clean", (X, y, X_test, y_test)
    yield "one value of 1,000", (bad, y, X_test, y_test)
    yield "a bad image", (image, y, X_test, y_test)
    yield "a hot pixel", both(hot)
    yield "-9999, 1 %", both(filled(-9999, 0.01))
    yield "-9999, 10 %", both(filled(-9999, 0.1))
    yield "NaN, 5 %", both(filled(np.nan, 0.05))
    yield "20 % wrong labels", (X, np.where(generator.random(len(y)) < 0.2, generator.integers(10, size=len(y)), y),
                                X_test, y_test)  # fmt: skip
    rare = (y != 3) | (generator.random(len(y)) < 0.48)
    yield "95:5", (X[rare], (y[rare] == 3).astype(int), X_test, (y_test == 3).astype(int))
    yield "offset 1e4", both(lambda Z: Z + 1e4)
    yield "an offset each", both(lambda Z: Z + generator.normal(size=(len(Z), 1, 1, 1)).astype("f"))
    yield "inverted", both(lambda Z: 1 - Z)


def signals(seed: int) -> Iterable[tuple[str, Case]]:
    """Yield waves of five shapes, anywhere, in noise: as (n, 1, L), for three lengths."""
    generator = np.random.default_rng(seed)
    for length, n in ((24, 1000), (64, 400), (128, 1000)):
        t = np.arange(length)
        kind = generator.integers(5, size=n + 1000)
        period = generator.uniform(length / 6, length / 4, (len(kind), 1))
        phase = (t + generator.uniform(0, length, (len(kind), 1))) / period
        shapes = [np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1,
                  1 - 2 * (phase % 1), 4 * np.abs(phase % 1 - 0.5) - 1]  # fmt: skip
        X = np.choose(kind[:, None], shapes) * generator.uniform(0.5, 1.5, (len(kind), 1))
        X = (X + generator.normal(scale=0.3, size=X.shape)).astype("f")[:, None]
        yield f"waves of {length}", (X[:n], kind[:n], X[n:], kind[n:])
    for n in (300, 1000):
        t = np.linspace(0, 1, 100)
        kind = generator.integers(4, size=n + 1000)
        middle, width = generator.uniform(0.2, 0.8, (len(kind), 1)), generator.uniform(0.03, 0.05, (len(kind), 1))
        u = (t - middle) / width
        bumps = [np.exp(-(u**2)), -u * np.exp(-(u**2)) * 1.5, (1 - u**2) * np.exp(-(u**2) / 2), np.exp(-np.abs(u))]
        X = np.choose(kind[:, None], bumps) + generator.normal(scale=0.15, size=(len(kind), 100))
        yield f"bumps, {n}", (X[:n, None], kind[:n], X[n:, None], kind[n:])


def folds(seed: int) -> Iterable[tuple[str, Case]]:
    """Yield the five folds of the digits."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("f").reshape(-1, 1, 8, 8)
    cuts = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
    for number, (train, test) in enumerate(cuts):
        yield f"digits, fold {number + 1}", (X[train], y[train], X[test], y[test])


def fitting(make: Callable[[int], Any], seed: int, case: Case) -> Any:
    """Return an estimator for a case: one that takes NaN where there is some."""
    model = make(seed)
    if isinstance(model, CNNClassifier) and np.isnan(case[0]).any():
        model.set_params(missing_values=np.nan)
    return model


def regress(model: Any, case: Case) -> Figures:
    """Fit a regressor, and return the R² of its predictions."""
    X, y, X_test, y_test = case
    began = time.perf_counter(), time.process_time()
    model.fit(X, y)
    seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
    return {"R2": float(model.score(X_test, y_test)), "seconds": seconds, "processor": processor}


def figures(kept: Path | None, key: str, make: Callable[[], Figures]) -> Figures:
    """Return figures that are kept in a file, or make and keep them."""
    known: dict[str, Figures] = json.loads(kept.read_text()) if kept is not None and kept.exists() else {}
    if key not in known:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLPClassifier() is not converged after its 200 epochs
            made = make()
        known = json.loads(kept.read_text()) if kept is not None and kept.exists() else known
        known[key] = made
        if kept is not None:
            kept.write_text(json.dumps(known, indent=0))
    return known[key]


def shown(found: Sequence[Figures]) -> str:
    """Return a cell of the table: means over the seeds."""
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    if "R2" in means:
        return f"{means['R2']:.4f}  {means['processor']:.1f}s"
    return f"{means['accuracy']:.2%} {means['log_loss']:.3f} {means['ece']:.3f}  {means['processor']:.1f}s"


def main() -> None:
    """Run the bench as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m bench.defaults", description=__doc__.partition("\n")[0])
    tables = {"corruptions": corruptions, "signals": signals, "digits": folds}
    parser.add_argument("--table", choices=("sets", *tables, "regression"), default="sets")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[*CLASSIFIERS, *REGRESSORS])
    parser.add_argument("--rows", nargs="+", help="the names of the rows that are measured")
    parser.add_argument("--keep", type=Path, help="a file of figures; those that it has are not measured again")
    chosen = parser.parse_args()
    tables["regression"] = partial(targets.cases, sizes=chosen.sizes)
    print(about("bench.defaults", ("numpy", "numba", "scikit-learn")))
    peers = REGRESSORS if chosen.table == "regression" else CLASSIFIERS
    if chosen.table in ("digits", "signals", "corruptions"):
        peers = {name: make for name, make in peers.items() if name != "HOG+SVC"}
    names = [name for name in peers if not chosen.only or name in chosen.only]
    found: dict[str, dict[str, list[Figures]]] = {}
    for seed in chosen.seeds:
        cases = cells(chosen.sets, chosen.sizes, seed) if chosen.table == "sets" else tables[chosen.table](seed)
        for label, case in cases:
            if chosen.rows and label not in chosen.rows:
                continue
            for name in names:
                key = f"{chosen.table}/{label}/{name}/{seed}"
                judge = regress if chosen.table == "regression" else measure
                made = figures(chosen.keep, key, partial(judge, fitting(peers[name], seed, case), case))
                found.setdefault(label, {}).setdefault(name, []).append(made)
                print(f"{label}, seed {seed}, {name}: {shown([made])}", flush=True)
    lines = [(label, *(shown(row[name]) for name in names)) for label, row in found.items()]
    print(table(("", *names), lines))


if __name__ == "__main__":
    main()
