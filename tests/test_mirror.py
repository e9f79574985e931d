"""The mirror: each twin has the same name, the same arguments and the same parameters on both sides."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastcnn
import reference
from tests.cases import LAYER_CASES

TWINS = sorted(
    name
    for name in set(fastcnn.__all__) & set(reference.__all__)
    if inspect.isclass(getattr(reference, name)) and not inspect.isabstract(getattr(reference, name))
)
# The reference is ahead here; the mark falls as soon as fastcnn has caught up.
AHEAD: dict[str, str] = {}


def twins(*names: str):
    return [
        pytest.param(name, marks=[pytest.mark.xfail(reason=AHEAD[name], strict=True)] if name in AHEAD else [])
        for name in names
    ]


def arguments(cls, *kinds) -> dict[str, object]:
    """Return the constructor's arguments of these kinds, in order, with their defaults."""
    return {
        name: argument.default for name, argument in inspect.signature(cls).parameters.items() if argument.kind in kinds
    }


def test_the_notebooks_classes_are_on_both_sides():
    assert {"Conv2D", "ReLU", "MaxPool2", "MaxPool2D", "Softmax", "Dense", "Flatten"} <= set(TWINS)


@pytest.mark.parametrize("name", twins(*TWINS))
def test_constructors_take_the_same_arguments(name):
    """In the same order, with the same defaults; fastcnn may have more that go by keyword only: how, not what."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    fast, ref = (arguments(getattr(module, name), positional) for module in (fastcnn, reference))
    assert list(fast.items()) == list(ref.items())
    keyword = inspect.Parameter.KEYWORD_ONLY
    fast, ref = (arguments(getattr(module, name), keyword) for module in (fastcnn, reference))
    assert ref.items() <= fast.items()
    assert inspect.Parameter.empty not in fast.values()


@pytest.mark.parametrize("case", [case for case in LAYER_CASES if case.layers <= set(TWINS)], ids=str)
def test_layers_have_the_same_parameters(case):
    fast, ref = (case.make(module).build(case.input_shape[1:]) for module in (fastcnn, reference))
    assert list(fast.parameters) == list(ref.parameters)
    for name, parameter in ref.parameters.items():
        assert fast.parameters[name].shape == parameter.shape
        if "." not in name:
            assert getattr(fast, name) is fast.parameters[name]
            setattr(fast, name, parameter + 1)
            np.testing.assert_array_equal(getattr(fast, name), parameter + 1)
    assert fast.output_shape(case.input_shape[1:]) == ref.output_shape(case.input_shape[1:])


@pytest.mark.parametrize("name", [name for name in TWINS if issubclass(getattr(reference, name), reference.Layer)])
def test_layers_speak_the_same_protocol(name):
    for method in ("forward", "backward"):
        fast, ref = (inspect.signature(getattr(getattr(module, name), method)) for module in (fastcnn, reference))
        assert list(fast.parameters) == list(ref.parameters)
    for side in (fastcnn, reference):
        assert issubclass(getattr(side, name), side.Layer)


@pytest.mark.parametrize("case", [case for case in LAYER_CASES if case.layers <= set(TWINS)], ids=str)
def test_arguments_are_kept_under_their_names(case):
    """What was asked for can be read from a layer, on both sides alike."""
    fast, ref = case.make(fastcnn), case.make(reference)
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for name in arguments(type(ref), positional):
        if name not in {"random_state", "layers", "branches", "shortcut"}:
            assert getattr(fast, name) == getattr(ref, name), name


@pytest.mark.parametrize("layer", [fastcnn.Conv2D, fastcnn.Dense, fastcnn.Softmax])
def test_random_state_none_is_numpys_global_generator(layer):
    twin = getattr(reference, layer.__name__)
    shape, given = {"Conv2D": ((2, 6, 6), (4, 3)), "Dense": ((5,), (4,)), "Softmax": ((5,), (5, 3))}[layer.__name__]
    drawn = []
    for cls in (layer, twin):
        np.random.seed(3)
        built = cls(*given)
        built.forward(np.ones((1, *shape)))
        drawn.append((built.parameters, np.random.random()))
    for name, parameter in drawn[1][0].items():
        np.testing.assert_array_equal(drawn[0][0][name], parameter)
    assert drawn[0][1] == drawn[1][1]  # as many numbers were drawn


@pytest.mark.parametrize("make", [lambda: 7, lambda: np.random.RandomState(7), lambda: np.random.default_rng(7)])
def test_random_states(make):
    fast, ref = (module.Conv2D(4, 3, random_state=make()).build((2, 6, 6)) for module in (fastcnn, reference))
    np.testing.assert_array_equal(fast.filters, ref.filters)


def test_what_the_protocol_of_the_notebook_says():
    """The signatures that code written for the notebook relies on, word by word."""
    required = inspect.Parameter.empty
    conv = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True, "random_state": None}
    expected = {
        "Conv2D": {"num_filters": required, "filter_size": required, **conv},
        "ReLU": {},
        "MaxPool2": {},
        "MaxPool2D": {"pool_size": 2, "stride": None, "padding": 0},
        "Softmax": {"input_len": required, "nodes": required, "random_state": None},
        "Dense": {"nodes": required, "bias": True, "random_state": None},
        "Flatten": {},
    }
    for name, wanted in expected.items():
        given = arguments(getattr(fastcnn, name), inspect.Parameter.POSITIONAL_OR_KEYWORD)
        assert list(given.items()) == list(wanted.items())
    assert list(inspect.signature(fastcnn.Layer.forward).parameters) == ["self", "input"]
    assert str(inspect.signature(fastcnn.Layer.backward)).startswith("(self, dL_dout: 'Any', learning_rate:")
