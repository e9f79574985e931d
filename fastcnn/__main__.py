"""`fastcnn` and `python -m fastcnn`: Ctrl-C ends them with one line, also while they import; warnings are lines too."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import signal
import sys
import warnings

from .cli.interrupts import Leave


def start() -> int:
    """Run the command line as the whole of a process; return its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where nohup or a parent ignores it
        signal.signal(signal.SIGINT, Leave("fastcnn"))
    warnings.formatwarning = _as_line
    from .cli.main import main

    return main()


def _as_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"fastcnn: warning: {' '.join(str(message).split())}\n"


if __name__ == "__main__":
    sys.exit(start())
