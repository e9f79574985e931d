"""Which units of a network are dead: behind a ReLU they are 0 for every sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import maps
from ..typing import Array
from .subject import BATCH, Subject


def dead_units(model: Any, X: Any) -> dict[str, Array]:
    """Return which channels behind each ReLU are zero for all samples and at all pixels.

    With A the maps behind the ReLU, unit k is dead on X if `max over n, i, j of A[n, k, i, j] = 0`: no gradient reaches
    the filter that makes it, so that training on such samples cannot revive it.

    Parameters
    ----------
    model : Sequential, Trainer, CNNClassifier or CNNRegressor
        Built or fitted; computed as in prediction, and not changed.
    X : array of shape (N, ...)
        As `predict` takes it; the more samples, the surer.

    Returns
    -------
    dict of bool array of shape (C,)
        By the place of the ReLU, as in `Sequential.outputs`; True for a dead unit.

    Raises
    ------
    ValueError
        If the model has no ReLU.

    See Also
    --------
    Sequential.outputs : The feature maps that are looked at.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastcnn import Dense, ReLU, Sequential
    >>> from fastcnn.inspection import dead_units
    >>> model = Sequential([Dense(3), ReLU(), Dense(2)]).build((4,), random_state=0)
    >>> model.parameters["0.biases"][...] = [0, -1000, 0]
    >>> dead_units(model, np.ones((5, 4)) * [[1], [-1], [2], [-2], [0]])
    {'1': array([False,  True, False])}
    """
    subject = Subject(model, "dead_units")
    wanted = [place for place, layer in maps.places(subject.model).items() if layer.fuses_as == "relu"]
    if not wanted:
        raise ValueError("dead_units: model: expected a ReLU, behind which a unit can be dead; this model has none")
    x = subject.read(X)
    dead = {place: np.ones(maps.shapes(subject.model)[place][0], bool) for place in wanted}
    for first in range(0, len(x), BATCH):
        for place, values in subject.model.outputs(x[first : first + BATCH], wanted).items():
            dead[place] &= ~(values > 0).any(axis=(0, *range(2, values.ndim)))
    return dead
