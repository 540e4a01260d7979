"""Reports: every pair is scored, the baseline is there, and what is printed is what was measured."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys_mf.errors import ArtifactError, ConfigError, DataError, IdMismatchWarning, LeakWarning
from recsys_mf.evaluation import (
    FoldReport,
    Report,
    evaluate,
    summarise_folds,
    to_json,
    to_markdown,
    to_text,
    validation_report,
)
from recsys_mf.evaluation.page import lay_out_report
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Biases, TruncatedSvd
from recsys_mf.splits import Split, given, hold_out, k_folds
from recsys_mf.training import train
from tests.trained import small_run, small_split, small_table

RENDERED: list[Callable[[Any], str]] = [to_text, to_markdown, to_json]


@pytest.fixture(scope="module")
def report() -> Report:
    test = small_split().test
    assert test is not None
    return evaluate(small_run(), test)


@pytest.fixture(scope="module")
def folds() -> FoldReport:
    small = {"svd bias": TruncatedSvd(ranks=(1, 2))}
    splits = list(k_folds(small_table(), 3))
    runs = [train(split, SOLVERS["sgd"].from_texts({"epochs": "3"}), compared_with=small) for split in splits]
    return summarise_folds([evaluate(run, split.test) for run, split in zip(runs, splits, strict=True) if split.test])


def test_the_rows_are_the_baselines_and_then_the_model(report: Report) -> None:
    assert [row.label for row in report.rows] == [*small_run().baselines, "sgd"]
    assert {"mean", "bias", "svd zero", "svd mean", "svd item-mean", "svd bias"} == set(small_run().baselines)


def test_the_error_is_that_of_all_pairs_unknown_ids_included(report: Report) -> None:
    test = small_split().test
    assert test is not None
    errors = predict(small_run().model, test.users, test.items).values.astype(float) - test.values
    assert report.rows[-1].scores["rmse"].value == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-12)
    assert report.rows[-1].scores["mae"].value == pytest.approx(np.mean(np.abs(errors)), rel=1e-12)
    assert report.held_out is not None
    assert report.held_out.n_pairs == len(test)


def test_the_fallback_share_counts_pairs_of_unknown_users_items_and_both() -> None:
    # Known users are 5, 8, … and known items 100, 102, …
    test = Ratings.from_ids([5, 8, 777, 778, 5], [100, 1, 100, 2, 102], [3, 3, 3, 3, 3])
    part = evaluate(small_run(), test).held_out
    assert part is not None
    assert (part.unknown_user_pairs, part.unknown_item_pairs, part.unknown_both_pairs) == (2, 2, 1)
    assert part.fallback_share == 3 / 5


def test_segments_divide_the_pairs_by_training_ratings(report: Report) -> None:
    for row in report.rows:
        for side in ("user", "item"):
            parts = [segment for segment in row.segments if segment.side == side]
            assert sum(part.n_pairs for part in parts) == len(small_split().test or ())
            squares = sum(part.n_pairs * part.rmse**2 for part in parts)
            assert np.sqrt(squares / sum(part.n_pairs for part in parts)) == pytest.approx(row.scores["rmse"].value)
    baseline = next(row for row in report.rows if row.label == report.baseline)
    assert all(segment.rmse == segment.baseline_rmse for segment in baseline.segments)
    test = Ratings.from_ids([5, 777], [100, 100], [3, 3])
    labels = {(s.side, s.training_ratings): s.n_pairs for s in evaluate(small_run(), test).rows[-1].segments}
    assert labels["user", "0"] == 1


def test_differences_are_from_the_baseline_row(report: Report) -> None:
    values = {row.label: row.scores["rmse"].value for row in report.rows}
    for row in report.rows:
        if row.label == report.baseline:
            assert row.differences == {}
        else:
            assert row.differences["rmse"].value == pytest.approx(values[row.label] - values[report.baseline])
            assert row.differences["rmse"].low <= row.differences["rmse"].value <= row.differences["rmse"].high


def test_a_report_is_the_same_after_json(report: Report) -> None:
    again = Report.from_mapping(json.loads(to_json(report)))
    assert again == report
    assert Report.from_mapping(json.loads(to_json(validation_report(small_run())))) == validation_report(small_run())
    for spoilt in ({}, report.to_mapping() | {"more": 1}):
        with pytest.raises(ArtifactError, match="report: not a report of this version"):
            Report.from_mapping(spoilt)


def test_there_is_no_report_without_the_truncated_svd(report: Report) -> None:
    with pytest.raises(ConfigError, match="a report needs the truncated-SVD row 'svd bias' to compare with"):
        replace(report, rows=tuple(row for row in report.rows if row.solver != "svd"))
    with pytest.raises(ConfigError, match="the baselines lack 'svd bias'"):
        train(small_split(), SOLVERS["bias"](), compared_with={"bias": Biases()})
    bare = replace(small_run(), baselines={"bias": small_run().baselines["bias"]})
    with pytest.raises(ConfigError, match=r"truncated-SVD row 'svd bias' .*\(saw bias, sgd\)"):
        evaluate(bare, small_table(seed=1))


def test_a_solver_with_the_name_of_a_baseline_keeps_its_own_row() -> None:
    run = train(small_split(), Biases(user_damping=50.0))
    test = small_split().test
    assert test is not None
    rows = {row.label: row for row in evaluate(run, test).rows}
    assert rows["bias (trained)"].settings["user_damping"] == 50
    assert rows["bias"].settings["user_damping"] == 5


def test_ids_that_do_not_match_give_a_warning_and_one_in_the_report() -> None:
    other = Ratings.from_ids(np.arange(20) + 10_000, np.arange(20) % 3 * 2 + 100, np.ones(20))
    with pytest.warns(IdMismatchWarning, match="20 of 20 test pairs have an id that training did not see") as caught:
        report = evaluate(small_run(), other)
    assert "user id 10000, training has user ids like 5" in str(caught[0].message)
    for rendered in (to_text(report), to_markdown(report)):
        assert "warning" in rendered.split("20 of 20")[0].lower()
    nine_in_ten = Ratings.from_ids([*range(10_000, 10_018), 5, 8], [100] * 20, np.ones(20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(small_run(), nine_in_ten)


def test_ids_of_another_kind_are_an_error() -> None:
    with pytest.raises(DataError, match="the ids are strings, but the model was trained on integer ids"):
        evaluate(small_run(), small_table(strings=True))
    with pytest.raises(DataError, match=r"test: too few test pairs \(saw 1\)"):
        evaluate(small_run(), Ratings.from_ids([5], [100], [3]))


def test_a_validation_report_says_that_nothing_was_held_out() -> None:
    run = train(hold_out(small_table(), 0.0), SOLVERS["sgd"].from_texts({"epochs": "3"}))
    report = validation_report(run)
    assert report.kind == "validation"
    for text in (to_text(report), to_markdown(report)):
        assert "Validation error (no test ratings" in text
        assert f"{run.fit.valid_rmse:.4f}" in text
    assert json.loads(to_json(report))["held_out"] is None


# Rows that the model was trained on.


def as_read() -> Ratings:
    test = small_split().test_as_read
    assert test is not None
    return test


def mixed() -> Ratings:
    """All rows of the table: 90 % of them were trained on."""
    return small_table()


def timeless(ratings: Ratings) -> Ratings:
    return replace(ratings, times=None)


def without_pairs(run: Run) -> Run:
    return replace(run, rated=None)


@pytest.mark.parametrize("change", [lambda t: t, timeless, lambda t: t.select(np.arange(100, 0, -1))])
def test_the_training_rows_are_not_called_held_out(change: Callable[[Ratings], Ratings]) -> None:
    table = change(small_split().train)
    with pytest.warns(LeakWarning, match=rf"was trained on {len(table)} of these {len(table)} pairs \(100.0%\)"):
        report = evaluate(small_run(), table)
    assert report.kind == "trained"
    assert report.held_out is not None
    assert report.held_out.trained_pairs == len(table)
    for text in (to_text(report), to_markdown(report)):
        assert "Error on rows the model was trained on" in text
        assert "held-out error" not in text.lower()


def test_the_error_of_the_unseen_pairs_of_a_mixed_table_is_reported_separately() -> None:
    n_train, n_test = len(small_split().train), len(as_read())
    with pytest.warns(
        LeakWarning, match=f"was trained on {n_train} of these 601 pairs .*only the error of the other pairs"
    ):
        report = evaluate(small_run(), mixed())
    assert report.kind == "partly trained"
    parts = {s.training_ratings: s for s in report.rows[-1].segments if s.side == "pair"}
    assert (parts["1"].n_pairs, parts["0"].n_pairs) == (n_train, n_test)
    alone = evaluate(small_run(), as_read())
    assert alone.kind == "held-out"
    assert parts["0"].rmse == pytest.approx(alone.rows[-1].scores["rmse"].value, rel=1e-12)
    assert f"pairs, {n_train} of which the model was trained on" in to_text(report)
    assert "pairs not trained on" in to_text(report)
    assert Report.from_mapping(json.loads(to_json(report))) == report
    assert max(map(len, to_text(report).splitlines())) <= 100


@pytest.mark.parametrize("change", [lambda t: t, timeless])
def test_a_run_without_its_pairs_recognises_its_tables_by_their_fingerprints(
    change: Callable[[Ratings], Ratings],
) -> None:
    bare = without_pairs(train(timed(small_split(), change), SOLVERS["bias"]()))
    whole = without_pairs(train(hold_out(change(small_table()), 0), SOLVERS["bias"]()))
    for run, table in ((bare, small_split().train), (bare, small_table()), (whole, small_table())):
        with pytest.warns(LeakWarning, match="the model was trained on"):
            part = evaluate(run, table).held_out
        assert part is not None
        assert part.trained_pairs == run.provenance["train_ratings"]


def timed(split: Split, change: Callable[[Ratings], Ratings]) -> Split:
    return hold_out(change(small_table()), split.record["fraction"], split.record["seed"])


def test_a_run_without_its_pairs_does_not_claim_that_other_pairs_are_held_out() -> None:
    report = evaluate(without_pairs(small_run()), as_read().select(np.arange(20)))
    assert report.kind == "unknown"
    assert "held-out" not in to_text(report).lower()
    assert "does not say whether" in to_text(report)
    assert evaluate(without_pairs(small_run()), small_split().test or as_read()).kind == "held-out"


def test_the_test_table_of_a_given_split_is_recognised() -> None:
    split = given(small_split().train, as_read())
    run = without_pairs(train(split, SOLVERS["bias"]()))
    assert evaluate(run, as_read()).kind == "held-out"


def test_a_split_made_by_hand_is_checked_pair_by_pair() -> None:
    """Its test part may hold training rows."""
    ratings = small_table()
    run = train(Split(ratings, ratings, None, "by hand", None), SOLVERS["bias"]())
    with pytest.warns(LeakWarning, match="trained on 601 of these 601"):
        assert evaluate(run, ratings).kind == "trained"


def test_a_continued_run_is_not_said_to_be_chosen_on_validation() -> None:
    """Only the baselines were: nothing is compared with them, and none is marked as lowest."""
    run = train(hold_out(small_table(), 0.0), SOLVERS["sgd"].from_texts({"epochs": "3"}))
    report = validation_report(replace(run, fit=replace(run.fit, valid_rmse=None, history=())))
    assert report.best is None
    text = " ".join(to_text(report).split())
    assert " *" not in text
    assert "ranks and epochs were chosen" not in text
    assert "No setting of sgd was chosen on them" in text
    tested = train(small_split(), SOLVERS["sgd"].from_texts({"epochs": "3"}))
    held = evaluate(replace(tested, fit=replace(tested.fit, valid_rmse=None)), as_read())
    text = " ".join(to_text(held).split())
    assert "baselines were chosen on validation rows cut from the training ratings; no setting of sgd was." in text


def test_folds_are_summarised_as_mean_and_spread(folds: FoldReport) -> None:
    assert sum(folds.n_pairs) == len(small_table())
    sgd = folds.rows[-1]
    scores = sgd.scores["rmse"]
    assert scores.mean == pytest.approx(np.mean(scores.folds))
    assert scores.standard_deviation == pytest.approx(np.std(scores.folds, ddof=1))
    baseline = next(row for row in folds.rows if row.label == folds.baseline)
    paired = np.subtract(scores.folds, baseline.scores["rmse"].folds)
    assert sgd.differences["rmse"].folds == pytest.approx(paired)
    for text in (to_text(folds), to_markdown(folds)):
        assert f"{scores.mean:.4f} ± {scores.standard_deviation:.4f}" in text
    assert json.loads(to_json(folds))["kind"] == "folds"


def test_folds_that_do_not_belong_together_are_refused(report: Report) -> None:
    with pytest.raises(ConfigError, match=r"a spread needs at least two folds \(saw 1\)"):
        summarise_folds([report])
    with pytest.raises(ConfigError, match=r"report 2, seed: reports of different kinds .* \(saw 7\)"):
        summarise_folds([report, replace(report, seed=7)])


def test_the_text_shows_every_row_and_figure_within_100_columns(report: Report) -> None:
    text = to_text(report)
    assert max(map(len, text.splitlines())) <= 100
    for row in report.rows:
        assert f"{row.scores['rmse'].value:.4f}" in text
        assert row.label.replace("svd ", "SVD, ") in text
    assert f"fallback predictions for {report.held_out.fallback_share:.2%} of the pairs" in text  # type: ignore[union-attr]
    assert "baseline" in text
    best = min(report.rows, key=lambda row: row.scores["rmse"].value)
    assert f"{best.label} *" in text or f"{best.label.replace('svd ', 'SVD, ')} fill *" in text


def test_a_report_says_what_its_truncated_svds_are_and_how_they_were_computed(
    report: Report, folds: FoldReport
) -> None:
    validation = validation_report(small_run())
    for shown in (report, folds, validation):
        text = " ".join(to_text(shown).split())
        assert (
            "the truncated SVD, at the rank shown, of the dense rating matrix with its missing entries filled" in text
        )
        assert "Computed by products with the sparse part" in text
    bare = replace(validation, rows=(replace(validation.rows[-2], settings={"route": "dense"}), validation.rows[-1]))
    assert "Computed from the dense matrix." in " ".join(to_text(bare).split())


def flat(text: str) -> str:
    return " ".join(text.split())


def biases_and_noise() -> Split:
    """Ratings of users and items whose effects add up: factors can only fit the noise."""
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(60 * 40)[:1200], 40)
    values = 3 + rng.standard_normal(60)[users] + rng.standard_normal(40)[items] + 0.5 * rng.standard_normal(1200)
    return hold_out(Ratings.from_ids(users, items, values), 0.1)


@pytest.mark.parametrize("name", ["sgd", "als"])
@pytest.mark.parametrize("validation", [0.1, 0.0])
def test_a_report_says_if_the_model_is_the_damped_biases_alone(name: str, validation: float) -> None:
    """As validation may find, whatever rank and epochs were given, or as 0 epochs ask."""
    split = biases_and_noise()
    small = {"svd bias": TruncatedSvd(ranks=(1,))}
    given = {"sgd": {"epochs": "8"}, "als": {"epochs": "40", "regularisation": "0.01"}}[name]
    settings = {"rank": "6", **given} if validation else {"rank": "6", "epochs": "0"}
    run = train(split, SOLVERS[name].from_texts(settings), validation=validation, compared_with=small)
    assert isinstance(run.model, Factorization)
    assert not run.model.user_factors.any()
    why = "on the validation rows they had a lower error than any factors" if validation else "as epochs=0 asks"
    assert split.test is not None
    report = evaluate(run, split.test)
    said = [to_text(report), to_markdown(report), "".join(lay_out_report(report).sections[0].notes)]
    if validation:
        said.append(to_text(validation_report(run)))
    for text in said:
        assert f"{name} is the damped biases alone" in flat(text)
        assert why in flat(text)
    assert Report.from_mapping(json.loads(to_json(report))).asked_epochs == int(settings["epochs"])


def test_a_report_says_if_runs_make_more_epochs_than_were_given(report: Report) -> None:
    assert "of the settings are the most of a single run" not in flat(to_text(report))
    trained = replace(report.rows[-1], members=6, settings={"epochs": 38})
    longer = replace(report, rows=(*report.rows[:-1], trained), asked_epochs=30)
    assert "sgd: the 30 epochs of the settings are the most of a single run; the mean of" in flat(to_text(longer))


def test_the_columns_of_a_report_have_full_names(report: Report) -> None:
    head = next(line for line in to_markdown(report).splitlines() if line.startswith("|"))
    for words in ("difference from the baseline", "runs × epochs", "million ratings per second", "train RMSE"):
        assert f"| {words} |" in head


@pytest.mark.parametrize("rendered", RENDERED)
def test_a_report_prints_the_same_twice(rendered: Callable[[Any], str], report: Report) -> None:
    assert rendered(report) == rendered(report)


def test_markdown_tables_have_as_many_cells_in_every_line(report: Report) -> None:
    lines = [line for line in to_markdown(report).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {10, 5}  # the models, and the segments


def test_a_run_of_an_earlier_version_is_still_scored() -> None:
    """Its record has the split rule in words, and only the fingerprint of the training rows."""
    old = ("split", "split_seed", "seed", "device", "threads", "train_ratings", "train_fingerprint", "rating_range")
    kept = {name: small_run().provenance[name] for name in old}
    run = replace(small_run(), provenance=kept, rated=None)
    assert evaluate(run, as_read()).kind == "unknown"
    with pytest.warns(LeakWarning, match="was trained on"):
        assert evaluate(run, small_split().train).kind == "trained"
    assert validation_report(run).kind == "validation"
