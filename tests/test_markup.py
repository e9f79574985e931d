"""What a notebook shows: models, histories, trainers, tables and data sets, as HTML that is whole and escaped."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from fastcnn import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Flatten,
    History,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Trainer,
    markup,
)
from fastcnn.data import Dataset
from fastcnn.history import Epoch, line

VOID = {"br", "link", "img", "meta", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Reads a piece of HTML, and sees that every element is closed and nothing comes from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert tag not in {"script", "iframe", "object"}
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in {"src", "href"} or value.startswith(("data:", "#"))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def network() -> Sequential:
    block = Residual([Conv2D(4, 3, padding=1), BatchNorm(), ReLU(name="inner")])
    return Sequential([Conv2D(4, 3), block, Concat([[], [ReLU()]]), MaxPool2D(2), Flatten(), Dense(10)], name="digits")


def history(n=3) -> History:
    made = History()
    for k in range(1, n + 1):
        made.epochs.append(Epoch(k, 2.0 / k, math.nan, 1.5 / k, math.nan, 0.01, 1.0, 100.0))
    return made


def test_a_model_is_drawn_with_shapes_and_parameters():
    model = network().build((1, 8, 8), random_state=0)
    page = Page(model._repr_html_())
    total = sum(array.size for array in model.parameters.values())
    assert f"digits: 6 layers, 1 × 8 × 8 in, {total:,} parameters" in page.text
    assert "0 Conv2D(4, 3) → 4 × 6 × 6 40" in page.text
    assert "1 Residual → 4 × 6 × 6 156" in page.text
    assert "1.layers.2 ReLU(name='inner') → 4 × 6 × 6" in page.text
    assert "2.branches.1.0 ReLU() → 4 × 6 × 6" in page.text
    assert "5 Dense(10) → 10 730" in page.text
    assert page.tags.count("details") == 3  # the model and two containers, which fold
    assert "fetch" not in model._repr_html_()
    assert "1 Residual → 4 × 6 × 6 156" in re.sub("<[^>]*>", "", model._repr_html_())  # a browser adds no space


def test_a_model_that_is_not_built_is_drawn_without_shapes():
    page = Page(network()._repr_html_())
    assert "digits: 6 layers, not built yet" in page.text
    assert "→" not in page.text


def test_a_history_is_curves_and_a_table():
    page = Page(history()._repr_html_())
    assert page.tags.count("svg") == 1  # accuracy is not known
    assert page.tags.count("polyline") == 2
    assert page.tags.count("tr") == 4
    assert "validation" in page.text
    empty = History()
    empty.stopped = "<b>Ctrl-C & more</b>"
    found = Page(empty._repr_html_())
    assert "History: no epochs, stopped: <b>Ctrl-C & more</b>" in found.text
    assert "b" not in found.tags


def test_curves_lie_where_the_numbers_are():
    svg = markup.curves("y", [1, 2, 3], {"a": [0.0, 5.0, 10.0], "b": [math.nan, 2.5, math.inf]}, size=(162, 146))
    lines = [part.split('"')[0] for part in svg.split('points="')[1:]]
    assert lines == ["54.0,122.0 104.0,72.0 154.0,22.0", "104.0,97.0"]
    Page(markup.curves("<y>", [], {}))
    Page(markup.curves("constant", [1], {"a": [3.0]}))


def test_a_trainer_shows_its_parts():
    trainer = Trainer(network(), optimizer="adam", random_state=0)
    assert "CrossEntropy()" in Page(trainer._repr_html_()).text
    trainer.fit(np.zeros((8, 1, 8, 8), "f"), np.arange(8), epochs=2, batch_size=4, verbose=0)
    page = Page(trainer._repr_html_())
    for words in ("Trainer", "Adam(", "epochs 2", "steps 4", "digits: 6 layers", "History: 2 epochs"):
        assert words in page.text


def test_a_summary_is_text_and_a_table():
    summary = network().build((1, 8, 8), random_state=0).summary()
    assert isinstance(summary, str)
    page = Page(summary._repr_html_())
    assert page.tags.count("tr") == len(summary.splitlines()) - 1
    assert summary.splitlines()[-1] in page.text


def test_a_data_set_shows_shapes_and_no_pixels():
    names = ["<script>", *map(str, range(20))]
    found = Dataset(np.zeros((60, 1, 8, 8), np.uint8), np.zeros(60, np.int64), None, None, names)
    assert repr(found) == (
        "Dataset(X=uint8 (60, 1, 8, 8), y=int64 (60,), X_test=None, y_test=None, classes=['<script>', "
        "'0', '1', '2', '3', '4', '5', '6', '7', '8', ...])"
    )
    page = Page(found._repr_html_())
    assert "X uint8 60 × 1 × 8 × 8" in page.text
    assert "21 classes: <script>, 0" in page.text


@pytest.mark.parametrize(("prepared", "words"), [(0.1, "2.00 s | 50"), (1.5, "2.00 s, 1.50 s of them for kernels, ")])
def test_the_line_of_an_epoch_tells_of_compiling(prepared, words):
    epoch = Epoch(1, 0.5, math.nan, math.nan, math.nan, 0.01, 2.0, 50.0)
    assert words in line(epoch, prepared)


def test_the_first_step_does_not_count_for_the_speed(monkeypatch):
    """A clock on which a step takes a second, and the first of a shape a hundred."""
    now = [0.0]
    trainer = Trainer(network(), random_state=0)
    shapes = set()
    take = trainer.step

    def step(x, y, **more):
        now[0] += 1.0 if x.shape in shapes else 100.0
        shapes.add(x.shape)
        return take(x, y, **more)

    trainer.step = step
    monkeypatch.setattr("fastcnn.training.loop.time.perf_counter", lambda: now[0])
    made = trainer.fit(np.zeros((22, 1, 8, 8), "f"), np.arange(22) % 10, epochs=2, batch_size=4, verbose=0)
    assert made["seconds"] == [204.0, 6.0]
    assert made["images_per_second"] == pytest.approx([16 / 4, 22 / 6])
