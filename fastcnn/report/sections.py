"""The parts of a report: data, model, curves, classes, confusion, mistakes, filters, calibration, how to reproduce."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from .. import drawing, maps, markup, measures
from ..history import History
from ..inspection.attribution import saliency
from ..inspection.mistakes import worst_mistakes
from ..inspection.subject import Subject
from ..typing import Array, IntArray
from ..version import __version__
from . import pictures

MISTAKES, FILTERS, CLASSES, BINS = 12, 64, 40, 10


class Facts(NamedTuple):
    """What a report is about.

    Attributes
    ----------
    subject : Subject
    X : array of shape (N, ...)
    y : int array of shape (N,)
        Numbers of classes.
    names : list of str
        Of the classes.
    probabilities : array of shape (N, classes)
    history : History or None
    about : dict of str to str
        What else is known of the training.
    data, command : str
        Name of the data set, and what writes the report again.
    """

    subject: Subject
    X: Array
    y: IntArray
    names: list[str]
    probabilities: Array
    history: History | None
    about: dict[str, str]
    data: str
    command: str

    @property
    def matrix(self) -> IntArray:
        """The confusion matrix: rows are true classes."""
        return measures.confusion(self.y, self.probabilities.argmax(axis=1), len(self.names))


def summary(facts: Facts) -> str:
    """Return the numbers that most people look for."""
    matrix = facts.matrix
    rows = [
        ("accuracy", f"{measures.accuracy(matrix):.2%}"),
        ("always guessing the largest class", f"{measures.majority(matrix):.2%}"),
        ("cross-entropy", f"{measures.cross_entropy(facts.probabilities, facts.y):.4f}"),
        ("wrong", f"{int(matrix.sum() - matrix.trace()):,} of {int(matrix.sum()):,}"),
    ]
    return markup.facts(rows)


def data(facts: Facts) -> str:
    """Return what was measured on, with an image of each class."""
    counts = np.bincount(facts.y, minlength=len(facts.names))
    images, shown = facts.subject.images(facts.X), []
    for number in np.flatnonzero(counts)[:CLASSES]:
        first = int(np.flatnonzero(facts.y == number)[0])
        picture = pictures.tag(pictures.as_bytes(images[first]), f"a sample of class {facts.names[number]}", 48)
        shown.append(pictures.figure(picture, f"{facts.names[number]}: {counts[number]:,}"))
    rows = [
        *([("data", facts.data)] if facts.data else []),
        ("samples", f"{len(facts.y):,}"),
        ("shape of one", " × ".join(map(str, images.shape[1:]))),
        ("numbers", f"{facts.X.dtype}, from {float(facts.X.min()):g} to {float(facts.X.max()):g}"),
        ("classes", f"{len(facts.names)}"),
    ]
    return markup.facts(rows) + f'<div class="grid">{"".join(shown)}</div>'


def model(facts: Facts) -> str:
    """Return the drawing of the model, and its summary."""
    table: Any = facts.subject.model.summary()
    return drawing.draw(facts.subject.model) + markup.fold("summary", table._repr_html_())


def training(facts: Facts) -> str:
    """Return the curves of the training."""
    if facts.history is None or not len(facts.history):
        return "<p>The file keeps no history of the training.</p>"
    return facts.history._repr_html_()


def classes(facts: Facts) -> str:
    """Return precision, recall and F1 of each class."""
    rows = []
    for name, p, r, count in measures.by_class(facts.matrix, facts.names):
        f1 = None if not p or not r else 2 * p * r / (p + r)
        rows.append((name, *map(measures.percent, (p, r, f1)), f"{count:,}"))
    return markup.table(("class", "precision", "recall", "F1", "samples"), rows)


def confusion(facts: Facts) -> str:
    """Return the confusion matrix as a table, shaded by the share of each class; of many classes the worst pairs."""
    matrix = facts.matrix
    if len(facts.names) > CLASSES:
        pairs = [(i, j) for i, j in np.argwhere(matrix) if i != j]
        pairs.sort(key=lambda pair: -matrix[pair])
        rows = [(facts.names[i], facts.names[j], f"{matrix[i, j]:,}") for i, j in pairs[:CLASSES]]
        return markup.table(("class", "taken for", "samples"), rows)
    head = "".join(f'<th scope="col">{markup.text(name)}</th>' for name in ("", *facts.names))
    lines = []
    for name, row in zip(facts.names, matrix.tolist(), strict=True):
        total = max(1, sum(row))
        cells = "".join(
            f'<td style="background:rgba(68,119,170,{0.85 * count / total:.2f})">{count or "·"}</td>' for count in row
        )
        lines.append(f'<tr><th scope="row">{markup.text(name)}</th>{cells}</tr>')
    table = f'<table class="confusion"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f"<p>Rows: the class; columns: what it was taken for.</p>{table}"


def mistakes(facts: Facts) -> str:
    """Return the mistakes with the highest probability, each beside the saliency of the wrong class."""
    subject = facts.subject
    thing = subject.estimator or subject.model
    known = facts.y if subject.estimator is None else np.asarray(getattr(thing, "classes_", ()))[facts.y]
    found = worst_mistakes(thing, facts.X, known, count=MISTAKES)
    if not len(found.indices):
        return "<p>All samples are right.</p>"
    wrong = np.ascontiguousarray(facts.X[found.indices])
    images = subject.images(wrong)
    slopes = saliency(thing, wrong, found.predicted, method="smooth_grad", random_state=0)
    heat = np.add.reduce(subject.unshaped(slopes), axis=1)
    shown = []
    for image, one, index, p in zip(images, heat, found.indices, found.probability, strict=True):
        truth, guess = facts.names[facts.y[index]], facts.names[facts.probabilities[index].argmax()]
        pair = pictures.tag(pictures.as_bytes(image), f"a sample of class {truth}")
        pair += pictures.tag(pictures.signed(one, float(np.abs(one).max())), f"saliency of class {guess}")
        shown.append(pictures.figure(pair, f"{truth}, not {guess} ({p:.0%}); sample {index}"))
    words = "Right of each image: SmoothGrad; a pixel that is red speaks for the wrong class where it is lighter."
    return f'<p>{words}</p><div class="grid">{"".join(shown)}</div>'


def filters(facts: Facts) -> str:
    """Return the filters of the first convolution."""
    for place, layer in maps.places(facts.subject.model).items():
        arrays = [array for array in layer.parameters.values() if array.ndim == 4 and layer._specs]
        if arrays:
            shown = np.asarray(arrays[0])[:FILTERS]
            most = float(np.abs(shown[:, 0]).max())
            tags = [
                pictures.tag(
                    pictures.as_bytes(one) if len(one) == 3 else pictures.signed(one[0], most), f"filter {number}", 36
                )
                for number, one in enumerate(shown)
            ]
            words = f"Layer {place}, {markup.text(layer)}: white is 0, red above, blue below."
            if shown.shape[1] == 3:
                words = f"Layer {place}, {markup.text(layer)}, in colours."
            return f'<p>{words}</p><div class="grid">{"".join(tags)}</div>'
    return "<p>The network has no convolution.</p>"


def calibration(facts: Facts) -> str:
    """Return how often the network is right where it is so sure, and the expected calibration error.

    With B_b the samples whose largest probability lies in the b-th of 10 bins of equal width, and acc and conf the mean
    accuracy and probability in a bin, `ECE = Σ_b |B_b|/N · |acc(B_b) - conf(B_b)|`.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017, section 2.
    """
    sure, right = facts.probabilities.max(axis=1), facts.probabilities.argmax(axis=1) == facts.y
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    error, points, rows = 0.0, [(0.0, 0.0)], []
    for number in range(BINS):
        inside = bins == number
        count = int(np.count_nonzero(inside))
        if count:
            conf, acc = float(sure[inside].mean()), float(right[inside].mean())
            error += count / len(sure) * abs(acc - conf)
            points.append((conf, acc))
            rows.append(
                (f"{number / BINS:.0%} to {(number + 1) / BINS:.0%}", f"{count:,}", f"{conf:.1%}", f"{acc:.1%}")
            )
    x = [point[0] for point in points[1:]]
    lines = {"network": [point[1] for point in points[1:]], "ideal": x}
    picture = markup.curves("Accuracy", x, lines, below="mean probability", limits=(0.0, 1.0))
    table = markup.table(("probability", "samples", "mean probability", "accuracy"), rows)
    return f"<p>Expected calibration error: {error:.2%}</p>{picture}{table}"


def reproduce(facts: Facts) -> str:
    """Return versions, seed, digest and the commands."""
    packages = {name: version(name) for name in ("numpy", "numba", "scikit-learn")}
    rows = [
        *facts.about.items(),
        ("digest of the weights", facts.subject.model.digest()),
        ("fastcnn", __version__),
        ("Python", platform.python_version()),
        *packages.items(),
    ]
    words = f"<pre>{markup.text(facts.command)}</pre>" if facts.command else ""
    return words + markup.facts(rows)


SECTIONS = (
    ("Summary", summary), ("Data", data), ("Model", model), ("Training", training), ("Classes", classes),
    ("Confusion", confusion), ("Worst mistakes", mistakes), ("Filters", filters), ("Calibration", calibration),
    ("How to reproduce", reproduce),
)  # fmt: skip
