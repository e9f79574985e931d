"""`Accord`: what the ranks of a fit agree on after each step: whether it stops, and why."""

from __future__ import annotations

import signal
from types import FrameType

import numpy as np

from ..history import History
from ..ranks.communicator import Communicator
from .interrupts import Interrupts


class Accord(Interrupts):
    """Interrupts of all ranks: Ctrl-C on one rank, or a callback that stops there, ends the fit on all of them.

    `asked` changes in `meet` alone, on all ranks at once.
    """

    def __init__(self, communicator: Communicator) -> None:
        super().__init__()
        self.communicator = communicator
        self.wished = False
        communicator.interrupted = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wished = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def begin_anew(self) -> None:
        """Forget the last agreement, which not all ranks may have reached; a request to stop is kept."""
        self.wished, self.asked = self.wished or self.asked, False

    def meet(self, history: History) -> None:
        ranks = self.communicator
        flags = np.zeros((ranks.size, 2), np.uint8)
        flags[ranks.rank] = self.wished, history.stopped is not None
        ranks.gather(flags.reshape(-1), range(0, 2 * ranks.size + 1, 2))
        if flags[:, 0].any() and not self.asked:
            self.asked, ranks.interrupted = True, int(flags[:, 0].argmax())
        stopped = flags[:, 1]
        if stopped.any() and not stopped.all():
            history.stopped = ranks.words(history.stopped or "")[int(stopped.argmax())]
