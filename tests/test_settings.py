"""What is set after the first steps: each public attribute takes effect at the next call, or is refused."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import Dense, ExponentialMovingAverage, Flatten, Layer, Loss, Optimizer, Schedule, Sequential, Trainer
from tests.arrays import normal
from tests.cases import LAYER_CASES, LayerCase

EXPORTED = [getattr(fastcnn, name) for name in fastcnn.__all__]


def exported(base: type) -> list[type]:
    """Return the public classes that one can make an object of."""
    return [kind for kind in EXPORTED if isinstance(kind, type) and issubclass(kind, base) and kind is not base]


def arguments(kind: type) -> list[str]:
    return [*inspect.signature(kind).parameters]


def public(thing: object) -> dict[str, object]:
    """Return the public attributes that are no methods."""
    names = [name for name in dir(thing) if name[0] != "_"]
    found = {name: getattr(thing, name) for name in names if hasattr(thing, name)}
    return {name: value for name, value in found.items() if isinstance(value, type(thing)) or not callable(value)}


def other(value: object) -> object:
    """Return another value of the same kind."""
    if isinstance(value, np.ndarray):
        return value * 0 + 0.25
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return tuple(other(part) for part in value)
    return {"same": "valid", "auto": "im2col", "none": "tanh"}.get(value, 1) if isinstance(value, str) else 1


def refusal(thing: object, name: str, value: object) -> str | None:
    """Set an attribute; return the words of the error, None if it is set."""
    try:
        setattr(thing, name, value)
    except AttributeError as error:
        return str(error)
    return None


# --------------------------------------------------------------------------------------------------------------- layers

CASES = {
    type(case.make(fastcnn)): case
    for case in (*reversed(LAYER_CASES), LayerCase("softmax", (4, 6), lambda m: m.Softmax(6, 3)))
}
every_layer = pytest.mark.parametrize(
    "kind", [kind for kind in exported(Layer) if kind is not Sequential], ids=lambda kind: kind.__name__
)


def trained(kind: type) -> tuple[Trainer, np.ndarray, np.ndarray]:
    """Return a trainer after two steps of a model that begins with such a layer, and its batch."""
    case = CASES[kind]
    model = Sequential([case.make(fastcnn), Flatten(), Dense(3)]).build(case.input_shape[1:], random_state=0)
    x, y = normal(*case.input_shape), normal(len(range(case.input_shape[0])), 3)
    trainer = Trainer(model, "mean_squared_error", fastcnn.SGD(0.01))
    for _ in range(2):
        trainer.step(x, y)
    return trainer, x, y


def assert_goes_on_as_a_copy(trainer: Trainer, x: np.ndarray, y: np.ndarray) -> None:
    """Check that the next step and prediction are those of a model that has recorded nothing."""
    model = trainer.model.copy()
    fresh = Trainer(model, trainer.loss, copy.deepcopy(trainer.optimizer))
    fresh.steps = trainer.steps
    assert np.array_equal(trainer.model.predict(x), model.predict(x))
    assert trainer.step(x, y) == fresh.step(x, y)
    assert [a.tobytes() for a in trainer.model.get_weights()] == [a.tobytes() for a in model.get_weights()]
    assert np.array_equal(trainer.model.predict(x), model.predict(x))


@every_layer
def test_a_layers_attributes_are_refused_or_take_effect(kind):
    trainer, x, y = trained(kind)
    layer = trainer.model.layers[0]
    trainer.model.predict(x)
    before, refused = repr(layer), set()
    for name, value in public(layer).items():
        message = refusal(layer, name, other(value))
        if message is not None:
            assert message.startswith(f"{kind.__name__}: {name}: ")
            assert "make a new" in message or name not in arguments(kind)
            assert getattr(layer, name) is value or repr(getattr(layer, name)) == repr(value)
            refused.add(name)
        with pytest.raises((AttributeError, TypeError)):
            delattr(layer, name)
    assert {*arguments(kind), "training", "input_shape", "parameters", "gradients", "name"} <= refused
    assert repr(layer) == before
    assert_goes_on_as_a_copy(trainer, x, y)


def test_a_layer_that_is_not_built_is_refused_too():
    with pytest.raises(AttributeError, match=r"Dropout: rate: read-only, .* got 0.1: make a new Dropout"):
        fastcnn.Dropout(0.5).rate = 0.1
    with pytest.raises(AttributeError, match="MaxPool2: stride: read-only"):
        fastcnn.MaxPool2().stride = (1, 1)
    with pytest.raises(AttributeError, match="stride: read-only; it cannot be deleted"):
        del fastcnn.Conv2D(2, 3).stride


def test_names_that_no_class_knows_are_free():
    layer = fastcnn.Conv2D(2, 3)
    for note in ("first", "second"):
        layer.note = note
    assert layer.note == "second"


def test_a_layer_of_ones_own_takes_its_attributes_as_they_are():
    class Scaled(Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def _forward(self, x):
            return self.factor * x

        def _backward(self, x, y, dL_dout):
            return self.factor * dL_dout

    model = Sequential([Scaled(2.0), Flatten(), Dense(3)]).build((4,), random_state=0)
    trainer, x, y = Trainer(model), normal(5, 4), np.arange(5) % 3
    [trainer.step(x, y) for _ in range(2)]
    first = model.predict(x)
    model.layers[0].factor = 3.0
    assert not np.allclose(model.predict(x), first)
    assert_goes_on_as_a_copy(trainer, x, y)
    with pytest.raises(AttributeError, match="Scaled: parameters: read-only"):
        model.layers[0].parameters = {}


# --------------------------------------------------------------------------------------------------------------- models


def small(dtype: type = np.float32) -> Sequential:
    layers = [
        fastcnn.Conv2D(5, 3, padding=1), fastcnn.BatchNorm(), fastcnn.ReLU(), fastcnn.Dropout(0.3),
        fastcnn.Residual([fastcnn.Conv2D(5, 3, padding=1)], [fastcnn.Conv2D(5, 1)]),
        fastcnn.Concat([[fastcnn.Conv2D(2, 1)], []]), Flatten(), Dense(3),
    ]  # fmt: skip
    return Sequential(layers).build((2, 6, 6), random_state=0, dtype=dtype)


IMAGES, CLASSES = normal(12, 2, 6, 6, dtype=np.float32), np.arange(12) % 3


@pytest.mark.parametrize("change", [
    lambda row: row.append(Dense(2)), lambda row: row.extend([Dense(2)]), lambda row: row.insert(0, Dense(2)),
    lambda row: row.pop(), lambda row: row.remove(row[0]), lambda row: row.clear(), lambda row: row.reverse(),
    lambda row: row.sort(key=id), lambda row: row.__setitem__(0, Dense(2)), lambda row: row.__delitem__(0),
    lambda row: row.__iadd__([Dense(2)]), lambda row: row.__imul__(2),
])  # fmt: skip
def test_layers_cannot_be_exchanged(change):
    model = small()
    residual, concat = model.layers[4], model.layers[5]
    for row in (model.layers, residual.layers, residual.shortcut, concat.branches, concat.branches[0]):
        before = [*row]
        with pytest.raises(TypeError, match=r"layers: .* cannot be exchanged"):
            change(row)
        assert row == before
    with pytest.raises(TypeError):
        residual.rows["layers"] = []


def test_lists_of_layers_are_lists_for_all_other_purposes():
    model = small()
    assert isinstance(model.layers, list)
    assert type(model.layers[:2]) is list
    assert type(model.layers + [Dense(2)]) is list  # noqa: RUF005
    for twin in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin.layers) is type(model.layers)
        assert np.array_equal(twin.predict(IMAGES), model.predict(IMAGES))
    twin = copy.deepcopy(model)
    assert twin.layers[4].layers is twin.layers[4].rows["layers"]


@pytest.mark.parametrize("name", ["layers", "fuse", "input_shape", "parameters", "gradients", "name"])
def test_a_models_attributes_are_refused(name):
    model = small()
    with pytest.raises(AttributeError, match=f"Sequential: {name}: read-only"):
        setattr(model, name, getattr(model, name))


def test_an_array_that_is_assigned_to_a_name_is_copied_into_the_view():
    trainer = Trainer(small(), optimizer=fastcnn.SGD(0.05, 0.9))
    [trainer.step(IMAGES, CLASSES) for _ in range(3)]
    model, view = trainer.model, trainer.model.parameters["0.filters"]
    value = normal(*view.shape)
    model.parameters["0.filters"] = value
    assert model.parameters["0.filters"] is view
    assert np.array_equal(view, value.astype(np.float32))
    assert np.array_equal(model.layers[0].filters, view)
    model.parameters.update({"0.biases": np.ones(5)})
    assert (model.layers[0].biases == 1).all()
    model.layers[0].parameters["biases"] *= 2
    assert (model.parameters["0.biases"] == 2).all()
    trainer.optimizer.state["velocity"]["0.biases"] = np.full(5, 7)
    assert (trainer.optimizer.get_state()["velocity.0.biases"] == 7).all()
    assert_equal_predictions(model)


def assert_equal_predictions(model: Sequential) -> None:
    assert np.array_equal(model.predict(IMAGES), model.copy().predict(IMAGES))
    assert np.array_equal(model.predict(IMAGES[:1]), model.copy().predict(IMAGES[:1]))


def test_names_of_parameters_stay():
    trainer = Trainer(small(), ema=ExponentialMovingAverage(0.9))
    trainer.step(IMAGES, CLASSES)
    model = trainer.model
    for views in (model.parameters, model.gradients, trainer.ema.averages, model.layers[0].parameters):
        name = next(iter(views))
        for change in (
            lambda views, name: views.__delitem__(name),
            lambda views, name: views.pop(name),
            lambda views, name: views.popitem(),
            lambda views, name: views.clear(),
            lambda views, name: views.setdefault("more", 1),
        ):
            with pytest.raises(TypeError, match="none can be added or removed"):
                change(views, name)
        with pytest.raises(KeyError, match="nonsense: expected one of the names"):
            views["nonsense"] = 1
        with pytest.raises(ValueError, match=rf"{name}: expected shape .*; got shape \(\)"):
            views[name] = 1.0
        assert type(copy.deepcopy(views)) is dict
        assert not np.shares_memory(copy.deepcopy(views)[name], views[name])
    with pytest.raises(TypeError):
        trainer.ema.state["averages"] = {}


# ---------------------------------------------------------------------------------------------------------------- modes


def test_layers_of_a_built_model_are_in_its_mode():
    model = small()
    for layer in (model.layers[1], model.layers[4].layers[0]):
        for change in (layer.eval, layer.train):
            with pytest.raises(AttributeError, match=f"{layer.name}: training: read-only in a part of a built model"):
                change()
        with pytest.raises(AttributeError, match=f"{layer.name}: training: read-only in a part of a built model"):
            layer.training = False
    assert not model.eval().layers[4].layers[0].training
    assert model.layers[1].copy().train().training  # which is a part of nothing


@pytest.mark.parametrize("first", [lambda model: None, lambda model: model.train()], ids=["new", "set"])
def test_a_layer_that_was_set_to_predict_is_refused_by_a_model_that_trains(first):
    model = Sequential([Dense(4), fastcnn.Dropout(0.5), Dense(3)])
    first(model)
    model.layers[1].eval()
    with pytest.raises(ValueError, match=r"layer 1: Dropout: training: expected True, .* got False"):
        model.build((4,))
    model.train().build((4,))  # which sets all
    assert model.layers[1].training


def test_what_a_fit_has_left_behind_is_no_mode_that_somebody_has_set():
    base = Sequential([Flatten(), Dense(4), fastcnn.BatchNorm()])
    Trainer(base).fit(IMAGES, CLASSES, epochs=1, batch_size=6, verbose=0)
    assert not base.training
    for part in (base.copy(), base.layers[2].copy()):
        model = Sequential([Flatten(), part, Dense(3)] if part.name == "Sequential" else [Flatten(), Dense(4), part])
        model.build((2, 6, 6))
        assert model.training
        assert part.training


def test_after_fit_a_model_predicts_and_looking_at_it_changes_nothing():
    trainer = Trainer(small(), random_state=0)
    trainer.fit(IMAGES, CLASSES, epochs=2, batch_size=6, verbose=0)
    model = trainer.model
    before, expected = model.get_weights(), model.predict(IMAGES)
    assert not any(layer.training for layer in model._modes())
    for _ in range(20):
        assert np.array_equal(model.forward(IMAGES), expected)
    x = IMAGES
    for layer in model.layers:
        x = layer.forward(x)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize("mode", [True, False])
def test_a_trainer_trains_in_any_mode_and_leaves_it(mode):
    first, second = small(), small().train(mode)
    losses = [[Trainer(model).step(IMAGES, CLASSES) for _ in range(3)] for model in (first, second)]
    assert losses[0] == losses[1]
    assert second.training is mode
    Trainer(second).evaluate(IMAGES, CLASSES)
    assert second.training is mode


def test_an_estimators_model_predicts():
    X, y = np.random.default_rng(0).random((40, 64)), np.arange(40) % 3
    layers = [fastcnn.Conv2D(4, 3), fastcnn.BatchNorm(), fastcnn.ReLU()]
    for fit in ("fit", "partial_fit"):
        estimator = fastcnn.CNNClassifier(layers, max_iter=2, random_state=0, input_shape=(8, 8))
        getattr(estimator, fit)(X, y, *([[0, 1, 2]] if fit == "partial_fit" else []))
        before = estimator.predict_proba(X)
        assert not estimator.model_.training
        estimator.model_.forward(estimator._scaler(estimator._read(X, reset=False), np.float32))
        assert np.array_equal(before, estimator.predict_proba(X))


# ---------------------------------------------------------------------------------------------- forward, as predictions


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, np.float16])
@pytest.mark.parametrize("parameters", [np.float32, np.float64])
def test_forward_in_prediction_is_predict(dtype, parameters):
    model = small(parameters).eval()
    x = (IMAGES * 40).clip(0, 255).astype(dtype)
    expected, output = model.predict(x), model.forward(x)
    assert output.dtype == parameters
    assert np.array_equal(output, expected)


def test_forward_in_prediction_builds_a_model():
    model = Sequential([Flatten(), Dense(3, random_state=0)]).eval()
    output = model.forward(normal(4, 2, 3, 3))
    assert np.array_equal(output, model.predict(normal(4, 2, 3, 3)))


def test_backward_after_a_forward_in_prediction_is_that_of_the_input_as_it_was():
    model = small().eval()
    x, dL_dout = IMAGES.copy(), normal(12, 3, dtype=np.float32)
    model.forward(x)
    x += 1
    dL_dinput = model.backward(dL_dout)
    gradients = copy.deepcopy(model.gradients)
    chain, maps = model.copy().layers, IMAGES
    for layer in chain:
        maps = layer.forward(maps)
    gradient = dL_dout
    for layer in reversed(chain):
        gradient = layer.backward(gradient)
    np.testing.assert_allclose(dL_dinput, gradient, rtol=1e-3, atol=1e-5)
    for place, layer in enumerate(chain):
        for name, array in layer.gradients.items():
            np.testing.assert_allclose(gradients[f"{place}.{name}"], array, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="input: expected samples of shape"):
        model.forward(normal(1, 3, 6, 6))


def test_forward_in_prediction_draws_nothing():
    """The masks of the next forward in training are those that they would have been."""
    one, two = small(), small()
    two.eval().forward(IMAGES)
    assert np.array_equal(one.forward(IMAGES), two.train().forward(IMAGES))
    layers = fastcnn.Dropout(0.5, random_state=0), fastcnn.Dropout(0.5, random_state=0)
    layers[1].eval().forward(IMAGES)
    assert np.array_equal(layers[0].forward(IMAGES), layers[1].train().forward(IMAGES))


# ---------------------------------------------------------------------------------------------- optimizers and averages

# What an argument is set to, wherever it is one; a rule that has it is made of BEFORE.
BEFORE = {"weight_decay": 0.01, "momentum": 0.5, "nesterov": False, "sgd": ("*.biases",)}
AFTER = {
    "learning_rate": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.3, "clip_norm": 1e-3,
    "betas": (0.5, 0.6), "epsilon": 0.2, "no_decay": ("weights", "filters"), "alpha": 0.5, "centered": True,
    "groups": {"*.filters": {"learning_rate": 0.5, "weight_decay": 2.0}}, "ns_steps": 2,
    "adjust_learning_rate": "match_rms_adamw", "adam": ("*.weights",), "adam_factor": 0.5, "adam_betas": (0.5, 0.6),
    "normalize": True, "sgd": ("*.filters", "*.biases"), "sgd_factor": 3.0,
}  # fmt: skip
CHANGES = [(kind, name, BEFORE.get(name), AFTER[name]) for kind in exported(Optimizer) for name in arguments(kind)]
CHANGES += [(kind, "momentum", *pair) for kind in (fastcnn.SGD, fastcnn.RMSprop) for pair in ((0.0, 0.9), (0.9, 0.0))]
CHANGES += [(kind, "clip_norm", 1e-3, None) for kind in exported(Optimizer)]


def rule(kind: type, **given: object) -> Optimizer:
    have = {name: value for name, value in {**BEFORE, **given}.items() if name in arguments(kind) and value is not None}
    return kind(**have)


@pytest.mark.parametrize(
    ("kind", "name", "before", "after"), CHANGES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_an_optimizers_arguments_take_effect_in_the_next_step(kind, name, before, after):
    given = {} if before is None else {name: before}
    trainer = Trainer(small(), optimizer=rule(kind, **given), ema=ExponentialMovingAverage(0.9))
    [trainer.step(IMAGES, CLASSES) for _ in range(4)]
    same = Trainer(trainer.model.copy(), optimizer=rule(kind, **given))
    same.optimizer.set_state(trainer.optimizer.get_state())
    setattr(trainer.optimizer, name, after)
    new = Trainer(trainer.model.copy(), optimizer=rule(kind, **{**given, name: after}))
    new.optimizer.set_state(trainer.optimizer.get_state())
    for one in (trainer, same, new):
        one.steps = 4
        [one.step(IMAGES, CLASSES) for _ in range(3)]
    assert trainer.model._flat.tobytes() == new.model._flat.tobytes()
    assert trainer.model._flat.tobytes() != same.model._flat.tobytes()
    assert trainer.optimizer.get_state().keys() == new.optimizer.get_state().keys()


@pytest.mark.parametrize("kind", exported(Optimizer), ids=lambda kind: kind.__name__)
def test_an_optimizer_refuses_what_its_constructor_refuses(kind):
    optimizer = rule(kind)
    for name in arguments(kind):
        if isinstance(AFTER[name], bool):
            continue
        before = getattr(optimizer, name)
        for wrong in ("much", -1.0, float("nan")):
            with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: {name}"):
                setattr(optimizer, name, wrong)
            assert getattr(optimizer, name) == before


def test_settings_that_contradict_each_other_are_taken_back():
    sgd = fastcnn.SGD(0.1, momentum=0.9, nesterov=True)
    with pytest.raises(ValueError, match="nesterov: expected a momentum above 0"):
        sgd.momentum = 0.0
    assert sgd.momentum == 0.9
    plain = fastcnn.SGD(0.1)
    with pytest.raises(ValueError, match="nesterov: expected a momentum above 0"):
        plain.nesterov = True
    assert not plain.nesterov


def test_an_average_takes_its_decay_in_the_next_step():
    trainer = Trainer(small(), ema=ExponentialMovingAverage(0.9))
    [trainer.step(IMAGES, CLASSES) for _ in range(4)]
    averages = copy.deepcopy(trainer.ema.averages)
    trainer.ema.decay = 0.25
    trainer.step(IMAGES, CLASSES)
    for name, average in trainer.ema.averages.items():
        expected = 0.25 * averages[name] + 0.75 * trainer.model.parameters[name]
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="ExponentialMovingAverage: decay"):
        trainer.ema.decay = 1.0


# ---------------------------------------------------------------------------------------------------- losses, schedules

LOSS_ARGUMENTS = {"label_smoothing": 0.3, "ignore_index": 1, "class_weight": np.array([1.0, 5.0, 0.2]), "delta": 0.01}


@pytest.mark.parametrize("kind", exported(Loss), ids=lambda kind: kind.__name__)
def test_a_losss_arguments_take_effect_or_are_refused(kind):
    y = CLASSES if kind is fastcnn.CrossEntropy else (normal(12, 3) > 0).astype(np.float32)
    for name in (*arguments(kind), *(name for name in public(kind()) if name not in arguments(kind))):
        trainer = Trainer(small(), kind())
        [trainer.step(IMAGES, y) for _ in range(4)]
        value = LOSS_ARGUMENTS[name] if name in arguments(kind) else other(getattr(trainer.loss, name))
        message = refusal(trainer.loss, name, value)
        if message is not None:
            assert message.startswith(f"{kind.__name__}: {name}: read-only")
            assert "trainer.loss = " in message
            assert_goes_on_as_a_copy(trainer, IMAGES, y)
            continue
        new = Trainer(trainer.model.copy(), kind(**{name: value}))
        new.steps = 4
        plain = kind()(trainer.model.predict(IMAGES), y)
        assert [trainer.step(IMAGES, y) for _ in range(3)] == [new.step(IMAGES, y) for _ in range(3)]
        assert kind(**{name: value})(new.model.predict(IMAGES), y) != plain


def test_class_weights_cannot_be_written_in_place_and_are_checked():
    trainer = Trainer(small(), fastcnn.CrossEntropy(class_weight=[1, 2, 3]))
    trainer.step(IMAGES, CLASSES)
    with pytest.raises(ValueError, match="read-only"):
        trainer.loss.class_weight[0] = 9
    with pytest.raises(ValueError, match="CrossEntropy: class_weight: expected"):
        trainer.loss.class_weight = [1, -1, 2]
    trainer.loss.class_weight = [1, 1]
    with pytest.raises(ValueError, match="class_weight: expected 3 weights, one a class; got 2"):
        trainer.step(IMAGES, CLASSES)


SCHEDULE_ARGUMENTS = {
    "learning_rate": 0.1, "step_size": 3, "gamma": 0.9, "total_steps": 9, "minimum": 0.03, "warmup": 0.6,
    "div_factor": 5.0, "final_div_factor": 7.0, "schedule": fastcnn.ConstantRate(0.1), "steps": 4, "start_factor": 0.1,
    "factor": 0.5, "patience": 1, "threshold": 0.1, "cooldown": 2, "mode": "max", "monitor": "loss", "power": 2.0,
    "start": 0.25, "end": 0.1, "peak": 0.3,
}  # fmt: skip
FIRST = {"schedule": fastcnn.ConstantRate(0.5), "step_size": 2, "gamma": 0.5, "total_steps": 7, "steps": 3}


@pytest.mark.parametrize("kind", exported(Schedule), ids=lambda kind: kind.__name__)
def test_a_schedules_arguments_take_effect_in_the_next_step(kind):
    first = {name: FIRST.get(name, 0.5) for name, value in inspect.signature(kind).parameters.items()
             if value.default is inspect.Parameter.empty}  # fmt: skip
    for name in arguments(kind):
        schedule, new = kind(**first), kind(**{**first, name: SCHEDULE_ARGUMENTS[name]})
        [schedule(step) for step in range(3)]
        setattr(schedule, name, SCHEDULE_ARGUMENTS[name])
        rates = []
        for one in (schedule, new):
            reported = [one.report(value) for value in (1, 0.95, 1, 1, 0.2, 1, 1, 1)] if hasattr(one, "report") else []
            rates.append([*map(one, range(12)), *reported])
        assert rates[0] == rates[1]
        if name not in ("schedule",):
            for wrong in (-1, "nonsense"):
                with pytest.raises((TypeError, ValueError), match=f"{kind.__name__}: {name}"):
                    setattr(schedule, name, wrong)


def test_a_schedule_that_returns_no_learning_rate_is_refused():
    trainer = Trainer(small(), schedule=lambda step: float("nan"))
    with pytest.raises(ValueError, match=r"SGD: learning_rate: expected a finite number >= 0; got nan"):
        trainer.step(IMAGES, CLASSES)


# ------------------------------------------------------------------------------------------------------------- trainers

TRAINER_ARGUMENTS = {
    "model": lambda: small().train(), "loss": lambda: fastcnn.CrossEntropy(0.3), "optimizer": fastcnn.Adam,
    "threads": lambda: 1, "random_state": lambda: 7, "schedule": lambda: fastcnn.ConstantRate(0.02),
    "ema": lambda: ExponentialMovingAverage(0.5), "communicator": lambda: None,  # others need ranks: test_ranks.py
}  # fmt: skip


@pytest.mark.parametrize("name", arguments(Trainer))
def test_a_trainers_arguments_take_effect_in_the_next_step(name):
    trainer = Trainer(small(), optimizer=fastcnn.SGD(0.05), random_state=0)
    [trainer.step(IMAGES, CLASSES) for _ in range(3)]
    trainer.fit(IMAGES, CLASSES, epochs=1, batch_size=5, verbose=0)
    setattr(trainer, name, TRAINER_ARGUMENTS[name]())
    given = {"model": trainer.model.copy(), "optimizer": fastcnn.SGD(0.05), "random_state": 0}
    new = Trainer(**{**given, name: TRAINER_ARGUMENTS[name]()})
    new.steps, new.epochs = trainer.steps, trainer.epochs
    for one in (trainer, new):
        one.step(IMAGES, CLASSES)
        one.fit(IMAGES, CLASSES, epochs=2, batch_size=5, verbose=0)
    assert trainer.model._flat.tobytes() == new.model._flat.tobytes()
    assert trainer.history.epochs[-1].loss == new.history.epochs[-1].loss
    if name == "ema":
        assert all(map(np.array_equal, trainer.ema.averages.values(), new.ema.averages.values()))
        trainer.ema = None
        trainer.step(IMAGES, CLASSES)


@pytest.mark.parametrize("name", [name for name in arguments(Trainer) if name != "random_state"])
def test_a_trainer_refuses_what_its_constructor_refuses(name):
    trainer = Trainer(small())
    before = getattr(trainer, name)
    for wrong in ("nonsense", -1):
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(trainer, name, wrong)
        assert getattr(trainer, name) is before
    trainer.step(IMAGES, CLASSES)
