"""Stored runs: earlier formats stay readable; a damaged or foreign file is refused by name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as text_of

from recsys_mf.errors import ArtifactError
from recsys_mf.prediction import has_intervals, predict
from recsys_mf.store import load
from recsys_mf.store.layout import sealed
from scripts.make_runs import DAYS, PAIRS, SETTINGS, predicted

RUNS = Path(__file__).parent / "data" / "runs"
FORMATS = sorted(path.name for path in RUNS.iterdir())
NEWEST = FORMATS[-1]
PARTS = sorted({path.name for path in (RUNS / NEWEST / "sgd").iterdir()})


@pytest.mark.parametrize("solver", SETTINGS)
@pytest.mark.parametrize("version", FORMATS)
def test_a_stored_run_predicts_what_it_did_when_it_was_made(version: str, solver: str) -> None:
    expected = json.loads((RUNS / version / "predictions.json").read_text())[solver]
    run = load(RUNS / version / solver)
    np.testing.assert_allclose(predicted(run), expected["predictions"], rtol=1e-5)
    assert run.fit.solver == solver
    assert has_intervals(run.model) == ("lower" in expected)
    if has_intervals(run.model):
        users, items, _ = run.indices(*PAIRS)
        found = predict(run.model, users, items, DAYS, probability=0.8)
        assert found.lower is not None
        assert found.upper is not None
        np.testing.assert_allclose(found.lower, expected["lower"], rtol=1e-5)
        np.testing.assert_allclose(found.upper, expected["upper"], rtol=1e-5)
    assert (run.rated is None) == (version == "format-3")
    if run.rated is not None:
        assert np.diff(run.rated.starts).tolist() == run.user_counts.tolist()
        assert np.bincount(run.rated.items, minlength=len(run.item_counts)).tolist() == run.item_counts.tolist()


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """A function that copies a stored run to a folder of the test."""

    def copy(solver: str = "gibbs", version: str = NEWEST) -> Path:
        target = tmp_path / f"{version}-{solver}"
        shutil.rmtree(target, ignore_errors=True)
        return Path(shutil.copytree(RUNS / version / solver, target))

    return copy


def refused(run: Path, part: str | None = None) -> str:
    """The one line that says why the run is not loaded."""
    with pytest.raises(ArtifactError) as error:
        load(run)
    text = str(error.value)
    assert text.isprintable()
    assert len(text) <= 200 + len(str(run))
    if part is not None:
        assert part in text
    return text


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_flipped_bit_is_refused(copied: Callable[..., Path], part: str) -> None:
    run = copied("sgd")
    whole = (run / part).read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.choice(len(whole), min(60, len(whole)), replace=False):
        for bit in (0, 5, int(rng.integers(8))):
            (run / part).write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            refused(run, part)
    (run / part).write_bytes(whole)
    load(run)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_cut_lengthened_or_missing_is_refused(copied: Callable[..., Path], part: str) -> None:
    run = copied("sgd")
    whole = (run / part).read_bytes()
    for other in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], whole + b"\n", whole * 2):
        (run / part).write_bytes(other)
        refused(run, part)
    (run / part).unlink()
    if part == "run.json":
        assert "not a run directory" in refused(run)
        return
    assert "a file of the run is missing" in refused(run, part)
    (run / part).mkdir()
    refused(run, part)
    (run / part).rmdir()
    os.mkfifo(run / part)
    assert "not a regular file" in refused(run, part)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "report.json"])
def test_a_part_of_another_run_is_refused(copied: Callable[..., Path], part: str) -> None:
    run = copied("als")
    if (RUNS / NEWEST / "gibbs" / part).read_bytes() != (run / part).read_bytes():
        shutil.copy(RUNS / NEWEST / "gibbs" / part, run / part)
        refused(run)


def reseal(run: Path, change: Callable[[dict[str, Any]], Any] = lambda facts: None) -> None:
    """What anyone can do: change the facts, and correct all digests."""
    facts = json.loads((run / "run.json").read_text())
    facts.pop("digest", None)
    for name in facts["parts"]:
        data = (run / name).read_bytes()
        facts["parts"][name] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change(facts)
    (run / "run.json").write_bytes(sealed(facts))


def set_tensors(run: Path, **changes: Any) -> None:
    """Put arrays into the model, or remove those that are None."""
    arrays = {**tensors_of((run / "model.safetensors").read_bytes()), **changes}
    (run / "model.safetensors").write_bytes(text_of({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
    reseal(run)


@pytest.mark.parametrize("solver", SETTINGS)
def test_an_array_of_another_shape_type_or_value_is_refused(copied: Callable[..., Path], solver: str) -> None:
    model = tensors_of((RUNS / NEWEST / solver / "model.safetensors").read_bytes())
    reseal(copied(solver))
    load(copied(solver))
    for name, array in model.items():
        others = [array[:-1], array.reshape(-1, 1, 1, 1), array.astype(np.float64), array.astype(np.int8)]
        others += [np.concatenate([array, array]), np.zeros(0, array.dtype), array[..., None], array.view(np.uint8)]
        others += [array[..., :-1], array[..., :0]] if array.ndim > 1 else []
        if array.dtype.kind == "f" and array.size:
            others += [np.where(np.arange(array.size).reshape(array.shape) > 0, array, bad) for bad in (np.nan, np.inf)]
        for other in others:
            if (array.shape, array.dtype, array.tobytes()) == (other.shape, other.dtype, other.tobytes()):
                continue
            run = copied(solver)
            set_tensors(run, **{name: other})
            refused(run, "safetensors")
        run = copied(solver)
        arrays = {other: array for other, array in model.items() if other != name}
        (run / "model.safetensors").write_bytes(text_of(arrays))
        reseal(run)
        assert "is missing" in refused(run, name)
    run = copied(solver)
    set_tensors(run, extra=np.zeros(3))
    refused(run, "extra")


@pytest.mark.parametrize(
    ("solver", "name", "change"),
    [
        ("gibbs", "levels", lambda a: a[::-1]),
        ("gibbs", "levels", lambda a: a * 0),
        ("gibbs", "thresholds", lambda a: a[:, ::-1]),
        ("gibbs", "scales", lambda a: -a),
        ("gibbs", "noises", lambda a: -a),
        ("sgd", "user_variance", lambda a: -a - 1),
        ("sgd", "item_factors", lambda a: a * np.float32(np.nan)),
    ],
)
def test_values_out_of_order_are_refused(
    copied: Callable[..., Path], solver: str, name: str, change: Callable[[Any], Any]
) -> None:
    run = copied(solver)
    set_tensors(run, **{name: change(tensors_of((run / "model.safetensors").read_bytes())[name])})
    refused(run, name)


BAD = ["3.5", True, None, [], {}, 1e999, -1e999, float("nan"), 10**400, 1e300, "Infinity"]


@pytest.mark.parametrize("name", ["mean", "deviation", "bin_seconds", "rating_range", "noise", "spread_weight", "kind"])
def test_a_fact_of_a_model_that_is_not_a_number_is_refused(copied: Callable[..., Path], name: str) -> None:
    solver = "sgd" if name in ("noise", "spread_weight") else "gibbs"
    bad = [*BAD, 0, -1, 10**30, 0.5] if name in ("deviation", "bin_seconds") else BAD
    bad = [[2, 1], [1], [1, 2, 3], [1, "2"], [True, 2], [None, 2], [1, 1e300], 3] if name == "rating_range" else bad
    bad = [-1.0, *(value for value in bad if value not in (None, 1e300))] if solver == "sgd" else bad
    for value in bad:
        if name == "deviation" and value in (0.5, 10**30):
            continue
        run = copied(solver)
        text = (run / "run.json").read_text()
        facts = json.loads(text)
        facts["fit"]["model"][name] = value
        raw = json.dumps({**facts, "digest": ""}, indent=2).rsplit(",\n", 1)[0].encode()  # with Infinity and NaN
        (run / "run.json").write_bytes(raw + f',\n  "digest": "{hashlib.sha256(raw).hexdigest()}"\n}}\n'.encode())
        refused(run)


def every_field(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all fields with plain values, down to the third level; of a list, only the first entry."""
    if len(path) == 4:
        return [path]
    children = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    return [path, *(found for key, child in children for found in every_field(child, (*path, key)))]


@pytest.mark.slow
@pytest.mark.parametrize("version", FORMATS)
def test_any_field_of_any_type_loads_or_is_refused_by_name(copied: Callable[..., Path], version: str) -> None:
    """A run that loads must also predict numbers."""
    run = copied("gibbs", version)
    whole = (run / "run.json").read_bytes()
    facts = json.loads(whole)
    loaded = 0
    for path in every_field(facts)[1:]:
        value: Any
        for value in (None, "text", True, -1, 2**70, 1e308, [], {}, [[1]], {"a": {}}, "gone"):
            changed = json.loads(whole)
            changed.pop("digest", None)
            at = changed
            if path == ("digest",):
                continue
            for key in path[:-1]:
                at = at[key]
            if value == "gone" and isinstance(at, dict):
                at.pop(path[-1])
            else:
                at[path[-1]] = value
            (run / "run.json").write_bytes(sealed(changed) if version == NEWEST else json.dumps(changed).encode())
            try:
                found = load(run)
            except ArtifactError:
                continue
            loaded += 1
            assert np.isfinite(predicted(found)).all()
    assert loaded > 50  # settings, libraries and the like


def test_deep_or_huge_json_is_refused(copied: Callable[..., Path]) -> None:
    run = copied()
    long_version = '{"format": "recsys_mf run", "version": ' + "9" * 5_000 + "}"
    texts = ["[" * 200_000, '{"a":' * 200_000, "1" * 10_000, long_version, "\xff", "\x00"]
    for text in [*texts, '{"format": "\\u001b]0;title\\u0007"}', '"\\ud800"']:
        (run / "run.json").write_bytes(text.encode("latin-1"))
        refused(run, "run.json")


def table_bytes(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


@pytest.mark.slow
def test_a_vocabulary_that_does_not_fit_the_model_is_refused(copied: Callable[..., Path]) -> None:
    table = pq.read_table(RUNS / NEWEST / "als" / "users.parquet")
    n = len(table)
    ids, counts = table["id"], table["ratings"]
    huge = pa.table({"id": pa.array(["x"]).take(pa.array(np.zeros(20_000_000, np.int8))).cast(pa.large_string()),
                     "ratings": pa.array(np.zeros(20_000_000, np.int64))})  # fmt: skip
    long = pa.table(
        {"id": pa.array([f"{'x' * 10_000_000}{k:02}" for k in range(n)], pa.large_string()), "ratings": counts}
    )
    for name, other in {
        "rows": table.slice(1),
        "more rows": huge,
        "bytes": long,
        "order": pa.table({"id": ids.take(pa.array(range(n)[::-1])), "ratings": counts}),
        "null": pa.table({"id": pa.array([None, *ids.to_pylist()[1:]], pa.large_string()), "ratings": counts}),
        "type": pa.table({"id": pa.array(np.arange(n) + 0.5), "ratings": counts}),
        "negative": pa.table({"id": ids, "ratings": pa.array(np.full(n, -1))}),
        "null count": pa.table({"id": ids, "ratings": pa.array([None] * n, pa.int64())}),
        "columns": pa.table({"id": ids}),
        "one long id": pa.table({"id": pa.array(["x" * 50_000_000] * n, pa.large_string()), "ratings": counts}),
        "not UTF-8": pa.table({"id": pa.array([b"\xff", *map(str.encode, ids.to_pylist()[1:])], pa.large_binary())}),
    }.items():
        run = copied("als")
        (run / "users.parquet").write_bytes(table_bytes(other))
        reseal(run)
        assert refused(run, "users.parquet"), name


def test_pairs_that_the_model_cannot_have_are_refused(copied: Callable[..., Path]) -> None:
    table = pq.read_table(RUNS / NEWEST / "als" / "rated.parquet")
    lists = table["steps"].to_pylist()
    kind = pa.large_list(pa.int32())
    for name, other in {
        "rows": lists[1:],
        "zero": [[0], *lists[1:]],
        "negative": [[3, -1], *lists[1:]],
        "far": [[9], *lists[1:]],
        "overflow": [[2**31 - 1] * 8, *lists[1:]],
        "null": [[None], *lists[1:]],
        "null list": [None, *lists[1:]],
        "many": [[1] * 1_000_000, *lists[1:]],
    }.items():
        run = copied("als")
        (run / "rated.parquet").write_bytes(table_bytes(pa.table({"steps": pa.array(other, kind)})))
        reseal(run)
        assert refused(run, "rated.parquet"), name


def test_an_optional_part_of_a_later_release_is_ignored_and_a_required_one_refused(copied: Callable[..., Path]) -> None:
    run = copied()
    part = {"sha256": "0" * 64, "bytes": 5, "required": False, "more": "said"}
    reseal(run, lambda facts: (facts["parts"].update({"../../etc/passwd": part}), facts.update(news=1)))
    load(run)
    run = copied()
    reseal(run, lambda facts: facts["parts"].update({"shards": part | {"required": True}}))
    text = refused(run, "run.json")
    assert "the run has a part that this release does not know (saw shards); read it with release " in text


def test_a_run_of_a_later_version_is_refused(copied: Callable[..., Path]) -> None:
    run = copied()
    reseal(run, lambda facts: facts.update(version=5))
    assert "the run has another version (saw 5); this release reads versions 3 and 4" in refused(run, "field version")


def test_what_is_not_a_run_is_named(tmp_path: Path) -> None:
    assert "none: no such directory" in refused(tmp_path / "none")
    assert "not a run directory" in refused(tmp_path)
    for name in ("x" * 300, "null\0"):
        with pytest.raises(ArtifactError, match="no such directory"):
            load(tmp_path / name)


@pytest.mark.parametrize("version", FORMATS)
def test_damaged_safetensors_and_parquet_with_right_digests_are_refused(
    copied: Callable[..., Path], version: str
) -> None:
    """The libraries that parse them may raise anything; the error names the file, and nothing crashes."""
    run = copied("gibbs", version)
    rng = np.random.default_rng(1)
    facts = json.loads((run / "run.json").read_text())
    facts.pop("digest", None)
    for part in ("model.safetensors", "users.parquet", "items.parquet", *(["rated.parquet"] * (version == NEWEST))):
        whole = (run / part).read_bytes()
        for _ in range(60):
            data = bytearray(whole)
            for at in rng.integers(len(data), size=3):
                data[at] ^= 1 << int(rng.integers(8))
            (run / part).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            if version == NEWEST:
                facts["parts"][part]["sha256"] = digest
                (run / "run.json").write_bytes(sealed(facts))
            else:
                facts["files"][part] = digest
                (run / "run.json").write_text(json.dumps(facts))
            try:
                found = predicted(load(run))
            except ArtifactError:
                continue
            assert np.isfinite(found).all()
        (run / part).write_bytes(whole)
        if version == NEWEST:
            facts["parts"][part]["sha256"] = hashlib.sha256(whole).hexdigest()
        else:
            facts["files"][part] = hashlib.sha256(whole).hexdigest()
