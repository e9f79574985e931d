"""How Sphinx builds these pages: `python -m sphinx -W --keep-going docs build/docs`."""

import inspect
import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import fastcnn  # noqa: E402

project, author = "fastcnn", "fastcnn developers"
project_copyright = "fastcnn developers"
version = release = fastcnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*", "_templates/*"]
templates_path = ["_templates"]

html_title = f"fastcnn {release}"
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_show_sourcelink = False

myst_heading_anchors = 3

default_role = "code"
autosummary_generate = ["reference/index.rst"]
autodoc_typehints = "none"  # numpydoc says the types
autodoc_default_options = {
    "members": True,
    # What comes from here or from above is described there.
    "inherited-members": "Layer, Loss, Optimizer, Schedule, Callback, BaseEstimator, ABC, dict, list, ValueError",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "min_reported_time": 1e9,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "remove_config_comments": True,
}

# The groups of the reference, in their order: each public name is in that of its module, or of the folder of it.
GROUPS = {
    "Estimators": ["estimators"],
    "Models": ["model", "models"],
    "Convolutions and dense layers": ["layers.conv", "layers.transpose", "layers.depthwise", "layers.dense"],
    "Activations": ["layers.activation", "layers.smooth", "layers.clipped", "layers.prelu"],
    "Normalisation and dropout": ["layers.norm", "layers.scale", "layers.dropout"],
    "Pooling and shapes": ["layers.pool", "layers.upsample", "layers.pad", "layers.shape"],
    "Branches, and layers of your own": ["layers", "engine"],
    "Initialisers": ["layers.initializers"],
    "Training": ["training", "history"],
    "Losses": ["losses"],
    "Optimizers and averages": ["optim"],
    "Learning rates": ["optim.schedules"],
    "Data": ["data"],
    "Files": ["saving", "storage", "exchange"],
    "Pictures and insight": ["display", "inspection", "report", "explain", "live", "gradient_check"],
}
REST = "Threads, and more"


def group_of(module):
    """Return the group of a module: its own, or that of the innermost folder that has one."""
    parts = module.removeprefix("fastcnn.").split(".")
    for asked in (".".join(parts[:end]) for end in range(len(parts), 0, -1)):
        for group, modules in GROUPS.items():
            if asked in modules:
                return group
    return REST


def public_names():
    """Yield the group and the path of each public name."""
    for name in fastcnn.__all__:
        thing = getattr(fastcnn, name)
        if inspect.ismodule(thing):
            short = thing.__name__.removeprefix("fastcnn.")
            for inner in getattr(thing, "__all__", None) or vars(thing):
                one = getattr(thing, inner)
                if callable(one) and not inner.startswith("_") and one.__module__.startswith(thing.__name__):
                    yield group_of(short), f"{short}.{inner}"
        elif not isinstance(thing, str):
            yield group_of(thing.__module__), name


def write_reference(app):
    """Write the index of the reference, from which autosummary makes a page for each name."""
    groups = {}
    for group, name in public_names():
        groups.setdefault(group, []).append(name)
    lines = ["API reference", "=============", "", ".. currentmodule:: fastcnn", ""]
    for group in (*GROUPS, REST):
        if group in groups:
            lines += [group, "-" * len(group), "", ".. autosummary::", "   :toctree: names", ""]
            lines += [f"   {name}" for name in sorted(groups[group], key=str.lower)] + [""]
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    text = "\n".join(lines)
    if not (folder / "index.rst").exists() or (folder / "index.rst").read_text(encoding="utf-8") != text:
        (folder / "index.rst").write_text(text, encoding="utf-8")


def link_to_the_repository(app, docname, source):
    """Let links to files that are no pages lead to the repository; while it has no address, leave their words."""
    urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    address = urls.get("Source")
    link = rf"[\1]({address}/blob/main/\2)" if address else r"\1"
    source[0] = re.sub(r"\[([^]]+)\]\((?:\.\./)+(?!auto_gallery|reference|\w+\.md)([^)]+)\)", link, source[0])


def leave_out_what_scikit_learn_adds(app, what, name, thing, skip, options):
    """Leave out methods that scikit-learn describes on its own pages, with links into them."""
    return True if (getattr(thing, "__module__", None) or "").startswith("sklearn") else None


def setup(app):
    """Write the reference's index before anything is read; before autosummary looks for it."""
    app.connect("builder-inited", write_reference, priority=1)
    app.connect("source-read", link_to_the_repository)
    app.connect("autodoc-skip-member", leave_out_what_scikit_learn_adds)
