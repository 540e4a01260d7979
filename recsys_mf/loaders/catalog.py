"""Data sets by name: public ones are downloaded, checked and converted to Parquet, the sample is copied."""

from __future__ import annotations

import hashlib
import os
import shutil
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

from recsys_mf import atomic
from recsys_mf.errors import ConfigError, DataError, ResourceError, nearest
from recsys_mf.loaders.reading import read_ratings

if TYPE_CHECKING:
    from recsys_mf.ratings import Ratings

Watcher = Callable[[int, int | None], None]
"""Told of a download after every chunk: bytes that are there, and bytes in all where the server says."""

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Archive:
    """A zip archive on the network.

    address : of the archive; member : path of the rating table in it, in a format that `read_ratings` recognises
    md5 : of the archive, and md5_source : where that is published; None where it is not known
    """

    address: str
    member: str
    md5: str | None = None
    md5_source: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A rating table that can be had by name.

    ratings, users, items : how many there are; users and items are those with a rating
    scale : lowest and highest rating
    licence : in one line; licence_address : where its terms are
    archive : where it is; None for the sample, which is shipped with the package
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
    """Download a data set, check it and write it as NAME.parquet; the path of that file. The sample is copied.

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
    try:
        _provide(datasets[name], target, watch)
    except OSError as error:
        fix = "make room there, or give another folder"
        raise ResourceError("cannot be written to", where=str(directory), seen=error, fix=fix) from error
    return target


def _provide(dataset: Dataset, target: Path, watch: Watcher) -> None:
    with atomic.written_file(target, replace=True) as aside:
        if dataset.archive is None:
            shutil.copyfile(sample(), aside)
        else:
            zipped = target.with_suffix(".zip")
            if not zipped.exists():
                _download(dataset.archive.address, zipped, watch)
            _convert(zipped, dataset.archive, dataset, aside)


def _download(address: str, archive: Path, watch: Watcher) -> None:
    """Fetch the address into the archive; what is received before a failure stays beside it, as .part."""
    part = archive.with_name(f"{archive.name}.part")
    version = part.with_name(f"{part.name}.version")  # what If-Range compares: which file the part is of
    with _opened(address, _continuation(part, version)) as response, part.open("ab") as file:
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
    size = part.stat().st_size if part.exists() else 0
    known = version.read_text() if version.exists() else ""
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


def _convert(zipped: Path, archive: Archive, dataset: Dataset, table: Path) -> None:
    """Write the table of an archive as Parquet; the zip is not needed after, nor if it is not the published one."""
    try:
        _check_sum(zipped, archive)
        ratings = read_ratings(_extracted(zipped, archive, table.parent))
        _check_counts(ratings, dataset, archive.address)
    except DataError:
        zipped.unlink()
        raise
    _write(ratings, table)
    zipped.unlink()


def _check_sum(zipped: Path, archive: Archive) -> None:
    if archive.md5 is None:
        return
    with zipped.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        fix = f"the published one is {archive.md5} ({archive.md5_source}): run it again"
        raise DataError("not the published archive", where=archive.address, seen=f"MD5 {found}", fix=fix)


def _extracted(zipped: Path, archive: Archive, folder: Path) -> str:
    """Path of the table of an archive, unpacked into the folder."""
    try:
        with zipfile.ZipFile(zipped) as members:
            return members.extract(archive.member, folder)
    except KeyError:
        raise DataError(f"no {archive.member} in the archive", where=archive.address, fix="see what it holds") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError("not a whole zip archive", where=archive.address, seen=error, fix="run it again") from None


def _check_counts(ratings: Ratings, dataset: Dataset, where: str) -> None:
    found = {"ratings": len(ratings), "users": ratings.n_users, "items": ratings.n_items, "scale": ratings.rating_range}
    for name, value in found.items():
        published = getattr(dataset, name)
        if value != published:
            raise DataError(f"not the published {name}", where=where, seen=value, fix=f"it is {published}")


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
