"""The private names of scikit-learn that estimators use, here and nowhere else: a release may take them away.

Beside these: the methods `_validate_params` and `_init_callback_context` of scikit-learn's base classes, and the class
attribute `_parameter_constraints`, which its validation reads. `tests/test_private_names.py` names each.
"""

from __future__ import annotations

from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = ["Interval", "Options", "StrOptions", "check_sample_weight"]
