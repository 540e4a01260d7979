"""Public data sets by name: downloaded, checked and converted to Parquet. The list is datasets/catalog.toml."""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import ConfigError, DataError, ResourceError, nearest
from recsys_mf.loaders.reading import read_ratings

if TYPE_CHECKING:
    from recsys_mf.ratings import Ratings

Watcher = Callable[[int, int | None], None]
"""Told of a download after every chunk: bytes that are there, and bytes in all where the server says."""

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Dataset:
    """A public data set: an archive with a rating table, and what the table holds.

    address : of the zip archive; member : path of the table in it, in a format that `read_ratings` recognises
    ratings, users, items : how many must be there after conversion; items are those with a rating
    scale : lowest and highest rating
    licence : in one line; licence_address : where its terms are
    md5 : of the archive, and md5_source : where that is published; None where it is not known
    """

    title: str
    address: str
    member: str
    ratings: int
    users: int
    items: int
    scale: tuple[float, float]
    licence: str
    licence_address: str
    md5: str | None = None
    md5_source: str | None = None


def catalog() -> dict[str, Dataset]:
    """The public data sets by name, in the order of the catalogue."""
    from recsys_mf.datasets import CATALOG

    with CATALOG.open("rb") as file:
        entries = tomllib.load(file)
    return {name: Dataset(**entry | {"scale": tuple(entry["scale"])}) for name, entry in entries.items()}


def fetch(
    name: str,
    directory: str | Path,
    *,
    datasets: Mapping[str, Dataset] | None = None,
    watch: Watcher = lambda received, total: None,
) -> Path:
    """Download a data set, check it and write it as NAME.parquet; the path of that file.

    directory : an existing folder; a table that is there already is returned at once
    datasets : where the name is looked up, `catalog()` where None

    The table has columns user_id, item_id, rating, timestamp and the rows of the source in their order. An
    interrupted download leaves NAME.zip.part, and the next call goes on from there where the server can.
    Raises ConfigError for an unknown name or folder; DataError when the address does not answer, or the archive or
    its table is not the published one; ResourceError when the folder cannot be written to.
    """
    datasets = catalog() if datasets is None else datasets
    directory = Path(directory)
    if name not in datasets:
        raise ConfigError(f"no data set '{name}'", fix=nearest(name, datasets))
    if not directory.is_dir():
        raise ConfigError("no such folder", where=str(directory), fix="make it first")
    target = directory / f"{name}.parquet"
    if target.exists():
        return target
    archive = directory / f"{name}.zip"
    try:
        if not archive.exists():
            _download(datasets[name].address, archive, watch)
        _convert(archive, datasets[name], target)
    except OSError as error:
        fix = "make room there, or give another folder"
        raise ResourceError("cannot be written to", where=str(directory), seen=error, fix=fix) from error
    return target


def _download(address: str, archive: Path, watch: Watcher) -> None:
    """Fetch the address into the archive; what is received before a failure stays beside it, as .part."""
    part = archive.with_name(f"{archive.name}.part")
    version = part.with_name(f"{part.name}.version")  # what If-Range compares: which file the part is of
    part.touch()
    with _opened(address, _continuation(part, version)) as response, part.open("r+b") as file:
        file.truncate(_start(response))
        file.seek(0, os.SEEK_END)
        version.write_text(_version(response))
        length = response.headers.get("Content-Length")
        total = None if length is None else file.tell() + int(length)
        for chunk in _chunks(response, address):
            file.write(chunk)
            watch(file.tell(), total)
        received = file.tell()
    if total is not None and received != total:
        seen = f"{received:,} of {total:,} bytes"
        raise DataError("the connection ended early", where=address, seen=seen, fix="run it again")
    part.replace(archive)
    version.unlink()


def _continuation(part: Path, version: Path) -> dict[str, str]:
    """Headers that ask for the rest of the part, or for all of the file if it is another by now."""
    size, known = part.stat().st_size, version.read_text() if version.exists() else ""
    return {"Range": f"bytes={size}-", "If-Range": known} if size and known else {}


def _opened(address: str, headers: Mapping[str, str]) -> Any:
    """The response to a request; to one for all of the file where the server has nothing beyond the part."""
    fix = "check the network and run it again"
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers)), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
            return _opened(address, {})
        seen = f"{error.code} {error.reason}"
        raise DataError("the server does not give the file", where=address, seen=seen, fix="try again later") from None
    except urllib.error.URLError as error:
        raise DataError("cannot be reached", where=address, seen=error.reason, fix=fix) from None
    except (OSError, HTTPException) as error:
        raise DataError("cannot be reached", where=address, seen=repr(error), fix=fix) from None


def _start(response: Any) -> int:
    """Byte of the file at which a response starts."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    return int(response.headers["Content-Range"].removeprefix("bytes ").split("-")[0])


def _version(response: Any) -> str:
    """Strong ETag or else the date of a file; empty where there is neither, so that a download starts over."""
    etag = response.headers.get("ETag", "")
    return str(etag if etag.startswith('"') else response.headers.get("Last-Modified", ""))


def _chunks(response: Any, address: str) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise DataError("the connection broke", where=address, seen=repr(error), fix="run it again") from None


def _convert(archive: Path, dataset: Dataset, target: Path) -> None:
    """Write the table of an archive as Parquet; the archive is not needed after, nor if it is not the published one."""
    try:
        _check_sum(archive, dataset)
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as aside:
            ratings = read_ratings(_extracted(archive, dataset, aside))
            _check_counts(ratings, dataset)
            _write(ratings, Path(aside, target.name))
            Path(aside, target.name).replace(target)
    except DataError:
        archive.unlink()
        raise
    archive.unlink()


def _check_sum(archive: Path, dataset: Dataset) -> None:
    if dataset.md5 is None:
        return
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != dataset.md5:
        fix = f"the published one is {dataset.md5} ({dataset.md5_source}): run it again"
        raise DataError("not the published archive", where=dataset.address, seen=f"MD5 {found}", fix=fix)


def _extracted(archive: Path, dataset: Dataset, directory: str) -> str:
    """Path of the table of an archive, unpacked into the directory."""
    try:
        with zipfile.ZipFile(archive) as members:
            return members.extract(dataset.member, directory)
    except KeyError:
        what, seen = f"no {dataset.member} in the archive", None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        what, seen = "not a whole zip archive", error
    raise DataError(what, where=dataset.address, seen=seen, fix="run it again")


def _check_counts(ratings: Ratings, dataset: Dataset) -> None:
    found = {"ratings": len(ratings), "users": ratings.n_users, "items": ratings.n_items, "scale": ratings.rating_range}
    for name, value in found.items():
        published = getattr(dataset, name)
        if value != published:
            raise DataError(f"not the published {name}", where=dataset.address, seen=value, fix=f"it is {published}")


def _write(ratings: Ratings, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "user_id": ratings.user_vocabulary.ids(ratings.users),
        "item_id": ratings.item_vocabulary.ids(ratings.items),
        "rating": ratings.values,
        "timestamp": ratings.times,
    }
    pq.write_table(pa.table(columns), path, compression="zstd")
