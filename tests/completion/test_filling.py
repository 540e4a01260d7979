"""complete: what is kept, what comes back, how well it is filled, and an answer to every mistake."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recsys_mf import complete
from recsys_mf.completion import METHODS
from recsys_mf.completion.patterns import F64
from recsys_mf.errors import ConfigError, ConstantColumnWarning, DataError, EmptyRowWarning, ReadingNotice, RecsysError

NAN = float("nan")


def planted(m: int = 120, n: int = 8, rank: int = 2, noise: float = 0.3, seed: int = 0) -> tuple[F64, F64]:
    """A matrix of low rank with noise, complete and with a fifth of its entries removed."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) + noise * rng.standard_normal((m, n))
    truth = 10 + truth * np.geomspace(0.01, 1000, n)
    return truth, np.where(rng.random(truth.shape) < 0.2, np.nan, truth)


TRUTH, A = planted()
MISSING = np.isnan(A)


def test_observed_entries_are_kept_to_the_last_bit_and_the_others_are_filled() -> None:
    done = complete(A)
    np.testing.assert_array_equal(done.filled[~MISSING], A[~MISSING])
    assert np.isfinite(done.filled).all()
    assert (done.deviations[MISSING] > 0).all()
    assert (done.deviations[~MISSING] == 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fills_better_than_the_means_of_columns(method: str) -> None:
    truth, A = planted(150, 12, 3)
    gone = np.isnan(A)
    done = complete(A, method)
    errors = ((done.filled - truth) / np.nanstd(A, axis=0))[gone]
    assert done.method == method
    assert np.sqrt(np.mean(errors**2)) < 0.7
    assert done.error == pytest.approx(np.sqrt(np.mean(errors**2)), rel=0.25)  # of some 140 entries


def test_deviations_are_those_of_the_errors() -> None:
    ratios = []
    for seed in range(4):
        truth, A = planted(seed=seed)
        done, gone = complete(A), np.isnan(A)
        ratios.append(((done.filled - truth) / np.where(gone, done.deviations, 1))[gone])
    ratio = np.concatenate(ratios)  # some 770
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1, abs=0.12)
    assert np.mean(np.abs(ratio) < 1.645) == pytest.approx(0.9, abs=0.04)


def test_many_columns_of_low_rank_are_filled_by_that_many_factors() -> None:
    done = complete(planted(120, 40, 3)[1])
    assert (done.method, done.rank) == ("factors", 3)
    assert [how.method for how in done.tried if how.method != "factors"] != []
    assert [how.error for how in done.tried] == sorted(how.error for how in done.tried)


def test_a_relation_that_is_not_linear_is_filled_by_near_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, 400)
    truth = np.column_stack([x, x**2 + 0.1 * rng.standard_normal(400), rng.standard_normal(400)])
    A = truth.copy()
    A[::5, 1] = np.nan
    done = complete(A)
    assert done.tried[0].neighbour_share > 0
    assert np.std((done.filled - truth)[::5, 1]) < 0.5 * np.std(truth[:, 1])


def test_the_units_of_columns_do_not_matter() -> None:
    scales = np.geomspace(1e-200, 1e200, 8)
    done, other = complete(A), complete(A * scales)
    np.testing.assert_allclose(other.filled / scales, done.filled, rtol=1e-6)
    np.testing.assert_allclose(other.deviations / scales, done.deviations, rtol=1e-6)
    shifted = complete(A + 100)
    np.testing.assert_allclose(shifted.filled - 100, done.filled, rtol=1e-6)
    assert other.error == pytest.approx(done.error, rel=1e-6)


def test_the_same_seed_is_the_same_result_and_another_holds_out_others() -> None:
    first, again, other = complete(A), complete(A), complete(A, seed=1)
    np.testing.assert_array_equal(first.filled, again.filled)
    np.testing.assert_array_equal(first.deviations, again.deviations)
    assert first.error != other.error


def test_transform_of_the_rows_it_was_fitted_to_fills_them_alike() -> None:
    for method in METHODS:
        done = complete(A, method)
        again = done.transform(A)
        np.testing.assert_allclose(again.filled, done.filled, rtol=1e-10)
        np.testing.assert_allclose(again.deviations, done.deviations, rtol=1e-10)


def test_transform_fills_a_new_row_alone_and_does_not_change_the_model() -> None:
    done = complete(A)
    new = A[:7].copy()
    new[:, 2] = NAN
    together = done.transform(new).filled
    np.testing.assert_allclose(np.vstack([done.transform(new[i : i + 1]).filled for i in range(7)]), together)


@pytest.mark.parametrize("other", [np.array, torch.tensor, lambda rows: rows.tolist(), pd.DataFrame])
def test_transform_takes_columns_without_names_in_their_order(other: Any) -> None:
    frame = pd.DataFrame(A, columns=list("abcdefgh"))
    filled = np.asarray(complete(frame).transform(other(A[:9])).filled)
    np.testing.assert_allclose(filled, complete(A).filled[:9])
    np.testing.assert_allclose(complete(A).transform(frame[:9]).filled, filled)
    turned = pd.DataFrame(A[:9, ::-1], columns=range(7, -1, -1))
    np.testing.assert_allclose(complete(A).transform(turned).filled, filled[:, ::-1])
    with pytest.raises(DataError, match=r"^rows: there are other columns \(saw 7 columns\); give the 8 columns of the"):
        complete(frame).transform(other(A[:9, :7]))


def test_transform_takes_the_columns_of_a_frame_by_their_names() -> None:
    frame = pd.DataFrame(A, columns=list("abcdefgh"))
    done = complete(frame)
    turned = done.transform(frame[frame.columns[::-1]])
    assert list(turned.filled.columns) == list("hgfedcba")
    pd.testing.assert_frame_equal(turned.filled[list("abcdefgh")], done.filled)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_comes_back_in_its_type(dtype: type) -> None:
    done = complete(A.astype(dtype))
    assert done.filled.dtype == done.deviations.dtype == dtype
    np.testing.assert_array_equal(done.filled[~MISSING], A.astype(dtype)[~MISSING])


def test_a_tensor_comes_back_as_a_tensor() -> None:
    given = torch.tensor(A, dtype=torch.float32)
    done = complete(given)
    assert isinstance(done.filled, torch.Tensor)
    assert done.filled.dtype == torch.float32
    assert torch.equal(done.filled[~given.isnan()], given[~given.isnan()])


def test_a_frame_comes_back_with_its_index_and_columns() -> None:
    frame = pd.DataFrame(A, index=[f"r{i}" for i in range(len(A))], columns=list("abcdefgh"))
    frame["a"] = frame["a"].astype(np.float32)
    frame["h"] = pd.array(np.where(MISSING[:, 7], 0, np.arange(len(A)) % 9), "Int64")
    frame.loc[MISSING[:, 7], "h"] = pd.NA
    frame["b"] = TRUTH[:, 1] > 10
    done = complete(frame)
    assert done.filled.index.equals(frame.index)
    assert done.deviations.columns.equals(frame.columns)
    assert done.filled.dtypes["a"] == np.float32
    assert done.filled.dtypes["b"] == done.filled.dtypes["h"] == np.float64
    assert not done.filled.isna().any().any()


def test_integers_and_lists_come_back_as_floats() -> None:
    rows = [[1, 2, 3], [2, 4, None], [3, 6, 9], [4, None, 12], [5, 10, 15], [6, 12, 18]]
    done = complete(rows)
    assert done.filled.dtype == np.float64
    assert done.filled[1, 2] == pytest.approx(6, abs=1.5)


def in_containers(given: F64, dtype: str) -> dict[str, Any]:
    names = ["a", "b", "c"]
    return {
        "array": given.astype(dtype),
        "frame": pd.DataFrame(given.astype(dtype), columns=names),
        "tensor": torch.tensor(given, dtype=getattr(torch, dtype)),
    }


@pytest.mark.parametrize("container", ["array", "frame", "tensor"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_numbers_beyond_the_type_of_the_matrix_come_back_as_float64(dtype: str, container: str) -> None:
    largest = float(np.finfo(dtype).max)
    given = np.column_stack([np.linspace(0.2, 0.97, 40) * largest * share for share in (1, 0.5, 0.25)])
    given[20:30, 0] = NAN
    given = np.vstack([given, [NAN, 0.53 * largest, 0.265 * largest]])
    done = complete(in_containers(given, dtype)[container], "gaussian")
    filled = np.asarray(done.filled, dtype=np.float64)
    assert np.isfinite(filled).all()
    assert filled[-1, 0] > largest
    gone = np.isnan(given)
    np.testing.assert_array_equal(filled[~gone], given.astype(dtype)[~gone])
    tiny = complete(in_containers(given / largest * float(np.finfo(dtype).smallest_subnormal) * 9, dtype)[container])
    assert (np.asarray(tiny.deviations, dtype=np.float64)[gone] > 0).all(), "0 says observed"


LONG = np.longdouble("0.1") + np.arange(200, dtype=np.longdouble).reshape(40, 5) ** 2 / 7
BIG = 2**53 + 1
WHOLE = [[BIG, 1, 2], [3, None, 5], [6, 7, 9], [9, 10, 12], [12, 13, 14]]


@pytest.mark.parametrize("container", [np.array, pd.DataFrame])
def test_longer_floats_are_kept_to_the_last_bit(container: Any) -> None:
    given = LONG.copy()
    given[3:9, 2] = NAN
    done = complete(container(given))
    kept = np.asarray(done.filled)
    assert kept.dtype == np.longdouble
    np.testing.assert_array_equal(kept[~np.isnan(given)], given[~np.isnan(given)])
    assert (np.asarray(done.deviations) == 0).sum() == given.size - 6


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (WHOLE, r"A\[0, 0\]"),
        ([[1.5, 2, BIG], [NAN, 3, 4]], r"A\[0, 2\]"),
        (np.array(WHOLE, object), r"A\[0, 0\]"),
        (np.array([[1, -BIG], [2, 3]]), r"A\[0, 1\]"),
        (np.array([[1, 2**64 - 1], [2, 3]], np.uint64), r"A\[0, 1\]"),
        (torch.tensor([[1, BIG], [2, 3]]), r"A\[0, 1\]"),
        (pd.DataFrame(WHOLE, columns=list("abc")).convert_dtypes(), r"A, column a, row 0"),
        (pd.DataFrame({"a": [1, BIG], "b": [1.5, None]}), r"A, column a, row 1"),
        (pd.DataFrame({"a": [1, Decimal(BIG)], "b": [1.5, None]}), r"A, column a, row 1"),
    ],
)
def test_integers_that_float64_cannot_hold_are_refused(given: Any, place: str) -> None:
    line = (
        rf"^{place}: float64 cannot hold this integer exactly \(saw -?(9007199254740993|18446744073709551615)\); if it"
    )
    with pytest.raises(DataError, match=line):
        complete(given)
    large = pd.DataFrame({"a": [2**53, 2**60, 2**62], "b": [1.5, None, 2.5], "c": [1, 5, 2]})
    assert complete(large).filled["a"].tolist() == [2**53, 2**60, 2**62]


@pytest.mark.parametrize("value", [10**400, -(10**400), Decimal("1e400"), np.longdouble("1e400")])
def test_numbers_beyond_float64_are_named(value: Any) -> None:
    for given in ([[1, value], [2, 3]], pd.DataFrame([[1, value], [2, 3]], dtype=object)):
        with pytest.raises(DataError, match=r"^A.*: beyond float64 \(saw -?1"):
            complete(given)


@pytest.mark.parametrize("observed", [1, 2, 50])
@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_a_constant_column_is_filled_without_a_deviation_and_with_a_warning(method: str, observed: int) -> None:
    given = A.copy()
    given[:, 3] = np.where(np.arange(len(A)) < observed, 7.5, NAN)
    line = (
        r"^A, column 3: all observed entries are equal \(7.5\): filled with this value; its deviation is unknown \(NaN"
    )
    with pytest.warns(ConstantColumnWarning, match=line):
        done = complete(given, method)
    gone = np.isnan(given)
    np.testing.assert_array_equal(done.filled[:, 3], 7.5)
    np.testing.assert_array_equal(np.isnan(done.deviations), gone & (np.arange(8) == 3))
    assert ((done.deviations == 0) == ~gone).all(), "0 says observed"
    assert np.isnan([done.column_errors[3].error, done.column_errors[3].standardised]).all()
    with pytest.warns(ConstantColumnWarning, match=r"^rows, column 3: all observed entries are equal"):
        assert np.isnan(done.transform(given[60:70]).deviations[:, 3]).all()
    assert done.error is not None
    assert done.error > 0.1, "a constant column takes no part in the error"
    assert done.plot("columns").get_xlabel() != "", "an unknown error can be drawn"


def test_several_constant_columns_are_counted_and_those_without_missing_entries_are_not() -> None:
    given = A.copy()
    given[:, 2], given[:, 3], given[:, 5] = 1, np.where(MISSING[:, 3], NAN, 7.5), np.where(MISSING[:, 5], NAN, 0)
    with pytest.warns(ConstantColumnWarning, match=r"^A: all observed entries are equal in 2 columns, e.g. 3: filled"):
        complete(given)


@pytest.mark.parametrize("rows", [[[1, 2], [1, None], [1, 2], [1, 2]], [[1, 2, 5], [3, None, 5], *[[None, 2, 5]] * 5]])
def test_the_error_is_unknown_if_only_constant_columns_can_be_held_out(rows: list[list[Any]]) -> None:
    with pytest.warns(ConstantColumnWarning, match=r"^A, column 1: all observed entries are equal \(2.0\)"):
        done = complete(rows)
    assert done.filled[1, 1] == 2
    assert done.error is not None
    assert np.isnan([done.error, done.tried[0].error, done.column_errors[1].error]).all()
    assert done.plot("methods").get_xlabel() != ""


def test_a_row_with_nothing_observed_gets_wide_deviations_and_a_warning() -> None:
    given = A.copy()
    given[4] = NAN
    with pytest.warns(
        EmptyRowWarning, match=r"^A: nothing is observed in row 4: filled with the values expected of any row"
    ):
        done = complete(given)
    means, deviations = np.nanmean(given, axis=0), np.nanstd(given, axis=0)
    assert (np.abs(done.filled[4] - means) < 0.5 * deviations).all()
    assert (done.deviations[4] > 0.6 * deviations).all()


def test_transform_warns_of_a_row_with_nothing_observed() -> None:
    done = complete(A)
    rows = A[:3].copy()
    rows[1] = NAN
    with pytest.warns(
        EmptyRowWarning, match=r"^rows: nothing is observed in row 1: filled with the values expected of"
    ):
        done.transform(rows)


def test_nothing_missing_is_returned_as_it_is_and_said() -> None:
    with pytest.warns(ReadingNotice, match="nothing is missing: the matrix is returned as it is"):
        done = complete(TRUTH)
    np.testing.assert_array_equal(done.filled, TRUTH)
    assert (done.method, done.error, done.tried) == (None, None, ())
    with pytest.raises(ConfigError, match="there is no model: nothing was missing in the matrix"):
        done.transform(A)


def test_column_errors_are_in_both_units() -> None:
    done = complete(A)
    assert [column.missing for column in done.column_errors] == MISSING.sum(axis=0).tolist()
    for j, column in enumerate(done.column_errors):
        assert column.error == pytest.approx(column.standardised * np.nanstd(A[:, j]))


def with_entry(value: Any) -> Any:
    given = A.copy()
    given[3, 2] = value
    return given


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (with_entry(np.inf), r"^A\[3, 2\]: an infinite entry \(saw inf\); give finite numbers; leave missing entries"),
        (np.full((3, 2), NAN), r"^A: nothing is observed \(saw 3 x 2 missing entries\); give a matrix with numbers"),
        (
            np.column_stack([A, np.full(len(A), NAN)]),
            r"^A, column 8: nothing is observed in this column \(saw 120 missing entries\); leave it out$",
        ),
        (A[0], r"^A: not a matrix of numbers \(saw shape \(8,\)\); .* a single column is A\[:, None\]$"),
        (np.empty((0, 3)), r"^A: not a matrix of numbers \(saw shape \(0, 3\)\)"),
        (
            "m.csv",
            r"^A: not a matrix of numbers \(saw str\); give a matrix of numbers \[m, n\]: NumPy, torch or pandas",
        ),
        ([[1.0, "x"], [2.0, 3.0]], r"^A\[0, 0\]: not a number|^A\[0, 1\]: not a number \(saw .*'x'"),
        (np.ma.masked_invalid(A), r"^A: masked arrays are not supported \(saw MaskedArray\); give A.astype\(float\)"),
        (torch.tensor(TRUTH).to_sparse(), r"^A: sparse tensors are not supported \(saw torch.sparse_coo\)"),
        (np.array([[1.0, NAN]]), r"^A, column 1: nothing is observed in this column"),
        (
            np.array([[1.0, 2.0], [NAN, 2.0]]),
            r"^A: too few observed entries to hold some out \(saw 3 observed entries\)",
        ),
        (
            pd.DataFrame([[1, 2], [3, None]], columns=["a", "a"]),
            r"^A: two columns of the same name \(saw 'a'\); rename",
        ),
        (
            pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}, index=["p", "q"]),
            r"^A, column b, row 'p': not a number \(saw 'x'\); give finite numbers",
        ),
        (pd.DataFrame({"a": [1.0, -np.inf]}), r"^A, column a, row 1: an infinite entry \(saw -inf\)"),
    ],
)
def test_bad_matrices_are_named(given: Any, line: str) -> None:
    with pytest.raises(DataError, match=line):
        complete(given)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"method": "gausian"}, r"^method: unknown method \(saw 'gausian'\); did you mean 'gaussian'\?"),
        ({"rank": 0}, r"^rank: out of range \(saw 0\); give a whole number from 1 to 8$"),
        ({"rank": 2, "method": "gaussian"}, r"^rank: the method gaussian takes no rank \(saw 2\); leave it out$"),
        ({"seed": -1}, r"^seed: out of range \(saw -1\)"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(RecsysError, match=line):
        complete(A, **settings)


def test_other_columns_are_refused_by_transform() -> None:
    done = complete(pd.DataFrame(A, columns=list("abcdefgh")))
    with pytest.raises(DataError, match=r"^rows: there is no column h"):
        done.transform(pd.DataFrame(A[:, :7], columns=list("abcdefg")))
    with pytest.raises(DataError, match=r"^rows: there are other columns \(saw 9 columns\); give the 8 columns"):
        done.transform(pd.DataFrame(np.column_stack([A, A[:, 0]]), columns=list("abcdefghi")))


@pytest.mark.parametrize("shape", [(6, 2), (6, 60), (3, 3), (40, 3)])
def test_small_and_odd_shapes_are_filled(shape: tuple[int, int]) -> None:
    given = np.random.default_rng(0).standard_normal(shape)
    given[-1, -1] = NAN
    assert np.isfinite(complete(given).filled).all()


def test_a_single_column_is_filled_with_its_mean() -> None:
    given = np.append(np.arange(40.0), NAN)[:, None]
    with pytest.warns(EmptyRowWarning, match="nothing is observed in row 40"):
        done = complete(given)
    assert done.filled[-1, 0] == pytest.approx(19.5)
    assert done.deviations[-1, 0] == pytest.approx(np.std(np.arange(40)), rel=0.3)
