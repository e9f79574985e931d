"""`CNNClassifier` beside scikit-learn's classifiers, all with their defaults, and what it costs over its Trainer.

    python -m bench.estimators [--seeds 0 1 2] [--only CNNClassifier ...]   five folds of the digits
    FASTCNN_DATA=<folder> python -m bench.estimators --fashion              10,000 images to train, 10,000 to test
    FASTCNN_DATA=<folder> python -m bench.estimators --overhead             `fit` beside `Trainer.fit`, same network

Seconds are of `fit` alone, the median over the folds; kernels are loaded before.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from fastcnn import CNNClassifier, Sequential, Trainer
from fastcnn.data import load

from .timing import about, table

Data = tuple[np.ndarray, np.ndarray]
KINDS = (CNNClassifier, SVC, MLPClassifier, HistGradientBoostingClassifier, RandomForestClassifier)
FOLDS, ROUNDS = 5, 5


def fitted(kind: type, train: Data, test: Data, seed: int) -> tuple[float, float]:
    """Return the share of `test` that is right, and the seconds of `fit`."""
    estimator = kind(random_state=seed)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLPClassifier() is not converged after its 200 epochs
        estimator.fit(*train)
    seconds = time.perf_counter() - began
    return float(np.mean(estimator.predict(test[0]) == test[1])), seconds


def folds(kind: type, seeds: Sequence[int]) -> tuple[list[float], float]:
    """Return the mean accuracy of each seed's five folds of the digits, and the median seconds of a fold."""
    X, y = load_digits(return_X_y=True)
    accuracies, seconds = [], []
    for seed in seeds:
        cuts = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(X, y)
        found = [fitted(kind, (X[train], y[train]), (X[test], y[test]), seed) for train, test in cuts]
        accuracies.append(mean(accuracy for accuracy, _ in found))
        seconds += [taken for _, taken in found]
    return accuracies, median(seconds)


def read(name: str, images: int) -> tuple[Data, Data]:
    """Return the first `images` of an IDX set as rows, and its whole test set."""
    data = load(Path(os.environ["FASTCNN_DATA"]) / name)
    assert data.X_test is not None
    assert data.y_test is not None
    return (data.X[:images].reshape(images, -1), data.y[:images]), (
        data.X_test.reshape(len(data.X_test), -1),
        data.y_test,
    )


def both_ways(X: np.ndarray, y: np.ndarray, epochs: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return `CNNClassifier.fit`, and `Trainer.fit` of the same network on the same images, ready to be trained on."""
    like = CNNClassifier(max_iter=epochs, random_state=0).fit(X, y)
    images = like._scaler(like._read(X, reset=False), np.float32)
    batch, steps = like._batch(len(images)), epochs * -(-len(images) // like._batch(len(images)))

    def estimator() -> None:
        CNNClassifier(max_iter=epochs, random_state=0).fit(X, y)

    def trainer() -> None:
        model = Sequential(like.model_.copy().layers).build(images.shape[1:], random_state=0)
        bare = like._new_trainer(steps, 2)
        Trainer(model, bare.loss, bare.optimizer, random_state=0, schedule=bare.schedule).fit(
            images, y, epochs=epochs, batch_size=batch, verbose=0
        )

    return estimator, trainer


def overhead(X: np.ndarray, y: np.ndarray, epochs: int) -> tuple[float, float]:
    """Return the median seconds of both ways, taken in turn."""
    ways = both_ways(X, y, epochs)
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(ROUNDS):
        for way, taken in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            way()
            taken.append(time.perf_counter() - began)
    return median(seconds[0]), median(seconds[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.estimators", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[kind.__name__ for kind in KINDS])
    parser.add_argument("--fashion", action="store_true")
    parser.add_argument("--overhead", action="store_true")
    chosen = parser.parse_args()
    print(about("bench.estimators", ("numpy", "numba", "scikit-learn")))
    if chosen.overhead:
        digits, mnist = load_digits(return_X_y=True), read("mnist", 10_000)[0]
        rows = []
        for name, (X, y), epochs in (("digits, 20 epochs", digits, 20), ("MNIST, 10,000 images, 1 epoch", mnist, 1)):
            ours, bare = overhead(X, y, epochs)
            over = ours - bare
            rows.append((name, f"{ours:.3f}", f"{bare:.3f}", f"{1e3 * over:.0f}", f"{over / bare:.1%}"))
        print(table(("", "CNNClassifier.fit, s", "Trainer.fit, s", "over, ms", "over"), rows))
        return
    CNNClassifier(max_iter=2).fit(*load_digits(return_X_y=True))
    for kind in KINDS:
        if chosen.only and kind.__name__ not in chosen.only:
            continue
        if chosen.fashion:
            accuracy, seconds = fitted(kind, *read("fashion-mnist", 10_000), chosen.seeds[0])
            each = ""
        else:
            accuracies, seconds = folds(kind, chosen.seeds)
            accuracy, each = mean(accuracies), " (" + ", ".join(f"{value:.2%}" for value in accuracies) + ")"
        print(f"{kind.__name__:32} {accuracy:.2%}{each}  {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
