"""
A layer of your own
===================

A layer says its formula and its gradient in NumPy; `check_gradients` compares the two, and a `Trainer` trains it
beside the others. This one is a ReLU that learns its slope below zero, one for each channel (He et al., ICCV 2015).
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import SGD, Conv2D, Dense, Flatten, Layer, MaxPool2D, Parameter, Sequential, Trainer, check_gradients
from fastcnn.data import load_digits


class PReLU(Layer):
    """y = x above zero, slope · x below."""

    def _parameters(self, input_shape):
        return {"slope": Parameter((input_shape[0], 1, 1), initial=0.25)}

    def _forward(self, x):
        return np.where(x > 0, x, self.parameters["slope"] * x)

    def _backward(self, x, y, dL_dout):
        below = np.where(x > 0, 0, x)
        dL_dinput = np.where(x > 0, 1, self.parameters["slope"]) * dL_dout
        return dL_dinput, {"slope": (below * dL_dout).sum(axis=(0, 2, 3), keepdims=True)[0]}


X, y = load_digits()
model = Sequential([Conv2D(16, 3), PReLU(), MaxPool2D(2), Flatten(), Dense(10)])
print(check_gradients(model, X[:4], y[:4], random_state=0))

# %%
# The slopes, which all began at 0.25, after some epochs:

Trainer(model, optimizer=SGD(0.05, momentum=0.9), random_state=0).fit(X, y, epochs=8, batch_size=32, verbose=0)
figure, axis = plt.subplots(figsize=(8, 3))
axis.bar(range(16), model.parameters["1.slope"].ravel())
axis.axhline(0.25, linestyle=":", color="black")
axis.set(xlabel="channel", ylabel="slope below zero")
