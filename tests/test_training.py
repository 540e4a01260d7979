"""Training: planted truth is found, and what must not change a model does not.

What is invariant, and how far: mean, biases and the truncated SVD are unique optima, so the order of rows, the names of
ids and the exchange of users and items change only the rounding. ALS draws its item factors by item index and starts
with the users: the order of rows changes only the rounding; other names and the exchange change the start, so the error
changes as much as with another seed. SGD draws permutations of users, items and rows, so each of these changes has the
effect of another seed. Names in the same order change nothing in any solver.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from recsys_mf.arrays import sorting
from recsys_mf.arrays.cores import available_threads
from recsys_mf.errors import ConfigError, DataError, SolveError
from recsys_mf.kernels import select
from recsys_mf.models import Factorization, Model
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS, Als, Biases, Gibbs, Mean, Sgd, Solver, TruncatedSvd
from recsys_mf.splits import Split, hold_out, with_validation
from recsys_mf.training import BASELINE, Progress, baselines, fit_alone, rmse, train
from tests.planted import planted
from tests.trained import small_run, small_split

ONE: dict[str, Solver] = {BASELINE: TruncatedSvd(ranks=(2,))}
"""The least that a run is compared with."""

# The truth has rank 3. In standard deviations of the ratings the noise has variance 0.06, a factor's element 0.47, a
# bias 0.17: their ratios are the best ridges. SGD has a ridge per rating, and a row has 36 or 54 ratings.
ALS = Als(rank=3, epochs=60, count_exponent=0.0, regularisation=0.13, bias_regularisation=0.36, members=1)
SGD = Sgd(rank=3, epochs=150, decay=0.98, regularisation=0.005, bias_regularisation=0.01, members=1)
GIBBS = Gibbs(rank=3, sweeps=60, burn_in=30)
CHOSEN: dict[str, Solver] = {"sgd": SGD, "als": ALS, "gibbs": GIBBS}
SOLVER: dict[str, Solver] = {name: kind() for name, kind in SOLVERS.items()} | CHOSEN


@pytest.fixture(scope="module")
def split() -> Split:
    """10 % of the planted table held out at random."""
    return hold_out(planted()[0], 0.1, seed=0)


def fitted(split: Split, solver: Solver, **options: Any) -> Run:
    return train(split, solver, **({"compared_with": ONE, "device": "cpu"} | options))


def held_out_error(run: Run, split: Split) -> float:
    assert split.test is not None
    return rmse(run.model, split.test)


def parameters(model: Model) -> bytes:
    return repr(model.facts()).encode() + b"".join(array.tobytes() for array in model.arrays().values())


# Truth.


@pytest.mark.parametrize("solver", [SGD, ALS], ids=lambda solver: solver.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_truth_is_found(solver: Solver, seed: int) -> None:
    ratings, truth = planted(seed=seed)
    split = hold_out(ratings, 0.1, seed=seed)
    assert split.test is not None
    # With the right ridge nothing is overfitted, so every epoch is run.
    run = fitted(split, solver, validation=0, compared_with=ONE | {"bias": Biases()})
    users = split.test.user_vocabulary.ids(split.test.users).to_numpy()
    items = split.test.item_vocabulary.ids(split.test.items).to_numpy()
    floor = np.sqrt(np.mean((truth.expected(users, items) - split.test.values) ** 2))
    # Least squares with p parameters from n ratings adds noise² p / n, here 0.18 noise²; rows with few ratings more.
    n_parameters = 4 * (split.train.n_users + split.train.n_items)
    assert floor < held_out_error(run, split) < floor * np.sqrt(1 + 2 * n_parameters / len(split.train))
    assert held_out_error(run, split) < 0.4 * rmse(run.baselines["bias"].model, split.test)
    assert held_out_error(run, split) < 0.6 * rmse(run.baselines[BASELINE].model, split.test)


@pytest.mark.parametrize("weighted", [False, True])
def test_baselines_share_the_grouped_ratings_of_a_table_and_are_the_same_as_alone(
    split: Split, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if weighted:
        weights = np.random.default_rng(1).uniform(0.5, 2, len(split.train)).astype(np.float32)
        split = replace(split, train=replace(split.train, weights=weights))
    alone = {label: fit_alone(split, solver, select("cpu")) for label, solver in baselines().items()}
    lengths: list[int] = []

    def grouped(keys: Any, *rest: Any, **options: Any) -> Any:
        lengths.append(len(keys))
        return GROUPED(keys, *rest, **options)

    monkeypatch.setattr(sorting, "grouped", grouped)
    run = train(split, Mean(), device="cpu")
    for label, fit in run.baselines.items():
        assert parameters(fit.model) == parameters(alone[label].model)
    per_table = 2 if not weighted else 2 + 3  # weights are put in order for the biases, and for the means of items
    kept_pairs = 1  # what the run keeps is sorted once
    n_valid = len(split.train) // 10
    assert sum(length > n_valid for length in lengths) <= 2 * per_table + kept_pairs  # the others compile


GROUPED = sorting.grouped


def test_the_biases_of_a_table_are_solved_once_for_baselines_and_solver(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    solve = Biases._solve

    def solved(self: Biases, table: Ratings, backend: Any) -> Any:
        lengths.append(len(table))
        return solve(self, table, backend)

    monkeypatch.setattr(Biases, "_solve", solved)
    n = len(split.train)
    train(split, Sgd(members=1, epochs=2, rank=4, regularisation=0.05, noise="common"), device="cpu")
    without_validation, whole = sorted(length for length in lengths if length > n // 2)  # the others compile
    assert without_validation < whole == n


def test_default_settings_beat_every_baseline(split: Split) -> None:
    assert split.test is not None
    run = fitted(split, Sgd(), compared_with=None)
    assert set(run.baselines) == {"mean", "bias", "svd zero", "svd mean", "svd item-mean", "svd bias"}
    for fit in run.baselines.values():
        assert held_out_error(run, split) < 0.7 * rmse(fit.model, split.test)


# What must not change a model.


@pytest.mark.slow
@pytest.mark.parametrize("name", SOLVER)
def test_test_ratings_never_reach_the_model(name: str, split: Split) -> None:
    assert split.test is not None
    spoilt = replace(split, test=replace(split.test, values=split.test.values[::-1] * 3))
    runs = [fitted(s, SOLVER[name], compared_with=baselines()) for s in (split, spoilt, replace(split, test=None))]
    for other in runs[1:]:
        assert parameters(other.model) == parameters(runs[0].model)
        assert other.fit.epochs == runs[0].fit.epochs
        for label, fit in runs[0].baselines.items():
            assert parameters(other.baselines[label].model) == parameters(fit.model)


@pytest.mark.skipif(available_threads() < 2, reason="needs two processors")
@pytest.mark.parametrize("name", SOLVER)
def test_number_of_threads_does_not_change_a_bit(name: str, split: Split) -> None:
    one, two = (fitted(split, SOLVER[name], threads=threads) for threads in (1, 2))
    assert parameters(one.model) == parameters(two.model)
    assert parameters(one.baselines[BASELINE].model) == parameters(two.baselines[BASELINE].model)
    assert (one.provenance["threads"], two.provenance["threads"]) == (1, 2)


@pytest.mark.parametrize("name", SOLVER)
def test_the_same_seed_gives_the_same_model(name: str, split: Split) -> None:
    assert parameters(fitted(split, SOLVER[name]).model) == parameters(fitted(split, SOLVER[name]).model)


@pytest.mark.parametrize("solver", [SGD, ALS], ids=lambda solver: solver.name)
def test_another_seed_gives_another_model_of_the_same_quality(solver: Solver, split: Split) -> None:
    one, other = (fitted(split, solver, seed=seed) for seed in (0, 1))
    assert parameters(one.model) != parameters(other.model)
    assert held_out_error(one, split) == pytest.approx(held_out_error(other, split), rel=0.02)


@pytest.mark.parametrize("name", SOLVER)
def test_scale_and_shift_of_the_ratings_scale_the_error(name: str, split: Split) -> None:
    assert split.test is not None
    wide = replace(
        split,
        train=replace(split.train, values=split.train.values * 20 + 7),
        test=replace(split.test, values=split.test.values * 20 + 7),
    )
    assert held_out_error(fitted(wide, SOLVER[name]), wide) / 20 == pytest.approx(
        held_out_error(fitted(split, SOLVER[name]), split), abs=0.001
    )


Columns = tuple[Any, Any, Any]


def columns_of(ratings: Ratings) -> Columns:
    """User ids, item ids and values; None for an id that train does not have."""
    users = ratings.user_vocabulary.ids(ratings.users)
    return users, ratings.item_vocabulary.ids(ratings.items), ratings.values


def predicted(solver: Solver, columns: Columns, user_ids: Any, item_ids: Any) -> np.ndarray[Any, Any]:
    """Predictions for pairs of ids, all known, by all epochs of a solver trained on columns."""
    table = Split(Ratings.from_ids(*columns), None, None, "given", None)
    found: np.ndarray[Any, Any] = fitted(table, solver, validation=0).predict(user_ids, item_ids)
    return found


class Asked:
    """The planted training columns, and the test pairs whose user and item are in them."""

    def __init__(self, split: Split) -> None:
        assert split.test is not None
        test = split.test.select((split.test.users >= 0) & (split.test.items >= 0))
        users, items, self.values = columns_of(test)
        self.users, self.items = users.to_numpy(), items.to_numpy()
        self.train_users, self.train_items, self.train_values = (np.asarray(c) for c in columns_of(split.train))

    def as_they_are(self, solver: Solver) -> np.ndarray[Any, Any]:
        columns = self.train_users, self.train_items, self.train_values
        return predicted(solver, columns, self.users, self.items)

    def permuted(self, solver: Solver) -> np.ndarray[Any, Any]:
        """Predictions after training on the rows in another order."""
        order = np.random.default_rng(5).permutation(len(self.train_values))
        columns = self.train_users[order], self.train_items[order], self.train_values[order]
        return predicted(solver, columns, self.users, self.items)

    def renamed(self, solver: Solver) -> np.ndarray[Any, Any]:
        """Predictions with strings as ids, whose order is not that of the numbers."""

        def names(ids: Any) -> list[str]:
            return [f"{j % 7}/{j}" for j in ids]

        columns = names(self.train_users), names(self.train_items), self.train_values
        return predicted(solver, columns, names(self.users), names(self.items))

    def transposed(self, solver: Solver) -> np.ndarray[Any, Any]:
        """Predictions with users and items exchanged."""
        columns = self.train_items, self.train_users, self.train_values
        return predicted(solver, columns, self.items, self.users)


@pytest.fixture(scope="module")
def asked(split: Split) -> Asked:
    return Asked(split)


CHANGES = ("permuted", "renamed", "transposed")
ROUNDED = {(name, change) for name in ("mean", "bias", "svd") for change in CHANGES} | {("als", "permuted")}


@pytest.mark.parametrize(("name", "change"), sorted(ROUNDED))
def test_change_of_names_or_order_changes_only_rounding(name: str, change: str, asked: Asked) -> None:
    # Sums over up to 100 float32 ratings near 4 in another order: 100 eps · 4, then amplified by the solve.
    solver = SOLVER[name]
    np.testing.assert_allclose(getattr(asked, change)(solver), asked.as_they_are(solver), atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "change"), sorted({(n, c) for n in SOLVER for c in CHANGES} - ROUNDED))
def test_change_of_names_or_order_keeps_the_quality(name: str, change: str, asked: Asked) -> None:
    one, other = (p - asked.values for p in (asked.as_they_are(SOLVER[name]), getattr(asked, change)(SOLVER[name])))
    assert np.sqrt(np.mean(other**2)) == pytest.approx(np.sqrt(np.mean(one**2)), rel=0.02)


@pytest.mark.parametrize("name", SOLVER)
def test_names_in_the_same_order_do_not_change_a_bit(name: str, asked: Asked) -> None:
    def names(ids: Any) -> list[str]:
        return [f"{j:05}" for j in ids]

    columns = names(asked.train_users), names(asked.train_items), asked.train_values
    other = predicted(SOLVER[name], columns, names(asked.users), names(asked.items))
    np.testing.assert_array_equal(other, asked.as_they_are(SOLVER[name]))


# Validation.


def test_without_validation_all_epochs_run_on_all_of_train(split: Split) -> None:
    run = fitted(split, Sgd(rank=3, epochs=4, members=1), validation=0)
    assert run.fit.epochs == 4
    assert run.fit.valid_rmse is None
    assert run.fit.history == ()
    assert run.fit.train_rmse == pytest.approx(rmse(run.model, split.train))


@pytest.mark.parametrize("name", SOLVER)
def test_the_epoch_kept_is_the_best_on_validation(name: str, split: Split) -> None:
    run = fitted(split, SOLVER[name])
    errors = {row["epoch"]: row["valid_rmse"] for row in run.fit.history}
    kept = TruncatedSvd().ranks.index(run.fit.settings["ranks"][0]) + 1 if name == "svd" else run.fit.epochs
    kept = run.fit.settings.get("joined_after", kept)  # a sampler goes on from there
    assert run.fit.valid_rmse == errors[kept]
    assert kept == len(errors) if name == "gibbs" else errors[kept] == min(errors.values())
    assert list(errors) == list(range(1, len(errors) + 1))


@pytest.mark.slow
def test_the_burn_in_kept_is_the_best_on_validation(split: Split) -> None:
    """Here the sampler needs more than ten sweeps to find the factors; the draws before that would spoil the mean."""
    free = Gibbs(rank=3, sweeps=160, joined_after=60)
    run = fitted(split, free)
    alone = {burn_in: fitted(split, replace(free, burn_in=burn_in)).fit.valid_rmse for burn_in in (10, 20, 40)}
    assert run.fit.settings["burn_in"] == min(alone, key=lambda burn_in: alone[burn_in] or np.inf) > 10
    assert run.fit.valid_rmse == min(alone.values(), key=lambda error: error or np.inf)
    assert fitted(split, free, validation=0).fit.settings["burn_in"] == 10


def test_training_stops_when_validation_has_not_improved_for_patience_epochs(split: Split) -> None:
    overfits = Sgd(rank=64, regularisation=0.0, decay=1.0, epochs=200, members=1)  # overfits within a few epochs
    run = fitted(split, overfits)
    assert Sgd.patience is not None
    assert run.fit.epochs < 200
    # Twelve steps of 0.03 are the 0.35 after which rising errors count.
    assert len(run.fit.history) == max(12, run.fit.epochs + Sgd.patience)


def test_the_epochs_of_a_committee_are_chosen_once_for_one_member() -> None:
    noisy = hold_out(planted(noise=1.0)[0], 0.1, seed=2)
    stages: list[tuple[str, int]] = []
    solver = Sgd(rank=16, members=3, noise="common")
    run = fitted(noisy, solver, watch=lambda progress: stages.append((progress.stage, progress.epoch)))
    alone = fitted(noisy, replace(solver, members=1))
    assert run.fit.settings["epochs"] == round(Sgd.overtraining * alone.fit.settings["epochs"])
    assert run.fit.epochs == run.fit.settings["epochs"]
    assert run.fit.settings["members"] == run.fit.members == 3
    kept = [(row["stage"], row.get("epoch"), row.get("members")) for row in run.fit.history]
    assert kept == [
        *(("member", row["epoch"], None) for row in alone.fit.history),
        *(("committee", None, members) for members in (1, 2, 3)),
    ]
    curve = [row["valid_rmse"] for row in run.fit.history if row["stage"] == "member"]
    assert curve == [row["valid_rmse"] for row in alone.fit.history]
    assert run.fit.valid_rmse == run.fit.history[-1]["valid_rmse"]
    ours = [epoch for stage, epoch in stages if stage == "validate"][-3:]
    assert ours == [1, 2, 3]
    assert {stage for stage, _ in stages} == {"search", "member", "validate", "fit"}


def test_given_validation_rows_choose_the_epochs_and_are_never_trained_on(split: Split) -> None:
    inner = with_validation(split, 0.2, seed=4)
    assert inner.valid is not None
    run = fitted(inner, SGD)
    assert run.fit.valid_rmse is not None
    assert run.provenance["train_ratings"] == len(inner.train)
    spoilt = replace(inner, valid=replace(inner.valid, values=inner.valid.values[::-1] * 2))
    other = fitted(spoilt, SGD, validation=0.5)  # the fraction is not used
    assert other.fit.valid_rmse != run.fit.valid_rmse
    same = replace(SGD, epochs=run.fit.epochs, regularisation=run.fit.settings["regularisation"])
    assert parameters(fitted(replace(inner, valid=None), same, validation=0).model) == parameters(run.model)


def test_validation_that_leaves_nothing_is_refused() -> None:
    one = Split(Ratings.from_ids([1], [1], [3.0]), None, None, "all", None)
    with pytest.raises(
        DataError, match=r"^validation: too few ratings to cut 0.1 .*saw 1.; give --validation 0 \(validation=0 in Py"
    ):
        fitted(one, Mean())
    with pytest.raises(ConfigError, match=r"^validation is out of range \(saw 1\)"):
        fitted(one, Mean(), validation=1)


def test_a_posterior_can_be_kept_as_a_plain_factorisation(split: Split) -> None:
    whole, plain = (fitted(split, GIBBS, compress=rank) for rank in (None, 6))
    assert isinstance(plain.model, Factorization)
    assert plain.model.rank == 6
    assert plain.fit.settings["compressed"] == 6
    assert held_out_error(plain, split) == pytest.approx(held_out_error(whole, split), abs=0.005)


def test_a_solver_without_a_posterior_cannot_be_compressed(split: Split) -> None:
    with pytest.raises(ConfigError, match=r"^compress: solver 'sgd' has no posterior to compress; leave it out"):
        fitted(split, SGD, compress=8)


# Failing.


def test_divergence_is_an_error_that_names_the_settings_to_change(split: Split) -> None:
    solver = Sgd(rank=64, learning_rate=1.0, bias_learning_rate=1.0, regularisation=0.0, initial_scale=10.0)
    message = (
        r"^SGD diverged in epoch \d+ \(saw training RMSE .*\); "
        r"lower learning_rate \(now 1\) or raise regularisation \(now 0\)$"
    )
    for validation in (0.0, 0.1):
        with pytest.raises(SolveError, match=message):
            fitted(split, solver, validation=validation)


def test_a_system_that_is_not_positive_definite_is_an_error_that_names_the_setting(split: Split) -> None:
    solver = Als(rank=200, regularisation=1e-6, bias_regularisation=1e-6, count_exponent=0.0, cg_steps=0, members=1)
    with pytest.raises(
        SolveError, match=r"^ALS met a system that it cannot solve in epoch \d+ .*bring them nearer to 1"
    ):
        fitted(split, solver)


def test_comparison_without_the_truncated_svd_is_refused(split: Split) -> None:
    message = rf"^the baselines lack '{BASELINE}' \(saw mean\); add it$"
    with pytest.raises(ConfigError, match=message):
        fitted(split, Mean(), compared_with={"mean": Mean()})


# What a run reports.


@pytest.mark.parametrize("name", SOLVER)
def test_every_epoch_is_reported_with_its_stage_and_speed(name: str, split: Split) -> None:
    told: list[Progress] = []
    run = fitted(split, SOLVER[name], watch=told.append)
    own = [progress for progress in told if progress.label == name]
    assert {progress.label for progress in told} == {name, BASELINE}
    validated = [progress for progress in own if progress.stage == "validate"]
    plainest = [progress for progress in own if progress.stage == "member"]  # fits of damped biases alone
    final = own[len(validated) + len(plainest) :]
    assert [p.valid_rmse for p in validated] == [row["valid_rmse"] for row in run.fit.history]
    assert [p.epoch for p in validated] == [row["epoch"] for row in run.fit.history]
    assert {p.stage for p in final} == {"fit"}
    assert {p.valid_rmse for p in final} == {None}
    assert all(1 <= p.epoch <= p.n_epochs for p in own)
    assert all(p.ratings_per_second > 0 for p in own)


def test_a_run_records_how_it_was_made(split: Split) -> None:
    run = fitted(split, SGD, seed=3)
    expected = {
        "split": "random, 10% of ratings held out", "split_seed": 0, "seed": 3, "device": "cpu",
        "train_ratings": len(split.train), "train_fingerprint": split.train.fingerprint,
        "rating_range": list(split.train.rating_range),
    }  # fmt: skip
    assert expected.items() <= run.provenance.items()
    assert run.fit.solver == "sgd"
    assert run.fit.settings == replace(SGD, epochs=run.fit.epochs, noise="personal").settings()
    assert run.fit.seconds > 0
    assert run.fit.ratings_per_second > 0
    assert run.fit.peak_memory > 1 << 20
    assert run.user_counts.tolist() == split.train.user_counts.tolist()
    assert run.item_counts.tolist() == split.train.item_counts.tolist()


def test_run_predicts_by_id_and_says_which_ids_it_knows(split: Split) -> None:
    run = fitted(split, SGD)
    first = split.train.user_vocabulary.entries[0].as_py(), split.train.item_vocabulary.entries[0].as_py()
    ids = [first[0], 10**9, first[0], 10**9], [first[1], first[1], -5, -5]
    users, items, known = run.indices(*ids)
    assert users.tolist() == [0, -1, 0, -1]
    assert items.tolist() == [0, 0, -1, -1]
    predictions = run.predict(*ids)
    assert known.tolist() == [3, 2, 1, 0]
    assert predictions[0] == predict(run.model, np.array([0]), np.array([0])).values[0]
    assert isinstance(run.model, Factorization)
    assert predictions[3] == pytest.approx(run.model.mean)
    with pytest.raises(DataError, match=r"^users and items differ in length"):
        run.predict([1, 2], [1])
    with pytest.raises(
        DataError, match=r"^pairs, item ids: the ids are strings, but the model was trained on integer ids"
    ):
        run.predict([1], ["1"])


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        ("sgd", {"rank": "3", "epochs": "5"}),
        ("als", {}),
        ("svd", {"ranks": "1,2"}),
        ("gibbs", {"rank": "2", "sweeps": "8"}),
    ],
)
def test_a_fit_alone_is_the_fit_of_a_training(split: Split, solver: str, settings: dict[str, str]) -> None:
    chosen = SOLVERS[solver].from_texts(settings)
    alone = fit_alone(split, chosen, select("cpu"), seed=3, validation=0.2)
    beside = fitted(split, chosen, seed=3, validation=0.2).fit
    assert parameters(alone.model) == parameters(beside.model)
    assert (alone.settings, alone.valid_rmse) == (beside.settings, beside.valid_rmse)


def test_a_run_shows_itself_in_one_line() -> None:
    run = small_run()
    users, items = len(run.user_vocabulary), len(run.item_vocabulary)
    assert repr(run) == f"Run(sgd, rank 4, {users} users, {items} items, {len(small_split().train)} ratings)"
