"""Sampling and pruning: which settings are tried next, and which are given up early, by Optuna."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

_BEFORE_PRUNING = 4  # the fewest complete trials that a curve is compared with


def sampler(seeds: list[int]) -> BaseSampler:
    """The tree-structured Parzen estimator of all settings together; it also learns from pruned trials.

    seeds : of all its random draws
    """
    from optuna.samplers import TPESampler

    return TPESampler(seed=int(np.random.SeedSequence(seeds).generate_state(1)[0]), multivariate=True)


def fixed_sampler(values: Mapping[str, Any]) -> BaseSampler:
    """A sampler that suggests these values, which may be filled in later."""
    from optuna.samplers import BaseSampler

    class Fixed(BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            return {}

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return values[param_name]

    return Fixed()


def pruner(n_epochs: int) -> BasePruner:
    """Prunes a trial whose best error up to an epoch is worse than the median of complete trials at that epoch.

    n_epochs : the most epochs; in the first sixth of them nothing is pruned, since slow learners are still worse then
    """
    from optuna.pruners import MedianPruner

    return MedianPruner(n_startup_trials=_BEFORE_PRUNING, n_warmup_steps=n_epochs // 6 + 1)
