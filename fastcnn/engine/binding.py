"""Recorded calls on the caller's arrays: these are read and written where they lie, or copied by a kernel.

NumPy copies large arrays by the system's `memcpy`, which some processors run slowly: on Zen 3, where both arrays begin
at the same place of a page, 147 KB took 48 µs, and by a kernel 4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..jit.target import vector_set
from ..kernels import activation as kernels
from ..kernels.maps import Maps
from ..runtime.record import Call, KernelCalls, record_calls
from ..runtime.tape import Tape
from ..typing import Array, Shape
from .arrays import aligned_zeros, as_table
from .layout import Halo, Layout


class Port:
    """One end of a pass: a buffer of maps, and how they come to it from an array of the caller, or go there.

    Parameters
    ----------
    layout : Layout
    buffer : array
        Flat, of `shape[0]` images.
    shape : tuple of int
        Of the caller's arrays, (N, C, H, W) or (N, D).
    in_place : bool
        Whether the pass may use the caller's memory in place of the buffer, if its numbers lie as there.

    Attributes
    ----------
    place : array
        Flat, what stands for the caller's memory in the recorded calls: the buffer; or, if a kernel copies between the
        two, a place of its own.
    view : array
        The public view of `place`.
    strides : set of tuple of int
        Of arrays whose memory can stand for `place`. Of others, NumPy copies the numbers from or to `view`.
    """

    def __init__(self, layout: Layout, buffer: Array, shape: Shape, in_place: bool) -> None:
        self.layout, self.buffer, self.images = layout, buffer, shape[0]
        compact = replace(layout, pitch=layout.channels, halo=Halo())
        self.place, self.strides = buffer, frozenset[tuple[int, ...]]()
        is_compact = layout == compact and buffer.size == shape[0] * layout.image_size
        if layout.pitch == layout.channels and not (is_compact and in_place) and self._length():
            self.place = aligned_zeros(shape[0] * compact.image_size, buffer.dtype)
        self.copies = self.place is not buffer
        self.view = (compact if self.copies else layout).view(self.place, shape[0]).reshape(shape)
        if self.copies or (is_compact and in_place):
            like = np.empty_like(self.view)
            same = like, np.empty(shape, buffer.dtype) if compact.is_public else like
            self.strides = frozenset(array.strides for array in (self.view, *same))

    def _length(self) -> int:
        """Return how many numbers a kernel copies at a time: all, or lines; 0 if those are no whole vectors."""
        layout = self.layout
        line = layout.width * layout.channels
        whole = line * layout.height * self.images if layout.halo == Halo() else line
        return next((n for n in (whole, line) if n % vector_set().lanes(self.buffer.dtype) == 0), 0)

    def transfer(self, into_buffer: bool) -> Tape:
        """Return the recorded copy between `place` and the buffer, after which both have what the buffer had before."""
        if not self.copies:
            return Tape()
        self.view[...] = self.layout.view(self.buffer, self.images).reshape(self.view.shape)
        length = self._length()
        rows = self.place.size // length
        inside = self.layout.line_table(self.images)[:rows]  # all lines as one row: there is no halo
        own, other = Maps(self.buffer, inside), Maps(self.place, as_table(np.arange(rows) * length))
        ends = (other, own) if into_buffer else (own, other)
        return record_calls([Call(KernelCalls(), kernels.copy, (*ends, rows, length, False))])


class BoundPass:
    """One direction of a layer, recorded: from an array of the caller to a new one.

    Parameters
    ----------
    tape : Tape
        Of kernel calls only, which read the source's buffer and write the target's.
    source, target : Port
    """

    def __init__(self, tape: Tape, source: Port, target: Port) -> None:
        self.strides, self.view, self.place = source.strides, source.view, source.place
        self.dtype = source.place.dtype
        self.result, self.target = target.view, target.place
        self.writes_result = bool(target.strides)
        self.tape = source.transfer(True) + tape + target.transfer(False)  # alive: `play` has but its address
        self.play = self.tape.on([source.place, target.place])

    def __call__(self, x: Array) -> Array:
        """Return the result for an array of the source's shape."""
        if x.strides not in self.strides or x.dtype is not self.dtype or not x.flags.aligned:
            self.view[...] = x
            x = self.place
        result: Array = np.empty_like(self.result)
        if self.writes_result:
            self.play((x, result))
        else:
            self.play((x, self.target))
            result[...] = self.result
        return result
