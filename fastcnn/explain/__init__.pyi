"""The names of `fastcnn.explain` for editors and type checkers."""

from .network import Loops as Loops
from .network import explain as explain
from .network import explain_gradient as explain_gradient
from .steps import Explanation as Explanation
from .steps import Step as Step
from .steps import Term as Term

__all__: list[str]
