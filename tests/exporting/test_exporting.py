"""Exports: a plain inner product of what is written is the prediction of the run, and nothing else is replaced."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import recsys_mf
from recsys_mf.errors import ArtifactError, ConfigError, ResourceError
from recsys_mf.exporting import FORMATS, formats
from recsys_mf.exporting.agreement import measure_agreement
from recsys_mf.exporting.scores import scores_of
from recsys_mf.kernels.cpu.prediction import CPU
from recsys_mf.models import Factorization
from recsys_mf.prediction.pairs import moments
from recsys_mf.run import Run
from recsys_mf.solvers import SOLVERS
from recsys_mf.training import train
from recsys_mf.vocabulary import Vocabulary
from tests.trained import factor_run, posterior_run, small_split

ROUNDING = 1e-5  # of sums of some terms in float32, relative to ratings up to 5


def unclipped(run: Run) -> NDArray[np.float32]:
    """The predictions of a run for all users and items before they are clipped, at an average time."""
    users, items = np.indices((run.model.n_users, run.model.n_items), np.int32).reshape(2, -1)
    return moments(run.model, users, items, CPU, with_variances=False)[0].reshape(run.model.n_users, -1)


def read(directory: Path) -> dict[str, Any]:
    return {name: pd.read_parquet(directory / f"{name}.parquet") for name in ("users", "items")}


def products(directory: Path) -> NDArray[Any]:
    tables = read(directory)
    product: NDArray[Any] = np.stack(tables["users"]["vector"]) @ np.stack(tables["items"]["vector"]).T
    return product


@pytest.mark.parametrize("strings", [False, True])
def test_the_inner_product_of_exported_rows_is_the_prediction_before_clipping(tmp_path: Path, strings: bool) -> None:
    run = factor_run(strings=strings)
    facts = recsys_mf.export(run, tmp_path / "out")
    np.testing.assert_allclose(products(tmp_path / "out"), unclipped(run), rtol=ROUNDING, atol=ROUNDING)
    tables = read(tmp_path / "out")
    assert tables["users"]["id"].tolist() == run.user_vocabulary.entries.to_pylist()
    assert tables["items"]["id"].tolist() == run.item_vocabulary.entries.to_pylist()
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == facts
    assert (facts["rank"], facts["dimensions"], facts["agreement"]) == (4, 6, None)


@pytest.mark.parametrize("solver", sorted(SOLVERS.keys() - {"gibbs"}))
def test_every_solver_that_factorises_exports_its_own_prediction(tmp_path: Path, solver: str) -> None:
    run = train(small_split(), solver)
    recsys_mf.export(run, tmp_path / "out")
    expected = np.clip(products(tmp_path / "out"), *run.model.rating_range)
    users, items = run.user_vocabulary.entries.to_pylist(), run.item_vocabulary.entries.to_pylist()
    for number, user in enumerate(users[:5]):
        np.testing.assert_allclose(run.predict(user, items), expected[number], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("strings", [False, True])
def test_arrays_hold_what_the_tables_hold(tmp_path: Path, strings: bool) -> None:
    run = factor_run(strings=strings)
    recsys_mf.export(run, tmp_path / "tables")
    recsys_mf.export(run, tmp_path / "arrays", format="npz")
    tables = read(tmp_path / "tables")
    with np.load(tmp_path / "arrays" / "vectors.npz", allow_pickle=False) as arrays:
        for name in ("users", "items"):
            assert arrays[name].tolist() == np.stack(tables[name]["vector"]).tolist()
            assert arrays[f"{name[:-1]}_ids"].tolist() == tables[name]["id"].tolist()


def test_a_faiss_index_finds_the_items_that_the_run_recommends(tmp_path: Path) -> None:
    faiss: Any = pytest.importorskip("faiss")
    run = factor_run()
    recsys_mf.export(run, tmp_path / "out", format="faiss")
    tables, index = read(tmp_path / "out"), faiss.read_index(str(tmp_path / "out" / "items.faiss"))
    scores, places = index.search(np.stack(tables["users"]["vector"]), 5)
    lists = run.recommend(n=5, exclude="none")
    assert tables["items"]["id"].to_numpy()[places].ravel().tolist() == lists["item_id"].tolist()
    np.testing.assert_allclose(scores.ravel(), lists["score"], rtol=ROUNDING)


def test_without_faiss_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^--format faiss: faiss is not installed; install it with `pip install fai"):
        recsys_mf.export(factor_run(), tmp_path / "out", format="faiss")
    assert list(tmp_path.iterdir()) == []


def test_a_posterior_at_full_rank_scores_as_the_mean_of_its_samples(tmp_path: Path) -> None:
    run = posterior_run()
    recsys_mf.export(run, tmp_path / "out", rank=min(run.model.n_users, run.model.n_items))
    np.testing.assert_allclose(products(tmp_path / "out"), unclipped(run), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("likelihood", ["gaussian", "ordinal"])
def test_a_posterior_says_how_well_its_export_ranks(tmp_path: Path, likelihood: str) -> None:
    run = posterior_run(likelihood)
    facts = recsys_mf.export(run, tmp_path / "out")
    assert facts["rank"] == min(run.model.n_users, run.model.n_items)
    assert facts["agreement"]["users"] == run.model.n_users
    assert facts["agreement"]["spearman"] > 0.99
    assert facts["agreement"]["overlap"] > 0.9
    assert facts["score"].endswith("at an average time")
    assert ("latent" in facts["score"]) is (likelihood == "ordinal")


def test_a_lower_rank_agrees_less() -> None:
    model = posterior_run().model
    found = [measure_agreement(model, scores_of(model, rank).model) for rank in (1, 30)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].spearman is not None
    assert found[1].spearman is not None
    assert found[0].spearman < found[1].spearman


def test_agreement_is_measured_as_correlation_of_ranks() -> None:
    run = factor_run()
    assert isinstance(run.model, Factorization)
    same = measure_agreement(run.model, run.model)
    assert same is not None
    assert same.spearman == pytest.approx(1)
    assert same.overlap == 1
    opposite = replace(
        run.model, user_bias=-run.model.user_bias, item_bias=-run.model.item_bias, user_factors=-run.model.user_factors
    )
    reversed_ranks = measure_agreement(run.model, opposite)
    assert reversed_ranks is not None
    assert reversed_ranks.spearman == pytest.approx(-1)


def test_equal_scores_have_no_correlation_and_one_item_no_ranking() -> None:
    (b_u, b_i), (P, Q) = ([np.zeros(shape, np.float32) for shape in shapes] for shapes in ((2, 3), ((2, 0), (3, 0))))
    flat = Factorization(3.0, b_u, b_i, P, Q, (1, 5))
    found = measure_agreement(flat, flat)
    assert found is not None
    assert (found.spearman, found.overlap) == (None, 1)
    single = replace(flat, item_bias=np.zeros(1, np.float32), item_factors=np.zeros((1, 0), np.float32))
    assert measure_agreement(single, single) is None


@pytest.mark.parametrize("rank", [0, 31, 2.5, True, "8"])
def test_a_rank_out_of_range_is_refused(tmp_path: Path, rank: Any) -> None:
    with pytest.raises(ConfigError, match=r"^--rank: "):
        recsys_mf.export(posterior_run(), tmp_path / "out", rank=rank)
    assert list(tmp_path.iterdir()) == []


def test_a_rank_for_a_factorisation_is_refused(tmp_path: Path) -> None:
    words = r"^--rank: only a sampled model is exported at a rank of choice \(saw 4\); leave it out: .* have rank 4$"
    with pytest.raises(ConfigError, match=words):
        recsys_mf.export(factor_run(), tmp_path / "out", rank=4)


def test_what_is_not_a_run_or_a_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run: not a Run \(saw str\); give what `train` or `load` returns$"):
        recsys_mf.export("run", tmp_path / "out")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^--format: unknown value \(saw 'parket'\); did you mean 'parquet'\?"):
        recsys_mf.export(factor_run(), tmp_path / "out", format="parket")


def test_only_an_export_is_replaced_and_only_if_asked(tmp_path: Path) -> None:
    run, target = factor_run(), tmp_path / "out"
    recsys_mf.export(run, target)
    with pytest.raises(
        ArtifactError, match=r"the directory holds an export already; give another directory, or --force .*$"
    ):
        recsys_mf.export(run, target)
    recsys_mf.export(run, target, format="npz", force=True)
    assert {path.name for path in target.iterdir()} == {"export.json", "vectors.npz"}
    (target / "notes.txt").touch()
    with pytest.raises(ArtifactError, match=r"files that do not belong to the export \(saw notes.txt\)"):
        recsys_mf.export(run, target, force=True)
    recsys_mf.save(run, tmp_path / "run")
    with pytest.raises(ArtifactError, match=r"the directory exists and is not an export"):
        recsys_mf.export(run, tmp_path / "run", force=True)
    assert recsys_mf.load(tmp_path / "run").model.n_users == run.model.n_users


def test_an_export_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recsys_mf.export(factor_run(), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(
        ResourceError, match=r"cannot be written \(saw No space left on device\); free some space there"
    ):
        recsys_mf.export(factor_run(), tmp_path / "out", format="npz", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_id_that_numpy_would_change_is_refused(tmp_path: Path) -> None:
    run = factor_run(strings=True)
    ids = run.item_vocabulary.entries.to_pylist()
    odd = replace(run, item_vocabulary=Vocabulary.encode([*ids[:-1], ids[-1] + "\0"])[0])
    with pytest.raises(ConfigError, match=r"^--format npz: an id ends in a null character"):
        recsys_mf.export(odd, tmp_path / "out", format="npz")
    recsys_mf.export(odd, tmp_path / "out")
    assert read(tmp_path / "out")["items"]["id"].tolist()[-1] == ids[-1] + "\0"


def test_every_file_of_a_format_is_written(tmp_path: Path) -> None:
    for name, entry in FORMATS.items():
        if name == "faiss" and importlib.util.find_spec("faiss") is None:
            continue
        facts = recsys_mf.export(factor_run(), tmp_path / name, format=name)
        assert {path.name for path in (tmp_path / name).iterdir()} == {"export.json", *entry.files}
        assert facts["files"] == list(entry.files)
