"""`fastcnn train` on files, and with a network, an optimizer, a schedule and an augmentation by their names."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastcnn import AdamW, Muon
from fastcnn import load as load_model
from fastcnn.cli import main, recipes
from fastcnn.cli.fitting import split
from fastcnn.cli.recipes import Recipe
from fastcnn.data import hold_out, load
from tests.arrays import normal
from tests.test_data import idx

ROOT = Path(__file__).parents[1]
EPOCH = r"Epoch (\d+) \| Loss: \d+\.\d{4} \| Accuracy: \d+\.\d\d% \| Held-out: \d+\.\d\d% \| [\d,]+ images/s"


def write(folder):
    """Write a folder as MNIST's, of small images whose bright half tells the class."""
    folder.mkdir(exist_ok=True)
    rng = np.random.RandomState(0)
    for kind, n in (("train", 60), ("t10k", 20)):
        X, y = rng.randint(0, 100, size=(n, 8, 8)).astype(np.uint8), (np.arange(n) % 2).astype(np.uint8)
        X[y == 1, :4] += 100
        (folder / f"{kind}-images-idx3-ubyte").write_bytes(idx(X))
        (folder / f"{kind}-labels-idx1-ubyte").write_bytes(idx(y))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


def test_a_folder_trains_and_is_tested_on_its_own_test_set(folder, capsys):
    assert main(["train", str(folder), "--epochs", "3", "--batch-size", "10", "--augment", "flip,shift=1"]) == 0
    out, err = capsys.readouterr()
    first, second, *epochs, last = out.splitlines()
    assert first == "60 images to train on, 20 held out."
    assert second.startswith("Loading the kernels")
    assert [re.fullmatch(EPOCH, line)[1] for line in epochs] == ["1", "2", "3"]
    assert float(re.match(r"Test Accuracy: ([\d.]+)%", last)[1]) > 70
    assert err == ""


def test_validation_holds_out_a_share(folder, capsys):
    arguments = ["--epochs", "1", "--validation", "0.25", "--model", "digits_default", "--optimizer", "adam"]
    assert main(["train", str(folder), *arguments, "--schedule", "cosine"]) == 0
    assert capsys.readouterr().out.startswith("45 images to train on, 15 held out.\n")


def test_a_share_is_the_notebook_s_split_and_no_copy_of_a_mapped_file(folder):
    found = load(folder)
    X, y, X_held, y_held = split(found, 0.25)
    for ours, theirs in zip((X[:], X_held[:], y, y_held), hold_out(found.X, found.y, 0.25), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert isinstance(found.X.base, np.memmap)
    assert X.array is X_held.array is found.X


@pytest.mark.parametrize(("name", "recipe"), [key for key in recipes.RECIPES if key[0] not in ("digits", "cifar10")])
def test_a_known_data_set_is_found_and_trained_by_its_recipe(name, recipe, tmp_path, monkeypatch, capsys):
    write(tmp_path / name)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    made, usual = [], Recipe.trainer
    monkeypatch.setattr(Recipe, "trainer", lambda *given, **weight: made.append(given) or usual(*given, **weight))
    assert main(["train", name, "--recipe", recipe, "--epochs", "1", "--batch-size", "20", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    used, images, shape, classes, seed, _ = made[-1]
    assert used == replace(recipes.RECIPES[name, recipe], epochs=1, batch_size=20)
    assert (images, shape, classes, seed) == (60, (1, 8, 8), 2, 0)


def test_a_recipe_is_what_the_trainer_does():
    recipe = Recipe("lenet5", 3, 20, "adamw", 0.5, "cosine", label_smoothing=0.25)
    trainer = recipe.trainer(50, (1, 12, 12), 4, seed=7, threads=2)
    assert trainer.model.output_shape((1, 12, 12)) == (4,)
    assert (trainer.random_state, trainer.threads, trainer.loss.label_smoothing) == (7, 2, 0.25)
    assert [trainer.schedule(step) for step in (0, 9)] == [0.5, pytest.approx(0)]  # three batches, three times
    assert isinstance(trainer.optimizer, AdamW)


def test_quiet_writes_the_last_line_only(folder, capsys):
    assert main(["train", str(folder), "--epochs", "2", "--quiet"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Test Accuracy: ")


def test_json_is_a_line_an_epoch_and_the_same_for_the_same_seed(folder, capsys):
    def run(seed, threads):
        assert main(["train", str(folder), "--epochs", "2", "--json", "--seed", seed, "--threads", threads]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        for line in lines:
            assert line.pop("seconds") > 0
            assert line.pop("images_per_second") > 0
        return lines

    first = run("3", "1")
    assert [line["epoch"] for line in first] == [1, 2]
    assert set(first[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "digest"}
    assert run("3", "2") == first != run("4", "1")


def test_a_file_that_is_wrong_is_one_line_and_status_1(folder, capsys):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["train", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastcnn train: {path}: truncated: ")
    assert err.count("\n") == 1


def test_a_share_that_leaves_nothing_to_train_on(folder, capsys):
    assert main(["train", str(folder), "--validation", "0.999"]) == 1
    assert capsys.readouterr() == (
        "", "fastcnn train: --validation 0.999: nothing is left of 60 images to train on\n"
    )  # fmt: skip


def test_an_error_while_kernels_are_loaded_begins_a_line(folder, capsys):
    assert main(["train", str(folder), "--model", "lenet5"]) == 1
    out, err = capsys.readouterr()
    assert out.endswith("held out.\n")
    assert err.startswith("fastcnn train: lenet5: input_shape: ")


def test_a_loss_that_is_not_finite(folder, capsys):
    arguments = ["--optimizer", "sgd", "--schedule", "constant", "--learning-rate", "1e30", "--epochs", "3"]
    assert main(["train", str(folder), *arguments, "--batch-size", "10", "--quiet"]) == 1
    assert re.match(r"fastcnn train: fit: epoch 1, step \d, learning rate .*: .*layer \d", capsys.readouterr().err)


def test_a_known_data_set_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    assert main(["train", "mnist"]) == 2
    path = str(tmp_path / "mnist")
    expected = f"fastcnn train: mnist: no folder {path!r}; name the folder that has it in FASTCNN_DATA\n"
    assert capsys.readouterr() == ("", expected)


def test_words_of_augmentations():
    assert recipes.augmentation("none") is None
    made = recipes.augmentation("crop=0.25,crop_ratio=0.5:2,color_jitter=0.4:0.3:0.2:0.1,cutmix=1")
    assert made is not None
    assert (made.crop, made.crop_ratio, made.cutmix) == ((0.25, 1.0), (0.5, 2.0), 1.0)
    assert made.color_jitter == (0.4, 0.3, 0.2, 0.1)
    made = recipes.augmentation("alternating-flip,shift=2,rotation=7.5,padding=reflect,mixup=0.2")
    assert repr(made) == (
        "Augmentation(horizontal_flip='alternating', shift=2, rotation=7.5, mixup=0.2, padding='reflect')"
    )


@pytest.mark.parametrize("name", recipes.OPTIMIZERS)
def test_every_optimizer_and_schedule_is_made(name):
    made = recipes.optimizer(name, None)
    for schedule in recipes.SCHEDULES.values():
        rates = [schedule(made.learning_rate, 30)(step) for step in range(30)]
        assert 0 <= min(rates) <= max(rates) <= made.learning_rate * (1 + 1e-12)


@pytest.mark.parametrize(
    ("images", "epochs", "batch"), [(1, 60, 16), (96, 50, 16), (1200, 15, 60), (2560, 15, 128), (60_000, 10, 128)]
)
def test_few_images_come_more_often_in_smaller_batches(images, epochs, batch):
    assert recipes.for_few(images) == {"epochs": epochs, "batch_size": batch}


def test_what_the_command_line_says_is_not_changed_for_few_images(folder, capsys, monkeypatch):
    """60 images without a recipe: 60 epochs of 16 images, unless one of both is given; known data keep their recipe."""
    made = []
    monkeypatch.setattr(recipes.Recipe, "trainer", lambda recipe, *given, **named: made.append(recipe) or 1 / 0)
    for given, epochs, batch in (
        ([str(folder)], 60, 16),
        ([str(folder), "--epochs", "3"], 3, 16),
        ([str(folder), "--batch-size", "20"], 60, 20),
        (["digits"], 20, 32),
    ):
        with pytest.raises(ZeroDivisionError):
            main(["train", *given])
        assert (made[-1].epochs, made[-1].batch_size) == (epochs, batch)


def test_the_record_by_muon_is_the_published_one():
    """What it is made of, layer by layer: whose steps are orthogonal, whose are plain momentum, which end early."""
    trainer = recipes.RECORD.trainer(50_000, (3, 32, 32), 10, 0, 1, X=np.zeros((8, 3, 32, 32), np.float32))
    trainer.step(normal(4, 3, 32, 32).astype(np.float32), np.arange(4))
    rule = trainer.optimizer
    assert isinstance(rule, Muon)
    assert (rule.momentum, rule.nesterov, rule.ns_steps, rule.normalize) == (0.6, True, 3, True)
    assert not rule.state["second_moment"] or not any(v.any() for v in rule.state["second_moment"].values())
    assert len(rule._matrices) == 6  # the filters of the three blocks
    betas = {name for name in trainer.model.parameters if name.endswith(".beta")}
    assert len(betas) == 6
    assert rule.groups["*.beta"] == {"learning_rate": 64.0, "weight_decay": 1 / 64}
    (stop,) = (factors["learning_rate"] for pattern, factors in rule.groups.items() if pattern.endswith(".biases"))
    steps = recipes.RECORD.steps(50_000)
    assert stop(0) == 64.0
    assert stop(round(0.3 * steps)) == 0.0


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_ends_the_fit_after_the_step_with_what_is_there(folder):
    code = f"""
import signal
from fastcnn.cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(main(["train", {str(folder)!r}, "--epochs", "1000000", "--batch-size", "20"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert any(line.startswith("Epoch 2") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fastcnn train: interrupted\n"
    assert out.splitlines()[-1].startswith("Test Accuracy: ")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_files_train(name, capsys):
    """A short run; what the documented commands reach is for the README, and takes minutes."""
    root = os.environ.get("FASTCNN_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"FASTCNN_DATA names no folder with {name} in it")
    arguments = ["--model", "lenet5", "--validation", "0.98", "--epochs", "2", "--json"]
    assert main(["train", name, *arguments]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["val_accuracy"] > 0.5


def test_the_record_recipe_trains_on_the_binary_cifar(tmp_path, capsys, monkeypatch):
    """With fewer filters: a whitened first layer that stays, slow weights, full batches, and views at the end."""
    rng, folder = np.random.RandomState(0), tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, n in (("data_batch_1", 70), ("test_batch", 20)):
        rows = rng.randint(0, 256, size=(n, 3073)).astype(np.uint8)
        rows[:, 0] = np.arange(n) % 10
        rows.tofile(folder / f"{name}.bin")
    small = replace(recipes.RECIPES["cifar10", "default"], widths=(8, 8, 8), batch_size=16, epochs=2)
    monkeypatch.setitem(recipes.RECIPES, ("cifar10", "default"), small)
    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path))
    path = tmp_path / "model.fastcnn"
    assert main(["train", "cifar10", "--save", str(path)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    by_views, without = re.match(
        r"Test Accuracy: ([\d.]+)% by the views flip,shift=1, ([\d.]+)% without", last
    ).groups()
    model, found = load_model(path), load(folder)
    for text, views in ((by_views, "flip,shift=1"), (without, None)):
        guesses = model.predict(found.X_test, views=views).argmax(axis=1)
        assert float(text) == pytest.approx(100 * np.mean(guesses == found.y_test))
    front, whitening = model.layers[:2]
    np.testing.assert_allclose(front.factor, 255 / found.X.std(axis=(0, 2, 3)), rtol=1e-6)
    seen = front.forward(found.X / 255)
    z = np.einsum(
        "fcrt,ncijrt->fnij", whitening.filters, np.lib.stride_tricks.sliding_window_view(seen, (2, 2), (2, 3))
    )
    assert abs(np.cov(z.reshape(24, -1)[:12]) - np.eye(12)).max() < 0.01
    arguments = ["train", "cifar10", "--epochs", "1", "--json", "--views", "flip", "--batch-size", "64"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1].keys() == {"views", "accuracy", "without"}
    for wrong, words in (
        (["--views", "soup"], "--views: expected words of flip"),
        (["--average", "soup"], "--average: expected one of none, ema, lookahead; got 'soup'"),
        (["--batch-size", "99"], "--drop-last: expected at least a batch of 99 images; got 70"),
    ):
        assert main(["train", "cifar10", *wrong]) == 2
        assert words in capsys.readouterr().err
