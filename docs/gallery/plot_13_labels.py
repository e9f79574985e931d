"""
Several labels for one image
============================

With `y` of shape (n, labels), zeros and ones, each label is an answer of its own. Here two digits lie side by side,
and the labels are those that are there.
"""

import matplotlib.pyplot as plt
import numpy as np

from fastcnn import CNNClassifier
from fastcnn.data import load_digits

X, y = load_digits()
generator = np.random.RandomState(0)
left, right = generator.permutation(len(X)), generator.permutation(len(X))
pairs = np.concatenate([X[left], X[right]], axis=3)
labels = np.maximum(np.eye(10, dtype=int)[y[left]], np.eye(10, dtype=int)[y[right]])

classifier = CNNClassifier(max_iter=12, random_state=0).fit(pairs[:1500], labels[:1500])
print(f"{classifier.score(pairs[1500:], labels[1500:]):.1%} of the pairs have all ten answers right")

figure, axes = plt.subplots(1, 5, figsize=(11, 2))
probabilities = classifier.predict_proba(pairs[1500:1505])
for axis, pair, answer in zip(axes, pairs[1500:], probabilities, strict=False):
    axis.imshow(pair[0], cmap="gray_r")
    axis.set_title(", ".join(f"{digit}: {answer[digit]:.0%}" for digit in answer.argsort()[:-3:-1]), fontsize=9)
    axis.axis("off")
