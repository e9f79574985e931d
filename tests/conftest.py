"""Every test begins alike."""

import numpy as np
import pytest

import fastcnn


@pytest.fixture(autouse=True)
def _same_start():
    """NumPy's global generator, which `random_state=None` draws from, and the number of threads."""
    np.random.seed(0)
    yield
    fastcnn.set_num_threads(None)
