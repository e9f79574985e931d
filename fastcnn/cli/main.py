"""The command line: `fastcnn train digits`, and what comes after it; each verb has a file of its own.

Exit status: 0 done, 1 the run failed, 2 the command makes no sense, 130 interrupted. An error is one line on standard
error.
"""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from ..version import __version__
from . import compile_, evaluate, explore, export, import_, info, predict, report, train
from .common import CommandError, Parser, words_of
from .interrupts import ends_the_process

# The engine is imported by the verbs, when they run: `--help` does not wait for it, and Ctrl-C ends it quietly.

PLAIN = {"×": "x", "·": ".", "–": "-", "…": "..."}
EXAMPLES = """\
examples:
  fastcnn train digits                                      a small network, in seconds
  fastcnn train digits --seed 1 --threads 1
  fastcnn train digits --recipe notebook                    the notebook, line by line
  fastcnn train digits --recipe notebook --engine reference the same with loops (in a clone)
  fastcnn train mnist                                       from $FASTCNN_DATA/mnist, in two minutes
  fastcnn train fashion-mnist --recipe long                 from $FASTCNN_DATA/fashion-mnist, in seven
  fastcnn train data/emnist --augment shift=2,rotation=10   a folder with IDX files
  fastcnn train images/ --model resnet20 --validation 0.1   a folder of images for each class
  fastcnn train cifar-10-batches-bin --augment flip,shift=4 --optimizer adamw --schedule cosine --json
  fastcnn train images/ --size 32x32 --save model.safetensors --checkpoint run.safetensors
  fastcnn evaluate model.safetensors images/ --size 32x32 --confusion
  fastcnn predict model.safetensors photo.jpg more/ --top 3
  fastcnn train digits --live                               the training in a browser, each number with its sum
  fastcnn explore model.safetensors digits                  a trained network in a browser
  fastcnn report model.safetensors digits --output report.html   a page on it
  fastcnn info model.safetensors                            what it is and what it was trained on
  fastcnn export model.safetensors --to onnx --output model.onnx
  fastcnn import model.onnx --output model.safetensors
  fastcnn compile --for avx2,avx512 --into kernels/         machine code ahead, for $FASTCNN_CACHE_DIR

options of several commands:
  --json              all commands                                         lines of JSON in place of words
  --threads N         train, evaluate, predict, explore, compile, report   the most threads
  --size HxW          train, evaluate, predict, explore, report            height and width that images are brought to
  --max-bytes N       train, evaluate, predict, explore, report            the most that a packed file may take
  --validation SHARE  train, evaluate, explore, report                     the share of the images that is held out
  --views WORDS       train, evaluate, predict                             the mean for several views of each image
  --output FILE       export, import, report                               the file to write
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    command = "fastcnn"
    try:
        _check_streams()
        parser, verbs = _parser()
        _complete(parser)
        options, extras = parser.parse_known_args(arguments)
        if extras:
            (verbs[options.verb] if options.verb else parser).refuse(extras[0])
        if options.verb is None:
            raise CommandError(f"expected a command, one of {', '.join(verbs)}; fastcnn --help has examples")
        command += f" {options.verb}"
        with ends_the_process(command):
            options.run(options)
            sys.stdout.flush()  # a full disk shows here, and not at the end of the process
    except CommandError as error:
        return _failed(command, str(error), error.status)
    except SystemExit:  # of --help, --version and what the parser refuses
        _flush_or_fail(command)
        raise
    except OSError as error:
        return _failed_to_write(command, error)
    return 0


def _check_streams() -> None:
    """Raise if there is no standard output; files that are opened shall not get the number of a closed stream."""
    missing = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for _ in missing:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number
    if "stderr" in missing:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (as long as the process)
    if "stdout" in missing:
        raise CommandError("standard output is closed; > /dev/null is for what nobody reads", status=1)
    codecs.register_error("fastcnn", _in_letters_that_it_has)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="fastcnn")


def _in_letters_that_it_has(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for letters that a stream's encoding lacks: bytes of file names as they are, x for ×."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    if all("\udc80" <= letter <= "\udcff" for letter in letters):
        return bytes(ord(letter) - 0xDC00 for letter in letters), error.end
    return "".join(PLAIN.get(letter) or ascii(letter)[1:-1] for letter in letters), error.end


def _failed(command: str, words: str, status: int) -> int:
    with suppress(OSError):
        print(f"{command}: {' '.join(words.splitlines())}", file=sys.stderr)
    return status


def _failed_to_write(command: str, error: OSError) -> int:
    """Say why standard output takes no more; nothing if its reader has gone (`| head`)."""
    # The flush at the end of the process shall not complain too.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 1
    return _failed(command, words_of(error) if error.filename else f"standard output: {words_of(error)}", 1)


def _flush_or_fail(command: str) -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise SystemExit(_failed_to_write(command, error)) from None


def _complete(parser: Parser) -> None:
    """Answer the shell, and end, if it asks how a word may go on; it asks through argcomplete, if that is installed."""
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def _parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser, and those of the verbs by their names."""
    parser = Parser(
        prog="fastcnn",
        description="Convolutional networks on CPUs.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastcnn {__version__}")
    verbs = parser.add_subparsers(dest="verb", title="commands", metavar="COMMAND")
    for verb in (train, evaluate, predict, explore, info, export, import_, compile_, report):
        verb.add(verbs)
    return parser, verbs.choices
