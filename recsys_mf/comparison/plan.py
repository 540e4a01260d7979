"""Plan: which candidates are fitted on which splits with which seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recsys_mf import splits
from recsys_mf.arguments import fraction, whole
from recsys_mf.comparison.candidates import Candidate, check_candidates
from recsys_mf.errors import ConfigError
from recsys_mf.ratings import Ratings
from recsys_mf.splits import BY_TIME, By, Split


@dataclass(frozen=True)
class Trial:
    """One fit of a plan.

    split : number of the split, from 0
    seed : of training
    rule : the split as plain values, with the fingerprint of the table
    """

    candidate: Candidate
    split: int
    seed: int
    rule: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Every candidate is fitted on every split, so that all are tested on the same rows.

    candidates : two or more
    test : test ratings; None to hold out a part of the ratings
    folds : number of folds of cross-validation, instead of one part that is held out
    seeds : repetitions, each with another split and another seed of training: seed, seed + 1, …
    hold_out, by : how the part is chosen (`splits.hold_out`)
    validation, seed : as in `train`
    split_seed : seed of the splits of the first repetition; None to use `seed`

    Raises ConfigError for values that are out of range or cannot be combined: several seeds need splits that differ,
    and splits by time or with a given test table are the same for every seed.
    """

    candidates: tuple[Candidate, ...]
    test: Ratings | None = None
    folds: int | None = None
    seeds: int = 1
    hold_out: float = 0.1
    by: By = "random"
    validation: float = 0.1
    seed: int = 0
    split_seed: int | None = None

    def __post_init__(self) -> None:
        check_candidates(self.candidates)
        for name, low in (("seeds", 1), ("seed", 0)):
            whole(getattr(self, name), name, low)
        fraction(self.validation, "validation")
        if self.split_seed is not None:
            whole(self.split_seed, "split_seed")
        if self.folds is not None:
            whole(self.folds, "folds", 2)
            if self.test is not None or self.by != "random":
                other = "a test table" if self.test is not None else f"by '{self.by}'"
                raise ConfigError(f"folds and {other} exclude each other", where="folds", fix="leave one of them out")
        elif self.test is not None and self.by != "random":
            what = f"by '{self.by}' and a test table exclude each other"
            raise ConfigError(what, where="by", fix="leave one of them out")
        elif self.test is None and not self.hold_out:
            raise ConfigError("nothing is held out to compare on", where="hold_out", seen=0, fix="give more than 0")
        if self.seeds > 1 and (self.test is not None or self.by in BY_TIME):
            what = "of a test table" if self.test is not None else f"by '{self.by}'"
            fix = "give 1, or hold out at random"
            raise ConfigError(f"the split {what} is the same for every seed", where="seeds", seen=self.seeds, fix=fix)

    @property
    def n_splits(self) -> int:
        """The number of splits in all repetitions."""
        return self.seeds * (self.folds or 1)

    def trials(self, ratings: Ratings) -> list[Trial]:
        """All fits on a table, split by split."""
        return [
            Trial(candidate, number, self.seed + number // (self.folds or 1), rule)
            for number, rule in enumerate(self._rules(ratings))
            for candidate in self.candidates
        ]

    def splits(self, ratings: Ratings) -> Iterator[Split]:
        """The splits of a table, one made after another."""
        for seed in self._split_seeds:
            if self.folds is not None:
                yield from splits.k_folds(ratings, self.folds, seed)
            elif self.test is not None:
                yield splits.given(ratings, self.test)
            else:
                yield splits.hold_out(ratings, self.hold_out, seed, by=self.by)

    @property
    def _split_seeds(self) -> list[int]:
        first = self.seed if self.split_seed is None else self.split_seed
        return [first + number for number in range(self.seeds)]

    def _rules(self, ratings: Ratings) -> Iterator[dict[str, Any]]:
        """The facts that determine each split, without making it."""
        table = {"fingerprint": splits.fingerprint_as_read(ratings)}
        for seed in self._split_seeds:
            if self.folds is not None:
                yield from (table | {"folds": self.folds, "fold": f, "seed": seed} for f in range(1, self.folds + 1))
            elif self.test is not None:
                yield table | {"test_fingerprint": splits.fingerprint_as_read(self.test)}
            else:
                yield table | {"by": self.by, "fraction": self.hold_out, "seed": seed}
