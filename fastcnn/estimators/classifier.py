"""`CNNClassifier`: a convolutional network as a classifier of scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..history import Epoch
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..typing import Array
from .base import BaseCNN


class CNNClassifier(ClassifierMixin, BaseCNN):  # type: ignore[misc]
    """Classifier of images and of rows: a convolutional network behind the interface of scikit-learn.

    Parameters
    ----------
    layers : "auto", name in `fastcnn.models`, or list of layers
        "auto" is chosen for the shape of the images. A list is copied, never changed; behind it comes a dense layer
        with the outputs, unless its last layer is a `Dense` of just that size. Its parameters can be searched:
        `layers__0__num_filters`.
    input_shape : (channels, height, width) or (height, width), optional
        How rows are read. Without it a row of k² numbers is a square, of 3·k² one of three channels, any other a strip
        of 1 × features; images have their channels where 1 to 4 stands.
    loss : {"auto", "log_loss"} or Loss
        Cross-entropy of the softmax; of each label by itself in multi-label classification. "auto" smooths the labels
        of images (`CrossEntropy(label_smoothing=0.1)`), though not of strips, nor of images below 5 pixels: more are
        right, and the probabilities stay further from 0 and 1.
    solver : {"adamw", "adam", "sgd"} or Optimizer
        SGD has Nesterov's momentum 0.9.
    learning_rate_init : float
        The highest, with a schedule.
    schedule : {"one_cycle", "cosine", "constant"} or function of the step
        The first two end at `max_iter`. With "constant" the training ends once the loss has not improved by `tol` for
        `n_iter_no_change` epochs.
    batch_size : int or "auto"
        "auto": 32, and 200 for strips and images below 5 pixels; at most the number of samples.
    max_iter : int
        Epochs.
    alpha : float
        Weight decay; "adamw" decouples it, and leaves biases and norms alone.
    early_stopping : bool
        Hold out `validation_fraction` of the samples, unless `fit` gets `X_val`; stop once its score has not improved
        by `tol` for `n_iter_no_change` epochs; restore the weights of the best.
    validation_fraction, n_iter_no_change, tol : float, int, float
    augmentation : Augmentation, "auto" or None
        "auto" moves images by up to one pixel, turns them by up to 10 degrees and scales them by up to a tenth; not
        strips, nor images below 5 pixels.
    class_weight : dict, "balanced" or None
    warm_start : bool
        Whether `fit` goes on with the network that is there.
    shuffle : bool
    random_state : int, RandomState or None
        The same seed gives the same bits, for any number of threads.
    n_jobs : int, optional
        The most threads, BLAS included; None: all, or one inside of a parallel call of joblib's.
    verbose : bool or int
    callbacks : list of Callback, optional

    Attributes
    ----------
    classes_ : array of shape (n_classes_,)
    n_classes_ : int
    n_features_in_ : int
    feature_names_in_ : array
        If X had names.
    n_iter_ : int
        Epochs of the last `fit`.
    loss_, best_loss_, loss_curve_ : float, float, list of float
    validation_loss_curve_, validation_scores_ : list of float or None
        The scores are accuracies.
    history_ : History
    model_ : Sequential
    n_parameters_ : int

    Notes
    -----
    Images are scaled: their darkest value becomes 0 and their variance 1, channel by channel, as found in training.
    Strips, and images below 5 pixels, are standardised feature by feature; those of float64 are
    computed in float64. No image's prediction depends on the others of its batch.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastcnn import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = CNNClassifier(max_iter=2, random_state=0).fit(X[:1000], y[:1000])
    >>> classifier.predict(X[1000:]).shape
    (797,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCNN._parameter_constraints,
        "class_weight": [dict, list, None, str],
    }

    def __init__(
        self,
        layers: Any = "auto",
        *,
        input_shape: Any = None,
        loss: Any = "auto",
        solver: Any = "adamw",
        learning_rate_init: float = 0.01,
        schedule: Any = "one_cycle",
        batch_size: Any = "auto",
        max_iter: int = 20,
        alpha: float = 0.01,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        augmentation: Any = "auto",
        class_weight: Any = None,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: Any = False,
        callbacks: Any = None,
    ) -> None:
        self.layers = layers
        self.input_shape = input_shape
        self.loss = loss
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.augmentation = augmentation
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        return tags

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array of shape (n, features), (n, H, W), (n, C, H, W) or (n, H, W, C)
        y : array of shape (n,) or, for several labels a sample, (n, labels) of 0 and 1
        sample_weight : array of shape (n,), optional
        X_val, y_val, sample_weight_val : array, optional
            Measured after every epoch; with `early_stopping` they decide in place of a part of X.

        Returns
        -------
        self
        """
        self._validate_params()
        before = self.__dict__.get("classes_") if self.warm_start and hasattr(self, "model_") else None
        images = self._read(X, reset=before is None)
        y = self._check_y(X, y)
        weight = self._check_weights(sample_weight, images)
        if before is None:
            self._settle_classes(y)
        else:
            self._expect_classes(y, before)
        encoded = self._encode(y)
        validation = None
        if X_val is not None:
            y_val = self._check_y(X_val, y_val)
            self._check_known(y_val)
            held = self._read(X_val, reset=False)
            validation = held, self._encode(y_val), self._check_weights(sample_weight_val, held)
        elif y_val is not None:
            raise ValueError("X_val: expected the samples of y_val; got None")
        weight = self._weighted(y, weight)
        if self.early_stopping and validation is None:
            images, encoded, weight, validation = self._held_out(images, encoded, weight)
        images, encoded, weight = _weighing(images, encoded, weight)
        if before is None:
            self._begin(images, weight, self._outputs_wanted)
        self._train(images, encoded, weight, validation)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over the samples, at a constant learning rate, going on where the last call ended.

        The first call settles the classes, and how X is centred and scaled.

        Parameters
        ----------
        X, y : as in `fit`
        classes : array, optional
            All that will come; needed in the first call, unless `y` is multi-label.
        sample_weight : array of shape (n,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "model_")
        images = self._read(X, reset=first)
        y = self._check_y(X, y)
        if first:
            if classes is None and y.ndim == 1:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._settle_classes(y if classes is None or y.ndim == 2 else unique_labels(classes))
        elif classes is not None and self._labels is None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
            )
        self._check_known(y)
        weight = self._weighted(y, self._check_weights(sample_weight, images))
        images, encoded, weight = _weighing(images, self._encode(y), weight)
        if first:
            self._begin(images, weight, self._outputs_wanted)
        self._train_partly(images, encoded, weight)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the logits: (n,) for two classes, the second's advantage; else (n, classes)."""
        z = self._outputs(X)
        return z[:, 1] - z[:, 0] if self._labels is None and self.n_classes_ == 2 else z

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithm of `predict_proba`."""
        z = self._outputs(X)
        if self._labels is not None:
            return -np.logaddexp(0, -z)
        z -= z.max(axis=1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]

    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (n, classes); in multi-label classification, of each label."""
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> Array:
        """Return the likeliest class of each sample; in multi-label classification the labels beyond 1/2."""
        z = self._outputs(X)
        if self._labels is not None:
            return (z > 0).astype(np.int64)
        return self.classes_[z.argmax(axis=1)]  # type: ignore[no-any-return]

    # Classes.

    def _check_y(self, X: Any, y: Any) -> Array:
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        if np.asarray(y).dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            y = np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        else:
            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        return y  # type: ignore[no-any-return]

    def _settle_classes(self, y: Array) -> None:
        self._labels = y.shape[1] if y.ndim == 2 else None
        self.classes_ = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        self.n_classes_ = len(self.classes_)

    @property
    def _outputs_wanted(self) -> int:
        return self.n_classes_

    def _expect_classes(self, y: Array, before: Array) -> None:
        now = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        if (y.ndim == 2) != (self._labels is not None) or not np.array_equal(now, before):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {before}, `y` has {now}"
            )

    def _check_known(self, y: Array) -> None:
        if (y.ndim == 2) != (self._labels is not None) or (y.ndim == 2 and y.shape[1] != self._labels):
            raise ValueError(f"y: expected the same kind of labels as before; got shape {y.shape}")
        if y.ndim == 1:
            unseen = np.setdiff1d(y, self.classes_)
            if len(unseen):
                raise ValueError(
                    f"`y` contains previously unseen labels: {unseen.tolist()}; the classes are {self.classes_}"
                )

    def _encode(self, y: Array) -> Array:
        return y.astype(np.float32) if y.ndim == 2 else np.searchsorted(self.classes_, y)

    def _weighted(self, y: Array, weight: Array | None) -> Array | None:
        if self.class_weight is None:
            return weight
        factor = compute_sample_weight(self.class_weight, y)
        return factor if weight is None else factor * weight  # type: ignore[no-any-return]

    def _held_out(self, images: Array, y: Array, weight: Array | None) -> tuple[Any, ...]:
        return hold_out(
            images, y, weight, self.validation_fraction, self.random_state, y if self._labels is None else None
        )

    # What the training asks for.

    def _loss(self) -> Loss:
        if isinstance(self.loss, Loss):
            return self.loss
        if self._labels is not None:
            return BinaryCrossEntropy()
        return CrossEntropy(0.1 if self.loss == "auto" and min(self._reading.shape[1:]) >= 5 else 0.0)

    def _validation_score(self, epoch: Epoch) -> float:
        return epoch.val_accuracy


def _weighing(images: Array, y: Array, weight: Array | None) -> tuple[Array, Array, Array | None]:
    """Leave out what has no weight."""
    if weight is None or weight.all():
        return images, y, weight
    return images[weight > 0], y[weight > 0], weight[weight > 0]


def hold_out(
    images: Array, y: Array, weight: Array | None, share: float, random_state: Any, classes: Array | None
) -> tuple[Any, ...]:
    """Return a training set and a validation set, of the same shares of classes."""
    indices = np.arange(len(images))
    seed = random_state if isinstance(random_state, int | np.integer | None) else 0
    try:
        kept, held = train_test_split(indices, test_size=share, random_state=seed, stratify=classes)
    except ValueError as error:
        raise ValueError(
            f"early_stopping: {len(images)} samples are too few for a validation split of "
            f"validation_fraction={share}: {error}. Pass X_val and y_val, or set early_stopping=False."
        ) from None
    parts = [None if weight is None else weight[chosen] for chosen in (kept, held)]
    return images[kept], y[kept], parts[0], (images[held], y[held], parts[1])
