"""
A search that reaches into the layers
=====================================

Parameters of layers, solvers and schedules have names, as in a pipeline: `layers__0__num_filters`,
`solver__learning_rate`. `GridSearchCV` and its kin find them.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from fastcnn import SGD, CNNClassifier, Conv2D, MaxPool2D, ReLU

X, y = load_digits(return_X_y=True)
network = CNNClassifier(
    [Conv2D(4, 3, name="first"), ReLU(), MaxPool2D(2)], solver=SGD(0.01, momentum=0.9), max_iter=3, random_state=0
)
grid = {"layers__first__num_filters": [2, 4, 8, 16], "solver__learning_rate": [0.003, 0.01, 0.03, 0.1]}
search = GridSearchCV(network, grid, cv=3, refit=False).fit(X[:900], y[:900])
print(search.best_params_)

scores = search.cv_results_["mean_test_score"].reshape(4, 4)
figure, axis = plt.subplots()
picture = axis.imshow(scores)
axis.set_xticks(range(4), grid["solver__learning_rate"])
axis.set_yticks(range(4), grid["layers__first__num_filters"])
axis.set(xlabel="learning rate", ylabel="filters")
figure.colorbar(picture, label="accuracy of three folds")
