"""Loading: the run of a directory or an address, also while another process replaces it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_mf import __version__, strict_json
from recsys_mf.errors import ArtifactError, DataError, system_errors
from recsys_mf.run import Run
from recsys_mf.storage import Address, Place, place
from recsys_mf.storage.reading import copied_files, exists, renamed
from recsys_mf.store import facts as checks
from recsys_mf.store.files import AGAIN, Files, read_bytes, reading, short
from recsys_mf.store.layout import (
    BASELINES,
    FACTS,
    FORMAT,
    ITEMS,
    MODEL,
    OPTIONAL,
    RATED,
    REQUIRED,
    USERS,
    VERSION,
    is_sealed,
)
from recsys_mf.store.parts import baselines_of, fit_of, folded_of, rated_of, side_of

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
    data = Files(directory, facts["parts"], mapped=mapped and os.name == "posix")
    path = directory / MODEL
    with reading(path):
        fit = fit_of(facts["fit"], data.tensors(MODEL))
        shape = fit.model.n_users, fit.model.n_items
    with reading(directory / BASELINES):
        baselines = baselines_of(facts["baselines"], data.tensors(BASELINES), shape)
    users = side_of(data, USERS, shape[0], facts["users_fingerprint"])
    items = side_of(data, ITEMS, shape[1], facts["items_fingerprint"])
    for name in OPTIONAL:  # files that are not parsed here are checked too
        if name in facts["parts"] and name != RATED:
            data.read(name)
    return Run(
        fit=fit,
        baselines=baselines,
        baseline=facts["baseline"],
        user_vocabulary=users.vocabulary,
        item_vocabulary=items.vocabulary,
        user_counts=users.counts,
        item_counts=items.counts,
        provenance=facts["provenance"],
        rated=rated_of(data, shape) if RATED in facts["parts"] else None,
        folded=folded_of(users, items),
    )


def _facts(directory: Path) -> dict[str, Any]:
    """The contents of run.json, checked; version 3 is converted to this version."""
    path = directory / FACTS
    if not os.path.isfile(path):
        what = "not a run directory" if os.path.exists(directory) else "no such directory"
        raise ArtifactError(what, where=str(directory), fix="give a directory that `recsys-mf train` wrote")
    with reading(path):
        text = read_bytes(path, most=_MAX_FACTS)
        facts = strict_json.from_text(text)
        found = facts.get("format") if isinstance(facts, dict) else type(facts).__name__
        if found != FORMAT:
            where = f"{path}, field format"
            raise ArtifactError(
                "not a run of recsys_mf", where=where, seen=short(found), fix=f"it should be {FORMAT!r}"
            )
        version = facts.get("version")
        if version not in (3, VERSION) or isinstance(version, bool):
            fix = f"this release reads versions 3 and {VERSION}: {AGAIN}"
            where = f"{path}, field version"
            raise ArtifactError("the run has another version", where=where, seen=short(version), fix=fix)
        if version == VERSION and not is_sealed(text):
            raise ArtifactError("changed since the run was written", where=str(path), fix=f"restore it or {AGAIN}")
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
            fix = f"read it with release {short(writer)}, which wrote it; this is {__version__}"
            raise ArtifactError(
                "the run has a part that this release does not know", where=str(path), seen=short(name), fix=fix
            )
