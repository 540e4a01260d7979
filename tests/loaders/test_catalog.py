"""Public data sets from a local server: complete, interrupted and resumed, changed, wrong, and missing."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from recsys_mf.cli.datasets import datasets
from recsys_mf.errors import ConfigError, DataError, ResourceError
from recsys_mf.loaders import read_ratings
from recsys_mf.loaders.catalog import Archive, Dataset, catalog, fetch, sample

LINES = "".join(
    f"{user}::{item}::{1 + (user * item) % 5}::{1000 + user}\n" for user in range(1, 41) for item in range(1, 31)
)


def archive(lines: str = LINES, member: str = "tiny/ratings.dat") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as members:
        members.writestr(zipfile.ZipInfo(member), lines)
    return packed.getvalue()


@dataclass
class Server:
    """What the server has, how it behaves, and the requests that it received."""

    content: bytes = field(default_factory=archive)
    etag: str = '"one"'
    ranges: bool = True
    breaks_after: int | None = None
    status: int = 200
    reason: str | None = None
    headers: dict[str, str | None] = field(default_factory=dict)  # instead of the right ones; None to leave one out
    endless: bool = False
    seen: list[str | None] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.seen.append(asked)
            if state.status not in (200, 206):
                self.send_response(state.status, state.reason)
                for name, value in state.headers.items():
                    self.send_header(name, str(value))
                self.end_headers()
                return
            start = 0
            if state.ranges and asked and self.headers.get("If-Range") == state.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start == len(state.content):
                self.send_error(416)
                return
            self.send_response(206 if start else state.status)
            headers: dict[str, str | None] = {
                "ETag": state.etag, "Content-Length": str(len(state.content) - start)
            }  # fmt: skip
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(state.content) - 1}/{len(state.content)}"
            for name, value in (headers | state.headers).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            while state.endless:
                try:
                    self.wfile.write(b"x" * 65536)
                except OSError:
                    return
            end = len(state.content) if state.breaks_after is None else state.breaks_after
            self.wfile.write(state.content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}/tiny.zip"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def tiny(server: Server, **changes: Any) -> dict[str, Dataset]:
    """A catalogue of what the server has, with changes to the archive or to what it should contain."""
    digest = hashlib.md5(archive(), usedforsecurity=False).hexdigest()
    where = {"address": server.address, "member": "tiny/ratings.dat", "md5": digest, "md5_source": "this test"}
    holds: dict[str, Any] = {"ratings": 1200, "users": 40, "items": 30, "scale": (1.0, 5.0)}
    where |= {name: value for name, value in changes.items() if name in where}
    holds |= {name: value for name, value in changes.items() if name in holds}
    return {"tiny": Dataset("Tiny", **holds, licence="none", licence_address="nowhere", archive=Archive(**where))}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_data_set_becomes_a_table_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch("tiny", tmp_path, datasets=tiny(server), watch=lambda *progress: told.append(progress))
    assert names(tmp_path) == ["tiny.parquet"]
    assert told[-1] == (len(server.content), len(server.content))
    ratings = read_ratings(path)
    assert (len(ratings), ratings.n_users, ratings.n_items) == (1200, 40, 30)
    assert ratings.times is not None
    assert ratings.values[:3].tolist() == [2, 3, 4]


def test_an_existing_table_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch("tiny", tmp_path, datasets=tiny(server))
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert len(server.seen) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.breaks_after, server.ranges = 500, ranges
    with pytest.raises(DataError, match=r"tiny.zip: .*(ended early|broke).* run the command again"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    assert (tmp_path / "tiny.zip.part").stat().st_size == 500
    server.breaks_after = None
    told: list[int] = []
    fetch("tiny", tmp_path, datasets=tiny(server), watch=lambda received, total: told.append(received))
    assert server.seen == [None, "bytes=500-"]
    assert told[-1] == len(server.content)
    assert names(tmp_path) == ["tiny.parquet"]


def test_a_partial_download_of_an_older_file_is_not_resumed(server: Server, tmp_path: Path) -> None:
    server.content, server.breaks_after, server.etag = b"x" * 1000, 400, '"old"'
    with pytest.raises(DataError, match="run the command again"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    server.content, server.breaks_after, server.etag = archive(), None, '"new"'
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == ["tiny.parquet"]


def test_what_is_not_the_published_data_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    whole, other = archive(), archive("1::1::5::1000\n")
    for content, changes, message in (
        (other, {}, r"not the published archive \(saw MD5 [0-9a-f]{32}\); the published one is"),
        (other, {"md5": None}, r"not the published ratings \(saw 1\); it should be 1200"),
        (whole, {"users": 41}, r"not the published users \(saw 40\); it should be 41"),
        (whole, {"scale": (0.5, 5.0)}, r"not the published scale \(saw \(1.0, 5.0\)\)"),
        (whole, {"member": "tiny/u.data"}, "no tiny/u.data in the archive"),
        (whole[:-30], {"md5": None}, "the zip archive is incomplete or damaged"),
    ):
        server.content = content
        with pytest.raises(DataError, match=message):
            fetch("tiny", tmp_path, datasets=tiny(server, **changes))
        assert names(tmp_path) == []


ODD: dict[str, tuple[int, dict[str, str | None], str]] = {
    "length in words": (200, {"Content-Length": "many"}, "Content-Length 'many'"),
    "length below zero": (200, {"Content-Length": "-5"}, "Content-Length '-5'"),
    "length without end": (200, {"Content-Length": "9" * 30}, "Content-Length '999"),
    "length of a disk": (200, {"Content-Length": "1000000000000"}, "the file is larger than the data set"),
    "range unasked": (206, {"Content-Range": "bytes 1000000000000-"}, "Content-Range 'bytes 1000000000000-'"),
    "range from elsewhere": (206, {"Content-Range": "bytes 7-9/10"}, "Content-Range 'bytes 7-9/10'"),
    "range missing": (206, {}, "Content-Range ''"),
    "redirected to a file": (302, {"Location": "file:///etc/passwd"}, "file:///etc/passwd"),
    "redirected to data": (302, {"Location": "data:text/plain,x"}, "data:text/plain,x"),
    "redirected to ftp": (302, {"Location": "ftp://127.0.0.1/x"}, "redirected to ftp://127.0.0.1/x"),
    "redirected to nowhere": (302, {"Location": "http://["}, "the server's answer is not valid"),
    "redirected in a circle": (302, {"Location": "/tiny.zip"}, "302"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_a_one_line_error_and_the_next_call_starts_again(
    server: Server, tmp_path: Path, name: str
) -> None:
    server.status, server.headers, message = ODD[name]
    with pytest.raises(DataError) as caught:
        fetch("tiny", tmp_path, datasets=tiny(server))
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert names(tmp_path) == []
    server.status, server.headers = 200, {}
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == ["tiny.parquet"]


@pytest.mark.parametrize("length", [None, "60000"])
def test_a_body_that_does_not_end_is_cut_off(server: Server, tmp_path: Path, length: str | None) -> None:
    server.endless, server.headers = True, {"Content-Length": length}
    with pytest.raises(DataError, match=r"larger than the data set \(saw more than|not the published archive"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == []


def test_a_partial_download_that_does_not_fit_the_rest_is_not_used_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.zip.part").write_bytes(b"x" * 500)
    (tmp_path / "tiny.zip.part.version").write_text(server.etag)
    with pytest.raises(DataError, match="not the published archive"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == []
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert server.seen == ["bytes=500-", None]


@pytest.mark.parametrize("version", [b"\xff\x00", "é".encode(), b"a\r\nX: y", b"\xe2\x82\xac"])
def test_a_version_that_is_not_a_valid_header_is_not_sent(server: Server, tmp_path: Path, version: bytes) -> None:
    (tmp_path / "tiny.zip.part").write_bytes(b"x" * 500)
    (tmp_path / "tiny.zip.part.version").write_bytes(version)
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == ["tiny.parquet"]


def test_an_archive_of_the_user_is_neither_used_nor_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.zip").write_text("mine")
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert (tmp_path / "tiny.zip").read_text() == "mine"
    assert names(tmp_path) == ["tiny.parquet", "tiny.zip"]


def changed(field: int, value: bytes) -> bytes:
    """The archive with bytes changed at this place in the headers of its member."""
    whole = bytearray(archive())
    for start, shift in ((whole.index(b"PK\x03\x04"), 0), (whole.index(b"PK\x01\x02"), 2)):
        whole[start + field + shift : start + field + shift + len(value)] = value
    return bytes(whole)


def compressed(method: int) -> bytes:
    """The archive compressed with another method, with a byte of the data flipped."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as members:
        members.writestr("tiny/ratings.dat", LINES)
    whole = bytearray(packed.getvalue())
    whole[60] ^= 255
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(6, b"\x01"), "cannot be unpacked"),  # encrypted
        (changed(8, b"\x5d"), "cannot be unpacked"),  # method 93
        (changed(8, b"\x63"), "cannot be unpacked"),  # method 99
        (compressed(zipfile.ZIP_BZIP2), "the zip archive is incomplete or damaged"),
        (compressed(zipfile.ZIP_LZMA), "the zip archive is incomplete or damaged"),
        (compressed(zipfile.ZIP_DEFLATED), "the zip archive is incomplete or damaged"),
        (archive("x" * 3_000_000), "the table in the archive is larger than the data set|larger than the data set"),
        (archive("".join("::".join(line.split("::")[:3]) + "\n" for line in LINES.splitlines())), "."),
        (archive(""), "."),
        (archive("\x00\x1b[31m" * 100), "."),
    ],
    ids=range(10),
)
def test_an_archive_that_is_not_as_expected_is_a_one_line_error(
    server: Server, tmp_path: Path, content: bytes, message: str
) -> None:
    server.content = content
    with pytest.raises(DataError, match=message) as caught:
        fetch("tiny", tmp_path, datasets=tiny(server, md5=None))
    assert str(caught.value).isprintable()
    assert names(tmp_path) == []


def test_the_reason_that_a_server_gives_is_escaped(server: Server, tmp_path: Path) -> None:
    server.status, server.reason = 503, "\x1b]0;owned\x07"
    with pytest.raises(DataError, match=r"saw 503 \\x1b\]0;owned\\x07"):
        fetch("tiny", tmp_path, datasets=tiny(server))


def test_a_server_that_does_not_give_the_file_is_named(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=r"tiny.zip: the server does not serve the file \(saw 404 Not Found\)"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    with pytest.raises(DataError, match=r"http://127.0.0.1:1/tiny.zip: cannot be reached"):
        fetch("tiny", tmp_path, datasets=tiny(server, address="http://127.0.0.1:1/tiny.zip"))
    assert names(tmp_path) == []


def test_a_partial_download_that_is_already_complete_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.zip.part").write_bytes(server.content)
    (tmp_path / "tiny.zip.part.version").write_text(server.etag)
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert server.seen == [f"bytes={len(server.content)}-", None]
    assert names(tmp_path) == ["tiny.parquet"]


def test_a_folder_that_cannot_be_written_to_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.zip.part").mkdir()
    with pytest.raises(ResourceError, match=f"{tmp_path}: cannot be written to .*; free some space there"):
        fetch("tiny", tmp_path, datasets=tiny(server))


def test_unknown_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'ml-1n'; did you mean 'ml-1m'"):
        fetch("ml-1n", tmp_path)
    with pytest.raises(ConfigError, match=r"none: no such folder; create it first"):
        fetch("ml-1m", tmp_path / "none")


def test_the_sample_is_copied_and_an_older_one_kept(tmp_path: Path) -> None:
    path = fetch("sample", tmp_path)
    assert path.read_bytes() == sample().read_bytes()
    entry, ratings = catalog()["sample"], read_ratings(path)
    assert (entry.ratings, entry.users, entry.items) == (len(ratings), ratings.n_users, ratings.n_items)
    assert entry.scale == ratings.rating_range
    (tmp_path / "sample.parquet").write_text("mine")
    assert fetch("sample", tmp_path).read_text() == "mine"


def test_the_command_line_lists_and_fetches(tmp_path: Path) -> None:
    listed = CliRunner().invoke(datasets, ["list"]).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["name", *catalog()]
    as_json = json.loads(CliRunner().invoke(datasets, ["list", "--json"]).stdout)
    assert as_json["ml-1m"]["ratings"] == 1_000_209
    fetched = CliRunner().invoke(datasets, ["fetch", "sample", "-o", str(tmp_path)])
    assert fetched.stdout.splitlines()[0] == str(tmp_path / "sample.parquet")
    assert "licence: CC0" in fetched.stdout
    assert fetched.stderr == ""


def test_the_catalogue_is_complete() -> None:
    known = catalog()
    movielens = ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"]
    assert list(known) == ["sample", *movielens]
    assert known["sample"].archive is None
    for name in movielens:
        entry, archive = known[name], known[name].archive
        assert archive is not None
        assert archive.address.startswith("https://")
        assert entry.licence_address.startswith("https://")
        assert (archive.md5 is None) == (archive.md5_source is None)
        assert archive.md5 is None or (len(archive.md5) == 32 and str(archive.md5_source).startswith("https://"))
        assert entry.ratings > entry.users
        assert entry.scale[0] < entry.scale[1]
