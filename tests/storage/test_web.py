"""Tables and runs by http: read, never written; a download goes on where the connection broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import recsys_mf as mf
from recsys_mf.errors import ArtifactError, DataError
from recsys_mf.storage.transfer import Transfer, watched
from tests.trained import small_run

Put = Callable[[str, bytes], str]
CSV = b"user_id,item_id,rating\n" + b"".join(b"%d,%d,4\n" % (row, row % 7) for row in range(100_000))


class _Breaking(BaseHTTPRequestHandler):
    """Sends only a part of what is asked for, and takes up where it is asked to."""

    asked: list[str | None]
    piece = 400_000

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(CSV) - 1}/{len(CSV)}")
        self.send_header("Content-Length", str(len(CSV) - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(CSV[start : start + self.piece])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def breaking() -> Iterator[tuple[str, type[_Breaking]]]:
    """The address of a table on a server whose connections break, and what was asked of it."""
    handler = type("Handler", (_Breaking,), {"asked": []})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}/t.csv", handler
    running.shutdown()
    running.server_close()


def test_a_table_is_read_as_from_a_file(web: Put, tmp_path: Path) -> None:
    told: list[Transfer] = []
    with watched(told.append):
        found = mf.read_ratings(web("a ü/t.csv", CSV))
    (tmp_path / "t.csv").write_bytes(CSV)
    assert found.fingerprint == mf.read_ratings(tmp_path / "t.csv").fingerprint
    assert told[-1].done == told[-1].total == len(CSV)
    assert mf.train(web("a ü/t.csv", CSV), "mean").provenance["train_ratings"] == 100_000


def test_a_run_is_read_by_the_names_that_it_lists(web: Put, tmp_path: Path) -> None:
    mf.save(small_run(), tmp_path / "run")
    for path in (tmp_path / "run").iterdir():
        web(f"run/{path.name}", path.read_bytes())
    address = web("run/note", b"").removesuffix("/note")
    assert mf.load(address).predict(5, 100) == small_run().predict(5, 100)


def test_a_download_goes_on_where_the_connection_broke(breaking: tuple[str, type[_Breaking]]) -> None:
    address, handler = breaking
    assert len(mf.read_ratings(address)) == 100_000
    assert handler.asked == [None, "bytes=400000-", "bytes=800000-"]


def test_a_download_that_breaks_again_and_again_is_one_line(breaking: tuple[str, type[_Breaking]]) -> None:
    address, handler = breaking
    handler.piece = 1000
    message = rf"^{address}: the connection (broke|ended early) \(saw .*\); run the command again$"
    with pytest.raises(DataError, match=message):
        mf.read_ratings(address)
    assert len(handler.asked) == 5


def test_what_cannot_be_read_is_one_line(web: Put) -> None:
    address = web("t.csv", CSV)
    with pytest.raises(
        DataError, match=r"none.csv: the server does not serve the file \(saw 404 .*\); check the address"
    ):
        mf.read_ratings(address.replace("t.csv", "none.csv"))
    with pytest.raises(DataError, match=r"^http://127.0.0.1:9/t.csv: cannot be reached"):
        mf.read_ratings("http://127.0.0.1:9/t.csv")
    with pytest.raises(DataError, match=r"^http://no.such.host.invalid/t.csv: cannot be reached"):
        mf.read_ratings("http://no.such.host.invalid/t.csv")
    with pytest.raises(DataError, match=r"page: a page of HTML or XML"):
        mf.read_ratings(web("page", b"<!DOCTYPE html><html></html>"))
    with pytest.raises(ArtifactError, match=r"/none/run.json: the server does not serve the file"):
        mf.load(address.replace("t.csv", "none"))


def test_nothing_is_written_by_http(web: Put) -> None:
    address = web("t.csv", CSV).replace("t.csv", "run")
    with pytest.raises(ArtifactError, match=rf"^{address}: the web can only be read; .*s3:// or hdfs://"):
        mf.save(small_run(), address)
