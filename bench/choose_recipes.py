"""How the recipes of `fastcnn train` are chosen: trained on nine tenths of the training images, measured on the others.

No test image is read. `python -m bench.choose_recipes cifar10 quick epochs=4 "epochs=5;batch_size=256"` tries a recipe
with other fields, one variant after the other. Accuracies are those of the tenth that is held out, by the recipe's
views, the same on any machine, under any load; seconds are not.
"""

from __future__ import annotations

import argparse
import ast
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.cli import recipes
from fastcnn.cli.common import dataset, source

EVERY = 10  # one of so many training images is held out


def main() -> None:
    """Try each variant with each seed, and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("recipe")
    parser.add_argument("variants", nargs="*", default=["-"], help="such as epochs=4;widths=(32,64,128); - for none")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    found = dataset(source(options.data, options.recipe), None, None)
    held = np.arange(len(found.X)) % EVERY == EVERY - 1
    for variant in options.variants or ["-"]:
        recipe = replace(recipes.RECIPES[options.data, options.recipe], **_fields(variant))
        for seed in range(options.seeds):
            _try(recipe, variant, seed, options.threads, found.X, found.y, held)


def _try(recipe: Any, variant: str, seed: int, threads: int | None, X: Any, y: Any, held: Any) -> None:
    X_kept, y_kept = X[~held], y[~held]
    trainer = recipe.trainer(len(X_kept), X.shape[1:], int(y.max()) + 1, seed, threads, X=X_kept)
    began, used = time.perf_counter(), _processor_seconds()
    history = trainer.fit(
        X_kept, y_kept, epochs=recipe.epochs, batch_size=recipe.batch_size,
        augmentation=recipes.augmentation(recipe.augment), drop_last=recipe.drop_last, verbose=0,
    )  # fmt: skip
    seconds, used = time.perf_counter() - began, _processor_seconds() - used
    plain, seen = (_accuracy(trainer.model, X[held], y[held], views) for views in (None, recipe.views))
    print(
        f"{variant:40} seed {seed}: {seen:.2%} of {held.sum()} held out ({plain:.2%} by one view), loss "
        f"{history['loss'][-1]:.4f}, {seconds:.0f} s, {used:.0f} s of processors",
        flush=True,
    )


def _accuracy(model: Any, X: Any, y: Any, views: str | None) -> float:
    guesses = [model.predict(X[first : first + 1024], views=views).argmax(axis=1) for first in range(0, len(X), 1024)]
    return float((np.concatenate(guesses) == y).mean())


def _fields(variant: str) -> dict[str, Any]:
    """Return the fields of a recipe that a text such as "epochs=4;widths=(32,64,128)" names; text stays text."""
    given = (word.partition("=") for word in variant.split(";") if variant != "-")
    return {name: _value(text) for name, _, text in given}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
