"""The ready networks: layers, sizes, errors; the reference's losses step by step; prediction after training."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import fastcnn
import reference
from bench.networks import NETWORKS
from fastcnn import SGD, Trainer, check_gradients, models
from fastcnn.layers.branches import Concat, Residual
from tests.arrays import normal

# Name, trained numbers at the default shapes (LeCun et al. and He et al. count so too), a small input.
READY = {
    "digits_default": (30_634, (1, 8, 8)),
    "lenet5": (61_706, (1, 12, 12)),
    "keras_mnist": (34_826, (1, 10, 10)),
    "compact": (131_658, (1, 8, 8)),
    "mini": (26_906, (1, 8, 8)),
    "airbench": (1_971_640, (3, 9, 9)),
    "resnet6": (242_122, (1, 8, 8)),
    "vgg6": (550_570, (3, 8, 8)),
    "resnet20": (269_722, (3, 8, 8)),
    "mobilenet_small": (136_778, (3, 8, 8)),
}
UNETS = {"transposed": 482_466, "bilinear": 450_210, "nearest": 450_210}  # trained numbers, summed by hand
each_network = pytest.mark.parametrize("name", READY)


def network(name: str, *arguments, **keywords) -> fastcnn.Sequential:
    return getattr(models, name)(*arguments, **keywords)


def twin(layer):
    """Return the reference's twin of a layer that is not built yet."""
    if isinstance(layer, Residual):
        shortcut = layer.shortcut if isinstance(layer.shortcut, str | None) else list(map(twin, layer.shortcut))
        return reference.Residual(list(map(twin, layer.layers)), shortcut)
    if isinstance(layer, Concat):
        return reference.Concat([list(map(twin, branch)) for branch in layer.branches])
    cls = getattr(reference, type(layer).__name__)
    return cls(**{name: getattr(layer, name) for name in inspect.signature(cls).parameters})


@pytest.mark.parametrize("upsampling", UNETS)
def test_unets(upsampling):
    """The sizes; and three steps in float64 from the same weights, the loss of each pixel by the reference."""
    model = models.unet(upsampling=upsampling).build((1, 64, 64), random_state=0)
    assert model.output_shape((1, 64, 64)) == (2, 64, 64)
    assert sum(array.size for array in model.parameters.values()) == UNETS[upsampling]
    shape, (x, y) = (2, 4, 8), (normal(3, 2, 4, 8), targets(3 * 4 * 8, 3).reshape(3, 4, 8))
    model = models.unet(shape, 3, 5, 2, upsampling).build(shape, random_state=0, dtype=np.float64)
    row, loss = reference.Concat([[twin(layer) for layer in model.layers]]), reference.CrossEntropy(ignore_index=1)
    row.build(shape)
    for name, parameter in row.parameters.items():
        parameter[...] = model.parameters[name.removeprefix("branches.0.")]
    trainer = Trainer(model, fastcnn.CrossEntropy(ignore_index=1), SGD(0.05), threads=2)
    for _ in range(3):
        output = row.forward(x)
        row.backward(loss.gradient(output, y))
        for name, parameter in row.parameters.items():
            parameter[...] = parameter - 0.05 * row.gradients[name]
        assert trainer.step(x, y) == pytest.approx(loss(output, y), rel=1e-9)


def targets(n: int, classes: int = 10) -> np.ndarray:
    return np.arange(n) % classes


@each_network
def test_sizes(name):
    count, small = READY[name]
    model = network(name)
    assert model.input_shape is None
    defaults = [argument.default for argument in inspect.signature(getattr(models, name)).parameters.values()]
    model.build(defaults[0], random_state=0)
    assert model.output_shape(defaults[0]) == (defaults[1],) == (10,)
    assert sum(array.size for array in model.parameters.values()) == count
    assert network(name, small, num_classes=3).output_shape(small) == (3,)
    assert network(name, (2, 33, 40), 7).output_shape((2, 33, 40)) == (7,)
    assert all(np.isfinite(array).all() for array in model.parameters.values())


@pytest.mark.parametrize("name", ["lenet5", "keras_mnist", "vgg6"])
def test_they_are_the_networks_of_the_bench(name):
    layers = network(name).layers
    assert [type(layer).__name__ for layer in layers] == [kind for kind, _ in NETWORKS[name].layers]
    for layer, (kind, arguments) in zip(layers, NETWORKS[name].layers, strict=True):
        again = getattr(fastcnn, kind)(**arguments)
        for argument in arguments:
            assert getattr(layer, argument) == getattr(again, argument)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: models.lenet5((1, 8, 8)), ValueError, r"lenet5: input_shape: .* \(1, 8, 8\): Sequential: layer 3: Conv2D"),
    (lambda: models.vgg6((3, 4, 4)), ValueError, r"vgg6: input_shape: .* Sequential: layer 14: MaxPool2D"),
    (lambda: models.resnet20((3, 32)), ValueError, "resnet20: input_shape"),
    (lambda: models.resnet20(7), TypeError, "resnet20: input_shape"),
    (lambda: models.mobilenet_small((3, 0, 8)), ValueError, "mobilenet_small: input_shape"),
    (lambda: models.keras_mnist(num_classes=0), ValueError, "keras_mnist: num_classes: expected a positive int; got 0"),
    (lambda: models.digits_default(num_classes=2.5), TypeError, "digits_default: num_classes"),
])  # fmt: skip
def test_what_they_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


@each_network
def test_losses_as_the_references(name):
    """Three steps in float64 from the same weights."""
    shape = READY[name][1]
    rate, (x, y) = 0.05, (normal(6, *shape), targets(6))
    layers = [twin(layer) for layer in network(name, shape).layers]
    model = network(name, shape).build(shape, random_state=0, dtype=np.float64)
    before = shape
    for place, layer in enumerate(layers):
        layer.build(before)
        before = layer.output_shape(before)
        for key, parameter in layer.parameters.items():
            parameter[...] = model.parameters[f"{place}.{key}"]
    trainer = Trainer(model, optimizer=SGD(rate), threads=2)
    for _ in range(3):
        output = x
        for layer in layers:
            output = layer.forward(output)
        p = np.exp(output - output.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        loss, dL_dout = -np.log(p[np.arange(6), y]).mean(), p - np.eye(10)[y]
        for layer in reversed(layers):
            dL_dout = layer.backward(dL_dout, rate)
        for place, layer in enumerate(layers):  # what is frozen has not moved
            for key in [key for key in layer.parameters if not model.layers[place]._trains(key)]:
                layer.parameters[key][...] = model.parameters[f"{place}.{key}"]
        assert trainer.step(x, y) == pytest.approx(loss, rel=1e-9)
    for layer in layers:
        layer.training = False
    output = x
    for layer in layers:
        output = layer.forward(output)
    np.testing.assert_allclose(model.predict(x), output, rtol=0, atol=1e-9 * np.abs(output).max())


@each_network
def test_gradients(name):
    shape = READY[name][1]
    assert check_gradients(
        network(name, shape, 3), normal(4, *shape), targets(4, 3), directions=1, random_state=1
    ).right


@each_network
def test_they_learn_and_predict_what_they_have_learnt(name):
    """A small batch by heart; prediction, with batch normalisation folded, as the layers say it one by one."""
    shape = READY[name][1]
    model = network(name, shape, 4).build(shape, random_state=0)
    x, y = normal(16, *shape, dtype=np.float32), targets(16, 4)
    trainer = Trainer(model, optimizer=SGD({"airbench": 1.0}.get(name, 0.02)))  # whose outputs are divided by 9
    losses = [trainer.step(x, y) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    predicted = model.predict(x)
    assert np.mean(predicted.argmax(axis=1) == y) >= 0.8
    output = x
    for layer in model.eval().layers:
        output = layer.forward(output)
    np.testing.assert_allclose(output, predicted, rtol=0, atol=2e-4 * np.abs(predicted).max())
    np.testing.assert_array_equal(model.copy().predict(x), predicted)


@pytest.mark.parametrize("name", ["compact", "resnet20", "mobilenet_small"])
def test_running_statistics_are_weights_and_count_from_the_next_prediction(name):
    shape = READY[name][1]
    model = network(name, shape, 4).build(shape, random_state=0)
    x = normal(5, *shape, dtype=np.float32)
    before, weights = model.predict(x), model.get_weights()
    norms = sum(name.endswith("gamma") for name in model.parameters)
    assert len(weights) == len(model.parameters) + 2 * norms
    Trainer(model, optimizer=SGD(0.0)).step(x, targets(5, 4))  # moves nothing but the statistics
    after = model.predict(x)
    assert not np.array_equal(after, before)
    model.set_weights(weights)
    np.testing.assert_array_equal(model.predict(x), before)


def test_threads_change_no_bit():
    """Residual blocks and batch normalisation, cut into shards that meet."""
    x, y = normal(64, 3, 16, 16, dtype=np.float32), targets(64)
    outcomes = []
    for threads in (1, 2, 3):
        model = network("resnet20", (3, 16, 16)).build((3, 16, 16), random_state=0)
        trainer = Trainer(model, optimizer=SGD(0.05), threads=threads)
        outcomes.append(([trainer.step(x, y) for _ in range(3)], model.predict(x, threads=threads)))
    for losses, output in outcomes[1:]:
        assert losses == outcomes[0][0]
        np.testing.assert_array_equal(output, outcomes[0][1])
