"""The pictures of docs/guide/insight.md, and the numbers in them: `python docs/pictures/insight.py`.

insight.npz has what was drawn, so that a test can tell whether the library still draws it.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

from fastcnn import SGD, CNNClassifier, Conv2D, CrossEntropy, Dense, Flatten, MaxPool2D, ReLU
from fastcnn.data import hold_out, load_digits
from fastcnn.display import FeatureMapsDisplay, FiltersDisplay, MistakesDisplay, SaliencyDisplay, TrainingCurveDisplay

mpl.use("agg")
FOLDER = Path(__file__).parent


def displays():
    """Return the pictures by name, of one network that has learned to read digits."""
    X, X_test, y, y_test = hold_out(*load_digits())
    layers = [Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Conv2D(16, 3, padding=1), ReLU(), Flatten(), Dense(10)]
    how = {"loss": CrossEntropy(), "solver": SGD(0.05, momentum=0.9), "schedule": "one_cycle", "batch_size": 32}
    classifier = CNNClassifier(layers, max_iter=8, random_state=0, **how).fit(X, y, X_val=X_test, y_val=y_test)
    return {
        "curves": TrainingCurveDisplay.from_estimator(classifier),
        "filters": FiltersDisplay.from_estimator(classifier),
        "maps": FeatureMapsDisplay.from_estimator(classifier, X_test[:1], layer=1),
        "saliency": SaliencyDisplay.from_estimator(classifier, X_test[:6], method="smooth_grad", random_state=0),
        "mistakes": MistakesDisplay.from_estimator(classifier, X_test, y_test, count=4),
    }


def numbers(display):
    """Return what a picture shows, as one array: its curves, or its images one after the other."""
    drawn = [line.get_ydata() for axes in display.axes_.flat for line in axes.get_lines()]
    drawn += [image.get_array() for axes in display.axes_.flat for image in axes.get_images()]
    return np.concatenate([np.asarray(one, np.float32).ravel() for one in drawn])


def main() -> None:
    """Draw and write."""
    made = displays()
    for name, display in made.items():
        display.figure_.savefig(FOLDER / f"{name}.png", dpi=80, metadata={"Software": None})
    np.savez_compressed(FOLDER / "insight.npz", **{name: numbers(display) for name, display in made.items()})


if __name__ == "__main__":
    main()
