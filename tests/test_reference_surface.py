"""The reference: how its layers are called, which first parameters they draw, and what is exported."""

from __future__ import annotations

import inspect

import numpy as np

import reference
from reference.draws import normal


def test_parameters_are_drawn_in_public_shape_from_the_seed():
    conv = reference.Conv2D(6, (3, 2), groups=2, random_state=7).build((4, 8, 8))
    expected = np.random.RandomState(7).standard_normal((6, 2, 3, 2)) * np.sqrt(2 / (2 * 3 * 2))
    np.testing.assert_allclose(conv.filters, expected, rtol=1e-15)
    np.testing.assert_array_equal(conv.biases, np.zeros(6))
    dense = reference.Dense(5, random_state=np.random.default_rng(7)).build((3,))
    expected = normal(np.random.default_rng(7), (3, 5)) * np.sqrt(2 / 3)
    np.testing.assert_array_equal(dense.weights, expected)
    softmax = reference.Softmax(12, 5, random_state=7)
    expected = np.random.RandomState(7).standard_normal((12, 5)) * np.sqrt(2 / 12)
    np.testing.assert_allclose(softmax.weights, expected, rtol=1e-15)


def test_random_state_none_is_numpys_global_generator():
    np.random.seed(3)
    first = reference.Conv2D(4, 3).build((1, 8, 8)).filters, reference.Softmax(9, 2).weights
    np.random.seed(3)
    expected = np.random.randn(4, 1, 3, 3) * np.sqrt(2 / 9), np.random.randn(9, 2) * np.sqrt(2 / 9)
    np.testing.assert_allclose(first[0], expected[0], rtol=1e-15)
    np.testing.assert_allclose(first[1], expected[1], rtol=1e-15)
    shared = np.random.RandomState(0)
    one, two = (reference.Dense(2, random_state=shared).build((3,)) for _ in range(2))
    assert not np.array_equal(one.weights, two.weights)


def test_build_draws_once_and_assignment_writes_in_place():
    conv = reference.Conv2D(4, 3)
    assert conv.build((1, 8, 8)) is conv
    filters = conv.filters
    before = filters.copy()
    conv.build((1, 5, 9))
    conv.forward(np.zeros((1, 1, 7, 7)))
    np.testing.assert_array_equal(conv.filters, before)
    conv.filters = np.ones((4, 1, 3, 3), dtype=np.float32)
    assert conv.filters is filters is conv.parameters["filters"]
    assert (filters == 1).all()


def test_filters_of_the_other_convolutions_are_drawn_in_public_shape_too():
    def draw(rng, shape, fan_in):
        return normal(rng, shape) * np.sqrt(2 / fan_in)

    depthwise = reference.DepthwiseConv2D((3, 2), depth_multiplier=2, random_state=7).build((3, 8, 8))
    np.testing.assert_array_equal(depthwise.filters, draw(np.random.RandomState(7), (6, 1, 3, 2), 6))
    transposed = reference.Conv2DTranspose(4, (3, 2), groups=2, random_state=7).build((6, 8, 8))
    np.testing.assert_array_equal(transposed.filters, draw(np.random.RandomState(7), (6, 2, 3, 2), 3 * 6))
    separable, rng = reference.SeparableConv2D(4, (3, 2), random_state=7).build((3, 8, 8)), np.random.RandomState(7)
    np.testing.assert_array_equal(separable.depthwise_filters, draw(rng, (3, 1, 3, 2), 6))
    np.testing.assert_array_equal(separable.pointwise_filters, draw(rng, (4, 3, 1, 1), 3))
    for layer in (depthwise, transposed, separable):
        np.testing.assert_array_equal(layer.biases, 0)


CONSTRUCTORS = """
Conv2D(num_filters, filter_size, stride=1, padding=0, dilation=1, groups=1, bias=True, random_state=None)
DepthwiseConv2D(filter_size, stride=1, padding=0, dilation=1, depth_multiplier=1, bias=True, random_state=None)
SeparableConv2D(num_filters, filter_size, stride=1, padding=0, dilation=1, bias=True, random_state=None)
Conv2DTranspose(num_filters, filter_size, stride=1, padding=0, output_padding=0, dilation=1, groups=1, bias=True, \
random_state=None)
Dense(nodes, bias=True, random_state=None)
Softmax(input_len, nodes, random_state=None)
Flatten()
Pad(padding, mode='constant', value=0.0)
Scale(factor, shift=0.0)
PowerDecay(learning_rate, total_steps, power=1.0, minimum=0.0)
Triangle(learning_rate, total_steps, start=0.0, end=0.0, peak=0.5)
MaxPool2()
MaxPool2D(pool_size=2, stride=None, padding=0, dilation=1, ceil_mode=False)
AvgPool2D(pool_size=2, stride=None, padding=0, count_include_pad=True, dilation=1, ceil_mode=False)
GlobalAvgPool2D()
GlobalMaxPool2D()
UpSample2D(size=2, mode='nearest')
BatchNorm(momentum=0.1, epsilon=1e-05, scale=True, center=True)
GroupNorm(num_groups, epsilon=1e-05)
LayerNorm(epsilon=1e-05)
Dropout(rate=0.5, random_state=None)
SpatialDropout2D(rate=0.5, random_state=None)
ReLU()
LeakyReLU(negative_slope=0.01)
ELU(alpha=1.0)
CELU(alpha=1.0)
GELU(approximate='none')
Softplus(beta=1.0, threshold=20.0)
Mish()
ReLU6()
HardSigmoid()
HardSwish()
PReLU(num_parameters=1, init=0.25)
SiLU()
Sigmoid()
Tanh()
SoftmaxActivation()
Residual(layers, shortcut=None)
Concat(branches)
CrossEntropy(label_smoothing=0.0, class_weight=None, ignore_index=None)
BinaryCrossEntropy()
MeanSquaredError()
MeanAbsoluteError()
Huber(delta=1.0)
SGD(learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0)
Adam(learning_rate=0.001, betas=(0.9, 0.999), epsilon=1e-08, weight_decay=0.0)
AdamW(learning_rate=0.001, betas=(0.9, 0.999), epsilon=1e-08, weight_decay=0.01, no_decay=())
RMSprop(learning_rate=0.01, alpha=0.99, epsilon=1e-08, weight_decay=0.0, momentum=0.0, centered=False)
Lion(learning_rate=0.0001, betas=(0.9, 0.99), weight_decay=0.0, no_decay=())
Muon(learning_rate=0.02, momentum=0.95, nesterov=True, weight_decay=0.0, no_decay=(), ns_steps=5, \
adjust_learning_rate='original', normalize=False, adam=(), adam_factor=0.015, adam_betas=(0.9, 0.95), epsilon=1e-10, \
sgd=(), sgd_factor=1.0)
ExponentialMovingAverage(decay=0.999)
clip_by_global_norm(gradients, max_norm)
ConstantRate(learning_rate)
StepDecay(learning_rate, step_size, gamma=0.1)
ExponentialDecay(learning_rate, gamma)
CosineDecay(learning_rate, total_steps, minimum=0.0)
OneCycle(learning_rate, total_steps, warmup=0.3, div_factor=25.0, final_div_factor=10000.0)
WarmUp(schedule, steps, start_factor=0.3333333333333333)
ReduceOnPlateau(learning_rate, factor=0.1, patience=10, threshold=0.0001, cooldown=0, minimum=0.0, mode='min')
Augmentation(horizontal_flip=False, vertical_flip=False, shift=0, rotation=0.0, scale=0.0, contrast=0.0, \
brightness=0.0, cutout=0, mixup=0.0, padding='constant', fill=0.0, cutmix=0.0, crop=None, crop_ratio=(0.75, \
1.3333333333333333), color_jitter=None)
"""


def test_constructors_are_those_that_users_write():
    plain = inspect.Parameter.empty
    for name in reference.__all__:
        if inspect.isabstract(getattr(reference, name)):
            continue
        parameters = inspect.signature(getattr(reference, name)).parameters.values()
        written = ", ".join(str(parameter.replace(annotation=plain)) for parameter in parameters)
        assert f"\n{name}({written})\n" in CONSTRUCTORS, f"{name}({written})"
    concrete = [name for name in reference.__all__ if not inspect.isabstract(getattr(reference, name))]
    assert len(CONSTRUCTORS.strip().splitlines()) == len(concrete)


def test_everything_public_is_exported_and_described():
    assert reference.__all__ == sorted(reference.__all__, key=lambda name: (not name.isupper(), name))
    for name in reference.__all__:
        assert inspect.getdoc(getattr(reference, name))
