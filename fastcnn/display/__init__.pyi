"""The names of `fastcnn.display` for editors and type checkers."""

from .curves import TrainingCurveDisplay as TrainingCurveDisplay
from .explained import MistakesDisplay as MistakesDisplay
from .explained import SaliencyDisplay as SaliencyDisplay
from .network import FeatureMapsDisplay as FeatureMapsDisplay
from .network import FiltersDisplay as FiltersDisplay

__all__: list[str]
