"""Figures of recommendation lists: those of a naive oracle, and of the libraries that are usual for them."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.evaluation.ranking import FIGURES, Figure, coverage, find_hits, novelty

N_ITEMS = 40
Oracle = Callable[[list[int], set[int], int], float]


def oracle_ndcg(items: list[int], relevant: set[int], n: int) -> float:
    gained = sum(1 / math.log2(place + 1) for place, item in enumerate(items[:n], 1) if item in relevant)
    return gained / sum(1 / math.log2(place + 1) for place in range(1, min(n, len(relevant)) + 1))


def oracle_recall(items: list[int], relevant: set[int], n: int) -> float:
    return len(set(items[:n]) & relevant) / len(relevant)


def oracle_precision(items: list[int], relevant: set[int], n: int) -> float:
    return len(set(items[:n]) & relevant) / n


def oracle_map(items: list[int], relevant: set[int], n: int) -> float:
    precisions = [
        oracle_precision(items, relevant, place) for place, item in enumerate(items[:n], 1) if item in relevant
    ]
    return sum(precisions) / len(relevant)


def oracle_mrr(items: list[int], relevant: set[int], n: int) -> float:
    return next((1 / place for place, item in enumerate(items[:n], 1) if item in relevant), 0.0)


def oracle_hit_rate(items: list[int], relevant: set[int], n: int) -> float:
    return float(any(item in relevant for item in items[:n]))


ORACLES: dict[str, Oracle] = {name.removeprefix("oracle_"): of for name, of in globals().items() if "oracle_" in name}
IR_MEASURES = {"ndcg": "nDCG", "recall": "R", "precision": "P", "map": "AP", "mrr": "RR", "hit_rate": "Success"}


def lists(n: int, seed: int = 0) -> tuple[list[list[int]], list[set[int]]]:
    """The lists of 60 users, some shorter than n, and their relevant items: from 1 to 25, or one that no list has."""
    rng = np.random.default_rng(seed)
    found, relevant = [], []
    for user in range(60):
        length = n if user % 4 else int(rng.integers(0, n + 1))
        found.append(rng.permutation(N_ITEMS)[:length].tolist())
        wanted = rng.permutation(N_ITEMS + 5)[: int(rng.integers(1, 26))].tolist()
        relevant.append(set(wanted) if user % 7 else {N_ITEMS})
    return found, relevant


def as_arrays(
    found: list[list[int]], relevant: list[set[int]], n: int
) -> tuple[NDArray[np.int32], Csr, NDArray[np.int64]]:
    """Lists as `find_hits` takes them; items from N_ITEMS on are not known, and only count as relevant."""
    items = np.full((len(found), n), -1, np.int32)
    for row, listed in zip(items, found, strict=True):
        row[: len(listed)] = listed
    known = [sorted(item for item in wanted if item < N_ITEMS) for wanted in relevant]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in known])])
    columns = np.array([item for row in known for item in row], np.int32)
    return items, Csr(starts, columns, None, N_ITEMS), np.array([len(wanted) for wanted in relevant])


def figures(n: int) -> dict[str, NDArray[np.float64]]:
    items, relevant, n_relevant = as_arrays(*lists(n), n)
    hits = find_hits(items, relevant)
    return {name: figure(hits, n_relevant) for name, figure in FIGURES.items()}


@pytest.mark.parametrize("n", [1, 3, 10, N_ITEMS])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_that_of_the_oracle(name: str, n: int) -> None:
    expected = [ORACLES[name](*pair, n) for pair in zip(*lists(n), strict=True)]
    np.testing.assert_allclose(figures(n)[name], expected, rtol=1e-13)
    assert 0 < np.mean(expected) < 1


def test_figures_of_a_list_worked_out_by_hand() -> None:
    """Relevant at places 2 and 4 of 4, of three relevant items."""
    hits, n_relevant = np.array([[False, True, False, True]]), np.array([3])
    found = {name: float(figure(hits, n_relevant)[0]) for name, figure in FIGURES.items()}
    best = 1 + 1 / math.log2(3) + 1 / 2
    assert found["ndcg"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / best)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx(2 / 4)
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert found["mrr"] == pytest.approx(1 / 2)
    assert found["hit_rate"] == 1


def test_average_precision_is_divided_by_all_relevant_items_as_trec_eval_does() -> None:
    hits = np.ones((1, 3), np.bool_)
    assert FIGURES["map"](hits, np.array([12]))[0] == pytest.approx(3 / 12)
    assert FIGURES["ndcg"](hits, np.array([12]))[0] == pytest.approx(1)


@pytest.mark.parametrize("name", FIGURES)
def test_a_perfect_list_has_1_and_a_list_without_hits_0(name: str) -> None:
    n_relevant = np.array([4, 4])
    found = FIGURES[name](np.array([[True] * 4, [False] * 4]), n_relevant)
    assert found.tolist() == pytest.approx([1, 0])


def test_an_ended_list_hits_nothing_and_an_empty_row_of_relevant_items_is_never_hit() -> None:
    relevant = Csr(np.array([0, 2, 2]), np.array([0, 7], np.int32), None, N_ITEMS)
    hits = find_hits(np.array([[7, 3, -1], [0, 7, -1]], np.int32), relevant)
    assert hits.tolist() == [[True, False, False], [False, False, False]]


def test_the_standard_error_is_that_of_the_mean_over_users() -> None:
    values = np.array([0.0, 1.0, 1.0, 0.5])
    figure = Figure.mean(values)
    assert figure.value == pytest.approx(0.625)
    assert figure.standard_error == pytest.approx(np.std(values, ddof=1) / 2)
    assert Figure.mean(values[:1]).standard_error is None


def test_coverage_is_the_share_of_the_candidates_in_any_list() -> None:
    shown = np.array([3, 0, 1, 0, 0])
    assert coverage(shown, np.arange(5)) == pytest.approx(2 / 5)
    assert coverage(shown, np.array([0, 1, 2])) == pytest.approx(2 / 3)


def test_novelty_is_the_mean_surprise_over_all_entries_of_lists() -> None:
    shown, raters = np.array([3, 0, 1]), np.array([8, 0, 2])
    assert novelty(shown, raters, 8) == pytest.approx((3 * 0 + 1 * 2) / 4)
    assert novelty(np.zeros(3, np.int64), raters, 8) is None


def scored_lists(found: list[list[int]]) -> dict[str, dict[str, float]]:
    """The lists as other libraries take them: user -> item -> a score that falls from place to place."""
    return {
        f"u{user:02}": {f"i{item}": float(len(listed) - place) for place, item in enumerate(listed)}
        for user, listed in enumerate(found)
    }


def judgements(relevant: list[set[int]]) -> dict[str, dict[str, int]]:
    return {f"u{user:02}": {f"i{item}": 1 for item in wanted} for user, wanted in enumerate(relevant)}


def library(name: str) -> Any:
    """The library, or a skipped test; its own warnings are not ours."""
    pytest.importorskip(name)
    return importlib.import_module(name)


@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_that_of_ir_measures(name: str, n: int) -> None:
    library("pytrec_eval")
    ir_measures = library("ir_measures")
    found, relevant = lists(n)
    measure = getattr(ir_measures, IR_MEASURES[name]) @ n
    theirs = {
        metric.query_id: metric.value
        for metric in ir_measures.iter_calc([measure], judgements(relevant), scored_lists(found))
    }
    expected = [theirs.get(f"u{user:02}", 0.0) for user in range(len(found))]  # an empty list is not in their run
    np.testing.assert_allclose(figures(n)[name], expected, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_that_of_ranx(name: str, n: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranx = library("ranx")
        found, relevant = lists(n)
        full = [user for user, listed in enumerate(found) if listed]
        qrels = ranx.Qrels({f"u{user:02}": judgements(relevant)[f"u{user:02}"] for user in full})
        run = ranx.Run({f"u{user:02}": scored_lists(found)[f"u{user:02}"] for user in full})
        theirs = ranx.evaluate(qrels, run, f"{name}@{n}", return_mean=False)
    np.testing.assert_allclose(figures(n)[name][full], theirs, rtol=1e-9)
