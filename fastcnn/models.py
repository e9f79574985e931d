"""Ready networks, by input shape and number of classes: from the notebook's successor to ResNet-20."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from . import checks, exact
from .layers.activation import GELU, ReLU
from .layers.base import Layer
from .layers.branches import Concat, Residual
from .layers.conv import Conv2D
from .layers.dense import Dense
from .layers.depthwise import DepthwiseConv2D
from .layers.initializers import Dirac, HeNormal, Whitening
from .layers.norm import BatchNorm
from .layers.pool import GlobalAvgPool2D, MaxPool2D, UpSample2D
from .layers.scale import Scale
from .layers.shape import Flatten
from .layers.transpose import Conv2DTranspose
from .model import Sequential
from .typing import Array, Shape

Upsampling = Literal["transposed", "bilinear", "nearest"]
OF_PIXELS = ("unet",)  # networks whose output is a map, and no row of logits
SAMPLED = 5000  # images that are looked at to normalise and to whiten


def digits_default(input_shape: Shape = (1, 8, 8), num_classes: int = 10) -> Sequential:
    """Return the network of `fastcnn train digits`: three 3 x 3 convolutions (32, 32, 64), two poolings, a dense layer.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 4 x 4.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    compact : A network for small images and little time.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.digits_default((1, 8, 8)).build((1, 8, 8), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    30634
    """
    layers = [*_vgg_group(32), *_vgg_group(32), MaxPool2D(2), *_vgg_group(64), MaxPool2D(2)]
    return _network("digits_default", layers, [], input_shape, num_classes)


def lenet5(input_shape: Shape = (1, 28, 28), num_classes: int = 10) -> Sequential:
    """Return LeNet-5 as it is built today: ReLU and max-pooling, 6 and 16 filters of 5 x 5, dense 120, 84.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 12 x 12.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    keras_mnist : The network of Keras's first example.
    compact : A network for small images and little time.

    References
    ----------
    LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86 (1998), section II.B.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.lenet5((1, 28, 28)).build((1, 28, 28), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    61706
    """
    layers = [Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(2), Conv2D(16, 5), ReLU(), MaxPool2D(2)]
    return _network("lenet5", layers, [120, 84], input_shape, num_classes)


def keras_mnist(input_shape: Shape = (1, 28, 28), num_classes: int = 10) -> Sequential:
    """Return the network of Keras's first example, without its dropout: 32 and 64 filters of 3 x 3, a dense layer.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 10 x 10.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    lenet5 : LeNet-5.

    References
    ----------
    Chollet, "Simple MNIST convnet", keras.io/examples/vision/mnist_convnet.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.keras_mnist((1, 28, 28)).build((1, 28, 28), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    34826
    """
    layers = [Conv2D(32, 3), ReLU(), MaxPool2D(2), Conv2D(64, 3), ReLU(), MaxPool2D(2)]
    return _network("keras_mnist", layers, [], input_shape, num_classes)


def compact(input_shape: Shape = (1, 28, 28), num_classes: int = 10) -> Sequential:
    """Return a network for small images and little time: a 5 x 5 convolution (32), 3 x 3 (64, 64, 128), a dense layer.

    A pooling behind the first, second and last convolution, the mean over what is left of the image behind all. The
    3 x 3 convolutions have batch normalisation, behind the pooling where there is one: it has a quarter to sweep then,
    and the maximum passes through it as long as gamma is positive.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 8 x 8.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    resnet6 : A bigger network than `compact`, with a residual block.
    lenet5 : LeNet-5.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.compact((1, 28, 28)).build((1, 28, 28), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    131658
    """
    layers = [*_early(32), *_halving(64), *_unit(64), *_halving(128), GlobalAvgPool2D()]
    return _network("compact", layers, [], input_shape, num_classes)


def mini(input_shape: Shape = (1, 28, 28), num_classes: int = 10) -> Sequential:
    """Return a network that learns digits in one epoch: a 5 x 5 convolution (8), 3 x 3 (32, 64), a dense layer.

    A pooling behind each convolution, and behind those of the 3 x 3 ones batch normalisation: `compact` with a sixth of
    the work.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 8 x 8.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    compact : A network for small images and little time.

    Examples
    --------
    >>> from fastcnn import models
    >>> models.mini((1, 28, 28)).output_shape((1, 28, 28))
    (10,)
    """
    return _network("mini", [*_early(8), *_halving(32), *_halving(64)], [], input_shape, num_classes)


def resnet6(input_shape: Shape = (1, 28, 28), num_classes: int = 10) -> Sequential:
    """Return `compact`'s bigger brother: a 5 x 5 convolution (32), 3 x 3 (64, 96), a residual block of two (96, 96).

    A pooling behind the first and third convolution; then the mean over the image, and a dense layer. A short and
    narrow form of the ResNet-9 that is known from training contests, with more of its work on the image that is halved
    once.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 4 x 4.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    compact : A network for small images and little time.
    resnet20 : ResNet-20.

    References
    ----------
    He et al., "Deep residual learning for image recognition", CVPR 2016, section 3; Coleman et al., "DAWNBench: an
    end-to-end deep learning benchmark and competition", NeurIPS ML Systems Workshop 2017.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.resnet6((1, 28, 28)).build((1, 28, 28), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    242122
    """
    residual = Residual([*_unit(96), *_unit(96)])
    layers = [*_early(32), *_unit(64), *_halving(96), residual, GlobalAvgPool2D()]
    return _network("resnet6", layers, [], input_shape, num_classes)


def vgg6(input_shape: Shape = (3, 32, 32), num_classes: int = 10) -> Sequential:
    """Return six 3 x 3 convolutions in groups of two (32, 64, 128), a pooling behind each group, dense 128.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 8 x 8.
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    resnet20 : ResNet-20.

    References
    ----------
    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.vgg6((3, 32, 32)).build((3, 32, 32), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    550570
    """
    layers = [layer for width in (32, 64, 128) for layer in (*_vgg_group(width, width), MaxPool2D(2))]
    return _network("vgg6", layers, [128], input_shape, num_classes)


def airbench(
    input_shape: Shape = (3, 32, 32),
    num_classes: int = 10,
    widths: tuple[int, int, int] = (64, 256, 256),
    images: Any = None,
) -> Sequential:
    """Return the network of the record on CIFAR-10: a whitened first layer, three blocks of two 3 x 3 convolutions.

    A 2 x 2 convolution without padding, whose filters are not trained; in each block a pooling behind the first
    convolution, and behind both batch normalisation without a scale and GELU; the maximum over what is left of the
    image; a dense layer without biases, whose outputs are divided by 9. Filters begin as the identity, as far as there
    are channels. With `images` the input is normalised by their means and deviations, channel by channel, and the first
    filters whiten them; without, they are drawn.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W); at least 9 x 9.
    num_classes : int
        Outputs of the last layer.
    widths : tuple of int
        The filters of each block.
    images : array of shape (N, C, H, W), optional
        Such as those to train on, of uint8 or from 0 to 1; of many, evenly spaced ones serve.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    resnet6 : A bigger network than `compact`, with a residual block.
    vgg6 : Six convolutions in groups of two.

    References
    ----------
    Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498, section 3 and appendix A (airbench94).

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.airbench((3, 32, 32)).build((3, 32, 32), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    1971640
    """
    channels, height, width = (*checks.check_input_shape(input_shape, "airbench"), 1, 1)[:3]
    front: list[Layer] = []
    whitening = None
    if images is not None:
        means, deviations, normalised = _normalised_images(images)
        front = [Scale(tuple(1 / d for d in deviations), tuple(-m / d for m, d in zip(means, deviations, strict=True)))]
        whitening = Whitening(normalised)
    filters = 8 * channels
    layers = [
        *front, Conv2D(filters, 2, initializer=whitening, trainable=("biases",), name="whitening"), GELU(),
        *(layer for number, block in enumerate(widths) for layer in _identity_block(block, first=number == 0)),
    ]  # fmt: skip
    before = Sequential(layers)
    try:
        _, rows, columns = before.output_shape((channels, height, width))
    except ValueError as error:
        raise ValueError(
            f"airbench: input_shape: expected one that all layers can take; got {input_shape}: {error}"
        ) from None
    dense = Dense(checks.as_positive_int(num_classes, "airbench", "num_classes"), False, initializer=HeNormal(1 / 3))
    return Sequential([*layers, MaxPool2D((rows, columns)), Flatten(), dense, Scale(1 / 9)])


def resnet20(input_shape: Shape = (3, 32, 32), num_classes: int = 10) -> Sequential:
    """Return ResNet-20: three stages (16, 32, 64) of three residual blocks of two 3 x 3 convolutions; option A.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    resnet6 : A bigger network than `compact`, with a residual block.
    vgg6 : Six convolutions in groups of two.

    References
    ----------
    He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.resnet20((3, 32, 32)).build((3, 32, 32), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    269722
    """
    layers = [*_normalised(Conv2D(16, 3, padding=1, bias=False)), ReLU()]
    for width in (16, 32, 64):
        for block in range(3):
            down = block == 0 and width > 16
            inside = [
                *_normalised(Conv2D(width, 3, stride=2 if down else 1, padding=1, bias=False)), ReLU(),
                *_normalised(Conv2D(width, 3, padding=1, bias=False)),
            ]  # fmt: skip
            layers += [Residual(inside, "pad" if down else None), ReLU()]
    return _network("resnet20", [*layers, GlobalAvgPool2D()], [], input_shape, num_classes)


def mobilenet_small(input_shape: Shape = (3, 32, 32), num_classes: int = 10) -> Sequential:
    """Return a small MobileNet for small images: a 3 x 3 convolution (32), then five depthwise separable blocks.

    A block is a depthwise 3 x 3 and a pointwise convolution, each with batch normalisation and ReLU: to 64 channels,
    to 128 with stride 2, to 128, to 256 with stride 2, to 256.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W).
    num_classes : int
        Outputs of the last layer.

    Returns
    -------
    Sequential
        Not built yet; it ends in logits.

    See Also
    --------
    resnet20 : ResNet-20.

    References
    ----------
    Howard et al., "MobileNets: efficient convolutional neural networks for mobile vision applications",
    arXiv:1704.04861 (2017), section 3, table 1.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.mobilenet_small((3, 32, 32)).build((3, 32, 32), random_state=0)
    >>> sum(array.size for array in model.parameters.values())
    136778
    """
    layers = [*_normalised(Conv2D(32, 3, padding=1, bias=False)), ReLU()]
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)):
        layers += [*_normalised(DepthwiseConv2D(3, stride=stride, padding=1, bias=False)), ReLU()]
        layers += [*_normalised(Conv2D(width, 1, bias=False)), ReLU()]
    return _network("mobilenet_small", [*layers, GlobalAvgPool2D()], [], input_shape, num_classes)


def unet(
    input_shape: Shape = (1, 64, 64),
    num_classes: int = 2,
    num_filters: int = 16,
    depth: int = 3,
    upsampling: Upsampling = "transposed",
) -> Sequential:
    """Return a U-Net, which says a class for each pixel: it makes images small and large again, with shortcuts.

    On each level two 3 x 3 convolutions with batch normalisation and ReLU; then a pooling, the levels below with twice
    as many filters, an upsampling, and beside its channels those from before the pooling; then two convolutions again.
    A 1 x 1 convolution at the end gives the logits of each pixel.

    Parameters
    ----------
    input_shape : tuple of int
        (C, H, W), H and W multiples of 2^depth.
    num_classes : int
        Channels of the output; 1 for `BinaryCrossEntropy`.
    num_filters : int
        Of the first level.
    depth : int
        How often the image is halved.
    upsampling : {"transposed", "bilinear", "nearest"}
        A transposed 2 x 2 convolution of stride 2, or a 1 x 1 convolution and an `UpSample2D`.

    Returns
    -------
    Sequential
        Not built yet; from (N, C, H, W) to logits (N, num_classes, H, W). The class of a pixel is
        `model.predict(x).argmax(axis=1)`.

    See Also
    --------
    CrossEntropy : The loss, also of pixels.
    UpSample2D : Upsampling.

    Notes
    -----
    Here the convolutions are padded, so that the output is as large as the input, and have batch normalisation; in the
    paper they have neither, and the image is halved four times, from 64 filters on.

    References
    ----------
    Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015,
    section 2; Ioffe and Szegedy, "Batch normalization", ICML 2015.

    Examples
    --------
    >>> from fastcnn import models
    >>> model = models.unet((3, 64, 48), num_classes=5).build((3, 64, 48), random_state=0)
    >>> model.output_shape((3, 64, 48)), sum(array.size for array in model.parameters.values())
    ((5, 64, 48), 482805)
    """
    shape = checks.check_input_shape(input_shape, "unet")
    classes = checks.as_positive_int(num_classes, "unet", "num_classes")
    width = checks.as_positive_int(num_filters, "unet", "num_filters")
    levels = checks.as_positive_int(depth, "unet", "depth")
    if upsampling not in ("transposed", "bilinear", "nearest"):
        raise ValueError(f"unet: upsampling: expected 'transposed', 'bilinear' or 'nearest'; got {upsampling!r}")
    step = 1 << levels
    if len(shape) != 3 or shape[1] % step or shape[2] % step:
        raise ValueError(
            f"unet: input_shape: expected (C, H, W) with H and W multiples of {step} = 2^depth; got {shape}"
        )
    widths = [width << level for level in range(levels + 1)]
    return Sequential([*_levels(widths, upsampling), Conv2D(classes, 1)])


def _levels(widths: Sequence[int], upsampling: Upsampling) -> list[Layer]:
    """Return a level of a U-Net, of so many filters, around those below it."""
    width, *below = widths
    there = [*_unit(width), *_unit(width)]
    if not below:
        return there
    larger = [MaxPool2D(2), *_levels(below, upsampling), *_enlarging(width, upsampling)]
    return [*there, Concat([[], larger]), *_unit(width), *_unit(width)]


def _enlarging(width: int, upsampling: Upsampling) -> list[Layer]:
    """Return layers that double the size of the image."""
    if upsampling == "transposed":
        return [Conv2DTranspose(width, 2, stride=2)]
    return [Conv2D(width, 1), UpSample2D(2, upsampling)]


def _identity_block(width: int, *, first: bool) -> list[Layer]:
    """Return two convolutions that begin as the identity, a pooling, norms without scale, and GELU."""

    def convolution(algorithm: str = "auto") -> Layer:
        return Conv2D(width, 3, padding=1, bias=False, initializer=Dirac(HeNormal(1 / 3)), algorithm=algorithm)

    # Behind 24 channels direct products take longer, by 14 percent of a step.
    head = convolution("winograd4" if first else "auto")
    return [
        head, MaxPool2D(2), BatchNorm(0.4, 1e-12, scale=False), GELU(),
        convolution(), BatchNorm(0.4, 1e-12, scale=False), GELU(),
    ]  # fmt: skip


def _normalised_images(images: Any) -> tuple[list[float], list[float], Array]:
    """Return mean and deviation of each channel, and the images normalised by them: evenly spaced ones of many."""
    few = np.asarray(images[:: -(-len(images) // SAMPLED)])
    x = few / 255 if few.dtype == np.uint8 else few.astype(np.float64)
    numbers = x.transpose(1, 0, 2, 3).reshape(x.shape[1], -1)
    means = exact.mean(numbers.T)
    deviations = np.sqrt(exact.mean(np.square(numbers - means[:, None]).T))
    deviations = np.where(deviations > 0, deviations, 1.0)
    shape = (1, -1, 1, 1)
    return means.tolist(), deviations.tolist(), (x - means.reshape(shape)) / deviations.reshape(shape)


def _vgg_group(*widths: int) -> list[Layer]:
    """Return 3 x 3 convolutions of these widths that keep the size, each with a ReLU."""
    return [layer for width in widths for layer in (Conv2D(width, 3, padding=1), ReLU())]


def _early(width: int) -> list[Layer]:
    """Return a first convolution that sees 5 x 5 pixels and halves the image, in one pass over it."""
    return [Conv2D(width, 5, padding=2), ReLU(), MaxPool2D(2)]


def _unit(width: int) -> list[Layer]:
    """Return a 3 x 3 convolution that keeps the size, batch normalisation and ReLU."""
    return [*_normalised(Conv2D(width, 3, padding=1, bias=False)), ReLU()]


def _halving(width: int) -> list[Layer]:
    """Return such a convolution with a pooling ahead of the normalisation."""
    return [Conv2D(width, 3, padding=1, bias=False), MaxPool2D(2), BatchNorm(), ReLU()]


def _normalised(convolution: Layer) -> list[Layer]:
    """Return a convolution without bias, and the batch normalisation that has one."""
    return [convolution, BatchNorm()]


def _network(
    name: str, layers: Sequence[Layer], hidden: Sequence[int], input_shape: Shape, num_classes: int
) -> Sequential:
    """Return a network with hidden dense layers and one for the classes at its end, if it fits the input."""
    shape = checks.check_input_shape(input_shape, name)
    classes = checks.as_positive_int(num_classes, name, "num_classes")
    dense = [layer for nodes in hidden for layer in (Dense(nodes), ReLU())]
    flatten = [] if isinstance(layers[-1], GlobalAvgPool2D) else [Flatten()]
    model = Sequential([*layers, *flatten, *dense, Dense(classes)])
    try:
        model.output_shape(shape)
    except ValueError as error:
        raise ValueError(f"{name}: input_shape: expected one that all layers can take; got {shape}: {error}") from None
    return model
