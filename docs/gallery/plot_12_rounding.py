"""
How exact convolutions are
==========================

The same convolution by each algorithm, in single precision, against double precision. Winograd's F(4 x 4, 3 x 3)
rounds about twice as much as the direct sum; F(2 x 2, 3 x 3), which needs less products, no more than that. The grey
line is what the rounding of a plain sum of that many products may amount to at most.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import Conv2D

channels = [16, 32, 64, 128, 256]
algorithms = ["direct", "im2col", "winograd", "winograd4"]
errors = {name: [] for name in algorithms}
for count in channels:
    x = np.random.RandomState(0).normal(size=(2, count, 16, 16))
    exact = Conv2D(32, 3, padding=1, random_state=0, algorithm="direct").forward(x)
    for name in algorithms:
        y = Conv2D(32, 3, padding=1, random_state=0, algorithm=name).forward(x.astype(np.float32))
        errors[name].append(np.abs(y - exact).max() / np.abs(exact).max())

figure, axis = plt.subplots(figsize=(7, 4))
for name in algorithms:
    axis.loglog(channels, errors[name], "o-", label=name)
axis.loglog(channels, [9 * count * 2**-24 for count in channels], color="lightgrey", label="bound of a plain sum")
axis.set(xlabel="channels", ylabel="largest error / largest output")
axis.legend()
