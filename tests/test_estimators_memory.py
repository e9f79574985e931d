"""What an estimator tries before a fit gives its memory back at once, without the garbage collector."""

import gc

import numpy as np
import pytest

from fastcnn import CNNClassifier, Conv2D, MaxPool2D, ReLU
from fastcnn.prediction import Predictor
from fastcnn.training.step import Program

NET = [Conv2D(4, 3), ReLU(), MaxPool2D(2)]


def held():
    """Return how many programs of steps have memory, and how many predictors there are."""
    things = gc.get_objects()  # by `type`: `isinstance` asks things for attributes, and some of other libraries warn
    programs = [thing for thing in things if type(thing) is Program and (thing.steps or thing.workspaces)]
    return len(programs), sum(type(thing) is Predictor for thing in things)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_tried_networks_and_all_lengths_of_batches_give_their_memory_back():
    """66 images are trained in batches of 8 and a last one of 2: each length has a program of its own."""
    X, y = np.random.RandomState(0).random_sample((66, 1, 16, 16)), np.arange(66) % 2
    gc.collect()
    before = held()
    gc.disable()
    try:
        CNNClassifier(NET, max_iter=2, random_state=0).fit(X, y)
        assert held() == before
    finally:
        gc.enable()
