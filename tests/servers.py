"""A server of S3 (moto's) and one of http on this machine, with their addresses; the environment points to them."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

BUCKET = "bucket"


class Bucket(NamedTuple):
    """A bucket of the server.

    url : of the server
    client : boto3's, to look into it by other means than those that are tested
    """

    url: str
    client: Any

    def names(self, prefix: str = "") -> list[str]:
        """The keys of all files; not of the marks of folders, which end in a slash."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found if not entry["Key"].endswith("/")]

    def get(self, key: str) -> bytes:
        """The bytes of a file."""
        read: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return read

    def put(self, key: str, data: bytes) -> str:
        """Write a file; returns its address."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/{key}"


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of moto's server."""
    moto = pytest.importorskip("moto.server", reason="needs moto's server of S3")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of AWS but those of a test."""

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return


@pytest.fixture
def s3(server: str, environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    client = boto3.client("s3", endpoint_url=server, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    yield Bucket(server, client)
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Callable[[str, bytes], str]]:
    """Puts a file on a server of http; returns its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    Thread(target=running.serve_forever, daemon=True).start()

    def put(name: str, data: bytes) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return f"http://127.0.0.1:{running.server_address[1]}/{name}"

    yield put
    running.shutdown()
    running.server_close()


def parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    import pyarrow.parquet as pq

    with io.BytesIO() as file:
        pq.write_table(table, file)
        return file.getvalue()
