"""The live page without a browser: who may come in, what is answered, what a training does, and that its bits stay."""

import base64
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.cli import main
from fastcnn.cli.explore import prepared
from fastcnn.cli.main import _parser
from fastcnn.live import LivePage
from fastcnn.live.camera import Camera
from fastcnn.live.curves import POINTS, Curve
from fastcnn.live.studio import Studio
from fastcnn.live.twin import Twin
from tests.models import MODEL_CASES
from tests.test_cli_train import write

ROOT = Path(__file__).parents[1]
RNG = np.random.RandomState(0)
X = RNG.rand(60, 1, 8, 8).astype(np.float32)
y = RNG.randint(3, size=60)


def layers():
    return [Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(3)]


def built():
    return Sequential(layers()).build((1, 8, 8), random_state=0)


class Visitor:
    """A browser of the page, as simple as can be."""

    def __init__(self, page):
        self.port, self.base = page.server.port, "/" + page.server.token + "/"

    def ask(self, method, path, body=None, headers=None, base=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, (self.base if base is None else base) + path, sent, {**given, **(headers or {})})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def get(self, path):
        answer, content = self.ask("GET", path)
        assert answer.status == 200, content
        return json.loads(content)

    def post(self, path, **body):
        answer, content = self.ask("POST", path, body)
        assert answer.status == 200, content

    @contextmanager
    def events(self, name="a"):
        """Yield an iterator of (event, data)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", f"{self.base}events?client={name}")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream"

        def read():
            event = ""
            for line in answer:
                word, _, rest = line.decode().rstrip("\n").partition(": ")
                if word == "event":
                    event = rest
                elif word == "data":
                    yield event, json.loads(rest)

        try:
            yield read()
        finally:
            answer.close()
            connection.close()

    def frame(self, name="a", wanted=lambda frame: True):
        with self.events(name) as events:
            return next(data for event, data in events if event == "frame" and wanted(data))


@pytest.fixture
def page():
    with LivePage(X, y) as page:
        page.show(built())
        yield page


@pytest.fixture
def visitor(page):
    return Visitor(page)


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["data"]), np.float32).reshape(packed["shape"])


# ------------------------------------------------------------------------------------------------------ who may come in


def test_nothing_listens_without_being_asked():
    page = LivePage(X, y)
    assert page.server is None
    with pytest.raises(RuntimeError, match="url: expected a page that is open"):
        page.url  # noqa: B018
    with page:
        port = page.server.port
        assert page.url == f"http://127.0.0.1:{port}/{page.server.token}/"
        assert len(page.server.token) >= 20
        assert page.server.http.server_address[0] == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_two_pages_have_different_tokens():
    with LivePage() as one, LivePage() as other:
        assert one.server.token != other.server.token


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "evil.example"}, None),
        ({"Host": "evil.example:{port}"}, None),
        ({"Host": "127.0.0.1:1"}, None),
        ({"Origin": "http://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Origin": "http://127.0.0.1:1"}, None),
        ({"Sec-Fetch-Site": "cross-site"}, None),
        ({"Sec-Fetch-Site": "same-site"}, None),
        ({}, "/"),
        ({}, "/wrong/"),
        ({}, "//"),
    ],
)
@pytest.mark.parametrize("path", ["", "model", "events?client=x", "view"])
def test_others_are_refused(visitor, headers, base, path):
    headers = {name: value.format(port=visitor.port) for name, value in headers.items()}
    method, body = ("POST", {"client": "a", "image": 1}) if path == "view" else ("GET", None)
    answer, content = visitor.ask(method, path, body, headers, base)
    assert answer.status == 403
    assert b"fastcnn live" not in content
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_no_form_of_another_site_can_post(visitor):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer, _ = visitor.ask("POST", "control", {"action": "stop"}, {"Content-Type": kind})
        assert answer.status == 415
    answer, _ = visitor.ask("OPTIONS", "control")
    assert answer.status == 501
    assert answer.headers["Access-Control-Allow-Origin"] is None


def test_the_page_comes_with_its_guards(visitor):
    answer, content = visitor.ask("GET", "", headers={"Host": f"localhost:{visitor.port}"})
    assert answer.status == 200
    text = content.decode()
    policy = answer.headers["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([\w-]+)'", policy)[1]
    assert f'<script nonce="{nonce}">' in text
    assert "NONCE" not in text
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)  # it is whole by itself


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("GET", "nothing", None, "there is no such page"),
        ("GET", "explain?layer=9&at=0,0,0", None, "layer: expected a place"),
        ("GET", "explain?layer=0&at=0,0", None, "position: expected 3 whole numbers"),
        ("GET", "explain?layer=0&at=a", None, "at: expected whole numbers between commas"),
        ("GET", "gradient?parameter=1.x&at=0", None, "parameter: expected one of 0.filters"),
        ("GET", "gradient?parameter=0.filters&at=0,0,0,0&target=7", None, "y: expected a class from 0 to 2; got 7"),
        ("POST", "view", {"client": "a", "image": "x"}, "image: expected a whole number"),
        ("POST", "view", {"client": "a", "drawn": [0] * 63}, "pixels: expected 64"),
        ("POST", "view", {"client": "a", "drawn": "no"}, "drawn: expected a list"),
        ("POST", "view", [], "expected an object"),
        ("POST", "view", b"{", "expected JSON"),
        ("POST", "control", {"action": "dance"}, "action: expected one of pause, resume"),
        ("POST", "control", {"action": "rate", "value": -1}, "value: expected a learning rate above 0; got -1"),
        ("POST", "control", {"action": "rate", "value": math.inf}, "value: expected a learning rate"),
        ("POST", "control", {"action": "stop"}, "no training goes on"),
    ],
)
def test_what_makes_no_sense_is_answered_in_words(visitor, method, path, body, words):
    answer, content = visitor.ask(method, path, body)
    assert 400 <= answer.status < 500
    assert words in content.decode()


def test_a_request_that_is_too_long_is_not_read(visitor):
    answer, _ = visitor.ask("POST", "view", b"", {"Content-Length": str(1 << 40)})
    assert answer.status == 413


# ----------------------------------------------------------------------------------------------------- what is answered


def test_a_frame_has_the_maps_of_the_image(page, visitor):
    visitor.post("view", client="a", image=7, layer="2")
    frame = visitor.frame()
    assert (frame["image"], frame["target"], frame["layer"], frame["state"]) == (7, y[7], "2", "exploring")
    np.testing.assert_array_equal(numbers(frame["input"]), X[7])
    for place, array in page.studio.model.outputs(X[7:8]).items():
        np.testing.assert_allclose(numbers(frame["maps"][place]).ravel(), array[0].ravel(), rtol=1e-5, atol=1e-6)
    assert math.isclose(sum(frame["output"]), 1, abs_tol=1e-4)
    assert np.argmax(frame["output"]) == page.studio.model.predict(X[7:8]).argmax()


def test_each_browser_has_a_view_of_its_own_and_keeps_it(visitor):
    visitor.post("view", client="a", image=1)
    visitor.post("view", client="b", image=2, layer="4")
    assert [visitor.frame(name)["image"] for name in "abc"] == [1, 2, 0]
    assert visitor.frame("b")["layer"] == "4"  # after a reload


def test_weights_of_the_chosen_layer(page, visitor):
    visitor.post("view", client="a", layer="4")
    weights = visitor.frame()["weights"]
    np.testing.assert_array_equal(numbers(weights["weights"]), page.studio.model.parameters["4.weights"].T)
    assert weights["weights"]["columns"]
    visitor.post("view", client="a", layer="0")
    np.testing.assert_array_equal(
        numbers(visitor.frame()["weights"]["filters"]), page.studio.model.parameters["0.filters"]
    )


def test_a_drawing_passes_through(page, visitor):
    drawn = np.zeros((8, 8))
    drawn[2:5, 3] = 1
    visitor.post("view", client="a", drawn=drawn.ravel().tolist())
    frame = visitor.frame()
    assert frame["drawn"]
    assert frame["target"] is None
    np.testing.assert_allclose(numbers(frame["input"])[0], X.min() + drawn * (X.max() - X.min()), rtol=1e-6)
    answer, content = visitor.ask("GET", "gradient?client=a&parameter=0.filters&at=0,0,0,0")
    assert (answer.status, content[:7]) == (400, b"target:")
    assert visitor.get("gradient?client=a&parameter=0.filters&at=0,0,0,0&target=1")["target"] == 1


def twins(model):
    made = [reference.Conv2D(4, 3), reference.ReLU(), reference.MaxPool2D(2), reference.Flatten(), reference.Dense(3)]
    for place in (0, 4):
        made[place].build((1, 8, 8) if place == 0 else (36,))
        for name, array in made[place].parameters.items():
            array[...] = model.parameters[f"{place}.{name}"]
    return made


def test_sums_are_the_reference_s_to_the_last_digit(page, visitor):
    visitor.post("view", client="a", image=5)
    made, value = twins(page.studio.model), X[5:6].astype(np.float64)
    for place, layer in enumerate(made):
        value = layer.forward(value)
        at = tuple(np.random.RandomState(place).randint(size) for size in value.shape[1:])
        found = visitor.get(f"explain?client=a&layer={place}&at={','.join(map(str, at))}")
        assert found["value"] == value[(0, *at)]
        assert found["engine"] == pytest.approx(value[(0, *at)], rel=1e-5, abs=1e-6)
    slope = reference.CrossEntropy().gradient(value, y[5:6])
    for layer in reversed(made):
        slope = layer.backward(slope)
    found = visitor.get("gradient?client=a&parameter=0.filters&at=2,0,1,2")
    assert found["value"] == made[0].gradients["filters"][2, 0, 1, 2]
    assert len(found["steps"][0]["terms"]) == 36
    assert found["weight"] == page.studio.model.parameters["0.filters"][2, 0, 1, 2]


def test_numbers_that_json_cannot_say_are_words():
    with LivePage(X) as page:
        page.show(Sequential([MaxPool2D(3, 2, 1)]).build((1, 8, 8)))
        (step,) = Visitor(page).get("explain?layer=0&at=0,0,0")["steps"]
        assert step["terms"][0]["value"] == "-Infinity"


def test_the_confusion_matrix_and_the_images_behind_its_cells(page, visitor):
    with visitor.events() as events:
        slow = next(data for event, data in events if event == "slow" and data["guessed"] == 60)
    guesses = page.studio.model.predict(X).argmax(axis=1)
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (y, guesses), 1)
    assert slow["confusion"] == expected.tolist()
    true, guess = np.argwhere(expected)[0]
    images = visitor.get(f"images?true={true}&guess={guess}")["images"]
    assert [one["image"] for one in images] == np.flatnonzero((y == true) & (guesses == guess)).tolist()
    assert len(visitor.get("images?first=50")["images"]) == 10


@pytest.mark.parametrize("case", MODEL_CASES, ids=str)
def test_the_camera_sees_what_model_outputs_tells(case):
    model, x = case.build(np.float32), case.batch(1, np.float32)
    taken = Camera(model).take(x[0])
    for place, array in model.outputs(x).items():
        np.testing.assert_allclose(taken[place], array[0], rtol=1e-4, atol=1e-5)


def test_a_twin_has_the_weights_and_statistics_of_its_moment():
    layers = [
        Conv2D(4, 3),
        fastcnn.BatchNorm(),
        ReLU(),
        fastcnn.Residual([Conv2D(4, 3, padding=1)]),
        Flatten(),
        Dense(3),
    ]
    model = Sequential(layers).build((1, 8, 8), random_state=0)
    trainer, twin = Trainer(model, random_state=0), Twin(model)
    for _ in range(2):
        trainer.step(X, y)
        assert twin.model.digest() != model.digest()
        twin.take()
        assert twin.is_copy
        np.testing.assert_array_equal(Camera(twin.model).take(X[0])["5"], Camera(model).take(X[0])["5"])
        for name, array in model._weights().items():
            np.testing.assert_array_equal(twin.model._weights()[name], array)
    assert twin.is_of(model)
    assert not twin.is_of(model.build((1, 8, 8), random_state=1))


def test_a_model_with_a_layer_of_ones_own_is_its_own_twin():
    class Half(fastcnn.Layer):
        def _forward(self, x):
            return x / 2

        def _backward(self, x, y, dL_dout):
            return dL_dout / 2

    model = Sequential([Conv2D(4, 3), Sequential([Half()]), Flatten(), Dense(3)]).build((1, 8, 8), random_state=0)
    twin = Twin(model)
    assert (twin.model is model, twin.is_copy) == (True, False)


def test_the_camera_sees_into_blocks_and_changes_nothing():
    model = fastcnn.models.resnet20((3, 8, 8), 4).build((3, 8, 8), random_state=0)
    digest, x = model.digest(), np.random.RandomState(1).rand(2, 3, 8, 8).astype(np.float32)
    camera = Camera(model)
    first = camera.take(x[0])
    assert list(first) == list(model.outputs(x[:1]))
    np.testing.assert_allclose(camera.take(x[1])["5"], model.outputs(x[1:], "5")["5"][0], rtol=1e-4, atol=1e-5)
    assert model.digest() == digest
    assert model.training


# ------------------------------------------------------------------------------------------------- what a training does


def trainer():
    return Trainer(Sequential(layers()), optimizer="adam", schedule="cosine", random_state=3)


def fit(made, callbacks=(), epochs=3):
    return made.fit(
        X[:40], y[:40], epochs=epochs, batch_size=8, X_val=X[40:], y_val=y[40:], callbacks=list(callbacks), verbose=0
    )


def test_the_bits_of_a_training_are_the_same_with_a_page():
    alone = trainer()
    fit(alone)
    seen = trainer()
    with LivePage(X[40:], y[40:]) as page:
        visitor, frames = Visitor(page), []

        def watch():
            with visitor.events() as events:
                for event, _ in events:
                    frames.append(event)
                    with suppress(OSError):  # the page may be closed by now
                        visitor.ask("GET", "explain?layer=0&at=0,0,0")

        thread = threading.Thread(target=watch)
        seen.step = slowly(seen.step)
        thread.start()
        while not page.watched:
            time.sleep(0.01)
        fit(seen, [page])
        page.close()
        thread.join(20)
    assert frames.count("frame") > 2
    assert frames[-1] == "closed"
    assert seen.model.digest() == alone.model.digest()
    assert [one.loss for one in seen.history] == [one.loss for one in alone.history]


def slowly(step):
    def steps(*given, **more):
        time.sleep(0.02)
        return step(*given, **more)

    return steps


@contextmanager
def underway(epochs=100000):
    """Yield a training that goes on in a thread, and its page's visitor."""
    made = trainer()
    with LivePage(X[40:], y[40:]) as page:
        thread = threading.Thread(target=fit, args=(made, [page], epochs))
        thread.start()
        try:
            while page.studio.run is None or not page.studio.run.step:
                time.sleep(0.01)
            yield made, page, Visitor(page)
        finally:
            page.studio.ask({"action": "stop"})
            thread.join(30)
            assert not thread.is_alive()


def until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it has not come about")


def test_pause_steps_and_stop():
    with underway() as (made, page, visitor):
        visitor.post("control", action="pause")
        until(lambda: page.studio.state == "paused")
        before = made.steps
        time.sleep(0.1)
        assert made.steps == before
        for more in (1, 2):
            visitor.post("control", action="step")
            until(lambda more=more: made.steps == before + more and page.studio.state == "paused")
        assert visitor.frame()["step"] == made.steps
        visitor.post("control", action="resume")
        until(lambda: made.steps > before + 4)
        visitor.post("control", action="stop")
        until(lambda: page.studio.state == "ended")
    assert made.history.stopped == "stopped on the page"


def test_frames_of_a_training_are_made_in_the_threads_of_browsers(monkeypatch):
    """The training thread copies weights, after the first frame, which has made the twin."""
    makers, make = [], Studio._make
    monkeypatch.setattr(Studio, "_make", lambda studio: (makers.append(threading.current_thread().name), make(studio)))
    with underway() as (_, page, visitor), visitor.events() as events:
        frames = [data for (event, data), _ in zip(events, range(40), strict=False) if event == "frame"]
        assert frames[0]["step"] < frames[-1]["step"]
        assert page.studio.twin.is_copy
    in_browsers = [name for name in makers[2:20] if "process_request" in name]
    assert len(in_browsers) >= 16


def test_the_learning_rate_and_back_to_the_schedule():
    with underway() as (made, _, visitor):
        schedule = made.schedule
        visitor.post("control", action="rate", value=0.125)
        until(lambda: made.schedule is None)
        assert made.optimizer.learning_rate == 0.125
        frame = visitor.frame(wanted=lambda frame: not frame["scheduled"])
        assert frame["rate"] == 0.125
        visitor.post("control", action="schedule")
        until(lambda: made.schedule is schedule)
        until(lambda: made.optimizer.learning_rate != 0.125)


def test_a_fit_that_keeps_a_checkpoint_keeps_its_rate(tmp_path):
    answers = []

    class Asks(fastcnn.Callback):
        def batch(self, run):
            if run.step == 2:
                answers.append(Visitor(page).ask("POST", "control", {"action": "rate", "value": 0.5}))

    with LivePage() as page:
        path = tmp_path / "run.safetensors"
        for epochs in (2, 2):  # the second reads the file of the first
            trainer().fit(X, y, epochs=epochs, batch_size=20, callbacks=[page, Asks()], checkpoint=path, verbose=0)
    ((answer, words),) = answers
    assert (answer.status, words[:29]) == (409, b"the learning rate stays: this")


def test_a_page_that_closes_lets_a_paused_training_go_on():
    with underway() as (made, page, visitor):
        visitor.post("control", action="pause")
        until(lambda: page.studio.state == "paused")
        before = made.steps
        page.close()
        until(lambda: made.steps > before)


def test_ten_browsers_and_some_that_go_away():
    with underway() as (made, page, visitor):
        for _ in range(10):
            connection = socket.create_connection(("127.0.0.1", page.server.port))
            connection.sendall(
                f"GET {visitor.base}events?client=z HTTP/1.1\r\nHost: 127.0.0.1:{visitor.port}\r\n\r\n".encode()
            )
            connection.recv(10)
            connection.close()
        frames = {name: visitor.frame(name)["step"] for name in "abcdefghij"}
        assert len(frames) == 10
        before = made.steps
        until(lambda: made.steps > before + 5)
        until(lambda: not page.studio.clients)


def test_a_curve_has_a_bounded_number_of_points():
    curve = Curve()
    for step in range(1, 10001):
        curve.add(step, float(step), 0.5)
    assert POINTS <= len(curve.points) < 2 * POINTS
    assert curve.every == 16
    step, loss, accuracy = curve.points[0]
    assert (step, loss, accuracy) == (16, 8.5, 0.5)
    curve.add(10001, math.nan, 0.0)
    for step in range(15):
        curve.add(step, 1.0, 0.0)
    assert json.loads(curve.as_json())[-1][1] is None


def test_a_model_of_numbers_has_no_classes():
    model = Sequential([Flatten(), Dense(2)])
    made = Trainer(model, "mean_squared_error", random_state=0)
    with LivePage(X, RNG.rand(60, 2)) as page:
        made.fit(X, RNG.rand(60, 2), epochs=1, batch_size=20, callbacks=[page], verbose=0)
        visitor = Visitor(page)
        assert visitor.get("model")["classes"] == []
        assert len(visitor.frame()["output"]) == 2


def test_batches_build_the_model_and_the_page_waits_for_it():
    made = Trainer(Sequential([Flatten(), Dense(3)]), random_state=0)
    with LivePage() as page:
        visitor = Visitor(page)
        assert visitor.get("model") == {"ready": False}
        made.fit([(X[:8], y[:8])] * 3, epochs=1, callbacks=[page], verbose=0)
        assert visitor.get("model")["images"] == 0
        assert not numbers(visitor.frame()["input"]).any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"port": -1}, "port: expected a whole number from 0 to 65535; got -1"),
        ({"port": "x"}, "port: expected"),
        ({"X": np.full((3, 2), "a")}, "X: expected images"),
        ({"X": np.zeros(3)}, "X: expected images"),
        ({"X": X, "y": y[:3]}, "y: expected 60 targets, one for each image; got 3"),
    ],
)
def test_arguments_that_make_no_sense(given, words):
    with pytest.raises(ValueError, match=words):
        LivePage(given.pop("X", None), **given)


def test_only_built_models_are_shown():
    with pytest.raises(RuntimeError, match="build"):
        LivePage().show(Sequential([Dense(2)]))
    with pytest.raises(TypeError, match="model: expected a Sequential"):
        LivePage().show(trainer())


# ----------------------------------------------------------------------------------------------------- the command line


def test_a_port_in_use_is_one_line(tmp_path, capsys):
    folder = write(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["train", str(folder), "--live", str(port)]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"fastcnn train: --live {port}: port {port} cannot be listened at: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("word", ["0", "65536", "x"])
def test_a_port_that_is_none(word, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["train", "digits", "--live", word])
    assert exit.value.code == 2
    assert "--live: expected a whole number from 1 to 65535" in capsys.readouterr().err


def test_train_live_says_its_address_in_one_line_and_has_the_same_digest(tmp_path, capsys):
    folder = write(tmp_path)
    digests = []
    for more in ([], ["--live"]):
        assert main(["train", str(folder), "--epochs", "1", *more]) == 0
        out = capsys.readouterr().out
        digests.append(out.split("Digest: ")[1])
    assert digests[0] == digests[1]
    assert len(re.findall(r"^Open http://127\.0\.0\.1:\d+/[\w-]{20,}/ in a browser .*$", out, re.MULTILINE)) == 1


def test_with_json_the_address_is_no_line_of_json(tmp_path, capsys):
    assert main(["train", str(write(tmp_path)), "--epochs", "1", "--json", "--live"]) == 0
    out, err = capsys.readouterr()
    assert all(json.loads(line) for line in out.splitlines())
    assert err.startswith("Open http://127.0.0.1:")


def test_explore_reads_images_as_an_estimator_does(tmp_path):
    images = 16 * X[:, 0].reshape(60, 64)
    classifier = fastcnn.CNNClassifier([Conv2D(4, 3), ReLU()], max_iter=1, random_state=0)
    with pytest.warns(match="Maximum iterations"):
        classifier.fit(images, y)
    fastcnn.save(classifier, tmp_path / "model.safetensors")
    np.savez(tmp_path / "data.npz", X=images.reshape(60, 8, 8), y=y)
    parser, _ = _parser()
    words = ["explore", str(tmp_path / "model.safetensors"), str(tmp_path / "data.npz")]
    opened, seen, classes = prepared(parser.parse_args(words))
    assert seen.shape == (60, 1, 8, 8)
    assert classes.tolist() == y.tolist()
    assert opened.model.predict(seen).argmax(axis=1).tolist() == classifier.predict(images).tolist()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("verb", ["explore", "train"])
def test_ctrl_c_ends_cleanly(verb, tmp_path):
    folder = write(tmp_path / "data")
    model = tmp_path / "model.safetensors"
    fastcnn.save(Sequential([Flatten(), Dense(2)]).build((1, 8, 8), random_state=0), model)
    words = ["explore", str(model), str(folder), "--json"]
    if verb == "train":
        words = ["train", str(folder), "--live", "--epochs", "1000000", "--batch-size", "20"]
    code = f"""
import signal
from fastcnn.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(main({words!r}))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        url = next(found[0] for line in process.stdout if (found := re.search(r'http://[^\s"]+', line)))
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/(.+)/", url).groups()
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        if verb == "train":  # while it pauses
            for _ in range(3000):
                body, headers = json.dumps({"action": "pause"}), {"Content-Type": "application/json"}
                connection.request("POST", f"/{token}/control", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    break
                time.sleep(0.01)
            time.sleep(0.3)
        else:
            connection.request("GET", f"/{token}/model")
            assert json.loads(connection.getresponse().read())["ready"]
        connection.close()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == ((130, "fastcnn train: interrupted\n") if verb == "train" else (0, ""))


@pytest.mark.parametrize("name", ["digits_default", "resnet20"])
def test_the_camera_guesses_as_the_model_predicts(name):
    model = getattr(fastcnn.models, name)((3, 8, 8), 4).build((3, 8, 8), random_state=0)
    digest, x = model.digest(), np.random.RandomState(1).rand(3, 3, 8, 8).astype(np.float32)
    np.testing.assert_allclose(Camera(model).guess(x), model.predict(x), rtol=1e-4, atol=1e-4)
    assert model.digest() == digest
