"""fastcnn's training step."""

from __future__ import annotations

import itertools

import fastcnn
from fastcnn import SGD, Sequential, Trainer

from ..networks import LEARNING_RATE, Network, batches, initial_parameters
from ..timing import Side, threads_text


def make(network: Network, threads: int) -> Side:
    """Return the step of the `Trainer`, which takes the arrays as a user has them: NCHW, not converted beforehand."""
    model = Sequential([getattr(fastcnn, kind)(**arguments) for kind, arguments in network.layers])
    model.build(network.input_shape, random_state=0)
    for key, value in initial_parameters(network).items():
        model.parameters[key][...] = value
    sgd = SGD(learning_rate=LEARNING_RATE)
    trainer = Trainer(model, loss="cross_entropy", optimizer=sgd, threads=threads)
    supply = itertools.cycle(batches(network))
    return Side(f"fastcnn, {threads_text(threads)}", lambda: trainer.step(*next(supply)), threads)
