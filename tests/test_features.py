"""Features: sparse rows of numbers per id, and the same rows for the ids of another vocabulary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import DataError
from recsys_mf.features import Features
from recsys_mf.vocabulary import Vocabulary

MATRIX = np.array([[0, 1.5, 0], [0, 0, 0], [-1, 0, 2], [0, 0, 3]], np.float32)
NAMES = ("year", "genres=Action", "genres=Comedy")


def features(ids: Any, matrix: NDArray[Any] = MATRIX) -> Features:
    sparse = scipy.sparse.csr_matrix(matrix)
    names = NAMES[: matrix.shape[1]]
    return Features(Vocabulary.encode(ids)[0], names, sparse.indptr, sparse.indices, sparse.data, ())


def dense(rows: Csr) -> NDArray[np.float32]:
    matrix: NDArray[np.float32] = scipy.sparse.csr_matrix(
        (rows.values, rows.columns, rows.starts), shape=(rows.n_rows, rows.n_columns)
    ).toarray()
    return matrix


INTEGERS, TEXTS = [10, 20, 30, 40], ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("ids", "asked", "rows"),
    [
        (INTEGERS, INTEGERS, [0, 1, 2, 3]),
        (INTEGERS, [5, 20, 25, 30, 99], [-1, 1, -1, 2, -1]),
        (INTEGERS, [10, 10**15], [0, -1]),
        (TEXTS, ["aa", "c", "d"], [-1, 2, 3]),
        (TEXTS, ["x", "y"], [-1, -1]),
        (TEXTS, [], []),
        (INTEGERS, [], []),
    ],
)
def test_aligned_rows_are_those_of_the_ids_asked_for_and_empty_for_unknown_ones(
    ids: Any, asked: Any, rows: list[int]
) -> None:
    aligned = features(ids).aligned(Vocabulary.encode(asked)[0])
    expected = np.vstack([MATRIX, np.zeros(3)])[np.array(rows, int)]
    assert aligned.n_columns == 3
    assert dense(aligned).tolist() == expected.tolist()
    assert [array.dtype.name for array in aligned[:3]] == ["int64", "int32", "float32"]


def test_a_random_table_is_aligned_like_its_dense_rows() -> None:
    rng = np.random.default_rng(0)
    ids, asked = (np.sort(rng.choice(500, 200, replace=False)) for _ in range(2))
    matrix = rng.normal(size=(200, 3)).astype(np.float32) * (rng.random((200, 3)) < 0.4)
    everything = np.zeros((500, 3), np.float32)
    everything[ids] = matrix
    aligned = features(ids, matrix).aligned(Vocabulary.encode(asked)[0])
    assert (dense(aligned) == everything[asked]).all()
    assert (dense(aligned.transpose()) == everything[asked].T).all()


def test_integers_never_match_strings_silently() -> None:
    message = (
        r"^ids of the features: the ids are strings, but the model was trained on integer ids \(saw 'a'\); "
        r".*as integers \(--ids integer\)$"
    )
    with pytest.raises(DataError, match=message):
        features(TEXTS).aligned(Vocabulary.encode(INTEGERS)[0])
    with pytest.raises(DataError, match=r"the ids are integers, but the model was trained on string ids \(saw 10\)"):
        features(INTEGERS).aligned(Vocabulary.encode(TEXTS)[0])


def test_transposed_twice_is_the_same_matrix_and_keeps_columns_without_entries() -> None:
    rows = features(INTEGERS, MATRIX * np.array([0, 1, 1], np.float32)).aligned(Vocabulary.encode(INTEGERS)[0])
    columns = rows.transpose()
    assert columns.starts.tolist() == [0, 0, 1, 3]
    assert columns.columns.tolist() == [0, 2, 3]
    assert columns.n_columns == 4
    again = columns.transpose()
    assert [array.tolist() for array in again[:3]] == [array.tolist() for array in rows[:3]]
    assert again.n_columns == 3


def test_the_arrays_are_read_only_and_those_of_the_caller_stay_writable() -> None:
    values = np.ones(1, np.float32)
    table = Features(Vocabulary.encode([1])[0], ("year",), [0, 1], [0], values, ())  # type: ignore[arg-type]
    for name in ("starts", "columns", "values"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(table, name)[0] = 0
    values[0] = 2
    assert (len(table), repr(table)) == (1, "Features(1 ids, 1 columns, 1 entries)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": [0, 1, 3, 4]}, r"^starts: there must be one start per id and one end \(saw 4\); give 5$"),
        ({"starts": [0, 3, 1, 3, 4]}, r"^starts: starts do not ascend from 0 to the number of entries \(saw 0 to 4\)"),
        ({"starts": [1, 1, 1, 3, 4]}, r"\(saw 1 to 4\); let them ascend from 0 to 4$"),
        ({"starts": [0, 1, 1, 3, 5]}, r"\(saw 0 to 5\)"),
        ({"columns": [0, 1, 2, 3]}, r"^columns: index out of range \(saw 0 to 3\); stay within 0 to 2$"),
        ({"columns": [-1, 1, 2, 2]}, r"\(saw -1 to 2\)"),
        (
            {"values": [1, 2, 3]},
            r"^features: columns and values differ in length \(saw 4 and 3\); give arrays of equal length$",
        ),
        ({"values": [1, np.nan, 3, 4]}, r"^values\[1\]: feature is not finite \(saw nan\); give a finite number$"),
        (
            {"values": [[1, 2, 3, 4]]},
            r"^values: not an array of one dimension \(saw \(1, 4\)\); give a row of numbers$",
        ),
    ],
)
def test_arrays_that_are_not_sparse_rows_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(features(INTEGERS), **changes)
