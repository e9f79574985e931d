"""
Beside scikit-learn's classifiers
=================================

The digits, half to train on and half to test on, all classifiers with their defaults. A convolution knows which
pixels are neighbours; for the others an image is a row of numbers.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from fastcnn import CNNClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=0.5, random_state=0)
kinds = [CNNClassifier, SVC, KNeighborsClassifier, MLPClassifier, RandomForestClassifier]
errors = {}
for kind in kinds:
    seed = {} if kind is KNeighborsClassifier else {"random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLPClassifier does not converge in its 200 epochs
        errors[kind.__name__] = 1 - kind(**seed).fit(X_train, y_train).score(X_test, y_test)

figure, axis = plt.subplots(figsize=(8, 3))
axis.barh([*errors], [100 * error for error in errors.values()])
axis.set(xlabel="wrong, percent of the held-out half")
axis.invert_yaxis()
figure.tight_layout()
