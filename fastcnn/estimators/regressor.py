"""`CNNRegressor`: a convolutional network as a regressor of scikit-learn."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_consistent_length, column_or_1d

from ..history import Epoch
from ..losses import Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..typing import Array
from .base import BaseCNN
from .classifier import _weighing, hold_out

LOSSES = {"squared_error": MeanSquaredError, "absolute_error": MeanAbsoluteError, "huber": Huber}


class CNNRegressor(RegressorMixin, BaseCNN):  # type: ignore[misc]
    """Numbers from images or rows: a convolutional network behind the interface of scikit-learn.

    Parameters
    ----------
    layers : "auto", name in `fastcnn.models`, or list of layers
        "auto" is chosen for the shape of the images. A list is copied, never changed; behind it comes a dense layer
        with the outputs, unless its last layer is a `Dense` of just that size. Its parameters can be searched:
        `layers__0__num_filters`.
    input_shape : (channels, height, width) or (height, width), optional
        How rows are read. Without it a row of k² numbers is a square, of 3·k² one of three channels, any other a strip
        of 1 × features; images have their channels where 1 to 4 stands.
    loss : {"squared_error", "absolute_error", "huber"} or Loss
        Of targets that are standardised, output by output.
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
    n_outputs_ : int
    n_features_in_ : int
    feature_names_in_ : array
        If X had names.
    n_iter_ : int
        Epochs of the last `fit`.
    loss_, best_loss_, loss_curve_ : float, float, list of float
    validation_loss_curve_, validation_scores_ : list of float or None
        The scores are R², or the negative loss if it is another than "squared_error".
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
    >>> from sklearn.datasets import load_diabetes
    >>> from fastcnn import CNNRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> CNNRegressor(random_state=0).fit(X, y).predict(X).shape
    (442,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCNN._parameter_constraints,
        "loss": [StrOptions({*LOSSES}), Loss],
    }

    def __init__(
        self,
        layers: Any = "auto",
        *,
        input_shape: Any = None,
        loss: Any = "squared_error",
        solver: Any = "adamw",
        learning_rate_init: float = 0.003,
        schedule: Any = "one_cycle",
        batch_size: Any = "auto",
        max_iter: int = 50,
        alpha: float = 0.01,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        augmentation: Any = None,
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
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
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
        y : array of shape (n,) or (n, outputs)
        sample_weight : array of shape (n,), optional
        X_val, y_val, sample_weight_val : array, optional
            Measured after every epoch; with `early_stopping` they decide in place of a part of X.

        Returns
        -------
        self
        """
        self._validate_params()
        again = self.warm_start and hasattr(self, "model_")
        images = self._read(X, reset=not again)
        targets = self._check_y(X, y)
        weight = self._check_weights(sample_weight, images)
        validation: Any = None
        if X_val is not None:
            held = self._read(X_val, reset=False)
            validation = held, self._check_y(X_val, y_val), self._check_weights(sample_weight_val, held)
        elif y_val is not None:
            raise ValueError("X_val: expected the samples of y_val; got None")
        if self.early_stopping and validation is None:
            images, targets, weight, validation = hold_out(
                images, targets, weight, self.validation_fraction, self.random_state, None
            )
        images, targets, weight = _weighing(images, targets, weight)
        if again:
            self._expect_outputs(targets)
        else:
            self._settle(y, targets, weight)
            self._begin(images, weight, targets.shape[1])
        if validation is not None:
            held, held_y, held_weight = validation
            self._expect_outputs(held_y)
            validation = held, self._encode(held_y), held_weight
            self._validation_variance = float(np.var(validation[1], axis=0).mean()) or 1.0
        self._train(images, self._encode(targets), weight, validation)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over the samples, at a constant learning rate, going on where the last call ended.

        The first call settles how X and y are centred and scaled.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`

        Returns
        -------
        self
        """
        self._validate_params()
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "model_")
        images = self._read(X, reset=first)
        targets = self._check_y(X, y)
        images, targets, weight = _weighing(images, targets, self._check_weights(sample_weight, images))
        if first:
            self._settle(y, targets, weight)
            self._begin(images, weight, targets.shape[1])
        self._expect_outputs(targets)
        self._train_partly(images, self._encode(targets), weight)
        return self

    def predict(self, X: Any) -> Array:
        """Return the predicted numbers, (n,) or (n, outputs) as `y` was."""
        values: Array = self._outputs(X) * self._y_deviation + self._y_mean
        return values[:, 0] if self._flat_y else values

    def _check_y(self, X: Any, y: Any) -> Array:
        """Return the targets as (n, outputs), float64."""
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_consistent_length(X, y)
        return y.reshape(len(y), -1)  # type: ignore[no-any-return]

    def _settle(self, y: Any, targets: Array, weight: Array | None) -> None:
        self.n_outputs_ = targets.shape[1]
        self._flat_y = self.n_outputs_ == 1
        self._y_mean = np.average(targets, axis=0, weights=weight)
        deviation = np.sqrt(np.average((targets - self._y_mean) ** 2, axis=0, weights=weight))
        self._y_deviation = np.where(deviation > 1e-12 * np.abs(self._y_mean), deviation, 1.0)

    def _expect_outputs(self, targets: Array) -> None:
        if targets.shape[1] != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} outputs, as before; got {targets.shape[1]}")

    def _encode(self, targets: Array) -> Array:
        encoded: Array = (targets - self._y_mean) / self._y_deviation
        return encoded

    def _loss(self) -> Loss:
        return self.loss if isinstance(self.loss, Loss) else LOSSES[self.loss]()

    def _validation_score(self, epoch: Epoch) -> float:
        return 1 - epoch.val_loss / self._validation_variance if self.loss == "squared_error" else -epoch.val_loss
