"""Matrices in every container give exactly the ratings that they hold, including stored zeros."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from recsys_mf.errors import DataError
from recsys_mf.loaders import from_matrix

ROWS, COLUMNS, VALUES = [0, 0, 1, 2], [0, 2, 1, 2], [5.0, 0.0, 3.0, 1.0]
EXPECTED = sorted(zip(ROWS, COLUMNS, VALUES, strict=True))
DENSE = np.full((3, 3), np.nan)
DENSE[ROWS, COLUMNS] = VALUES
COO = sp.coo_matrix((VALUES, (ROWS, COLUMNS)), shape=(3, 3))
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the warning that sparse tensors are in beta
    TORCH = torch.sparse_coo_tensor(torch.tensor([ROWS, COLUMNS]), VALUES, (3, 3)).coalesce()
    CSR, CSC = TORCH.to_sparse_csr(), TORCH.to_sparse_csc()
OBJECTS = DENSE.astype(object)
OBJECTS[np.isnan(DENSE)] = None
FRAME = pd.DataFrame(DENSE)


def lil(kind: Any) -> Any:
    matrix = kind((3, 3))
    for row, column, value in EXPECTED:
        matrix.rows[row].append(column)
        matrix.data[row].append(value)
    return matrix


def dok(kind: Any) -> Any:
    matrix = kind((3, 3))
    matrix._dict = {(row, column): value for row, column, value in EXPECTED}
    return matrix


HELD = {
    "csr_matrix": COO.tocsr(), "csc_matrix": COO.tocsc(), "coo_matrix": COO, "csr_array": sp.csr_array(COO),
    "csc_array": sp.csc_array(COO), "coo_array": sp.coo_array(COO), "lil_matrix": lil(sp.lil_matrix),
    "lil_array": lil(sp.lil_array), "dok_matrix": dok(sp.dok_matrix), "dok_array": dok(sp.dok_array),
    "torch COO": TORCH, "torch CSR": CSR, "torch CSC": CSC,
    "torch COO bfloat16": TORCH.bfloat16(), "torch": torch.tensor(DENSE), "bfloat16": torch.tensor(DENSE).bfloat16(),
    "half": torch.tensor(DENSE).half(), "requires grad": torch.tensor(DENSE, requires_grad=True), "NumPy": DENSE,
    "float16": DENSE.astype("float16"), "masked": np.ma.masked_array(np.nan_to_num(DENSE, nan=9), np.isnan(DENSE)),
    "masked and NaN": np.ma.masked_invalid(DENSE), "objects": OBJECTS, "lists": OBJECTS.tolist(), "pandas": FRAME,
    "nullable": FRAME.convert_dtypes(), "pyarrow": FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "Decimal": pd.DataFrame([[None if v is None else Decimal(str(v)) for v in row] for row in OBJECTS], dtype=object),
    "Sparse NaN": FRAME.astype(pd.SparseDtype(float, np.nan)), "NA": OBJECTS.copy(),
}  # fmt: skip
HELD["NA"][OBJECTS == None] = pd.NA  # noqa: E711


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", HELD)
def test_every_matrix_gives_the_ratings_it_holds(name: str) -> None:
    read = from_matrix(HELD[name])
    users, items = read.user_vocabulary.ids(read.users).to_pylist(), read.item_vocabulary.ids(read.items).to_pylist()
    assert sorted(zip(users, items, read.values.tolist(), strict=True)) == EXPECTED


def test_a_mask_may_be_sparse_and_must_be_in_the_order_of_the_matrix() -> None:
    mask = sp.csr_matrix(~np.isnan(DENSE))
    assert len(from_matrix(DENSE, mask)) == 4
    with pytest.raises(DataError, match=r"mask: the mask and the matrix have different .*reindex_like"):
        from_matrix(FRAME, FRAME.notna().iloc[::-1])


def test_an_entry_stored_twice_follows_the_rule_for_duplicates() -> None:
    twice = sp.coo_matrix(([1.0, 3.0], ([0, 0], [0, 0])), shape=(1, 1))
    with pytest.raises(DataError, match=r"A: 1 duplicate \(user, item\) pairs"):
        from_matrix(twice)
    assert from_matrix(twice, duplicates="mean").values.tolist() == [2.0]
    tensor = torch.sparse_coo_tensor(torch.tensor([[0, 0], [0, 0]]), [1.0, 3.0], (1, 1))
    assert from_matrix(tensor, duplicates="last").values.tolist() == [3.0]


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "bsr": (COO.tobsr(), None, r"A: not a matrix of numbers \(saw bsr \(3, 3\)\); .*give CSR or COO"),
    "dia": (COO.todia(), None, "give CSR or COO"),
    "sparse complex": (COO.astype(complex), None, "complex128 entries"),
    "sparse vector": (sp.coo_array([1.0, 2.0]), None, "not a matrix of numbers"),
    "hybrid": (torch.sparse_coo_tensor(torch.tensor([[0]]), [[1.0]], (1, 1)), None, "give a sparse COO or CSR tensor"),
    "sparse NaN": (sp.csr_matrix([[np.nan, 1.0]]), None, r"A\[0, 0\]: rating is not finite \(saw nan\)"),
    "sparse with mask": (COO, ~np.isnan(DENSE), "mask: a sparse matrix takes no mask"),
    "masked with mask": (np.ma.masked_invalid(DENSE), ~np.isnan(DENSE), "mask: a masked array takes no other mask"),
    "complex": (DENSE + 1j, None, "not a matrix of numbers"),
    "text": ([["a", "b"]], None, "not a matrix of numbers"),
    "text among objects": (np.array([[1.0, "5"]], object), None, r"A\[0, 1\]: not a number \(saw '5'\)"),
    "ragged": ([[1.0], [1.0, 2.0]], None, "not a matrix of numbers"),
    "path": ("a.csv", None, "use read_ratings for files"),
    "None": (None, None, "not a matrix of numbers"),
    "huge": ([[1e39]], None, r"A\[0, 0\]: rating is not finite \(saw 1e\+39\)"),
    "dates": (np.array([["2020-01-01"]], "datetime64[s]"), None, "not a matrix of numbers"),
    "levels": (pd.DataFrame([[1.0]], index=pd.MultiIndex.from_tuples([("a", 1)])), None, "A, user ids"),
    "rows of ratings": (pd.DataFrame({"user": [1], "item": [2], "rating": [3]}), None, "from_frame"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_matrix_is_one_line_that_says_what_to_give(name: str) -> None:
    matrix, mask, message = REFUSED[name]
    with pytest.raises(DataError, match=message) as fault:
        from_matrix(matrix, mask)
    assert len(str(fault.value)) <= 300
    assert "\n" not in str(fault.value)
