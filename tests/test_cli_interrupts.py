"""Ctrl-C while the command line is imported, and warnings as lines."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What a process does that gets a SIGINT when a module of the command line begins to be imported.
PROGRAM = """
import os, runpy, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, {handler})
sys.meta_path.insert(0, Interrupting())
sys.argv = ["fastcnn", "--version"]
runpy.run_module("fastcnn", run_name="__main__")
"""
MODULES = ("fastcnn.cli.main", "fastcnn.cli.common", "fastcnn.cli.train", "fastcnn.cli.fitting", "argparse")


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("module", MODULES)
def test_ctrl_c_while_the_command_line_is_imported(module):
    done = run(PROGRAM.format(module=module, handler="signal.default_int_handler"))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "fastcnn: interrupted\n")


def test_an_ignored_signal_stays_ignored():
    done = run(PROGRAM.format(module="fastcnn.cli.main", handler="signal.SIG_IGN"))
    assert done.returncode == 0
    assert done.stderr == ""


def test_warnings_are_lines_of_words():
    program = (
        "import sys, warnings, fastcnn.__main__ as command\n"
        "sys.argv = ['fastcnn', 'info']\n"
        "command.start()\n"
        "warnings.warn('two\\nlines')"
    )
    done = run(program)
    assert done.stderr == "fastcnn: warning: two lines\n"


def test_importing_the_package_takes_no_files_apart():
    """`importlib.abc` and what it imports took most of the time of `import fastcnn`."""
    done = run("import fastcnn.cli.interrupts, sys; print({'tempfile', 'pathlib', 'importlib.abc'} & set(sys.modules))")
    assert done.stdout == "set()\n"
