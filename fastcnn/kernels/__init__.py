"""Compiled numerics: arrays in, arrays out; never allocates, checks or prints.

Here `kernels.norm`, say, is a family of kernels that were compiled before and are kept on disk. The file itself is
imported, and Numba with it, only when one of its kernels must be compiled. So this file names all kernels.
"""

from __future__ import annotations

from typing import Any

# For each file its public kernels.
FAMILIES: dict[str, tuple[str, ...]] = {
    "activation": (
        "relu",
        "relu_backward",
        "leaky_relu",
        "leaky_relu_backward",
        "elu",
        "elu_backward",
        "gelu",
        "gelu_backward",
        "gelu_tanh",
        "gelu_tanh_backward",
        "silu",
        "silu_backward",
        "sigmoid",
        "sigmoid_backward",
        "hyperbolic_tangent",
        "hyperbolic_tangent_backward",
        "copy",
        "channel_softmax",
        "channel_softmax_backward",
    ),
    "augment": (
        "move",
        "turn",
        "adjust",
        "cut",
        "crop",
        "jitter",
        "paste",
    ),
    "clipped": (
        "clip",
        "clip_backward",
        "hard_sigmoid",
        "hard_sigmoid_backward",
        "hard_swish",
        "hard_swish_backward",
    ),
    "compare": ("note_change",),
    "conv_depthwise": (
        "forward",
        "forward_3x3",
        "filter_gradient",
        "filter_gradient_3x3",
        "clear",
        "repeat",
        "repeat_backward",
    ),
    "conv_direct": (
        "forward_pool",
        "input_gradient_by_taps",
        "input_gradient_of_few",
        "clear_columns",
        "filter_gradient_pool",
    ),
    "conv_groups": (
        "spread",
        "gather",
    ),
    "conv_pixels": ("forward_pool",),
    "conv_pointwise": (
        "pack",
        "forward",
        "filter_gradient",
    ),
    "conv_sparse": (
        "filter_gradient",
        "input_gradient",
        "pack_by_filter",
    ),
    "conv_winograd": (
        "transform_filters",
        "forward",
        "filter_gradient",
    ),
    "dense": ("few_rows",),
    "dense_wide": (
        "product",
        "weight_gradient",
        "input_gradient",
        "features",
        "maps",
    ),
    "dropout": (
        "sample_keys",
        "dropout",
    ),
    "load": ("load",),
    "loss": (
        "softmax",
        "softmax_cross_entropy",
        "soft_cross_entropy",
        "label_cross_entropy",
        "binary_cross_entropy",
        "squared_error",
        "absolute_error",
        "huber",
    ),
    "norm": (
        "moments",
        "normalise",
        "normalise_blocked",
        "gradient_sums",
        "normalise_backward",
        "normalise_backward_blocked",
        "join",
        "update_running",
        "coefficients",
        "add_sums",
        "gradient_coefficients",
        "parameter_gradients",
        "group_norm",
        "group_norm_sums",
        "group_norm_backward",
        "layer_norm",
        "layer_norm_sums",
        "layer_norm_backward",
    ),
    "orthogonal": (
        "orthogonalise",
        "bring_to_norm",
        "descend",
    ),
    "pool": (
        "pool2",
        "pool2_backward",
        "pool2_backward_stream",
        "pool",
        "pool_backward",
        "pool3",
        "pool3_backward",
        "window_sum",
        "global_average",
        "global_maximum",
        "global_maximum_backward",
    ),
    "prelu": (
        "spread",
        "prelu",
        "prelu_backward",
        "slope_gradient",
    ),
    "product": (
        "product",
        "gradient_product",
        "gradient_of_panels",
        "pack_and_add",
        "pack",
        "pack_transposed",
    ),
    "residual": (
        "add",
        "add_backward",
        "copy_channels",
    ),
    "smooth": (
        "celu",
        "celu_backward",
        "softplus",
        "softplus_backward",
        "mish",
        "mish_backward",
    ),
    "update": (
        "sgd",
        "sgd_momentum",
        "adam",
        "rmsprop",
        "rmsprop_with_means",
        "lion",
        "momentum_direction",
        "momentum_step",
        "add_rows",
        "sum_squares",
        "blend",
        "look_ahead",
        "average",
    ),
    "winograd_products": (
        "point_products",
        "point_gradients",
        "transpose_points",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in FAMILIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ..jit.kernel import Family

    family = globals()[name] = Family(name, FAMILIES[name])
    return family
