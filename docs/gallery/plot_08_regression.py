"""
A number from an image
======================

`CNNRegressor` learns numbers. Here each image is a noisy bar, and the number is the angle that it is turned by.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import CNNRegressor

generator = np.random.RandomState(0)
angles = generator.uniform(-60, 60, size=1200)
rows, columns = np.mgrid[-8:8, -8:8] + 0.5
turned = np.radians(angles)[:, None, None]
distance = np.abs(columns * np.sin(turned) - rows * np.cos(turned))
X = (np.exp(-(distance**2) / 2) + generator.normal(scale=0.3, size=distance.shape)).astype(np.float32)

regressor = CNNRegressor(max_iter=15, random_state=0).fit(X[:1000], angles[:1000])
predicted = regressor.predict(X[1000:])

figure, axes = plt.subplots(1, 4, figsize=(11, 3), width_ratios=(1, 1, 1, 1.5))
for axis, image, angle in zip(axes[:3], X[1000:], predicted, strict=False):
    axis.imshow(image, cmap="gray_r")
    axis.set_title(f"{angle:.0f} degrees")
    axis.axis("off")
axes[3].plot(angles[1000:], predicted, ".")
axes[3].set(xlabel="angle", ylabel="predicted", title=f"R² = {regressor.score(X[1000:], angles[1000:]):.3f}")
