"""The reference against PyTorch in float64, one more independent witness where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

import reference
from tests.cases import CONV_CASES, DEPTHWISE_CASES, ELEMENTWISE_SHAPES, NORM_SHAPES, POOL_CASES, TRANSPOSE_CASES
from tests.slopes import away_from_kinks

torch = pytest.importorskip("torch")
F = torch.nn.functional


def tensor(array, requires_grad=False):
    return torch.tensor(array, dtype=torch.float64, requires_grad=requires_grad)


def normal(*shape, seed=0):
    return np.random.RandomState(seed).standard_normal(shape)


def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)


def assert_layer_equals(layer, x, function, parameters=()):
    """Compare outputs and all gradients with those of function(input, *parameters)."""
    output = layer.forward(x)
    tensors = [tensor(array, requires_grad=True) for array in (x, *(layer.parameters[name] for name in parameters))]
    expected = function(*tensors)
    assert_equal(output, expected)
    dL_dout = normal(*output.shape, seed=9)
    expected.backward(tensor(dL_dout))
    assert_equal(layer.backward(dL_dout), tensors[0].grad)
    for name, theirs in zip(parameters, tensors[1:], strict=True):
        assert_equal(layer.gradients[name], theirs.grad)


def same_padded(x, filter_size, stride, dilation, value=0.0):
    """Zeros for Keras's "same", which PyTorch has for stride 1 only."""
    zeros = []
    for size, k, s, d in list(zip(x.shape[2:], filter_size, stride, dilation, strict=True))[::-1]:
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        zeros += [total // 2, total - total // 2]
    return F.pad(x, zeros, value=value)


def padded(layer, window, x, value=0.0):
    """Return x and what PyTorch has to pad itself: what differs from side to side is padded before."""
    padding = (0, 0) if layer.padding == "valid" else layer.padding
    if padding == "same":
        return same_padded(x, window, layer.stride, layer.dilation, value), 0
    if isinstance(padding[0], int):
        return x, padding
    (top, bottom), (left, right) = padding
    return F.pad(x, (left, right, top, bottom), value=value), 0


@pytest.mark.parametrize("case", CONV_CASES, ids=str)
def test_conv(case):
    layer = reference.Conv2D(**case.arguments, random_state=0).build(case.input_shape[1:])
    if case.bias:
        layer.biases = normal(case.num_filters, seed=1)

    def conv(x, filters, biases=None):
        x, padding = padded(layer, layer.filter_size, x)
        return F.conv2d(x, filters, biases, case.stride, padding, case.dilation, case.groups)

    assert_layer_equals(layer, normal(*case.input_shape), conv, tuple(layer.parameters))


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("case", POOL_CASES, ids=str)
def test_max_pool(case, ties):
    x = away_from_kinks(case.input_shape)
    if ties:
        x = np.round(x * 2) / 2
    layer = reference.MaxPool2D(**case.arguments)

    def pool(x):
        if not case.is_symmetric:
            x, padding = padded(layer, layer.pool_size, x, -np.inf)
            if padding:  # more than half a window: PyTorch refuses that
                x, padding = F.pad(x, (padding[1],) * 2 + (padding[0],) * 2, value=-np.inf), 0
        return F.max_pool2d(
            x, case.pool_size, case.stride, case.padding if case.is_symmetric else 0, case.dilation, case.ceil_mode
        )

    assert_layer_equals(layer, x, pool)


def test_dense_and_relu():
    layer = reference.Dense(5, random_state=0).build((7,))
    layer.biases = normal(5)
    assert_layer_equals(layer, normal(3, 7), lambda x, W, b: x @ W + b, ("weights", "biases"))
    x = normal(3, 7)
    x[0] = 0  # the subgradient at 0 is a convention
    assert_layer_equals(reference.ReLU(), x, F.relu)


def test_softmax_with_cross_entropy():
    layer, x, y = reference.Softmax(12, 5, random_state=0), normal(4, 3, 2, 2), np.array([0, 4, 2, 2])
    X, W, b = (tensor(array, requires_grad=True) for array in (x, layer.weights, layer.biases))
    logits = X.flatten(1) @ W + b
    probs = layer.forward(x)
    assert_equal(probs, logits.softmax(dim=1))
    F.cross_entropy(logits, torch.tensor(y), reduction="sum").backward()
    assert_equal(layer.backward(probs - np.eye(5)[y]), X.grad)
    assert_equal(layer.gradients["weights"], W.grad)
    assert_equal(layer.gradients["biases"], b.grad)


@pytest.mark.parametrize("case", DEPTHWISE_CASES, ids=str)
def test_depthwise_conv(case):
    layer = reference.DepthwiseConv2D(**case.arguments, random_state=0).build(case.input_shape[1:])
    if case.bias:
        layer.biases = normal(len(layer.biases), seed=1)

    def conv(x, filters, biases=None):
        C, (x, padding) = x.shape[1], padded(layer, layer.filter_size, x)
        return F.conv2d(x, filters, biases, case.stride, padding, case.dilation, groups=C)

    assert_layer_equals(layer, normal(*case.input_shape), conv, tuple(layer.parameters))


@pytest.mark.parametrize("bias", [True, False])
def test_separable_conv(bias):
    layer = reference.SeparableConv2D(6, (3, 2), (2, 1), 1, (1, 2), bias, random_state=0).build((5, 8, 7))
    if bias:
        layer.biases = normal(6, seed=1)

    def conv(x, depthwise, pointwise, biases=None):
        return F.conv2d(F.conv2d(x, depthwise, None, (2, 1), 1, (1, 2), groups=5), pointwise, biases)

    assert_layer_equals(layer, normal(2, 5, 8, 7), conv, tuple(layer.parameters))


@pytest.mark.parametrize("case", TRANSPOSE_CASES, ids=str)
def test_transposed_conv(case):
    layer = reference.Conv2DTranspose(**case.arguments, random_state=0).build(case.input_shape[1:])
    if case.bias:
        layer.biases = normal(case.num_filters, seed=1)

    def conv(x, filters, biases=None):
        (top, bottom), (left, right) = (each if isinstance(each, tuple) else (each, each) for each in layer.padding)
        geometry = (case.stride, 0, case.output_padding, case.groups, case.dilation)
        whole = F.conv_transpose2d(x, filters, biases, *geometry)
        return whole[:, :, top : whole.shape[2] - bottom, left : whole.shape[3] - right]

    assert_layer_equals(layer, normal(*case.input_shape), conv, tuple(layer.parameters))


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("case", [case for case in POOL_CASES if case.is_symmetric and case.dilation == 1], ids=str)
def test_avg_pool(case, count_include_pad):
    layer = reference.AvgPool2D(**case.arguments, count_include_pad=count_include_pad)

    def pool(x):
        return F.avg_pool2d(x, case.pool_size, case.stride, case.padding, case.ceil_mode, count_include_pad)

    assert_layer_equals(layer, normal(*case.input_shape), pool)


def test_global_pools_and_up_sampling():
    x = normal(2, 3, 4, 5)
    assert_layer_equals(reference.GlobalAvgPool2D(), x, lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1))
    assert_layer_equals(reference.GlobalMaxPool2D(), x, lambda x: F.adaptive_max_pool2d(x, 1).flatten(1))
    ties = np.round(x)
    assert_layer_equals(reference.GlobalMaxPool2D(), ties, lambda x: F.max_pool2d(x, (4, 5)).flatten(1))
    assert_layer_equals(reference.UpSample2D(), x, lambda x: F.interpolate(x, scale_factor=2, mode="nearest"))
    assert_layer_equals(
        reference.UpSample2D((3, 2)), x, lambda x: F.interpolate(x, scale_factor=(3, 2), mode="nearest")
    )
    assert_layer_equals(
        reference.UpSample2D((3, 2), "bilinear"), x, lambda x: F.interpolate(x, scale_factor=(3, 2), mode="bilinear")
    )


ACTIVATIONS = {
    "LeakyReLU": (reference.LeakyReLU, F.leaky_relu),
    "LeakyReLU-0.3": (lambda: reference.LeakyReLU(0.3), lambda x: F.leaky_relu(x, 0.3)),
    "ELU": (reference.ELU, F.elu),
    "ELU-1.7": (lambda: reference.ELU(1.7), lambda x: F.elu(x, 1.7)),
    "CELU": (reference.CELU, F.celu),
    "CELU-0.5": (lambda: reference.CELU(0.5), lambda x: F.celu(x, 0.5)),
    "Softplus": (reference.Softplus, F.softplus),
    "Softplus-2.5": (lambda: reference.Softplus(2.5, 1.5), lambda x: F.softplus(x, 2.5, 1.5)),
    "Mish": (reference.Mish, F.mish),
    "ReLU6": (reference.ReLU6, F.relu6),
    "HardSigmoid": (reference.HardSigmoid, lambda x: F.relu6(x + 3) / 6),  # hardsigmoid has 1/6 in float32
    "HardSwish": (reference.HardSwish, F.hardswish),
    "GELU": (reference.GELU, F.gelu),
    "GELU-tanh": (lambda: reference.GELU("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "SiLU": (reference.SiLU, F.silu),
    "Sigmoid": (reference.Sigmoid, torch.sigmoid),
    "Tanh": (reference.Tanh, torch.tanh),
    "SoftmaxActivation": (reference.SoftmaxActivation, lambda x: F.softmax(x, dim=1)),
}


@pytest.mark.parametrize("shape", ELEMENTWISE_SHAPES, ids=str)
@pytest.mark.parametrize(("make", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_activation(make, function, shape):
    x = 4 * normal(*shape)
    x.flat[0] = 0
    assert_layer_equals(make(), x, function)


def scaled(layer, shape):
    """Return the layer with a γ and a β that are not 1 and 0."""
    layer.build(shape[1:])
    layer.gamma, layer.beta = normal(*layer.gamma.shape, seed=1), normal(*layer.beta.shape, seed=2)
    return layer


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_norms(shape):
    x, names = 1 + 2 * normal(*shape), ("gamma", "beta")
    if shape[2:] or shape[1] > 2:  # PyTorch refuses groups of one number
        assert_layer_equals(
            scaled(reference.GroupNorm(2), shape), x, lambda x, g, b: F.group_norm(x, 2, g, b, 1e-5), names
        )
    assert_layer_equals(
        scaled(reference.LayerNorm(), shape), x, lambda x, g, b: F.layer_norm(x, shape[1:], g, b, 1e-5), names
    )


@pytest.mark.parametrize("shape", NORM_SHAPES, ids=str)
def test_batch_norm(shape):
    layer = scaled(reference.BatchNorm(0.3), shape)
    mean, var = tensor(np.zeros(shape[1])), tensor(np.ones(shape[1]))
    for training, seed in [(True, 0), (True, 1), (False, 2)]:
        layer.training = training

        def norm(x, gamma, beta, training=training):
            return F.batch_norm(x, mean, var, gamma, beta, training, 0.3, 1e-5)

        assert_layer_equals(layer, 1 + 2 * normal(*shape, seed=seed), norm, ("gamma", "beta"))
        assert_equal(layer.running_mean, mean)
        assert_equal(layer.running_var, var)


# -------------------------------------------------------------------------------------------------------------- losses


def assert_loss_equals(loss, function, z, y, to_tensor=tensor):
    Z = tensor(z, requires_grad=True)
    expected = function(Z, to_tensor(y))
    expected.backward()
    assert loss(z, y) == pytest.approx(expected.item(), rel=1e-12)
    assert_equal(loss.gradient(z, y), Z.grad)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weight", [None, np.array([0.5, 2, 1, 0, 3])], ids=["plain", "class-weight"])
def test_cross_entropy(label_smoothing, class_weight):
    z, classes = 3 * normal(7, 5), np.array([4, 0, 2, 2, 1, 3, 0])
    loss = reference.CrossEntropy(label_smoothing, class_weight)
    weight = None if class_weight is None else tensor(class_weight)

    def cross_entropy(z, y):
        return F.cross_entropy(z, y, weight, label_smoothing=label_smoothing)

    assert_loss_equals(loss, cross_entropy, z, classes, torch.tensor)
    if class_weight is None:  # with class weights PyTorch divides rows by N, classes by the sum of weights
        assert_loss_equals(loss, cross_entropy, z, np.eye(5)[classes])
        soft = np.random.RandomState(1).dirichlet(np.ones(5), size=7)
        assert_loss_equals(loss, cross_entropy, z, soft)


@pytest.mark.parametrize("shape", [(6,), (5, 4), (2, 3, 4, 5)], ids=str)
def test_elementwise_losses(shape):
    z, y = 2 * normal(*shape), normal(*shape, seed=1)
    z.flat[0] = y.flat[0]
    assert_loss_equals(reference.MeanSquaredError(), F.mse_loss, z, y)
    assert_loss_equals(reference.MeanAbsoluteError(), F.l1_loss, z, y)
    assert_loss_equals(reference.Huber(), F.huber_loss, z, y)
    assert_loss_equals(reference.Huber(0.3), lambda z, y: F.huber_loss(z, y, delta=0.3), z, y)
    labels = np.random.RandomState(2).uniform(size=shape)
    assert_loss_equals(reference.BinaryCrossEntropy(), F.binary_cross_entropy_with_logits, 9 * z, labels)


# ------------------------------------------------------------------------------------------------ optimizers, schedules

OPTIMIZERS = {
    "SGD": (reference.SGD, torch.optim.SGD, {}),
    "SGD-momentum": (reference.SGD, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "SGD-nesterov": (reference.SGD, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "Adam": (reference.Adam, torch.optim.Adam, {}),
    "Adam-all": (reference.Adam, torch.optim.Adam, {"betas": (0.7, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    "AdamW": (reference.AdamW, torch.optim.AdamW, {}),
    "AdamW-all": (reference.AdamW, torch.optim.AdamW, {"betas": (0.7, 0.8), "eps": 1e-3, "weight_decay": 0.1}),
    "RMSprop": (reference.RMSprop, torch.optim.RMSprop, {}),
    "RMSprop-all": (
        reference.RMSprop,
        torch.optim.RMSprop,
        {"alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.9, "centered": True},
    ),
}


@pytest.mark.parametrize("learning_rate", [None, 0.1], ids=["default-rate", "rate"])
@pytest.mark.parametrize(("ours", "theirs", "arguments"), OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_optimizer(ours, theirs, arguments, learning_rate):
    parameters = {"a": normal(3, 4), "b": normal(5, seed=1)}
    tensors = [tensor(array, requires_grad=True) for array in parameters.values()]
    renamed = {"epsilon" if name == "eps" else name: value for name, value in arguments.items()}
    if learning_rate is None:  # the defaults are PyTorch's, except that its SGD has 0.001
        rate = 0.01 if ours is reference.SGD else theirs(tensors).defaults["lr"]
        optimizer = ours(**renamed)
    else:
        rate, optimizer = learning_rate, ours(learning_rate, **renamed)
    witness = theirs(tensors, lr=rate, **arguments)
    for seed in range(10):
        gradients = {name: normal(*array.shape, seed=seed) for name, array in parameters.items()}
        optimizer.step(parameters, gradients)
        for theirs_, gradient in zip(tensors, gradients.values(), strict=True):
            theirs_.grad = tensor(gradient)
        witness.step()
        for array, theirs_ in zip(parameters.values(), tensors, strict=True):
            assert_equal(array, theirs_)


@pytest.mark.parametrize("max_norm", [0.5, 100])
def test_clipping(max_norm):
    gradients = {"a": normal(3, 4), "b": normal(5, seed=1)}
    tensors = [torch.zeros(array.shape, dtype=torch.float64, requires_grad=True) for array in gradients.values()]
    for theirs, gradient in zip(tensors, gradients.values(), strict=True):
        theirs.grad = tensor(gradient)
    expected = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
    assert reference.clip_by_global_norm(gradients, max_norm) == pytest.approx(expected.item(), rel=1e-12)
    for theirs, gradient in zip(tensors, gradients.values(), strict=True):
        assert_equal(gradient, theirs.grad)


def test_exponential_moving_average():
    model = torch.nn.Linear(3, 2, dtype=torch.float64)
    witness = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    average = reference.ExponentialMovingAverage(0.9)
    for seed in range(4):
        with torch.no_grad():
            model.weight.copy_(tensor(normal(2, 3, seed=seed)))
        average.update({"weights": model.weight.detach().numpy()})
        witness.update_parameters(model)
        assert_equal(average.averages["weights"], witness.module.weight)


SCHEDULES = {
    "StepDecay": (reference.StepDecay(0.4, 3, 0.5), 20, lambda s, o: s.StepLR(o, 3, 0.5)),
    "ExponentialDecay": (reference.ExponentialDecay(0.4, 0.9), 20, lambda s, o: s.ExponentialLR(o, 0.9)),
    "CosineDecay": (reference.CosineDecay(0.4, 19, 0.1), 20, lambda s, o: s.CosineAnnealingLR(o, 19, 0.1)),
    "OneCycle": (reference.OneCycle(0.4, 20), 20, lambda s, o: s.OneCycleLR(o, 0.4, 20, cycle_momentum=False)),
    "OneCycle-all": (
        reference.OneCycle(0.4, 17, 0.55, 10.0, 100.0),
        17,
        lambda s, o: s.OneCycleLR(o, 0.4, 17, None, None, 0.55, "cos", False, 0.85, 0.95, 10.0, 100.0),
    ),
    "WarmUp": (
        reference.WarmUp(reference.ConstantRate(0.4), 5),
        20,
        lambda s, o: s.LinearLR(o, total_iters=5),
    ),
}


@pytest.mark.parametrize(("schedule", "steps", "make"), SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedule(schedule, steps, make):
    optimizer = torch.optim.SGD([tensor(np.zeros(1), requires_grad=True)], lr=0.4)
    witness = make(torch.optim.lr_scheduler, optimizer)
    for step in range(steps):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        if step < steps - 1:
            witness.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_reduce_on_plateau(mode, cooldown):
    optimizer = torch.optim.SGD([tensor(np.zeros(1), requires_grad=True)], lr=0.4)
    witness = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, 0.5, 2, 0.05, cooldown=cooldown, min_lr=0.01)
    ours = reference.ReduceOnPlateau(0.4, 0.5, 2, 0.05, cooldown, 0.01, mode)
    values = np.exp(-np.linspace(0, 1, 60)) + 0.1 * np.random.RandomState(0).uniform(size=60)
    for value in values if mode == "min" else -values + 2:
        witness.step(value)
        assert ours.report(value) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours.learning_rate < 0.4
