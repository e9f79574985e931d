"""The cache of compiled kernels: never stale, never in the way, never somebody else's, and small."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from fastcnn.jit import cache
from fastcnn.jit.target import vector_set
from tests.processes import ROOT, finish, run_python, start_python

NAME = vector_set().name

# Computes max(0, x) with one small kernel, and says whether it was compiled, and where the cache is.
RELU = """
import json, sys, numpy as np
from fastcnn.kernels import activation
from fastcnn.kernels.maps import Maps
from fastcnn.jit.cache import cache_folder
relu = activation.relu
x, row = np.linspace(-1, 2, 64), np.zeros(1, np.int32)
y = np.full_like(x, 7)
relu(Maps(x, row), Maps(y, row), 1, 64, False)
print(json.dumps({
    "right": bool((y == np.maximum(0, x)).all()), "y": y[::63].tolist(),
    "folder": str(cache_folder()),
    "compiled": relu.compiled, "loaded": len(relu.entries) - relu.compiled, "numba": "numba" in sys.modules,
}))
"""


def relu(**settings) -> dict[str, object]:
    return json.loads(run_python(RELU, **settings))


@pytest.fixture
def package(tmp_path) -> Path:
    """Return a folder with a copy of the package, without kernels."""
    shutil.copytree(ROOT / "fastcnn", tmp_path / "fastcnn", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def home(tmp_path) -> str:
    """Return a folder for XDG_CACHE_HOME."""
    return str(tmp_path / "home" / "cache")


def kernels_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.kernel"))


def test_the_second_process_loads_what_the_first_has_compiled(package, home):
    first, second = (relu(root=package, XDG_CACHE_HOME=home) for _ in range(2))
    assert first["right"]
    assert second["right"]
    assert (first["compiled"], first["loaded"]) == (1, 0)
    assert (second["compiled"], second["loaded"]) == (0, 1)
    assert not second["numba"]  # it is for compiling alone
    folder = package / "fastcnn" / "kernels" / "__pycache__" / NAME
    assert first["folder"] == second["folder"] == str(folder)
    assert len(kernels_in(package)) == 1
    assert not Path(home).exists()


def test_an_edit_in_a_helper_file_is_seen_by_the_next_process(package, home):
    """`relu` stands in activation.py; the comparison that it uses in vector.py, which it only imports."""
    assert relu(root=package, XDG_CACHE_HOME=home)["y"] == [0, 2]
    helper = package / "fastcnn" / "codegen" / "vector.py"
    source = helper.read_text(encoding="utf-8")
    greater = 'builder.fcmp_ordered(">", x, y)'
    assert source.count(greater) == 1
    helper.write_text(source.replace(greater, 'builder.fcmp_ordered("<", x, y)'), encoding="utf-8")
    edited = relu(root=package, XDG_CACHE_HOME=home)
    assert edited["y"] == [-1, 0]  # the minimum now
    assert edited["compiled"] == 1
    helper.write_text(source, encoding="utf-8")
    back = relu(root=package, XDG_CACHE_HOME=home)
    assert back["y"] == [0, 2]
    assert back["loaded"] == 1  # nothing is forgotten: a stale kernel has another name


def block(folder: Path) -> None:
    """Make sure that nothing can be written to a folder, by anyone: a file stands in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("", encoding="utf-8")


def test_a_package_that_cannot_be_written_to_falls_back_to_the_users_cache(package, home):
    block(package / "fastcnn" / "kernels" / "__pycache__")
    for compiled in (1, 0):
        result = relu(root=package, XDG_CACHE_HOME=home)
        assert result["right"]
        assert result["folder"] == str(Path(home) / "fastcnn" / NAME)
        assert result["compiled"] == compiled


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="who may do everything can write everywhere")
def test_a_read_only_package_falls_back_to_the_users_cache(package, home):
    kernels = package / "fastcnn" / "kernels"
    kernels.chmod(0o555)
    try:
        result = relu(root=package, XDG_CACHE_HOME=home)
    finally:
        kernels.chmod(0o755)
    assert result["right"]
    assert result["folder"] == str(Path(home) / "fastcnn" / NAME)


def test_without_any_place_to_write_there_is_no_cache_and_everything_works(package, home):
    block(package / "fastcnn" / "kernels" / "__pycache__")
    block(Path(home))
    result = relu(root=package, XDG_CACHE_HOME=home)
    assert result["right"]
    assert result["folder"] == "None"
    assert not kernels_in(package)


def test_without_a_home_there_is_no_cache_and_everything_works(package):
    """A process in a container may have no home at all, not even in the list of users."""
    block(package / "fastcnn" / "kernels" / "__pycache__")
    code = (
        "import pathlib\n"
        "def home(cls): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = classmethod(home)\n"
    )
    result = json.loads(run_python(code + RELU, root=package, XDG_CACHE_HOME="", LOCALAPPDATA=""))
    assert result["right"]
    assert result["folder"] == "None"


@pytest.mark.skipif(os.name == "nt", reason="there are no such permissions")
def test_a_folder_that_all_the_world_can_write_to_is_refused(package, home):
    """Cached kernels are machine code: who writes them runs in our name."""
    open_folder = package / "fastcnn" / "kernels" / "__pycache__" / NAME
    open_folder.mkdir(parents=True)
    open_folder.chmod(0o777)
    result = relu(root=package, XDG_CACHE_HOME=home)
    assert result["right"]
    assert result["folder"] == str(Path(home) / "fastcnn" / NAME)
    assert not kernels_in(open_folder)


def test_a_folder_of_ones_own_choice(tmp_path):
    result = relu(FASTCNN_CACHE_DIR=str(tmp_path / "some" / "where"))
    assert result["right"]
    assert result["folder"] == str(tmp_path / "some" / "where" / NAME)
    assert len(kernels_in(tmp_path)) == 1


def test_a_damaged_file_is_compiled_anew(tmp_path):
    """As a full disk or a crash leaves it."""
    relu(FASTCNN_CACHE_DIR=str(tmp_path))
    (file,) = kernels_in(tmp_path)
    content = file.read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:-1] + b"x", b"noise" * 100):
        file.write_bytes(damaged)
        result = relu(FASTCNN_CACHE_DIR=str(tmp_path))
        assert result["right"]
        assert result["compiled"] == 1
    assert relu(FASTCNN_CACHE_DIR=str(tmp_path))["loaded"] == 1


@pytest.mark.skipif(os.name == "nt", reason="there are no such limits")
def test_a_full_disk_is_no_error(tmp_path):
    """Files can be made but nothing can be written to them."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    result = json.loads(run_python(code + RELU, FASTCNN_CACHE_DIR=str(tmp_path)))
    assert result["right"]


@pytest.mark.parametrize(
    ("place", "mark", "days", "stays"),
    [
        ("package", "other", 0.5, True),
        ("package", "other", 1.5, False),
        ("package", "own", 400, True),
        ("shared", "other", 29, True),  # perhaps of another version that is in use
        ("shared", "other", 31, False),
        ("shared", "own", 400, True),
    ],
)
def test_what_another_source_has_left_goes_in_the_end(place, mark, days, stays, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FOLDER", tmp_path / "package")
    folder = tmp_path / place / "__pycache__" / NAME
    folder.mkdir(parents=True)
    name = f"activation.relu.{cache.source_mark() if mark == 'own' else 'b' * 16}.0123456789.kernel"
    for path in (folder / name, folder / f"{name}.draft", folder / "mine.txt"):
        path.write_bytes(b"")
        os.utime(path, (time.time() - days * 86400,) * 2)
    cache.forget_stale.__wrapped__(folder)
    left = {path.name for path in folder.iterdir()}
    assert left == ({"mine.txt", name, f"{name}.draft"} if stays else {"mine.txt"})


def test_to_compile_is_the_time_to_forget_and_to_load_is_to_use(tmp_path):
    """A stale file goes when a kernel is compiled; the clock of one that is loaded begins anew."""
    stale = tmp_path / NAME / "stale.kernel"
    stale.parent.mkdir()
    stale.write_bytes(b"")
    os.utime(stale, (0, 0))
    relu(FASTCNN_CACHE_DIR=str(tmp_path))
    (file,) = kernels_in(tmp_path)
    assert file != stale
    os.utime(file, (0, 0))
    assert relu(FASTCNN_CACHE_DIR=str(tmp_path))["loaded"] == 1
    assert time.time() - file.stat().st_mtime < 1000


COMPILE = """
import json, sys, time, numpy as np
import fastcnn
while time.time() < float(sys.argv[1]):
    pass
results = []
for dtype in (np.float32, np.float64):
    x = np.linspace(-1, 2, 96).reshape(2, 3, 4, 4).astype(dtype)
    for layer in (fastcnn.ReLU(), fastcnn.MaxPool2(), fastcnn.MaxPool2D(3, 1)):
        y = layer.forward(x)
        results.append([float(y.sum()), float(layer.backward(y).sum())])
print(json.dumps(results))
"""


def test_processes_that_compile_at_once_into_one_empty_cache(tmp_path):
    """All get right results; and a later process gets them from what they left behind."""
    import numpy as np

    import reference

    expected = []
    x = np.linspace(-1, 2, 96).reshape(2, 3, 4, 4)
    for layer in (reference.ReLU(), reference.MaxPool2(), reference.MaxPool2D(3, 1)):
        y = layer.forward(x)
        expected.append([y.sum(), layer.backward(y).sum()])
    start = str(time.time() + 2)
    processes = [start_python(COMPILE, start, FASTCNN_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    outputs = [finish(process) for process in processes]
    outputs.append(run_python(COMPILE, "0", FASTCNN_CACHE_DIR=str(tmp_path)))
    for output in outputs:
        np.testing.assert_allclose(json.loads(output), expected * 2, rtol=1e-5)


# ---------------------------------------------------------------------------- a kernel is compiled once, for all shapes

TEN_MODELS = """
import gc, json, numpy as np
from fastcnn.jit.kernel import Kernel
from fastcnn import Conv2D, Dense, Flatten, MaxPool2, MaxPool2D, ReLU, Sequential, Softmax, Trainer

def signatures():
    found = gc.get_objects()
    return {f"{one.family}.{one.name}": len(one.entries) for one in found if isinstance(one, Kernel)}

models = [
    ((1, 8, 8), [Conv2D(16, 3), ReLU(), MaxPool2(), Softmax(144, 10)]),
    ((1, 28, 28), [Conv2D(6, 5, padding=2), ReLU(), MaxPool2D(), Conv2D(16, 5), ReLU(), MaxPool2D(), Flatten(),
                   Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)]),
    ((3, 12, 12), [Conv2D(32, 3), ReLU(), Conv2D(32, 3), ReLU(), MaxPool2D(), Flatten(), Dense(10)]),
    ((3, 9, 7), [Conv2D(5, (3, 2), stride=(2, 1), bias=False), MaxPool2D(2, 1), ReLU(), Flatten(),
                 Dense(3, bias=False)]),
    ((16, 10, 10), [Conv2D(16, 3, padding="same", algorithm="winograd"), MaxPool2D(), Flatten(), Dense(4)]),
    ((6, 8, 8), [Conv2D(12, 3, groups=2, dilation=2), ReLU(), MaxPool2(), Flatten(), Dense(2)]),
    ((2, 11, 11), [MaxPool2D(3, 2, 1), ReLU(), Conv2D(33, 1), Flatten(), Dense(5)]),
    ((40,), [Dense(30), ReLU(), Dense(20), Dense(7)]),
    ((17, 6, 6), [ReLU(), Conv2D(17, 3, padding=1, algorithm="direct"), MaxPool2(), Softmax(153, 3)]),
    ((1, 20, 20), [Conv2D(4, 3, algorithm="im2col"), ReLU(), MaxPool2(), MaxPool2D(9, 9), Flatten(), Dense(2)]),
]
after = []
for seed, (shape, layers) in enumerate(models):
    model = Sequential(layers).build(shape, random_state=seed)
    x = np.random.RandomState(seed).rand(3 + seed, *shape).astype("f")
    apart = Sequential([layer.copy() for layer in layers], fuse=False)
    for model in (model, apart.build(shape, random_state=seed)):
        trainer = Trainer(model, threads=1 + seed % 2)
        for batch in (x, x[:2], (255 * x).astype(np.uint8)):
            trainer.step(batch, np.arange(len(batch)) % 2)
        model.backward(model.forward(x))
    after.append(signatures())
print(json.dumps(after))
"""


def test_a_new_shape_compiles_nothing_that_is_compiled_already():
    """Each kernel has one signature for float32 after ten different networks: no shape is part of its type."""
    after = json.loads(run_python(TEN_MODELS))
    used = {name for name, count in after[-1].items() if count}
    assert {"product.product", "pool.pool2", "update.sgd"} <= used
    for name in used:
        counts = [signatures.get(name, 0) for signatures in after]
        # Poolings of any window keep the winner's number as a byte, or in more bytes for large windows; images come as
        # bytes too.
        # A scheme of Winograd's is a type: four there are.
        twice = {"pool.pool", "pool.pool_backward", "load.load"}
        most = 4 if name.startswith("conv_winograd.") else 2 if name in twice else 1
        assert max(counts) <= most, f"{name} was compiled {max(counts)} times: {counts}"


def test_a_kernel_is_one_object_wherever_it_is_named():
    """Its file, once it is imported to be compiled, holds the source; calls of that are counted with the others."""
    code = (
        "import numpy as np\n"
        "from fastcnn.kernels import compare\n"
        "import fastcnn.kernels.compare as file\n"
        "a, changed = np.zeros(8, np.uint64), np.zeros(1, np.int64)\n"
        "for function in (compare.note_change, file.note_change):\n"
        "    function(a, a, 8, changed)\n"
        "from fastcnn.jit.kernel import kernel_of\n"
        "assert len(kernel_of('compare', 'note_change').entries) == 1\n"
    )
    run_python(code)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_is_stopped_in_writing_leaves_nothing(stop, tmp_path, monkeypatch):
    def replace(*_: object) -> None:
        raise stop

    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(os, "replace", replace)
    with contextlib.suppress(KeyboardInterrupt):
        cache.write("family.kernel", "kinds", cache.ObjectFile("entry", [], b"code"))
    assert not list(tmp_path.iterdir())
