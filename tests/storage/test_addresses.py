"""Addresses: what is one, what its parts are, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_mf.errors import ConfigError
from recsys_mf.storage import Address, place
from recsys_mf.storage.reading import _pattern


@pytest.mark.parametrize("path", ["a/b.csv", "C:/a", "a:b", "", "-", "s3:/x", "x//y", "17,42", "rated"])
def test_a_path_stays_a_path(path: str) -> None:
    assert place(path) == Path(path)


def test_a_file_whose_name_looks_like_an_address_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "x").write_text("")
    assert place("s3://x") == Path("s3:/x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://b/a/t.csv", ("s3", "b", "a/t.csv", "t.csv", ".csv")),
        ("s3://b/100%/a b?#.parquet", ("s3", "b", "100%/a b?#.parquet", "a b?#.parquet", ".parquet")),
        ("S3://b/run/", ("s3", "b", "run", "run", "")),
        ("hdfs://host:9000/a/t", ("hdfs", "host:9000", "a/t", "t", "")),
        ("hdfs:///a", ("hdfs", "", "a", "a", "")),
        ("https://h/a/t.csv?sig=1/2#x", ("https", "h", "a/t.csv", "t.csv", ".csv")),
        ("https://h/a%20b.csv", ("https", "h", "a b.csv", "a b.csv", ".csv")),
    ],
)
def test_the_parts_of_an_address(text: str, parts: tuple[str, ...]) -> None:
    found = place(text)
    assert isinstance(found, Address)
    assert (found.scheme, found.host, found.path, found.name, found.suffix) == parts
    assert str(found) == text


def test_a_file_in_a_folder() -> None:
    assert str(Address("s3://b/run/") / "run.json") == "s3://b/run/run.json"
    assert str(Address("https://h/run?key=1") / "run.json") == "https://h/run/run.json?key=1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "s4://b/x",
            r"s4://b/x: unknown kind of address 's4://'; did you mean 's3'\? \(valid: s3, hdfs, http",
        ),
        ("s3a://b/x", r"did you mean 's3'"),
        ("ftp://h/x", r"ftp://h/x: unknown kind of address 'ftp://'"),
        ("file:///x", r"a file on this machine; give its path, without file://"),
        ("s3:///x", r"s3:///x: no bucket in the address; write s3://bucket/…"),
        ("https:///x", r"no host in the address"),
        ("https://me:secret@h/x", r"^https://…@h: a name or a password in the address; leave it out"),
        ("hdfs://me@h/x", r"^hdfs://…@h: a name or a password in the address; .*; HADOOP_USER_NAME names the user"),
    ],
)
def test_a_wrong_address_is_told_what_to_type(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        place(text)
    assert "secret" not in str(caught.value)


def test_an_address_in_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"s3:/b/run: a Path cannot hold an address; give the text, such as 's3://…'"):
        place(Path("s3://b/run"))


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("part-*.csv", "part-01.csv", True),
        ("part-*.csv", "x/part-01.csv", False),
        ("**/part-?.csv", "x/y/part-1.csv", True),
        ("**/part-?.csv", "part-1.csv", True),
        ("part-?.csv", "part-12.csv", False),
        ("[0-9]*.csv", "1x.csv", True),
        ("[!0-9]*.csv", "1x.csv", False),
        ("a.csv", "abcsv", False),
        ("year=*/x", "year=2020/x", True),
    ],
)
def test_globs(glob: str, path: str, matches: bool) -> None:
    assert bool(_pattern(glob).fullmatch(path)) is matches
