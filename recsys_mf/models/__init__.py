"""Models: what training yields."""

from recsys_mf.models.factorization import Factorization
from recsys_mf.models.posterior import Posterior
from recsys_mf.models.rated import RatedPairs
from recsys_mf.models.run import Fit, Model, Run

__all__ = ["Factorization", "Fit", "Model", "Posterior", "RatedPairs", "Run"]
