"""Data sets by name: public ones are downloaded, checked and converted to Parquet; the sample is copied."""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
import shutil
import struct
import tomllib
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from recsys_mf import atomic
from recsys_mf.errors import ConfigError, DataError, ResourceError, nearest, system_errors
from recsys_mf.loaders.reading import read_ratings

if TYPE_CHECKING:
    from recsys_mf.ratings import Ratings

Watcher = Callable[[int, int | None], None]
"""Called after every chunk of a download: bytes received, and bytes in total if the server says."""

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 60  # seconds without an answer
_BYTES_OF_A_RATING = 64  # at most, in an archive or in a table of text


@dataclass(frozen=True)
class Archive:
    """A zip archive on the network.

    address : of the archive; member : path of the rating table in it, in a format that `read_ratings` recognises
    md5 : of the archive; md5_source : where it is published; both None if it is not known
    """

    address: str
    member: str
    md5: str | None = None
    md5_source: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A rating table that can be fetched by name.

    ratings, users, items : how many there are; users and items are those with a rating
    scale : lowest and highest rating
    licence : in one line; licence_address : of its terms
    archive : the archive that holds it; None for the sample, which is shipped with the package
    """

    title: str
    ratings: int
    users: int
    items: int
    scale: tuple[float, float]
    licence: str
    licence_address: str
    archive: Archive | None = None


def catalog() -> dict[str, Dataset]:
    """The data sets by name, in the order of the catalogue."""
    return {name: _entry(fields) for name, fields in tomllib.loads(_shipped("catalog.toml").read_text()).items()}


def sample() -> Path:
    """The shipped sample: 100,000 synthetic ratings; datasets/README.md is its data card."""
    return _shipped("sample.parquet")


def _shipped(name: str) -> Path:
    return Path(str(resources.files("recsys_mf.datasets"))) / name


def _entry(fields: dict[str, Any]) -> Dataset:
    archive = Archive(**fields["archive"]) if "archive" in fields else None
    return Dataset(**fields | {"scale": tuple(fields["scale"]), "archive": archive})


def fetch(
    name: str,
    directory: str | Path,
    *,
    datasets: Mapping[str, Dataset] | None = None,
    watch: Watcher = lambda received, total: None,
) -> Path:
    """Download a data set, check it, write it as NAME.parquet and return the path. The sample is copied.

    directory : an existing folder; if the table exists already, its path is returned at once
    datasets : the data sets to choose from; None for `catalog()`

    The table has columns user_id, item_id, rating, timestamp and the rows of the source in their order. An
    interrupted download leaves NAME.zip.part, and the next call continues it if the server supports that.
    Raises ConfigError for an unknown name or folder; DataError when the address does not answer, or the archive or
    its table is not the published one; ResourceError when the folder cannot be written to.
    """
    datasets = catalog() if datasets is None else datasets
    directory = Path(directory)
    if name not in datasets:
        raise ConfigError(f"no data set '{name}'", fix=nearest(name, datasets))
    if not os.path.isdir(directory):
        raise ConfigError("no such folder", where=str(directory), fix="create it first")
    target = directory / f"{name}.parquet"
    if target.exists():
        return target
    fix = "free some space there, or give another folder"
    with system_errors(ResourceError, "cannot be written to", where=directory, fix=fix):
        _provide(datasets[name], target, watch)
    return target


def _provide(dataset: Dataset, target: Path, watch: Watcher) -> None:
    with atomic.written_file(target, replace=True) as aside:
        if dataset.archive is None:
            shutil.copyfile(sample(), aside)
        else:
            part = _Part(target.with_suffix(".zip.part"))
            _download(dataset.archive.address, part, _most_bytes(dataset), watch)
            try:
                _convert(part.path, dataset.archive, dataset, aside)
            finally:
                part.remove()  # it is converted, or not the published archive: not usable again


def _most_bytes(dataset: Dataset) -> int:
    """More bytes than an archive with this many ratings, or the table in it, can have."""
    return _BYTES_OF_A_RATING * dataset.ratings + (1 << 20)


@dataclass(frozen=True)
class _Part:
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


def _download(address: str, part: _Part, most: int, watch: Watcher) -> None:
    """Fetch the address into the part; if the connection fails, the bytes received so far are kept."""
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
                if max(file.tell(), total or 0) > most:
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
        raise DataError("the server does not serve the file", where=address, seen=seen, fix="try again later") from None
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


def _convert(zipped: Path, archive: Archive, dataset: Dataset, table: Path) -> None:
    """Write the table of an archive as Parquet."""
    _check_sum(zipped, archive)
    ratings = read_ratings(_extracted(zipped, archive, table.parent, _most_bytes(dataset)))
    _check_counts(ratings, dataset, archive.address)
    _write(ratings, table, archive.address)


def _check_sum(zipped: Path, archive: Archive) -> None:
    if archive.md5 is None:
        return
    with zipped.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        fix = f"the published one is {archive.md5} ({archive.md5_source}): run the command again"
        raise DataError("not the published archive", where=archive.address, seen=f"MD5 {found}", fix=fix)


def _extracted(zipped: Path, archive: Archive, folder: Path, most: int) -> str:
    """Path of the table of an archive, unpacked into the folder."""
    table, where = folder / Path(archive.member).name, archive.address
    try:
        with zipfile.ZipFile(zipped) as members, members.open(archive.member) as packed, table.open("wb") as file:
            size = members.getinfo(archive.member).file_size
            if size > most:
                seen = f"{size:,} bytes"
                raise DataError(
                    "the table in the archive is larger than the data set",
                    where=where,
                    seen=seen,
                    fix="check the archive",
                )
            shutil.copyfileobj(packed, file)
    except KeyError:
        raise DataError(f"no {archive.member} in the archive", where=where, fix="list what it contains") from None
    except (RuntimeError, NotImplementedError) as error:  # a password, a method
        raise DataError("the archive cannot be unpacked", where=where, seen=error, fix="check the archive") from None
    except (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, struct.error) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; bzip2's has none
            raise
        raise DataError(
            "the zip archive is incomplete or damaged", where=where, seen=error, fix="run the command again"
        ) from None
    return str(table)


def _check_counts(ratings: Ratings, dataset: Dataset, where: str) -> None:
    found = {"ratings": len(ratings), "users": ratings.n_users, "items": ratings.n_items, "scale": ratings.rating_range}
    for name, value in found.items():
        published = getattr(dataset, name)
        if value != published:
            raise DataError(f"not the published {name}", where=where, seen=value, fix=f"it should be {published}")


def _write(ratings: Ratings, path: Path, where: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if ratings.times is None:
        raise DataError("the table has no timestamps", where=where, fix="check the archive")

    columns = {
        "user_id": ratings.user_vocabulary.ids(ratings.users),
        "item_id": ratings.item_vocabulary.ids(ratings.items),
        "rating": ratings.values,
        "timestamp": ratings.times,
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
