"""The command line: what it prints, what it refuses and how it ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import types
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import fastcnn
from fastcnn.__main__ import start
from fastcnn.cli import main
from fastcnn.cli.main import EXAMPLES, _parser
from fastcnn.data import hold_out, load_digits
from fastcnn.training.progress import duration, progress, saying

ROOT = Path(__file__).parents[1]
EPOCH = r"Epoch (\d+) \| Loss: \d+\.\d{4} \| Accuracy: \d+\.\d\d%"
SECONDS = re.compile(r"[\d,.]+ (s|images/s)\b")


def run(*arguments, **options):
    command = [sys.executable, "-m", "fastcnn", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False, **options)


# What it prints.


def test_default_recipe(capsys):
    assert main(["train", "digits", "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    first, second, *epochs, last = out.splitlines()
    assert first == "1437 images to train on, 360 held out."
    assert second.startswith("Loading the kernels")
    lines = [re.fullmatch(EPOCH + r" \| Held-out: \d+\.\d\d% \| [\d,]+ images/s", line) for line in epochs]
    assert [line and line[1] for line in lines] == ["1", "2"]
    measured = r"Test Accuracy: \d+\.\d\d% \| \d+\.\d\d s of training, \d+\.\d\d s in all"
    assert re.fullmatch(measured + r" \| Digest: [0-9a-f]{64}", last)
    assert err == ""  # no progress bar: this is no terminal


def test_the_same_seed_prints_the_same_for_any_number_of_threads(capsys):
    def lines(*arguments):
        main(["train", "digits", "--epochs", "2", *arguments])
        return SECONDS.sub("", capsys.readouterr().out)

    first = lines("--seed", "3", "--threads", "1")
    assert lines("--seed", "3", "--threads", "2") == first
    assert lines("--seed", "4", "--threads", "1") != first


def test_default_recipe_reaches_98_5_percent_of_the_held_out_fifth(capsys):
    assert main(["train", "digits", "--quiet"]) == 0
    assert float(re.match(r"Test Accuracy: ([\d.]+)%", capsys.readouterr().out)[1]) >= 98.5


def test_what_is_shown_changes_nothing(capsys):
    """The same training, in words, in the last line alone and in JSON."""
    ends = []
    for option in ([], ["--quiet"], ["--json"]):
        assert main(["train", "digits", "--epochs", "1", *option]) == 0
        ends.append(capsys.readouterr().out.splitlines()[-1])
    words, last, line = ends
    assert words.split(" | ")[0] == last.split(" | ")[0] == f"Test Accuracy: {json.loads(line)['val_accuracy']:.2%}"


@pytest.mark.parametrize("engine", ["fastcnn", "reference"])
def test_notebook_recipe(engine, capsys):
    assert main(["train", "digits", "--recipe", "notebook", "--epochs", "2", "--engine", engine]) == 0
    out, err = capsys.readouterr()
    *epochs, last = out.splitlines()
    assert [re.fullmatch(EPOCH, line)[1] for line in epochs] == ["1", "2"]
    assert re.fullmatch(r"Test Accuracy: \d+\.\d\d% \| Digest: [0-9a-f]{64}", last)
    assert err == ""


def test_both_engines_print_the_same_curve(capsys):
    def curve(engine):
        main(["train", "digits", "--recipe", "notebook", "--epochs", "3", "--seed", "5", "--engine", engine])
        return capsys.readouterr().out.partition(" | Digest: ")[0]  # of bits, which loops round in another order

    assert curve("fastcnn") == curve("reference")


def test_notebook_recipe_ends_at_90_percent(capsys):
    assert main(["train", "digits", "--recipe", "notebook", "--learning-rate", "0.05"]) == 0
    *_, before, last, _ = re.findall(r"Accuracy: ([\d.]+)%", capsys.readouterr().out)
    assert float(before) < 90 <= float(last)


def test_all_settings_reach_the_recipe(capsys):
    arguments = ["--seed", "1", "--epochs", "1", "--batch-size", "9999", "--learning-rate", "1e-9", "--threads", "1"]
    assert main(["train", "digits", *arguments]) == 0
    # One step in all, at no rate to speak of: the held-out images are guessed.
    assert float(re.search(r"Test Accuracy: ([\d.]+)", capsys.readouterr().out)[1]) < 30


def test_version_and_help(capsys):
    for argument, expected in [("--version", f"fastcnn {fastcnn.__version__}\n"), ("--help", "usage: fastcnn ")]:
        with pytest.raises(SystemExit) as end:
            main([argument])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(expected)


def test_help_does_not_wait_for_the_engine():
    code = """
import sys
from fastcnn.cli import main
try:
    main(["train", "--help"])
except SystemExit:
    print(*(name for name in ("numba", "sklearn", "numpy") if name in sys.modules), file=sys.stderr)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "--learning-rate" in ended.stdout
    assert ended.stderr == "\n"


def test_the_installed_command_is_main(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *given: None)
    monkeypatch.setattr("warnings.formatwarning", warnings.formatwarning)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("fastcnn", scripts["fastcnn"], "console_scripts").load() is start
    monkeypatch.setattr(sys.modules["fastcnn.cli.main"], "main", lambda: 7)
    assert start() == 7


@pytest.mark.parametrize(
    ("encoding", "shape"), [("ascii", "16 x 6 x 6"), ("utf-8", "16 × 6 × 6"), ("cp1251", "16 x 6 x 6")]
)
def test_letters_that_a_terminal_lacks_are_written_in_others(tmp_path, encoding, shape):
    path = tmp_path / "модель.safetensors"
    layers = [fastcnn.Conv2D(16, 3), fastcnn.Flatten(), fastcnn.Dense(3)]
    fastcnn.save(fastcnn.Sequential(layers).build((1, 8, 8), random_state=0), path)
    command = [sys.executable, "-m", "fastcnn", "info", str(path)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    ended = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, b"")
    text = ended.stdout.decode(encoding)
    assert shape in text
    assert ("\\u043c" in text) == (encoding == "ascii")


# What it refuses.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "fastcnn: expected a command, one of train, evaluate, predict, "),
        ("cook", "'cook'"),
        ("train", "DATA"),
        ("train letters", "fastcnn train: unknown data 'letters'; known: digits"),
        ("train digits letters", "letters"),
        ("train digits --epochs 0", "--epochs: expected a whole number of at least 1; got '0'"),
        ("train digits --epochs many", "--epochs: expected a whole number of at least 1; got 'many'"),
        ("train digits --batch-size -3", "--batch-size: expected a whole number of at least 1; got '-3'"),
        ("train digits --batch-size 1.5", "--batch-size"),
        ("train digits --learning-rate -0.1", "--learning-rate: expected a number above 0; got '-0.1'"),
        ("train digits --learning-rate -1e-3", "--learning-rate"),
        ("train digits --learning-rate 0", "--learning-rate"),
        ("train digits --learning-rate nan", "--learning-rate"),
        ("train digits --learning-rate inf", "--learning-rate"),
        ("train digits --seed -1", "--seed: expected a whole number from 0 to 4294967295; got '-1'"),
        ("train digits --seed 4294967296", "--seed"),
        ("train digits --threads 0", "--threads"),
        ("train digits --recipe soup", "--recipe"),
        ("train digits --engine steam", "--engine"),
        ("train digits --engine reference", "--engine reference takes --recipe notebook"),
        ("train digits --ep 3", "--ep"),
        ("train digits --recipe notebook --json", "--json: the notebook's recipe leaves no choice"),
        ("train digits --model vgg99", "--model: expected one of airbench, compact, digits_default, "),
        (
            "train digits --optimizer magic",
            "--optimizer: expected one of sgd, momentum, adam, adamw, rmsprop, lion, muon, muon-record, record; got",
        ),
        (
            "train digits --schedule never",
            "--schedule: expected one of constant, cosine, one-cycle, step, linear, triangle, exponential",
        ),
        ("train digits --augment spin", "--augment: expected words of flip, alternating-flip, vertical-flip, shift="),
        ("train digits --augment shift=-2", "--augment: shift: expected an int of at least 0; got -2"),
        ("train digits --augment scale=many", "--augment: scale: expected a number; got 'many'"),
        ("train digits --validation 1", "--validation: expected a number between 0 and 1; got '1'"),
        ("train digits --label-smoothing 1", "--label-smoothing: expected a number from 0 to less than 1; got '1'"),
        ("train digits --recipe long", "--recipe long: there is one for fashion-mnist, cifar10; got 'digits'"),
        (
            "train digits --recipe notebook --label-smoothing 0.1",
            "--label-smoothing: the notebook's recipe leaves no choice",
        ),
        ("train digits --recipe notebook --model lenet5", "--model: the notebook's recipe leaves no choice"),
        (
            "train digits --engine reference --quiet",
            "--engine reference takes --recipe notebook: the loops are too slow",
        ),
    ],
)
def test_nonsense_is_one_clear_line_and_status_2(arguments, words, capsys):
    try:
        status = main(arguments.split())
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("fastcnn")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize("package", [None, os])
def test_the_loops_are_not_installed(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "reference", package)  # None: no such package; os: somebody else's
    assert main(["train", "digits", "--recipe", "notebook", "--engine", "reference"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "fastcnn train: --engine reference: the loops are not installed; run this in a clone of fastcnn\n"


def test_a_loss_that_is_not_finite_ends_the_run(capsys):
    assert main(["train", "digits", "--epochs", "3", "--learning-rate", "1e300", "--recipe", "notebook"]) == 1
    out, err = capsys.readouterr()
    assert "Test Accuracy" not in out
    assert err == "fastcnn train: the loss is not finite in epoch 1; try a smaller --learning-rate\n"


# How it ends.


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_ends_the_notebooks_loop_with_130_and_no_traceback():
    # A shell that starts the tests in the background lets them, and so their children, ignore the signal.
    code = """
import signal
from fastcnn.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
raise SystemExit(main(["train", "digits", "--recipe", "notebook", "--epochs", "10000", "--learning-rate", "1e-6"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        while not process.stdout.readline().startswith("Epoch 2"):
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fastcnn train: interrupted\n"


def test_ctrl_c_is_python_s_own_again_afterwards():
    before = signal.getsignal(signal.SIGINT)
    main(["train", "letters"])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(os.name == "nt", reason="pipes are POSIX's")
def test_a_reader_that_goes_away_is_no_error():
    command = [sys.executable, "-m", "fastcnn", "train", "digits", "--epochs", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="full disks are Linux's /dev/full")
@pytest.mark.parametrize("arguments", ["info --json", "train digits --epochs 1 --json", "--help", "--version"])
def test_what_cannot_be_written_is_one_line(arguments):
    """A full disk, a reader that has gone, a stream that is closed: nothing is lost without a word."""
    command = [sys.executable, "-m", "fastcnn", *arguments.split()]
    options = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "timeout": 300}
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(command, stdout=full, check=False, **options)
    assert ended.returncode == 1
    assert re.fullmatch(r"fastcnn( \w+)?: standard output: No space left on device\n", ended.stderr)
    if arguments.startswith("train"):
        return
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command, stdout=writer, check=False, **options)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
    ended = subprocess.run(["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], check=False, **options)
    assert ended.returncode == 1
    assert re.fullmatch(r"fastcnn: standard output is closed; .*\n", ended.stderr)


def test_the_table_of_common_options_is_right(capsys):
    """It names each option that three verbs or more have, with all of them."""
    _, verbs = _parser()
    having = {}
    for name, verb in verbs.items():
        for action in verb._actions:
            if action.option_strings and action.dest != "help":
                having.setdefault(action.option_strings[-1], []).append(name)
    rows = re.findall(r"^  (--[\w-]+)(?: [\w]+)? {2,}(\w+(?:, \w+)*|all commands)  ", EXAMPLES, re.MULTILINE)
    table = {option: [*verbs] if words == "all commands" else words.split(", ") for option, words in rows}
    assert {option: sorted(names) for option, names in table.items()} == {
        option: sorted(names) for option, names in having.items() if len(names) > 2
    }


def test_python_m_fastcnn():
    ended = run("train", "letters")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("fastcnn train: unknown data 'letters'")


# The progress bar.


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    def isatty(self):
        """Say yes."""
        return True

    def screen(self):
        """Return the lines as they stand there at the end."""
        return [line.split("\r")[-1].rstrip() for line in self.getvalue().split("\n")]


@pytest.fixture(params=["tqdm", "line"])
def on_terminal(request, monkeypatch):
    """Return what attaches standard output and error to a terminal, where tqdm is installed or not."""
    if request.param == "tqdm":
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)

    @contextmanager
    def attach():
        with redirect_stderr(Terminal()) as terminal, redirect_stdout(terminal):
            yield terminal

    return attach


def test_a_terminal_sees_a_bar_and_keeps_the_lines(on_terminal):
    with on_terminal() as terminal, progress(10) as shown:
        for step in range(10):
            shown.advance()
            if step % 5 == 4:
                shown.write(f"line {step}")
    assert "%" in terminal.getvalue()
    assert [line for line in terminal.screen() if line] == ["line 4", "line 9"]


def test_an_error_takes_the_bar_away(on_terminal):
    def fail():
        with progress(10) as shown:
            shown.advance()
            raise ValueError("here")

    with on_terminal() as terminal, pytest.raises(ValueError, match="here"):
        fail()
    assert "%" in terminal.getvalue()
    assert terminal.screen() == [""]


def test_a_terminal_sees_what_is_done_and_how_long_it_takes(on_terminal, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("fastcnn.training.progress.time.monotonic", lambda: now[0])
    with on_terminal() as terminal, progress(100) as shown:
        shown.say("compiling kernels")
        assert "compiling kernels" in terminal.getvalue()
        for _ in range(11):
            now[0] += 10
            shown.advance()
        shown.say("validating")
        assert "validating" in terminal.getvalue().split("\r")[-1]
        if "tqdm" not in sys.modules or sys.modules["tqdm"] is None:
            seen = terminal.getvalue().split("\r")
            assert " 11%  step 11 of 100, 14 min 50 s left" in seen[-1]
            assert "  2%  step 2 of 100, 16 min 20 s left" in "|".join(seen)
        shown.write("line")
    assert [line for line in terminal.screen() if line] == ["line"]


def test_the_last_line_leaves_no_count_behind(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with redirect_stderr(Terminal()) as terminal, redirect_stdout(terminal), progress(1) as shown:
        shown.advance()
        shown.write("the epoch")
        assert terminal.getvalue().endswith("the epoch\n")
        shown.say("validating")
    assert terminal.screen()[-1] == ""


def test_what_takes_long_goes_on_to_be_seen(on_terminal, monkeypatch):
    """A tick a second, or as here a thousand; none after the next step, and no thread is left."""
    monkeypatch.setattr("fastcnn.training.progress._Ticker.seconds", 0.001)
    with on_terminal() as terminal, progress(10) as shown:
        shown.say("compiling")
        before = len(terminal.getvalue())
        deadline = time.monotonic() + 60
        shown.said = shown.said if isinstance(shown.said, bool) else ("compiling", time.monotonic() - 5)
        while len(terminal.getvalue()) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(terminal.getvalue()) > before
        assert "compiling" in terminal.getvalue()[before:]
        shown.advance()
        assert shown.ticker.thread is None
    with on_terminal() as terminal, saying("Loading"):
        pass
    assert "Loading ... 0." in terminal.screen()[0]


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7384, "2 h 3 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_notebook_has_the_bar_of_notebooks(monkeypatch):
    auto = pytest.importorskip("tqdm.auto")
    made = []

    class Bar(auto.tqdm):
        def __init__(self, **settings):
            made.append(self)
            super().__init__(**settings)

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(auto, "tqdm", Bar)
    with progress(3) as shown:
        shown.advance()
    assert made
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    with progress(3):
        assert len(made) == 1


def test_elsewhere_there_are_only_lines(capsys):
    with progress(10) as shown:
        shown.advance()
        shown.write("line")
    assert capsys.readouterr() == ("line\n", "")


# The data and the recipe.


def test_digits_are_sixteenths_in_32_bits():
    X, y = load_digits()
    assert X.shape == (1797, 1, 8, 8)
    assert X.dtype == np.float32
    assert set(np.unique(X * 16)) == set(range(17))
    assert y.shape == (1797,)
    assert set(y) == set(range(10))


def test_the_split_is_the_notebook_s():
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    digits = load()
    expected = train_test_split(digits.images[:, None] / 16, digits.target, test_size=0.2, random_state=42)
    for ours, theirs in zip(hold_out(*load_digits()), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
