"""The truncated SVD: two routes to the leading triplets of the filled matrix, which NumPy computes here naively."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recsys_mf.arrays.csr import Csr
from recsys_mf.errors import ConfigError, ResourceError
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.backend import make_backend as on_cpu
from recsys_mf.kernels.operands import Offsets
from recsys_mf.kernels.torch.backend import make_backend as on_torch
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.rows import TorchRows
from recsys_mf.models import Factorization
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Biases, TruncatedSvd
from recsys_mf.solvers.truncated_svd import FILLINGS
from recsys_mf.splits import Split, hold_out
from recsys_mf.training import rmse
from tests.planted import planted
from tests.trained import factorization

CPU = on_cpu(1)
BACKENDS = {"cpu": lambda: CPU, "torch-cpu": lambda: on_torch("cpu"), "cuda": lambda: on_torch("cuda")}
RANKS = (1, 2, 5, 8)
EPSILON = float(np.finfo(np.float32).eps)

Matrix = NDArray[np.float64]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The threads of NumPy and torch wait busily for each other's cores, and matrices this small need none."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def split() -> Split:
    """300 users and 200 items: the operator route needs several Lanczos steps at these ranks."""
    return hold_out(planted()[0], 0.1, seed=0)


@pytest.fixture(params=["wide", "tall"])
def train(request: pytest.FixtureRequest, split: Split) -> Ratings:
    """The training ratings, and the same table with users and items exchanged."""
    if request.param == "tall":
        return split.train
    ratings = split.train
    return Ratings.from_ids(ratings.items, ratings.users, ratings.values)


@pytest.fixture(params=["cpu", "torch-cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def backend(request: pytest.FixtureRequest) -> Backend:
    return BACKENDS[request.param]()


def models(train: Ratings, backend: Backend = CPU, **settings: Any) -> list[Factorization]:
    solver = TruncatedSvd(**({"ranks": RANKS} | settings))
    return [factorization(e) for e in solver.run(train, rng=np.random.default_rng(0), backend=backend)]


def singular_values(model: Factorization, rank: int) -> Matrix:
    """The singular values of a model, whose factors both have the root of every one."""
    left, right = (np.linalg.norm(F[:, :rank], axis=0) for F in (model.user_factors, model.item_factors))
    np.testing.assert_allclose(left, right, rtol=1e-5)
    return np.asarray(left**2, np.float64)


def unclipped(model: Factorization) -> Matrix:
    """μ + b_u + b_i + P Qᵀ, the whole matrix."""
    biases = model.mean + np.add.outer(model.user_bias.astype(np.float64), model.item_bias)
    return np.asarray(biases + model.user_factors.astype(np.float64) @ model.item_factors.T)


def filled(train: Ratings, filling: str) -> tuple[Matrix, Matrix]:
    """The matrix that is decomposed, and what is added to its approximation: the definition, without a shortcut."""
    observed = np.zeros((train.n_users, train.n_items), bool)
    values = np.zeros(observed.shape)
    observed[train.users, train.items] = True
    values[train.users, train.items] = train.values
    nothing = np.zeros(observed.shape)
    if filling == "zero":
        return values, nothing
    if filling == "mean":
        return np.where(observed, values, values[observed].mean()), nothing
    if filling == "item-mean":
        return np.where(observed, values, values.sum(axis=0) / observed.sum(axis=0)), nothing
    mean, user_bias, item_bias = Biases().fitted(train, CPU)
    biases = mean + np.add.outer(user_bias, item_bias)
    return np.where(observed, values - biases, 0), biases


@pytest.mark.parametrize("route", ["dense", "operator"])
@pytest.mark.parametrize("filling", FILLINGS)
def test_model_is_the_truncated_svd_of_the_filled_matrix(
    train: Ratings, filling: str, route: str, backend: Backend
) -> None:
    F, added = filled(train, filling)
    U, singular, Vt = np.linalg.svd(F, full_matrices=False)
    for rank, model in zip(RANKS, models(train, backend, filling=filling, route=route), strict=True):
        # float32 rounds a value by eps of the largest, Lanczos stops at 1e-6 of its square.
        np.testing.assert_allclose(singular_values(model, rank), singular[:rank], rtol=1e-5)
        expected = (U[:, :rank] * singular[:rank]) @ Vt[:rank] + added
        # A singular vector turns by the error of the matrix over the gap to the next singular value.
        turn = singular[0] / (singular[rank - 1] - singular[rank])
        np.testing.assert_allclose(unclipped(model), expected, atol=16 * EPSILON * singular[0] * turn)


@pytest.mark.parametrize("filling", FILLINGS)
def test_both_routes_have_the_same_singular_values_and_held_out_error(
    split: Split, filling: str, backend: Backend
) -> None:
    assert split.test is not None
    dense, operator = (models(split.train, backend, filling=filling, route=route) for route in ("dense", "operator"))
    for rank, one, other in zip(RANKS, dense, operator, strict=True):
        np.testing.assert_allclose(singular_values(one, rank), singular_values(other, rank), rtol=1e-5)
        assert rmse(one, split.test) == pytest.approx(rmse(other, split.test), abs=1e-4)


def test_no_model_of_the_same_rank_is_closer_to_the_filled_matrix(split: Split) -> None:
    """Eckart and Young: the squared error left is the sum of the squares of the singular values left out."""
    F, _ = filled(split.train, "item-mean")
    singular = np.linalg.svd(F, compute_uv=False)
    for rank, model in zip(RANKS, models(split.train, filling="item-mean"), strict=True):
        left = ((F - unclipped(model)) ** 2).sum()
        assert left == pytest.approx((singular[rank:] ** 2).sum(), rel=1e-5)


@pytest.mark.parametrize("route", ["dense", "operator"])
def test_several_ranks_at_once_give_what_every_rank_gives_alone(split: Split, route: str, backend: Backend) -> None:
    for rank, swept in zip(RANKS, models(split.train, backend, route=route), strict=True):
        (alone,) = models(split.train, backend, route=route, ranks=(rank,))
        assert alone.rank == swept.rank == rank
        np.testing.assert_allclose(unclipped(alone), unclipped(swept), atol=1e-4)


class CountingDevice(TorchDevice):
    """Records the shapes of the arrays that are copied to the host."""

    def __init__(self) -> None:
        super().__init__("cpu", 1, "torch")
        self.fetched = list[tuple[int, ...]]()

    def get(self, array: torch.Tensor) -> NDArray[Any]:
        self.fetched.append(tuple(array.shape))
        return super().get(array)


class CountingRows(TorchRows):
    """Counts the products."""

    products = 0

    def multiply(self, matrix: Csr, X: torch.Tensor, offsets: Offsets | None = None) -> torch.Tensor:
        self.products += 1
        return super().multiply(matrix, X, offsets)


def counting() -> tuple[Backend, CountingDevice, CountingRows]:
    device = CountingDevice()
    rows = CountingRows(device)
    return replace(on_torch("cpu"), device=device, rows=rows), device, rows


@pytest.mark.parametrize("filling", ["zero", "item-mean"])
@pytest.mark.parametrize(("rank", "least"), [(1, 7), (8, 15)])
def test_tall_arrays_are_copied_to_the_host_once_for_any_number_of_products(
    train: Ratings, filling: str, rank: int, least: int
) -> None:
    backend, device, rows = counting()
    models(train, backend, filling=filling, ranks=(rank,), route="operator")
    assert rows.products >= least
    tall = [shape for shape in device.fetched if max(shape) >= min(train.n_users, train.n_items)]
    sums = [(train.n_items, 1)] if filling == "item-mean" else []  # of the ratings of every item
    assert sorted(tall) == sorted([(train.n_users, rank), (train.n_items, rank), *sums])


def test_dense_matrix_is_formed_on_the_device(split: Split) -> None:
    backend, device, _ = counting()
    models(split.train, backend, filling="zero", route="dense")
    assert not device.fetched


def test_ranks_above_the_shorter_side_are_left_out(backend: Backend) -> None:
    train = Ratings.from_ids([1, 1, 2, 2, 3], [1, 2, 1, 2, 1], [1, 2, 3, 4, 5])
    for route in ("dense", "operator"):
        assert [model.rank for model in models(train, backend, route=route, ranks=(1, 2, 3))] == [1, 2]


def test_rank_that_no_table_of_this_size_has_is_refused() -> None:
    train = Ratings.from_ids([1, 1, 2, 2, 3], [1, 2, 1, 2, 1], [1, 2, 3, 4, 5])
    with pytest.raises(ConfigError, match=r"^ranks: no rank fits the table \(saw \(3, 4\)\); give ranks up to 2$"):
        models(train, ranks=(3, 4))


@pytest.mark.parametrize("ranks", [(2, 1), (2, 2)])
def test_ranks_that_do_not_ascend_are_refused(ranks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^ranks: ranks must ascend \(saw \(2, .\)\); sort them$"):
        TruncatedSvd(ranks=ranks)


def test_unknown_ids_get_the_fill(split: Split) -> None:
    train = split.train
    low, high = train.rating_range
    unknown, third = np.array([-1]), np.array([3])
    item_mean = np.mean(train.values[train.items == 3], dtype=np.float64)
    expected = {"zero": np.clip(0, low, high), "mean": train.values.mean(dtype=np.float64), "item-mean": item_mean}
    for filling, fill in expected.items():
        model = models(train, filling=filling)[-1]
        assert predict(model, unknown, third).values[0] == pytest.approx(fill, abs=1e-5)
    model = models(train, filling="bias")[-1]
    assert predict(model, unknown, third).values[0] == pytest.approx(model.mean + model.item_bias[3], abs=1e-5)


def test_dense_matrix_that_would_not_fit_is_refused_before_it_is_made() -> None:
    train = Ratings.from_ids(np.arange(1_000_000), np.arange(1_000_000), np.arange(1_000_000) % 5)
    message = (
        r"^the dense SVD of 1,000,000 x 1,000,000 needs \d+\.\d TiB, but only .*iB are free; use the route 'operator'$"
    )
    with pytest.raises(ResourceError, match=message):
        models(train, route="dense", filling="zero")


def test_dense_matrix_is_compared_with_the_free_memory_of_the_card(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = on_cpu(1)
    backend.device.name = "cuda"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 20, 1 << 40))
    with pytest.raises(
        ResourceError, match=r"^the dense SVD of 300 x 200 needs \d\.\d MiB, but only 1\.0 MiB are free; use"
    ):
        models(split.train, backend, route="dense", filling="zero")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_is_the_operator_and_a_named_route_is_taken(device: str) -> None:
    train = Ratings.from_ids(np.arange(1500), np.arange(1500), np.arange(1500) % 5)
    backend = on_cpu(1)
    backend.device.name = device
    assert TruncatedSvd().resolved(train, backend).route == "operator"
    for named in ("dense", "operator"):
        assert TruncatedSvd(route=named).resolved(train, backend).route == named
