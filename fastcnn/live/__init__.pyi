"""The names of `fastcnn.live` for editors and type checkers."""

from .page import LivePage as LivePage

__all__: list[str]
