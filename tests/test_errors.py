"""What is wrong is said in one line: the layer, the argument, what was expected, what came; and nothing has changed."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn import (
    SGD,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    EarlyStopping,
    Flatten,
    Layer,
    MaxPool2,
    MaxPool2D,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
)
from fastcnn.hints import HINTS
from tests.arrays import normal
from tests.cases import LAYER_CASES
from tests.processes import LIMIT, start_python

TWINS = [case for case in LAYER_CASES if case.layers <= set(fastcnn.__all__)]
each_layer = pytest.mark.parametrize("case", TWINS, ids=str)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape)


@pytest.fixture
def unchanged():
    """Return a function that remembers the parameters of a layer; afterwards they must be the same."""
    kept = []

    def remember(layer):
        kept.append((layer, {name: parameter.copy() for name, parameter in layer.parameters.items()}))
        return layer

    yield remember
    for layer, parameters in kept:
        assert layer.parameters.keys() == parameters.keys()
        for name, parameter in parameters.items():
            np.testing.assert_array_equal(layer.parameters[name], parameter)


# ------------------------------------------------------------------------------ names and habits of other libraries


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in HINTS.items() for name in names])
def test_a_name_of_another_library_is_answered_with_ours(kind, name):
    model = Sequential([Conv2D(2, 3), Flatten(), Dense(3)])
    thing = {"Layer": ReLU(), "Sequential": model, "Trainer": Trainer(model)}[kind]
    assert not hasattr(thing, name)
    with pytest.raises(AttributeError, match=f"^{type(thing).__name__!r} object has no attribute {name!r}: ") as raised:
        getattr(thing, name)
    assert str(raised.value).endswith(HINTS[kind][name])
    assert (raised.value.name, raised.value.obj) == (name, thing)


def test_a_misspelt_name_is_asked_back_by_the_interpreter():
    for line in ("fastcnn.Conv2d", "fastcnn.Sequential([fastcnn.ReLU()]).sumary"):
        _, errors = start_python(f"import fastcnn\n{line}").communicate(timeout=LIMIT)
        assert "Did you mean: '" in errors


def test_a_constructor_that_leaves_out_that_of_layer():
    class Twice(Layer):
        def __init__(self, factor):
            self.factor = factor

        def _forward(self, x):
            return x * self.factor

    with pytest.raises(AttributeError, match=r"^Twice: .*`super\(\).__init__\(\)` begins the __init__ of a layer"):
        Sequential([Twice(2), Flatten(), Dense(3)]).build((1, 4, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2D(16, kernel_size=3), "Conv2D.__init__() got an unexpected keyword argument 'kernel_size': its"),
        (lambda: Conv2D(filters=16, filter_size=3), "'filters': its name here is 'num_filters'"),
        (lambda: Conv2D(16, 3, activation="relu"), "'activation': it is a layer of its own, such as ReLU()"),
        (lambda: MaxPool2D(kernel_size=2), "'kernel_size': its name here is 'pool_size'"),
        (lambda: Dense(units=10), "'units': its name here is 'nodes'"),
        (lambda: SGD(lr=0.1), "'lr': its name here is 'learning_rate'"),
        (lambda: fastcnn.CNNClassifier(epochs=3), "'epochs': its name here is 'max_iter'"),
        (lambda: fastcnn.CNNRegressor(lr=0.1), "'lr': its name here is 'learning_rate_init'"),
        (
            lambda: Sequential([Conv2D(4, 3), ReLU, Flatten()]),
            "layers[1]: expected a layer; got <class 'fastcnn.layers",
        ),
        (lambda: Trainer(Sequential([Dense(3)]), optimizer=SGD), "expected an Optimizer; got the class SGD: SGD(...)"),
    ],
)
def test_an_argument_of_another_library_is_answered_with_ours(make, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        make()


def test_an_argument_that_nobody_has_is_answered_as_ever():
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'nonsense'$"):
        Conv2D(16, 3, nonsense=3)
    assert [*inspect.signature(ReLU).parameters] == ["name", "trainable"]  # `Called.__new__` does not hide it


@pytest.mark.parametrize("shape", [(28, 28, 3), (32, 48, 4), (28, 28, 1)])
def test_channels_last_are_said_to_be_read_as_channels_first(shape):
    words = f"read as {shape[0]} channels of {shape[1]} x {shape[2]} pixels"
    model = Sequential([Conv2D(2, 1), Flatten(), Dense(2)])
    with pytest.warns(UserWarning, match=words):
        model.build(shape)
    new = Sequential([Conv2D(2, 1), Flatten(), Dense(2)])
    with pytest.warns(UserWarning, match=f"^Trainer: X: .*{words}") as caught:
        Trainer(new).fit(zeros(4, *shape), np.array([0, 1, 1, 0]), epochs=1, batch_size=4, verbose=0)
    assert caught[0].filename == __file__
    X, classifier = np.random.RandomState(0).rand(8, *shape), fastcnn.CNNClassifier([Conv2D(2, 1)], input_shape=shape)
    hint = re.escape(f"or say input_shape=({shape[2]}, ")
    with pytest.warns(UserWarning, match=f"^CNNClassifier: input_shape: .*{words}.*{hint}") as caught:
        classifier.set_params(max_iter=2).fit(X, np.arange(8) % 2)
    assert caught[0].filename == __file__
    copy = pickle.loads(pickle.dumps(model))  # and models that are there already are not asked again
    assert copy[1:].input_shape


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 28, 28), (12, 1000, 1), (4, 8, 3), (64, 8, 8), (64, 1, 1)])
def test_channels_first_are_taken_without_a_word(shape):
    Sequential([Flatten(), Dense(2)]).build(shape)


def test_filters_in_the_order_of_pytorch_are_asked_about():
    with pytest.warns(UserWarning, match=r"1 filter\(s\) of 16 x 16 pixels at stride 3; .*: Conv2D\(16, 3\)"):
        Conv2D(1, 16, 3)
    with pytest.raises(ValueError, match="the first argument of Conv2D is the number of filters"):
        Sequential([Conv2D(16, 32, 3)]).build((16, 13, 13))


def test_grey_images_without_an_axis_of_channels_are_told_how_to_get_one():
    with pytest.raises(ValueError, match=r"got shape \(4, 8, 8\): grey images are X\[:, None\]"):
        Trainer(Sequential([Flatten(), Dense(2)])).fit(zeros(4, 8, 8), [0, 1, 0, 1], epochs=1, batch_size=2)


def test_labels_from_one_are_recognised():
    trainer = Trainer(Sequential([Dense(3)]))
    with pytest.raises(ValueError, match="got 3: classes count from 0, these perhaps from 1"):
        trainer.fit(zeros(3, 2), [1, 2, 3], epochs=1, batch_size=3)
    with pytest.raises(ValueError, match=r"got 9$"):
        trainer.fit(zeros(3, 2), [1, 2, 9], epochs=1, batch_size=3)


@pytest.mark.parametrize("names", [["a.png", "b.png"], [Path("a.png"), Path("b.png")], np.array(["a.png", "b.png"])])
def test_names_of_files_are_no_images(names):
    with pytest.raises(ValueError, match=r"CNNClassifier: X: .*got words, such as 'a.png': fastcnn.data.load_images"):
        fastcnn.CNNClassifier().fit(names, [0, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(144, 10), "Dense: bias"),  # inputs and outputs, as in PyTorch
        (lambda: Conv2D(3, 3, bias=1), "Conv2D: bias"),
        (lambda: MaxPool2D(2, ceil_mode="no"), "MaxPool2D: ceil_mode"),
        (lambda: AvgPool2D(2, 2, 0, 5), "AvgPool2D: count_include_pad"),
        (lambda: BatchNorm(scale=2.0), "BatchNorm: scale"),
        (lambda: SGD(0.1, 0.9, 1e-4), "SGD: nesterov"),  # a weight decay
        (lambda: EarlyStopping(restore_best="yes"), "EarlyStopping: restore_best"),
        (
            lambda: Trainer(Sequential([Dense(3)])).fit(zeros(4, 2), [0, 1, 2, 0], epochs=1, batch_size=3, drop_last=2),
            "fit: drop_last",
        ),
    ],
)
def test_a_number_is_no_answer_to_yes_or_no(make, message):
    with pytest.raises(TypeError, match=f"^{message}: expected True or False; got "):
        make()


def test_a_trainer_prints_what_it_is_made_of():
    trainer = Trainer(Sequential([Flatten(), Dense(3)]), optimizer=SGD(0.5))
    assert repr(trainer) == "Trainer(Sequential of 2 layers, loss=CrossEntropy(), optimizer=SGD(learning_rate=0.5))"


# --------------------------------------------------------------------------------------------- what every layer refuses


@pytest.mark.parametrize("built", [True, False], ids=["built", "new"])
@each_layer
def test_inputs_that_no_layer_takes(case, built, unchanged):
    layer = case.make(fastcnn)
    name, x = type(layer).__name__, normal(*case.input_shape)
    if built:
        layer.build(x.shape[1:])
    unchanged(layer)
    random = np.random.get_state()[1].copy()
    wrong = {
        (TypeError, "real numbers.* got dtype complex128"): x.astype(complex),
        (TypeError, "real numbers.* got dtype object"): x.astype(object),
        (TypeError, "real numbers.* got dtype <U32"): x.astype(str),
        (TypeError, r"real numbers.* got dtype datetime64\[s\]"): x.astype(int).astype("M8[s]"),
        (ValueError, r"at least one .* got .*\(0, "): x[:0],
        (ValueError, r"got .*, 0\)"): x[..., :0],
        (ValueError, r"got .*\(\)"): x.flat[0],
        (ValueError, r"got .*\(\d+,\)"): x.ravel(),
        (ValueError, r"got .*\(\d+, \d+, \d+\)"): x.reshape(len(x), 1, -1),
    }
    for (error, message), value in wrong.items():
        with pytest.raises(error, match=rf"^{name}: input: expected .*{message}"):
            layer.forward(value)
    assert (layer.input_shape is not None) == built
    np.testing.assert_array_equal(np.random.get_state()[1], random)  # nothing was drawn


@each_layer
def test_gradients_that_no_layer_takes(case, unchanged):
    layer = case.make(fastcnn)
    name, x = type(layer).__name__, normal(*case.input_shape)
    with pytest.raises(RuntimeError, match=rf"^{name}: backward: .*forward"):
        layer.backward(x, 0.1)
    output = layer.forward(x)
    unchanged(layer)
    wrong = {
        (TypeError, "real numbers.* got dtype complex128"): output.astype(complex),
        (TypeError, "real numbers.* got dtype object"): output.astype(object),
        (ValueError, "got shape"): output[:-1],
        (ValueError, r"got shape \(\)"): 1.0,
        (ValueError, f"got shape .*{output.size},"): output.ravel(),
        (ValueError, "got shape .*1"): output[..., None],
        (ValueError, "got shape "): np.concatenate([output, output]),
    }
    for (error, message), value in wrong.items():
        with pytest.raises(error, match=rf"^{name}: dL_dout: expected .*{message}"):
            layer.backward(value, 0.1)
    assert layer.gradients == {} or all(not gradient.any() for gradient in layer.gradients.values())


@each_layer
def test_a_refused_batch_leaves_the_last_one_standing(case):
    """Backward still belongs to the last forward that succeeded."""
    layer, twin = case.make(fastcnn), case.make(fastcnn)
    x = normal(*case.input_shape)
    output = layer.forward(x)
    twin.forward(x)
    for wrong in (x[:0], x.astype(complex), x.ravel(), normal(2, 1, 1, 1)):
        try:
            layer.forward(wrong)
        except (TypeError, ValueError):
            np.testing.assert_array_equal(layer.backward(output), twin.backward(output))


# ------------------------------------------------------------------------------------------------- arguments and shapes


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Conv2D(0, 3), ValueError, "Conv2D: num_filters: expected a positive int; got 0"),
        (lambda: Conv2D(4.0, 3), TypeError, "Conv2D: num_filters: expected a positive int; got 4.0"),
        (lambda: Conv2D(True, 3), TypeError, "Conv2D: num_filters: expected a positive int; got True"),
        (lambda: Conv2D(4, 0), ValueError, "Conv2D: filter_size: expected .*; got 0"),
        (lambda: Conv2D(4, (3, 0)), ValueError, r"Conv2D: filter_size: expected .*; got \(3, 0\)"),
        (lambda: Conv2D(4, (3, 3, 3)), (TypeError, ValueError),
         r"Conv2D: filter_size: expected .* pair .*; got \(3, 3, 3\)"),
        (lambda: Conv2D(4, 2.5), TypeError, "Conv2D: filter_size: expected .*; got 2.5"),
        (lambda: Conv2D(4, "3"), TypeError, "Conv2D: filter_size: expected .*; got '3'"),
        (lambda: Conv2D(4, None), TypeError, "Conv2D: filter_size: expected .*; got None"),
        (lambda: Conv2D(4, 3, stride=0), ValueError, "Conv2D: stride: expected .*; got 0"),
        (lambda: Conv2D(4, 3, padding=-1), ValueError, "Conv2D: padding: expected .*; got -1"),
        (lambda: Conv2D(4, 3, padding="full"), ValueError, "Conv2D: padding: expected .*valid.*; got 'full'"),
        (lambda: Conv2D(4, 3, dilation=0), ValueError, "Conv2D: dilation: expected .*; got 0"),
        (lambda: Conv2D(4, 3, groups=0), ValueError, "Conv2D: groups: expected .*; got 0"),
        (lambda: Conv2D(4, 3, groups=3), ValueError, "Conv2D: groups: expected a divisor of num_filters = 4; got 3"),
        (lambda: Conv2D(4, 3, algorithm="fft"), ValueError, "Conv2D: algorithm: expected 'auto' or .*; got 'fft'"),
        (lambda: MaxPool2D(0), ValueError, "MaxPool2D: pool_size: expected .*; got 0"),
        (lambda: MaxPool2D(2, stride=0), ValueError, "MaxPool2D: stride: expected .*; got 0"),
        (lambda: MaxPool2D(3, padding=3), ValueError, r"MaxPool2D: padding: expected less than .*; got \(3, 3\)"),
        (lambda: MaxPool2D(2, padding=((0, 1), (0, 2))), ValueError, r"MaxPool2D: padding: expected less than"),
        (lambda: MaxPool2D(2, padding="full"), ValueError, r"MaxPool2D: padding: expected \"same\", .*; got 'full'"),
        (lambda: MaxPool2D(2, padding=((0, 1), 0)), TypeError, r".*: expected \(\(top, bottom\), \(left, right\)\)"),
        (lambda: Conv2D(2, 3, padding=((0, -1), (0, 0))), ValueError, r"Conv2D: padding: expected at least 0; got"),
        (lambda: Conv2D(2, 3, padding=((0, 1, 2), (0, 0))), TypeError, r"Conv2D: padding: expected an int or a pair"),
        (lambda: MaxPool2D(2, dilation=0), ValueError, r"MaxPool2D: dilation: expected at least 1; got 0"),
        (
            lambda: MaxPool2D(2, padding=1, dilation=2).output_shape((1, 1, 1)), ValueError,
            r"MaxPool2D: padding: expected that each window sees the image of 1 x 1; got \(1, 1\)",
        ),
        (lambda: Dense(0), ValueError, "Dense: nodes: expected .*; got 0"),
        (lambda: Dense("10"), TypeError, "Dense: nodes: expected .*; got '10'"),
        (lambda: Softmax(0, 3), ValueError, "Softmax: input_len: expected .*; got 0"),
        (lambda: Softmax(3, -1), ValueError, "Softmax: nodes: expected .*; got -1"),
        (lambda: Dense(3).build((0,)), ValueError, r"Dense: input_shape: expected .*; got \(0,\)"),
        (lambda: Dense(3).build((2.5,)), TypeError, r"Dense: input_shape: expected .*; got \(2.5,\)"),
        (lambda: Dense(3).build(5), TypeError, "Dense: input_shape: expected .*; got 5"),
        (lambda: Conv2D(4, 3).build((8, 8)), ValueError, r"Conv2D: input_shape: expected .*; got \(8, 8\)"),
        (lambda: Conv2D(4, 3).build((1, 8, -8)), ValueError, r"Conv2D: input_shape: expected .*; got \(1, 8, -8\)"),
        (lambda: Conv2D(4, 3).build((1, 8, 8), dtype=np.int32), TypeError,
         "Conv2D: dtype: expected float32 or float64; got .*int32"),
        (lambda: Conv2D(4, 3).build((1, 8, 8), dtype="float16"), TypeError,
         "Conv2D: dtype: expected float32 or float64; got 'float16'"),
        (lambda: Conv2D(4, 3, random_state="x").build((1, 8, 8)), TypeError, "random_state: expected .*; got str"),
        (lambda: Conv2D(4, 3).filters, AttributeError, "Conv2D: filters: not there before build"),
        (lambda: Dense(4).biases, AttributeError, "Dense: biases: not there before build"),
        (lambda: setattr(Conv2D(4, 3), "biases", 0), AttributeError, "Conv2D: biases: not there before build"),
        (lambda: setattr(Dense(4).build((3,)), "weights", zeros(3, 5)), ValueError,
         r"Dense: weights: expected shape \(3, 4\); got shape \(3, 5\)"),
        (lambda: setattr(Softmax(3, 4), "biases", zeros(1)), ValueError,
         r"Softmax: biases: expected shape \(4,\); got shape \(1,\)"),
        (lambda: Sequential([]), ValueError, "Sequential: layers: expected at least one layer; got none"),
        (lambda: Sequential([ReLU(), "relu"]), TypeError, r"Sequential: layers\[1\]: expected a layer; got 'relu'"),
        (lambda: Sequential([ReLU]), TypeError, r"Sequential: layers\[0\]: expected a layer; got <class"),
        (lambda: Sequential([(relu := ReLU()), relu]), ValueError, r"Sequential: layers\[1\]: .* twice"),
        (lambda: SGD(-0.1), ValueError, "SGD: learning_rate: expected .*; got -0.1"),
        (lambda: SGD(float("nan")), ValueError, "SGD: learning_rate: expected .*; got nan"),
        (lambda: SGD(float("inf")), ValueError, "SGD: learning_rate: expected .*; got inf"),
        (lambda: Trainer(ReLU()), TypeError, r"Trainer: model: expected a Sequential; got ReLU\(\)"),
        (lambda: Trainer(Sequential([Dense(2)]), loss="mse2"), ValueError,
         "Trainer: loss: expected one of .*; got 'mse2'"),
    ],
)  # fmt: skip
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match="^" + message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Trainer(Sequential([Dense(2)]), loss=3), "Trainer: loss: expected .*; got 3"),
        (lambda: Trainer(Sequential([Dense(2)]), optimizer=0.1), "Trainer: optimizer: expected .*; got 0.1"),
        (lambda: SGD("fast"), "SGD: learning_rate: expected .*; got 'fast'"),
    ],
)
def test_arguments_of_another_kind(make, message):
    with pytest.raises(TypeError, match="^" + message):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (Conv2D(4, 3), zeros(2, 8, 8), r"Conv2D: input: expected images \(N, C, H, W\).*; got shape \(2, 8, 8\)"),
        (Conv2D(4, 3), zeros(2, 1, 8, 2), "Conv2D: input: the window 3 x 3 .* image 8 x 2"),
        (Conv2D(4, 3, padding=1, dilation=3), zeros(2, 1, 4, 9), "Conv2D: input: the window 7 x 7 .* image 6 x 11"),
        (Conv2D(4, 3, groups=2), zeros(2, 3, 8, 8),
         "Conv2D: input: expected channels in 2 equal groups; got 3 channels"),
        (Conv2D(4, 3).build((2, 8, 8)), zeros(2, 3, 8, 8),
         r"Conv2D: input: expected .* \(any, 2, any, any\); got shape \(2, 3, 8, 8\)"),
        (MaxPool2(), zeros(2, 1, 1, 8), "MaxPool2: input: the window 2 x 2 .* image 1 x 8"),
        (MaxPool2D(3), zeros(2, 1, 2, 8), "MaxPool2D: input: the window 3 x 3 .* image 2 x 8"),
        (MaxPool2D(2), zeros(2, 8), r"MaxPool2D: input: expected images .*; got shape \(2, 8\)"),
        (Dense(3), zeros(2, 1, 2, 8), r"Dense: input: expected features \(N, D\).*; got .*\(2, 1, 2, 8\)"),
        (Dense(3).build((4,)), zeros(2, 5), r"Dense: input: expected .* \(any, 4\); got shape \(2, 5\)"),
        (Softmax(3, 2), zeros(2, 5),
         r"Softmax: input: expected samples of input_len = 3 numbers; got 5 in shape \(5,\)"),
        (Softmax(144, 10), zeros(2, 1, 8, 8), r"Softmax: input: expected .* 144 numbers; got 64 in shape \(1, 8, 8\)"),
    ],
)  # fmt: skip
def test_wrong_shapes(layer, x, message, unchanged):
    state = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="^" + message):
        unchanged(layer).forward(x)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_seed_that_is_none_leaves_no_half_built_layer():
    """The second attempt fails as the first did: it does not compute with parameters that were never drawn."""
    for layer in (Conv2D(4, 3, random_state="x"), Sequential([Conv2D(4, 3, random_state="x")])):
        for _ in range(2):
            with pytest.raises(TypeError, match="random_state: expected"):
                layer.forward(np.ones((1, 1, 8, 8)))


# ------------------------------------------------------------------------------------------------- models and training


def model() -> Sequential:
    return Sequential([Conv2D(4, 3), ReLU(), MaxPool2(), Flatten(), Dense(3)]).build((1, 8, 8), random_state=0)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([Conv2D(4, 3), Dense(3)], (1, 8, 8),
         r"Sequential: layer 1: Dense: input: expected features .*\(4, 6, 6\).*Flatten"),
        ([Flatten(), Conv2D(4, 3)], (1, 8, 8), r"Sequential: layer 1: Conv2D: input: expected images .*\(64,\)"),
        ([Flatten(), MaxPool2()], (1, 8, 8), r"Sequential: layer 1: MaxPool2: input: expected images .*\(64,\)"),
        ([Conv2D(4, 3), Conv2D(4, 9)], (1, 8, 8), "Sequential: layer 1: Conv2D: input: the window 9 x 9 .* 6 x 6"),
        ([Conv2D(3, 3), Conv2D(4, 3, groups=2)], (1, 8, 8),
         "Sequential: layer 1: Conv2D: input: expected channels in 2"),
        ([ReLU(), Softmax(9, 3)], (1, 8, 8), "Sequential: layer 1: Softmax: input: expected .* 9 numbers; got 64"),
        ([ReLU(), Sequential([Flatten(), Conv2D(4, 3)])], (1, 8, 8),
         "Sequential: layer 1: Sequential: layer 1: Conv2D: "),
        ([Conv2D(4, 3), fastcnn.GroupNorm(3)], (1, 8, 8),
         "Sequential: layer 1: GroupNorm: num_groups: expected a divisor of 4 channels; got 3"),
        ([ReLU(), fastcnn.Residual([Conv2D(8, 3, padding=1)])], (4, 6, 6),
         r"Sequential: layer 1: Residual: shortcut: expected .* \(8, 6, 6\); got \(4, 6, 6\)"),
        ([ReLU(), fastcnn.Concat([[Conv2D(2, 3)], []])], (4, 6, 6),
         r"Sequential: layer 1: Concat: branches: expected .* got \(2, 4, 4\), \(4, 6, 6\)"),
        ([Flatten(), fastcnn.DepthwiseConv2D(3)], (4, 6, 6),
         r"Sequential: layer 1: DepthwiseConv2D: input: .*\(144,\)"),
        ([Flatten(), fastcnn.GlobalAvgPool2D()], (4, 6, 6),
         r"Sequential: layer 1: GlobalAvgPool2D: input: .*\(144,\)"),
        ([Flatten(), fastcnn.UpSample2D(2)], (4, 6, 6), r"Sequential: layer 1: UpSample2D: input: .*\(144,\)"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_together(layers, shape, message):
    for ask in (
        lambda: Sequential(layers).output_shape(shape),
        lambda: Sequential(layers).build(shape),
        lambda: Sequential(layers).forward(zeros(2, *shape)),
        lambda: Trainer(Sequential(layers)).step(zeros(2, *shape), [0, 1]),
    ):
        with pytest.raises(ValueError, match="^" + message):
            ask()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (zeros(2, 1, 8, 9), r"expected samples of shape \(1, 8, 8\); got \(1, 8, 9\)"),
        (zeros(2, 2, 8, 8), r"expected samples of shape \(1, 8, 8\); got \(2, 8, 8\)"),
        (zeros(2, 64), r"expected samples of shape \(1, 8, 8\); got \(64,\)"),
        (zeros(8, 8), r"expected samples of shape \(1, 8, 8\); got \(8,\)"),
        (zeros(1, 8, 8), r"expected images .*; got .*\(1, 8, 8\)"),
        (zeros(0, 1, 8, 8), r"expected at least one .*; got .*\(0, 1, 8, 8\)"),
    ],
)
def test_batches_that_a_model_does_not_take(x, message, unchanged):
    given = unchanged(model())
    with pytest.raises(ValueError, match="^Sequential: input: " + message):
        given.forward(x)
    with pytest.raises(ValueError, match=r"^(Sequential: input|Trainer: x): " + message):
        Trainer(given).step(x, np.zeros(len(x), int))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 1], ValueError, r"expected shape \(3,\).*; got shape \(2,\)"),
        ([[0], [1], [2]], ValueError, r"expected shape \(3,\).*; got shape \(3, 1\)"),
        (np.eye(3, 2, dtype=int), ValueError, r"expected shape \(3,\).*; got shape \(3, 2\)"),
        (np.eye(3) / 2, ValueError, "expected rows of probabilities that sum to 1"),
        ([0.0, 1.0, 2.0], TypeError, "expected integer classes; got dtype float64"),
        (["a", "b", "c"], TypeError, "expected integer classes; got dtype <U1"),
        ([None, 1, 2], TypeError, "expected integer classes; got dtype object"),
        ([0, 1, 3], ValueError, "expected classes from 0 to 2; got 3$"),
        ([-1, 1, 9], ValueError, "expected classes from 0 to 2; got -1 and 1 more beyond"),
        (np.array([0, 1, 2**64 - 1], np.uint64), ValueError, "expected classes from 0 to 2; got 18446744073709551615"),
    ],
)
def test_classes_that_a_step_does_not_take(y, error, message, unchanged):
    given = model()
    trainer, x = Trainer(given), normal(3, 1, 8, 8)
    trainer.step(x, [0, 1, 2])
    unchanged(given)
    with pytest.raises(error, match=rf"^(cross_entropy|Trainer): y: {message}"):
        trainer.step(x, y)


def test_a_step_after_a_refused_one_is_as_if_it_had_not_been():
    x, y = normal(3, 1, 8, 8), [0, 1, 2]
    refused, twin = Trainer(model()), Trainer(model())
    for wrong in ([0, 1, 3], [0, 1], [0.5, 1, 2]):
        with pytest.raises((TypeError, ValueError)):
            refused.step(x, wrong)
        assert refused.step(x, y) == twin.step(x, y)


@pytest.mark.parametrize(
    "x", [normal(3, 1, 8, 8).astype(complex), normal(3, 1, 8, 8).astype(object)], ids=["complex", "object"]
)
def test_numbers_that_a_step_does_not_take(x, unchanged):
    with pytest.raises(TypeError, match=rf"^Trainer: x: expected real numbers.*; got dtype {x.dtype}"):
        Trainer(unchanged(model())).step(x, [0, 1, 2])


def test_a_model_without_logits_cannot_learn_classes():
    maps = Sequential([Conv2D(4, 3)]).build((1, 8, 8))
    words = (
        r"^cross_entropy: y: expected shape \(3, 6, 6\), .*; got shape \(3,\), .*: for one class an image, end it in De"
    )
    with pytest.raises(ValueError, match=words):
        Trainer(maps).step(normal(3, 1, 8, 8), [0, 1, 2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(4, 3, random_state=0), Conv2D(4, 3, random_state=0, algorithm="winograd"), ReLU(), Flatten(),
        Softmax(64, 3), MaxPool2D(3), MaxPool2(),
    ],
    ids=lambda layer: layer.name,
)  # fmt: skip
def test_what_is_not_finite_stays_not_finite(layer, value):
    """A NaN does not hide in a maximum: whoever looks at the loss sees it."""
    if "Pool" in layer.name:
        value = np.nan  # an infinity is a maximum, if it is positive
    for row, column in np.ndindex(3, 3):
        x = normal(1, 1, 8, 8)
        x[0, 0, 2 + row, 2 + column] = value
        with np.errstate(all="ignore"):
            assert not np.isfinite(layer.forward(x)).all()
