"""
A classifier in three lines
===========================

`CNNClassifier` takes rows or images, as scikit-learn's estimators do. Its pictures are those of scikit-learn too:
here the confusion matrix, and the digits that it gets wrong.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from fastcnn import CNNClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
classifier = CNNClassifier(random_state=0).fit(X_train, y_train)
print(f"{classifier.score(X_test, y_test):.1%} of the held-out digits are right")
ConfusionMatrixDisplay.from_estimator(classifier, X_test, y_test)

# %%
# What it gets wrong, people find hard too.

predicted = classifier.predict(X_test)
wrong = (predicted != y_test).nonzero()[0][:8]
figure, axes = plt.subplots(1, max(2, len(wrong)), figsize=(10, 2))
for axis, place in zip(axes, wrong, strict=False):
    axis.imshow(X_test[place].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"{y_test[place]} as {predicted[place]}")
for axis in axes:
    axis.axis("off")
