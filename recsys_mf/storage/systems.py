"""Systems: the file system of pyarrow that reads and writes at an address of S3 or HDFS.

A system is made for one operation and dropped after it: a process that ended while one was held has been seen to hang.
"""

from __future__ import annotations

import configparser
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from recsys_mf.storage.address import Address
from recsys_mf.storage.faults import in_words

_ATTEMPTS = 4  # of a request, with growing pauses: without a network the last fails after some seconds
_CONNECT, _REQUEST = 10, 60  # seconds without an answer


class Opened(NamedTuple):
    """A file system, and what it calls the address."""

    system: Any
    path: str


@contextlib.contextmanager
def written(system: Any, path: str, through: str | None = None) -> Iterator[Any]:
    """A stream that writes a file. Closing a stream completes its file, so one that fails is removed.

    through : the path of the file until it is complete, where others would see it before
    """
    there = through or path
    stream = system.open_output_stream(there, compression=None)
    try:
        yield stream
        stream.close()
        if through is not None:
            _take_place(system, through, path)
    except BaseException:
        with contextlib.suppress(Exception):
            stream.close()
        with contextlib.suppress(Exception):
            system.delete_file(there)
        raise


def _take_place(system: Any, there: str, path: str) -> None:
    """Give a file its final name."""
    if system.type_name == "hdfs":  # whose move replaces nothing
        with contextlib.suppress(FileNotFoundError):
            system.delete_file(path)
    system.move(there, path)


def opened(address: Address) -> Opened:
    """The system of an address of S3 or HDFS. Raises RemoteError if there is none."""
    with in_words(address):
        return _s3(address) if address.scheme == "s3" else _hdfs(address)


def _s3(address: Address) -> Opened:
    """S3, or the store that AWS_ENDPOINT_URL names. The default region is the bucket's, as Amazon reports it."""
    from pyarrow import fs

    endpoint = _setting("endpoint_url", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    region = _setting("region", "AWS_REGION", "AWS_DEFAULT_REGION")
    if region is None:
        region = "us-east-1" if endpoint else fs.resolve_s3_region(address.host)
    system = fs.S3FileSystem(
        endpoint_override=endpoint, region=region, connect_timeout=_CONNECT, request_timeout=_REQUEST,
        background_writes=False,  # they keep in memory all that is not sent yet
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )  # fmt: skip
    return Opened(system, f"{address.host}/{address.path}".rstrip("/"))


def _hdfs(address: Address) -> Opened:
    """The cluster of the address; without a host, the one in Hadoop's own configuration."""
    from pyarrow import fs

    host, _, port = address.host.partition(":")
    system = fs.HadoopFileSystem(f"hdfs://{host}" if host else "default", int(port) if port.isdigit() else 0)
    return Opened(system, f"/{address.path}")


def _setting(name: str, *variables: str) -> str | None:
    """A setting of AWS: from the environment, else from the profile in ~/.aws/config."""
    for variable in variables:
        if os.environ.get(variable):
            return os.environ[variable]
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(os.environ.get("AWS_CONFIG_FILE") or Path("~/.aws/config").expanduser())
    except (configparser.Error, UnicodeDecodeError):
        return None
    profile = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    section = "default" if profile == "default" else f"profile {profile}"
    return parser.get(section, name, fallback=None)
