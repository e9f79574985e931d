"""`CNNClassifier`: a convolutional network as a classifier of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

from .. import exact
from ..data.augmentation import Augmentation
from ..history import Epoch
from ..layers.base import Layer
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..optim.optimizer import Optimizer
from ..training.callbacks import Callback
from ..typing import Array
from . import choosing
from .base import BaseCNN
from .fitting import FitCNN
from .images import Kind
from .lengths import Lengths
from .partial import PartialFitCNN
from .private_names import StrOptions
from .samples import Samples
from .watching import watched


class CNNClassifier(ClassifierMixin, FitCNN, PartialFitCNN):  # type: ignore[misc]
    """Classifier of images and of rows: a convolutional network behind the interface of scikit-learn.

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
    loss : {"auto", "log_loss"} or Loss
        Cross-entropy of the softmax; of each label by itself in multi-label classification. "auto" also calibrates: a
        network that is trained likewise with a part of the samples predicts the others, and the outputs are divided by
        the temperature at which these are likeliest (Guo et al. 2017). From 50 samples on. From 500 on, where nothing
        else is chosen, a tenth of each class, in all about 250, is held out of the fit itself instead; beyond 5,000 a
        twentieth, at most 1,000. Not in `partial_fit`, nor where the network does not end in a `Dense`.
    solver : {"adamw", "adam", "sgd"} or Optimizer
        "sgd" has Nesterov's momentum 0.9. An optimizer is copied, never changed; its weight decay is its own.
    learning_rate_init : float, optional
        The highest, with a schedule. If not given, that of an optimizer is its own, that of a solver by name 0.01, and
        0.002 where it is constant. With a function as schedule it is an error.
    schedule : {"one_cycle", "cosine", "constant"} or function of the step
        The first two end at the last epoch. With "constant" the training ends once the loss has not improved by `tol`
        for `n_iter_no_change` epochs. A function says the rate by itself. `partial_fit` takes no schedule.
    batch_size : int or "auto"
        "auto": a twentieth of the images, but at least 8 and at most 64, fewer of more than 64 x 64 pixels; 200 short
        strips, or images below 5 pixels. At most the number of samples.
    max_iter : int or "auto"
        Epochs. "auto": 12; for n below 2,000 samples √(288,000 / n), and at least 300 steps, in at most 200 epochs.
    alpha : float
        Weight decay of a solver by name; "adamw" decouples it, and leaves biases and norms alone. With an optimizer,
        which has its own, another value than the default is an error.
    early_stopping : bool
        Hold out `validation_fraction` of the samples, unless `fit` gets `X_val`; stop once its score has not improved
        by `tol` for `n_iter_no_change` epochs; restore the weights of the best. At least 2 samples are held out, of
        every class one.
    validation_fraction : float
        The share of the samples that `early_stopping` holds out.
    n_iter_no_change : int
        Epochs without improvement that are let pass.
    tol : float
        What counts as an improvement: more than this.
    augmentation : Augmentation, "auto" or None
        Changes the images on the way in, anew in each epoch. "auto": of images from 16 pixels a side on, shifts by a
        fourteenth of the side, filled with the border's pixels. Where `loss` is "auto" too, the samples that are held
        out judge more, of which each takes another training, and is taken where their loss is lower by more than one
        standard error: from 16 pixels on rotation by 10 degrees with scale by 0.1, and horizontal flips (from 500
        samples on); of images and signals mixup, against wrong labels, where more than a tenth of these samples would
        be predicted wrong.
    missing_values : float, optional
        What stands for "no data" in X, such as `numpy.nan` or -9999: it is replaced by the mean of its pixel, as found
        in training. Without it, NaN is an error.
    class_weight : dict, "balanced" or None
        Weights of classes, 1 for those that a dict leaves out; a list of dicts for several labels a sample. "balanced":
        inversely proportional to how many samples there are, for `fit` only.
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
    classes_ : array of shape (n_classes,)
    n_classes_ : int
    input_shape_ : tuple of int
        (channels, height, width): what X was read as.
    n_features_in_ : int
    feature_names_in_ : array
        If X had names.
    n_iter_ : int
        Epochs of the last `fit`.
    loss_, best_loss_, loss_curve_ : float, float, list of float
    validation_loss_curve_, validation_scores_ : list of float or None
        The scores are accuracies, of single labels where a sample has several.
    temperature_ : float
        By which the outputs are divided; the weights of the last layer are so already.
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
    CNNRegressor : Regressor with the interface of scikit-learn.
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
    >>> from sklearn.datasets import load_digits
    >>> from fastcnn import CNNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = CNNClassifier(max_iter=2, random_state=0).fit(X[:1000], y[:1000])
    >>> classifier.predict(X[1000:]).shape
    (797,)
    """

    _lengths = Lengths(usual_epochs=12, most_epochs=200, fewest_steps=300)
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseCNN._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        layers: str | Sequence[Layer] = "auto",
        *,
        input_shape: Sequence[int] | None = None,
        loss: str | Loss = "auto",
        solver: str | Optimizer = "adamw",
        learning_rate_init: float | None = None,
        schedule: str | Callable[[int], float] = "one_cycle",
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int | Literal["auto"] = "auto",
        alpha: float = 0.01,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        augmentation: Augmentation | Literal["auto"] | None = "auto",
        missing_values: float | None = None,
        class_weight: Mapping[Any, float] | Sequence[Mapping[Any, float]] | str | None = None,
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
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.shuffle = shuffle
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.callbacks = callbacks
        self.communicator = communicator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = False
        return tags

    @watched
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one pass over the samples, at a constant learning rate, going on where the last call ended.

        The first call settles the classes, and how X is centred and scaled.

        The network predicts by averages of its weights and running statistics over the last steps, about the last tenth
        and at most 50, which a constant rate does not throw about; the next call goes on from the weights themselves.

        Parameters
        ----------
        X : array
            Rows or images, as in `fit`.
        y : array
            Targets, as in `fit`.
        classes : array, optional
            All that will come; needed in the first call, unless `y` is multi-label.
        sample_weight : array of shape (n,), optional
            The weight of each sample.

        Returns
        -------
        self
        """
        return self._fit_partly(X, y, sample_weight, classes=classes)

    def decision_function(self, X: Any, *, views: str | None = None) -> Array:
        """Return the logits: (n,) for two classes, the second's advantage; else (n, classes).

        Parameters
        ----------
        X : array
            Rows or images, as `fit` takes them.
        views : str, optional
            Such as "flip,shift=1": by the mean of the outputs for several views of each image, see
            `Sequential.predict`.
        """
        z = self._outputs(X, views)
        return z[:, 1] - z[:, 0] if self._labels is None and self.n_classes_ == 2 else z

    def predict_log_proba(self, X: Any, *, views: str | None = None) -> Array:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : array
            Rows or images, as `fit` takes them.
        views : str, optional
            Such as "flip,shift=1": by the mean of the outputs for several views of each image, see
            `Sequential.predict`.
        """
        z = self._outputs(X, views)
        if self._labels is not None:
            return np.minimum(z, 0) - exact.log_one_plus(exact.exp(-np.abs(z)))
        z -= z.max(axis=1, keepdims=True)
        return z - exact.log(exact.total(exact.exp(z).T))[:, None]

    def predict_proba(self, X: Any, *, views: str | None = None) -> Array:
        """Return the probability of each class, (n, classes); in multi-label classification, of each label.

        Parameters
        ----------
        X : array
            Rows or images, as `fit` takes them.
        views : str, optional
            Such as "flip,shift=1": by the mean of the outputs for several views of each image, see
            `Sequential.predict`.
        """
        return exact.exp(self.predict_log_proba(X, views=views))

    def predict(self, X: Any, *, views: str | None = None) -> Array:
        """Return the likeliest class of each sample; in multi-label classification the labels beyond 1/2.

        Parameters
        ----------
        X : array
            Rows or images, as `fit` takes them.
        views : str, optional
            Such as "flip,shift=1": by the mean of the outputs for several views of each image, see
            `Sequential.predict`.
        """
        z = self._outputs(X, views)
        if self._labels is not None:
            return (z > 0).astype(np.int64)
        return self.classes_[z.argmax(axis=1)]  # type: ignore[no-any-return]

    # Classes.

    def _check_y(self, y: Any) -> Array:
        if np.asarray(y).dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        if type_of_target(y) == "multilabel-indicator":
            return np.asarray(y.toarray() if hasattr(y, "toarray") else y)
        return column_or_1d(y, warn=True)  # type: ignore[no-any-return]

    def _meet(self, y: Array, *, again: bool) -> None:
        if not again:
            self._settle_classes(y)
            return
        now = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        if (y.ndim == 2) != (self._labels is not None) or not np.array_equal(now, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {now}"
            )

    def _meet_partly(self, y: Array, *, first: bool, **known: Any) -> None:
        classes = known["classes"]
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} is not supported for partial_fit: a batch does not tell how many "
                "samples of each class there are. Pass a dict, such as that of compute_class_weight for a large sample."
            )
        if first:
            if classes is None and y.ndim == 1:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._settle_classes(y if classes is None or y.ndim == 2 else unique_labels(classes))
        if classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            as_what = "the labels of `y`, which are" if first else "on last call to partial_fit, was"
            raise ValueError(f"`classes={classes!r}` is not the same as {as_what}: {self.classes_!r}")
        self._check_targets(y)

    def _settle_classes(self, y: Array) -> None:
        self._labels = y.shape[1] if y.ndim == 2 else None
        self.classes_ = np.unique(y) if y.ndim == 1 else np.arange(y.shape[1])
        self.n_classes_ = self._outputs_wanted = len(self.classes_)

    def _check_targets(self, y: Array) -> None:
        if (y.ndim == 2) != (self._labels is not None) or (y.ndim == 2 and y.shape[1] != self._labels):
            raise ValueError(f"y: expected the same kind of labels as before; got shape {y.shape}")
        if y.ndim == 1:
            unseen = np.setdiff1d(y, self.classes_)
            if len(unseen):
                raise ValueError(
                    "`y` has classes not in `self.classes_`. "
                    f"`self.classes_` has {self.classes_}. 'y' also has {unseen}."
                )

    def _encode(self, y: Array) -> Array:
        return y.astype(np.float32) if y.ndim == 2 else np.searchsorted(self.classes_, y)

    def _weighted(self, samples: Samples) -> Array | None:
        if self.class_weight is None:
            return samples.weight
        if isinstance(self.class_weight, dict) and samples.y.ndim == 1:  # some of the classes may not be in this batch
            of_class = compute_class_weight(self.class_weight, classes=self.classes_, y=samples.y)
            factor = of_class[np.searchsorted(self.classes_, samples.y)]
        else:
            factor = compute_sample_weight(self.class_weight, samples.y)
        if not (np.isfinite(factor).all() and factor.min() >= 0):
            raise ValueError(f"class_weight: expected finite weights of at least 0; got {self.class_weight}")
        with np.errstate(over="ignore"):
            weight: Array = factor if samples.weight is None else factor * samples.weight
            total = exact.total(weight)
        if not (np.isfinite(total) and total > 0):
            raise ValueError(f"class_weight: expected weights with a sum in float64, not all 0; got a sum of {total}")
        return weight

    def _strata(self, y: Array) -> Array | None:
        return y if self._labels is None else None

    # What the training asks for.

    @property
    def _usual_rate(self) -> float:
        return 0.01

    @property
    def _calibrates(self) -> bool:
        return self.loss == "auto" and choosing.last_dense(self.model_) is not None

    @property
    def _mixes(self) -> bool:
        return self.augmentation == "auto" and self.shuffle and self._kind is not Kind.FEATURES

    def _loss(self) -> Loss:
        if isinstance(self.loss, Loss):
            return self.loss
        if self._labels is not None:
            return BinaryCrossEntropy()
        return CrossEntropy()

    def _validation_score(self, epoch: Epoch, held: Samples) -> float:
        if held.weight is None:
            return epoch.val_accuracy
        z = self.model_.predict(held.images[:], threads=self._threads)
        right = z.argmax(axis=1) == held.y if self._labels is None else exact.mean(((z > 0) == held.y).T)
        return float(exact.mean(right, held.weight))
