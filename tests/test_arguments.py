"""Arguments of the public functions: a wrong type or value is an error that names the argument."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_mf import SOLVERS, evaluate, given, hold_out, k_folds, load, read_features, read_ratings, save, train
from recsys_mf.errors import LONGEST, ConfigError, RecsysError
from recsys_mf.prediction import check_probability
from recsys_mf.solvers.settings import SYNONYMS
from recsys_mf.splits import Split
from recsys_mf.training import baselines
from tests.trained import posterior_run, small_run, small_split, small_table

HUGE = 10**400
NOT_WHOLE: list[Any] = [-1, 1.5, True, "3", math.nan, [1], HUGE, 10**5000, object()]
NOT_FRACTION: list[Any] = [-0.1, 1, 1.5, math.nan, math.inf, True, "x", None, [0.1], HUGE, 10**5000]
NOT_PATHS: list[Any] = [None, 3, b"t.csv", ["t.csv"], np.ones((2, 2)), pd.DataFrame({"user_id": [1]})]


def fitted(**arguments: Any) -> Any:
    data = arguments.pop("data", small_split())
    return train(data, arguments.pop("solver", "mean"), **arguments)


CALLS: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
    "train data": (lambda v: fitted(data=v), [None, 3, np.ones((2, 2)), [1, 2], object(), SOLVERS]),
    "train solver": (lambda v: fitted(solver=v), ["svd++", "SGD", 3, None, object(), int, Split]),
    "train seed": (lambda v: fitted(seed=v), [*NOT_WHOLE, None]),
    "train validation": (lambda v: fitted(validation=v), NOT_FRACTION),
    "train threads": (lambda v: fitted(threads=v), [*NOT_WHOLE, 0]),
    "train device": (lambda v: fitted(device=v), [None, 3, "gpu", True, []]),
    "train compress": (lambda v: fitted(solver="gibbs", compress=v), [*NOT_WHOLE, 0]),
    "train baselines": (lambda v: fitted(compared_with=v), [{}, [], 3, {"svd bias": 3}, {"svd bias": "nmf"}]),
    "train start": (lambda v: fitted(solver="sgd", start=v), [3, "run", small_split()]),
    "hold_out ratings": (hold_out, [None, 3, "x", pd.DataFrame()]),
    "hold_out fraction": (lambda v: hold_out(small_table(), v), NOT_FRACTION),
    "hold_out seed": (lambda v: hold_out(small_table(), 0.1, v), [*NOT_WHOLE, None]),
    "hold_out by": (lambda v: hold_out(small_table(), 0.1, by=v), ["tiem", None, 3, ["time"]]),
    "k_folds": (lambda v: next(k_folds(small_table(), v)), [*NOT_WHOLE, None, 0, 1, 602]),
    "k_folds seed": (lambda v: next(k_folds(small_table(), 2, v)), [*NOT_WHOLE, None]),
    "given": (lambda v: given(small_table(), v), [None, "x", pd.DataFrame()]),
    "evaluate run": (lambda v: evaluate(v, small_split().train), [None, "run", small_split()]),
    "evaluate test": (lambda v: evaluate(small_run(), v), [None, "t.parquet", pd.DataFrame(), small_split()]),
    "evaluate seed": (lambda v: evaluate(small_run(), small_split().train, seed=v), [*NOT_WHOLE, None]),
    "probability": (check_probability, [0, 1, -1, 2, math.nan, True, None, "x", HUGE, 0.9999999999999999]),
    "rank": (lambda v: SOLVERS["sgd"](rank=v), [*NOT_WHOLE, None, 0]),
    "learning rate": (lambda v: SOLVERS["sgd"](learning_rate=v), [-1, math.nan, math.inf, True, "x", None, HUGE]),
    "ranks": (lambda v: SOLVERS["svd"](ranks=v), [(), (1.5,), "1,2", None, (2, 1), (True,), (HUGE,)]),
    "choice": (lambda v: SOLVERS["svd"](filling=v), ["zeor", None, 3, ["bias"], np.array(["bias"])]),
    "too many": (lambda v: SOLVERS["mean"](v), [1]),
    "baselines": (lambda v: baselines(v), ["x", (1.5,)]),
    "read_ratings path": (read_ratings, NOT_PATHS),
    "read_features path": (lambda v: read_features(v, role="user"), NOT_PATHS),
    "load directory": (load, NOT_PATHS),
    "save directory": (lambda v: save(small_run(), v), NOT_PATHS),
    "save run": (lambda v: save(v, "run"), [None, "run", small_split()]),
    "predict alone": (lambda v: small_run().predict(v), [1, [1, 2], pd.DataFrame({"user_id": [1], "item_id": [2]})]),
}  # fmt: skip
CASES = [pytest.param(call, value, id=f"{name}-{i}") for name, (call, v) in CALLS.items() for i, value in enumerate(v)]


@pytest.mark.parametrize(("call", "value"), CASES)
def test_a_wrong_argument_is_one_line_that_says_what_to_give(call: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        call(value)
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) < LONGEST
    assert caught.value.fix


@pytest.mark.parametrize("times", ["x", [1.5, np.nan], [[1, 2]], [HUGE, 1], np.array(["2020-01-01"], "M8[s]")])
def test_times_that_are_not_seconds_are_refused(times: Any) -> None:
    with pytest.raises(RecsysError, match="times"):
        posterior_run().predict([5, 5], [100, 102], times)


@pytest.mark.parametrize("name", sorted(SYNONYMS))
def test_the_name_of_a_setting_in_another_library_suggests_ours(name: str) -> None:
    hints = []
    for solver in SOLVERS.values():
        try:
            solver(**{name: 1})
            hints.append(True)  # it is also one of ours
        except ConfigError as error:
            hints.append(any(f"did you mean '{ours}'" in str(error) for ours in SYNONYMS[name]))
    assert any(hints)


@pytest.mark.parametrize(("name", "ours"), [("svd++", "sgd"), ("funk", "sgd"), ("BPMF", "gibbs"), ("ials", "als")])
def test_the_name_of_a_solver_in_another_library_suggests_ours(name: str, ours: str) -> None:
    with pytest.raises(ConfigError, match=f"no solver .* did you mean '{ours}'"):
        SOLVERS[name]


def test_train_takes_a_whole_table_or_file_and_the_name_of_a_solver(tmp_path: Any) -> None:
    frame = small_table().to_frame()
    frame.to_parquet(tmp_path / "t.parquet")
    split = hold_out(small_table(), 0)
    expected = train(split, SOLVERS["bias"]()).predict([5, 8], [100, 102])
    for data in (split, small_table(), frame, tmp_path / "t.parquet", str(tmp_path / "t.parquet")):
        for solver in ("bias", SOLVERS["bias"]) if data is split else ("bias",):
            assert train(data, solver).predict([5, 8], [100, 102]).tobytes() == expected.tobytes()


def test_single_ids_are_paired_with_every_id_of_the_other_side() -> None:
    run = small_run()
    one = run.predict(5, 100)
    assert isinstance(one, float)
    np.testing.assert_array_equal(run.predict(5, [100, 102]), run.predict([5, 5], [100, 102]))
    np.testing.assert_array_equal(run.predict([5, 8], np.int64(100)), run.predict([5, 8], [100, 100]))
    timed = posterior_run()
    np.testing.assert_array_equal(timed.predict(5, [100, 102], 7), timed.predict([5, 5], [100, 102], [7, 7]))
    with pytest.raises(ConfigError, match=r"^times: the model was trained without times \(saw int\); leave times out"):
        run.predict(5, [100, 102], 7)
    assert run.predict(5, []).shape == (0,)
    assert run.predict([5, 5], [100, 102])[0] == np.float32(one)
    texts = small_run(strings=True)
    assert isinstance(texts.predict("u5", "ü100"), float)
    np.testing.assert_array_equal(texts.predict("u5", ["ü100"]), texts.predict(["u5"], ["ü100"]))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_table_too_small_to_validate_on_names_the_option_to_change(solver: str) -> None:
    table = small_table().select(np.arange(1)).restricted()
    with pytest.raises(
        RecsysError, match=r"^validation: too few ratings to cut 0\.1 of them off .*; give --validation 0 "
    ):
        train(table, solver)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("solver", SOLVERS)
def test_two_ratings_are_enough_to_train_on(solver: str, n: int) -> None:
    run = train(small_table().select(np.arange(n)).restricted(), solver)
    assert np.isfinite(run.predict(run.user_vocabulary.entries, run.item_vocabulary.entries)).all()
