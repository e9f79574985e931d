"""The name of `fastcnn.training` for editors and type checkers."""

from .trainer import Trainer as Trainer

__all__: list[str]
