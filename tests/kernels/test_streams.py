"""Triples sent to a device part by part: each is sent once, with the same result as triples that stay there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recsys_mf.errors import ResourceError
from recsys_mf.kernels import cases, oracle
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.torch.backend import make_backend as on_torch
from recsys_mf.kernels.torch.device import TorchDevice
from recsys_mf.kernels.torch.sgd import TorchSgd
from recsys_mf.kernels.torch.streaming import ResidentTriples, StreamedTriples
from tests.backends import interpreted, on_triton

BYTES = {False: 12, True: 16}  # per triple, without and with weights
MAKERS: dict[str, Callable[..., Backend]] = {"torch": on_torch, "triton": on_triton}


def sgd(room: int | None) -> TorchSgd:
    return TorchSgd(TorchDevice("cpu", 1, "torch"), room)


def parts(room: int | None, hogwild: bool, weighted: bool) -> list[tuple[np.ndarray, ...]]:
    """The parts of a pass, copied: a part is valid until the next."""
    order = cases.make_visits(np.random.default_rng(0), weighted=weighted)
    n = len(order.triples.users)
    bounds = np.append(np.arange(0, n, 20), n)[None] if hogwild else order.bounds
    triples = sgd(room).stream(order.triples, bounds)
    assert isinstance(triples, ResidentTriples if room is None else StreamedTriples)
    first, again = (
        [tuple(a.numpy().copy() for a in part if a is not None) for part in triples.passes()] for _ in range(2)
    )
    for one, two in zip(first, again, strict=True):
        assert all((a == b).all() for a, b in zip(one, two, strict=True))
    return first


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hogwild", [False, True])
def test_parts_make_up_the_schedule(hogwild: bool, weighted: bool) -> None:
    (whole,) = parts(None, hogwild, weighted)
    room = BYTES[weighted] * len(whole[0]) - 1
    some = parts(room, hogwild, weighted)
    assert len(some) > 1
    for column in range(4 if weighted else 3):
        np.testing.assert_array_equal(np.concatenate([part[column] for part in some]), whole[column])
    assert all(BYTES[weighted] * len(part[0]) <= room // 2 for part in some)
    start = 0
    found = []
    for *_, bounds in some:
        found.append(bounds + start)
        start += bounds[-1, -1]
    joined = np.concatenate(found, axis=0) if not hogwild else None
    if joined is not None:
        np.testing.assert_array_equal(joined, whole[-1])
    else:
        inner = [bounds[0, :-1] for bounds in found]
        np.testing.assert_array_equal(np.append(np.concatenate(inner), found[-1][0, -1]), whole[-1][0])


@pytest.mark.parametrize(
    ("name", "precision", "weighted"),
    [
        ("torch", "float32", False),
        ("torch", "float32", True),
        *(pytest.param("triton", p, False, marks=interpreted) for p in ("float32", "half", "bfloat16")),
    ],
)
def test_an_epoch_in_parts_equals_an_epoch_of_the_whole(name: str, precision: str, weighted: bool) -> None:
    order = cases.make_visits(np.random.default_rng(0), weighted=weighted)
    results = []
    for room in (None, BYTES[weighted] * len(order.triples.users) - 1):
        backend = MAKERS[name]("cpu", room=room)
        state = cases.put_state(backend, cases.make_state(np.random.default_rng(1), 3), precision)
        backend.sgd.epoch(order.plan(backend, 7, state.P.shape[1]), state, oracle.STEP)
        results.append([backend.device.get(a).tobytes() for a in state])
    assert results[0] == results[1]


def test_too_little_memory_for_a_stratum_is_an_error_with_the_size() -> None:
    order = cases.make_visits(np.random.default_rng(0))
    message = (
        r"^a part of the ratings needs [\d.]+ KiB of the card and \d+ B are free; "
        r"use the device 'cpu', or a card with more memory$"
    )
    with pytest.raises(ResourceError, match=message):
        sgd(600).stream(order.triples, order.bounds)
