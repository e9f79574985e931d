"""Modules that were elsewhere before: old imports and old pickles find them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder

    class _Finder(MetaPathFinder, Loader):
        """What the import system asks."""
else:  # importlib.abc, which is not needed at run time, takes most of the time of `import fastcnn`
    _Finder = object

# Up to version 0.1.0, and where they are today.
FORMER_NAMES = {
    "fastcnn.augmentation": "fastcnn.data.augmentation",
    "fastcnn.averaging": "fastcnn.optim.averaging",
    "fastcnn.callbacks": "fastcnn.training.callbacks",
    "fastcnn.descent": "fastcnn.optim.optimizer",
    "fastcnn.feed": "fastcnn.training.feed",
    "fastcnn.flat_state": "fastcnn.optim.flat_state",
    "fastcnn.formats": "fastcnn.data.formats",
    "fastcnn.guard": "fastcnn.training.guard",
    "fastcnn.layers.checks": "fastcnn.checks",
    "fastcnn.layers.layout": "fastcnn.engine.layout",
    "fastcnn.layers.parameter": "fastcnn.engine.parameter",
    "fastcnn.layers.residual": "fastcnn.layers.branches",
    "fastcnn.loop": "fastcnn.training.loop",
    "fastcnn.notebook": "fastcnn.cli.notebook",
    "fastcnn.optimizers": "fastcnn.optim.optimizers",
    "fastcnn.parallel": "fastcnn.runtime.threads",
    "fastcnn.plans": "fastcnn.cli.recipes",
    "fastcnn.progress": "fastcnn.training.progress",
    "fastcnn.schedules": "fastcnn.optim.schedules",
    "fastcnn.step": "fastcnn.training.step",
}


class _FormerNames(_Finder):
    """Finds a module of today under its former name: one module object under two names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in FORMER_NAMES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(FORMER_NAMES[spec.name])
        self._today = module.__spec__, module.__loader__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import system has written over the module: it keeps its name of today."""
        module.__spec__, module.__loader__ = self._today


def find_former_names() -> None:
    """Let `import` know the former names, behind all that it knows else."""
    if not any(isinstance(finder, _FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(_FormerNames())
