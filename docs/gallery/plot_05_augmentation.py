"""
Images changed by chance
========================

`Augmentation` changes images on the way into training. What becomes of an image is a function of seed, epoch and its
place in the set: neither threads nor batch sizes change it.
"""

import matplotlib.pyplot as plt

from fastcnn import Augmentation
from fastcnn.data import load_digits

X, _ = load_digits()
changes = {
    "as it is": Augmentation(),
    "shift": Augmentation(shift=2),
    "rotation": Augmentation(rotation=25),
    "scale": Augmentation(scale=0.3),
    "contrast": Augmentation(contrast=0.8, brightness=0.3),
    "cutout": Augmentation(cutout=4),
}
figure, axes = plt.subplots(len(changes), 8, figsize=(8, 6.5))
for row, (name, augmentation) in zip(axes, changes.items(), strict=True):
    row[0].set_title(name, loc="left", fontsize=9)
    for axis, image in zip(row, augmentation(X[:8], seed=0, epoch=0), strict=True):
        axis.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        axis.axis("off")
