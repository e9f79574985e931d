"""
A class for each pixel
======================

A U-Net makes an image small, to see the whole of a shape, and large again, with shortcuts that bring the details back.
Here it tells discs, squares and background apart, after a look at 160 noisy images in which half of the pixels are
labelled.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import Adam, CrossEntropy, Trainer, models

UNKNOWN = 255
generator, (i, j) = np.random.RandomState(0), np.mgrid[:32, :32]
X = generator.uniform(0, 0.5, size=(200, 1, 32, 32)).astype(np.float32)
y = np.zeros((200, 32, 32), np.uint8)
for image, labels in zip(X, y, strict=True):
    for kind in (1, 2):
        (a, b), r = generator.randint(7, 25, size=2), generator.randint(4, 7)
        inside = np.hypot(i - a, j - b) < r if kind == 1 else np.maximum(abs(i - a), abs(j - b)) < r
        image[0, inside] += 0.5
        labels[inside] = kind
known = y[:160].copy()
known[generator.uniform(size=known.shape) < 0.5] = UNKNOWN

model = models.unet((1, 32, 32), num_classes=3, num_filters=8, depth=2)
trainer = Trainer(model, CrossEntropy(ignore_index=UNKNOWN), Adam(0.01), random_state=0)
trainer.fit(X[:160], known, epochs=15, batch_size=8, verbose=0)
found = model.predict(X[160:]).argmax(axis=1)

# %%
# The intersection over the union of what was found and what is there, for each class:
for kind, name in enumerate(("background", "disc", "square")):
    both, either = (found == kind) & (y[160:] == kind), (found == kind) | (y[160:] == kind)
    print(f"{name}: {both.sum() / either.sum():.2f}")

figure, axes = plt.subplots(3, 5, figsize=(8, 5))
for column, axis in enumerate(axes.T):
    axis[0].imshow(X[160 + column, 0], cmap="gray")
    axis[1].imshow(y[160 + column], cmap="viridis", vmax=2)
    axis[2].imshow(found[column], cmap="viridis", vmax=2)
for axis, name in zip(axes[:, 0], ("image", "labels", "found"), strict=True):
    axis.set_ylabel(name)
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
