"""Safetensors over mapped bytes: as the library reads them, and nothing that is not such a file."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as written

from recsys_mf.errors import DataError
from recsys_mf.store import load, save
from recsys_mf.store.tensors import read_tensors
from tests.trained import factor_run, posterior_run

ARRAYS: dict[str, Any] = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "doubles": np.array([1.5, -2.5]),
    "halves": np.ones(3, np.float16),
    "small": np.array([[1], [-2]], np.int16),
    "longs": np.array([1 << 60], np.int64),
    "bytes": np.array([1, 255], np.uint8),
    "flags": np.array([True, False, True]),
    "none": np.zeros((0, 5), np.float32),
    "scalar": np.array(3.0, np.float32),
}


def test_arrays_are_read_as_the_library_writes_them() -> None:
    found = read_tensors(written(ARRAYS, metadata={"run": "x"}))
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_arrays_that_are_not_aligned_are_copied() -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    while len(header) % 4 != 1:
        header += b" "
    found = read_tensors(len(header).to_bytes(8, "little") + header + np.float32(2.5).tobytes())["a"]
    assert found.tolist() == [2.5]
    assert found.flags.aligned


def file_of(header: object, values: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def entry(dtype: object = "F32", shape: object = (1,), place: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the header is longer than the file"),
    "short": (b"\1\0\0", "the header is longer than the file"),
    "long header": ((1 << 60).to_bytes(8, "little") + b"{}", "the header is longer than the file"),
    "list": (file_of([]), "the header is not a JSON object"),
    "type": (file_of({"a": entry("F31")}, bytes(4)), "a: an array of another type"),
    "no entry": (file_of({"a": None}), "a: an array of another type"),
    "shape": (file_of({"a": entry(shape=[-1])}, bytes(4)), "a: an array without a shape or place"),
    "true": (file_of({"a": entry(shape=[True])}, bytes(4)), "a: an array without a shape or place"),
    "place": (file_of({"a": entry(place=[0])}, bytes(4)), "a: an array without a shape or place"),
    "beyond": (file_of({"a": entry()}, bytes(3)), "a: an array of another size than its place"),
    "size": (file_of({"a": entry(shape=[2])}, bytes(4)), "a: an array of another size than its place"),
    "huge": (file_of({"a": entry(shape=[1 << 62] * 9)}, bytes(4)), "a: an array of another size than its place"),
    "rest": (file_of({"a": entry()}, bytes(5)), "the arrays do not fill the file"),
    "gap": (file_of({"a": entry(place=[4, 8])}, bytes(8)), "arrays overlap or leave a gap"),
    "twice": (file_of({"a": entry(), "b": entry()}, bytes(4)), "arrays overlap or leave a gap"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_such_a_file_is_refused(name: str) -> None:
    data, words = WRONG[name]
    with pytest.raises(DataError, match=words):
        read_tensors(data)


@pytest.mark.parametrize("mapped", [True, False])
def test_a_loaded_run_stays_when_its_directory_is_replaced(tmp_path: Path, mapped: bool) -> None:
    run = factor_run()
    save(run, tmp_path / "run")
    loaded = load(tmp_path / "run", mapped=mapped)
    expected = loaded.predict([5, 8], [100, 102]).tobytes()
    save(posterior_run(), tmp_path / "run", force=True)
    assert loaded.predict([5, 8], [100, 102]).tobytes() == expected


def test_a_copied_run_needs_its_files_no_more(tmp_path: Path) -> None:
    save(factor_run(), tmp_path / "run")
    loaded = load(tmp_path / "run", mapped=False)
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    assert loaded.predict([5, 8], [100, 102]).tobytes() == factor_run().predict([5, 8], [100, 102]).tobytes()


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def _loaded_elsewhere(directory: str) -> bool:
    load(directory)
    run = load(directory)
    return "model.safetensors" in mapped_files() and run.model.n_users > 0


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc/self/maps")
def test_processes_share_the_pages_of_a_model(tmp_path: Path) -> None:
    save(factor_run(), tmp_path / "run")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_loaded_elsewhere, [str(tmp_path / "run")])
