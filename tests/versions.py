"""The suite with the oldest or the newest supported set of dependencies, in an environment of its own.

    python -m tests.versions oldest [--python python3.11] [--keep FOLDER] [arguments of pytest]
    python -m tests.versions newest [--python python3.13] [arguments of pytest]

The oldest set is what the floors in pyproject.toml say, to the minor version; the newest is what the index has.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = {"oldest": "python3.11", "newest": "python3.13"}


def floors() -> dict[str, str]:
    """Return the lowest version of each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", one) for one in project["dependencies"]]
    assert all(found), "a dependency has a floor and no ceiling"
    return {one[1]: one[2] for one in found if one}


def requirements(which: str) -> list[str]:
    """Return what pip is asked for besides fastcnn itself."""
    return [f"{name}=={version}.*" if which == "oldest" else name for name, version in floors().items()]


def main(arguments: list[str] | None = None) -> int:
    """Make the environment, install, and run pytest in it; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=PYTHON)
    parser.add_argument("--python", help="the interpreter (that of the set)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the environment stays (a folder that goes)")
    options, rest = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary, "venv")
        python = folder / "bin" / "python"
        if not python.exists():
            subprocess.run([options.python or PYTHON[options.which], "-m", "venv", folder], check=True)
        wanted = [*requirements(options.which), "-e", f"{ROOT}[test]"]
        subprocess.run([python, "-m", "pip", "install", "-q", "--upgrade", *wanted], check=True)
        subprocess.run([python, "-m", "pip", "freeze"], check=True)
        return subprocess.run([python, "-m", "pytest", *rest], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
