"""Training on ranks has the bits of training on one, whatever their number; here ranks are threads."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from PIL import Image

import fastcnn
from fastcnn import (
    SGD,
    Adam,
    Augmentation,
    BatchNorm,
    Callback,
    Conv2D,
    Dense,
    Dropout,
    EarlyStopping,
    ExponentialMovingAverage,
    Flatten,
    GroupNorm,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Trainer,
)
from fastcnn.data import images, load_images
from fastcnn.ranks.communicator import RankError, RankLostError
from fastcnn.training import facts
from fastcnn.training.feed import ArrayFeed
from tests.ranks import Death, on_ranks

CLASSES = 5


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    """Cut small batches into eight shards too."""
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1e3)


def network(seed=1):
    inner = [Conv2D(8, 3, padding=1, bias=False), BatchNorm()]
    layers = [Conv2D(8, 3, padding=1), BatchNorm(), ReLU(), Residual(inner), ReLU(), MaxPool2D(2), Dropout(0.3)]
    return Sequential([*layers, Conv2D(6, 3), GroupNorm(2), Flatten(), Dense(CLASSES)]).build((3, 8, 8), seed)


def samples(n=50):
    generator = np.random.RandomState(0)
    X = generator.randint(256, size=(n, 3, 8, 8)).astype(np.uint8)
    return X, generator.randint(CLASSES, size=n)


def trainer(communicator=None, **settings):
    settings = {"optimizer": Adam(0.01), "random_state": 2, **settings}
    return Trainer(network(), communicator=communicator, threads=2, **settings)


def outcome(one):
    average = {} if one.ema is None else {name: array.tobytes() for name, array in one.ema.averages.items()}
    return one.model.digest(), average, one.optimizer.get_state().keys(), one.optimizer.gradient_norm


def steps(communicator=None, **settings):
    """Take steps on batches of many lengths, among them one image, and fewer than there are ranks."""
    one, (X, y) = trainer(communicator, **settings), samples()
    losses = [one.step(X[:n] / 255, y[:n]) for n in (16, 16, 16, 13, 5, 1, 16, 3)]
    return losses, one.evaluate(X, y), outcome(one)


SETTINGS = {
    "plain": dict,
    "clipped": lambda: {"optimizer": SGD(0.1, 0.9, clip_norm=0.1), "ema": ExponentialMovingAverage(0.9)},
}
each_setting = pytest.mark.parametrize("setting", SETTINGS)


@each_setting
@pytest.mark.parametrize("size", [2, 3, 8])
def test_steps_on_ranks_have_the_bits_of_one(size, setting):
    expected = steps(**SETTINGS[setting]())
    np.testing.assert_equal(
        on_ranks(size, lambda ranks: steps(ranks, **SETTINGS[setting]())), [expected] * size, strict=True
    )


def test_a_batch_of_one_shard(monkeypatch):
    """Only one rank computes; running statistics and gradients are everybody's."""
    monkeypatch.setattr(fastcnn.training.step, "SHARD_WORK", 1e12)
    assert str(on_ranks(3, steps)) == str([steps()] * 3)


class PythonOptimizer(fastcnn.Optimizer):
    """A rule in NumPy."""

    def __init__(self):
        super().__init__(0.1, None)

    def _coefficients(self):
        return ()

    def _update(self, gradients, shards, first, last):
        size = self._theta.size
        total = gradients[first:last].copy()
        for shard in range(1, shards):
            total += gradients[shard * size + first : shard * size + last]
        self._theta[first:last] -= total


def test_an_optimizer_of_ones_own():
    expected = steps(optimizer=PythonOptimizer())
    assert str(on_ranks(2, lambda ranks: steps(ranks, optimizer=PythonOptimizer()))) == str([expected] * 2)


def fit(communicator=None, X=None, epochs=2, **arguments):
    one, (own, y) = trainer(communicator, ema=ExponentialMovingAverage(0.9), schedule="cosine"), samples()
    X = own if X is None else X
    arguments = {"batch_size": 16, "X_val": X[:20], "y_val": y[:20], "verbose": 0, **arguments}
    history = one.fit(X, y, epochs=epochs, **arguments)
    return history["loss"], history["val_loss"], history["val_accuracy"], history.stopped, outcome(one)[:2]


CHANGES = {
    "plain": lambda: None,
    "moved": lambda: Augmentation(True, shift=1),
    "mixed": lambda: Augmentation(rotation=10, cutout=2, contrast=0.1, mixup=0.3),
    "cut": lambda: Augmentation(crop=0.3, color_jitter=0.2, cutmix=0.5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_fit_on_ranks_has_the_bits_of_one(change):
    """Orders, augmentation, a last batch of two images, schedule, average, validation."""
    change, size = CHANGES[change], 3
    expected = fit(augmentation=change())
    assert on_ranks(size, lambda ranks: fit(ranks, augmentation=change())) == [expected] * size


@pytest.mark.parametrize("size", [2, 3, 4, 8])
def test_a_folder_of_images_on_ranks(size, tmp_path):
    """Each rank decodes its share; all have the bits of one."""
    write_images(tmp_path)
    read = []

    def train(ranks=None):
        found = load_images(tmp_path, communicator=ranks)
        read.append(found.X.tobytes())
        one = trainer(ranks)
        one.fit(found.X, found.y, epochs=1, batch_size=16, augmentation=CHANGES["mixed"](), verbose=0)
        return one.model.digest()

    expected = train()
    assert on_ranks(size, train) == [expected] * size
    assert read == [read[0]] * (size + 1)


def write_images(folder, n=40):
    """Write images of five classes."""
    for number, image in enumerate(samples(n)[0]):
        (folder / str(number % CLASSES)).mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / str(number % CLASSES) / f"{number}.png")


def test_each_rank_decodes_its_own_images(tmp_path, monkeypatch):
    write_images(tmp_path)
    decoded, pixels = [], images._pixels

    def noting(pillow, header, *others):
        decoded.append(header.path.name)
        return pixels(pillow, header, *others)

    monkeypatch.setattr(images, "_pixels", noting)
    on_ranks(3, lambda ranks: load_images(tmp_path, communicator=ranks))
    assert sorted(decoded) == sorted(path.name for path in tmp_path.rglob("*.png"))


def test_folders_that_differ_and_images_that_one_rank_cannot_read(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        write_images(folder)
    next(folders[1].rglob("7.png")).rename(folders[1] / "2" / "another.png")
    for error in on_ranks(2, lambda ranks: load_images(folders[ranks.rank], communicator=ranks)):
        assert "load_images: names and sizes of the images: expected the same on all ranks; got" in str(error)
    last = max(folders[0].rglob("*.png"))
    last.write_bytes(last.read_bytes()[:60])
    errors = on_ranks(2, lambda ranks: load_images(folders[0], communicator=ranks))
    assert all(last.name in str(error) for error in errors), errors


@pytest.mark.parametrize("kind", ["memory map", "other order"])
def test_other_sources_of_images(kind, tmp_path):
    X, _ = samples()
    np.save(tmp_path / "X.npy", X)

    def source():
        return {
            "memory map": lambda: np.load(tmp_path / "X.npy", mmap_mode="r"),
            "other order": lambda: np.asfortranarray(X),
        }[kind]()

    expected = fit(augmentation=CHANGES["mixed"](), epochs=1)
    for size in (2, 3, 4, 8) if kind == "memory map" else (2,):
        results = on_ranks(size, lambda ranks: fit(ranks, source(), augmentation=CHANGES["mixed"](), epochs=1))
        assert results == [expected] * size


def test_each_rank_reads_its_own_images(monkeypatch):
    """Of a batch, and of the partners that mixup wants, every image is read by one rank."""
    read, gather = [], ArrayFeed._gather

    def noting(feed, chosen, which, own):
        read.append((which, *chosen[own].tolist()))
        return gather(feed, chosen, which, own)

    monkeypatch.setattr(ArrayFeed, "_gather", noting)
    changes = Augmentation(mixup=0.3)
    fit(augmentation=changes, epochs=1)
    alone = sorted((row[0], image) for row in read for image in row[1:])
    read.clear()
    on_ranks(3, lambda ranks: fit(ranks, augmentation=Augmentation(mixup=0.3), epochs=1))
    assert sorted((row[0], image) for row in read for image in row[1:]) == alone
    assert max(len(row) for row in read) <= 8  # of 16 images at most six, in eight shards


def test_batches_of_ones_own():
    X, y = samples()
    batches = [(X[first : first + 16], y[first : first + 16]) for first in range(0, 50, 16)]

    def train(ranks=None):
        one = trainer(ranks)
        one.fit(batches, epochs=2, augmentation=Augmentation(shift=1), verbose=0)
        return one.model.digest()

    assert on_ranks(2, train) == [train()] * 2


class Stop(Callback):
    """Stops, or fails, after a step: on all ranks, or on one."""

    def __init__(self, step, rank=None, error=None):
        self.step, self.rank, self.error = step, rank, error

    def batch(self, run):
        communicator = run.trainer.communicator
        mine = self.rank is None or (communicator is not None and communicator.rank == self.rank)
        if run.step == self.step and mine:
            if self.error is not None:
                raise self.error
            run.stop("enough")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3), (2, 4)])
def test_another_number_of_ranks_goes_on_from_a_checkpoint(before, after, tmp_path):
    expected, path = fit(epochs=3, checkpoint=tmp_path / "expected"), tmp_path / "run.safetensors"

    def train(ranks, **arguments):
        return fit(ranks, epochs=3, checkpoint=path, **arguments)

    def started(size, **arguments):
        return [train(None, **arguments)] if size == 1 else on_ranks(size, lambda ranks: train(ranks, **arguments))

    for error in started(before, callbacks=[Stop(6, error=MemoryError("no more"))]) if before > 1 else ():
        assert isinstance(error, MemoryError | RankError)
    if before == 1:
        with pytest.raises(MemoryError):
            started(1, callbacks=[Stop(6, error=MemoryError("no more"))])
    assert path.exists()
    assert started(after) == [expected] * after


def test_early_stopping_and_what_one_rank_wants():
    stopping = {"epochs": 9, "callbacks": [EarlyStopping("loss", patience=1, min_delta=9.0)]}
    expected = fit(**stopping)
    assert "has not improved" in expected[3]
    assert on_ranks(2, lambda ranks: fit(ranks, epochs=9, callbacks=[EarlyStopping("loss", 1, 9.0)])) == [expected] * 2
    expected = fit(callbacks=[Stop(3)])
    assert expected[3] == "enough"
    assert on_ranks(3, lambda ranks: fit(ranks, callbacks=[Stop(3, rank=1)])) == [expected] * 3


def test_a_failure_on_one_rank_ends_all_and_is_named():
    errors = on_ranks(3, lambda ranks: fit(ranks, callbacks=[Stop(3, rank=1, error=OSError("disk"))]))
    assert isinstance(errors[1], OSError)
    assert errors[1].__notes__ == ["on rank 1 of 3"]
    for error in (errors[0], errors[2]):
        assert isinstance(error, RankError)
        assert str(error) == "rank 1 of 3 has failed: OSError: disk"


class Counting(Callback):
    """Notes how many exchanges there were before the second step."""

    def __init__(self, ranks):
        self.ranks, self.before = ranks, 0

    def batch(self, run):
        self.before = self.before or self.ranks.exchanges


@functools.cache
def exchanges(size):
    """Return how many exchanges come before the second step of a fit, and before its end."""

    def count(ranks):
        counting = Counting(ranks)
        fit(ranks, callbacks=[counting])
        return counting.before, ranks.exchanges

    return on_ranks(size, count, {size: 1})[0]  # ranks that could outlive others: they keep their state


@pytest.mark.filterwarnings("ignore:fit. rank")
def test_who_has_kept_more_than_others_goes_back_to_what_all_have():
    """A rank dies while all hear that the state is kept now: one has heard it, another one has not."""
    expected, (_, last) = fit(), exchanges(3)
    *left, dead = on_ranks(3, fit, {2: -last})
    assert isinstance(dead, Death)
    assert left == [expected] * 2


@pytest.mark.filterwarnings("ignore:fit. rank")
@pytest.mark.parametrize("place", [0.01, 0.35, 0.8, 1.0])
def test_those_that_are_left_go_on_to_the_same_bits(place):
    """Wherever a rank dies: in a step, in validation, when all else is done; then another one."""
    expected, (first, last) = fit(), exchanges(3)
    dead = int(3 * place) % 3
    exchange = first + round(place * (last - first))
    results = on_ranks(3, fit, {dead: exchange})
    assert isinstance(results.pop(dead), Death)
    assert results == [expected] * 2
    results = on_ranks(3, fit, {dead: exchange, (dead + 1) % 3: exchange + 20})
    assert results.count(expected) == 3 - sum(isinstance(one, Death) for one in results) >= 1


def test_those_that_are_left_say_who_has_died():
    with pytest.warns(RuntimeWarning, match=r"^fit: rank 1 of 3 has died; 2 went on from step \d+$") as said:
        on_ranks(3, fit, {1: exchanges(3)[0] + 1})
    assert len(said) == 1


def test_a_death_before_the_first_step_ends_all():
    results = on_ranks(3, fit, {1: 2})
    assert [type(one) for one in results] == [RankLostError, Death, RankLostError]


def test_a_loss_that_is_not_finite_is_everybodys():
    def diverge(ranks):
        fit(ranks, epochs=1)
        one, (X, y) = trainer(ranks, optimizer=SGD(1e30)), samples()
        before = one.model.digest()
        with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
            one.fit(X, y, epochs=4, batch_size=16, verbose=0)
        return one.model.digest() == before or one.steps

    first, *others = on_ranks(2, diverge)
    assert not isinstance(first, BaseException), first
    assert others == [first]


OTHERS = {
    "optimizer": lambda rank: {"optimizer": Adam(0.01 + rank)},
    "loss": lambda rank: {"loss": fastcnn.CrossEntropy(0.1 * rank)},
    "schedule": lambda rank: {"schedule": [None, "cosine"][rank]},
    "ema": lambda rank: {"ema": [None, ExponentialMovingAverage()][rank]},
}


@pytest.mark.parametrize("what", OTHERS)
def test_trainers_that_differ_are_refused(what):
    X, y = samples()
    for error in on_ranks(2, lambda ranks: trainer(ranks, **OTHERS[what](ranks.rank)).step(X, y)):
        assert isinstance(error, RankError), error
        assert str(error).startswith(f"Trainer: {what}: expected the same on all ranks; got ")
        assert "on rank 0" in str(error)
        assert "on rank 1" in str(error)


def test_weights_versions_and_vector_sets_that_differ_are_refused(monkeypatch):
    X, y = samples()
    for error in on_ranks(2, lambda ranks: Trainer(network(ranks.rank), communicator=ranks).step(X, y)):
        assert "Trainer: weights of the model: expected the same" in str(error)
    real = facts.check_alike
    for name, values in (("version of fastcnn", ["0.1", "0.2"]), ("vector set", ["avx2", "sse"])):

        def check(ranks, what, known, name=name, values=values):
            assert name in known
            real(ranks, what, {**known, name: values[ranks.rank]})

        monkeypatch.setattr(facts, "check_alike", check)
        for error in on_ranks(2, lambda ranks: trainer(ranks).step(X, y)):
            assert f"Trainer: {name}: expected the same on all ranks; got {values[0]!r} on rank 0" in str(error)


def test_batches_that_differ_are_refused_before_the_step():
    X, y = samples()
    for part, x in (("x", X[:16]), ("targets", X[:16])):
        other = {"x": (X[16:32], y[:16]), "targets": (X[:16], y[16:32])}[part]

        def step(ranks, part=part, x=x, other=other):
            one = trainer(ranks)
            one.step(x, y[:16])
            with pytest.raises(RankError, match=f"batch: {part}: expected the same"):
                one.step(*((x, y[:16]) if ranks.rank == 0 else other))
            return one.steps, one.step(x, y[:16])

        first, second = on_ranks(2, step)
        assert first == second
        assert first[0] == 1


ARGUMENTS = {
    "set of data": lambda rank: {"X": samples()[0] + np.uint8(rank)},
    "epochs": lambda rank: {"epochs": 1 + rank},
    "batch_size": lambda rank: {"batch_size": 16 + rank},
    "augmentation": lambda rank: {"augmentation": Augmentation(shift=1 + rank)},
    "callbacks": lambda rank: {"callbacks": [EarlyStopping(patience=2 + rank)]},
    "validation set": lambda rank: {"X_val": samples()[0][rank : 9 + rank], "y_val": samples()[1][:9]},
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_fits_that_differ_are_refused(what):
    for error in on_ranks(2, lambda ranks: fit(ranks, **ARGUMENTS[what](ranks.rank))):
        assert isinstance(error, RankError), error
        assert str(error).startswith(f"fit: {what}: expected the same on all ranks; got ")


def test_of_many_ranks_one_writes(capsys):
    on_ranks(3, lambda ranks: fit(ranks, verbose=1))
    written = capsys.readouterr()
    assert [line.split("|")[0].strip() for line in written.out.splitlines()] == ["Epoch 1", "Epoch 2"]


def test_without_a_seed_all_have_that_of_the_first():
    X, y = samples()

    def train(ranks):
        layers = [Conv2D(8, 3), ReLU(), Dropout(0.2), Flatten(), Dense(CLASSES)]
        one = Trainer(Sequential(layers), communicator=ranks, random_state=np.random.RandomState(ranks.rank))
        one.fit(X, y, epochs=1, batch_size=16, verbose=0)
        return one.model.digest()

    assert len(set(on_ranks(3, train))) == 1


def test_a_pickle_has_no_communicator():
    X, y = samples()

    def copied(ranks):
        one = trainer(ranks)
        one.step(X, y)
        copy = pickle.loads(pickle.dumps(one))
        return copy.communicator, copy.step(X, y)

    alone = trainer()
    alone.step(X, y)
    assert on_ranks(2, copied) == [(None, alone.step(X, y))] * 2


@pytest.mark.parametrize("wrong", [4, "world", object()])
def test_what_is_no_communicator_is_refused(wrong):
    with pytest.raises(TypeError, match=r"^communicator: expected a communicator of mpi4py, such as MPI\.COMM_WORLD"):
        Trainer(network(), communicator=wrong)


@pytest.mark.filterwarnings("ignore:Maximum iterations")
@pytest.mark.parametrize("kind", [fastcnn.CNNClassifier, fastcnn.CNNRegressor])
def test_estimators_on_ranks(kind):
    X, y = samples()

    def train(ranks=None):
        found = kind(max_iter=2, early_stopping=True, random_state=0, communicator=ranks).fit(X, y)
        return found.model_.digest(), found.loss_curve_, found.validation_scores_

    assert on_ranks(2, train) == [train()] * 2
    # A worker of joblib's that read a communicator would begin MPI, in the name of its rank.
    assert on_ranks(2, lambda ranks: pickle.loads(pickle.dumps(kind(communicator=ranks))).communicator) == [None] * 2
    with pytest.raises(ValueError, match="random_state: expected an int with a communicator"):
        kind(communicator=object()).fit(X, y)
