"""The names of `fastcnn.inspection` for editors and type checkers."""

from .attribution import grad_cam as grad_cam
from .attribution import saliency as saliency
from .mistakes import Mistakes as Mistakes
from .mistakes import worst_mistakes as worst_mistakes
from .patches import occlusion as occlusion
from .units import dead_units as dead_units

__all__: list[str]
