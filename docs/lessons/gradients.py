# %% [markdown]
# # Why a gradient is what it is
#
# Training moves each weight against the gradient of the loss: by how much the loss grows where the weight grows a little.
# This lesson measures that, as a school child would: change the weight a little, and look.

# %%
import numpy as np

from fastcnn import Conv2D, CrossEntropy, Dense, Flatten, Layer, ReLU, Sequential, check_gradients
from fastcnn.data import load_digits

X, y = load_digits()
x, y = X[:8].astype(np.float64), y[:8]
model = Sequential([Conv2D(4, 3), ReLU(), Flatten(), Dense(10)]).build((1, 8, 8), random_state=0, dtype="float64")
loss = CrossEntropy()


def loss_of():
    return loss(model.forward(x), y)


loss_of()

# %% [markdown]
# One weight, one number: the slope between two points nearby, and what backpropagation says.

# %%
model.backward(loss.gradient(model.forward(x), y))
said = model.gradients["0.filters"][2, 0, 1, 1]
weight, h = model.parameters["0.filters"], 1e-6
weight[2, 0, 1, 1] += h
above = loss_of()
weight[2, 0, 1, 1] -= 2 * h
below = loss_of()
weight[2, 0, 1, 1] += h
print(f"measured {(above - below) / (2 * h):.8f}\nsaid     {said:.8f}")

# %% [markdown]
# `check_gradients` does so for all weights, along random directions. Digits have many pixels of 0, so that some outputs lie
# just where the ReLU bends; there is no slope there, and the report names such places rather than calling them wrong.

# %%
print(check_gradients(model, x, y, random_state=0))


# %% [markdown]
# And what it says of a layer with a mistake: the derivative of x² is 2x, not x.


# %%
class Square(Layer):
    def _forward(self, x):
        return x * x

    def _backward(self, x, y, dL_dout):
        return x * dL_dout


wrong = Sequential([Flatten(), Dense(4), Square(), Dense(10)]).build((1, 8, 8), random_state=0, dtype="float64")
print(check_gradients(wrong, x, y, random_state=0, raises=False))
