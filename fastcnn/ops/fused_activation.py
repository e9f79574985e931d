"""An activation behind an operation, in the same pass: computed while what the operation has written is in the caches.

The operation goes through its images a few at a time, and each time the activation follows, in place where its slope
can be told from its output. Backward it turns the gradient of the output into that of its input, in place.
"""

from __future__ import annotations

from collections.abc import Callable

from ..engine.ir import Plan
from ..jit.target import COMMON
from ..kernels.maps import Maps
from ..typing import Array
from .epilogue import Activation

FITTING = COMMON.second // 2  # bytes of an output that are in the second-level cache beside what they are computed from


class FusedActivation:
    """An activation, bound to the layout of the value `y` that it writes.

    Attributes
    ----------
    saves_input : bool
        Whether backward reads what the operation has written, and not the output.
    """

    def __init__(self, activation: Activation, plan: Plan, y: int) -> None:
        layout, gradient = plan.values[y], plan.gradients[y]
        self.formula, self.layout, self.dtype, self.images = activation.formula, layout, plan.dtype, plan.images
        self.constants = tuple(plan.dtype.type(constant) for constant in activation.constants)
        self.saves_input = plan.training and not self.formula.of_output
        self.y_row = layout.line_table(plan.images)
        self.dy_row = gradient.line_table(plan.images) if gradient else None
        self.lines, self.length = layout.height, layout.width * layout.pitch
        self.at_once = max(1, FITTING // (layout.common_size * plan.dtype.itemsize))

    def allocate(self) -> Array | None:
        """Return where the operation writes, if that is saved."""
        return self.layout.allocate(self.images, self.dtype) if self.saves_input else None

    def saved_from(self, saved: Array | None, image: int) -> Array | None:
        """Return what is saved from an image on."""
        return None if saved is None else saved[image * self.layout.image_size :]

    def forward(self, n: int, y: Array, saved: Array | None, compute: Callable[[int, int, Array], None]) -> None:
        """y = the activation of what `compute(first, count, out)` writes for each few images."""
        written = y if saved is None else saved
        for first in range(0, n, self.at_once):
            count, begin = min(self.at_once, n - first), first * self.layout.image_size
            compute(first, count, written[begin:])
            self.formula.forward(
                Maps(written[begin:], self.y_row), Maps(y[begin:], self.y_row), count * self.lines, self.length,
                *self.constants, False,
            )  # fmt: skip

    def backward(self, n: int, y: Array, saved: Array | None, dy: Array) -> None:
        """dy = dy times the slope."""
        gradient = Maps(dy, self.dy_row)
        self.formula.backward(
            Maps(y if saved is None else saved, self.y_row), gradient, gradient, n * self.lines, self.length,
            *self.constants, False,
        )  # fmt: skip
