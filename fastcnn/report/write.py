"""`write_report`: a classifier on a data set, as one page that opens anywhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from .. import markup, measures
from ..history import History
from ..inspection.subject import Subject
from ..storage.atomic import replace_file
from .sections import SECTIONS, Facts

PAGE_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em}
h1{font-size:1.6em}h2{font-size:1.2em;border-bottom:1px solid;margin-top:2em}
.grid{display:flex;flex-wrap:wrap;gap:.6em}
figure{margin:0}figcaption{font-size:.85em}
img{image-rendering:pixelated;margin-right:3px;vertical-align:top}
section{overflow-x:auto}
pre{overflow-x:auto;padding:.6em;border:1px solid;border-radius:5px}
.confusion td{text-align:right}
nav a{margin-right:1em;white-space:nowrap}
""".strip()


def write_report(
    model: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    history: History | None = None,
    title: str = "Report",
    data: str = "",
    about: Mapping[str, Any] | None = None,
    command: str = "",
) -> None:
    """Write a report of a classifier on samples: one HTML file without scripts that reads nothing else.

    In it: the data with an image of each class, the model, the curves of its training, precision and recall of each
    class, the confusion matrix, the worst mistakes with their saliency, the filters of the first convolution, the
    calibration curve, and what is needed to reproduce it.

    Parameters
    ----------
    model : CNNClassifier, Sequential or Trainer
        Fitted or built; it is not changed.
    X : array of shape (N, ...)
        As `predict` takes it: samples that the model was not trained on.
    y : array of shape (N,)
        The true classes: of a `CNNClassifier` from `classes_`, else numbers of outputs.
    path : path
        A file of that name is replaced as a whole.
    classes : sequence of str, optional
        Names of the classes; not given: those of `classes_`, or numbers.
    history : History, optional
        Not given: that of the estimator or the trainer.
    title, data : str
        Of the page, and the name of the data set.
    about : dict, optional
        What else shall stand under "How to reproduce", such as the seed.
    command : str
        What writes the report again.

    Raises
    ------
    TypeError, ValueError
        If `model` is none of classes, or `X`, `y` or `classes` do not fit it; nothing is written then.
    OSError
        If the file cannot be written.

    See Also
    --------
    inspection.worst_mistakes : The mistakes as arrays.
    display.MistakesDisplay : The mistakes as a picture.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from fastcnn import Conv2D, Dense, Flatten, Sequential, write_report
    >>> model = Sequential([Conv2D(4, 3), Flatten(), Dense(3)]).build((1, 8, 8), random_state=0)
    >>> X = np.random.RandomState(0).rand(12, 1, 8, 8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "report.html")
    ...     write_report(model, X, np.arange(12) % 3, path, title="Noise")
    ...     os.path.getsize(path) < 100_000
    True
    """
    facts = _facts(model, X, y, classes, history, data, about, command)
    page = _page(facts, title)

    def write(file: BinaryIO) -> None:
        file.write(page.encode("utf-8"))

    replace_file(path, write)


def _facts(
    thing: Any,
    X: Any,
    y: Any,
    names: Sequence[str] | None,
    history: History | None,
    data: str,
    about: Mapping[str, Any] | None,
    command: str,
) -> Facts:
    subject = Subject(thing, "write_report")
    estimator = subject.estimator
    if estimator is not None and getattr(estimator, "_labels", 0) is not None:
        raise ValueError(
            f"write_report: model: expected a classifier with one class a sample; got {type(estimator).__name__}"
        )
    x = subject.read(X)
    scores = subject.scorer()(x)
    known = getattr(estimator, "classes_", np.arange(scores.shape[1]))
    given = np.asarray(y)
    if given.shape != (len(x),):
        raise ValueError(f"write_report: y: expected shape ({len(x)},), as X has samples; got {given.shape}")
    if not np.isin(given, known).all():
        wrong = given[~np.isin(given, known)].tolist()[0]
        raise ValueError(f"write_report: y: expected classes of {', '.join(map(str, known))[:200]}; got {wrong!r}")
    titles = [str(name) for name in (known if names is None else names)]
    if len(titles) != len(known):
        raise ValueError(f"write_report: classes: expected {len(known)} names; got {len(titles)}")
    if history is None:
        history = getattr(thing, "history_", None) or getattr(thing, "history", None)
    words = {name: str(value) for name, value in (about or {}).items()}
    if estimator is not None:
        words = {"estimator": " ".join(repr(estimator).split()), **words}
    samples = X if isinstance(X, np.ndarray) else np.asarray(X)
    truth = np.searchsorted(known, given)
    return Facts(subject, samples, truth, titles, measures.softmax(scores), history, words, data, command)


def _page(facts: Facts, title: str) -> str:
    parts, links = [], []
    for name, section in SECTIONS:
        place = name.lower().replace(" ", "-")
        links.append(f'<a href="#{place}">{name}</a>')
        parts.append(f'<section id="{place}"><h2>{name}</h2>{section(facts)}</section>')
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{markup.text(title)}</title><style>{PAGE_STYLE}\n{markup.STYLE}</style></head>"
        f'<body class="fastcnn"><h1>{markup.text(title)}</h1><nav>{" ".join(links)}</nav>{"".join(parts)}'
        "</body></html>\n"
    )
