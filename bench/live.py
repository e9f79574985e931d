"""What the live page costs: ``python -m bench.live``. The same fit with and without a page that a client watches.

The client is another process, as a browser is: it reads the events and counts those that bring feature maps. Its
processor time is not the page's, but it has to run somewhere: on two cores, train with one thread (`--threads 1`) to
see what the page itself takes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

from fastcnn import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import hold_out, load_digits
from fastcnn.live import LivePage

from .timing import about, table

WATCH = """
import sys, urllib.request
frames = 0
with urllib.request.urlopen(sys.argv[1]) as events:
    print("reading", flush=True)
    for line in events:
        frames += line.startswith(b"event: frame")
        if line.startswith(b"event: closed"):
            break
print(frames)
"""
NET = [
    *(Conv2D(32, 3, padding=1), BatchNorm(), ReLU(), Conv2D(32, 3, padding=1), BatchNorm(), ReLU(), MaxPool2D(2)),
    *(Flatten(), Dense(10)),
]


class Fit:
    """A network that is trained on the digits for some epochs, again and again."""

    def __init__(self, epochs: int, threads: int | None) -> None:
        self.epochs, self.threads = epochs, threads
        self.x, self.x_test, self.y, self.y_test = hold_out(*load_digits())

    def _trainer(self) -> Trainer:
        trainer = Trainer(Sequential([layer.copy() for layer in NET]), threads=self.threads, random_state=0)
        trainer.fit(self.x, self.y, epochs=2, batch_size=32, verbose=0)  # kernels are loaded, steps recorded
        return trainer

    def alone(self) -> float:
        """Return the seconds of a fit without a page."""
        trainer = self._trainer()
        start = time.perf_counter()
        trainer.fit(self.x, self.y, epochs=self.epochs, batch_size=32, verbose=0)
        return time.perf_counter() - start

    def watched(self) -> tuple[float, float]:
        """Return the seconds of a fit with a page that is watched, and the frames in each of them."""
        trainer = self._trainer()
        with LivePage(self.x_test, self.y_test) as page:
            command = [sys.executable, "-c", WATCH, f"{page.url}events?client=bench"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
                assert client.stdout is not None
                client.stdout.readline()
                start = time.perf_counter()
                trainer.fit(self.x, self.y, epochs=self.epochs, batch_size=32, verbose=0, callbacks=[page])
                seconds = time.perf_counter() - start
                page.close()
                frames = int(client.stdout.readline())
        return seconds, frames / seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=100, help="of a fit")
    parser.add_argument("--rounds", type=int, default=5, help="each has a fit without the page and one with it")
    parser.add_argument("--threads", type=int, help="of the training")
    arguments = parser.parse_args()
    print(about("bench.live", ("numpy", "numba")))
    fit = Fit(arguments.epochs, arguments.threads)
    rounds = [(fit.alone(), *fit.watched()) for _ in range(arguments.rounds)]
    rows = [[f"{a:.2f}", f"{b:.2f}", f"{b / a - 1:+.1%}", f"{frames:.1f}"] for a, b, frames in rounds]
    print(table(["without, s", "with, s", "slower by", "frames/s"], rows))
    print(f"\nmedian: slower by {median(b / a - 1 for a, b, _ in rounds):+.1%}")


if __name__ == "__main__":
    main()
