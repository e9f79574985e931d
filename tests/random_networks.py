"""Random networks on both sides: outputs, all gradients, steps of every optimizer, and predictions, as the reference's.

More of them than the suite has:

    python -m tests.random_networks --seeds 1000:2000 --optimizers all
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import fastcnn
import fastcnn.prediction
import fastcnn.training.step
import reference
from tests.models import Chain
from tests.network_draws import DROPOUTS, Case, draw_case
from tests.noise_steps import NoiseSteps, divided, divides
from tests.optimizers import OPTIMIZERS
from tests.rounding import Rounding, attach, kink, walk
from tests.test_dropout import mask_of

STEPS = 5
RUNS = 2  # of the reference with roundings
FACTOR = 4.0  # times what the roundings of these runs move the farthest number of an array
HUGE = 1e6  # results beyond are no network that anybody trains

Results = dict[str, np.ndarray]


def batches(case: Case) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Return what each step trains on; one batch has another length."""
    other = case.n - 1 if case.n > 2 else case.n + 1
    sizes = [other if step == 2 else case.n for step in range(STEPS)]
    return [
        (case.batch(n, 10 + step), case.target(n, 30 + step), case.sample_weight(n, 50 + step))
        for step, n in enumerate(sizes)
    ]


def last(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Return what is predicted and evaluated in the end: with one image more than a batch."""
    return case.batch(case.n + 1, 70), case.target(case.n + 1, 71)


# --------------------------------------------------------------------------------------------------------- the engine


def build(case: Case) -> fastcnn.Sequential:
    """Return the network with the case's parameters."""
    model = fastcnn.Sequential(case.layers(fastcnn)).build(case.input_shape, random_state=0, dtype=case.dtype)
    for name, drawn in case.parameters({name: array.shape for name, array in model.parameters.items()}).items():
        model.parameters[name][...] = drawn
    return model


def dropouts(layers: Iterable[Any]) -> list[Any]:
    """Return the layers that drop numbers."""
    return [layer for layer in walk(list(layers)) if type(layer).__name__ in DROPOUTS]


def norms(layers: Iterable[Any]) -> list[Any]:
    """Return the layers that have running statistics."""
    return [layer for layer in walk(list(layers)) if type(layer).__name__ == "BatchNorm"]


def loss_of(module: Any, case: Case) -> Any:
    """Return the case's loss."""
    name, arguments = case.loss
    return getattr(module, name)(**arguments)


@contextmanager
def cut(case: Case) -> Iterator[None]:
    """Let a batch be cut into as many shards and pieces as there are images, if the case says so."""
    if not case.shards:
        yield
        return
    with (
        mock.patch.object(fastcnn.training.step, "SHARD_WORK", 1.0),
        mock.patch.object(fastcnn.prediction, "WORK", 1.0),
    ):
        yield


def engine_results(case: Case, path: list[Results] | None = None) -> Results:
    """Return all that fastcnn computes of a case; append the parameters before and behind each step to `path`."""
    model, results = build(case), {}
    path = [] if path is None else path
    x, rng = case.batch(case.n, 2), case.generator(3)
    results["output"] = model.forward(x)
    dL_dout = rng.standard_normal(results["output"].shape).astype(case.dtype)
    results["dL_dinput"] = model.backward(dL_dout)
    results |= {f"gradient {name}": gradient.copy() for name, gradient in model.gradients.items()}
    optimizer = OPTIMIZERS[case.optimizer](fastcnn)
    optimizer.clip_norm = case.clip_norm
    with cut(case):
        trainer = fastcnn.Trainer(model, loss_of(fastcnn, case), optimizer, threads=case.threads)
        path.append({name: parameter.copy() for name, parameter in model.parameters.items()})
        for step, (x, y, weight) in enumerate(batches(case)):
            results[f"loss {step}"] = np.array(trainer.step(x, y, sample_weight=weight))
            path.append({name: parameter.copy() for name, parameter in model.parameters.items()})
        results |= {f"parameter {name}": parameter for name, parameter in path[-1].items()}
        for number, layer in enumerate(norms(model.layers)):
            for name in ("running_mean", "running_var"):
                results[f"state {name}, number {number}"] = getattr(layer, name).copy()
        x, y = last(case)
        results["evaluation"] = np.array(trainer.evaluate(x, y, batch_size=case.n).loss)
        results["prediction"] = model.predict(x, threads=case.threads)
        for again in (model.predict(x, threads=case.threads), model.predict(x, threads=case.threads)):
            np.testing.assert_array_equal(again, results["prediction"])
        results["prediction, one by one"] = np.concatenate([model.predict(image[None]) for image in x])
    return results


# ------------------------------------------------------------------------------------------------------ the reference


class Reference:
    """The reference on a case, with roundings or without."""

    def __init__(self, case: Case, model: fastcnn.Sequential, rounding: Rounding) -> None:
        self.case, self.rounding = case, rounding
        self.chain = Chain(case.layers(reference), case.input_shape, model.parameters)
        self.loss, self.optimizer = loss_of(reference, case), OPTIMIZERS[case.optimizer](reference)
        self.dropouts = list(zip(dropouts(model.layers), dropouts(self.chain.layers), strict=True))
        attach(self.chain.layers, rounding)
        self.results: Results = {}
        self.divided: Results = {}  # by its size, in the last step

    def images(self, x: np.ndarray) -> np.ndarray:
        """Return a batch as numbers, bytes scaled."""
        return self.rounding.alike(x / 255, 2 * x / 255) if x.dtype == np.uint8 else x.astype(np.float64)

    def stages(self) -> Iterator[None]:
        """Write all results, one stage after another."""
        x, rng = self.case.batch(self.case.n, 2), self.case.generator(3)
        self.results["output"] = output = self.forward(self.images(x))
        yield
        self.results["dL_dinput"] = self.chain.backward(rng.standard_normal(output.shape).astype(self.case.dtype))
        self.results |= {f"gradient {name}": gradient.copy() for name, gradient in self.chain.gradients.items()}
        yield
        for step, batch in enumerate(batches(self.case)):
            self.step(step, *batch)
            yield
        self.results |= {f"parameter {name}": parameter.copy() for name, parameter in self.chain.parameters.items()}
        self.results |= self.state()
        for layer in walk(self.chain.layers):
            layer.training = False
        x, y = last(self.case)
        output = self.forward(self.images(x))
        self.results["prediction"] = self.results["prediction, one by one"] = output
        self.results["evaluation"] = np.array(self.loss(self.end(output), y))
        yield

    def state(self) -> Results:
        """Return the running statistics."""
        names = ("running_mean", "running_var")
        return {
            f"state {name}, number {number}": getattr(layer, name).copy()
            for number, layer in enumerate(norms(self.chain.layers))
            for name in names
        }

    def forward(self, x: np.ndarray, step: int = 0) -> np.ndarray:
        """Return the output, with the masks of a step."""
        for fast, ref in self.dropouts:
            shape = (len(x), *fast.input_shape)
            mask = mask_of(fast, (*shape, 1, 1)[:4], step)
            ref.mask = mask[:, :, 0, 0] if type(ref).__name__ == "SpatialDropout2D" else mask.reshape(shape)
        return self.chain.forward(x)

    @property
    def swallows(self) -> bool:
        """Whether the last layer is a function that the loss has in itself."""
        name, link = type(self.chain.layers[-1]).__name__, type(self.loss).__name__
        return (name, link) in {("SoftmaxActivation", "CrossEntropy"), ("Sigmoid", "BinaryCrossEntropy")}

    def end(self, output: np.ndarray) -> np.ndarray:
        """Return what the loss sees of the network's end: the logits, or numbers that are as good."""
        layer = self.chain.layers[-1]
        if self.swallows:
            return np.asarray(layer.last_input)
        return np.log(output) if isinstance(layer, reference.Softmax) else output

    def step(self, number: int, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        """Take a step."""
        chain = self.chain
        z = self.end(self.forward(self.images(x), number))
        self.results[f"loss {number}"] = np.array(self.loss(z, y, weight))
        gradient = self.loss.gradient(z, y, weight)
        if isinstance(self.loss, reference.CrossEntropy):
            size: Any = 4 / len(z)
        else:
            size = (np.abs(z) + np.abs(y) + 1) / z.size * (1 if weight is None else 1.1 / weight.mean())
        if isinstance(self.loss, reference.MeanAbsoluteError):
            self.rounding.compare("the loss", z, y)
        gradient = self.rounding(gradient, 16 * (np.abs(gradient) + size))
        for layer in reversed(chain.layers[:-1] if self.swallows else chain.layers):
            gradient = layer.backward(gradient)
        gradients = chain.gradients
        if self.case.clip_norm is not None:
            reference.clip_by_global_norm(gradients, self.case.clip_norm)
        if isinstance(self.optimizer, reference.Lion):
            for name, one in gradients.items():
                moments = self.optimizer.state.get("momentum", {}).get(name, np.zeros_like(one))
                beta = self.optimizer.betas[0]
                self.rounding.compare("the optimizer", beta * moments + (1 - beta) * one)
        if divides(self.optimizer):
            self.divided = divided(self.optimizer, chain.parameters, gradients)
        self.optimizer.step(chain.parameters, gradients)


# ------------------------------------------------------------------------------------------------------- the comparison


class Expected(NamedTuple):
    """What the reference computes of a case, as far as nothing hangs on a kink.

    Attributes
    ----------
    exact, tolerance : dict
        The results, and how far another may be from them.
    end : str
        Why there are no more of them; nothing if these are all.
    """

    case: Case
    exact: Results
    tolerance: Results
    end: str


def expect(case: Case) -> Expected:
    """Compute a case without roundings and with them, side by side."""
    model = build(case)
    generators = [None, *(case.generator(100 + run) for run in range(RUNS))]
    roundings = [Rounding(case.dtype, generator) for generator in generators]
    runs = [Reference(case, model, rounding) for rounding in roundings]
    exact: Results = {}
    tolerance: Results = {}
    end, noise = "", NoiseSteps()
    path: list[Results] = []
    with np.errstate(all="ignore"):
        for stage, _ in enumerate(zip_longest(*(run.stages() for run in runs))):
            end = kink(roundings[0], roundings[1:]) or _out_of_bounds(runs[0].results)
            if end and stage:
                break
            for name in runs[0].results.keys() - exact.keys():
                exact[name] = runs[0].results[name]
                tolerance[name] = _tolerance(case, *(run.results[name] for run in runs))
            if end:  # the output itself does not jump at a kink
                break
            _go_on_from_noise(case, runs, noise, path)
    return Expected(case, exact, tolerance, end)


def _go_on_from_noise(case: Case, runs: list[Reference], noise: NoiseSteps, path: list[Results]) -> None:
    """Put the engine's numbers where the last step of the runs was noise that was divided by itself."""
    exact, *others = runs
    if not exact.divided:
        return
    noise.see(exact.optimizer, exact.divided, [run.divided for run in others])
    if noise and not path:
        engine_results(case, path)
    if noise:
        number = exact.optimizer.steps
        noise.follow(exact.optimizer, path[number - 1], path[number], [run.chain.parameters for run in runs])
    for run in runs:
        run.divided = {}


def _out_of_bounds(results: Results) -> str:
    wrong = [name for name, array in results.items() if not (np.abs(array) < HUGE).all()]
    return f"{wrong} is no number any more" if wrong else ""


def _tolerance(case: Case, exact: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Return how far results may lie from the exact ones: some roundings of the whole, and what those before move."""
    moved = max(float(np.abs(other - exact).max(initial=0)) for other in others)
    return np.array(FACTOR * moved + 4 * float(np.finfo(case.dtype).eps) * float(np.abs(exact).max(initial=0)))


def expectations(case: Case) -> list[Expected]:
    """Return a case, or several: other numbers, in double precision too, until one of them keeps away from all kinks.

    Lion's step is the sign of a number: where that is the noise of a sum that should be 0, as in front of a batch
    normalisation, no draw helps, and Adam trains the network.
    """
    plain, double = replace(case, kind="normal"), replace(case, kind="normal", dtype=np.float64)
    kinds = [case, plain.again(), double, double.again(), double.again().again()]
    if case.optimizer.startswith("Lion"):
        kinds += [replace(double, optimizer="Adam")]
    tried = []
    for one in kinds:
        tried.append(expect(one))
        if not tried[-1].end:
            break
    return sorted(tried, key=lambda one: len(one.exact))[-1:] if tried[-1].end else [tried[-1]]


def check(case: Case) -> str:
    """Assert that both sides agree on a case; return why not all could be compared, or nothing."""
    end = "nothing"
    for found in expectations(case):
        compare(found)
        end = found.end
    return end


def compare(found: Expected) -> None:
    """Assert that the engine computes what is expected."""
    case, actual = found.case, engine_results(found.case)
    for name, array in found.exact.items():
        assert actual[name].shape == array.shape, f"{case}\n{name}: {actual[name].shape} for {array.shape}"
        error = np.abs(actual[name].astype(np.float64) - array)
        wrong = ~(error <= found.tolerance[name])  # NaN is wrong too
        if wrong.any():
            worst = np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), error.shape)
            raise AssertionError(
                f"{case}\n{name}: {wrong.sum()} of {error.size} wrong; at {worst} {actual[name][worst]} "
                f"for {array[worst]}, where {found.tolerance[name]:.3g} apart is allowed"
            )
    if not found.end:
        assert found.exact.keys() == actual.keys(), f"{case}\n{found.exact.keys() ^ actual.keys()} on one side alone"


def case_of(seed: int, optimizer: str | None = None) -> Case:
    """Return the network of a seed, trained by the optimizer whose turn it is."""
    names, case = list(OPTIMIZERS), draw_case(seed)
    name = optimizer or names[seed % len(names)]
    if name == "Muon-plain" and not {"Dense", "Softmax"} & {
        type(layer).__name__ for layer in walk(case.layers(reference))
    }:
        name = "Muon"  # the other names weights, of which there are none
    return replace(case, optimizer=name)


def main() -> int:
    """Check the networks of many seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:200", help="FIRST:END, or one")
    parser.add_argument("--optimizers", default="one", help="one (each seed another), all, or a name")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    seeds = range(int(first), int(end) if end else int(first) + 1)
    names = {"one": [None], "all": list(OPTIMIZERS)}.get(arguments.optimizers, [arguments.optimizers])
    wrong = undecided = 0
    for seed in seeds:
        for name in names:
            try:
                undecided += bool(check(case_of(seed, name)))
            except Exception as error:
                wrong += 1
                sys.stdout.write(f"{type(error).__name__}: {error}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(seeds) * len(names)} networks: {wrong} wrong, {undecided} not compared to the end\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
