"""Triples sent to a device part by part: every one once, with the result of those that stay."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_mf.errors import ResourceError
from recsys_mf.kernels.cuda import TorchKernels
from recsys_mf.kernels.cuda_streams import ResidentTriples, StreamedTriples
from tests.backends import BACKENDS, interpreted
from tests.kernels.test_oracle import M, N, padded, scheduled

BYTES = 12  # of a triple


def parts(room: int | None, hogwild: bool) -> list[tuple[np.ndarray, ...]]:
    """What a pass hands out, copied: a part is good until the next."""
    order = scheduled(np.random.default_rng(0))
    bounds = np.append(np.arange(0, len(order.users), 20), len(order.users))[None] if hogwild else order.bounds
    triples = TorchKernels("cpu", room=room).triples(order.users, order.items, order.values, bounds)
    assert isinstance(triples, ResidentTriples if room is None else StreamedTriples)
    first, again = ([tuple(a.numpy().copy() for a in part) for part in triples.passes()] for _ in range(2))
    for one, two in zip(first, again, strict=True):
        assert all((a == b).all() for a, b in zip(one, two, strict=True))
    return first


@pytest.mark.parametrize("hogwild", [False, True])
def test_parts_make_up_the_schedule(hogwild: bool) -> None:
    (whole,) = parts(None, hogwild)
    room = BYTES * len(whole[0]) - 1
    some = parts(room, hogwild)
    assert len(some) > 1
    for column in range(3):
        np.testing.assert_array_equal(np.concatenate([part[column] for part in some]), whole[column])
    assert all(BYTES * len(part[0]) <= room // 2 for part in some)
    start = 0
    found = []
    for *_, bounds in some:
        found.append(bounds + start)
        start += bounds[-1, -1]
    joined = np.concatenate(found, axis=0) if not hogwild else None
    if joined is not None:
        np.testing.assert_array_equal(joined, whole[3])
    else:
        inner = [bounds[0, :-1] for bounds in found]
        np.testing.assert_array_equal(np.append(np.concatenate(inner), found[-1][0, -1]), whole[3][0])


@pytest.mark.parametrize(
    ("backend", "precision"),
    [("torch", "float32"), *(pytest.param("triton", p, marks=interpreted) for p in ("float32", "half", "bfloat16"))],
)
def test_an_epoch_of_parts_is_the_epoch_of_the_whole(backend: str, precision: str) -> None:
    order = scheduled(np.random.default_rng(0))
    results = []
    for room in (None, BYTES * len(order.users) - 1):
        kernels = BACKENDS[backend]()
        kernels._room = room  # type: ignore[attr-defined]
        rng = np.random.default_rng(1)
        tables = (padded(rng.standard_normal((n, 3)), kernels.width(3)) for n in (M, N))
        P, Q = (kernels.put_factors(table, precision) for table in tables)
        b_u, b_i = (kernels.put(np.zeros(n, np.float32)) for n in (M, N))
        triples = kernels.triples(order.users, order.items, order.values, order.bounds)
        for part in triples.passes():
            kernels.sgd_epoch(*part, 7, P, Q, b_u, b_i, 0.05, 0.02, 0.1, 0.3, 0)
        results.append([kernels.get(a).tobytes() for a in (P, Q, b_u, b_i)])
    assert results[0] == results[1]


def test_room_for_less_than_a_stratum_is_an_error_with_the_size() -> None:
    order = scheduled(np.random.default_rng(0))
    message = (
        r"^a part of the ratings needs [\d.]+ KiB of the card and \d+ B are free; "
        r"use the device 'cpu', or a card with more memory$"
    )
    with pytest.raises(ResourceError, match=message):
        TorchKernels("cpu", room=600).triples(order.users, order.items, order.values, order.bounds)
