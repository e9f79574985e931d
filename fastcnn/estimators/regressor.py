"""`CNNRegressor`: a convolutional network as a regressor of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import column_or_1d

from .. import exact
from ..data.augmentation import Augmentation
from ..history import Epoch
from ..layers.base import Layer
from ..losses import Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..optim.optimizer import Optimizer
from ..training.callbacks import Callback
from ..typing import Array
from . import choosing
from .base import BaseCNN
from .fitting import FitCNN
from .images import Kind
from .lengths import RegressionLengths
from .partial import PartialFitCNN
from .private_names import StrOptions
from .samples import Samples
from .trials import Trials
from .watching import watched

DECAYS, STRONGEST = (50.0, 200.0, 800.0), 5.0  # weight decays of rows that are tried, by the number of samples
UNKNOWING = 2.0  # of too few rows to hold some out: functions behind half noise want it
CLEAN = 0.05  # error of standardised targets below which there is hardly any noise
LOSSES = {"squared_error": MeanSquaredError, "absolute_error": MeanAbsoluteError, "huber": Huber}


class CNNRegressor(RegressorMixin, FitCNN, PartialFitCNN):  # type: ignore[misc]
    """Numbers from images or rows: a convolutional network behind the interface of scikit-learn.

    Parameters
    ----------
    layers : "auto", name in `fastcnn.models`, or list of layers
        "auto" is chosen for the shape of the images. A list is copied, never changed; behind it comes a dense layer
        with the outputs, unless its last layer is a `Dense` of just that size. Its parameters can be searched:
        `layers__0__num_filters`.
    input_shape : (channels, height, width) or (height, width), optional
        How rows are read. Without it a row of k² numbers is a square, of 3·k² one of three channels, any other a strip
        of 1 × features: with a warning, where a rectangle of at least 6 pixels a side, up to 1:3, would fit, and unless
        `layers` begins with `Flatten`. Images have their channels where 1 to 4 stands.
    loss : {"squared_error", "absolute_error", "huber"} or Loss
        Of targets that are standardised, output by output.
    solver : {"adamw", "adam", "sgd"} or Optimizer
        "sgd" has Nesterov's momentum 0.9. An optimizer is copied, never changed; its weight decay is its own.
    learning_rate_init : float, optional
        The highest, with a schedule. If not given, that of an optimizer is its own, that of a solver by name 0.01, of
        "sgd" 0.003, and a fifth where it is constant. With a function as schedule it is an error.
    schedule : {"one_cycle", "cosine", "constant"} or function of the step
        The first two end at the last epoch. With "constant" the training ends once the loss has not improved by `tol`
        for `n_iter_no_change` epochs. A function says the rate by itself. `partial_fit` takes no schedule.
    batch_size : int or "auto"
        "auto": a twentieth of the images, but at least 8 and at most 64, fewer of more than 64 x 64 pixels; a
        fortieth of short strips and of images below 5 pixels, but at least 32 and at most 200. At most the number of
        samples.
    max_iter : int or "auto"
        Epochs. "auto": 50; of n short strips, or images below 5 pixels, √(12,000,000 / n), from 50 to 200.
    alpha : float or "auto"
        Weight decay of a solver by name; "adamw" decouples it, and leaves biases and norms alone. In `fit` with
        "adamw", "auto" is 30 / n for n images, from 0.01 to 0.3; of short strips, and images below 5 pixels, 50 / n or
        what reduces the error of held-out samples further, of 200 / n and 800 / n, at most 5, and 2 below 50 samples.
        Else it is 0.01. With an optimizer, which has its own, another value than the default is an error.
    early_stopping : bool
        Hold out `validation_fraction` of the samples, unless `fit` gets `X_val`; stop once its score has not improved
        by `tol` for `n_iter_no_change` epochs; restore the weights of the best. At least 2 samples are held out.
    validation_fraction : float
        The share of the samples that `early_stopping` holds out.
    n_iter_no_change : int
        Epochs without improvement that are let pass.
    tol : float
        What counts as an improvement: more than this.
    augmentation : Augmentation, "auto" or None
        Changes the images on the way in, anew in each epoch. "auto": shifts of a fourteenth of the side, for numbers
        that do not say where something is.
    missing_values : float, optional
        What stands for "no data" in X, such as `numpy.nan` or -9999: it is replaced by the mean of its pixel, as found
        in training. Without it, NaN is an error.
    warm_start : bool
        Whether `fit` goes on with the network that is there; schedule and solver begin anew. (`partial_fit` goes on
        with everything, in a pickled copy too.)
    shuffle : bool
        Whether each epoch has an order of its own.
    random_state : int, RandomState or None
        The same seed gives the same bits, for any number of threads.
    n_jobs : int, optional
        The most threads, BLAS included; None: `fastcnn.get_num_threads()`, or one in a task of joblib's or Dask's.
    verbose : bool or int
        Whether a line is shown for each epoch.
    callbacks : list of Callback, optional
        fastcnn's own. Those of scikit-learn's protocol, from its version 1.9 on, are set by `set_callbacks`; each epoch
        is a task to them.
    communicator : mpi4py.MPI.Comm, optional
        The ranks that `fit` trains on together, with the bits of one, such as `MPI.COMM_WORLD`; see `Trainer`. All make
        the same calls, with an int as `random_state`. A clone has it too: cross-validation then runs on all ranks.
        A copy, a pickle and a saved file have none.

    Attributes
    ----------
    n_outputs_ : int
    input_shape_ : tuple of int
        (channels, height, width): what X was read as.
    n_features_in_ : int
    feature_names_in_ : array
        If X had names.
    n_iter_ : int
        Epochs of the last `fit`.
    loss_, best_loss_, loss_curve_ : float, float, list of float
    validation_loss_curve_, validation_scores_ : list of float or None
        The scores are R², or the negative loss if it is another than "squared_error".
    alpha_ : float
        The weight decay of a solver by name.
    augmentation_ : Augmentation or None
        How images were changed in training, whoever chose it.
    history_ : History
    model_ : Sequential
    n_parameters_ : int

    Warns
    -----
    UserWarning
        If the network predicts training images much worse than it knew them in training.

    See Also
    --------
    CNNClassifier : Classifier with the interface of scikit-learn.
    Trainer : Trains a model step by step.

    Notes
    -----
    Images are scaled: their darkest value becomes 0 and their variance 1, channel by channel, as found in training.
    Signals, which are strips of 16 numbers and more that come as (n, 1, L), (n, 1, 1, L) or with `input_shape`, get
    the mean 0 instead; "auto" is then a network of convolutions along them. Other strips, and images below 5 pixels,
    are standardised feature by feature; those of float64 are computed in float64.
    Outliers do not count for that, and are drawn in: numbers more than one and a half times the distance of the
    quartiles away from these, the quartiles of all numbers but the two most frequent ones. At the end of `fit`, the
    statistics of batch norms are computed again from training images. No image's prediction depends on the others of
    its batch.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastcnn import CNNRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> CNNRegressor(random_state=0).fit(X, y).predict(X).shape
    (442,)
    """

    _lengths = RegressionLengths(usual_epochs=50, most_epochs=50, fewest_steps=1)
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCNN._parameter_constraints,
        "loss": [StrOptions({*LOSSES}), Loss],
        "alpha": [StrOptions({"auto"}), *BaseCNN._parameter_constraints["alpha"]],
    }

    def __init__(
        self,
        layers: str | Sequence[Layer] = "auto",
        *,
        input_shape: Sequence[int] | None = None,
        loss: str | Loss = "squared_error",
        solver: str | Optimizer = "adamw",
        learning_rate_init: float | None = None,
        schedule: str | Callable[[int], float] = "one_cycle",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int | Literal["auto"] = "auto",
        alpha: float | Literal["auto"] = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        augmentation: Augmentation | None = None,
        missing_values: float | None = None,
        warm_start: bool = False,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: bool | int = False,
        callbacks: Sequence[Callback] | None = None,
        communicator: object | None = None,
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
        self.missing_values = missing_values
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks
        self.communicator = communicator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @watched
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one pass over the samples, at a constant learning rate, going on where the last call ended.

        The first call settles how X and y are centred and scaled.

        The network predicts by averages of its weights and running statistics over the last steps, about the last tenth
        and at most 50, which a constant rate does not throw about; the next call goes on from the weights themselves.

        Parameters
        ----------
        X : array
            Rows or images, as in `fit`.
        y : array
            Targets, as in `fit`.
        sample_weight : array of shape (n,), optional
            The weight of each sample.

        Returns
        -------
        self
        """
        return self._fit_partly(X, y, sample_weight)

    def predict(self, X: Any, *, views: str | None = None) -> Array:
        """Return the predicted numbers, (n,) or (n, outputs) as `y` was.

        Parameters
        ----------
        X : array
            Rows or images, as `fit` takes them.
        views : str, optional
            Such as "flip,shift=1": by the mean of the outputs for several views of each image, see
            `Sequential.predict`.
        """
        values: Array = self._outputs(X, views) * self._y_deviation + self._y_mean
        return values[:, 0] if self._flat_y else values

    def _check_y(self, y: Any) -> Array:
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return y.reshape(len(y), -1)  # type: ignore[no-any-return]

    def _meet(self, y: Array, *, again: bool) -> None:
        if again:
            self._check_targets(y)
        else:
            self.n_outputs_ = self._outputs_wanted = y.shape[1]
            self._flat_y = self.n_outputs_ == 1

    def _meet_partly(self, y: Array, *, first: bool, **known: Any) -> None:
        self._meet(y, again=not first)

    def _check_targets(self, y: Array) -> None:
        if y.shape[1] != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} outputs, as before; got {y.shape[1]}")

    def _begin(self, samples: Samples) -> None:
        y, weight = samples.y, samples.weight
        with np.errstate(over="ignore", invalid="ignore"):
            self._y_mean = exact.mean(y, weight)
            deviation = np.sqrt(exact.mean(np.square(y - self._y_mean), weight))
        if not np.isfinite(deviation).all():
            raise ValueError("y: its numbers are too large: the sum of their squares is beyond float64; scale them")
        self._y_deviation = np.where(deviation > 1e-12 * np.abs(self._y_mean), deviation, 1.0)
        self.alpha_ = 0.01 if self.alpha == "auto" else float(self.alpha)
        super()._begin(samples)

    def _encode(self, y: Array) -> Array:
        encoded: Array = (y - self._y_mean) / self._y_deviation
        return encoded

    @property
    def _usual_rate(self) -> float:
        return 0.003 if self.solver == "sgd" else 0.01  # SGD runs away from squared errors at more

    @property
    def _weight_decay(self) -> float:
        return self.alpha_ if self.alpha == "auto" else float(self.alpha)

    def _settle_decay(self, samples: Samples, trials: Trials, *, again: bool) -> None:
        if self.alpha != "auto":
            self.alpha_ = float(self.alpha)
        elif self.solver == "adamw" and not again:
            n = len(samples.y)
            is_of_features = self._kind is Kind.FEATURES
            self.alpha_ = self._agreed_decay(samples, trials) if is_of_features else max(0.01, min(30 / n, 0.3))

    def _agreed_decay(self, samples: Samples, trials: Trials) -> float:
        """Return the weight decay by which held-out samples are predicted best, from the weakest up while it helps.

        A smooth function without noise needs hardly any; the more noise, the more.
        """
        n = len(samples.y)
        parts = choosing.held_out(n, None, self._seed)
        if not parts:
            return UNKNOWING
        best, least = 0.0, math.inf
        for factor in DECAYS:
            self.alpha_ = min(factor / n, STRONGEST)
            error = self._held_out_error(samples, parts, trials)
            if error >= least:
                break
            best, least = self.alpha_, error
            if error < CLEAN:
                break
        return best

    def _held_out_error(self, samples: Samples, parts: Sequence[tuple[Array, Array]], trials: Trials) -> float:
        judges = samples.taken(np.concatenate([held for _, held in parts]))
        outputs = [trials.outputs(samples.taken(kept), samples.taken(held)) for kept, held in parts]
        errors = np.abs(np.concatenate(outputs) - judges.y)
        if self.loss == "squared_error":
            errors = np.square(errors)
        return float(exact.mean(exact.mean(errors.T), judges.weight))

    def _loss(self) -> Loss:
        return self.loss if isinstance(self.loss, Loss) else LOSSES[self.loss]()

    def _validation_score(self, epoch: Epoch, held: Samples) -> float:
        if self.loss != "squared_error":
            return -epoch.val_loss
        variances = exact.mean(np.square(held.y - exact.mean(held.y, held.weight)), held.weight)
        variance = float(exact.mean(variances))
        return 1 - epoch.val_loss / (variance or 1.0)
