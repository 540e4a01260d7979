"""Report: the errors of every model of a run on the same held-out pairs, next to the truncated SVD.

Plain values in frozen dataclasses: `scoring` builds them, `rendering` prints them, `from_mapping` reads them again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from recsys_mf.drawing import Drawable
from recsys_mf.errors import ArtifactError, ConfigError
from recsys_mf.evaluation.calibration import Calibration
from recsys_mf.evaluation.convergence import Summary
from recsys_mf.evaluation.metrics import Estimate
from recsys_mf.evaluation.ranking import Figure
from recsys_mf.models.fit import as_of_today

if TYPE_CHECKING:
    from recsys_mf.evaluation.diagnostics import Diagnostics

SEGMENTS = ("0", "1-4", "5-19", "20-99", "100-499", "500+")
"""Segments of users and of items by their number of training ratings; 0 is an unknown id."""


@dataclass(frozen=True)
class Segment:
    """Error on the test pairs whose user (or item) has this many training ratings.

    side : "user" or "item"; training_ratings : one of SEGMENTS
    side "pair", training_ratings "1" or "0" : the pairs that the model was trained on, and the others, if there are
        both
    """

    side: str
    training_ratings: str
    n_pairs: int
    rmse: float
    baseline_rmse: float


@dataclass(frozen=True)
class Coverage:
    """Share of the held-out ratings that are inside the intervals of a model.

    probability : nominal probability of the intervals
    covered : share of ratings between the bounds of `predict_interval`, both included
    pit : the same share for intervals that cut the predictive distribution exactly, by its probability integral
        transform (randomised within a level for an ordinal model, whose intervals of whole levels contain too many)
    """

    probability: float
    covered: float
    pit: float


@dataclass(frozen=True)
class Ranking:
    """For whom items were ranked, and what is relevant (`full_ranking` has the protocol).

    count : N, the items of a list
    relevant : the lowest rating of a relevant item
    n_users, unknown_users : users with a relevant test rating; those of them that the training rows lack
    n_relevant, unknown_items : relevant test ratings; those of items without a training rating, which are misses
    n_candidates : items with a training rating
    Test pairs that the model was trained on are not counted anywhere.
    """

    count: int
    relevant: float
    n_users: int
    unknown_users: int
    n_relevant: int
    unknown_items: int
    n_candidates: int


@dataclass(frozen=True)
class Row:
    """One model of a report.

    scores : metric -> estimate on the held-out pairs; empty in a validation report
    differences : metric -> estimate minus that of the baseline row, with the paired interval; empty in the
        baseline row and in a validation report
    segments : those that have test pairs, users then items
    coverage : of the intervals, if the model has them; else None, also in a validation report
    calibration : of the predictive distributions; None in the same cases
    convergence : of a sampler's monitored scalars after burn-in
    members : runs that the model is the mean of; epochs are those of each
    ranking : figure -> value with its standard error, by the names of `ranking.FIGURES`, then coverage and novelty;
        empty in a report without a ranking
    The other fields are those of `Fit`; errors are in rating units.
    """

    label: str
    solver: str
    settings: Mapping[str, Any]
    rank: int
    epochs: int
    fit_seconds: float
    ratings_per_second: float
    peak_memory_bytes: int
    train_rmse: float
    valid_rmse: float | None
    scores: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]
    segments: tuple[Segment, ...]
    coverage: Coverage | None = None
    convergence: tuple[Summary, ...] = ()
    members: int = 1
    ranking: Mapping[str, Figure] = field(default_factory=dict)
    calibration: Calibration | None = None


@dataclass(frozen=True)
class HeldOut:
    """The pairs that all rows are scored on: held out from training, unless `trained_pairs` says otherwise.

    unknown_user_pairs, unknown_item_pairs, unknown_both_pairs : pairs whose user, item, or both are unknown
    fallback_share : share of pairs whose user or item is unknown
    bootstrap_seed : seed of the paired intervals
    trained_pairs : pairs that the model was trained on, whose errors say nothing about new ratings; None if this is not
        known because the run did not keep its training pairs
    weighted : whether errors are √(Σ w e² / Σ w) and Σ w |e| / Σ w, with the weights w of the pairs
    """

    n_pairs: int
    unknown_user_pairs: int
    unknown_item_pairs: int
    unknown_both_pairs: int
    fallback_share: float
    bootstrap_seed: int
    trained_pairs: int | None = None
    weighted: bool = False


@dataclass(frozen=True)
class Report(Drawable):
    """Rows of models that were scored in the same way; built by `evaluate` and `validation_report`.

    rows : the baselines, then the trained model
    baseline : label of the row that differences are taken from, a truncated SVD
    held_out : None in a validation report
    warnings : what a reader must know before reading the figures
    data : name of the rating table, None if it has none
    split, split_seed : the rule that chose the test pairs, and its seed if it has one
    seed, device, threads, rating_range, train_ratings, train_fingerprint : of the training
    continued : if a run was continued, what was kept, added and changed (`recsys_mf.training.provenance`); else None
    ranking : the facts of the ranking; None if nothing was ranked
    weighted : whether the training ratings have weights, so that training and validation errors are weighted
    asked_epochs : the setting `epochs` of the solver before validation; None if it has none, or is not known
    diagnostics : the data of the pictures; not part of `to_mapping`, and None in a report that `from_mapping` returned

    `plot("curves")` draws a picture (`pictures` has their names), `save_html` and `save_plots` write all of them.
    Raises ConfigError when the baseline row is missing or is not a truncated SVD.
    """

    rows: tuple[Row, ...]
    baseline: str
    held_out: HeldOut | None
    warnings: tuple[str, ...]
    data: str | None
    split: str
    split_seed: int | None
    seed: int
    device: str
    threads: int
    rating_range: tuple[float, float]
    train_ratings: int
    train_fingerprint: str
    continued: Mapping[str, Any] | None = None
    ranking: Ranking | None = None
    weighted: bool = False
    asked_epochs: int | None = None
    diagnostics: Diagnostics | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        require_svd(self.baseline, {row.label: row.solver for row in self.rows})

    @property
    def kind(self) -> str:
        """The kind of pairs that were scored: "held-out", "validation", "trained" or "partly trained" if all or some
        are training pairs, "unknown" if the run does not say."""
        if self.held_out is None:
            return "validation"
        trained, n_pairs = self.held_out.trained_pairs, self.held_out.n_pairs
        if trained is None:
            return "unknown"
        return "held-out" if trained == 0 else "trained" if trained == n_pairs else "partly trained"

    @property
    def best(self) -> str | None:
        """Label of the row of lowest RMSE (validation RMSE in a validation report); None if a row has none."""
        errors = {row.label: row.scores["rmse"].value if self.held_out else row.valid_rmse for row in self.rows}
        known = {label: error for label, error in errors.items() if error is not None}
        return min(known, key=known.__getitem__) if len(known) == len(errors) else None

    def to_mapping(self) -> dict[str, Any]:
        """The report as plain values, with `kind` and `best`; `from_mapping` reads it back."""
        plain = dataclasses.asdict(dataclasses.replace(self, diagnostics=None))
        del plain["diagnostics"]
        return {"kind": self.kind, "best": self.best, **plain}

    def name_items(self, titles: Any) -> Self:
        """The report with titles next to the ids of items.

        titles : a table of the items with a column title or name: a path or a frame
        Raises what `loaders.names.read_names` raises.
        """
        from recsys_mf.evaluation.diagnostics import name_items

        if self.diagnostics is None:
            return self
        return dataclasses.replace(self, diagnostics=name_items(self.diagnostics, titles))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The report that `to_mapping` wrote, also after conversion to JSON and back.

        Raises ArtifactError for a mapping that lacks a field or has others.
        """
        try:
            fields = {name: value for name, value in mapping.items() if name not in ("kind", "best")}
            fields["rows"] = tuple(_row_from(row) for row in fields["rows"])
            fields["held_out"] = fields["held_out"] and HeldOut(**fields["held_out"])
            fields["ranking"] = (mapping.get("ranking") or None) and Ranking(**mapping["ranking"])
            fields["warnings"] = tuple(fields["warnings"])
            fields["rating_range"] = tuple(fields["rating_range"])
            return cls(**fields)
        except (AttributeError, KeyError, TypeError) as error:
            raise ArtifactError(
                "not a report of this version", where="report", seen=error, fix="evaluate the run again"
            ) from error


def _row_from(mapping: Mapping[str, Any]) -> Row:
    estimates = {
        name: {metric: Estimate(**estimate) for metric, estimate in mapping[name].items()}
        for name in ("scores", "differences")
    }
    rest = {
        "segments": tuple(Segment(**segment) for segment in mapping["segments"]),
        "coverage": mapping["coverage"] and Coverage(**mapping["coverage"]),
        "calibration": mapping.get("calibration") and Calibration.from_mapping(mapping["calibration"]),
        "convergence": tuple(Summary(**summary) for summary in mapping["convergence"]),
        "ranking": {name: Figure(**figure) for name, figure in mapping.get("ranking", {}).items()},
    }
    return Row(**{**as_of_today(mapping), **estimates, **rest})


def require_svd(baseline: str, solvers: Mapping[str, str]) -> None:
    """Raise ConfigError unless the baseline is among the labels of solvers and is a truncated SVD."""
    if solvers.get(baseline) != "svd":
        raise ConfigError(
            f"a report needs the truncated-SVD row '{baseline}' to compare with",
            seen=", ".join(solvers) or "no rows",
            fix="train with the truncated SVD among the baselines",
        )
