"""The lessons as executed notebooks: `python docs/lessons/make.py` (extra `[docs]`), from the .py files beside it.

A source has cells that begin with `# %%`, those of text with `# %% [markdown]` and lines of comments. What a run leaves
that differs from machine to machine, such as times, is left out of the notebook.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
LESSONS = ("loops", "filters", "gradients", "accuracy")


def cells(source: str) -> list[tuple[str, str]]:
    """Return the kind, "markdown" or "code", and the text of each cell."""
    found = []
    for part in re.split(r"^# %%", source, flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        lines = body.strip().splitlines()
        text = "\n".join(re.sub(r"^# ?", "", line) for line in lines) if kind == "markdown" else body.strip()
        found.append((kind, text))
    return found


def write(name: str) -> None:
    """Execute a lesson and write its notebook."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    for number, (kind, text) in enumerate(cells((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
        notebook.cells.append(make(text, id=f"{name}-{number}"))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER.parents[1])}}).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    (FOLDER / f"{name}.ipynb").write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for lesson in sys.argv[1:] or LESSONS:
        write(lesson)
