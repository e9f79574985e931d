"""The threads that an estimator may use: what `n_jobs` allows, and one in a task of joblib's or Dask's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from joblib.parallel import get_active_backend

from ..runtime import threads as parallel


def allowed_threads(n_jobs: int | None) -> int:
    """Return the threads that `n_jobs` allows: all where it is None, but one inside of a task of joblib's or Dask's."""
    available = parallel.get_num_threads()
    if n_jobs is None:
        return 1 if _is_in_a_task() else available
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning")
    return int(n_jobs) if n_jobs > 0 else max(1, parallel.available_cpus() + 1 + int(n_jobs))


@contextmanager
def capped_threads(n_jobs: int | None) -> Iterator[int]:
    """Yield the threads that `n_jobs` allows; inside of `with`, BLAS has no more of them either, if a number is set."""
    threads = allowed_threads(n_jobs)
    if n_jobs is None:
        yield threads
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads, user_api="blas"):
        yield threads


def _is_in_a_task() -> bool:
    """Tell whether joblib or Dask has called: those who share out the processors already.

    joblib counts how deep its calls are nested; a task of Dask's is known by its worker, which is `distributed`'s.
    """
    if (get_active_backend()[0].nesting_level or 0) > 0:
        return True
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except (AttributeError, ValueError):
        return False
    return True
