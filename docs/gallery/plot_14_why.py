"""
Why a network says what it says
===============================

`fastcnn.inspection` tells which pixels move the score of a class (`saliency`), where in the maps the evidence is
(`grad_cam`), and what is lost when a patch is covered (`occlusion`). All are arrays; `fastcnn.display` draws them too.
"""

import matplotlib.pyplot as plt

from fastcnn import SGD, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import load_digits
from fastcnn.inspection import grad_cam, occlusion, saliency

X, y = load_digits()
model = Sequential([Conv2D(16, 3, padding=1), ReLU(), MaxPool2D(2), Flatten(), Dense(10)])
Trainer(model, optimizer=SGD(0.05, momentum=0.9), random_state=0).fit(X, y, epochs=8, batch_size=32, verbose=0)

digits = X[[8, 3, 5, 0]]
rows = {
    "digit": digits[:, 0],
    "saliency": saliency(model, digits, method="integrated_gradients")[:, 0],
    "Grad-CAM": grad_cam(model, digits, layer=1, size="input"),
    "occlusion": occlusion(model, digits, size=3),
}
figure, axes = plt.subplots(4, 4, figsize=(6, 6.5))
for row, (name, images) in zip(axes, rows.items(), strict=True):
    row[0].set_title(name, loc="left", fontsize=9)
    for axis, image in zip(row, images, strict=True):
        bound = abs(image).max()
        axis.imshow(image, cmap="RdBu_r", vmin=-bound, vmax=bound)
        axis.axis("off")
