"""A curve of any length in a few hundred points: means of equally many steps each."""

from __future__ import annotations

import math

POINTS = 400


class Curve:
    """Means of `every` steps in a row; when there are too many points, neighbours are joined.

    Attributes
    ----------
    every : int
        Steps of a point.
    points : list of tuple
        Step, mean loss, mean accuracy.
    """

    def __init__(self) -> None:
        self.every = 1
        # Points, and the first of them as JSON: one object, for a page reads them while a training joins them.
        self._rows: tuple[list[tuple[int, float, float]], list[str]] = ([], [])
        self._forget()

    @property
    def points(self) -> list[tuple[int, float, float]]:
        """Step, mean loss and mean accuracy of each point."""
        return self._rows[0]

    def _forget(self) -> None:
        self.count, self.loss, self.accuracy = 0, 0.0, 0.0

    def add(self, step: int, loss: float, accuracy: float) -> None:
        """Count a step."""
        self.count += 1
        self.loss += loss
        self.accuracy += accuracy
        if self.count >= self.every:
            self.points.append((step, self.loss / self.count, self.accuracy / self.count))
            self._forget()
            if len(self.points) >= 2 * POINTS:
                self._join()

    def _join(self) -> None:
        pairs = zip(self.points[::2], self.points[1::2], strict=True)
        self._rows = [(step, (a + c) / 2, (b + d) / 2) for (_, a, b), (step, c, d) in pairs], []
        self.every *= 2

    def as_json(self) -> bytes:
        """Return the points as JSON, with as many digits as a picture needs; null for what is not finite."""
        points, words = self._rows
        words += [f"[{step},{_short(loss)},{_short(accuracy)}]" for step, loss, accuracy in points[len(words) :]]
        return f"[{','.join(words)}]".encode()


def _short(value: float) -> str:
    return repr(float(f"{value:.5g}")) if math.isfinite(value) else "null"
