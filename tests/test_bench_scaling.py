"""The scheduler of `bench.scaling`: tasks on workers, barriers, the ceiling of memory; and the jobs of a step."""

from __future__ import annotations

import pytest

from bench.networks import NETWORKS
from bench.scaling import Job, jobs_of, makespan, scheduled


@pytest.mark.parametrize(
    ("tasks", "workers", "expected"),
    [
        ((), 4, 0.0),
        ((2.0, 3.0, 4.0), 1, 9.0),
        ((3.0, 1.0, 1.0, 1.0), 2, 3.0),
        ((1.0, 1.0, 1.0, 3.0), 2, 4.0),  # in their order: the queue does not know which is the longest
        ((1.0,) * 8, 3, 3.0),
        ((1.0,) * 8, 128, 1.0),
    ],
)
def test_who_is_free_takes_the_next_task(tasks, workers, expected):
    assert makespan(tasks, workers) == expected


def test_jobs_follow_each_other_with_a_barrier_of_those_who_had_a_task():
    jobs = [Job("a", (1.0, 1.0)), Job("b", (5.0,))]
    assert scheduled(jobs, 1, (0.0, 0.0)) == 7.0
    assert scheduled(jobs, 2, (0.5, 0.25)) == (1 + 0.75) + (5 + 0.5)
    assert scheduled(jobs, 64, (0.5, 0.25)) == scheduled(jobs, 2, (0.5, 0.25))


def test_no_job_is_faster_than_memory():
    jobs = [Job("a", (1.0,) * 8, traffic=12.0), Job("b", (1.0,) * 8, traffic=4.0)]
    assert scheduled(jobs, 8, (0.0, 0.0), bandwidth=4.0) == 3.0 + 1.0
    assert scheduled(jobs, 1, (0.0, 0.0), bandwidth=4.0) == 16.0


def test_the_jobs_of_a_step_are_its_own():
    jobs = jobs_of(NETWORKS["notebook"])
    assert [job.name for job in jobs] == ["prepare", "forward 0", "update"]
    assert all(seconds >= 0 for job in jobs for seconds in job.tasks)
    assert len(jobs[1].tasks) == 1  # a step of 50 µs stays on one thread
    assert sum(jobs[1].tasks) > 0
    assert jobs[1].traffic > 0
