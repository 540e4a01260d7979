"""Addresses: the names of files and folders on other machines, distinguished from paths on this one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from recsys_mf.arguments import is_path
from recsys_mf.errors import ConfigError, nearest

SCHEMES = ("s3", "hdfs", "https", "http")
"""What an address may begin with."""

WEB = ("https", "http")
"""Schemes of web servers: files can be read from them, but not written to them."""

LOCAL_ONLY = {
    "checkpoint": "it is rewritten while the training runs, and locked",
    "log": "lines are added to it while the command runs, which a remote store does not allow",
    "state": "fits are added to it while the comparison runs, and it is locked",
    "study": "processes that share it lock it and add to it",
    "folder of a data set": "an interrupted download continues from the part in it",
}
"""What must be on this machine, and why."""

_MARK = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):[\\/]")  # what pathlib makes of an address
_OTHERS = {"s3a": ("s3",), "s3n": ("s3",), "viewfs": ("hdfs",), "webhdfs": ("hdfs",)}


@dataclass(frozen=True)
class Address:
    """An address, as it is typed: s3://bucket/key, hdfs://host:port/path, https://host/path.

    A folder is a prefix of keys that ends at a slash. An S3 key is taken literally; % is no escape in it.
    """

    text: str

    @property
    def scheme(self) -> str:
        """One of SCHEMES."""
        return self.text.partition("://")[0].lower()

    @property
    def host(self) -> str:
        """The bucket of S3, else the host with its port; empty if the address has none."""
        return self.text.partition("://")[2].partition("/")[0]

    @property
    def path(self) -> str:
        """What follows the host, without the slashes around it; of the web without the query."""
        rest = self.text.partition("://")[2].partition("/")[2]
        return unquote(urlsplit(self.text).path).strip("/") if self.is_web else rest.strip("/")

    @property
    def is_web(self) -> bool:
        """Whether it is one of http or https: a file that can be read, and no folder."""
        return self.scheme in WEB

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name, as in pathlib."""
        return PurePath(self.name).suffix

    @property
    def parent(self) -> Address:
        """The folder of a file."""
        return Address(self.text.rstrip("/").rpartition("/")[0])

    def __truediv__(self, name: str) -> Address:
        """The address of a file in this folder."""
        head, mark, query = self.text.partition("?") if self.is_web else (self.text, "", "")
        return Address(f"{head.rstrip('/')}/{name}{mark}{query}")

    def holds(self, other: Address) -> bool:
        """Whether the other address is this one, or is in this folder."""
        return f"{other.text.rstrip('/')}/".startswith(f"{self.text.rstrip('/')}/")

    def __str__(self) -> str:
        return self.text


Place: TypeAlias = Path | Address
"""Where something is: on this machine or at an address."""


def place(path: Any) -> Place:
    """The path or the address that a text, a path or a place names.

    Raises ConfigError for a value that is not a path, for an address with an unknown scheme, without a host, or with a
    password in it, and for an address in a Path, which keeps only one of its slashes.
    """
    if isinstance(path, Address):
        return path
    if not is_path(path):
        raise ConfigError("not a path", seen=type(path).__name__, fix="give a text or a pathlib.Path")
    text = os.fspath(path)
    if isinstance(path, PurePath):
        found = _COLLAPSED.match(text)
        if found is not None and found[1].lower() in SCHEMES and not path.exists():  # type: ignore[attr-defined]
            fix = f"give the text, such as '{found[1]}://…'"
            raise ConfigError("a Path cannot hold an address", where=text, fix=fix)
        return Path(path)
    found = _MARK.match(text) if isinstance(text, str) else None
    if found is None or os.path.lexists(text):
        return Path(text)
    return _checked(Address(text), found[1].lower())


def is_address(path: Any) -> bool:
    """Whether a text looks like an address, of whatever scheme, and no file has this name."""
    if isinstance(path, Address):
        return True
    return isinstance(path, str) and _MARK.match(path) is not None and not os.path.lexists(path)


def on_this_machine(path: Any, what: str) -> Path:
    """The path. Raises ConfigError for an address.

    what : one of LOCAL_ONLY
    """
    if is_address(path):
        fix = "give a path on this machine"
        raise ConfigError(f"the {what} cannot be at an address: {LOCAL_ONLY[what]}", where=str(path), fix=fix)
    there = place(path)
    assert isinstance(there, Path)
    return there


def _checked(address: Address, scheme: str) -> Address:
    if scheme == "file":
        raise ConfigError("a file on this machine", where=address.text, fix="give its path, without file://")
    if scheme not in SCHEMES:
        fix = nearest(scheme, SCHEMES, _OTHERS)
        raise ConfigError(f"unknown kind of address '{scheme}://'", where=address.text, fix=fix)
    if "@" in address.host:
        where = f"{scheme}://…@{address.host.rpartition('@')[2]}"
        fix = "leave it out: it would be kept in the run"
        fix = f"{fix}; HADOOP_USER_NAME names the user" if scheme == "hdfs" else fix
        raise ConfigError("a name or a password in the address", where=where, fix=fix)
    if scheme != "hdfs" and not address.host:
        what = "no bucket" if scheme == "s3" else "no host"
        raise ConfigError(f"{what} in the address", where=address.text, fix=f"write {scheme}://{what[3:]}/…")
    return address
