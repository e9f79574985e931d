"""Layers with names of their own: how they print, what messages call them, and how searches find them."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import CNNClassifier, Conv2D, Dense, Flatten, Layer, ReLU, Residual, Sequential

LAYERS = [
    kind
    for name in fastcnn.__all__
    if inspect.isclass(kind := getattr(fastcnn, name)) and issubclass(kind, Layer) and kind is not Layer
]


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_takes_a_name(kind):
    argument = inspect.signature(kind).parameters["name"]
    assert (argument.kind, argument.default) == (argument.KEYWORD_ONLY, None)


def test_a_named_layer_prints_and_is_called_by_its_name():
    layer = Conv2D(16, 3, name="first")
    assert repr(layer) == "Conv2D(16, 3, name='first')"
    assert (layer.name, Conv2D(16, 3).name) == ("first", "Conv2D")
    assert copy.deepcopy(layer).name == pickle.loads(pickle.dumps(layer)).name == "first"
    model = Sequential([layer, ReLU(), Flatten(), Dense(3, name="last")]).build((1, 8, 8), random_state=0)
    with pytest.raises(ValueError, match="first: input: expected images"):
        layer.forward(np.ones((2, 3)))
    assert next(iter(model.parameters)) == "0.filters"  # places name parameters, whatever layers are called
    assert "Conv2D first" in model.summary()
    assert "Dense last" in model.summary()


def test_names_are_words():
    for wrong in ("", "1st", "two words", "a__b", "0"):
        with pytest.raises(ValueError, match="name: expected letters, digits and single underscores"):
            ReLU(name=wrong)
    with pytest.raises(TypeError, match="name: expected a word or None; got 3"):
        Dense(3, name=3)
    with pytest.raises(AttributeError):
        ReLU().name = "other"


def test_parameters_of_named_layers_are_reached():
    layers = [Conv2D(4, 3, name="first"), Residual([Conv2D(4, 3, padding=1, name="inner")], name="block"), ReLU()]
    model = CNNClassifier(layers)
    params = model.get_params()
    assert params["layers__first__num_filters"] == params["layers__0__num_filters"] == 4
    assert params["layers__block__layers__inner__filter_size"] == (3, 3)
    model.set_params(layers__first__num_filters=8, layers__block__layers__inner__num_filters=8)
    assert [repr(layer) for layer in model.layers] == [
        "Conv2D(8, 3, name='first')", "Residual([Conv2D(8, 3, padding=1, name='inner')], name='block')", "ReLU()",
    ]  # fmt: skip
    assert layers[0].num_filters == 4
    model.set_params(layers__first__name="other", layers__1__name=None)
    assert [layer.name for layer in model.layers] == ["other", "Residual", "ReLU"]
    with pytest.raises(ValueError, match="for the layers of CNNClassifier: there are 3 layers, none"):
        model.set_params(layers__first__num_filters=8)
    twins = CNNClassifier([ReLU(name="a"), Flatten(name="a")])
    with pytest.raises(ValueError, match="there are 2 layers, 2 of that name"):
        twins.set_params(layers__a__name="b")


def test_names_are_kept_in_files(tmp_path):
    model = Sequential([Flatten(), Dense(3, name="last")], name="net").build((1, 2, 2), random_state=0)
    fastcnn.save(model, tmp_path / "model")
    assert repr(fastcnn.load(tmp_path / "model")) == repr(model)
