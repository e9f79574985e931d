"""Which samples a classifier has wrong, the surest mistakes first."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import checks, exact
from ..typing import Array, IntArray
from .subject import Subject


class Mistakes(NamedTuple):
    """Samples that a classifier has wrong, all arrays equally long, the largest loss first.

    Parameters
    ----------
    indices : int array
        Their places in X.
    truth, predicted : array
        Classes.
    probability, probability_of_truth : array
        Of the class that was predicted, and of the true one.
    loss : array
        The cross-entropy, `-log probability_of_truth`.

    See Also
    --------
    worst_mistakes : Returns them.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential
    >>> from fastcnn.inspection import worst_mistakes
    >>> found = worst_mistakes(Sequential([Dense(2)]).build((2,), random_state=0), np.eye(2), [0, 0])
    >>> [*found._fields]
    ['indices', 'truth', 'predicted', 'probability', 'probability_of_truth', 'loss']
    """

    indices: IntArray
    truth: Array
    predicted: Array
    probability: Array
    probability_of_truth: Array
    loss: Array


def worst_mistakes(model: Any, X: Any, y: Any, *, count: int | None = None) -> Mistakes:
    """Return the samples that a classifier has wrong, those of the largest cross-entropy first.

    With p the softmax of the outputs, sample n of class y is wrong if `argmax p[n] ≠ y[n]`; its loss is
    `-log p[n, y[n]]`.

    Parameters
    ----------
    model : CNNClassifier, Sequential or Trainer
        A model of classes: its outputs are logits, or a softmax comes last.
    X : array of shape (N, ...)
        As `predict` takes it.
    y : array of shape (N,)
        The true classes: of a `CNNClassifier` from `classes_`, else numbers of outputs.
    count : int, optional
        The most mistakes that are returned; all if not given.

    Returns
    -------
    Mistakes
        Of length 0 if all are right.

    Raises
    ------
    TypeError, ValueError
        If `model` tells no classes (a regressor, several labels a sample), or `y` has others.

    See Also
    --------
    saliency : Which pixels speak for the class that was predicted.

    References
    ----------
    Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70 (2021): what a
    network is sure of, against its label, often is labelled wrongly.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, Sequential
    >>> from fastcnn.inspection import worst_mistakes
    >>> model = Sequential([Dense(2)]).build((2,), random_state=0)
    >>> model.parameters["0.weights"][...] = np.eye(2)
    >>> worst_mistakes(model, np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), [1, 1, 1]).indices
    array([1, 0])
    """
    subject = Subject(model, "worst_mistakes")
    estimator = subject.estimator
    if estimator is not None and getattr(estimator, "_labels", 0) is not None:
        raise ValueError(
            f"worst_mistakes: model: expected a classifier with one class a sample; got {type(estimator).__name__}"
            + (" of several labels" if hasattr(estimator, "classes_") else "")
        )
    if count is not None:
        count = checks.as_positive_int(count, "worst_mistakes", "count")
    x = subject.read(X)
    given = np.asarray(y)
    if given.shape != (len(x),):
        raise ValueError(f"worst_mistakes: y: expected shape ({len(x)},), as X has samples; got {given.shape}")
    scores = subject.scorer()(x).astype(np.float64)
    classes = getattr(estimator, "classes_", np.arange(scores.shape[1]))
    known = np.isin(given, classes)
    if not known.all():
        raise ValueError(
            f"worst_mistakes: y: expected classes of {', '.join(map(str, classes))[:200]}; "
            f"got {given[~known].tolist()[0]!r}"
        )
    truth, predicted = np.searchsorted(classes, given), scores.argmax(axis=1)
    rows = np.arange(len(x))
    scores -= scores.max(axis=1, keepdims=True)
    log_p = scores - exact.log(exact.total(exact.exp(scores).T))[:, None]
    loss = -log_p[rows, truth]
    order = np.argsort(-loss, kind="stable")
    worst = order[(truth != predicted)[order]][:count]
    p = exact.exp(log_p[worst])
    at = np.arange(len(worst))
    return Mistakes(
        worst, classes[truth[worst]], classes[predicted[worst]], p[at, predicted[worst]], p[at, truth[worst]],
        loss[worst],
    )  # fmt: skip
