"""Models: the results of training, as arrays and facts. What they predict is in `prediction`."""

from recsys_mf.models.factorization import Factorization
from recsys_mf.models.fit import Fit, Model
from recsys_mf.models.folded_in import FoldedIn
from recsys_mf.models.posterior import Posterior
from recsys_mf.models.rated import RatedPairs

__all__ = ["Factorization", "Fit", "FoldedIn", "Model", "Posterior", "RatedPairs"]
