"""Schedules: the reference's rates at every step, PyTorch's, and what a Trainer does with them."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
import reference
from fastcnn import SGD, Dense, Sequential, Trainer

SCHEDULES = {
    "constant": lambda m: m.ConstantRate(0.3),
    "step": lambda m: m.StepDecay(8.0, 3, 0.5),
    "exponential": lambda m: m.ExponentialDecay(8.0, 0.5),
    "cosine": lambda m: m.CosineDecay(4.0, 8, 2.0),
    "one-cycle": lambda m: m.OneCycle(25.0, 21, warmup=11 / 21),
    "one-cycle, no warm-up": lambda m: m.OneCycle(25.0, 10, warmup=0.05),
    "one-cycle, all warm-up": lambda m: m.OneCycle(25.0, 10, warmup=1.0),
    "one-cycle of one step": lambda m: m.OneCycle(25.0, 1),
    "one-cycle, defaults": lambda m: m.OneCycle(0.1, 30),
    "warm-up": lambda m: m.WarmUp(m.ExponentialDecay(3.0, 0.5), 4),
    "warm-up from zero": lambda m: m.WarmUp(m.CosineDecay(2.0, 9), 2, 0.0),
    "plateau": lambda m: m.ReduceOnPlateau(0.2),
}
SCHEDULE_STEPS = (*range(12), 19, 20, 21, 29, 30, 99)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "plateau"])
def test_rates_are_the_references(name):
    fast, ref = SCHEDULES[name](fastcnn), SCHEDULES[name](reference)
    for step in SCHEDULE_STEPS:
        assert fast(step) == pytest.approx(ref(step), rel=1e-12)
    assert fast(np.int64(3)) == fast(3)


@pytest.mark.parametrize(
    ("fast", "theirs"),
    [
        (fastcnn.StepDecay(0.5, 3), lambda lrs, opt: lrs.StepLR(opt, 3)),
        (fastcnn.ExponentialDecay(0.5, 0.9), lambda lrs, opt: lrs.ExponentialLR(opt, 0.9)),
        (fastcnn.CosineDecay(0.5, 14, 0.1), lambda lrs, opt: lrs.CosineAnnealingLR(opt, 14, 0.1)),
        (fastcnn.OneCycle(0.5, 15), lambda lrs, opt: lrs.OneCycleLR(opt, 0.5, 15, cycle_momentum=False)),
        (fastcnn.WarmUp(fastcnn.ConstantRate(0.5), 5), lambda lrs, opt: lrs.LinearLR(opt)),
    ],
)
def test_rates_are_pytorchs(fast, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = theirs(torch.optim.lr_scheduler, optimizer)
    for step in range(14):
        assert fast(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mode", ["min", "max"])
def test_reduce_on_plateau_is_the_references(mode, seed):
    fast, ref = (m.ReduceOnPlateau(1.0, 0.5, 1, 0.1, 1, 0.02, mode) for m in (fastcnn, reference))
    values = np.random.RandomState(seed).rand(40)
    assert [fast.report(value) for value in values] == [ref.report(value) for value in values]
    assert (fast.best, fast.bad_reports, fast.resting) == (ref.best, ref.bad_reports, ref.resting)
    assert fast(7) == fast.learning_rate < 1


def train(model, schedule, steps, trainer=None):
    rates = []
    trainer = trainer or Trainer(model, optimizer=SGD(5.0), schedule=schedule)
    for _ in range(steps):
        trainer.step(np.ones((2, 3)), [0, 1])
        rates.append(trainer.optimizer.learning_rate)
    return trainer, rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_trainer_asks_before_each_step(name):
    schedule = SCHEDULES[name](fastcnn)
    trainer, rates = train(Sequential([Dense(2)]), schedule, 12)
    assert rates == [schedule(step) for step in range(12)]
    assert trainer.steps == 12


def test_the_rate_of_a_step_is_the_one_that_moves():
    """The first step has schedule(0), here 0; a function of the step is a schedule too."""
    model = Sequential([Dense(2)]).build((3,), random_state=0)
    before = model.parameters["0.weights"].copy()
    trainer, _ = train(model, lambda step: 0.1 * step, 1)
    np.testing.assert_array_equal(model.parameters["0.weights"], before)
    train(model, None, 1, trainer)
    assert not np.array_equal(model.parameters["0.weights"], before)


def test_a_training_is_taken_up_again():
    schedule = fastcnn.OneCycle(0.1, 10)
    _, whole = train(Sequential([Dense(2)]), schedule, 10)
    trainer = Trainer(Sequential([Dense(2)]), schedule=schedule)
    trainer.steps = 6
    assert train(None, None, 4, trainer)[1] == whole[6:]


def test_plateaus_in_a_training():
    schedule = fastcnn.ReduceOnPlateau(1.0, 0.5, patience=0)
    trainer = Trainer(Sequential([Dense(2)]), schedule=schedule)
    seen = []
    for loss in (3.0, 2.0, 2.0, 1.0, float("nan")):
        seen.append(train(None, None, 2, trainer)[1])
        schedule.report(loss)
    assert seen == [[1, 1], [1, 1], [1, 1], [0.5, 0.5], [0.5, 0.5]]
    assert schedule(0) == 0.25


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: m.StepDecay(0.1, 0), ValueError, "StepDecay: step_size: .* at least 1; got 0"),
        (lambda m: m.StepDecay(0.1, 2.5), TypeError, "StepDecay: step_size: .* got 2.5"),
        (lambda m: m.CosineDecay(-0.1, 5), ValueError, "CosineDecay: learning_rate: .* got -0.1"),
        (lambda m: m.OneCycle(0.1, 5, warmup=2), ValueError, "OneCycle: warmup: .* got 2"),
        (lambda m: m.OneCycle(0.1, 5, div_factor=0), ValueError, "OneCycle: div_factor: .* got 0"),
        (lambda m: m.WarmUp(m.ConstantRate(1), 0), ValueError, "WarmUp: steps: .* at least 1; got 0"),
        (lambda m: m.WarmUp(0.1, 3), TypeError, "WarmUp: schedule: .* got 0.1"),
        (lambda m: m.ReduceOnPlateau(0.1, factor=1), ValueError, "ReduceOnPlateau: factor: .* got 1"),
        (lambda m: m.ReduceOnPlateau(0.1, mode="low"), ValueError, "ReduceOnPlateau: mode: .* got 'low'"),
        (lambda m: m.ConstantRate(np.nan), ValueError, "ConstantRate: learning_rate: .* got nan"),
        (lambda m: m.ConstantRate("0.1"), TypeError, "ConstantRate: learning_rate: .* got '0.1'"),
        (lambda m: m.ConstantRate(0.1)(-1), ValueError, "ConstantRate: step: .* at least 0; got -1"),
        (lambda m: m.ConstantRate(0.1)(1.5), TypeError, "ConstantRate: step: .* got 1.5"),
        (lambda m: Trainer(Sequential([Dense(2)]), schedule=0.1), TypeError, "Trainer: schedule: .* got 0.1"),
    ],
)
def test_wrong_arguments_are_named(make, error, message):
    with pytest.raises(error, match="^" + message):
        make(fastcnn)
