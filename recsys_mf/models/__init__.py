"""Models: what training yields."""

from recsys_mf.models.factorization import Factorization
from recsys_mf.models.run import Fit, Run

__all__ = ["Factorization", "Fit", "Run"]
