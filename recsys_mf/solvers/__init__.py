"""Solvers: how a model is found. A new one is a file here and a line in SOLVERS."""

from recsys_mf.solvers.als import Als
from recsys_mf.solvers.biases import Biases, Mean
from recsys_mf.solvers.gibbs import Gibbs
from recsys_mf.solvers.sgd import Sgd
from recsys_mf.solvers.solver import Epoch, Solver
from recsys_mf.solvers.truncated_svd import TruncatedSvd

SOLVERS: dict[str, type[Solver]] = {s.name: s for s in (Sgd, Als, Gibbs, TruncatedSvd, Biases, Mean)}

__all__ = ["SOLVERS", "Als", "Biases", "Epoch", "Gibbs", "Mean", "Sgd", "Solver", "TruncatedSvd"]
