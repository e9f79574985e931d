"""The names of `fastcnn.data` for editors and type checkers."""

from .sets import DataError as DataError
from .sets import Dataset as Dataset
from .sets import hold_out as hold_out
from .sets import load as load
from .sets import load_cifar as load_cifar
from .sets import load_digits as load_digits
from .sets import load_idx as load_idx
from .sets import load_images as load_images
from .sets import load_npz as load_npz

__all__: list[str]
