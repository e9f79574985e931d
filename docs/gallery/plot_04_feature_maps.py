"""
An image on its way through a network
=====================================

`model.outputs(x)` gives the maps behind each layer, as in prediction: the input, what each filter of the first layer
answers, and what is left behind the pooling.
"""

import matplotlib.pyplot as plt

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import load_digits

X, y = load_digits()
model = Sequential([Conv2D(8, 3, padding=1), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
Trainer(model, optimizer=SGD(0.05, momentum=0.9), random_state=0).fit(X, y, epochs=8, batch_size=32, verbose=0)
maps = model.outputs(X[3:4])

figure, axes = plt.subplots(3, 8, figsize=(9, 3.6))
for column in range(8):
    for row, name in enumerate(("0", "1", "2")):
        axes[row, column].imshow(maps[name][0, column], cmap="viridis")
        axes[row, column].axis("off")
figure.suptitle("convolution, ReLU, max-pooling: eight channels of a 3")
