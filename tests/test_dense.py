"""The exercise on a small dense matrix: gradient descent against the truncated SVD, with a mask and with NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_mf.dense import complete, reconstruction_loss, sgd_factorise, sgd_factorise_masked, truncated_svd
from recsys_mf.errors import ConfigError, DataError, SolveError

A = torch.tensor([[0.3374, 0.6005, 0.1735], [3.3359, 0.0492, 1.8374], [2.9407, 0.5301, 2.2620]])
M = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 1]])
LEAST = 0.1219  # the squared third singular value of A: no product of rank 2 leaves less


def test_truncated_svd_leaves_the_squares_of_the_singular_values_left_out() -> None:
    U, s, V = truncated_svd(A, rank=2)
    assert (U.shape, s.shape, V.shape) == ((3, 2), (2,), (3, 2))
    torch.testing.assert_close(s, torch.tensor([5.3339, 0.6959]), atol=1e-4, rtol=0)
    assert reconstruction_loss(U * s, V, A) == pytest.approx(LEAST, abs=5e-5)
    U, s, V = truncated_svd(A, rank=3)
    assert reconstruction_loss(U * s, V, A) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_sgd_reaches_the_truncated_svd_and_never_goes_below(seed: int) -> None:
    U, s, V = truncated_svd(A, rank=2)
    least = reconstruction_loss(U * s, V, A)
    loss = reconstruction_loss(*sgd_factorise(A, rank=2, num_epochs=20000, seed=seed), A)
    assert least - 1e-6 <= loss <= least + 0.0005


def test_the_defaults_are_those_of_the_exercise() -> None:
    given = sgd_factorise(A, 2, 1000, 0.01, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(sgd_factorise(A, 2), given, strict=True))


def test_the_update_is_that_of_the_exercise_in_row_order() -> None:
    """One epoch against an explicit loop, from the same start."""
    U, V = (F.double() for F in sgd_factorise_masked(A, M, 2, num_epochs=0, seed=3))
    for r, c in M.nonzero().tolist():
        e = A[r, c] - U[r] @ V[c]
        U[r], V[c] = U[r] + 0.1 * e * V[c], V[c] + 0.1 * e * U[r]
    done = sgd_factorise_masked(A, M, 2, num_epochs=1, lr=0.1, seed=3)
    torch.testing.assert_close(done[0].double(), U, atol=1e-6, rtol=0)
    torch.testing.assert_close(done[1].double(), V, atol=1e-6, rtol=0)


def test_another_seed_is_another_start_and_the_same_seed_the_same() -> None:
    first, again, other = (sgd_factorise(A, 2, 10, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("value", [1e6, 0.0, float("nan"), float("inf")])
def test_a_masked_entry_does_not_change_a_bit(value: float) -> None:
    changed = A.clone()
    changed[M == 0] = value
    for before, after in zip(sgd_factorise_masked(A, M, 2), sgd_factorise_masked(changed, M, 2), strict=True):
        assert torch.equal(before, after)


def test_an_observed_entry_is_not_left_out() -> None:
    changed = A.clone()
    changed[1, 1] += 1
    assert not torch.equal(sgd_factorise_masked(A, M, 2)[0], sgd_factorise_masked(changed, M, 2)[0])


def test_an_observed_zero_is_fitted() -> None:
    """If zeros were treated as missing, the fourth entry would be 4 · 2 / 1 = 8 here at rank 1, not near zero."""
    Z = torch.tensor([[1.0, 2.0, 1.0], [4.0, 0.0, 4.0]])
    U, V = sgd_factorise(Z, rank=2, num_epochs=5000)
    torch.testing.assert_close(U @ V.T, Z, atol=1e-2, rtol=0)
    mask = Z != 0
    U, V = sgd_factorise_masked(Z, mask, rank=1, num_epochs=5000)
    assert float((U @ V.T)[1, 1]) == pytest.approx(8, abs=0.1)


def test_masked_fit_is_near_the_observed_entries() -> None:
    U, V = sgd_factorise_masked(A, M, 2, num_epochs=5000)
    torch.testing.assert_close((U @ V.T)[M != 0], A[M != 0], atol=1e-2, rtol=0)


def test_a_mask_of_ones_changes_nothing() -> None:
    for mask in (torch.ones(3, 3), torch.ones(3, 3, dtype=torch.bool), torch.full((3, 3), -2)):
        for one, other in zip(sgd_factorise_masked(A, mask, 2), sgd_factorise(A, 2), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16])
def test_factors_have_the_type_of_the_matrix_and_the_matrix_is_not_changed(kind: torch.dtype) -> None:
    matrix = A.to(kind).requires_grad_()
    U, V = sgd_factorise(matrix[:2], 2, 10)
    assert (U.dtype, V.dtype) == (kind, kind)
    assert (U.shape, V.shape) == ((2, 2), (3, 2))
    assert not U.requires_grad
    assert torch.equal(matrix.detach(), A.to(kind))


def planted_matrix() -> Tensor:
    """A matrix of 60 by 40 and rank 2 with biases, without noise, centred at 50."""
    generator = torch.Generator().manual_seed(0)
    P, Q = (torch.randn(n, 2, generator=generator) for n in (60, 40))
    b, c = torch.randn(60, 1, generator=generator), torch.randn(1, 40, generator=generator)
    return 50 + 10 * (P @ Q.T + b + c)


def test_complete_fills_every_nan_and_leaves_what_was_observed() -> None:
    truth = planted_matrix()
    missing = torch.rand(truth.shape, generator=torch.Generator().manual_seed(1)) < 0.2
    holed = truth.clone()
    holed[missing] = float("nan")
    filled = complete(holed, rank=4)
    assert not filled.isnan().any()
    assert torch.equal(filled[~missing], truth[~missing])
    assert holed[missing].isnan().all()
    error = (filled - truth)[missing].square().mean().sqrt()
    assert error < truth[missing].std() / 3


def test_complete_treats_zeros_as_observed() -> None:
    truth = planted_matrix()
    holed = torch.where(truth < truth.mean(), 0.0, 100.0)
    holed[0, 0] = float("nan")
    filled = complete(holed)
    assert (filled == 0).sum() >= (truth[1:] < truth.mean()).sum()
    assert not filled.isnan().any()


def test_complete_gives_an_empty_row_and_column_the_fallback() -> None:
    holed = planted_matrix()
    holed[3, :] = float("nan")
    holed[:, 7] = float("nan")
    filled = complete(holed, rank=2)
    assert not filled.isnan().any()
    seen = holed[~holed.isnan()]
    assert float(filled[3, 7]) == pytest.approx(float(seen.mean()), rel=1e-4)
    assert filled[3].std() > 1  # the biases of the columns


def test_complete_of_a_matrix_without_nan_is_the_matrix() -> None:
    assert torch.equal(complete(A, rank=2), A)


BAD: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: sgd_factorise(A[0], 2),
        DataError,
        r"^A: not a floating-point matrix \(saw torch.float32 \(3,\)\); give a floating-point",
    ),
    (lambda: sgd_factorise(A.int(), 2), DataError, r"^A: not a floating-point matrix \(saw torch.int32 \(3, 3\)\)"),
    (lambda: truncated_svd(A.tolist(), 2), DataError, r"^A: not a floating-point matrix \(saw list\)"),  # type: ignore[arg-type]
    (lambda: complete(A.int()), DataError, r"^A: not a floating-point matrix"),
    (
        lambda: sgd_factorise_masked(A, M[:2], 2),
        DataError,
        r"^M: mask and matrix differ in shape \(saw \(2, 3\)\); give \(3, 3\)$",
    ),
    (lambda: sgd_factorise_masked(A, M * 0, 2), DataError, r"^M: nothing is observed; set at least one entry"),
    (lambda: sgd_factorise(A / 0, 2), DataError, r"^A: an observed entry is not finite; mask it out$"),
    (lambda: complete(A * float("nan")), DataError, r"no ratings|nothing is observed"),
    (
        lambda: sgd_factorise(A, 0),
        ConfigError,
        r"^setting out of range \(saw rank 0, num_epochs 1000, lr 0.01\); give rank from 1, num_epochs from 0 and a ",
    ),
    (lambda: sgd_factorise(A, 2, -1), ConfigError, r"setting out of range \(saw rank 2, num_epochs -1"),
    (lambda: sgd_factorise(A, 2, lr=0.0), ConfigError, r"setting out of range \(saw .* lr 0.0\)"),
    (lambda: sgd_factorise(A, 2, lr=float("nan")), ConfigError, r"setting out of range \(saw .* lr nan\)"),
    (lambda: truncated_svd(A, 4), ConfigError, r"^rank: rank out of range \(saw 4\); give 1 to 3$"),
    (lambda: truncated_svd(A, 0), ConfigError, r"^rank: rank out of range \(saw 0\)"),
    (lambda: complete(A, rank=0), ConfigError, r"^rank: setting out of range \(saw 0\); give 1 to 1024$"),
    (lambda: sgd_factorise(A, 2, lr=10.0), SolveError, r"^SGD diverged in epoch \d+; lower lr \(now 10\)$"),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_what_cannot_be_factorised_is_refused(call: Callable[[], Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
