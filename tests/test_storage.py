"""The model file: what is saved is loaded, by others too; what is damaged or foreign is refused, and why."""

from __future__ import annotations

import inspect
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError

import fastcnn
from fastcnn import (
    Adam,
    Augmentation,
    BatchNorm,
    BinaryCrossEntropy,
    CNNClassifier,
    CNNRegressor,
    Conv2D,
    CosineDecay,
    CrossEntropy,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Flatten,
    Huber,
    Lion,
    Muon,
    OneCycle,
    ReduceOnPlateau,
    ReLU,
    RMSprop,
    Sequential,
    StorageError,
    Trainer,
    WarmUp,
)
from fastcnn.optim.averaging import Average
from fastcnn.optim.schedules import NamedSchedule
from fastcnn.storage import layout, network
from tests import mutated_models
from tests.cases import LAYER_CASES
from tests.fits import CLASSES, samples, trainer, weights
from tests.fits import network as small_network
from tests.test_custom_layer import PReLU

FILES = Path(__file__).parent / "files"


def written(what) -> bytes:
    file = io.BytesIO()
    fastcnn.save(what, file)
    return file.getvalue()


def again(what, **options):
    return fastcnn.load(io.BytesIO(written(what)), **options)


def header_of(content: bytes) -> dict:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def with_header(content: bytes, header: dict) -> bytes:
    """Return a file with another header, and the checksum that belongs to it."""
    (length,) = struct.unpack("<Q", content[:8])
    data = content[8 + length :]
    metadata = header.pop("__metadata__")
    if "checksum" in metadata:
        metadata["checksum"] = layout._checksum(metadata, header, [data])
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    return struct.pack("<Q", len(text)) + text + data


def same_weights(one: Sequential, other: Sequential) -> None:
    assert one._weights().keys() == other._weights().keys()
    for name, array in one._weights().items():
        assert array.dtype == other._weights()[name].dtype
        np.testing.assert_array_equal(array, other._weights()[name])


# ------------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("case", LAYER_CASES, ids=str)
def test_every_layer_comes_back(case):
    model = Sequential([case.make(fastcnn)]).build(case.input_shape[1:], random_state=0, dtype=np.float64)
    loaded = again(model)
    assert repr(loaded) == repr(model)
    same_weights(loaded, model)
    assert loaded.input_shape == model.input_shape


def test_the_table_has_every_layer_and_setting():
    public = [getattr(fastcnn, name) for name in fastcnn.__all__ if inspect.isclass(getattr(fastcnn, name))]
    bases = fastcnn.Layer, fastcnn.Optimizer, fastcnn.Schedule, fastcnn.Loss, Augmentation, Average, fastcnn.Initializer
    made = {kind for kind in public if issubclass(kind, bases) and not inspect.isabstract(kind)} - {fastcnn.Layer}
    made -= {fastcnn.Whitening}  # whose images are no part of a model
    assert made | {NamedSchedule} == set(network.TABLE.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_predicts_and_trains_on_as_before(tmp_path, dtype):
    model = Sequential([Conv2D(6, 3, random_state=np.random.RandomState(1)), BatchNorm(), ReLU(), Dropout(0.5)])
    model = Sequential([model, Flatten(), Dense(CLASSES)]).build((1, 8, 8), random_state=0, dtype=dtype)
    X, y = samples(40)
    for _ in range(3):
        Trainer(model, random_state=0).step(X, y)
    model.eval()
    fastcnn.save(model, tmp_path / "model.safetensors")
    loaded = fastcnn.load(str(tmp_path / "model.safetensors"))
    assert loaded.layers[0].layers[0].random_state is None  # what the generator has drawn is in the weights
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert [layer.training for layer in loaded._modes()] == [layer.training for layer in model._modes()]
    model.train(), loaded.train()
    for one in (model, loaded):
        for _ in range(3):
            Trainer(one, random_state=0).step(X, y)
    same_weights(loaded, model)


def test_others_read_the_tensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = small_network().build((1, 8, 8), random_state=0)
    fastcnn.save(model, tmp_path / "model.safetensors")
    tensors = safetensors.load_file(tmp_path / "model.safetensors")
    assert tensors.keys() == model.parameters.keys()
    for name, array in model.parameters.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_the_layout_is_that_of_safetensors():
    content = written(small_network().build((1, 8, 8), random_state=0))
    header = header_of(content)
    (length,) = struct.unpack("<Q", content[:8])
    metadata = header.pop("__metadata__")
    assert (metadata["format"], metadata["format_number"], metadata["kind"]) == ("fastcnn", "1", "Sequential")
    assert metadata["fastcnn"] == fastcnn.__version__
    assert header["0.filters"]["shape"] == [8, 1, 3, 3]
    assert length % 8 == 0
    assert max(entry["data_offsets"][1] for entry in header.values()) == len(content) - 8 - length


def test_layers_of_ones_own_come_from_custom_layers_alone():
    model = Sequential([Conv2D(4, 3), PReLU(), Flatten(), Dense(3)]).build((1, 6, 6), random_state=0)
    content = written(model)
    with pytest.raises(StorageError, match=r"a layer of your own, 'PReLU': give its class: load\(..., custom_layers="):
        fastcnn.load(io.BytesIO(content))
    for custom in ([PReLU], {"PReLU": PReLU}):
        loaded = fastcnn.load(io.BytesIO(content), custom_layers=custom)
        assert type(loaded.layers[1]) is PReLU
        same_weights(loaded, model)
    for wrong in (PReLU, ["PReLU"], [int], 3, {"PReLU": PReLU()}):
        with pytest.raises(TypeError, match="load: custom_layers: expected a list of classes of layers"):
            fastcnn.load(io.BytesIO(content), custom_layers=wrong)


def test_a_layer_of_ones_own_with_the_name_of_one_of_ours_is_not_ours():
    theirs = type("ReLU", (PReLU,), {})
    model = Sequential([theirs(), Flatten(), Dense(3)]).build((1, 3, 3), random_state=0)
    with pytest.raises(StorageError, match="a layer of your own, 'ReLU'"):
        again(model)
    assert type(again(model, custom_layers=[theirs]).layers[0]) is theirs


def test_a_layer_that_hides_an_argument_is_refused():
    class Hiding(PReLU):
        def __init__(self, slope):
            super().__init__()

    model = Sequential([Hiding(0.5), Flatten(), Dense(3)]).build((1, 3, 3), random_state=0)
    with pytest.raises(TypeError, match="Hiding: slope: a layer that is kept in a file has each argument"):
        written(model)


TRAINERS = [
    {"optimizer": Adam(clip_norm=1.0), "schedule": WarmUp(CosineDecay(0.01, 50), 3)},
    {"optimizer": Muon(0.02, ns_steps=3, adam=("5.*",), groups={"1.*": {"learning_rate": 0.5}}), "threads": 2},
    {"optimizer": Lion(no_decay=("biases",)), "loss": CrossEntropy(0.1, [1, 2, 3, 4])},
    {"optimizer": RMSprop(momentum=0.5, centered=True), "schedule": ReduceOnPlateau(0.01, patience=0)},
    {"ema": ExponentialMovingAverage(0.9), "schedule": OneCycle(0.1, 50), "loss": "cross_entropy"},
    {"optimizer": "adam", "schedule": "cosine"},
    {"threads": 2, "schedule": WarmUp(ReduceOnPlateau(0.01, patience=0, cooldown=1), 2)},
]


@pytest.mark.parametrize("options", TRAINERS, ids=str)
def test_a_trainer_goes_on_exactly(options):
    X, y = samples(60)
    fitting = {"batch_size": 16, "verbose": 0, "augmentation": Augmentation(shift=1)}
    one = Trainer(Sequential([Dropout(0.2), *small_network().layers]), random_state=0, **options)
    one.fit(X, y, epochs=2, **fitting)
    other = again(one)
    assert repr(other.optimizer) == repr(one.optimizer)
    assert repr(other.schedule) == repr(one.schedule)
    assert repr(other.loss) == repr(one.loss)
    assert str(other.history) == str(one.history)
    assert (other.steps, other.epochs, other.accuracy, other.threads) == (8, 2, one.accuracy, one.threads)
    for going in (one, other):
        going.fit(X, y, epochs=2, **fitting)
    assert weights(other) == weights(one)
    if one.ema is not None:
        assert all((other.ema.averages[name] == array).all() for name, array in one.ema.averages.items())


def test_a_trainer_that_has_drawn_nothing_goes_on_from_the_same_seed():
    X, y = samples(60)
    one = Trainer(small_network().build((1, 8, 8), random_state=0))
    other = again(one)
    for going in (one, other):
        going.fit(X, y, epochs=1, batch_size=16, verbose=0)
    assert weights(other) == weights(one)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: 3,
            TypeError,
            "save: what: expected a Sequential, a CNNClassifier, a CNNRegressor or a Trainer; got 3",
        ),
        (ReLU, TypeError, "save: what: expected a Sequential"),
        (small_network, RuntimeError, "Sequential: save: not built yet"),
        (trainer, RuntimeError, "Sequential: save: not built yet"),
        (CNNClassifier, NotFittedError, "not fitted yet"),
        (lambda: Trainer(small_network().build((1, 8, 8)), schedule=lambda step: 0.1), TypeError, "schedule: function"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_the_old_file_stays(tmp_path, make, error, words):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(error, match=words):
        fastcnn.save(make(), path)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


# --------------------------------------------------------------------------------------------------------- estimators


def digits(n: int = 200):
    X, y = load_digits(return_X_y=True)
    return X[:n], y[:n]


@pytest.mark.parametrize(
    "names", [np.arange(10), np.array([f"no. {i}" for i in range(10)]), np.array([*"abcdefghij"], object)]
)
def test_a_classifier_comes_back(names):
    X, y = digits()
    one = CNNClassifier(
        [Conv2D(4, 3), ReLU()], max_iter=2, random_state=0, early_stopping=True, class_weight="balanced",
        solver=Adam(0.01), augmentation=Augmentation(shift=1), callbacks=[EarlyStopping("loss")],
    ).fit(X, names[y])  # fmt: skip
    other = again(one)
    assert vars(other).keys() == vars(one).keys() - {"_skl_callbacks"}
    assert repr(other) == repr(one)
    assert other.classes_.dtype == one.classes_.dtype
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    np.testing.assert_array_equal(other.predict_proba(X.reshape(-1, 8, 8)), one.predict_proba(X))
    assert other.loss_curve_ == one.loss_curve_
    np.testing.assert_array_equal(other.fit(X, names[y]).predict_proba(X), one.predict_proba(X))


def test_many_labels_come_back():
    X, y = digits()
    labels = np.stack([y % 2, y > 4], axis=1).astype(int)
    one = CNNClassifier([Conv2D(4, 3), ReLU()], loss=BinaryCrossEntropy(), max_iter=2, random_state=0).fit(X, labels)
    np.testing.assert_array_equal(again(one).predict(X), one.predict(X))


def test_a_regressor_comes_back_and_goes_on():
    rng = np.random.RandomState(0)
    X = rng.randn(60, 7)
    y = X[:, :2] @ [[1.0, 2], [3, -1]]
    one = CNNRegressor(loss=Huber(2.0), max_iter=2, random_state=0).fit(X, y).partial_fit(X, y)
    other = again(one)
    assert vars(other).keys() == vars(one).keys() - {"_skl_callbacks"}
    np.testing.assert_array_equal(other.predict(X), one.predict(X))
    for going in (one, other, one, other):
        going.partial_fit(X, y)
    np.testing.assert_array_equal(other.predict(X), one.predict(X))


def test_what_no_file_can_keep_of_an_estimator_is_left_out_with_a_warning():
    X, y = digits(60)
    one = CNNClassifier([Flatten()], max_iter=2, random_state=np.random.RandomState(0), schedule=lambda step: 0.01).fit(
        X, y
    )
    file = io.BytesIO()
    with (
        pytest.warns(UserWarning, match="save: random_state: .*; the estimator in the file has random_state=None"),
        pytest.warns(UserWarning, match="save: schedule: .*; the estimator in the file has schedule='one_cycle'"),
    ):
        fastcnn.save(one, file)
    np.testing.assert_array_equal(fastcnn.load(io.BytesIO(file.getvalue())).predict(X), one.predict(X))


# ---------------------------------------------------------------------------------------------------------- the file


def test_files_of_every_release_are_read():
    X = samples(60)[0][:8] / 255
    found = sorted(FILES.glob("*.safetensors"))
    assert [path.name for path in found] == ["classifier_0.1.0.safetensors", "trainer_0.1.0.safetensors"]
    for path in found:
        assert path.stat().st_size < 20_000
        thing = fastcnn.load(path)
        expected = np.load(path.with_suffix(".npy"))
        got = thing.predict_proba(X) if isinstance(thing, CNNClassifier) else thing.model.predict(X)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert (thing.steps, thing.epochs, len(thing.history)) == (8, 2, 2)
    thing.fit(X, np.zeros(8, int), epochs=1, batch_size=4, verbose=0)


def test_a_newer_format_is_refused_by_name_and_number():
    content = written(small_network().build((1, 8, 8), random_state=0))
    header = header_of(content)
    header["__metadata__"].update(format_number="2", fastcnn="0.9.0")
    header["something"] = {"new": "kind of entry"}
    with pytest.raises(StorageError, match=r"format 2, written by fastcnn 0\.9\.0; this is fastcnn .* formats up to 1"):
        fastcnn.load(io.BytesIO(with_header(content, header)))


def entry(**changes):
    def change(header):
        header["0.filters"].update(changes)

    return change


def added(size, offsets):
    return lambda header: header.update({"1.x": {"dtype": "F32", "shape": [size], "data_offsets": offsets}})


def described(change):
    def inner(header):
        description = json.loads(header["__metadata__"]["description"])
        change(description)
        header["__metadata__"]["description"] = json.dumps(description)

    return inner


def renamed(header):
    header["0.filter"] = header.pop("0.filters")


def layers(number: int, **call):
    return described(lambda d: d["model"]["arguments"]["layers"][number].update(call))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (entry(dtype="F8"), "tensor '0.filters': expected a dtype of F64"),
        (entry(dtype=3), "tensor '0.filters': expected a dtype of F64"),
        (entry(shape=[8, 1, 3]), "its offsets are not as far apart"),
        (entry(shape=[8, 1, -3, -3]), "expected a shape of at most 32 whole numbers"),
        (entry(shape=[8, 1, 3, 3.0]), "expected a shape"),
        (entry(shape=[8, 1, True, 9]), "expected a shape"),
        (entry(shape=[1] * 31 + [9, 8]), "expected a shape"),
        (entry(shape=[8, 3, 1, 3]), "tensor '0.filters': expected shape"),
        (entry(shape=[2**62, 2**62, 2**62]), "its offsets are not as far apart"),
        (entry(data_offsets=[0, 288, 3]), "expected data_offsets of two numbers"),
        (entry(data_offsets=[288, 0]), "expected data_offsets of two numbers"),
        (entry(data_offsets=[10**12, 10**12 + 288]), "leaves a hole before it"),
        (entry(more=1), "expected a dtype, a shape and data_offsets"),
        (added(1, [0, 4]), "overlaps another"),
        (added(0, [0, 0]), "nothing in the description asks for it"),
        (renamed, "tensor '0.filters': expected shape .*; there is none"),
        (lambda header: header["__metadata__"].update(kind="Pickle"), "it holds a 'Pickle'"),
        (lambda header: header["__metadata__"].update(description="{"), "its description is no JSON"),
        (lambda header: header["__metadata__"].update(description="[" * 100_000), "its description is no JSON"),
        (lambda header: header["__metadata__"].update(description="[NaN]"), "NaN is no number of JSON"),
        (lambda header: header["__metadata__"].update(description='{"a": 1, "a": 2}'), "a name stands twice"),
        (lambda header: header["__metadata__"].update(format="pt"), "a safetensors file, but not of fastcnn"),
        (lambda header: header["__metadata__"].update(format_number="0"), "format 0"),
        (lambda header: header["__metadata__"].update(format_number="x"), "a safetensors file, but not of fastcnn"),
        (lambda header: header["__metadata__"].pop("checksum"), "the checksum is another"),
        (described(lambda d: d.pop("dtype")), "expected a field 'dtype'"),
        (described(lambda d: d.update(dtype="float16")), "dtype: expected float32 or float64; got 'float16'"),
        (described(lambda d: d.update(dtype="float64")), "tensor '0.filters': expected float64"),
        (described(lambda d: d.update(input_shape=[1, 8])), "input_shape: expected"),
        (described(lambda d: d.update(input_shape=[1, 8, 10**18])), "input_shape: expected|expected shape"),
        (described(lambda d: d.update(input_shape=[2, 8, 8])), r"expected shape \(8, 2, 3, 3\)"),
        (described(lambda d: d.update(training=3)), "training: expected"),
        (described(lambda d: d.update(extra_state={"3": {"seed": 1}})), "extra_state: expected that of layers none"),
        (layers(0, call="os.system"), "no layer or setting of fastcnn is called 'os.system'"),
        (layers(0, call="Trainer"), "no layer or setting of fastcnn is called 'Trainer'"),
        (layers(1, call="SGD", arguments={}), "expected a layer; got SGD"),
        (layers(1, arguments={"x": 1}), "ReLU: expected arguments of"),
        (layers(4, arguments={"nodes": 10**12}), r"expected shape \(128, 1000000000000\)"),
        (layers(4, arguments={"nodes": {"tensor": "4.biases"}}), "nodes: expected a positive int"),
        (layers(4, arguments={"nodes": {"dict": 3}}), "nodes: expected a value"),
        (layers(4, arguments={"nodes": [[]]}), "nodes: expected a positive int"),
    ],
)  # fmt: skip
def test_a_file_that_says_something_else_is_refused(tmp_path, change, words):
    """With the checksum that belongs to it, as somebody would write it who wants to do harm."""
    content = written(small_network().build((1, 8, 8), random_state=0))
    header = header_of(content)
    change(header)
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header(content, header))
    with pytest.raises(StorageError, match=rf"(?s)model\.safetensors: .*{words}"):
        fastcnn.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected at least 8 bytes; got 0"),
        (b"\0" * 8, "the file: no file of fastcnn, or a damaged one: its header is no JSON"),
        (b"\xff" * 64, "truncated one: its header would take 18,446,744,073,709,551,615 bytes"),
        (struct.pack("<Q", 9) + b"\xff" * 9, "the header is no UTF-8"),
        (struct.pack("<Q", 2) + b"[]", "expected a JSON object as the header"),
        (struct.pack("<Q", 2) + b"{}", "expected an object of strings under __metadata__"),
        (struct.pack("<Q", 100) + b"{}", "truncated: its header take 100 bytes; there are 2"),
    ],
)
def test_what_is_no_file_of_ours_is_refused(tmp_path, content, words):
    with pytest.raises(StorageError, match=words):
        fastcnn.load(io.BytesIO(content))
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="x: no file of fastcnn"):
        fastcnn.load(path)


def test_every_byte_of_the_tensors_is_under_the_checksum():
    content = written(small_network().build((1, 8, 8), random_state=0))
    for place in (len(content) - 1, len(content) - 400):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(StorageError, match="damaged: the checksum is another"):
            fastcnn.load(io.BytesIO(damaged))


@pytest.mark.parametrize("kind", mutated_models.KINDS)
def test_damaged_files_give_an_error_of_ours_or_the_same_model(kind):
    refused, loaded = mutated_models.try_mutations(kind, 350, signed=False)
    assert refused > 250
    assert refused + loaded == 350


@pytest.mark.parametrize("kind", mutated_models.KINDS)
def test_malicious_files_give_an_error_of_ours_or_a_model(kind):
    refused, loaded = mutated_models.try_mutations(kind, 350, signed=True)
    assert refused > 100
    assert refused + loaded == 350


# ------------------------------------------------------------------------------------------------- paths and objects


def test_nothing_at_all_and_no_regular_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastcnn.load(tmp_path / "nothing")
    with pytest.raises(OSError):  # noqa: PT011  # IsADirectoryError, or StorageError: expected a regular file
        fastcnn.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="pipe: expected a regular file"):
        fastcnn.load(tmp_path / "pipe")
    model = small_network().build((1, 8, 8))
    with pytest.raises(OSError, match="expected the path of a file; this is a folder"):
        fastcnn.save(model, tmp_path)
    with pytest.raises(OSError, match="expected the path of a file; this is a device"):
        fastcnn.save(model, tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        fastcnn.save(model, tmp_path / "nowhere" / "model")


def test_text_files_are_refused():
    with pytest.raises(TypeError, match="save: path: expected a path or a binary file; got a text file"):
        fastcnn.save(small_network().build((1, 8, 8)), io.StringIO())
    with pytest.raises(TypeError, match="load: path: expected a path or a binary file; got a text file"):
        fastcnn.load(io.StringIO())


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path, model = tmp_path / "model", small_network().build((1, 8, 8), random_state=0)
    fastcnn.save(model, path)
    before = path.read_bytes()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / f".model.{2**30}-0.part").write_bytes(b"left by a process that is no more")
    (tmp_path / f".model.{os.getpid()}-0.part").write_bytes(b"being written by this one")

    def full(descriptor):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            fastcnn.save(small_network().build((1, 8, 8), random_state=1), path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: os.write(os.open("/dev/full", os.O_WRONLY), b"x"))
        with pytest.raises(OSError, match=r"No space left on device: '.*/model'"):  # names the file, not its part
            fastcnn.save(small_network().build((1, 8, 8), random_state=1), path)
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        fastcnn.load(tmp_path)
    assert path.read_bytes() == before
    fastcnn.save(small_network().build((1, 8, 8), random_state=1), tmp_path / "link")
    assert path.read_bytes() != before
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model", "link", f".model.{os.getpid()}-0.part"}


def test_a_setting_that_refuses_what_a_file_says_is_an_error_of_the_file():
    content = written(Trainer(small_network().build((1, 8, 8), random_state=0)))
    header = header_of(content)
    described(lambda d: d.update(learning_rate=-1.0))(header)
    with pytest.raises(StorageError, match=r"the file: SGD: learning_rate: expected a finite number >= 0"):
        fastcnn.load(io.BytesIO(with_header(content, header)))


def test_several_things_in_a_row_of_bytes_are_refused():
    content = written(small_network().build((1, 8, 8), random_state=0))
    with pytest.raises(StorageError, match="too long"):
        fastcnn.load(io.BytesIO(content + b"x"))
    with pytest.raises(StorageError, match="truncated"):
        fastcnn.load(io.BytesIO(content[:-1]))
