"""
Activations and their gradients
===============================

Each layer can be called by itself: `forward` gives the output, `backward` the gradient of what is behind it.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh

x = np.linspace(-4, 4, 401)[None]
layers = [ReLU(), LeakyReLU(0.1), ELU(), GELU(), SiLU(), Sigmoid(), Tanh()]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
for layer in layers:
    left.plot(x[0], layer.forward(x)[0], label=layer.name)
    right.plot(x[0], layer.backward(np.ones_like(x))[0])
left.set(title="y", ylim=(-1.5, 4))
right.set(title="dy/dx")
left.legend()
