"""The recipes of known data sets, and what `fastcnn train` makes of the options that change them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import exact, models
from ..data.augmentation import Augmentation
from ..layers.norm import BatchNorm
from ..losses import CrossEntropy
from ..model import Sequential
from ..optim import schedules
from ..optim.averaging import Average, ExponentialMovingAverage, Lookahead
from ..optim.muon import Muon
from ..optim.optimizer import Optimizer
from ..optim.optimizers import SGD, Adam, AdamW, Lion, RMSprop
from ..training.epochs import epochs_for
from ..training.trainer import Trainer
from ..typing import Array, IntArray, Shape

NORMS = ("biases", "gamma", "beta")  # what weight decay leaves alone

# The optimizer, and the learning rate if none is given.
RECORD_DECAY = 0.0153 / 11.5  # the published weight decay, by the published learning rate that it is decoupled from
FACTOR, DECAY = 16.0, 0.0024  # of the last layer, in the record by Muon, for batches of 500: see RESULTS.md
OPTIMIZERS: dict[str, tuple[Callable[[float], Optimizer], float]] = {
    "sgd": (SGD, 0.1),
    "momentum": (lambda rate: SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4), 0.05),
    "adam": (Adam, 0.001),
    "adamw": (lambda rate: AdamW(rate, weight_decay=0.05, no_decay=NORMS), 0.002),
    "rmsprop": (RMSprop, 0.001),
    "lion": (lambda rate: Lion(rate, weight_decay=0.1), 0.0003),
    "muon": (lambda rate: Muon(rate, weight_decay=0.01, no_decay=NORMS), 0.01),
    "muon-record": (
        lambda rate: Muon(rate, 0.6, True, DECAY, ("filters",), ns_steps=3, normalize=True, sgd_factor=FACTOR),
        0.17,
    ),
    "record": (lambda rate: SGD(rate, momentum=0.85, nesterov=True, weight_decay=RECORD_DECAY), 11.5 / (1 + 1 / 0.15)),
}
SCHEDULES: dict[str, Callable[[float, int], schedules.Schedule]] = {
    "constant": lambda rate, steps: schedules.ConstantRate(rate),
    "cosine": schedules.CosineDecay,
    "one-cycle": lambda rate, steps: schedules.OneCycle(rate, steps, warmup=0.2),
    "step": lambda rate, steps: schedules.StepDecay(rate, max(1, steps // 3)),
    "linear": lambda rate, steps: schedules.PowerDecay(rate, steps, 1.0),
    "triangle": lambda rate, steps: schedules.Triangle(rate, steps, start=0.2, end=0.07, peak=0.23),
    "exponential": lambda rate, steps: schedules.ExponentialDecay(rate, float(exact.power(0.01, 1 / steps))),
}
FLAGS = {"flip": ("horizontal_flip", True), "alternating-flip": ("horizontal_flip", "alternating"),
         "vertical-flip": ("vertical_flip", True)}  # fmt: skip
AVERAGES: dict[str, Callable[[int], Average | None]] = {
    "none": lambda steps: None,
    "ema": lambda steps: ExponentialMovingAverage(0.99, statistics=True),
    "lookahead": lambda steps: Lookahead(5, schedules.PowerDecay(1.0, steps, 3.0, 1 - 0.95**5)),
}
BIASES = 64.0  # the learning rate of what norms are shifted by, as a factor
WHITENED = 3 / 10  # of the epochs, for which the biases of a whitening layer are trained
SMALL = 16  # pixels: the digits' network is for images below, the compact one for those above


@dataclass(frozen=True)
class Recipe:
    """What a training is made of; each field is an option of the command line."""

    model: str | None = None
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "momentum"
    learning_rate: float | None = None
    schedule: str = "one-cycle"
    augment: str = "none"
    label_smoothing: float = 0.0
    average: str = "none"
    drop_last: bool = False
    views: str | None = None
    widths: tuple[int, int, int] | None = None

    def steps(self, images: int) -> int:
        """Return how many steps all epochs take."""
        return self.epochs * (images // self.batch_size if self.drop_last else -(-images // self.batch_size))

    def trainer(
        self,
        images: int,
        input_shape: Shape,
        classes: int,
        seed: int,
        threads: int | None,
        *,
        class_weight: Array | None = None,
        X: Any = None,
    ) -> Trainer:
        """Return a trainer for so many images, with a model that is not built yet; some networks look at the images."""
        rule, steps = optimizer(self.optimizer, self.learning_rate), max(1, self.steps(images))
        model = network(self.model, input_shape, classes, self.widths, X)
        if self.optimizer == "record":
            rule.groups = _record_groups(model, steps, 1.0)
        elif self.optimizer == "muon-record":
            assert isinstance(rule, Muon)
            rule.groups = _record_groups(model, steps, BIASES)
            rule.sgd = ("*.weights", *rule.groups)
        return Trainer(
            model, CrossEntropy(self.label_smoothing, class_weight), rule, threads, seed,
            schedule=SCHEDULES[self.schedule](rule.learning_rate, steps), ema=AVERAGES[self.average](steps),
        )  # fmt: skip


FEWEST_STEPS, MOST_EPOCHS = 300, 60  # of data without a recipe


def for_few(images: int) -> dict[str, Any]:
    """Return epochs and batch size of data without a recipe: few images come more often, in smaller batches."""
    usual = Recipe()
    batch = max(16, min(usual.batch_size, images // 20))
    epochs = epochs_for(images, batch, usual.epochs, MOST_EPOCHS, FEWEST_STEPS)
    return {"epochs": epochs, "batch_size": batch}


# Jordan's airbench94_muon, but for its epochs, of which there are 8, and its batches of 2,000: see bench/RESULTS.md.
RECORD = Recipe(
    "airbench", 7, 500, "muon-record", schedule="linear", augment="alternating-flip,shift=2,padding=reflect",
    label_smoothing=0.2, drop_last=True, views="flip,shift=1",
)  # fmt: skip

# By data set and recipe. That of the digits was chosen by cross-validation within the training images; how the others
# were chosen is in bench/RESULTS.md, what they reach in README.md.
RECIPES = {
    ("digits", "default"): Recipe("digits_default", 20, 32, augment="shift=1"),
    ("mnist", "default"): Recipe("compact", 6, learning_rate=0.1, augment="shift=2,rotation=10,scale=0.1"),
    ("mnist", "quick"): Recipe("mini", 1, 100, learning_rate=0.2, drop_last=True),
    ("fashion-mnist", "default"): Recipe(
        "compact", 7, learning_rate=0.1, augment="alternating-flip", label_smoothing=0.05
    ),
    ("fashion-mnist", "long"): Recipe(
        "resnet6", 15, learning_rate=0.1, augment="alternating-flip", label_smoothing=0.05
    ),
    ("cifar10", "default"): RECORD,
    ("cifar10", "quick"): replace(RECORD, epochs=5, widths=(32, 128, 192), views="flip"),
    ("cifar10", "long"): replace(
        RECORD, epochs=18, widths=(128, 320, 320), augment="alternating-flip,shift=2,cutout=10,padding=reflect"
    ),
}


def _record_groups(model: Sequential, steps: int, whitening: float) -> dict[str, dict[str, Any]]:
    """Return the published factors: shifts of norms learn 64 times as fast, at the same decay; whitening ends early."""
    groups: dict[str, dict[str, Any]] = {}
    for place, layer in enumerate(model.layers):
        if isinstance(layer, BatchNorm) and layer.center:
            groups["*.beta"] = {"learning_rate": BIASES, "weight_decay": 1 / BIASES}
        if layer.name == "whitening":
            stop = schedules.StepDecay(whitening, max(1, round(WHITENED * steps)), 0.0)
            groups[f"{place}.biases"] = {"learning_rate": stop, "weight_decay": 1 / whitening}
    return groups


def balanced(y: IntArray, classes: int) -> Array:
    """Return class weights by which every class counts alike: n / (classes · count), as scikit-learn's."""
    counts = np.bincount(y, minlength=classes)
    weights: Array = np.where(counts, len(y) / (classes * np.maximum(counts, 1)), 0.0)
    return weights


def model_names() -> list[str]:
    """Return the names of the ready networks."""
    return [
        name
        for name, function in inspect.getmembers(models, inspect.isfunction)
        if function.__module__ == models.__name__ and name[0] != "_"
    ]


DATA = tuple(dict.fromkeys(data for data, _ in RECIPES))  # known by name
MODELS = tuple(model_names())


def network(
    name: str | None, input_shape: Shape, classes: int, widths: tuple[int, int, int] | None = None, X: Any = None
) -> Sequential:
    """Return a ready network by its name, or what suits the size of the images."""
    chosen = name or ("digits_default" if min(input_shape[1:]) < SMALL else "compact")
    if chosen == "airbench":
        return models.airbench(input_shape, classes, widths or (64, 256, 256), X)
    model: Sequential = getattr(models, chosen)(input_shape, classes)
    return model


def optimizer(name: str, rate: float | None) -> Optimizer:
    """Return an optimizer by its name."""
    make, usual = OPTIMIZERS[name]
    return make(usual if rate is None else rate)


def augmentation(text: str) -> Augmentation | None:
    """Return the augmentation that a text such as "flip,shift=2,rotation=10" describes; None for "none".

    Raises
    ------
    ValueError
        If a word is not known or its number makes no sense.
    """
    if text == "none":
        return None
    known = augmentation_words()[len(FLAGS) :]
    chosen: dict[str, Any] = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        if name in FLAGS and not value:
            chosen.update([FLAGS[name]])
        elif name == "padding":
            chosen[name] = value
        elif name in known and value:
            row = [_number(name, one) for one in value.split(":")]
            chosen[name] = row if len(row) > 1 else row[0]
        else:
            words = ", ".join([*FLAGS, *(f"{name}=" for name in known)])
            raise ValueError(f"expected words of {words}; got {word!r}")
    try:
        return Augmentation(**chosen)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error).removeprefix("Augmentation: ")) from None


def augmentation_words() -> list[str]:
    """Return the words that a text of augmentations may have: flags first, then names of numbers."""
    return [*FLAGS, *(name for name in inspect.signature(Augmentation).parameters if not name.endswith("_flip"))]


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number; got {text!r}") from None
    return int(number) if math.isfinite(number) and number == int(number) else number
