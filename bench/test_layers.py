"""Single convolution layers: ``pytest bench``, one group for each direction and shape.

float32 and one thread, but for `reference`, which is float64, and JAX, which takes the threads it finds. Backward is
both gradients at once. Each side is compared with `reference` before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastcnn
import reference

from .networks import rounding


class Case(NamedTuple):
    """N images of C channels, HW pixels high and wide, and F filters of K × K."""

    N: int
    C: int
    HW: int
    F: int
    K: int

    def __str__(self) -> str:
        return "-".join(f"{name}={value}" for name, value in self._asdict().items())

    @property
    def terms(self) -> int:
        """Products in the longest of the sums."""
        return max(self.C * self.K**2, self.F * self.K**2, self.N * (self.HW - self.K + 1) ** 2)


class Arrays(NamedTuple):
    """What all sides compute from."""

    x: np.ndarray
    filters: np.ndarray
    biases: np.ndarray
    dL_dout: np.ndarray  # noqa: N815  (the notebook's word)


class Calls(NamedTuple):
    """A side's timed calls, and its results in the public layout: the output; the gradients by input and filters."""

    forward: Callable[[], Any]
    backward: Callable[[], Any]
    results: Callable[[], list[np.ndarray]]


CASES = (
    Case(N=32, C=1, HW=8, F=16, K=3),  # the notebook's
    Case(N=64, C=1, HW=28, F=6, K=5),  # LeNet-5's first
    Case(N=64, C=6, HW=14, F=16, K=5),  # and second
    Case(N=32, C=32, HW=13, F=64, K=3),  # Keras MNIST's second
)


def layer(package: ModuleType, data: Arrays, **arguments: Any) -> Calls:
    """Return the calls of a `Conv2D` of fastcnn or of its twin."""
    conv = package.Conv2D(len(data.filters), data.filters.shape[-1], **arguments)
    conv.forward(data.x)  # it knows its shapes from the first batch
    conv.filters[...], conv.biases[...] = data.filters, data.biases

    def results() -> list[np.ndarray]:
        return [conv.forward(data.x), conv.backward(data.dL_dout), conv.gradients["filters"]]

    return Calls(partial(conv.forward, data.x), partial(conv.backward, data.dL_dout), results)


def pytorch(data: Arrays) -> Calls:
    """Return PyTorch's calls."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    x, filters, biases, dL_dout = map(torch.from_numpy, data)
    forward = partial(torch.nn.functional.conv2d, x, filters, biases)
    shape = ([len(biases)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, True])
    backward = partial(torch.ops.aten.convolution_backward, dL_dout, x, filters, *shape)
    return Calls(forward, backward, lambda: [array.numpy() for array in (forward(), *backward()[:2])])


def xla(data: Arrays) -> Calls:
    """Return JAX's calls, on arrays that lie channels last beforehand."""
    jax = pytest.importorskip("jax")
    x, dL_dout = (jax.numpy.array(array.transpose(0, 2, 3, 1)) for array in (data.x, data.dL_dout))
    filters, biases = jax.numpy.array(data.filters.transpose(2, 3, 1, 0)), jax.numpy.array(data.biases)

    def conv(x: Any, filters: Any, biases: Any) -> Any:
        orders = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, filters, (1, 1), "VALID", dimension_numbers=orders) + biases

    jitted = jax.jit(conv)
    gradients = jax.jit(lambda *operands: jax.vjp(conv, *operands[:-1])[1](operands[-1]))

    def forward() -> Any:
        return jitted(x, filters, biases).block_until_ready()

    def backward() -> Any:
        return jax.block_until_ready(gradients(x, filters, biases, dL_dout))

    def results() -> list[np.ndarray]:
        output, (dL_dx, dL_dfilters, _) = forward(), backward()
        images = [np.asarray(array).transpose(0, 3, 1, 2) for array in (output, dL_dx)]
        return [*images, np.asarray(dL_dfilters).transpose(3, 2, 0, 1)]

    return Calls(forward, backward, results)


SIDES: dict[str, Callable[[Arrays], Calls]] = {
    "reference": partial(layer, reference),
    "im2col": partial(layer, fastcnn, algorithm="im2col"),
    "direct": partial(layer, fastcnn, algorithm="direct"),
    "torch": pytorch,
    "jax": xla,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_conv(benchmark: Any, direction: str, case: Case, side: str) -> None:
    rng = np.random.default_rng(0)
    out = case.HW - case.K + 1
    shapes = (case.N, case.C, case.HW, case.HW), (case.F, case.C, case.K, case.K), (case.F,), (case.N, case.F, out, out)
    data = Arrays(*(rng.standard_normal(shape, np.float32) for shape in shapes))
    calls = SIDES[side](data)
    for got, expected in zip(calls.results(), layer(reference, data).results(), strict=True):
        assert np.max(np.abs(got - expected)) <= 4 * rounding(case.terms) * np.max(np.abs(expected))
    benchmark.group = f"{direction} {case}"
    benchmark(getattr(calls, direction))
