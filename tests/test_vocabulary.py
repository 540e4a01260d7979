"""Vocabulary: ids of every kind to dense indices and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_mf.errors import DataError
from recsys_mf.vocabulary import Vocabulary

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SPARSE = [2_000_000_000, 7, -(2**63), 2**63 - 1, 7]  # a table over this range would never fit


def texts(vocabulary: Vocabulary) -> list[Any]:
    return list(vocabulary.entries.to_pylist())


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_every_width_have_the_same_vocabulary(kind: str) -> None:
    vocabulary, indices = Vocabulary.encode(np.array([9, 4, 9, 100], dtype=kind))
    assert vocabulary.entries.type == pa.int64()
    assert texts(vocabulary) == [4, 9, 100]
    assert indices.dtype == np.int32
    assert indices.tolist() == [1, 0, 1, 2]
    assert vocabulary.fingerprint == Vocabulary.encode([9, 4, 100])[0].fingerprint
    assert vocabulary.indices(np.array([100, 5, 4], dtype=kind)).tolist() == [2, -1, 0]


@pytest.mark.parametrize(
    "ids",
    [
        ["u2", "u10", "u2"],
        np.array(["u2", "u10", "u2"]),
        np.array(["u2", "u10", "u2"], dtype=object),
        pd.Series(["u2", "u10", "u2"]),
        pd.Series(["u2", "u10", "u2"], dtype="category"),
        pa.array(["u2", "u10", "u2"]),
        pa.array(["u2", "u10", "u2"], pa.large_string()),
        pa.array(["u2", "u10", "u2"], pa.string_view()),
        pa.array(["u2", "u10", "u2"]).dictionary_encode(),
        pa.chunked_array([["u2"], [], ["u10", "u2"]]),
        pa.chunked_array([pa.array(["u2"]).dictionary_encode(), pa.array(["u10", "u2"]).dictionary_encode()]),
    ],
)
def test_strings_from_every_container_have_the_same_vocabulary(ids: Any) -> None:
    vocabulary, indices = Vocabulary.encode(ids)
    assert vocabulary.entries.type == pa.large_string()
    assert texts(vocabulary) == ["u10", "u2"]
    assert indices.tolist() == [1, 0, 1]


def test_dictionary_of_integers_is_a_column_of_integers() -> None:
    vocabulary, indices = Vocabulary.encode(pa.array([5, 3, 5], pa.int16()).dictionary_encode())
    assert texts(vocabulary) == [3, 5]
    assert indices.tolist() == [1, 0, 1]


@pytest.mark.parametrize("ids", [SPARSE, pa.chunked_array([SPARSE[:2], SPARSE[2:]])])
def test_the_memory_for_huge_sparse_ids_depends_on_their_number_not_their_range(ids: Any) -> None:
    vocabulary, indices = Vocabulary.encode(ids)
    assert texts(vocabulary) == [-(2**63), 7, 2_000_000_000, 2**63 - 1]
    assert indices.tolist() == [2, 1, 0, 3, 1]
    assert vocabulary.indices([8, 2**63 - 1, -(2**63), 0]).tolist() == [-1, 3, 0, -1]


@pytest.mark.parametrize("ids", [np.arange(40, 90) * 3, np.arange(50) * 10**12, [f"i{j}" for j in range(50)]])
def test_ids_are_the_same_after_conversion_to_indices_and_back(ids: Any) -> None:
    shuffled = np.random.default_rng(0).permutation(np.repeat(ids, 3))
    vocabulary, indices = Vocabulary.encode(shuffled)
    assert len(vocabulary) == 50
    assert vocabulary.ids(indices).to_pylist() == shuffled.tolist()
    assert vocabulary.indices(shuffled).tolist() == indices.tolist()


def test_vocabulary_does_not_depend_on_the_order_of_rows() -> None:
    ids = np.random.default_rng(1).integers(0, 1000, 300)
    assert Vocabulary.encode(ids)[0].fingerprint == Vocabulary.encode(ids[::-1])[0].fingerprint


@pytest.mark.parametrize("known", [[10, 12, 20], [10, 10**15], ["10", "12"]])
def test_unknown_ids_have_index_minus_one_and_give_null_back(known: list[Any]) -> None:
    vocabulary, _ = Vocabulary.encode(known)
    kind = type(known[0])
    asked = [kind(9), kind(10), kind(11), kind(10**16)]
    indices = vocabulary.indices(asked)
    assert indices.dtype == np.int32
    assert indices.tolist() == [-1, 0, -1, -1]
    assert vocabulary.ids(indices).to_pylist() == [None, known[0], None, None]


def test_empty_columns_and_empty_vocabularies_are_handled() -> None:
    columns: list[Any] = [[], np.empty(0, np.int32), pa.array([], pa.string()), pa.chunked_array([], pa.string())]
    for empty in columns:
        vocabulary, indices = Vocabulary.encode(empty)
        assert len(vocabulary) == len(indices) == 0
    assert Vocabulary.encode([])[0].indices([1, 2]).tolist() == [-1, -1]
    assert Vocabulary.encode([1, 2])[0].indices([]).tolist() == []


def test_restricted_keeps_the_ids_asked_for_in_order() -> None:
    vocabulary, _ = Vocabulary.encode(["a", "b", "c"])
    assert texts(vocabulary.restricted(np.array([True, False, True]))) == ["a", "c"]


def test_fingerprints_differ_by_kind_and_boundaries_of_ids() -> None:
    tables: list[list[Any]] = [[1, 2], ["1", "2"], ["12"], ["1", "2", "3"], [1, 3], [12], []]
    assert len({Vocabulary.encode(ids)[0].fingerprint for ids in tables}) == len(tables)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (
            pa.array([1, None, None]),
            r"^users, row 1: null id \(saw null, one of 2 in the column\); drop the row or give it an id$",
        ),
        (["a", None], r"row 1: null id \(saw null, one of 1 in the column\)"),
        (pd.Series(["a", None]), "row 1: null id"),
        (pd.Series(["a", None], dtype="category"), "row 1: null id"),
        (pa.array(["a", None]).dictionary_encode(), "row 1: null id"),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["a", None])), "row 0: null id"),
        ([1.0, float("nan")], r"row 1: null id \(saw nan\)"),
        ([1.5, 2.0], r"^users, row 0: id is not a whole number \(saw 1.5\); .* --ids string"),
        ([1.0, 2.0**60], r"^users, row 1: a float id beyond 2\^53.*--ids string"),
        ([1, "a"], r"^users: not a column of values of one type \(saw .*'a'.*; use one type"),
        (np.array([1, "a"], dtype=object), "not a column of values of one type"),
        (np.array([1j]), "not a column of values of one type"),
        ([[1], [2]], r"^users: ids must be integers or text \(saw type list<item: int64>\)"),
        ("abc", "not a column of values of one type"),
    ],
)
def test_ids_that_cannot_be_ids_are_refused(ids: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary.encode(ids, where="users")


@pytest.mark.parametrize(
    ("known", "asked", "message"),
    [
        (
            [1, 2],
            ["1", "2"],
            r"^users: the ids are strings, but the model was trained on integer ids \(saw '1'\); .*--ids integer\)$",
        ),
        (
            ["1", "2"],
            [1, 2],
            r"^users: the ids are integers, but the model was trained on string ids \(saw 1\); .*--ids string\)$",
        ),
        (["1"], pa.array([1], pa.int32()), r"the ids are integers, but the model was trained on string ids"),
    ],
)
def test_integers_never_match_strings_silently(known: Any, asked: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary.encode(known)[0].indices(asked, where="users")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (pa.array([2, 1]), "not strictly ascending; build it with Vocabulary.encode"),
        (pa.array([1, 1]), "not strictly ascending"),
        (pa.array([1], pa.int32()), r"int64 or large_string ids without nulls \(saw int32\)"),
        (pa.array(["a"]), r"int64 or large_string ids without nulls \(saw string\)"),
        (pa.array([1, None]), "without nulls"),
    ],
)
def test_vocabulary_refuses_entries_it_could_not_search(entries: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Vocabulary(entries)
