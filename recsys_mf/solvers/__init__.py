"""Solvers: how a model is found. A new one is a file here and a line in SOLVERS."""

from recsys_mf.errors import ConfigError, nearest
from recsys_mf.solvers.als import Als
from recsys_mf.solvers.biases import Biases, Mean
from recsys_mf.solvers.gibbs import Gibbs
from recsys_mf.solvers.protocol import Epoch, Solver
from recsys_mf.solvers.sgd import Sgd
from recsys_mf.solvers.truncated_svd import TruncatedSvd

_SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("svd++", "svdpp", "funk", "funksvd", "mf", "pmf", "libmf", "adam"), ("sgd",)),
    **dict.fromkeys(("bpmf", "bayes", "bayesian", "mcmc", "myfm", "macau", "fm"), ("gibbs",)),
    **dict.fromkeys(("wals", "ials", "alswr", "implicit"), ("als",)),
    **dict.fromkeys(("baseline", "biases", "baselineonly"), ("bias",)),
    **dict.fromkeys(("average", "global"), ("mean",)),
}


class _Solvers(dict[str, type[Solver]]):
    """The solvers by name; an unknown name raises ConfigError with the nearest one."""

    def __missing__(self, name: object) -> type[Solver]:
        raise ConfigError(f"no solver '{name}'", fix=nearest(name, self, _SYNONYMS))


SOLVERS: dict[str, type[Solver]] = _Solvers({s.name: s for s in (Sgd, Als, Gibbs, TruncatedSvd, Biases, Mean)})

__all__ = ["SOLVERS", "Als", "Biases", "Epoch", "Gibbs", "Mean", "Sgd", "Solver", "TruncatedSvd"]
