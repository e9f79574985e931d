"""The names of `fastcnn.explain` for editors and type checkers."""

from .network import explain as explain
from .network import explain_gradient as explain_gradient
from .steps import Explanation as Explanation

__all__: list[str]
