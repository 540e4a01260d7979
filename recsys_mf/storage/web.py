"""Web: files by http and https, received part by part, and continued where a connection broke."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from recsys_mf.errors import DataError

Watcher = Callable[[int, int | None], None]
"""Called after every chunk of a download: bytes received, and bytes in total if the server says."""

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 60  # seconds without an answer
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "give an address that needs no login",
    HTTPStatus.FORBIDDEN: "give an address that needs no login, or a signed one that is still valid",
    HTTPStatus.NOT_FOUND: "check the address",
    HTTPStatus.GONE: "check the address",
}


@dataclass(frozen=True)
class Part:
    """The part of a file that was received, and next to it the version of the file, for If-Range."""

    path: Path

    @property
    def version(self) -> Path:
        """The file with the version."""
        return self.path.with_name(f"{self.path.name}.version")

    def continuation(self) -> dict[str, str]:
        """Headers that ask for the rest of the file, or for the whole file if it has changed."""
        size = self.path.stat().st_size if self.path.exists() else 0
        known = self.version.read_text(errors="replace") if self.version.exists() else ""
        asks = size and known and known.isascii() and known.isprintable()
        return {"Range": f"bytes={size}-", "If-Range": known} if asks else {}

    def remove(self) -> None:
        """Remove both files."""
        self.path.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def download(address: str, part: Part, most: int | None, watch: Watcher) -> None:
    """Fetch the address into the part; if the connection fails, the bytes received so far are kept.

    most : bytes that the file can have, None for any number
    """
    asked = part.continuation()
    with contextlib.closing(_opened(address, asked)) as response:
        try:
            start, length = _start(response, asked), _length(response)
        except ValueError as error:
            part.remove()
            raise _unusable(address, error) from None
        with part.path.open("ab") as file:
            file.truncate(start)
            file.seek(0, os.SEEK_END)
            part.version.write_text(_version(response))
            total = None if length is None else start + length
            for chunk in _chunks(response, address):
                file.write(chunk)
                watch(file.tell(), total)
                if most is not None and max(file.tell(), total or 0) > most:
                    part.remove()
                    seen = f"more than {most:,} bytes"
                    raise DataError(
                        "the file is larger than the data set",
                        where=address,
                        seen=seen,
                        fix="check what the address serves",
                    )
            received = file.tell()
    if total is not None and received != total:
        seen = f"{received:,} of {total:,} bytes"
        raise DataError("the connection ended early", where=address, seen=seen, fix="run the command again to resume")


def answers(address: str) -> bool:
    """Whether the server has a file at the address. Raises DataError if that cannot be determined."""
    try:
        _opened(address, {}).close()
    except DataError as error:
        if str(error.seen)[:3] in ("404", "410"):
            return False
        raise
    return True


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections only to http and https."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        try:
            address = urljoin(req.full_url, headers.get("Location", ""))
            if not address.startswith(("http://", "https://")):
                raise ValueError(f"redirected to {address}")
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _opened(address: str, headers: Mapping[str, str]) -> Any:
    """The response to a request; if the server has nothing beyond the part, to a request for the whole file."""
    fix = "check the network and run the command again"
    try:
        request = urllib.request.Request(address, headers=dict(headers))
        return urllib.request.build_opener(_Redirections).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
            return _opened(address, {})
        seen = f"{error.code} {' '.join(str(error.reason).split())}"
        fix = _ADVICE.get(error.code, "try again later")
        raise DataError("the server does not serve the file", where=address, seen=seen, fix=fix) from None
    except urllib.error.URLError as error:
        raise DataError("cannot be reached", where=address, seen=error.reason, fix=fix) from None
    except (OSError, HTTPException) as error:
        raise DataError("cannot be reached", where=address, seen=repr(error), fix=fix) from None
    except ValueError as error:  # the address is not valid
        raise _unusable(address, error) from None


def _unusable(address: str, error: ValueError) -> DataError:
    return DataError("the server's answer is not valid", where=address, seen=error, fix="try again later")


def _start(response: Any, asked: Mapping[str, str]) -> int:
    """Byte of the file at which a response starts. Raises ValueError if it is not the byte asked for."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    header = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", header)
    if found is None or asked.get("Range") != f"bytes={int(found[1])}-":
        raise ValueError(f"Content-Range {header!r}")
    return int(found[1])


def _length(response: Any) -> int | None:
    """Number of bytes that the response announces. Raises ValueError if that is not a number."""
    header = response.headers.get("Content-Length")
    if header is None:
        return None
    if re.fullmatch(r"\d{1,18}", header) is None:
        raise ValueError(f"Content-Length {header!r}")
    return int(header)


def _version(response: Any) -> str:
    """Strong ETag of a file, else its date; empty if there is neither, so that a download starts again."""
    etag = response.headers.get("ETag", "")
    return str(etag if etag.startswith('"') else response.headers.get("Last-Modified", ""))


def _chunks(response: Any, address: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException, ValueError) as error:
        raise DataError(
            "the connection broke", where=address, seen=repr(error), fix="run the command again to resume"
        ) from None
