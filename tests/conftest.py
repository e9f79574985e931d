"""Every test begins alike; and guarded buffers for those of kernels."""

import os
import signal

import numpy as np
import pytest

import fastcnn
from tests.guards import Guards
from tests.processes import SETTINGS
from tests.vector_sets import report

# A process of several that share out the suite ignores Ctrl-C, which some tests send to themselves.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests say themselves how many threads they want; where they do not, all processors, whatever BLAS is limited to.
os.environ["FASTCNN_NUM_THREADS"] = SETTINGS["FASTCNN_NUM_THREADS"]


@pytest.fixture(autouse=True)
def _same_start():
    """NumPy's global generator, which `random_state=None` draws from, and the number of threads."""
    np.random.seed(0)
    yield
    fastcnn.set_num_threads(None)


@pytest.fixture
def guards():
    """Hand out buffers between guard words, which must stand in the end."""
    guards = Guards()
    yield guards
    guards.check()


def pytest_terminal_summary(terminalreporter):
    """Say under which vector set the tests ran, and which could not; the last line is pytest's own."""
    terminalreporter.write_line(report())
