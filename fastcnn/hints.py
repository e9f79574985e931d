"""What other libraries call a method or an argument, and what it is here: messages for unknown names say so."""

from __future__ import annotations

import inspect
from collections.abc import Container
from typing import Any, Self

BY_STEPS = "Trainer(model, ...).fit(X, y, epochs=10, batch_size=32) trains a model"
IN_A_LIST = "the layers are the constructor's list: Sequential([*model.copy(), layer])"
BY_NAME = "model.parameters is a dict of arrays by name"
ON_CPUS = "everything is computed by the CPU"
HINTS = {
    "Layer": {
        "weight": "convolutions have `filters`, dense layers `weights`",
        "weights": "convolutions have `filters`",
        "kernel": "convolutions have `filters`, dense layers `weights`",
        "requires_grad_": "the argument `trainable=False` freezes a layer",
        "zero_grad": "gradients are overwritten by each step, there is nothing to clear",
        "to": ON_CPUS,
        "cpu": ON_CPUS,
        "cuda": ON_CPUS,
    },
    "Sequential": {
        "fit": BY_STEPS,
        "compile": "Trainer(model, loss, optimizer) says how a model is trained",
        "train_on_batch": "Trainer(model, ...).step(x, y) takes a step",
        "evaluate": "Trainer(model).evaluate(X, y) returns loss and accuracy",
        "score": "Trainer(model).evaluate(X, y) returns loss and accuracy",
        "predict_proba": "model.predict(X) returns the outputs of the last layer",
        "predict_classes": "model.predict(X).argmax(axis=1)",
        "add": IN_A_LIST,
        "append": IN_A_LIST,
        "insert": IN_A_LIST,
        "pop": "model[:-1] is a model of the first layers",
        "children": "model.layers is the list of the layers",
        "modules": "model.layers is the list of the layers",
        "get_layer": "model[0] is the first layer",
        "named_parameters": f"{BY_NAME}: model.parameters.items()",
        "state_dict": f"{BY_NAME}; fastcnn.save(model, path) writes all",
        "load_state_dict": f"{BY_NAME}, model.parameters[name] = array sets one; fastcnn.load(path) reads a model",
        "trainable_weights": BY_NAME,
        "trainable_variables": BY_NAME,
        "count_params": "model.summary() counts the parameters",
        "save": "fastcnn.save(model, path) writes a model",
        "save_weights": "fastcnn.save(model, path) writes a model",
        "load_weights": "fastcnn.load(path) reads a model",
    },
    "Trainer": {
        "predict": "trainer.model.predict(X) returns the model's outputs",
        "train": "trainer.fit(X, y, epochs=10, batch_size=32) trains the model",
        "score": "trainer.evaluate(X, y) returns loss and accuracy",
        "save": "fastcnn.save(trainer, path) writes a trainer",
        "load": "fastcnn.load(path) reads a trainer",
        "compile": "Trainer(model, loss, optimizer) says how a model is trained",
    },
}


def no_attribute(thing: Any, name: str) -> AttributeError:
    """Return the error for a name that a thing does not have, with what the thing has instead."""
    found = [HINTS[kind.__name__][name] for kind in type(thing).__mro__ if name in HINTS.get(kind.__name__, ())]
    message = f"{type(thing).__name__!r} object has no attribute {name!r}"
    # With the last two, the interpreter says which name was meant.
    return AttributeError(f"{message}: {found[0]}" if found else message, name=name, obj=thing)


# Arguments of constructors: the first of these names that the class has, or a sentence.
ARGUMENTS: dict[str, tuple[str, ...] | str] = {
    "kernel_size": ("filter_size", "pool_size"),
    "filters": ("num_filters",),
    "out_channels": ("num_filters",),
    "units": ("nodes",),
    "out_features": ("nodes",),
    "strides": ("stride",),
    "dilation_rate": ("dilation",),
    "use_bias": ("bias",),
    "kernel_initializer": ("initializer",),
    "p": ("rate", "probability"),
    "lr": ("learning_rate", "learning_rate_init"),
    "learning_rate": ("learning_rate_init",),
    "epochs": ("max_iter",),
    "n_epochs": ("max_iter",),
    "max_epochs": ("max_iter",),
    "optimizer": ("solver",),
    "eps": ("epsilon",),
    "criterion": ("loss",),
    "weight_decay": ("alpha",),
    "seed": ("random_state",),
    "in_channels": "the channels come from the input",
    "in_features": "the number of inputs comes from the input",
    "input_dim": "the number of inputs comes from the input, or from model.build(input_shape)",
    "input_shape": "it comes from the first batch, or from model.build(input_shape)",
    "activation": "it is a layer of its own, such as ReLU() behind this one",
}


class Called:
    """A class whose constructor answers arguments of other libraries with what stands for them here."""

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        """Raise TypeError for such an argument; everything else is left to the constructor."""
        if not keywords.keys().isdisjoint(ARGUMENTS):
            own = inspect.signature(cls.__init__).parameters
            for name in keywords:
                if name not in own and (words := _instead(name, own)):
                    raise TypeError(f"{cls.__name__}.__init__() got an unexpected keyword argument {name!r}: {words}")
        return super().__new__(cls)


def _instead(name: str, own: Container[str]) -> str:
    """Return what stands for an argument in a constructor with these; nothing where there is nothing like it."""
    if "keywords" in own or "kwargs" in own:
        return ""
    found = ARGUMENTS.get(name, ())
    if isinstance(found, str):
        return found
    return next((f"its name here is {ours!r}" for ours in found if ours in own), "")
