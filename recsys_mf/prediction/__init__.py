"""Prediction: models and pairs become ratings, intervals and distributions.

`predict` is the one place that knows what each class of model predicts, `error` what that is off on a table. What is
predicted does not depend on the device or the number of threads beyond rounding; files of pairs are `streaming`.
"""

from recsys_mf.prediction.error import rmse
from recsys_mf.prediction.intervals import check_probability
from recsys_mf.prediction.pairs import Predictions, has_intervals, predict, takes_times

__all__ = ["Predictions", "check_probability", "has_intervals", "predict", "rmse", "takes_times"]
