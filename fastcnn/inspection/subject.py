"""`Subject`: a model or an estimator that is inspected, its input for some samples, and the scores that it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.executable import Executable
from ..layers.activation import Sigmoid, SoftmaxActivation
from ..layers.base import Layer
from ..layers.dense import Dense, Softmax
from ..layers.segment import Segment
from ..layers.shape import Flatten
from ..model import Sequential
from ..prediction import Predictor, images_in_cache
from ..runtime import threads as parallel
from ..training.trainer import Trainer
from ..typing import Array, IntArray, Shape

if TYPE_CHECKING:
    from ..estimators.base import BaseCNN

BATCH = 64  # samples that are differentiated at a time


class Subject:
    """A built model, or the model of a fitted estimator, as a function from samples to scores.

    The scores are the outputs before a last softmax or sigmoid. Nothing in the model is written.

    Parameters
    ----------
    thing : Sequential, Trainer, CNNClassifier or CNNRegressor
    caller : str
        The function that was called, for messages.

    Attributes
    ----------
    model : Sequential
    estimator : CNNClassifier, CNNRegressor or None
    """

    def __init__(self, thing: Any, caller: str) -> None:
        self.caller = caller
        self.estimator = None if isinstance(thing, Sequential | Trainer) else _estimator(thing, caller)
        self.model: Sequential = (
            thing.model if isinstance(thing, Trainer) else thing if self.estimator is None else self.estimator.model_
        )
        self.model._expect_built(caller)
        self.dtype, self.layers = self.model._flat.dtype, _scoring(self.model)

    @property
    def shape(self) -> Shape:
        """(C, H, W) or (D,) of a sample, as the model takes it."""
        assert self.model.input_shape is not None
        return self.model.input_shape

    def read(self, X: Any) -> Array:
        """Return samples as the model's input, in its dtype: those of an estimator scaled, bytes from 0 to 1."""
        if self.estimator is not None:
            scaled: Array = self.estimator._scaler(self.estimator._read(X, reset=False), self.dtype)
            return scaled
        x = self.model._as_batch(X, "X")
        inputs = x * self.dtype.type(1 / 255) if x.dtype == np.uint8 else x.astype(self.dtype)
        if not np.isfinite(inputs).all():
            raise ValueError(f"{self.caller}: X: expected finite numbers; got NaN or infinity")
        return inputs

    def by_numbers(self, gradients: Array, X: Any) -> Array:
        """Return gradients by the model's input as gradients by the numbers of X, in the shape of X.

        An estimator divides by a deviation and draws outliers in; so does the chain rule. Those by bytes are by their
        values from 0 to 1.
        """
        if self.estimator is not None:
            slope = self.estimator._scaler.slope(self.estimator._read(X, reset=False))
            gradients = (gradients * slope).astype(self.dtype)
        return self.shaped(gradients, X)

    def shaped(self, values: Array, X: Any) -> Array:
        """Return numbers (N, C, H, W) in the shape of X."""
        if self.estimator is None:
            return values
        given, reading = np.shape(X), self.estimator._reading
        if len(given) == 4 and given[1:] != reading.shape:
            return np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        return values.reshape(given)

    def scaled(self, value: Any, name: str) -> Array:
        """Return a number of X, or one for each channel, as the model sees it; None is 0 to the model."""
        numbers = np.zeros(1, np.float64) if value is None else np.asarray(value, np.float64).reshape(-1)
        channels = self.shape[0]
        if numbers.size not in (1, channels) or not np.isfinite(numbers).all():
            raise ValueError(f"{self.caller}: {name}: expected a finite number, or one for each channel; got {value!r}")
        numbers = np.broadcast_to(numbers, (channels,)).reshape(-1, *[1] * (len(self.shape) - 1))
        if value is None or self.estimator is None:
            return numbers.astype(self.dtype)
        scaled: Array = self.estimator._scaler(np.broadcast_to(numbers, (1, *self.shape)), self.dtype)[0]
        return scaled

    def unshaped(self, values: Array) -> Array:
        """Return numbers in the shape of X as maps (N, C, H, W): the inverse of `shaped`."""
        if self.estimator is None:
            return values if values.ndim == 4 else values[:, None, None, :]
        shape = self.estimator._reading.shape
        if values.ndim == 4 and values.shape[1:] != shape:
            return values.transpose(0, 3, 1, 2)
        return values.reshape(len(values), *shape)

    def images(self, X: Any) -> Array:
        """Return samples as images (N, C, H, W), in the numbers of X; features as strips."""
        x = self.model._as_batch(X, "X") if self.estimator is None else self.estimator._read(X, reset=False)
        images: Array = x if x.ndim == 4 else x[:, None, None, :]
        return images

    # Scores.

    def segment(self, behind: dict[Layer, Layer] | None = None) -> Segment:
        """Return the layers up to the scores; raise unless a sample has a row of scores."""
        segment = Segment(self.layers, self.shape, self.dtype, behind)
        output = segment.output_shape(self.shape)
        if len(output) != 1:
            raise ValueError(f"{self.caller}: model: expected outputs of shape (N, classes); got (N, {output})")
        return segment

    def scorer(self) -> Scorer:
        """Return what computes the scores of a batch."""
        return Scorer(self.segment())

    def targets(self, target: Any, x: Array) -> IntArray:
        """Return the number of an output for each sample; where None is given, that of the largest score.

        Of a classifier `target` is a class, as in `classes_`; else the number of an output.
        """
        n, (outputs,) = len(x), self.segment().output_shape(self.shape)
        if target is None:
            if outputs > 1 and self.estimator is not None and not hasattr(self.estimator, "classes_"):
                raise ValueError(
                    f"{self.caller}: target: expected the number of an output, 0 to {outputs - 1}; got None"
                )
            likeliest: IntArray = self.scorer()(x).argmax(axis=1)
            return likeliest
        wanted = np.asarray(target)
        if wanted.shape not in ((), (n,)):
            raise ValueError(
                f"{self.caller}: target: expected a single class, or one for each of the {n} samples; "
                f"got shape {wanted.shape}"
            )
        wanted = np.broadcast_to(wanted, (n,))
        classes = getattr(self.estimator, "classes_", np.arange(outputs))
        known = np.isin(wanted, classes)
        if not known.all() or wanted.dtype.kind == "b":
            raise ValueError(
                f"{self.caller}: target: expected one of the classes {', '.join(map(str, classes))[:200]}; "
                f"got {target if known.all() else wanted[~known].tolist()[0]!r}"
            )
        places: IntArray = np.searchsorted(classes, wanted)
        return places

    def gradients(self, x: Array, targets: IntArray, executables: Executables | None = None) -> Array:
        """Return the gradient of each sample's score by the input."""
        executables = executables or Executables(self.segment())
        out = np.empty(x.shape, self.dtype)
        for first in range(0, len(x), BATCH):
            rows = slice(first, first + BATCH)
            out[rows] = executables.gradient(x[rows], targets[rows])
        return out


class Executables:
    """Forward and backward passes of a segment in prediction mode, with memory of their own."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.by_length: dict[int, Executable] = {}

    def gradient(self, x: Array, targets: IntArray) -> Array:
        """Return the gradient of Σ_n score[n, targets[n]] by `x`."""
        executable = self.by_length.get(len(x))
        if executable is None:
            executable = self.by_length[len(x)] = Executable(self.segment, x.shape, x.dtype)
        executable.forward(x, training=False)
        chosen = np.zeros(executable.output_shape, x.dtype)
        chosen[np.arange(len(x)), targets] = 1
        return executable.backward(chosen)


class Scorer:
    """The scores of a segment for any batch."""

    def __init__(self, segment: Segment) -> None:
        self.predictor = Predictor(segment, max(1, min(images_in_cache(segment), BATCH)))

    def __call__(self, x: Array) -> Array:
        return self.predictor.predict(x, parallel.get_num_threads())


def _scoring(model: Sequential) -> list[Layer]:
    """Return the layers up to the logits: without a last softmax or sigmoid, `Softmax` as the dense layer that it has.

    Class scores before the softmax are what Simonyan et al. differentiate: a probability also rises where the others
    fall.
    """
    *before, last = model.layers
    if isinstance(last, SoftmaxActivation | Sigmoid) and before:
        return before
    if not isinstance(last, Softmax):
        return [*model.layers]
    assert last.input_shape is not None
    weights, biases = last.get_weights()
    dense = Dense(weights.shape[1])
    dense.build(weights.shape[:1], dtype=model._flat.dtype, random_state=0)
    dense.set_weights([weights, biases])
    if len(last.input_shape) == 1:
        return [*before, dense]
    flatten = Flatten()
    flatten.build(last.input_shape, dtype=model._flat.dtype)
    return [*before, flatten, dense]


def _estimator(thing: Any, caller: str) -> BaseCNN:
    from sklearn.utils.validation import check_is_fitted

    from ..estimators.base import BaseCNN

    if not isinstance(thing, BaseCNN):
        hint = ""
        if hasattr(thing, "steps") and hasattr(thing, "named_steps"):
            hint = ": take its last step, pipeline[-1], and X as pipeline[:-1].transform(X)"
        raise TypeError(
            f"{caller}: model: expected a Sequential, a Trainer, a CNNClassifier or a CNNRegressor; "
            f"got {type(thing).__name__}{hint}"
        )
    check_is_fitted(thing, "model_")
    return thing
