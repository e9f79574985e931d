"""fastcnn's training step."""

from __future__ import annotations

import itertools
from typing import Any

import fastcnn
from fastcnn import SGD, Sequential, Trainer

from ..networks import (
    LEARNING_RATE,
    Layer,
    Network,
    batches,
    initial_parameters,
    predicted_images,
    running_statistics,
)
from ..timing import Side, threads_text


def make(network: Network, threads: int) -> Side:
    """Return the step of the `Trainer`, which takes the arrays as a user has them: NCHW, not converted beforehand."""
    model = model_of(network)
    sgd = SGD(learning_rate=LEARNING_RATE)
    trainer = Trainer(model, loss="cross_entropy", optimizer=sgd, threads=threads)
    supply = itertools.cycle(batches(network))
    return Side(f"fastcnn, {threads_text(threads)}", lambda: trainer.step(*next(supply)), threads)


def predictor(network: Network, threads: int) -> Side:
    """Return `predict` of a batch, NCHW."""
    model, images = model_of(network), predicted_images(network)
    for key, value in running_statistics(network).items():
        model._state()[key][...] = value
    return Side(f"fastcnn, {threads_text(threads)}", lambda: model.predict(images, threads=threads), threads)


def model_of(network: Network) -> Sequential:
    """Return the network with the initial parameters."""
    model = Sequential([_layer(layer) for layer in network.layers]).build(network.input_shape, random_state=0)
    for key, value in initial_parameters(network).items():
        model.parameters[key][...] = value
    return model


def _layer(layer: Layer) -> Any:
    arguments = dict(layer.arguments)
    if "layers" in arguments:
        arguments["layers"] = [_layer(inner) for inner in arguments["layers"]]
    return getattr(fastcnn, layer.kind)(**arguments)
