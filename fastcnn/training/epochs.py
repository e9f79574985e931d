"""How many epochs a training has where nobody says it: few samples come more often."""

from __future__ import annotations

import math

ENOUGH = 2000  # samples below which there are more epochs, so that the steps fall with the square root alone


def epochs_for(n: int, batch: int, usual: int, most: int, fewest_steps: int) -> int:
    """Return the epochs for n samples in batches of so many.

    Parameters
    ----------
    n, batch : int
        Samples, and those of a batch.
    usual, most : int
        The epochs of many samples, and the most of few.
    fewest_steps : int
        For which epochs are added, up to the most.
    """
    wanted = max(math.isqrt(usual**2 * ENOUGH // n), -(-fewest_steps // -(-n // batch)))
    return max(usual, min(wanted, most))
