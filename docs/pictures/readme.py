"""The picture of the README, digits.png: `python docs/pictures/readme.py`.

Held-out digits with what the network says about each, the filters of its first layer, and one digit behind the layers.
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import hold_out, load_digits

mpl.use("agg")
INK = "#1b4965"


def main() -> None:
    """Train, draw, write."""
    X_train, X_test, y_train, _ = hold_out(*load_digits())
    layers = [Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Conv2D(16, 3, padding=1), ReLU(), Flatten(), Dense(10)]
    model = Sequential(layers)
    trainer = Trainer(model, optimizer=SGD(0.05, momentum=0.9), schedule="one_cycle", random_state=0)
    trainer.fit(X_train, y_train, epochs=12, batch_size=32, verbose=0)
    probabilities = np.exp(model.predict(X_test[:8]))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    maps = model.outputs(X_test[:1])

    figure = plt.figure(figsize=(10, 3.6), dpi=110)
    rows = figure.subplots(3, 8, gridspec_kw={"hspace": 0.45, "wspace": 0.15})
    for axis, image, answer in zip(rows[0], X_test, probabilities, strict=False):
        axis.imshow(image[0], cmap="gray_r")
        axis.set_title(f"{answer.argmax()}  ({answer.max():.0%})", fontsize=9, color=INK)
    filters = layers[0].filters[:, 0]
    for axis, filter in zip(rows[1], filters, strict=True):
        axis.imshow(filter, cmap="RdBu", vmin=-abs(filters).max(), vmax=abs(filters).max())
    for axis, image in zip(rows[2], maps["1"][0], strict=True):
        axis.imshow(image, cmap="viridis")
    for axis in rows.flat:
        axis.axis("off")
    for row, words in zip(rows, ("held-out digits", "filters", "maps of the first digit"), strict=True):
        row[0].text(-0.15, 0.5, words, transform=row[0].transAxes, ha="right", va="center", fontsize=9, color=INK)
    figure.savefig(Path(__file__).with_name("digits.png"), bbox_inches="tight", metadata={"Software": None})


if __name__ == "__main__":
    main()
