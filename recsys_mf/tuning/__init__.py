"""Tuning: the settings of a solver, or the solver itself, searched on validation rows and tested once at the end.

`space` is what is searched, `study` what was tried (with Optuna), `storage` where that is kept; `trying` runs one
trial, `searching` chooses what is tried next, `clock` says what the time allows, and `tuning.tune` does all of it.
"""

from recsys_mf.tuning.plan import Plan
from recsys_mf.tuning.searching import TuningStatus
from recsys_mf.tuning.study import Trial
from recsys_mf.tuning.tuned import Tuned
from recsys_mf.tuning.tuning import tune, tune_by_plan

__all__ = ["Plan", "Trial", "Tuned", "TuningStatus", "tune", "tune_by_plan"]
