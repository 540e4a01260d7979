"""Data sets by name: public ones are downloaded, checked and converted to Parquet; the sample is copied."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mf import atomic
from recsys_mf.errors import ConfigError, DataError, ResourceError, nearest, system_errors
from recsys_mf.loaders.reading import read_ratings
from recsys_mf.storage import on_this_machine, web
from recsys_mf.storage.web import Watcher

if TYPE_CHECKING:
    from recsys_mf.ratings import Ratings

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
    directory = on_this_machine(directory, "folder of a data set")
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
            part = web.Part(target.with_suffix(".zip.part"))
            web.download(dataset.archive.address, part, _most_bytes(dataset), watch)
            try:
                _convert(part.path, dataset.archive, dataset, aside)
            finally:
                part.remove()  # it is converted, or not the published archive: not usable again


def _most_bytes(dataset: Dataset) -> int:
    """An upper limit of the bytes of an archive with this many ratings, and of the table in it."""
    return _BYTES_OF_A_RATING * dataset.ratings + (1 << 20)


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
