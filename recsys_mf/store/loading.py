"""Loading: every file of a run is read once, and the bytes that were checked are the bytes that are parsed."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from recsys_mf import __version__, memory, strict_json
from recsys_mf.conversion.arrow import plain_numbers
from recsys_mf.errors import ArtifactError, DataError, RecsysError, ResourceError, system_errors
from recsys_mf.models import Fit, RatedPairs
from recsys_mf.models.fit import as_of_today
from recsys_mf.run import Run
from recsys_mf.storage import Address, Place, place
from recsys_mf.storage.reading import copied_files, exists, renamed
from recsys_mf.store import facts as checks
from recsys_mf.store.layout import (
    BASELINES,
    FACTS,
    FORMAT,
    ITEMS,
    MODEL,
    MODELS,
    OPTIONAL,
    RATED,
    REQUIRED,
    USERS,
    VERSION,
    is_sealed,
)
from recsys_mf.store.tensors import read_tensors
from recsys_mf.vocabulary import Vocabulary

_Bytes = TypeVar("_Bytes", bytes, bytes | mmap.mmap)
_AGAIN = "train the run again"
_ATTEMPTS, _MISSING_ATTEMPTS, _PAUSE = 50, 3, 0.005  # retries while a writer replaces the run; the pause in seconds
_SENT_ATTEMPTS = 5  # the same at an address, where a copy takes longer
_ALONE = "load it while no program writes to it"
_KNOWN = (*REQUIRED, *OPTIONAL)
_MAX_FACTS = 1 << 28  # bytes of run.json


def load(directory: str | Place, *, mapped: bool = True) -> Run:
    """The run of a directory, bit for bit as it was saved.

    directory : a folder, or the address of one: its files are then copied to a temporary folder, which is removed with
        the run
    mapped : the arrays of models stay in their files, mapped into memory, so that processes share them; if False, and
        on Windows, they are copied. `save` never writes into files that are mapped; no other program must write to them
    While another process replaces the run, the old or the new one is returned. Raises ArtifactError naming the file,
    and the field, when the directory is missing, foreign, of another version, incomplete, changed since it was written
    or inconsistent; ResourceError when it does not fit in memory.
    """
    there = place(directory)
    if isinstance(there, Address):
        return _loaded_from(there, mapped=mapped)
    directory = there
    for attempt in range(_ATTEMPTS):
        before = _identity(directory)
        try:
            return _loaded(directory, mapped=mapped)
        except ArtifactError:
            replaced = _identity(directory) != before
            if not replaced and not (before is None and attempt < _MISSING_ATTEMPTS):
                raise
        time.sleep(_PAUSE)
    raise ArtifactError("the run was replaced repeatedly while it was read", where=str(directory), fix=_ALONE)


def load_provenance(directory: str | Place) -> Mapping[str, Any]:
    """The record of a run (`training.provenance`), from run.json alone. Raises ArtifactError as `load` does."""
    there = place(directory)
    with contextlib.ExitStack() as stack:
        folder = _copied(there, (FACTS,), stack) if isinstance(there, Address) else there
        provenance: Mapping[str, Any] = _facts(folder)["provenance"]
    return provenance


def is_run(directory: str | Place) -> bool:
    """Whether there is a run, complete or not. Raises ArtifactError if that cannot be determined."""
    there = place(directory)
    if not isinstance(there, Address):
        return (there / FACTS).is_file()
    with _of_address(there):
        return exists(there / FACTS)


def _loaded_from(address: Address, *, mapped: bool) -> Run:
    """The run at an address. If it is replaced during the copy, its files do not match, and it is copied again."""
    before = b""
    for _ in range(_SENT_ATTEMPTS):
        with contextlib.ExitStack() as stack:
            folder = _copied(address, (FACTS,), stack)
            facts = (folder / FACTS).read_bytes()
            names = _facts(folder)["parts"]
            try:
                folder = _copied(address, (FACTS, *(name for name in names if name in _KNOWN)), stack)
                return _loaded(folder, mapped=mapped)
            except ArtifactError:
                if facts == before:
                    raise
                before = facts
    raise ArtifactError("the run was replaced repeatedly while it was read", where=str(address), fix=_ALONE)


def _copied(address: Address, names: Sequence[str], stack: contextlib.ExitStack) -> Path:
    """A temporary folder with files of the address; within the stack, errors about it are about the address."""
    with _of_address(address):
        copy = copied_files(address, names)
    stack.callback(copy.remove)
    stack.enter_context(renamed(copy.path, address))
    return copy.path


def _of_address(address: Address) -> contextlib.AbstractContextManager[None]:
    fix = "give a directory that `recsys-mf train` wrote"
    return system_errors(ArtifactError, "cannot be read", where=address, fix=fix)


def _identity(directory: Path) -> tuple[int, ...] | None:
    """The identity of a run.json file, to notice if it is replaced; None if there is none."""
    try:
        found = os.stat(directory / FACTS)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _loaded(directory: Path, *, mapped: bool) -> Run:
    facts = _facts(directory)
    data = _Files(directory, facts["parts"], mapped=mapped and os.name == "posix")
    path = directory / MODEL
    with _reading(path):
        fit = fit_of(facts["fit"], data.tensors(MODEL))
        shape = fit.model.n_users, fit.model.n_items
    with _reading(directory / BASELINES):
        baselines = _baselines(facts["baselines"], data.tensors(BASELINES), shape)
    users, user_counts = _vocabulary(data, USERS, shape[0], facts["users_fingerprint"])
    items, item_counts = _vocabulary(data, ITEMS, shape[1], facts["items_fingerprint"])
    for name in OPTIONAL:  # files that are not parsed here are checked too
        if name in facts["parts"] and name != RATED:
            data.read(name)
    return Run(
        fit=fit,
        baselines=baselines,
        baseline=facts["baseline"],
        user_vocabulary=users,
        item_vocabulary=items,
        user_counts=user_counts,
        item_counts=item_counts,
        provenance=facts["provenance"],
        rated=_rated(data, shape) if RATED in facts["parts"] else None,
    )


def _facts(directory: Path) -> dict[str, Any]:
    """The contents of run.json, checked; version 3 is converted to this version."""
    path = directory / FACTS
    if not os.path.isfile(path):
        what = "not a run directory" if os.path.exists(directory) else "no such directory"
        raise ArtifactError(what, where=str(directory), fix="give a directory that `recsys-mf train` wrote")
    with _reading(path):
        text = _bytes(path, most=_MAX_FACTS)
        facts = strict_json.from_text(text)
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        if found != FORMAT:
            where = f"{path}, field format"
            raise ArtifactError(
                "not a run of recsys_mf", where=where, seen=_short(found), fix=f"it should be {FORMAT!r}"
            )
        version = facts.get("version")
        if version not in (3, VERSION) or isinstance(version, bool):
            fix = f"this release reads versions 3 and {VERSION}: {_AGAIN}"
            where = f"{path}, field version"
            raise ArtifactError("the run has another version", where=where, seen=_short(version), fix=fix)
        if version == VERSION and not is_sealed(text):
            raise ArtifactError("changed since the run was written", where=str(path), fix=f"restore it or {_AGAIN}")
        facts = _of_version_3(facts) if version == 3 else facts
        checks.check(facts)
        _check_parts(facts, path)
        return facts


def _of_version_3(facts: dict[str, Any]) -> dict[str, Any]:
    """Convert version 3, which had only the digests of the files, all of them required."""
    files = facts.get("files")
    listed = files if isinstance(files, dict) else {}
    return facts | {"parts": {name: {"sha256": digest, "required": True} for name, digest in listed.items()}}


def _check_parts(facts: Mapping[str, Any], path: Path) -> None:
    for name in REQUIRED:
        if name not in facts["parts"]:
            raise DataError("missing", where=f"field parts, {name}")
    for name, part in facts["parts"].items():
        if part["required"] and name not in (*REQUIRED, *OPTIONAL):
            libraries = facts["provenance"].get("libraries")
            writer = libraries.get("recsys_mf") if isinstance(libraries, dict) else None
            fix = f"read it with release {_short(writer)}, which wrote it; this is {__version__}"
            raise ArtifactError(
                "the run has a part that this release does not know", where=str(path), seen=_short(name), fix=fix
            )


class _Files:
    """The files of a run directory, each opened once and compared with its entry in run.json.

    mapped : tensors are mapped into memory
    """

    def __init__(self, directory: Path, parts: Mapping[str, Mapping[str, Any]], *, mapped: bool) -> None:
        self.directory, self._parts, self._mapped = directory, parts, mapped

    def read(self, name: str) -> bytes:
        """The bytes of a part."""
        return self._checked(name, _bytes)

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        """The arrays of a safetensors part."""
        return read_tensors(self._checked(name, _mapped) if self._mapped else self.read(name))

    def _checked(self, name: str, take: Callable[..., _Bytes]) -> _Bytes:
        path, part = self.directory / name, self._parts[name]
        with _reading(path):
            data = take(path, size=part.get("bytes"))
        found = hashlib.sha256(data).hexdigest()
        if found != part["sha256"]:
            fix = f"run.json has {_short(part['sha256'], 12)}…: restore it or {_AGAIN}"
            seen = f"SHA-256 {found[:12]}…"
            raise ArtifactError("changed since the run was written", where=str(path), seen=seen, fix=fix)
        return data


def _bytes(path: Path, *, size: int | None = None, most: int | None = None) -> bytes:
    """The bytes of a regular file. Raises ArtifactError if its size is not the known one, or is above `most`."""
    with _opened(path, size=size, most=most) as (file, found):
        return file.read(found)


def _mapped(path: Path, *, size: int | None = None) -> bytes | mmap.mmap:
    """The bytes of a regular file, mapped into memory: processes that map it share them."""
    with _opened(path, size=size) as (file, found):
        return mmap.mmap(file.fileno(), found, access=mmap.ACCESS_READ) if found else b""


@contextlib.contextmanager
def _opened(path: Path, *, size: int | None = None, most: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size. Raises ArtifactError if that is not the known one, or is above `most`."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ArtifactError("a file of the run is missing", where=str(path), fix=f"restore it or {_AGAIN}") from None
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise ArtifactError("not a regular file", where=str(path), fix=f"restore it or {_AGAIN}")
    with open(handle, "rb") as file:
        if (size is not None and found.st_size != size) or (most is not None and found.st_size > most):
            seen = f"{found.st_size:,} bytes"
            fix = f"run.json has {size:,}: restore it or {_AGAIN}" if size is not None else _AGAIN
            raise ArtifactError("changed since the run was written", where=str(path), seen=seen, fix=fix)
        yield file, found.st_size


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns any error with a file of a run into an ArtifactError that names the file."""
    try:
        yield
    except (ArtifactError, ResourceError):
        raise
    except MemoryError:
        raise ResourceError("the run does not fit in memory", where=str(path), fix="free some memory") from None
    except OSError as error:
        seen = error.strerror or _short(error, 80)
        raise ArtifactError("cannot be read", where=str(path), seen=seen, fix=f"restore it or {_AGAIN}") from error
    except RecsysError as error:
        where = f"{path}, {error.where}" if error.where else str(path)
        raise ArtifactError(error.what, where=where, seen=error.seen, fix=_AGAIN) from error
    except Exception as error:  # an untrusted file can make a library raise anything
        seen = _short(f"{type(error).__name__}: {error}", 80)
        raise ArtifactError("damaged", where=str(path), seen=seen, fix=_AGAIN) from error


def _short(value: object, most: int = 40) -> str:
    """A value for a message, in a few printable characters."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def fit_of(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Fit:
    """The fit that `saving.described_fit` described, with the arrays of its model. Raises ArtifactError, DataError."""
    described = entry["model"]
    kind = described.get("kind")
    if not isinstance(kind, str) or kind not in MODELS:
        raise ArtifactError(
            "this release does not know this kind of model", seen=_short(kind), fix=f"it reads: {', '.join(MODELS)}"
        )
    entry = as_of_today(entry)
    rest = {
        field.name: checks.restored(field.name, entry[field.name])
        for field in fields(Fit)
        if field.name != "model" and (field.name in entry or not _has_default(field))
    }
    return Fit(model=MODELS[kind].from_parts(arrays, described), **rest)


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _baselines(
    entries: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], shape: tuple[int, int]
) -> dict[str, Fit]:
    arrays: dict[str, dict[str, NDArray[Any]]] = {label: {} for label in entries}
    for path, array in tensors.items():
        label, _, name = path.rpartition("/")
        if label not in arrays:
            raise DataError("an array does not belong to a baseline", where=_short(path))
        arrays[label][name] = array
    fits = {label: fit_of(entry, arrays[label]) for label, entry in entries.items()}
    for label, fit in fits.items():
        found = fit.model.n_users, fit.model.n_items
        if found != shape:
            raise DataError("shape does not match", where=_short(label), seen=f"{found}, but {shape} for the model")
    return fits


def _vocabulary(data: _Files, name: str, rows: int, fingerprint: str) -> tuple[Vocabulary, NDArray[np.int64]]:
    import pyarrow as pa

    with _reading(data.directory / name):
        types = {"id": (pa.int64(), pa.dictionary(pa.int32(), pa.string())), "ratings": (pa.int64(),)}
        table = _table(data.read(name), types, rows=rows, values=rows)
        counts = None if table["ratings"].null_count else plain_numbers(table["ratings"]).copy()
        if counts is None or (counts < 0).any():
            raise DataError("a count is null or negative", where="ratings")
        vocabulary = Vocabulary(_expanded(table["id"]))
        if vocabulary.fingerprint != fingerprint:
            where, seen = str(data.directory / name), f"{vocabulary.fingerprint[:12]}…"
            raise ArtifactError("the ids are not those of the run", where=where, seen=seen, fix=_AGAIN)
        return vocabulary, counts


def _rated(data: _Files, shape: tuple[int, int]) -> RatedPairs:
    """The training ratings; the file stores every item as its step from the item before it of the same user."""
    import pyarrow as pa

    with _reading(data.directory / RATED):
        n_users, n_items = shape
        types = {"steps": (pa.large_list(pa.int32()),), "ratings": (pa.large_list(pa.float32()),)}
        table = _table(data.read(RATED), types, rows=n_users, values=n_users * (n_items + 1))
        starts, steps = _lists(table, "steps")
        rating_starts, values = _lists(table, "ratings")
        if not np.array_equal(starts, rating_starts):
            raise DataError("there are not as many ratings as items", where="ratings")
        if (steps < 1).any():
            raise DataError("the items are not in ascending order", where="steps")
        total = np.cumsum(steps, dtype=np.int64)
        base = np.append(0, total)[starts[:-1]]  # of every user
        items = total - np.repeat(base, np.diff(starts)) - 1
        if len(items) and items.max() >= n_items:
            raise DataError("an item index is out of range", where="steps", seen=int(items.max()))
        return RatedPairs(starts, items.astype(np.int32), values)


def _lists(table: Any, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """A column of lists as the starts of the lists, and their values one after another."""
    import pyarrow as pa

    lists = table[name].combine_chunks()
    lists = lists if isinstance(lists, pa.Array) else pa.concat_arrays(lists.chunks)
    values, starts = lists.flatten(), plain_numbers(lists.offsets)
    if lists.null_count or values.null_count:
        raise DataError("null", where=name)
    return (starts - starts[0]).astype(np.int64), plain_numbers(values)


_ROOM, _RATIO = (
    1 << 26,
    1000,
)  # bytes that a part may always take, and the largest ratio of compression for ids beyond that


def _table(data: bytes, types: Mapping[str, tuple[Any, ...]], *, rows: int, values: int) -> Any:
    """The columns of a Parquet part, read only if its footer does not claim more than is possible.

    Texts are read as indices into a dictionary, so that one long text cannot be repeated many times in memory.
    rows : of the table; values : the largest possible number of values in a column
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [name for name, allowed in types.items() if any(map(pa.types.is_dictionary, allowed))]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    schema = file.schema_arrow
    for name, allowed in types.items():
        found = schema.field(name).type if name in schema.names else "none"
        if found not in allowed:
            raise DataError("the column has an unexpected type", where=name, seen=_short(str(found)))
    # The metadata of single columns are not read: with a damaged footer, pyarrow would end the process.
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    if not file.metadata.num_rows == rows == sum(group.num_rows for group in groups):
        raise DataError("shape does not match", seen=f"{file.metadata.num_rows:,} rows", fix=f"the model has {rows:,}")
    has_text = any(pa.types.is_dictionary(schema.field(name).type) for name in types)
    most = _RATIO * len(data) if has_text else 16 * values * len(types)  # an integer takes 8, and 8 in a dictionary
    needed = sum(group.total_byte_size for group in groups)
    if not 0 <= needed <= max(_ROOM, most):
        raise DataError("the column claims too many bytes", seen=f"{needed:,} bytes from {len(data):,}")
    if needed > _ROOM:
        memory.require(2 * needed, f"{', '.join(types)} of the run", fix="free some memory")
    return file.read(columns=list(types))


def _expanded(ids: Any) -> Any:
    """A column of integers, or of a dictionary of texts that each occur once, as one array."""
    import pyarrow as pa

    chunks = []
    for chunk in ids.chunks:
        if pa.types.is_dictionary(ids.type):
            if chunk.null_count or len(np.unique(plain_numbers(chunk.indices))) < len(chunk):
                raise DataError("an id is null or occurs twice", where="id")
            chunks.append(chunk.dictionary.cast(pa.large_string()).take(chunk.indices))
        else:
            chunks.append(chunk)
    kind = pa.large_string() if pa.types.is_dictionary(ids.type) else ids.type
    return pa.concat_arrays(chunks) if chunks else pa.array([], kind)
