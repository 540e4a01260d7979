"""Tables and runs in S3, against a server on this machine: what is read, what is written, and what can go wrong."""

from __future__ import annotations

import gc
import gzip
import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import recsys_mf as mf
from recsys_mf import store, streaming
from recsys_mf.errors import ArtifactError, ConfigError, DataError, RecsysError, RemoteError, ResourceError
from recsys_mf.storage import Address, reading, systems, writing
from recsys_mf.storage.transfer import Transfer, watched
from recsys_mf.store.layout import WRITTEN
from tests.servers import BUCKET, Bucket, parquet
from tests.trained import small_run

CSV = b"user_id,item_id,rating\n1,10,4\n2,10,3.5\n2,11,5\n"
JSON = b'{"user_id": 1, "item_id": 10, "rating": 4}\n{"user_id": 2, "item_id": 11, "rating": 5}\n'


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A temporary folder of the test's own; nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert not list(folder.iterdir())


def table(*rows: tuple[int, int, float]) -> pa.Table:
    users, items, ratings = zip(*rows, strict=True)
    return pa.table({"user_id": users, "item_id": items, "rating": ratings})


def zipped(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("ratings.csv", data)
        return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data", "n"),
    [
        ("t.csv", CSV, 3),
        ("t.csv.gz", gzip.compress(CSV), 3),
        ("t.zip", zipped(CSV), 3),
        ("t.jsonl", JSON, 2),
        ("t.parquet", parquet(table((1, 10, 4.0), (2, 11, 5.0))), 2),
        ("100% of ü?#[1].csv", CSV, 3),
    ],
)
def test_a_table_of_every_format_is_read_as_from_a_file(
    s3: Bucket, tmp_path: Path, name: str, data: bytes, n: int
) -> None:
    address = s3.put(f"a/{name}", data)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / name).write_bytes(data)
    there, here = mf.read_ratings(address), mf.read_ratings(tmp_path / "here" / name)
    assert len(there) == n
    assert there.fingerprint == here.fingerprint


def test_a_tree_of_parquet_files_keeps_its_keys_and_leaves_hidden_files_out(s3: Bucket) -> None:
    for year in (2020, 2021):
        s3.put(f"tree/year={year}/part-0.parquet", parquet(table((year, 1, 4.0), (year, 2, 3.0))))
    s3.put("tree/_SUCCESS", b"")
    s3.put("tree/_delta_log/0.json", b"{}")
    s3.put("tree/empty.parquet", b"")
    s3.put("tree2/part.parquet", parquet(table((1, 1, 1.0))))
    for address in (
        "s3://bucket/tree",
        "s3://bucket/tree/",
        "s3://bucket/tree/**/*.parquet",
        "s3://bucket/tree/year=*/*",
    ):
        found = mf.read_ratings(address, time_column="year")
        assert sorted(found.user_vocabulary.ids(found.users).to_pylist()) == [2020, 2020, 2021, 2021], address
        assert found.times is not None


def test_faults_of_a_table_name_its_address(s3: Bucket) -> None:
    bad = parquet(pa.table({"user_id": [1, 2], "item_id": [3, 4], "rating": [1.0, None]}))
    s3.put("tree/a.parquet", parquet(table((1, 1, 4.0))))
    s3.put("tree/b.parquet", bad)
    with pytest.raises(DataError, match=r"^s3://bucket/tree, column rating, s3://bucket/tree/b.parquet, row 1: null"):
        mf.read_ratings("s3://bucket/tree")
    s3.put("bad.csv", b"user_id,item_id,rating\n1,2,x\n")
    with pytest.raises(DataError, match=r"^s3://bucket/bad.csv, column rating"):
        mf.read_ratings("s3://bucket/bad.csv")
    s3.put("mixed/a.csv", CSV)
    s3.put("mixed/b.parquet", parquet(table((1, 1, 4.0))))
    with pytest.raises(
        DataError, match=r"^s3://bucket/mixed: the files have different formats .*'s3://bucket/mixed/\*"
    ):
        mf.read_ratings("s3://bucket/mixed")
    s3.put("cut.parquet", bad[:-20])
    with pytest.raises(DataError, match=r"^s3://bucket/cut.parquet: cannot be read as Parquet"):
        mf.read_ratings("s3://bucket/cut.parquet")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://bucket/none.csv", "^s3://bucket/none.csv: no such file or folder; check the name"),
        ("s3://nobucket/t.csv", "^s3://nobucket/t.csv: there is no bucket 'nobucket'"),
        ("s3://bucket/none/*.csv", "^s3://bucket/none/[*].csv: no such file or folder"),
        ("s3://bucket/*.csv", "^s3://bucket/[*].csv: no such file or folder"),
        ("s3://bucket", "^s3://bucket: no table in the folder"),
    ],
)
def test_what_is_not_there_is_one_line(s3: Bucket, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mf.read_ratings(address)


def test_a_key_that_leads_out_of_the_folder_is_refused(s3: Bucket, tmp_path: Path) -> None:
    for name in ("a/../../../out.csv", "a/./x.csv"):
        with pytest.raises(OSError, match="a name that no file can have here"):
            reading._inside(tmp_path, name, Address("s3://bucket/a"))


def test_a_run_comes_back_bit_for_bit(s3: Bucket) -> None:
    run = small_run()
    mf.save(run, "s3://bucket/models/run")
    assert {key.removeprefix("models/run/") for key in s3.names()} == {*WRITTEN} - {"report.json"}
    for address in ("s3://bucket/models/run", "s3://bucket/models/run/"):
        loaded = mf.load(address)
        for name, array in run.fit.model.arrays().items():
            assert np.array_equal(array, loaded.fit.model.arrays()[name]), name
        assert store.load_provenance(address) == loaded.provenance
        assert loaded.predict(5, 100) == run.predict(5, 100)


def test_a_run_that_stands_is_replaced_only_with_force(s3: Bucket) -> None:
    run = small_run()
    mf.save(run, "s3://bucket/run")
    before = {key: s3.get(key) for key in s3.names()}
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run: the directory holds a run already; .*--force"):
        mf.save(run, "s3://bucket/run")
    assert {key: s3.get(key) for key in s3.names()} == before
    mf.save(run, "s3://bucket/run", force=True, keep_rated=False)
    assert "run/rated.parquet" not in s3.names()
    assert mf.load("s3://bucket/run").rated is None
    s3.put("run/notes.txt", b"mine")
    with pytest.raises(ArtifactError, match=r"files that do not belong to the run \(saw notes.txt\)"):
        mf.save(run, "s3://bucket/run", force=True)
    s3.put("other/notes.txt", b"mine")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/other: the directory exists and is not a run"):
        mf.save(run, "s3://bucket/other", force=True)
    with pytest.raises(ArtifactError, match=r"^s3://bucket/other/notes.txt: this is a file"):
        mf.save(run, "s3://bucket/other/notes.txt", force=True)


def test_run_json_is_sent_last_and_removed_first(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    send, remove = writing._send, writing._remove

    def noted_send(address: Any, *rest: Any) -> None:
        calls.append(f"send {address.name}")
        send(address, *rest)

    def noted_remove(address: Any, names: Any) -> None:
        calls.extend(f"remove {name}" for name in names)
        remove(address, names)

    monkeypatch.setattr(writing, "_send", noted_send)
    monkeypatch.setattr(writing, "_remove", noted_remove)
    mf.save(small_run(), "s3://bucket/run")
    assert calls[-1] == "send run.json"
    calls.clear()
    mf.save(small_run(), "s3://bucket/run", force=True)
    assert calls[0] == "remove run.json"
    assert calls[-1] == "send run.json"


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["model.safetensors", "run.json"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_run_that_cannot_be_sent_is_kept_here_and_leaves_nothing_there(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, temporary: Path, failing: str, replaces: bool
) -> None:
    if replaces:
        mf.save(small_run(), "s3://bucket/run")
    send = writing._send

    def broken(address: Any, path: Path, count: Any) -> None:
        if path.name == failing:
            raise RemoteError("cannot be reached", where=str(address), seen="cable", fix="check the network")
        send(address, path, count)

    monkeypatch.setattr(writing, "_send", broken)
    message = rf"^s3://bucket/run/{failing}: not sent: cannot be reached \(saw cable\); the output is kept in (\S+/run)"
    with pytest.raises(ArtifactError, match=message) as caught:
        mf.save(small_run(), "s3://bucket/run", force=replaces)
    (kept,) = temporary.glob("*/run")
    assert str(kept) in str(caught.value)
    assert mf.load(kept).predict(5, 100) == small_run().predict(5, 100)
    assert "run/run.json" not in s3.names()
    if not replaces:
        assert s3.names() == []
    with pytest.raises(ArtifactError, match=r"run.json: no such file"):
        mf.load("s3://bucket/run")
    shutil.rmtree(kept.parent)


def test_a_run_that_appeared_meanwhile_is_left_and_the_new_one_is_kept_here(
    s3: Bucket, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    from recsys_mf.store import saving

    write = saving._write

    def overtaken(run: Any, folder: Path, *rest: Any, **named: Any) -> None:
        write(run, folder, *rest, **named)
        s3.put("run/notes.txt", b"mine")

    monkeypatch.setattr(saving, "_write", overtaken)
    with pytest.raises(
        ArtifactError,
        match=r"^s3://bucket/run: not sent: the directory exists and is not a run; the output is kept in ",
    ):
        mf.save(small_run(), "s3://bucket/run")
    (kept,) = temporary.glob("*/run")
    assert mf.load(kept).predict(5, 100) == small_run().predict(5, 100)
    assert s3.names("run/") == ["run/notes.txt"]
    shutil.rmtree(kept.parent)


def test_what_was_left_of_a_run_is_replaced_with_force(s3: Bucket) -> None:
    s3.put("run/model.safetensors", b"half")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run: the directory holds a part of a run; .*--force"):
        mf.save(small_run(), "s3://bucket/run")
    mf.save(small_run(), "s3://bucket/run", force=True)
    assert mf.load("s3://bucket/run").predict(5, 100) == small_run().predict(5, 100)


def test_a_damaged_run_is_told_by_its_address(s3: Bucket) -> None:
    mf.save(small_run(), "s3://bucket/run")
    whole = s3.get("run/model.safetensors")
    s3.put("run/model.safetensors", whole[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run/model.safetensors: changed since the run was written"):
        mf.load("s3://bucket/run")
    s3.client.delete_object(Bucket=BUCKET, Key="run/model.safetensors")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run/model.safetensors: no such file"):
        mf.load("s3://bucket/run")
    s3.put("run/run.json", b"{}")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run/run.json, field format: not a run of recsys_mf"):
        mf.load("s3://bucket/run")


def test_a_run_that_is_replaced_while_it_is_loaded_is_loaded_again(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_mf.store import loading

    mf.save(small_run(), "s3://bucket/run")
    load, calls = loading._loaded, []

    def replaced(folder: Path, *, mapped: bool) -> Any:
        calls.append(folder)
        if len(calls) == 1:
            raise ArtifactError("changed since the run was written")
        return load(folder, mapped=mapped)

    monkeypatch.setattr(loading, "_loaded", replaced)
    assert mf.load("s3://bucket/run").predict(5, 100) == small_run().predict(5, 100)
    assert len(calls) == 2


def test_files_are_written_whole_or_not_at_all(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    mf.save(small_run(), "s3://bucket/run")
    run = mf.load("s3://bucket/run")
    pairs = s3.put("pairs.csv", b"user,item\n5,100\n1,2\n")
    streaming.predict_file(run, pairs, "s3://bucket/out/p.csv", streaming.Wanted())
    assert s3.get("out/p.csv").decode().splitlines()[0] == "user,item,prediction,known"
    with pytest.raises(ConfigError, match=r"^s3://bucket/out/p.csv: the file exists; give another name, or --force"):
        streaming.predict_file(run, pairs, "s3://bucket/out/p.csv", streaming.Wanted())
    s3.put("bad.csv", b"user,item\n5,100\n,2\n")
    with pytest.raises(RecsysError):
        streaming.predict_file(run, "s3://bucket/bad.csv", "s3://bucket/out/q.csv", streaming.Wanted())
    assert s3.names("out/") == ["out/p.csv"]
    with pytest.raises(ConfigError, match="unknown file type"):
        streaming.predict_file(run, pairs, "s3://bucket/out/p.xlsx", streaming.Wanted())


def test_a_stream_that_fails_leaves_no_file(s3: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(12 << 20))

    class Stopped(BaseException):
        pass

    def stop(transfer: Transfer) -> None:
        if transfer.done > 8 << 20:
            raise Stopped

    monkeypatch.setattr(writing, "BLOCK", 1 << 20)
    with (
        pytest.raises(Stopped),
        watched(stop),
        writing.written_file(Address("s3://bucket/f"), replace=False) as path,
    ):
        path.write_bytes(big.read_bytes())
    assert s3.names() == []


def test_a_write_is_not_ahead_of_what_is_sent(s3: Bucket) -> None:
    """A stream that writes in the background keeps in memory what the network does not take: of a long file, all."""
    system = systems.opened(Address("s3://bucket/f")).system
    assert system.__reduce__()[1][0]["background_writes"] is False


def test_who_watches_is_told_every_byte(s3: Bucket) -> None:
    told: list[Transfer] = []
    for number in range(3):
        s3.put(f"tree/{number}.csv", CSV)
    with watched(told.append):
        mf.read_ratings("s3://bucket/tree", duplicates="last")
    assert told[-1] == Transfer("downloading", "s3://bucket/tree", 3 * len(CSV), 3 * len(CSV))


def test_a_copy_that_has_no_room_is_one_line(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    address = s3.put("t.csv", CSV)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(
        ResourceError, match=r"^s3://bucket/t.csv: no room for a copy in .*set TMPDIR to a folder with more"
    ):
        mf.read_ratings(address)


@pytest.mark.parametrize("refused", ["http://127.0.0.1:9", "http://no.such.host.invalid"])
@pytest.mark.slow
def test_a_server_that_does_not_answer_is_one_line(s3: Bucket, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", refused)
    fix = "check the network, the host and AWS_ENDPOINT_URL"
    with pytest.raises(DataError, match=rf"^s3://bucket/t.csv: cannot be reached \(saw .*\); {fix}"):
        mf.read_ratings("s3://bucket/t.csv")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run/run.json: cannot be reached"):
        mf.load("s3://bucket/run")
    with pytest.raises(ArtifactError, match=r"^s3://bucket/run: cannot be reached"):
        mf.save(small_run(), "s3://bucket/run")


def test_hdfs_without_a_client_is_one_line() -> None:
    with pytest.raises(DataError, match=r"^hdfs://host:9000/t.csv: HDFS needs a Hadoop client, which is not found"):
        mf.read_ratings("hdfs://host:9000/t.csv")
    with pytest.raises(ArtifactError, match="install Java and Hadoop's libhdfs"):
        mf.save(small_run(), "hdfs://host:9000/run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint", "state", "study", "catalog"])
def test_what_must_be_here_says_why(name: str) -> None:
    from recsys_mf.comparison import compare
    from recsys_mf.loaders.catalog import fetch, sample
    from recsys_mf.training import Checkpoint

    calls: dict[str, Any] = {
        "checkpoint": lambda: Checkpoint("s3://bucket/c"),
        "state": lambda: compare(str(sample()), ["mean", "bias"], state="s3://bucket/c"),
        "study": lambda: mf.tune(str(sample()), "sgd", trials=1, study="s3://bucket/c"),
        "catalog": lambda: fetch("sample", "s3://bucket/c"),
    }
    with pytest.raises(ConfigError, match=r"^s3://bucket/c: the .* cannot be at an address: .*; give a path on this"):
        calls[name]()
