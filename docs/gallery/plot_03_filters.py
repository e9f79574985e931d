"""
What the first filters look for
===============================

`layer.filters` is a writable view of the trained numbers, (filters, channels, rows, columns). Filters of the first
layer can be looked at as small images: edges and strokes in different directions.
"""

import matplotlib.pyplot as plt

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import load_digits

X, y = load_digits()
first = Conv2D(16, 5, padding=2)
model = Sequential([first, ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
Trainer(model, optimizer=SGD(0.05, momentum=0.9), random_state=0).fit(X, y, epochs=10, batch_size=32, verbose=0)

strongest = abs(first.filters).max()
figure, axes = plt.subplots(2, 8, figsize=(9, 2.6))
for axis, filter in zip(axes.flat, first.filters[:, 0], strict=True):
    axis.imshow(filter, cmap="RdBu", vmin=-strongest, vmax=strongest)
    axis.axis("off")
