"""Ranks that are processes of MPI: the same bits as one, and what becomes of all when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from tests.processes import ROOT
from tests.rank_faults import FILES, MPIEXEC, digests, finish, hurt, start, told, write_data

pytest.importorskip("mpi4py", reason="needs the extra [mpi-bundled]")
if MPIEXEC is None:
    pytest.skip("needs mpiexec", allow_module_level=True)

LIMIT = 150  # seconds


@pytest.fixture
def folder(tmp_path):
    write_data(tmp_path)
    return tmp_path


def on_ranks(size, module, *arguments, options=()):
    """Return exit status, output and errors of a module on so many ranks, more than there are processors too."""
    return finish(start(size, module, *arguments, options=options))


def trained(size, folder, *arguments):
    """Return what each rank tells of a training that has ended well."""
    status, output, errors = on_ranks(size, "tests.mpi_program", folder, *arguments)
    assert status == 0, errors
    return told(output)


BITS = "digest", "average", "val_loss", "steps"


def bits(told):
    return [[one[name] for name in BITS] for one in told]


def test_one_two_and_four_ranks_have_the_same_bits_and_go_on_after_a_kill(folder):
    (alone,) = trained(1, folder)
    path = folder / "run.safetensors"
    path.unlink()
    two = trained(2, folder)
    assert bits(two) == bits([alone]) * 2
    path.unlink()
    status, _, errors = on_ranks(2, "tests.mpi_program", folder, "--fail", "kill", "--rank", 1, "--step", 6)
    assert status != 0
    assert "rank 1" in errors
    assert path.exists()
    assert bits(trained(4, folder)) == bits([alone]) * 4


def test_those_that_are_left_after_a_kill_go_on_to_the_same_bits(folder):
    """With Open MPI's fault tolerance; the first rank, who writes the checkpoint, is the one that dies."""
    if "ftmpi" not in extensions():
        pytest.skip("needs an Open MPI with fault tolerance")
    (alone,) = trained(1, folder)
    (folder / "run.safetensors").unlink()
    arguments = folder, "--fail", "kill", "--rank", 0, "--step", 6
    status, output, errors = on_ranks(3, "tests.mpi_program", *arguments, options=("--with-ft", "ulfm"))
    assert status == 0, errors
    assert errors.count("rank 0 of 3 has died; 2 went on from step ") == 1
    assert bits(told(output)) == bits([alone]) * 2
    assert bits(trained(4, folder)) == bits([alone]) * 4


def test_an_exception_at_any_moment_ends_all(folder):
    """From outside, and with one message; see `python -m tests.rank_faults`."""
    assert hurt(folder, 3, "exception", 2, 0.7, ()) == "ended"
    assert {path.name for path in folder.iterdir()} <= FILES
    assert len(digests(2, folder)) == 1


def extensions():
    """Return the extensions of MPI that this Open MPI has; none of another MPI."""
    path = Path(MPIEXEC).with_name("ompi_info")
    if not path.exists():
        return ""
    found = subprocess.run([path], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
    return next((line for line in found.splitlines() if "MPI extensions" in line), "")


def test_ranks_share_the_processors_and_forks_of_them_are_no_ranks(folder):
    cpus = joblib.cpu_count()
    told = trained(2, folder, "--fail", "fork", "--rank", 1, "--step", 2)
    assert sum(one["threads"] for one in told) <= max(2, cpus)
    assert bits(told)[0] == bits(told)[1]
    assert told[0]["steps"] == 12


def test_a_rank_that_is_bound_to_fewer_cores_than_it_is_asked_for_threads_warns(folder):
    """Open MPI does so where there are two ranks or fewer, or if it is told so; one of them says it."""
    cores = os.cpu_count()
    if cores == 1:
        pytest.skip("needs two processors")
    options = "--map-by", "core:oversubscribe", "--bind-to", "core:overload-allowed"
    status, _, errors = on_ranks(2, "tests.mpi_program", folder, "--threads", cores, options=options)
    assert status == 0, errors
    assert errors.count(f"rank 0 of 2 is bound to 1 of {cores} processors, and is asked for {cores} threads") == 1


def test_an_exception_on_one_rank_ends_all_with_its_words(folder):
    status, output, errors = on_ranks(3, "tests.mpi_program", folder, "--fail", "exception", "--rank", 1, "--step", 2)
    assert status != 0
    assert not output.strip()
    assert errors.count("OSError: the disk is full") == 1
    assert "on rank 1 of 3" in errors
    assert "RankFailedError" not in errors


def test_ctrl_c_on_one_rank_stops_all_after_the_same_step(folder):
    told = trained(2, folder, "--fail", "interrupt", "--rank", 1, "--step", 2)
    assert {one["stopped"] for one in told} == {"Ctrl-C"}
    assert {one["interrupted"] for one in told} == {1}
    assert bits(told)[0] == bits(told)[1]


def test_the_command_line_writes_once_and_has_the_digest_of_one_rank(tmp_path):
    arguments = "fastcnn", "train", "digits", "--epochs", "1", "--quiet"
    alone = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    saved = tmp_path / "model.safetensors"
    status, output, errors = on_ranks(2, *arguments, "--mpi", "--save", saved)
    assert (status, errors) == (0, "")
    assert saved.exists()
    (line,) = (line for line in output.splitlines() if line.strip())
    assert line.rpartition("Digest: ")[2] == alone.stdout.strip().rpartition("Digest: ")[2]


def test_the_command_line_complains_once_and_names_the_rank(tmp_path):
    status, output, errors = on_ranks(3, "fastcnn", "train", tmp_path / "nothing", "--mpi")
    assert (status != 0, output.strip()) == (True, "")
    assert errors.count("fastcnn train: rank 0 of 3: unknown data") == 1
    assert errors.count("fastcnn train:") == 1
