"""Reports of rankings: every user, all items, and the figures of an oracle that ranks with a loop."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys_mf import Experiment
from recsys_mf.errors import ConfigError, DataError, RecsysError, RecsysWarning
from recsys_mf.evaluation import FoldReport, Report, Top, evaluate, summarise_folds, to_json, to_markdown, to_text
from recsys_mf.evaluation.report import Ranking
from recsys_mf.models import Factorization
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import Biases, TruncatedSvd
from recsys_mf.splits import k_folds
from recsys_mf.training import train
from tests.evaluation.test_ranking_figures import ORACLES
from tests.trained import posterior_run, small_run, small_split, small_table

NEW = ([777, 777, 5, 778, 8], [100, 104, 1, 2, 102], [5, 2, 5, 4, 0])
"""Rows whose user, item or both are unknown, and a rating of zero."""


def table() -> Ratings:
    """The test part of `small_split` and NEW."""
    test = small_split().test_as_read
    assert test is not None
    frame = test.to_frame()
    columns = (np.append(frame[name], new) for name, new in zip(("user_id", "item_id", "rating"), NEW, strict=True))
    return Ratings.from_ids(*columns).without_duplicates("last")


def report_of(run: Run, test: Ratings, **given: Any) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecsysWarning)
        return evaluate(run, test, device="cpu", **given)


def oracle(run: Run, model: Factorization, test: Ratings, n: int, least: float) -> dict[str, float]:
    """The figures by the protocol, on ids."""
    users, items = (vocabulary.entries.to_pylist() for vocabulary in (run.user_vocabulary, run.item_vocabulary))
    assert run.rated is not None
    rated = {(users[u], items[i]) for u, i in zip(run.rated.users, run.rated.items, strict=True)}
    frame = test.to_frame()
    relevant: dict[int, set[int]] = {}
    for user, item, rating in zip(frame["user_id"], frame["item_id"], frame["rating"], strict=True):
        if rating >= least and (user, item) not in rated:
            relevant.setdefault(user, set()).add(item)
    found: dict[str, list[float]] = {name: [] for name in ORACLES}
    surprises, shown = [], set()
    for user, wanted in relevant.items():
        scores = np.float32(model.mean) + model.item_bias
        if user in users:
            u = users.index(user)
            scores = scores + model.user_bias[u] + model.item_factors @ model.user_factors[u]
        ranked = sorted((-score, item) for score, item in zip(scores.tolist(), items, strict=True))
        listed = [item for _, item in ranked if (user, item) not in rated][:n]
        for name, figure in ORACLES.items():
            found[name].append(figure(listed, wanted, n))
        shown |= set(listed)
        raters = [sum(other == item for _, other in rated) for item in listed]
        surprises += [-np.log2(count / len(users)) for count in raters]
    means = {name: float(np.mean(values)) for name, values in found.items()}
    return {**means, "coverage": len(shown) / len(items), "novelty": float(np.mean(surprises))}


def values(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: figure.value for name, figure in figures.items()}


def crafted(scores: list[float]) -> Run:
    """`small_run` with a model of these item biases, in the order of the items, 0 for the rest, and no factors."""
    run = small_run()
    bias = np.zeros(len(run.item_counts), np.float32)
    bias[: len(scores)] = scores
    none = np.zeros((len(run.user_counts), 0), np.float32), np.zeros((len(bias), 0), np.float32)
    model = Factorization(3.0, np.zeros(len(run.user_counts), np.float32), bias, *none, (0.0, 5.0))
    return replace(run, fit=replace(run.fit, model=model))


@pytest.mark.parametrize("least", [0.0, 3.0, 4.0])
@pytest.mark.parametrize("n", [1, 5, 30])
def test_every_model_has_the_figures_of_the_oracle(n: int, least: float) -> None:
    run = small_run()
    report = report_of(run, table(), ranking=Top(n, least))
    for row in report.rows:
        model = run.baselines.get(row.label, run.fit).model
        assert isinstance(model, Factorization)
        assert values(row.ranking) == pytest.approx(oracle(run, model, table(), n, least)), row.label


def test_the_report_counts_users_and_relevant_ratings_known_or_not() -> None:
    known = Ratings.from_ids([5, 8], [100, 102], [3, 3])
    first = crafted([]).item_vocabulary.entries.to_pylist()
    test = Ratings.from_ids([777, 777, 778, 5, 5], [first[0], 1, 2, 3, first[1]], [5, 4, 4, 4, 1])
    rule = report_of(replace(small_run(), rated=_none_rated()), test, ranking=10).ranking
    assert rule == Ranking(
        count=10, relevant=4.0, n_users=3, unknown_users=2, n_relevant=4, unknown_items=3, n_candidates=len(first)
    )
    with pytest.raises(DataError, match="no test rating is at least 4"):
        report_of(small_run(), known, ranking=1)


def _none_rated() -> Any:
    """No training pairs."""
    rated = small_run().rated
    assert rated is not None
    return replace(rated, starts=np.zeros_like(rated.starts), items=rated.items[:0], values=rated.values[:0])


def test_order_is_that_of_predictions_before_they_are_clipped() -> None:
    """Clipped, the first three items have the same rating, and the first is first by its id."""
    run = replace(crafted([4, 5, 6]), rated=_none_rated())
    items = run.item_vocabulary.entries.to_pylist()
    row = report_of(run, Ratings.from_ids([777, 777], items[1:3], [4, 5]), ranking=2).rows[-1]
    assert row.ranking["ndcg"].value == pytest.approx(1)
    row = report_of(run, Ratings.from_ids([777, 777], items[:2], [4, 5]), ranking=2).rows[-1]
    assert row.ranking["mrr"].value == pytest.approx(1 / 2)


def test_equal_scores_are_in_the_order_of_the_ids() -> None:
    run = replace(crafted([]), rated=_none_rated())
    items = run.item_vocabulary.entries.to_pylist()
    for place in (0, 3, 9):
        row = report_of(run, Ratings.from_ids([777, 777], [items[place], items[20]], [5, 1]), ranking=10).rows[-1]
        assert row.ranking["mrr"].value == pytest.approx(1 / (place + 1))


def test_an_item_rated_zero_in_training_is_not_recommended_and_a_zero_in_the_test_can_be_relevant() -> None:
    train_rows = Ratings.from_ids([1, 1, 2, 2, 3, 3, 3], [1, 2, 1, 3, 2, 3, 4], [0, 5, 0, 4, 1, 3, 2])
    run = train(train_rows, "bias", compared_with={"svd bias": TruncatedSvd(ranks=(1,))}, validation=0)
    test = Ratings.from_ids([1, 1, 2], [3, 4, 4], [0, 1, 0])
    for row in report_of(run, test, ranking=Top(2, 0)).rows:
        assert row.ranking["recall"].value == pytest.approx(1), row.label  # users 1 and 2 have two items left each
    assert report_of(run, test, ranking=Top(2, 0)).ranking.n_relevant == 3  # type: ignore[union-attr]


def test_relevant_ratings_that_were_trained_on_count_nowhere() -> None:
    alone, mixed = table(), small_table()
    assert small_split().test_as_read is not None
    held_out = report_of(small_run(), small_split().test_as_read or alone, ranking=5)
    whole = report_of(small_run(), mixed, ranking=5)
    assert whole.kind == "partly trained"
    assert whole.ranking == held_out.ranking
    said = "Test ratings that the model was trained on are left out."
    assert [said in " ".join(to_text(report).split()) for report in (whole, held_out)] == [True, False]
    assert [row.ranking for row in whole.rows] == [row.ranking for row in held_out.rows]
    with pytest.raises(DataError, match=r"nothing to rank \(saw training rows only\)"):
        report_of(small_run(), small_split().train, ranking=5)


def test_a_relevant_item_that_training_lacks_is_a_miss() -> None:
    items = small_run().item_vocabulary.entries.to_pylist()
    test = Ratings.from_ids([777, 777, 777, 778], [*items[:2], 1, 2], [5, 5, 5, 5])
    row = report_of(replace(crafted([2, 1]), rated=_none_rated()), test, ranking=2).rows[-1]
    assert row.ranking["recall"].value == pytest.approx((2 / 3 + 0) / 2)
    assert row.ranking["hit_rate"].value == pytest.approx(1 / 2)


def test_items_without_a_training_rating_are_no_candidates() -> None:
    """As those of which the model has only side information."""
    run = crafted([5, 4, 3])
    counts = run.item_counts.copy()
    counts[0] = 0
    run = replace(run, item_counts=counts, rated=_none_rated())
    items = run.item_vocabulary.entries.to_pylist()
    report = report_of(run, Ratings.from_ids([777, 777], items[:2], [5, 5]), ranking=1)
    assert report.ranking is not None
    assert (report.ranking.n_candidates, report.ranking.unknown_items) == (len(items) - 1, 1)
    assert report.rows[-1].ranking["precision"].value == 1
    assert report.rows[-1].ranking["recall"].value == 1 / 2


def test_blocks_of_users_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = report_of(small_run(), table(), ranking=5)
    monkeypatch.setattr("recsys_mf.evaluation.full_ranking._USERS", 3)
    assert [row.ranking for row in report_of(small_run(), table(), ranking=5).rows] == [
        row.ranking for row in whole.rows
    ]


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_posterior_is_ranked_too(likelihood: str) -> None:
    row = report_of(posterior_run(likelihood), table(), ranking=5).rows[-1]
    assert list(row.ranking) == [*ORACLES, "coverage", "novelty"]
    assert all(0 <= row.ranking[name].value <= 1 for name in [*ORACLES, "coverage"])


def test_a_standard_error_needs_two_users() -> None:
    two = report_of(small_run(), table(), ranking=5).rows[-1].ranking
    assert all((two[name].standard_error or 0) > 0 for name in ORACLES)
    assert two["coverage"].standard_error is None
    items = small_run().item_vocabulary.entries.to_pylist()
    alone = report_of(small_run(), Ratings.from_ids([777, 777], items[:2], [5, 5]), ranking=5)
    assert alone.rows[-1].ranking["ndcg"].standard_error is None
    assert "±" not in to_text(alone).split("Ranking:")[1].split("* highest")[0]


# What cannot be ranked.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ranking": 0}, r"^ranking: out of range \(saw 0\); give a whole number, 1 or more$"),
        ({"ranking": 2.5}, r"^ranking: not a whole number \(saw 2.5\)"),
        ({"ranking": 31}, r"^ranking: out of range \(saw 31\); give a whole number from 1 to 30$"),
        (
            {"ranking": Top(5, float("nan"))},
            r"^relevant: not a finite number \(saw nan\); give the lowest rating that is relevant",
        ),
        ({"ranking": Top(5, "4")}, r"^relevant: not a finite number \(saw '4'\)"),  # type: ignore[arg-type]
        (
            {"ranking": Top(5, 5.5)},
            r"^relevant: outside the range of the ratings \(saw 5.5\); give a rating from 0",
        ),
        ({"ranking": Top(5, -1e300)}, r"^relevant: outside the range .* give a rating from 0 to 5$"),
    ],
)
def test_what_cannot_be_ranked_is_said_in_one_line(given: dict[str, Any], message: str) -> None:
    assert len(small_run().item_counts) == 30
    with pytest.raises(ConfigError, match=message):
        evaluate(small_run(), table(), **given)


def test_on_a_scale_below_4_the_threshold_must_be_given() -> None:
    run = train(Ratings.from_ids([1, 1, 2, 2], [1, 2, 1, 3], [1, 3, 2, 3]), Biases(), validation=0)
    test = Ratings.from_ids([1, 2], [3, 2], [3, 1])
    message = r"which ratings are relevant is not known \(saw ratings from 1 to 3\); give --relevant, the lowest rating"
    with pytest.raises(ConfigError, match=message):
        evaluate(run, test, ranking=1)
    assert evaluate(run, test, ranking=Top(1, 3)).ranking is not None


def test_a_threshold_between_floats_is_that_of_the_ratings() -> None:
    """3.3 is more than the float32 that is stored for it."""
    run = train(Ratings.from_ids([1, 1, 2, 2], [1, 2, 1, 3], [1.1, 3.3, 2.2, 3.3]), Biases(), validation=0)
    report = evaluate(run, Ratings.from_ids([1, 2], [3, 2], [3.3, 1.1]), ranking=Top(1, 3.3))
    assert report.ranking is not None
    assert (report.ranking.n_relevant, f"{report.ranking.relevant:g}") == (1, "3.3")


def test_a_run_without_its_training_pairs_cannot_be_ranked() -> None:
    with pytest.raises(
        ConfigError, match=r"does not keep its training ratings, .* train again without --no-keep-rated"
    ):
        evaluate(replace(small_run(), rated=None), table(), ranking=5)


def test_unknown_users_without_their_ids_are_refused() -> None:
    lost = table().reindexed(small_run().user_vocabulary, small_run().item_vocabulary)
    message = r"^test: unknown users without ids cannot be told apart \(saw 4 rows\); give the table as it was read"
    with pytest.raises(DataError, match=message):
        evaluate(small_run(), lost, ranking=5)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"ranking": 99}, ConfigError, "give a whole number from 1 to 3"),
        ({"ranking": 5, "relevant": 9}, ConfigError, "outside the range of the ratings"),
        ({"ranking": 99, "folds": 3}, ConfigError, "give a whole number from 1 to 3"),
        (
            {"ranking": 5, "test": Ratings.from_ids([5, 8], [1, 2], [3, 3])},
            DataError,
            r"no test rating is at least 4, so there is nothing to rank \(saw 2 test ratings, the highest 3\); lower",
        ),
    ],
)
def test_an_experiment_that_cannot_be_ranked_is_not_trained(
    given: dict[str, Any], kind: type[RecsysError], message: str
) -> None:
    trained: list[Any] = []
    with pytest.raises(kind, match=message):
        Experiment(ratings=small_table(), solver="bias", **given).run(watch=trained.append)
    assert not trained


def test_an_experiment_without_test_ratings_ranks_nothing() -> None:
    message = (
        r"^ranking: there are no test ratings to rank for \(saw --hold-out 0 .*\); hold ratings out, or give --test"
    )
    with pytest.raises(ConfigError, match=message):
        Experiment(ratings="missing.parquet", hold_out=0, ranking=10)
    with pytest.raises(ConfigError, match="relevant: has no effect without a ranking"):
        Experiment(ratings="missing.parquet", relevant=3)


# The report.


def test_a_ranking_survives_json_and_a_report_without_one_loads() -> None:
    report = report_of(small_run(), table(), ranking=5)
    stored = json.loads(to_json(report))
    assert Report.from_mapping(stored) == report
    del stored["ranking"]
    for row in stored["rows"]:
        del row["ranking"]
    bare = Report.from_mapping(stored)
    assert bare.ranking is None
    assert all(row.ranking == {} for row in bare.rows)
    assert "Ranking" not in to_text(bare)


def test_the_ranking_is_shown_within_100_columns_with_every_figure() -> None:
    report = report_of(small_run(), table(), ranking=5)
    text = to_text(report)
    assert max(map(len, text.splitlines())) <= 100
    section = text.split("Ranking: ")[1]
    assert section.startswith("top 5 of all items, relevant = rating of at least 4\n")
    best = max(report.rows, key=lambda row: row.ranking["ndcg"].value)
    for shown in (section, to_markdown(report).split("Ranking: ")[1]):
        for row in report.rows:
            assert all(f"{row.ranking[name].value:.4f}" in shown for name in [*ORACLES, "coverage"])
        for head in ("NDCG", "precision", "MAP", "MRR", "coverage", "novelty"):
            assert head in shown
    marked = next(line for line in section.splitlines() if " * " in line)
    assert f"{best.ranking['ndcg'].value:.4f}" in marked


def test_folds_have_means_and_spreads_of_the_figures() -> None:
    outcome = Experiment(ratings=small_table(), solver="bias", folds=3, ranking=5, relevant=3).run()
    report = outcome.report
    assert isinstance(report, FoldReport)
    assert [rule.count for rule in report.ranking] == [5, 5, 5]
    spread = report.rows[-1].ranking["ndcg"]
    assert spread.mean == pytest.approx(np.mean(spread.folds))
    for text in (to_text(report), to_markdown(report)):
        assert f"{spread.mean:.4f} ± {spread.standard_deviation:.4f}" in text.split("Ranking: top 5")[1]
    assert max(map(len, to_text(report).splitlines())) <= 100
    assert json.loads(to_json(report))["rows"][-1]["ranking"]["ndcg"]["mean"] == spread.mean


def test_folds_ranked_differently_are_not_summarised() -> None:
    splits = list(k_folds(small_table(), 2))
    few = {"svd bias": TruncatedSvd(ranks=(1,))}
    runs = [train(split, Biases(), compared_with=few) for split in splits]
    reports = [
        evaluate(run, split.test_as_read or table(), ranking=n)
        for run, split, n in zip(runs, splits, (5, 6), strict=True)
    ]
    with pytest.raises(
        ConfigError, match=r"report 2, ranking: .* \(saw top 6 from 4\); give reports with top 5 from 4"
    ):
        summarise_folds(reports)
