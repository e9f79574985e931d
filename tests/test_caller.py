"""Warnings name the line from which fastcnn is called, however deep inside they arise."""

import threading
import warnings

import numpy as np

import fastcnn
from fastcnn import caller


def within(depth, module):
    """Return a function that warns through so many frames of a module."""
    frames = {"__name__": module, "warn": caller.warn}
    exec("def inner(depth):\n    return inner(depth - 1) if depth else warn('w', RuntimeWarning)\n", frames)
    return lambda: frames["inner"](depth)


def warned(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    (one,) = found
    return one


def test_frames_of_fastcnn_and_scikit_learn_are_left_out():
    for depth in (0, 1, 7):
        for module in ("fastcnn.estimators.base", "sklearn.base", "fastcnn"):
            found = warned(within(depth, module))
            assert (found.filename, found.category) == (__file__, RuntimeWarning)
    assert warned(within(1, "fastcnnx")).filename != __file__  # somebody else's, though it begins alike


def test_where_all_frames_are_inner_the_outermost_is_named():
    """A thread may run a function of ours from its first frame on: there is always a line to name."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        thread = threading.Thread(target=within(2, "fastcnn.live"))
        thread.start()
        thread.join()
    assert len(found) == 1


def test_what_a_file_cannot_keep_is_told_at_the_call_of_save(tmp_path):
    X, y = np.random.RandomState(0).random_sample((40, 8, 8)), np.arange(40) % 2
    model = fastcnn.CNNClassifier([fastcnn.Conv2D(2, 3)], max_iter=1, random_state=0, schedule=lambda step: 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    found = warned(lambda: fastcnn.save(model, tmp_path / "model.safetensors"))
    assert found.filename == __file__
    assert "schedule" in str(found.message)
