# %% [markdown]
# # A CNN beside its loops
#
# fastcnn computes a convolution in machine code. In the folder `reference/` of a clone, the same layer is a few lines of
# loops. This lesson puts both side by side, layer by layer, for a network that reads handwritten digits.

# %%
import inspect

import numpy as np

import fastcnn
import reference
from fastcnn.data import load_digits

X, y = load_digits()
x = X[:3].astype(np.float64)
x.shape

# %% [markdown]
# The network: 16 filters of 3 × 3 pixels, ReLU, the maximum of each 2 × 2 pixels, and a dense layer with a softmax.


# %%
def layers(module):
    return [module.Conv2D(16, 3), module.ReLU(), module.MaxPool2(), module.Softmax(144, 10)]


model = fastcnn.Sequential(layers(fastcnn)).build((1, 8, 8), random_state=0, dtype="float64")
twins, shape = layers(reference), (1, 8, 8)
for place, twin in enumerate(twins):
    twin.build(shape)
    for name, array in twin.parameters.items():
        array[...] = model.parameters[f"{place}.{name}"]
    shape = twin.output_shape(shape)
model

# %% [markdown]
# `model.outputs` returns what each layer makes of the images; the loops are called one after the other.

# %%
maps, value = model.outputs(x), x
for place, twin in enumerate(twins):
    value = twin.forward(value)
    far = np.abs(maps[str(place)] - value).max()
    print(f"{type(twin).__name__:8} {value.shape!s:16} differs by less than 1e-12: {far < 1e-12}")

# %% [markdown]
# One pixel of the first map, by hand: the window of the image, times the filter, added up, plus the bias.

# %%
i, j, filter = 2, 3, 5
window = x[0, 0, i : i + 3, j : j + 3]
by_hand = sum(window[r, t] * model[0].filters[filter, 0, r, t] for r in range(3) for t in range(3))
by_hand += model[0].biases[filter]
print(f"by hand {by_hand:.12f}\nfastcnn {maps['0'][0, filter, i, j]:.12f}")

# %% [markdown]
# The loops themselves, as they stand in `reference/`:

# %%
print(inspect.getsource(reference.Conv2D._forward))
print(inspect.getsource(reference.ReLU))
