"""Public data sets against a local server: whole, broken off and gone on with, changed, wrong, and not there."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from recsys_mf.errors import ConfigError, DataError
from recsys_mf.loaders import read_ratings
from recsys_mf.loaders.catalog import Dataset, catalog, fetch

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
    """What the server has and how it behaves, and the requests it saw."""

    content: bytes = field(default_factory=archive)
    etag: str = '"one"'
    ranges: bool = True
    breaks_after: int | None = None
    status: int = 200
    seen: list[str | None] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.seen.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if state.ranges and asked and self.headers.get("If-Range") == state.etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("ETag", state.etag)
            self.send_header("Content-Length", str(len(state.content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            end = len(state.content) if state.breaks_after is None else state.breaks_after
            self.wfile.write(state.content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever)
    thread.start()
    state.address = f"http://127.0.0.1:{http.server_port}/tiny.zip"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def tiny(server: Server) -> dict[str, Dataset]:
    entry = Dataset(
        title="Tiny",
        address=server.address,
        member="tiny/ratings.dat",
        ratings=1200,
        users=40,
        items=30,
        scale=(1.0, 5.0),
        licence="none",
        licence_address="nowhere",
        md5=hashlib.md5(archive(), usedforsecurity=False).hexdigest(),
        md5_source="this test",
    )
    return {"tiny": entry}


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


def test_a_table_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch("tiny", tmp_path, datasets=tiny(server))
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert len(server.seen) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_is_gone_on_with(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.breaks_after, server.ranges = 500, ranges
    with pytest.raises(DataError, match=r"tiny.zip: .*(ended early|broke).* run it again"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    assert (tmp_path / "tiny.zip.part").stat().st_size == 500
    server.breaks_after = None
    told: list[int] = []
    fetch("tiny", tmp_path, datasets=tiny(server), watch=lambda received, total: told.append(received))
    assert server.seen == [None, "bytes=500-"]
    assert told[-1] == len(server.content)
    assert names(tmp_path) == ["tiny.parquet"]


def test_a_part_of_an_older_file_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.content, server.breaks_after, server.etag = b"x" * 1000, 400, '"old"'
    with pytest.raises(DataError, match="run it again"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    server.content, server.breaks_after, server.etag = archive(), None, '"new"'
    fetch("tiny", tmp_path, datasets=tiny(server))
    assert names(tmp_path) == ["tiny.parquet"]


def test_what_is_not_the_published_data_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    known = tiny(server)["tiny"]
    whole = archive()
    other = archive("1::1::5::1000\n")
    for content, entry, message in (
        (other, known, r"not the published archive \(saw MD5 [0-9a-f]{32}\); the published one is"),
        (other, replace(known, md5=None), r"not the published ratings \(saw 1\); it is 1200"),
        (whole, replace(known, users=41), r"not the published users \(saw 40\); it is 41"),
        (whole, replace(known, scale=(0.5, 5.0)), r"not the published scale \(saw \(1.0, 5.0\)\)"),
        (whole, replace(known, member="tiny/u.data"), "no tiny/u.data in the archive"),
        (whole[:-30], replace(known, md5=None), "not a whole zip archive"),
    ):
        server.content = content
        with pytest.raises(DataError, match=message):
            fetch("tiny", tmp_path, datasets={"tiny": entry})
        assert names(tmp_path) == []


def test_a_server_that_has_no_such_file_is_named(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(DataError, match=r"tiny.zip: the server does not give the file \(saw 404 Not Found\)"):
        fetch("tiny", tmp_path, datasets=tiny(server))
    nowhere = replace(tiny(server)["tiny"], address="http://127.0.0.1:1/tiny.zip")
    with pytest.raises(DataError, match=r"http://127.0.0.1:1/tiny.zip: cannot be reached"):
        fetch("tiny", tmp_path, datasets={"tiny": nowhere})


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data set 'ml-1n'; did you mean 'ml-1m'"):
        fetch("ml-1n", tmp_path)
    with pytest.raises(ConfigError, match=r"none: no such folder; make it first"):
        fetch("ml-1m", tmp_path / "none")


def test_the_catalogue_is_complete() -> None:
    known = catalog()
    assert list(known) == ["ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"]
    for entry in known.values():
        assert entry.address.startswith("https://")
        assert entry.licence_address.startswith("https://")
        assert (entry.md5 is None) == (entry.md5_source is None)
        assert entry.md5 is None or (len(entry.md5) == 32 and entry.md5_source.startswith("https://"))  # type: ignore[union-attr]
        assert entry.ratings > entry.users
        assert entry.scale[0] < entry.scale[1]
