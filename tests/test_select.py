"""Which implementation a convolution gets: by its shapes alone, where each was measured to pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fastcnn.ops.convolution.direct import Direct
from fastcnn.ops.convolution.select import Problem, select
from fastcnn.ops.convolution.winograd import Winograd, Winograd4
from fastcnn.ops.epilogue import Epilogue
from fastcnn.ops.window import resolve_window


def problem(channels, filters, size, window=3, stride=1, padding=1):
    found = resolve_window("test", (size, size), (window, window), (stride, stride), (1, 1), (padding, padding))
    return Problem(found, channels, filters, 1, np.dtype(np.float32))


# Measured ratios to direct are beside them: F(2 x 2), F(4 x 4).
MEASURED = [
    (24, 24, 16, Winograd4),  # 1.43, 1.99
    (40, 40, 16, Winograd4),  # 1.53, 1.93
    (100, 100, 8, Winograd4),  # 1.64, 1.61
    (12, 12, 16, Winograd4),  # 1.12, 1.60
    (24, 24, 6, Winograd),  # 1.45, 1.21
    (48, 96, 10, Winograd4),  # 1.81, 2.19
    (24, 24, 3, Winograd4),  # 0.98, 1.26
    (64, 64, 3, Winograd4),  # 1.05, 1.15; with 64 images 1.20, 1.78
    (64, 64, 5, Winograd),
    (8, 8, 3, Direct),
    (16, 16, 16, Winograd4),  # 1.29, 1.81
]


@pytest.mark.parametrize(("channels", "filters", "size", "expected"), MEASURED)
def test_3x3_windows_take_what_was_measured_to_pay(channels, filters, size, expected):
    assert select(problem(channels, filters, size)) is expected


# With their transforms, for 1, 2 and 4 images: microseconds of direct, F(2 x 2) and F(4 x 4) are beside them.
FEW_IMAGES = [
    (240, 240, 8, 1, Winograd),  # 2192, 1763, 4149
    (240, 240, 2, 2, Direct),
    (77, 77, 6, 1, Direct),  # 172, 181, 287
    (144, 144, 8, 2, Winograd),  # 1501, 946, 1100
    (77, 77, 28, 1, Winograd4),  # 2714, 1457, 968
    (144, 144, 8, 4, Winograd),  # 3020, 1684, 2022
]


@pytest.mark.parametrize(("channels", "filters", "size", "images", "expected"), FEW_IMAGES)
def test_few_images_do_not_repay_the_transforms_of_many_filters(channels, filters, size, images, expected):
    assert select(replace(problem(channels, filters, size), images=images)) is expected


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_convolved_directly(channels):
    assert select(problem(channels, 64, 32)) is Direct


def test_other_windows_and_strides_are_direct():
    assert select(problem(24, 24, 16, window=4, padding=2)) is Direct
    assert select(problem(24, 24, 16, window=9, padding=4)) is Direct
    assert select(problem(24, 24, 16, stride=2)) is Direct
    assert select(problem(24, 24, 16, window=5, padding=2, stride=2)) is Direct


# Ratios to direct of forward and both gradients together are beside them.
FIVE = [
    (112, 29, 16, 16, Winograd),  # 2.0
    (64, 64, 16, 16, Winograd),  # 2.3
    (12, 12, 16, 16, Winograd),  # 1.32
    (64, 64, 7, 16, Winograd),  # 1.32
    (8, 8, 28, 16, Direct),  # 1.00
    (6, 16, 14, 32, Winograd),  # 1.13
    (6, 8, 14, 16, Direct),
    (1, 64, 28, 32, Direct),
    (128, 128, 8, 1, Direct),  # 0.73
    (200, 100, 12, 8, Winograd),  # 2.9
]


@pytest.mark.parametrize(("channels", "filters", "size", "images", "expected"), FIVE)
def test_5x5_windows_take_what_was_measured_to_pay(channels, filters, size, images, expected):
    assert select(replace(problem(channels, filters, size, window=5, padding=2), images=images)) is expected


SEVEN = [
    (64, 64, 16, 8, Winograd),  # 2.0
    (12, 12, 16, 16, Winograd),  # 1.35
    (16, 16, 16, 16, Winograd),  # 1.39
    (64, 64, 8, 1, Direct),
    (32, 32, 4, 16, Direct),
    (5, 5, 16, 16, Direct),  # 1.03
    (4, 128, 11, 16, Winograd),  # 1.5, without an input gradient
    (3, 133, 39, 2, Winograd),  # 1.5, the same
    (2, 128, 11, 16, Direct),
]


@pytest.mark.parametrize(("channels", "filters", "size", "images", "expected"), SEVEN)
def test_7x7_windows_take_what_was_measured_to_pay(channels, filters, size, images, expected):
    assert select(replace(problem(channels, filters, size, window=7, padding=3), images=images)) is expected


def test_the_second_layer_of_lenet_is_direct():
    second = problem(6, 16, 14, window=5, padding=0)
    assert select(replace(second, epilogue=Epilogue(clamp_min=0, pool="first"))) is Direct


@pytest.mark.parametrize("window", [5, 7])
def test_larger_windows_have_one_algorithm_of_winograd(window):
    for name in ("winograd", "winograd4"):
        assert select(replace(problem(5, 5, 4, window=window, padding=3), algorithm=name)) is Winograd


def test_a_pooling_behind_it_makes_direct_cheaper():
    """Gradients from the winners alone: where Winograd gains little, it gains nothing there."""
    alone = problem(12, 12, 10)
    assert select(alone) is not Direct
    assert select(replace(alone, epilogue=Epilogue(clamp_min=0, pool="first"))) is Direct


def test_what_is_asked_for_is_what_one_gets():
    for name, expected in (("direct", Direct), ("winograd", Winograd), ("winograd4", Winograd4)):
        assert select(replace(problem(24, 24, 3), algorithm=name)) is expected
