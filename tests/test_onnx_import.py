"""`from_onnx`: what we export, what PyTorch and Keras export, and single nodes compute the same here."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import pytest

import fastcnn
from fastcnn import Sequential, StorageError, Trainer, models
from tests.cases import LAYER_CASES
from tests.onnx_runs import assert_close, needs_onnx, run_onnxruntime
from tests.test_onnx_export import awake

needs_onnx()

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

# ------------------------------------------------------------------------------------------------------- there and back


# In prediction the first computes nothing, and ONNX knows no other use of it; the second is a choice by number.
WITHOUT_OPERATOR = {"SpatialDropout2D", "Softplus-bent"}


@pytest.mark.parametrize("case", [case for case in LAYER_CASES if case.name not in WITHOUT_OPERATOR], ids=str)
def test_every_layer_comes_back(case):
    model = awake(Sequential([case.make(fastcnn)]).build(case.input_shape[1:], random_state=0))
    back = fastcnn.from_onnx(fastcnn.to_onnx(model))
    x = np.random.default_rng(1).normal(size=case.input_shape).astype(np.float32)
    assert_close(back.predict(x), model.predict(x))
    if not case.name.startswith("SeparableConv2D") and case.name not in ("MaxPool2", "BatchNorm-dense"):
        shown = repr(back).replace("random_state=0, ", "")
        assert "".join(shown.split()).split("(")[:2] == "".join(repr(model).split()).split("(")[:2]


@pytest.mark.parametrize("name", ["lenet5", "resnet6", "mobilenet_small"])
def test_ready_networks_come_back_are_trained_on_and_go_again(name, tmp_path):
    shape = (3, 32, 32) if name == "mobilenet_small" else (1, 28, 28)
    model = awake(getattr(models, name)(shape).build(shape, random_state=0))
    fastcnn.to_onnx(model, tmp_path / "model.onnx")
    back = fastcnn.from_onnx(tmp_path / "model.onnx")
    x = np.random.default_rng(1).random((2, *shape), np.float32)
    assert_close(back.predict(x), model.predict(x))
    Trainer(back).step(x, np.array([1, 2]))
    fastcnn.save(back, tmp_path / "model.safetensors")
    again = fastcnn.load(tmp_path / "model.safetensors")
    assert again.digest() == back.digest() != model.digest()
    assert_close(run_onnxruntime(fastcnn.to_onnx(again), x)[0], back.predict(x))


# ------------------------------------------------------------------------------------------------------------- PyTorch


def networks():
    """Return small networks of PyTorch, each with the shape of a sample."""
    from torch import nn, relu, sigmoid

    class Block(nn.Module):
        """A basic residual block, with a projection or with zeros (option A)."""

        def __init__(self, inputs, outputs, stride, side=None):
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
            )  # fmt: skip
            self.side = side or nn.Identity()

        def forward(self, x):
            return relu(self.main(x) + self.side(x))

    class Call(nn.Module):
        """A function as a module."""

        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    class Concat(nn.Module):
        """Branches side by side."""

        def __init__(self, *branches):
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x):
            from torch import cat

            return cat([branch(x) for branch in self.branches], 1)

    class Joined(nn.Module):
        """A dense block as torchvision writes it: each layer reads all that is before it, joined anew."""

        def __init__(self, inputs, growth, count):
            super().__init__()
            sizes = [inputs + k * growth for k in range(count)]
            rows = [(nn.BatchNorm2d(size), nn.ReLU(), nn.Conv2d(size, growth, 3, padding=1)) for size in sizes]
            self.rows = nn.ModuleList(nn.Sequential(*row) for row in rows)

        def forward(self, x):
            from torch import cat

            found = [x]
            for row in self.rows:
                found.append(row(cat(found, 1)))
            return cat(found, 1)

    def separable(inputs, outputs, stride):
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
        )  # fmt: skip

    padded = Call(lambda x: nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 4)))
    flat = Call(lambda x: x.view(x.size(0), -1))
    mean = Call(lambda x: x.mean((2, 3)))
    projection = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
    return {
        "lenet": (
            (1, 16, 16), nn.Conv2d(1, 4, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(4, 6, 5), nn.ReLU(),
            nn.MaxPool2d(2), flat, nn.Linear(24, 12), nn.ReLU(), nn.Dropout(0.3), nn.Linear(12, 10),
        ),
        "vgg": (
            (3, 8, 8), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding="same"), nn.GELU(), nn.Flatten(), nn.Linear(128, 10), nn.Softmax(1),
        ),
        "resnet": (
            (3, 16, 16), nn.Conv2d(3, 4, 3, 1, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
            Block(4, 4, 1), Block(4, 8, 2, projection), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
        ),
        "option-a": ((3, 8, 8), nn.Conv2d(3, 4, 3, 1, 1), Block(4, 8, 2, padded), mean, nn.Linear(8, 3)),
        "mobilenet": (
            (3, 16, 16), nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), separable(8, 16, 1),
            separable(16, 16, 2), mean, nn.Linear(16, 10),
        ),
        "many": (
            (3, 8, 8),
            Concat(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU()), nn.AvgPool2d(3, 1, 1),
                   nn.Identity()),
            nn.GroupNorm(7, 14), nn.GELU("tanh"), nn.ConvTranspose2d(14, 6, 3, 2, 1, 1), nn.LeakyReLU(0.2), nn.ELU(),
            nn.LayerNorm([6, 16, 16]), nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=(1, 3), mode="bilinear"), Call(lambda x: x * sigmoid(x)),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 4, bias=False), nn.Sigmoid(),
        ),
        "densenet": (
            (3, 8, 8), nn.Conv2d(3, 4, 3, padding=1), Joined(4, 3, 3), nn.AvgPool2d(2), Joined(13, 2, 2),
            nn.AdaptiveAvgPool2d(2), flat, nn.Linear(68, 3),
        ),
        "poolings": (
            (3, 16, 16), nn.Conv2d(3, 4, 4, padding="same"), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(),
            nn.MaxPool2d(3, 1, 1, dilation=2), nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.ZeroPad2d((0, 1, 2, 0)),
            nn.Conv2d(4, 5, 2, 2), nn.AvgPool2d(2, 1, ceil_mode=True, count_include_pad=False),
            Call(lambda x: x.mean(3).mean(2)), nn.Linear(5, 3),
        ),
        "means": ((3, 6, 7), nn.Conv2d(3, 4, 2), Call(lambda x: x.flatten(2).mean(2)), nn.Linear(4, 3)),
    }  # fmt: skip


NETWORKS = ("lenet", "vgg", "resnet", "option-a", "mobilenet", "many", "densenet", "poolings", "means")


def of_torch(name):
    """Return a network of PyTorch with weights that are not as usual, and a batch for it."""
    torch = pytest.importorskip("torch", reason="expected torch, which writes these graphs")
    torch.manual_seed(0)
    shape, *modules = networks()[name]
    network = torch.nn.Sequential(*modules).eval()
    for module in network.modules():
        for key, tensor in {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers())}.items():
            if "Norm" in type(module).__name__ and tensor.is_floating_point():
                torch.nn.init.uniform_(tensor, 0.5, 1.5) if key != "running_mean" else tensor.fill_(0.3)
    return torch, network, torch.rand(2, *shape)


def exported(torch, network, x, *, dynamo, any_batch):
    """Return the graph that an exporter of PyTorch's writes."""
    with warnings.catch_warnings(action="ignore"):
        if dynamo:
            shapes = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if any_batch else {}
            return torch.onnx.export(network, (x,), dynamo=True, verbose=False, **shapes).model_proto
        file = io.BytesIO()
        axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}} if any_batch else {}
        torch.onnx.export(network, (x,), file, dynamo=False, opset_version=17, **axes)
    return io.BytesIO(file.getvalue())


@pytest.mark.parametrize("any_batch", [True, False], ids=["any-batch", "batch-2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_pytorch(name, any_batch):
    torch, network, x = of_torch(name)
    model = fastcnn.from_onnx(exported(torch, network, x, dynamo=False, any_batch=any_batch))
    assert_close(model.predict(x.numpy()), network(x).detach().numpy())
    Trainer(model).step(x.numpy(), np.array([1, 0]))


@pytest.mark.parametrize("name", ["option-a", "many"])
def test_networks_of_pytorchs_newer_exporter(name):
    pytest.importorskip("onnxscript", reason="expected onnxscript, which PyTorch's newer exporter needs")
    torch, network, x = of_torch(name)
    model = fastcnn.from_onnx(exported(torch, network, x, dynamo=True, any_batch=True))
    assert_close(model.predict(x.numpy()), network(x).detach().numpy())


# --------------------------------------------------------------------------------------------- graphs as tf2onnx writes


def graph(nodes, constants, input_shape, opset=17):
    """Return a graph from `x` to `y`."""
    names = [f"the {node[0]}" for node in nodes]
    names = [name if names.index(name) == k else f"{name} {k}" for k, name in enumerate(names)]
    made = helper.make_graph(
        [
            helper.make_node(*node[:3], name=name, **(node[3] if len(node) > 3 else {}))
            for node, name in zip(nodes, names, strict=True)
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_a_network_of_keras_with_channels_last():
    constants = {
        "filters": random(4, 3, 3, 3), "biases": random(4, 1, 1), "scale": np.float32(0.5), "w": random(64, 5),
        "b": random(5), "shape": np.array([-1, 64]),
    }  # fmt: skip
    same = {"strides": [2, 2], "auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]}
    nodes = [
        ("Mul", ["x", "scale"], ["a"]),
        ("Transpose", ["a"], ["b0"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["b0", "filters"], ["c"], same),
        ("Add", ["c", "biases"], ["d"]),
        ("Relu", ["d"], ["e"]),
        ("Transpose", ["e"], ["f"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["f", "shape"], ["g"]),
        ("MatMul", ["g", "w"], ["h"]),
        ("Add", ["h", "b"], ["i"]),
        ("Softmax", ["i"], ["y"], {"axis": -1}),
    ]
    made = graph(nodes, constants, ["n", 8, 8, 3])
    x = random(2, 8, 8, 3)
    model = fastcnn.from_onnx(made)
    assert_close(model.predict(x.transpose(0, 3, 1, 2)), run_onnxruntime(made, x)[0])
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Scale", "Conv2D", "ReLU", "Flatten", "Dense", "SoftmaxActivation"]


TO_FIRST, TO_LAST = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
CONV = ("Conv", ["first", "filters"], ["c"])


def nearest(**attributes):
    return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **attributes}


# What Keras exports, by way of PyTorch or of tf2onnx: nodes, constants, shape of the input, layers.
OF_KERAS = {
    "ZeroPadding2D, channels last": (
        [("Pad", ["x", "pads"], ["p"]), ("Transpose", ["p"], ["first"], TO_FIRST), CONV,
         ("Transpose", ["c"], ["y"], TO_LAST)],
        {"pads": np.array([0, 1, 2, 0, 0, 0, 1, 0]), "filters": random(4, 3, 3, 3)}, ("n", 7, 6, 3), ["Conv2D"],
    ),
    "UpSampling2D by Resize, channels last": (
        [("Resize", ["x", "", "scales"], ["p"], nearest()), ("Transpose", ["p"], ["first"], TO_FIRST),
         ("Conv", ["first", "filters"], ["y"])],
        {"scales": np.array([1, 2, 3, 1], np.float32), "filters": random(4, 3, 3, 3)}, ("n", 4, 5, 3),
        ["UpSample2D", "Conv2D"],
    ),
    "UpSampling2D by Resize to sizes": (
        [("Relu", ["x"], ["r"]), ("Transpose", ["r"], ["last"], TO_LAST),
         ("Resize", ["last", "", "", "sizes"], ["p"], nearest()), ("Transpose", ["p"], ["y"], TO_FIRST)],
        {"sizes": np.array([2, 8, 15, 3])}, (2, 3, 4, 5), ["ReLU", "UpSample2D"],
    ),
    "UpSampling2D by repeat_interleave": (
        [("Relu", ["x"], ["r"]), ("Unsqueeze", ["r", "three"], ["u"]), ("Expand", ["u", "rows"], ["e"]),
         ("Reshape", ["e", "taller"], ["t"]), ("Unsqueeze", ["t", "four"], ["v"]), ("Expand", ["v", "columns"], ["f"]),
         ("Reshape", ["f", "wider"], ["y"])],
        {"three": np.array([3]), "four": np.array([4]), "rows": np.array([1, 1, 1, 2, 1]),
         "taller": np.array([-1, 3, 8, 5]), "columns": np.array([1, 1, 1, 1, 3]), "wider": np.array([-1, 3, 8, 15])},
        ("n", 3, 4, 5), ["ReLU", "UpSample2D"],
    ),
    "UpSampling2D by Tile": (
        [("Relu", ["x"], ["r"]), ("Unsqueeze", ["r", "three"], ["u"]), ("Tile", ["u", "rows"], ["e"]),
         ("Reshape", ["e", "taller"], ["y"])],
        {"three": np.array([3]), "rows": np.array([1, 1, 1, 2, 1]), "taller": np.array([-1, 3, 8, 5])},
        ("n", 3, 4, 5), ["ReLU", "UpSample2D"],
    ),
    "UpSampling2D by Gather": (
        [("Relu", ["x"], ["r"]), ("Gather", ["r", "twice"], ["a"], {"axis": 2}),
         ("Gather", ["a", "thrice"], ["y"], {"axis": 3})],
        {"twice": np.arange(4).repeat(2), "thrice": np.arange(5).repeat(3)}, ("n", 3, 4, 5), ["ReLU", "UpSample2D"],
    ),
    "Conv2DTranspose with Slice": (
        [("ConvTranspose", ["x", "filters", "biases"], ["t"], {"strides": [2, 2]}),
         ("Slice", ["t", "starts", "ends", "axes"], ["s"]), ("Relu", ["s"], ["y"])],
        {"filters": random(3, 4, 3, 3), "biases": random(4), "starts": np.array([1, 0]), "ends": np.array([-1, 10]),
         "axes": np.array([2, 3])},
        ("n", 3, 4, 5), ["Conv2DTranspose", "ReLU"],
    ),
    "Dense of images, channels last": (
        [("MatMul", ["x", "w"], ["m"]), ("Add", ["m", "b"], ["a"]), ("Relu", ["a"], ["r"]),
         ("Transpose", ["r"], ["first"], TO_FIRST), ("Conv", ["first", "filters"], ["y"])],
        {"w": random(3, 6), "b": random(6), "filters": random(4, 6, 3, 3)}, ("n", 5, 4, 3),
        ["Conv2D", "ReLU", "Conv2D"],
    ),
    "PReLU": (
        [("Relu", ["x"], ["a"]), ("Neg", ["x"], ["n"]), ("Relu", ["n"], ["m"]), ("Mul", ["m", "slopes"], ["s"]),
         ("Add", ["a", "s"], ["y"])],
        {"slopes": random(3, 1, 1)}, ("n", 3, 4, 5), ["Residual"],
    ),
    "softplus": (
        [("Greater", ["x", "bound"], ["g"]), ("Exp", ["x"], ["e"]), ("Add", ["e", "one"], ["p"]), ("Log", ["p"], ["l"]),
         ("Where", ["g", "x", "l"], ["y"])],
        {"bound": np.float32(20), "one": np.float32(1)}, ("n", 3, 4, 5), ["Softplus"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_KERAS)
def test_what_keras_exports(name):
    nodes, constants, shape, layers = OF_KERAS[name]
    made, x = graph(nodes, constants, shape), random(2, *shape[1:])
    model = fastcnn.from_onnx(made)
    first = x.transpose(0, 3, 1, 2) if model.input_shape != x.shape[1:] else x
    expected, found = run_onnxruntime(made, x)[0], model.predict(first)
    assert_close(found if found.shape == expected.shape else found.transpose(0, 2, 3, 1), expected)
    assert [type(layer).__name__ for layer in model.layers] == layers


REPEATED = "expected all numbers of a layer, each once"
PARTS = {
    "a part of images": ([("Slice", ["x", "one", "three", "three"], ["y"])], "each repeated, or the edges of"),
    "rows in another order": ([("Gather", ["x", "order"], ["y"], {"axis": 2})], "each repeated, or the edges of"),
    "some rows twice": ([("Gather", ["x", "some"], ["y"], {"axis": 2})], "each repeated, or the edges of"),
    "a part of the batch": ([("Slice", ["x", "zero", "one", "zero"], ["y"])], "expected the whole batch"),
    "repeated in another order": (
        [("Tile", ["x", "tiles"], ["a"]), ("Relu", ["a"], ["y"])], f"node 'the Relu' .*{REPEATED}",
    ),
    "the output": ([("Relu", ["x"], ["a"]), ("Tile", ["a", "tiles"], ["y"])], "the output: expected numbers in the"),
    "more than there is memory for": ([("Tile", ["x", "many"], ["y"])], "expected 1 to 33554432 numbers a sample"),
    "features": (
        [("Flatten", ["x"], ["a"]), ("Gather", ["a", "order"], ["b"], {"axis": 1}), ("MatMul", ["b", "w"], ["y"])],
        "each repeated, or the edges of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_parts_and_repetitions_that_no_layer_computes(name):
    nodes, words = PARTS[name]
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "three": np.array([3]), "order": np.array([1, 0, 2, 3]),
        "some": np.array([0, 0, 1, 2]), "tiles": np.array([1, 1, 2, 1]), "many": np.array([1, 1 << 20, 1, 1]),
        "w": random(4, 2),
    }  # fmt: skip
    with pytest.raises(StorageError, match=words):
        fastcnn.from_onnx(graph(nodes, constants, (4, 3, 4, 5)))


def test_zeros_around_images_go_to_the_convolution():
    nodes = [("Pad", ["x", "pads"], ["a"]), ("Conv", ["a", "filters"], ["y"], {"strides": [2, 2]})]
    constants = {"pads": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "filters": random(4, 3, 3, 3)}
    made, x = graph(nodes, constants, ["n", 3, 8, 8]), random(2, 3, 8, 8)
    model = fastcnn.from_onnx(made)
    assert_close(model.predict(x), run_onnxruntime(made, x)[0])
    assert model.layers[0].padding == "same"


def test_rows_of_pixels_without_channels():
    nodes = [("Flatten", ["x"], ["a"]), ("Gemm", ["a", "w"], ["y"], {"transB": 1, "alpha": 0.5})]
    made, x = graph(nodes, {"w": random(3, 12)}, [2, 3, 4]), random(2, 3, 4)
    assert_close(fastcnn.from_onnx(made).predict(x[:, None]), run_onnxruntime(made, x)[0])


def test_sizes_that_a_graph_leaves_open():
    nodes = [("GlobalAveragePool", ["x"], ["a"]), ("Conv", ["a", "w"], ["b"]), ("Flatten", ["b"], ["y"])]
    made, x = graph(nodes, {"w": random(5, 3, 1, 1)}, ["n", 3, "h", "w"]), random(2, 3, 6, 5)
    with pytest.raises(StorageError, match=r"input 'x': .* give input_shape"):
        fastcnn.from_onnx(made)
    assert_close(fastcnn.from_onnx(made, input_shape=(3, 6, 5)).predict(x), run_onnxruntime(made, x)[0])


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([("LogSoftmax", ["x"], ["y"], {"axis": 1})], r"node 'the LogSoftmax' .* export the network without it"),
        ([("LRN", ["x"], ["y"], {"size": 3})], r"node 'the LRN' \(LRN\): no layer computes it"),
        ([("Relu", ["x"], ["a"]), ("Mul", ["x", "a"], ["y"])], r"node 'the Mul' \(Mul\): no layer computes it"),
        ([("Add", ["x", "x"], ["y"])], r"node 'the Add' \(Add\): a value and itself"),
        ([("Clip", ["x"], ["y"])], "expected at least one layer"),
        ([("Clip", ["x", "", "far"], ["y"])], r"node 'the Clip' \(Clip\): expected bounds from -32.0 to 32.0; got"),
        ([("Conv", ["x", "strips"], ["y"])], r"node 'the Conv' \(Conv\): filters: expected \(F, C, kH, kW\)"),
        ([("Relu", ["z"], ["y"])], r"node 'the Relu' \(Relu\): expected its inputs before it; got 'z'"),
        ([("Identity", ["x"], ["y"])], "expected at least one layer"),
        ([("Cast", ["x"], ["y"])], r"node 'the Cast' \(Cast\): "),
        ([("BatchNormalization", ["x"], ["y"])], r"node 'the BatchNormalization' \(BatchNormalization\): expected"),
        ([("Conv", ["x", "w"], ["y"])], r"node 'the Conv' \(Conv\): .* is larger than the padded image"),
        ([("Reshape", ["x", "s"], ["y"])], r"node 'the Reshape' \(Reshape\): shape: expected the batch first"),
        ([("AveragePool", ["x"], ["y"], {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]})], "less than the window"),
    ],
)
def test_what_no_layer_computes(nodes, words):
    constants = {
        "w": random(2, 3, 9, 9), "s": np.array([4, -1]), "far": np.float32(100), "strips": random(2, 3, 5),
    }  # fmt: skip
    with pytest.raises(StorageError, match=words):
        fastcnn.from_onnx(graph(nodes, constants, [2, 3, 8, 8]))


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 6), (-0.5, None), (None, 0.25), (1, 2)], ids=str)
def test_clips_are_a_relu_between_scales(bounds):
    constants = {name: np.float32(bound) for name, bound in zip("lh", bounds, strict=True) if bound is not None}
    made = graph([("Clip", ["x", *(name if name in constants else "" for name in "lh")], ["y"])], constants, [4, 3, 5])
    x = 3 * random(4, 3, 5)
    model = fastcnn.from_onnx(made)
    found = model.predict(x[:, None])[:, 0]
    assert_close(found, np.clip(x, *bounds))
    again = run_onnxruntime(fastcnn.to_onnx(model), x[:, None])[0]
    assert_close(again[:, 0], found)


# -------------------------------------------------------------------------------------------------------------- signals


def signal_networks():
    """Return networks of PyTorch for signals (N, C, L), each with the shape of a sample."""
    from torch import cat, nn, relu

    class Block(nn.Module):
        """A residual block, with dilation."""

        def __init__(self, channels):
            super().__init__()
            self.main = nn.Sequential(
                nn.Conv1d(channels, channels, 3, padding=1), nn.BatchNorm1d(channels), nn.ReLU(),
                nn.Conv1d(channels, channels, 3, padding=2, dilation=2),
            )  # fmt: skip

        def forward(self, x):
            return relu(self.main(x) + x)

    class Joined(nn.Module):
        """Branches side by side, then the mean over all positions."""

        def __init__(self, *branches):
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x):
            return cat([branch(x) for branch in self.branches], 1).mean(2)

    return {
        "plain": (
            (2, 32), nn.Conv1d(2, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(6, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3),
        ),
        "one channel": (
            (1, 24), nn.Conv1d(1, 4, 3), nn.GELU(), nn.AvgPool1d(3, 2, 1), nn.Flatten(), nn.Linear(44, 3),
            nn.Softmax(1),
        ),
        "norms": (
            (4, 16), nn.GroupNorm(2, 4), nn.Conv1d(4, 8, 3, groups=2), nn.InstanceNorm1d(8, affine=True), nn.PReLU(8),
            nn.LayerNorm([8, 14]), nn.Hardtanh(-2, 2), nn.Upsample(scale_factor=2), nn.ConvTranspose1d(8, 4, 4, 2, 1),
            nn.SELU(), nn.Flatten(), nn.Linear(224, 2),
        ),
        "branches": (
            (3, 24), nn.ConstantPad1d((2, 1), 0.0), nn.Conv1d(3, 4, 4), nn.ReflectionPad1d(2), nn.ReplicationPad1d(1),
            Block(4), nn.MaxPool1d(3, 2, 1, ceil_mode=True),
            Joined(nn.Conv1d(4, 3, 1), nn.Conv1d(4, 2, 3, padding=1), nn.MaxPool1d(3, 1, 1)), nn.Linear(9, 2),
        ),
        "depthwise": (
            (6, 20), nn.Conv1d(6, 6, 3, groups=6, padding=1), nn.Conv1d(6, 6, 1), nn.SiLU(),
            nn.AvgPool1d(2, ceil_mode=True, padding=1, count_include_pad=False), nn.Softmax(1), nn.Flatten(),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("dynamo", [False, True], ids=["legacy", "dynamo"])
@pytest.mark.parametrize("name", ["plain", "one channel", "norms", "branches", "depthwise"])
def test_networks_for_signals_of_pytorch(name, dynamo):
    torch = pytest.importorskip("torch", reason="expected torch, which writes these graphs")
    if dynamo:
        pytest.importorskip("onnxscript", reason="expected onnxscript, which PyTorch's newer exporter needs")
    torch.manual_seed(0)
    shape, *modules = signal_networks()[name]
    network, x = torch.nn.Sequential(*modules).eval(), torch.rand(3, *shape)
    model = fastcnn.from_onnx(exported(torch, network, x, dynamo=dynamo, any_batch=True))
    assert model.input_shape == (shape[0], 1, shape[1])
    strips, expected = x.numpy()[:, :, None], network(x).detach().numpy()
    assert_close(model.predict(strips), expected)
    assert_close(run_onnxruntime(fastcnn.to_onnx(model), strips)[0], expected)
    Trainer(model).step(strips, np.array([1, 0, 1]))


# As Keras writes them, channels last: nodes, constants, shape of a sample in the graph.
TO_FIRST_1D, TO_LAST_1D = {"perm": [0, 2, 1]}, {"perm": [0, 2, 1]}
SIGNALS_OF_KERAS = {
    "by Transpose": (
        [("Transpose", ["x"], ["a"], TO_FIRST_1D), ("Conv", ["a", "filters"], ["b"], {"auto_pad": "SAME_UPPER"}),
         ("Transpose", ["b"], ["c"], TO_LAST_1D), ("Add", ["c", "b4"], ["d"]), ("Relu", ["d"], ["e"]),
         ("MatMul", ["e", "w"], ["f"]), ("Softmax", ["f"], ["g"], {"axis": -1}),
         ("ReduceMean", ["g"], ["y"], {"axes": [1], "keepdims": 0})],
        (10, 3),
    ),
    "causal": (
        [("Pad", ["x", "left"], ["p"]), ("Transpose", ["p"], ["a"], TO_FIRST_1D), ("Conv", ["a", "filters"], ["b"]),
         ("Transpose", ["b"], ["c"], TO_LAST_1D), ("ReduceMean", ["c"], ["y"], {"axes": [1], "keepdims": 0})],
        (10, 3),
    ),
    "by Unsqueeze": (
        [("Transpose", ["x"], ["a"], TO_FIRST_1D), ("Unsqueeze", ["a", "two"], ["u"]),
         ("Conv", ["u", "images"], ["b"]), ("Squeeze", ["b", "two"], ["s"]), ("Transpose", ["s"], ["c"], TO_LAST_1D),
         ("Resize", ["c", "", "scales"], ["r"], nearest()), ("Relu", ["r"], ["p"]),
         ("Concat", ["r", "p"], ["j"], {"axis": 2}), ("Slice", ["j", "zero", "all", "axis"], ["t"]),
         ("Flatten", ["t"], ["v"]), ("MatMul", ["v", "w2"], ["y"])],
        (10, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNALS_OF_KERAS)
def test_networks_for_signals_of_keras(name):
    nodes, shape = SIGNALS_OF_KERAS[name]
    constants = {
        "filters": random(4, 3, 3), "b4": random(4), "w": random(4, 5), "left": np.array([0, 2, 0, 0, 0, 0]),
        "two": np.array([2]), "images": random(4, 3, 1, 3), "scales": np.array([1, 2, 1], np.float32),
        "zero": np.array([0]), "all": np.array([99]), "axis": np.array([1]),
        "w2": random(128, 2),
    }  # fmt: skip
    made, x = graph(nodes, constants, ("n", *shape)), random(2, *shape)
    model = fastcnn.from_onnx(made)
    assert model.input_shape == (shape[1], 1, shape[0])
    found, expected = model.predict(x.transpose(0, 2, 1)[:, :, None]), run_onnxruntime(made, x)[0]
    assert_close(found, expected)


def test_signals_of_a_length_that_a_graph_leaves_open():
    nodes = [("Conv", ["x", "w"], ["a"]), ("GlobalMaxPool", ["a"], ["b"]), ("Flatten", ["b"], ["y"])]
    made, x = graph(nodes, {"w": random(5, 3, 4)}, ["n", 3, "l"]), random(2, 3, 9)
    with pytest.raises(StorageError, match=r"input 'x': .* give input_shape=\(C, H, W\), \(C, 1, L\)"):
        fastcnn.from_onnx(made)
    model = fastcnn.from_onnx(made, input_shape=(3, 1, 9))
    assert_close(model.predict(x[:, :, None]), run_onnxruntime(made, x)[0])


def test_two_outputs_are_named():
    made = graph([("Relu", ["x"], ["y"]), ("Tanh", ["x"], ["z"])], {}, [2, 3, 8, 8])
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    with pytest.raises(StorageError, match="one input and one output; got inputs x; outputs y, z"):
        fastcnn.from_onnx(made)


@pytest.mark.parametrize(("kind", "function"), [("ReduceMean", np.mean), ("ReduceMax", np.max)])
@pytest.mark.parametrize("axes", [(1, 2), (1,), (2,), (-2,), (2, 1)], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_of_images_with_channels_last(kind, function, axes, keepdims):
    x = random(2, 3, 4, 5)
    reduced = function(x.transpose(0, 2, 3, 1), axis=axes).reshape(2, -1)
    weights = random(reduced.shape[1], 3)
    nodes = [
        ("Transpose", ["x"], ["a"], {"perm": [0, 2, 3, 1]}), (kind, ["a"], ["b"], {"axes": axes, "keepdims": keepdims}),
        ("Flatten", ["b"], ["c"]), ("MatMul", ["c", "weights"], ["y"]),
    ]  # fmt: skip
    made = graph(nodes, {"weights": weights}, [2, 3, 4, 5])
    assert_close(fastcnn.from_onnx(made).predict(x), reduced @ weights)


def test_branches_within_branches_are_found_at_once():
    """There are 2⁴⁰ ways through 40 sums in a row."""
    nodes = [("Relu", ["x"], ["v0"])]
    for k in range(40):
        nodes += [("Tanh", [f"v{k}"], [f"t{k}"]), ("Add", [f"v{k}", f"t{k}"], [f"v{k + 1}"])]
    nodes.append(("Relu", ["v40"], ["y"]))
    made, x = graph(nodes, {}, [2, 3, 4, 4]), random(2, 3, 4, 4)
    model = fastcnn.from_onnx(made)
    assert len(model.layers) == 42
    assert_close(model.predict(x), run_onnxruntime(made, x)[0])


@pytest.mark.parametrize(
    ("nodes", "shape", "words"),
    [
        ([("Relu", ["x"], ["y"])], [2, 3, 1 << 40, 4], "the input: expected 1 to 33554432 numbers a sample"),
        (
            [("Conv", ["x", "w"], ["y"], {"pads": [1 << 20] * 4})], [2, 3, 9, 9],
            r"node 'the Conv' \(Conv\): expected 1 to 33554432 numbers a sample",
        ),
        ([("Resize", ["x", "", "s"], ["y"])], [2, 3, 9, 9], "scales: expected at most 33554432 numbers a sample"),
        (
            [("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2], "dilations": [1 << 30] * 2, "pads": [1 << 29] * 4})],
            [2, 3, 9, 9], "node 'the MaxPool'",
        ),
    ],
)  # fmt: skip
def test_sizes_that_nobody_has(nodes, shape, words):
    constants = {"w": random(2, 3, 3, 3), "s": np.array([1, 1, 1 << 20, 1 << 20], np.float32)}
    with pytest.raises(StorageError, match=words):
        fastcnn.from_onnx(graph(nodes, constants, shape))


def test_branches_in_branches_without_end():
    """The layers of branches are asked for their shapes at each level: 100 levels would take for ever."""
    last = "r0"
    nodes = [("Relu", ["x"], ["r0"]), *(("Relu", [f"r{k}"], [f"r{k + 1}"]) for k in range(100))]
    for k in range(100):
        nodes += [("Tanh", [last], [f"t{k}"]), ("Add", [f"t{k}", f"r{99 - k}"], [f"a{k}"])]
        last = f"a{k}"
    nodes.append(("Relu", [last], ["y"]))
    with pytest.raises(StorageError, match="branches within branches at most 12 deep"):
        fastcnn.from_onnx(graph(nodes, {}, [2, 3, 4, 4]))


def test_mutated_files_are_an_error_or_a_model():
    """Bytes of a graph changed at random: no other error than ours, and little memory, which sizes are checked for."""
    whole = fastcnn.to_onnx(models.lenet5((1, 12, 12)).build((1, 12, 12), random_state=0)).SerializeToString()
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        for place in rng.integers(0, len(data) // 50, 3):  # the nodes come first; weights are most of a file
            data[place] = rng.integers(256)
        try:
            fastcnn.from_onnx(io.BytesIO(bytes(data)))
        except StorageError:
            continue


def test_names_that_are_no_text():
    made = graph([("Identity", ["c"], ["d"]), ("Relu", ["x"], ["y"])], {"c": random(2)}, [2, 3])
    data = made.SerializeToString().replace(b"the Identity", b"the Ident\xd4ty")
    with contextlib.suppress(StorageError):
        fastcnn.from_onnx(io.BytesIO(data))


def test_constants_that_are_none():
    made = graph([("Gemm", ["x", "w"], ["y"])], {"w": random(3, 4)}, [2, 3])
    made.graph.initializer[0].dims[0] = 99
    with pytest.raises(StorageError, match="constant 'w': ValueError: cannot reshape"):
        fastcnn.from_onnx(made)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(StorageError, match=r"model\.onnx: expected a file of ONNX"):
        fastcnn.from_onnx(path)
    with pytest.raises(OSError, match="nothing"):
        fastcnn.from_onnx(tmp_path / "nothing.onnx")
