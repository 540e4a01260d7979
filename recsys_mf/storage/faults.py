"""Faults: the errors of stores on the network, as one line that says what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recsys_mf.errors import RemoteError
from recsys_mf.storage.address import Address

_AWS = re.compile(r"AWS Error ([A-Z_]+) during (\w+) operation(?:: (.*))?")
_REQUEST = re.compile(r"\s*\(Request ID: [^)]*\)")
_REFUSED = ("ACCESS_DENIED",)
_NOT_ACCEPTED = (
    "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID", "UNRECOGNIZED_CLIENT",
    "INVALID_SIGNATURE", "MISSING_AUTHENTICATION_TOKEN", "REQUEST_EXPIRED", "REQUEST_TIME_TOO_SKEWED",
)  # fmt: skip
_SOURCES = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


@contextmanager
def in_words(address: Address) -> Iterator[None]:
    """Turn what pyarrow raises about an address into a RemoteError."""
    import pyarrow as pa

    try:
        yield
    except RemoteError:
        raise
    except FileNotFoundError:
        raise missing(address) from None
    except (OSError, pa.ArrowException) as error:
        raise _fault(address, str(error)) from error


def missing(address: Address) -> RemoteError:
    """The error that there is nothing at an address."""
    fix = "check the name, and that it was written there"
    return RemoteError("no such file or folder", where=str(address), fix=fix)


def no_bucket(address: Address) -> RemoteError:
    """The error that the bucket of an address does not exist."""
    fix = "check its name: the address is s3://BUCKET/KEY"
    return RemoteError(f"there is no bucket '{address.host}'", where=str(address), fix=fix)


def _fault(address: Address, text: str) -> RemoteError:
    if address.scheme == "hdfs":
        return _of_hdfs(address, text)
    found, where = _AWS.search(text.replace("\n", " ")), str(address)
    if found is None:
        return RemoteError("the store refuses", where=where, seen=text.splitlines()[0], fix="try again later")
    code, operation, said = found[1], found[2], _REQUEST.sub("", found[3] or "").strip()
    seen = f"{code} in {operation}" if not said or said.startswith("No response body") else said
    if code == "NO_SUCH_BUCKET" or (code == "RESOURCE_NOT_FOUND" and operation == "HeadBucket"):
        return no_bucket(address)
    if code in ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND"):
        return missing(address)
    if code in _NOT_ACCEPTED:
        fix = "renew them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        return RemoteError("the credentials are not accepted", where=where, seen=seen, fix=fix)
    if code in _REFUSED:
        if has_credentials():
            fix = f"ask for permission ({operation}), or set AWS_PROFILE to one that has it"
            return RemoteError("no permission, or wrong credentials", where=where, seen=seen, fix=fix)
        fix = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile in ~/.aws"
        return RemoteError("no credentials were found", where=where, seen=seen, fix=fix)
    if code == "NETWORK_CONNECTION":
        fix = "check the network, the host and AWS_ENDPOINT_URL"
        return RemoteError("cannot be reached", where=where, seen=said.rpartition("Details: ")[2] or seen, fix=fix)
    if "region" in said.lower() or "301" in said:
        fix = "set AWS_REGION to the region of the bucket"
        return RemoteError("the bucket is in another region", where=where, seen=seen, fix=fix)
    return RemoteError("the store refuses", where=where, seen=seen, fix="try again later")


def _of_hdfs(address: Address, text: str) -> RemoteError:
    first, where = text.splitlines()[0], str(address)
    if "load lib" in first:
        fix = "install Java and Hadoop's libhdfs, and set JAVA_HOME, HADOOP_HOME and CLASSPATH"
        return RemoteError("HDFS needs a Hadoop client, which is not found", where=where, seen=first, fix=fix)
    fix = "check the host, the port and the permissions; `hdfs dfs -ls` should show it"
    return RemoteError("the cluster refuses", where=where, seen=first, fix=fix)


def has_credentials() -> bool:
    """Whether there are credentials in one of the places where AWS looks, except those of the machine itself."""
    if any(os.environ.get(name) for name in _SOURCES):
        return True
    home = Path("~/.aws").expanduser()
    files = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials",
        os.environ.get("AWS_CONFIG_FILE") or home / "config",
    )
    words = ("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "credential_process")
    for path in map(Path, files):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if any(word in text for word in words):
            return True
    return False
