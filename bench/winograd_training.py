"""Does the rounding of Winograd's algorithms change what a network learns? Seed-matched trainings beside direct.

    FASTCNN_DATA=<folder> python -m bench.winograd_training

Three networks, five seeds; for each seed the same weights and the same batches go through direct convolution,
F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3), in float32. Printed are the final loss and the test accuracy, and the differences
to direct beside the spread that the seeds alone make.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer

from .timing import table

ALGORITHMS = ("direct", "winograd", "winograd4")
SEEDS = range(5)
Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def rows(algorithm: str, *widths: int) -> list[object]:
    """Return 3 x 3 convolutions with ReLU, two of each width, a pooling behind each pair."""
    layers: list[object] = []
    for width in widths:
        for _ in range(2):
            layers += [Conv2D(width, 3, padding=1, algorithm=algorithm), ReLU()]
        layers.append(MaxPool2D(2))
    return [*layers, Flatten(), Dense(10)]


def digits() -> Data:
    """Return scikit-learn's digits, split."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return tuple(train_test_split(X, y, test_size=0.2, random_state=42))  # type: ignore[return-value]


def fashion(images: int) -> Callable[[], Data]:
    """Return a reader of the first `images` of Fashion-MNIST and of its whole test set."""

    def read(name: str, header: int) -> np.ndarray:
        path = Path(os.environ["FASTCNN_DATA"]) / "fashion-mnist" / f"{name}.gz"
        return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)

    def load() -> Data:
        train, test = (read(f"{part}-images-idx3-ubyte", 16).reshape(-1, 1, 28, 28) for part in ("train", "t10k"))
        y_train, y_test = (read(f"{part}-labels-idx1-ubyte", 8).astype(int) for part in ("train", "t10k"))
        return train[:images], test, y_train[:images], y_test

    return load


# network: layers, data, epochs, learning rate
NETWORKS: dict[str, tuple[Callable[[str], list[object]], Callable[[], Data], int, float]] = {
    "digits 32-64": (lambda algorithm: rows(algorithm, 32, 64), digits, 12, 0.1),
    "Fashion-MNIST 16-32": (lambda algorithm: rows(algorithm, 16, 32), fashion(12000), 4, 0.1),
    "Fashion-MNIST 16-32-64": (lambda algorithm: rows(algorithm, 16, 32, 64), fashion(12000), 4, 0.05),
}


def train(layers: list[object], data: Data, epochs: int, rate: float, seed: int) -> tuple[float, float]:
    """Return the mean loss of the last epoch, and the accuracy on the test set."""
    X, X_test, y, y_test = data
    model = Sequential(layers).build(X.shape[1:], random_state=seed)  # type: ignore[arg-type]
    trainer = Trainer(model, optimizer=SGD(rate))
    generator = np.random.default_rng(seed)
    steps = epochs * (len(X) // 64)
    losses: list[float] = []
    for epoch in range(epochs):
        order = generator.permutation(len(X))
        losses.clear()
        for k in range(len(X) // 64):
            trainer.optimizer.learning_rate = rate * (1 - (epoch * (len(X) // 64) + k) / steps)
            batch = order[64 * k : 64 * (k + 1)]
            losses.append(trainer.step(X[batch], y[batch]))
    logits = model.predict(X_test)
    return float(np.mean(losses)), float((logits.argmax(axis=1) == y_test).mean())


def main() -> None:
    """Train all and print the table."""
    lines = []
    for name, (layers, load, epochs, rate) in NETWORKS.items():
        data = load()
        results = {a: np.array([train(layers(a), data, epochs, rate, s) for s in SEEDS]) for a in ALGORITHMS}
        direct = results["direct"]
        for algorithm, values in results.items():
            loss, accuracy = (values - direct).mean(axis=0)
            error = (values - direct).std(axis=0, ddof=1) / np.sqrt(len(SEEDS))
            lines.append([
                name, algorithm, f"{values[:, 0].mean():.4f}", f"{values[:, 0].std(ddof=1):.4f}",
                f"{loss:+.4f} ± {error[0]:.4f}", f"{values[:, 1].mean():.4f}", f"{values[:, 1].std(ddof=1):.4f}",
                f"{accuracy:+.4f} ± {error[1]:.4f}",
            ])  # fmt: skip
            print("  ".join(lines[-1]), flush=True)
    head = ["network", "algorithm", "loss", "seeds ±", "to direct", "accuracy", "seeds ±", "to direct"]
    print(table(head, lines))


if __name__ == "__main__":
    main()
