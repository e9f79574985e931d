"""`LivePage`: a callback that shows a training in a browser; also a page for a model that is trained already."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..model import Sequential
from ..training.callbacks import Callback, Run
from .samples import ShownSamples
from .server import Server
from .studio import Studio

if TYPE_CHECKING:
    from ..history import Epoch

WAIT = 0.2  # seconds between two looks whether a training that pauses was interrupted
PATIENCE = 1.0  # seconds to wait for the frames of another thread, where none come after these
GRACE = 3.0  # seconds that a page waits for a browser that has gone: it may reload


class LivePage(Callback):
    """A page on this machine's loopback address, for a browser: curves, filters and feature maps of a training.

    Each number of a map can be clicked for the sum behind it, each weight for its gradient; see `fastcnn.explain`. The
    page pauses a training, takes single steps, sets the learning rate and stops it. The training's numbers are the same
    with and without it, unless the learning rate is set, or the training is stopped, there.

    Parameters
    ----------
    X : array of shape (N, C, H, W) or (N, D), optional
        Images to look at, such as those that are held out; the first 2000. uint8 is scaled to [0, 1].
    y : array of length N, optional
        Their classes: the page shows the confusion matrix as it grows.
    classes : sequence of str, optional
        Names of the classes.
    port : int
        0 for a free one.

    Attributes
    ----------
    url : str
        The address, with a random word that a browser must know; only while the page is open.

    Raises
    ------
    OSError
        By `open`, if the port is in use.

    See Also
    --------
    fastcnn.explain.explain : The same sums without a browser.

    Notes
    -----
    Nothing listens before `open`, or before a `with` is entered. Who knows the address controls the training: the
    server takes requests of this machine alone, and none that another site's page sends.

    Frames are made of copies of the weights, in the threads of browsers, for at most about a hundredth of the time, and
    only while a browser is there; with layers of one's own between steps.

    Examples
    --------
    >>> from fastcnn import Conv2D, Dense, Flatten, ReLU, Sequential, Trainer
    >>> from fastcnn.data import hold_out, load_digits
    >>> from fastcnn.live import LivePage
    >>> X_train, X_test, y_train, y_test = hold_out(*load_digits())
    >>> trainer = Trainer(Sequential([Conv2D(8, 3), ReLU(), Flatten(), Dense(10)]), random_state=0)
    >>> with LivePage(X_test, y_test) as page:  # open page.url in a browser
    ...     history = trainer.fit(X_train, y_train, epochs=1, batch_size=32, callbacks=[page], verbose=0)
    """

    def __init__(self, X: Any = None, y: Any = None, *, classes: Sequence[Any] | None = None, port: int = 0) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValueError(f"LivePage: port: expected a whole number from 0 to 65535; got {port!r}")
        self.port = port
        self.studio = Studio(ShownSamples(X, y, classes))
        self.server: Server | None = None
        self._paused, self._steps = False, 0
        self._schedule: Any = None

    # The page.

    def open(self) -> Self:
        """Begin to listen, on this machine alone."""
        if self.server is None:
            self.server = Server(self.studio, self.port)
            self.server.start()
        return self

    def close(self) -> None:
        """End: browsers are told, and nothing listens any more."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address for a browser."""
        if self.server is None:
            raise RuntimeError("LivePage: url: expected a page that is open: call open(), or use `with`")
        return self.server.url

    @property
    def watched(self) -> bool:
        """Whether a browser is there."""
        return bool(self.studio.clients)

    def show(self, model: Sequential) -> Self:
        """Show a built model without a training, on a page that is open or will be, and return the page.

        Parameters
        ----------
        model : Sequential
            Built.
        """
        _expect_built(model)
        self.studio.begin(model, None, "exploring")
        return self

    def wait(self, *, while_watched: bool = False) -> None:
        """Return when the page is closed.

        Parameters
        ----------
        while_watched : bool
            Return when the last browser has gone, too; if there is none, after a few seconds.
        """
        gone = time.monotonic()
        while self.server is not None:
            if self.watched:
                gone = time.monotonic()
            elif while_watched and time.monotonic() - gone > GRACE:
                return
            time.sleep(WAIT)

    # The callback.

    def begin(self, run: Run) -> None:
        if run.trainer.model.input_shape is not None:
            self.studio.begin(run.trainer.model, run, "training")
        self._schedule = run.trainer.schedule
        self._steps = 0

    def batch(self, run: Run) -> None:
        studio = self.studio
        if studio.run is not run:  # a model that its first batch has built
            studio.begin(run.trainer.model, run, "training")
        studio.curve.add(run.step, run.loss, run.accuracy)
        if studio.commands or self._paused:
            self._obey(run)
        if studio.clients and time.perf_counter() >= studio.due:
            studio.offer()

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self.studio.note_epoch(run.step)

    def end(self, run: Run) -> None:
        self.studio.state = "ended"
        self.studio.commands.clear()
        self.studio.make_frames(PATIENCE)

    def _obey(self, run: Run) -> None:
        """Do what browsers ask for; while they want a pause, wait."""
        self._take_commands(run)
        if self._steps:
            self._steps -= 1
        studio = self.studio
        if self._paused and not self._steps:
            studio.state = "paused"
            studio.make_frames(PATIENCE)
            while self._paused and not self._steps and not run.interrupted and run.history.stopped is None:
                with studio.changed:
                    if not studio.commands:
                        studio.changed.wait(WAIT)
                self._take_commands(run)
                if self.server is None:
                    self._paused = False
            studio.state = "training"

    def _take_commands(self, run: Run) -> None:
        while self.studio.commands:
            command = self.studio.commands.popleft()
            action = command["action"]
            if action == "pause":
                self._paused, self._steps = True, 0
            elif action == "resume":
                self._paused, self._steps = False, 0
            elif action == "step":
                self._paused, self._steps = True, 1
            elif action == "stop":
                run.stop("stopped on the page")
            elif action == "rate":
                run.trainer.schedule = None
                run.trainer.optimizer.learning_rate = float(command["value"])
            elif action == "schedule":
                run.trainer.schedule = self._schedule
            if self._paused:
                self.studio.make_frames(PATIENCE)


def _expect_built(model: Any) -> None:
    """Raise unless it is a model that is built."""
    if not isinstance(model, Sequential):
        raise TypeError(f"LivePage: model: expected a Sequential; got {model!r}")
    model._expect_built("LivePage")
