"""What all browsers of a page see: their views, the frames for them, and what they ask a training to do."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import maps
from ..explain.activation import softmax
from ..explain.network import Loops
from ..layers.activation import SoftmaxActivation
from ..layers.dense import Softmax
from ..losses import CrossEntropy
from ..model import Sequential
from ..typing import Array
from .camera import CHUNK, Camera
from .curves import Curve
from .frames import LARGEST, THUMBNAIL, as_json, as_text, packed
from .guesses import Guesses
from .twin import Twin

if TYPE_CHECKING:
    from ..training.callbacks import Run
    from .samples import ShownSamples

RATE = 1 / 12  # seconds between two frames, at least
SOON = 0.002  # seconds until the training thread looks again whether the last frames are made
SHARE = 0.01  # of the time of a training that frames may take; beyond, there are fewer
SLOW = 0.5  # seconds between two looks at the curves and the confusion matrix; twice that in a training
SHARE_OF_CONFUSION = 0.003  # of the time of a training that guesses of held-out images may take
OFTEN = 0.2  # seconds between two guesses of held-out images, at least
QUIET = 0.4  # seconds without a frame after which the threads of the browsers make one: a validation may go on
VIEWS = 200  # browsers whose views are remembered


@dataclass(frozen=True)
class Focus:
    """What a browser looks at: an image of the samples, or one that was drawn; and a layer."""

    image: int = 0
    drawn: tuple[float, ...] | None = None
    layer: str = ""
    first: int = 0


class Client:
    """A browser that listens: the last frame for it, and the number of that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frame, self.slow = b"", b""
        self.number = 0


class Studio:
    """The state of a page.

    Attributes
    ----------
    state : {"waiting", "training", "paused", "ended", "exploring"}
    idle : bool
        Whether no training thread makes the frames: those of the browsers do, when something changes.
    """

    def __init__(self, samples: ShownSamples) -> None:
        self.samples = samples
        self.model: Sequential | None = None
        self.run: Run | None = None
        self.count = 0  # of classes; 0 for a model of numbers
        self.state = "waiting"
        self.changed = threading.Condition()  # of clients, commands and frames
        self.making = threading.Lock()  # one frame at a time
        self.clients: list[Client] = []
        self.views: OrderedDict[str, Focus] = OrderedDict()
        self.commands: deque[dict[str, Any]] = deque()
        self.curve = Curve()
        self.twin: Twin | None = None  # what frames are made of
        self.camera: Camera | None = None
        self.status: dict[str, Any] = {}  # of the twin's moment
        self.offered = False  # whether the twin has weights that no frame was made of yet
        self.due = self.slow_due = self.confusion_due = self.made = 0.0
        self.images_per_second, self._seen = 0.0, (0.0, 0)
        # The least of the last few: where others use the machine too, a frame takes longer, and a step as well.
        self.costs: deque[float] = deque(maxlen=8)
        self.closed = False
        self.guesses, self._ends = Guesses(samples, 0), list[int]()

    @property
    def idle(self) -> bool:
        """Whether no thread trains."""
        return self.state != "training"

    # Browsers.

    def connect(self, name: str) -> Client:
        """Let a browser listen."""
        client = Client(name)
        with self.changed:
            self.clients.append(client)
            self.due = self.slow_due = 0.0
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a browser that has gone."""
        with self.changed:
            if client in self.clients:
                self.clients.remove(client)

    def view(self, name: str) -> Focus:
        """Return what a browser looks at."""
        with self.changed:
            return self.views.get(name) or Focus(layer=self._first_layer())

    def look(self, name: str, **wanted: Any) -> None:
        """Let a browser look at something else."""
        view = replace(self.view(name), **wanted)
        with self.changed:
            self.views[name] = view
            self.views.move_to_end(name)
            while len(self.views) > VIEWS:
                self.views.popitem(last=False)
            self.due = 0.0
        if self.idle:
            self.make_frames()

    def _first_layer(self) -> str:
        return "0" if self.model is not None else ""

    def ask(self, command: dict[str, Any]) -> None:
        """Hand a command to the thread that trains."""
        with self.changed:
            self.commands.append(command)
            self.changed.notify_all()

    def sample(self, view: Focus) -> Array:
        """Return the sample that a view is of."""
        assert self.model is not None
        assert self.model.input_shape is not None
        shape = self.model.input_shape
        if view.drawn is not None:
            return self.samples.drawn(view.drawn, shape)
        if not len(self.samples):
            return np.zeros(shape)
        return np.asarray(self.samples.x(view.image % len(self.samples))).reshape(shape)

    def target(self, view: Focus) -> int | None:
        """Return the class of the sample, if it is known."""
        if view.drawn is not None or not len(self.samples):
            return None
        return self.samples.target(view.image % len(self.samples))

    # Frames.

    def make_frames(self, wait: float = 0.0) -> None:
        """Make what is due for all browsers, of this moment; nothing while another thread makes it for so long."""
        if self.model is None or self.model.input_shape is None or not self.making.acquire(timeout=wait):
            return
        try:
            with self.model._lock:  # for as long as the frames take, where the model is its own twin
                self._take()
                if not self._shown.is_copy:
                    self._make()
            if self._shown.is_copy:
                self._make()
        finally:
            self.making.release()

    def offer(self) -> None:
        """Take in the weights between two steps, in the thread that trains; threads of browsers make the frames."""
        if self.model is None or self.twin is None or not self.twin.is_of(self.model) or not self.twin.is_copy:
            self.make_frames()  # the first ones, or all
        elif self.making.acquire(blocking=False):
            try:
                with self.model._lock:
                    self._take()
                self.due = math.inf  # until they are made
            finally:
                self.making.release()
            with self.changed:
                self.offered = True
                self.changed.notify_all()
        else:
            self.due = time.perf_counter() + SOON

    def make_offered(self) -> None:
        """Make frames of the weights that the training thread has left, in the thread of a browser."""
        with self.changed:
            if not self.offered:
                return
            self.offered = False
        with self.making:
            if self.twin is not None and self.model is not None and self.twin.is_of(self.model):
                self._make()
            else:  # built anew meanwhile
                self.due = 0.0

    @property
    def _shown(self) -> Twin:
        assert self.twin is not None
        return self.twin

    def _take(self) -> None:
        """Take in what a frame shows of this moment; the caller holds the locks of frames and of the model."""
        assert self.model is not None
        if self.twin is None or not self.twin.is_of(self.model):
            self.twin = Twin(self.model)
        self.twin.take()
        self.status = self._status()

    def _make(self) -> None:
        """Make what is due for all browsers; each view is computed once, however many look at it."""
        began, cost = time.perf_counter(), time.thread_time()
        with self.changed:
            clients = list(self.clients)
            views = [self.views.get(client.name) or Focus(layer=self._first_layer()) for client in clients]
        frames: dict[Focus, bytes] = {}
        for view in views:
            if view not in frames:
                frames[view] = self._frame(view)
        if clients and began >= self.confusion_due:
            self._grow_confusion()
        slow = self._slow(began) if clients and began >= self.slow_due else b""
        with self.changed:
            for client, view in zip(clients, views, strict=True):
                client.frame, client.slow = frames[view], slow or client.slow
                client.number += 1
            self.changed.notify_all()
        self.made = time.perf_counter()
        self.costs.append(time.thread_time() - cost)
        wanted = min(self.costs) / SHARE if len(self.costs) > 3 else 0.0  # the first ones make tables
        self.due = self.made + max(RATE - (self.made - began), wanted, 0.0)

    def tick(self) -> None:
        """Make frames in the thread of a browser, if no step has made them in time."""
        now = time.perf_counter()
        if (self.idle and now >= self.slow_due) or now - self.made > QUIET:
            self.make_frames()

    def _frame(self, view: Focus) -> bytes:
        x = self.sample(view)
        taken = self._camera().take(x)
        shown = {
            name: packed(output, *((LARGEST, view.first) if name == view.layer else (THUMBNAIL, 0)))
            for name, output in taken.items()
        }
        layers = maps.places(self._shown.model)
        weights = self._weights(layers[view.layer], view) if view.layer in layers else {}
        output = taken[str(len(self._shown.model.layers) - 1)]
        about = as_json({
            **self.status, "output": self._chances(output), "target": self.target(view), "image": view.image,
            "drawn": view.drawn is not None, "layer": view.layer,
        })  # fmt: skip
        parts = {
            "input": as_text({"": packed(x, 3 * LARGEST)})[4:-1],
            "maps": as_text(shown),
            "weights": as_text(weights),
        }
        return about[:-1] + "".join(f',"{name}":{text}' for name, text in parts.items()).encode() + b"}"

    def _camera(self) -> Camera:
        """Return the camera of the model that is shown."""
        if self.camera is None or self.camera.model is not self._shown.model:
            self.camera = Camera(self._shown.model)
        return self.camera

    def _weights(self, layer: Any, view: Focus) -> dict[str, Any]:
        """Return the parameters of a layer; dense ones node by node."""
        if hasattr(layer, "_children"):
            return {}
        found = {}
        for name, array in layer.parameters.items():
            columns = name == "weights" and array.ndim == 2
            shown = array.T if columns else array.reshape((1,) * (2 - min(array.ndim, 2)) + array.shape)
            found[name] = {**packed(shown, LARGEST, view.first if array.ndim > 1 else 0), "columns": columns}
        return found

    def _chances(self, output: Array) -> list[float]:
        """Return probabilities of classes, or the numbers of a model that has none."""
        assert self.model is not None
        if output.ndim != 1 or not np.isfinite(output).all():
            return []
        is_softmax = isinstance(self.model.layers[-1], Softmax | SoftmaxActivation)
        chances = output if is_softmax or not self.has_classes else softmax(output[None].astype(np.float64))[0]
        return [float(f"{value:.6g}") for value in chances[:1000].tolist()]

    @property
    def has_classes(self) -> bool:
        """Whether the model tells classes apart."""
        return self.count > 0

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        names = self.samples.names
        return names if names is not None and len(names) == self.count else [str(k) for k in range(self.count)]

    def begin(self, model: Sequential, run: Run | None, state: str) -> None:
        """Show a built model, with or without a run that trains it; begin with new curves."""
        assert model.input_shape is not None
        shape = model.output_shape(model.input_shape)
        tells = len(shape) == 1 and (run is None or isinstance(run.trainer.loss, CrossEntropy))
        with self.making:
            self.model, self.run, self.state = model, run, state
            self.count = shape[0] if tells else 0
            self.curve = Curve()
            self.due = self.slow_due = self.confusion_due = 0.0
            self._seen = 0.0, 0
            self.guesses, self._ends = Guesses(self.samples, self.count), []

    def _status(self) -> dict[str, Any]:
        run = self.run
        if run is None:
            return {"state": self.state}
        now = time.perf_counter()
        then, images = self._seen
        if now - then > SLOW:
            if then and run.images >= images:
                self.images_per_second = (run.images - images) / (now - then)
            self._seen = now, run.images
        return {
            "state": self.state, "epoch": run.epoch, "step": run.step, "loss": float(run.loss),
            "accuracy": float(run.accuracy), "rate": float(run.trainer.optimizer.learning_rate),
            "scheduled": run.trainer.schedule is not None,
            "images_per_second": 0.0 if self.state != "training" else self.images_per_second,
        }  # fmt: skip

    def _slow(self, now: float) -> bytes:
        """Return curves and confusion matrix, which a page needs less often."""
        self.slow_due = now + (2 * SLOW if self.state == "training" else SLOW)
        epochs = [] if self.run is None else self.run.history.epochs
        words = as_json({
            "confusion": self.guesses.matrix.tolist(),
            "guessed": self.guesses.made,
            "held_out": 0 if self.samples.y is None else len(self.samples.y),
            "epochs": [[self._ends[k] if k < len(self._ends) else None, each.loss, each.val_loss, each.accuracy,
                        each.val_accuracy] for k, each in enumerate(epochs)][-500:],
        })  # fmt: skip
        return b'{"curve":' + self.curve.as_json() + b"," + words[1:]

    def note_epoch(self, step: int) -> None:
        """Note at which step an epoch has ended."""
        self._ends.append(step)

    def _grow_confusion(self) -> None:
        """Guess the classes of a few more held-out images; the longer that took, the later come the next ones."""
        if not self.guesses.are_possible:
            return
        began = time.perf_counter()
        chunk = self.camera.chunk if self.camera is not None and self.state == "training" else 8 * CHUNK
        self.guesses.grow(self._guess, chunk)
        now = time.perf_counter()
        self.confusion_due = now + max(OFTEN, (now - began) / SHARE_OF_CONFUSION if self.state == "training" else 0.0)

    def _guess(self, x: Array) -> Array:
        """Return the outputs for images: in a training by the camera, since `predict` would pack all weights anew."""
        assert self.model is not None
        assert self.model.input_shape is not None
        images = x.reshape(-1, *self.model.input_shape)
        if self.camera is None or self.state != "training":
            return self.model.predict(images, threads=1)
        return self.camera.guess(images)

    # Questions.

    def describe(self) -> dict[str, Any]:
        """Return what the page is built from."""
        model = self.model
        if model is None or model.input_shape is None:
            return {"ready": False}
        shapes = maps.shapes(model)
        layers = [
            {
                "path": place, "call": repr(layer), "kind": type(layer).__name__, "shape": shapes[place],
                "parameters": {name: array.shape for name, array in layer.parameters.items()}
                if not hasattr(layer, "_children") else {},
            }
            for place, layer in maps.places(model).items()
        ]  # fmt: skip
        sources = {path: loop.source for path, loop in self._loops().paths.items()}
        return {
            "ready": True, "layers": layers, "sources": sources, "input": model.input_shape, "classes": self.classes,
            "images": len(self.samples), "dtype": str(model._flat.dtype), "low": self.samples.low,
            "high": self.samples.high, "trains": self.run is not None,
        }  # fmt: skip

    def _loops(self) -> Loops:
        if self.model is None or self.model.input_shape is None:
            raise ValueError("the network is not built yet: its first batch has not come")
        return Loops(self.model)

    def explain(self, view: Focus, layer: str, at: Sequence[int]) -> dict[str, Any]:
        """Return the sum behind a number of a map, and what the engine has there."""
        loops, taken, step = self._snapshot(view)
        loops.forward(self.sample(view))
        found = loops.explain(layer, at)
        engine = float(taken[layer][found.at]) if layer in taken else None
        return {**found.as_dict(), "engine": engine, "step": step}

    def explain_gradient(self, view: Focus, parameter: str, index: Sequence[int], target: Any) -> dict[str, Any]:
        """Return the sum behind the gradient of a weight, for the sample of a view."""
        loops, _, step = self._snapshot(view)
        loss = None if self.run is None else self.run.trainer.loss
        y = self.target(view) if target is None else target
        if y is None and self.has_classes:
            raise ValueError("target: a gradient belongs to a class: say what the drawing shall be")
        if y is None:
            raise ValueError("target: this network gives numbers, and the page knows no target of the image")
        loops.forward(self.sample(view))
        loops.backward(y, loss)
        found = loops.explain_gradient(parameter, index)
        path, _, name = parameter.rpartition(".")
        weight = float(loops.paths[path].parameters[name][found.at])
        return {**found.as_dict(), "weight": weight, "target": y, "step": step}

    def _snapshot(self, view: Focus) -> tuple[Loops, dict[str, Array], int]:
        """Return the network as it is between two steps, and the engine's maps of the same moment."""
        with self.making:
            if self.model is None:
                raise ValueError("there is no network yet")
            with self.model._lock:
                self._take()
                loops, step = self._loops(), 0 if self.run is None else self.run.step
                if not self._shown.is_copy:
                    return loops, self._camera().take(self.sample(view)), step
            return loops, self._camera().take(self.sample(view)), step
