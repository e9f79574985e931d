"""`CNNClassifier` and `CNNRegressor`: networks as scikit-learn's estimators."""

from .classifier import CNNClassifier
from .regressor import CNNRegressor

__all__ = ["CNNClassifier", "CNNRegressor"]
