"""Prediction: from models and pairs to ratings, intervals and distributions.

`predict` is the one place that knows what each class of model predicts; `error` computes the RMSE on a table. Apart
from rounding, predictions do not depend on the device or the number of threads. Files of pairs are in `streaming`.
"""

from recsys_mf.prediction.error import rmse
from recsys_mf.prediction.intervals import check_probability
from recsys_mf.prediction.pairs import Predictions, has_intervals, predict, takes_times

__all__ = ["Predictions", "check_probability", "has_intervals", "predict", "rmse", "takes_times"]
