"""Training: a solver and the baselines, with settings chosen on validation rows, become a Run.

`trainer.train` does all of this; `fitting.Fitting` fits one model, `validation` cuts the rows that settings are chosen
on, `selection` chooses, `continuing` adds new ratings to a run, `provenance` records what a run was made from, and
`checkpoint` keeps a training while it runs.
"""

from recsys_mf.prediction import rmse
from recsys_mf.training.alone import finish_alone, fit_alone, validate_alone
from recsys_mf.training.checkpoint import EVERY, Checkpoint, Continued
from recsys_mf.training.continuing import MAX_UPDATED_SHARE, continued, solver_of
from recsys_mf.training.epochs import Progress, Watcher
from recsys_mf.training.selection import Validated
from recsys_mf.training.trainer import BASELINE, as_ratings, as_solver, baselines, train
from recsys_mf.training.validation import cut_parts

__all__ = [
    "BASELINE", "EVERY", "MAX_UPDATED_SHARE", "Checkpoint", "Continued", "Progress", "Validated", "Watcher",
    "as_ratings", "as_solver", "baselines", "continued", "cut_parts", "finish_alone", "fit_alone", "rmse", "solver_of",
    "train", "validate_alone",
]  # fmt: skip
