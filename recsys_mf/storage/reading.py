"""Reading: files and folders at addresses, copied to this machine and removed with their reader."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import urllib.parse
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from recsys_mf import memory, temporary
from recsys_mf.errors import DataError, RecsysError, RemoteError, ResourceError
from recsys_mf.storage import web
from recsys_mf.storage.address import Address
from recsys_mf.storage.faults import in_words, missing, no_bucket
from recsys_mf.storage.systems import Opened, opened
from recsys_mf.storage.transfer import BLOCK, Count

_AT_ONCE = 8  # files
_TRIES = 5  # of a download from the web, each continuing where the last one broke
_MAGIC = re.compile(r"[*?\[]")
_PREFIX = "recsys_mf-"


class Entry(NamedTuple):
    """A file in a folder: its path there, with / between, and its bytes."""

    path: str
    size: int


class Copy:
    """Files of an address in a temporary folder of this machine, which are removed with their owner.

    path : the file or the folder that stands for the address
    is_folder : whether it is a folder
    """

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=temporary.folder()))
        self.path, self.is_folder = self.root / "file", False
        self._process = os.getpid()
        self._end = weakref.finalize(self, _removed, self.root, self._process)

    def tie(self, owner: object) -> None:
        """Keep the files until the owner is deleted."""
        self._end.detach()
        weakref.finalize(owner, _removed, self.root, self._process)

    def remove(self) -> None:
        """Remove the files now; a reader that has them open or mapped can still use them."""
        self._end()


def _removed(root: Path, process: int) -> None:
    if os.getpid() == process:  # a fork must not
        shutil.rmtree(root, ignore_errors=True)


def exists(address: Address) -> bool:
    """Whether there is a file at the address. Raises RemoteError if that cannot be determined."""
    if address.is_web:
        with _web_in_words(address):
            return web.answers(_quoted(address))
    return _look(opened(address), address).kind == "file"


def files_in(address: Address) -> list[Entry]:
    """All files below a folder, in the order of their paths; none if the folder does not exist."""
    from pyarrow import fs

    system, path = opened(address)
    with in_words(address):
        found = system.get_file_info(fs.FileSelector(path, allow_not_found=True, recursive=True))
    start = len(path.rstrip("/")) + 1
    entries = [Entry(info.path[start:], info.size or 0) for info in found if info.type == fs.FileType.File]
    return sorted(entries)


def read_bytes(address: Address, most: int) -> bytes:
    """The first `most` bytes of a file. Raises RemoteError if it cannot be read."""
    with contextlib.ExitStack() as stack:
        copy = Copy()
        stack.callback(copy.remove)
        _fetch(address, copy.path, Count("downloading", address, None))
        with copy.path.open("rb") as file:
            return file.read(most)


def copied(address: Address) -> Copy:
    """A file, the visible files of a folder, or those that a glob matches, on this machine.

    A folder keeps the paths of its files; a glob those below the first part with * ? or [. Raises RemoteError if there
    is nothing or it cannot be read, ResourceError if the temporary folder has no room.
    """
    copy = Copy()
    try:
        if address.is_web:
            _fetch(address, copy.path, Count("downloading", address, None))
            return copy
        there = opened(address)
        found = _look(there, address)
        if found.kind == "file":
            _fetch_all(address, there, {there.path: copy.path}, [found.size])
            return copy
        copy.path, copy.is_folder = copy.root / "folder", True
        copy.path.mkdir()
        entries, below = _chosen(address, is_folder=found.kind == "folder")
        targets = {f"{below}/{entry.path}": _inside(copy.path, entry.path, address) for entry in entries}
        _fetch_all(address, there, targets, [entry.size for entry in entries])
        return copy
    except BaseException:
        copy.remove()
        raise


def copied_files(address: Address, names: Sequence[str]) -> Copy:
    """Files of these names of a folder, on this machine. Raises RemoteError if one is missing."""
    copy = Copy()
    copy.path, copy.is_folder = copy.root, True
    try:
        if address.is_web:
            for name in names:
                _fetch(address / name, copy.root / name, Count("downloading", address / name, None))
            return copy
        there = opened(address)
        targets = {f"{there.path}/{name}": copy.root / name for name in names}
        sizes = [_size(Opened(there.system, path), address / name) for path, name in zip(targets, names, strict=True)]
        _fetch_all(address, there, targets, sizes)
        return copy
    except BaseException:
        copy.remove()
        raise


@contextlib.contextmanager
def renamed(copy: Path, address: Address) -> Iterator[None]:
    """Make errors about a copy name the address instead."""
    try:
        yield
    except RecsysError as error:

        def told(text: str) -> str:
            return text.replace(str(copy), str(address))

        where, fix = (None if text is None else told(text) for text in (error.where, error.fix))
        seen = told(error.seen) if isinstance(error.seen, str) else error.seen
        raise type(error)(told(error.what), where=where, seen=seen, fix=fix) from error


class _Found(NamedTuple):
    """What is at an address: file, folder, or None if there is nothing; the bytes of a file."""

    kind: str | None
    size: int


def _look(there: Opened, address: Address) -> _Found:
    """What is there. Raises RemoteError for a bucket that does not exist."""
    from pyarrow import fs

    with in_words(address):
        info = there.system.get_file_info(there.path)
        if info.type == fs.FileType.NotFound and address.scheme == "s3":  # the system does not say what is missing
            bucket = there.path.partition("/")[0]
            if there.system.get_file_info(bucket).type == fs.FileType.NotFound:
                raise no_bucket(address)
    return _Found({fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(info.type), info.size or 0)


def _size(there: Opened, address: Address) -> int:
    """The bytes of a file. Raises RemoteError if there is none."""
    found = _look(there, address)
    if found.kind != "file":
        raise missing(address)
    return found.size


def _chosen(address: Address, *, is_folder: bool) -> tuple[list[Entry], str]:
    """The files of a folder or a glob, and the path that their paths are relative to."""
    if is_folder:
        entries, base, pattern = files_in(address), address, None
    else:
        before = address.text[: found.start()] if (found := _MAGIC.search(address.text)) else ""
        folder = before.rpartition("/")[0]
        if not folder or folder.endswith(":/"):
            raise missing(address)
        base = Address(folder)
        entries, pattern = files_in(base), _pattern(address.text.removeprefix(f"{folder}/"))
    chosen = [entry for entry in entries if not _is_hidden(entry.path) and entry.size]
    if pattern is not None:
        chosen = [entry for entry in chosen if pattern.fullmatch(entry.path)]
    if not chosen:
        if not is_folder:
            raise missing(address)
        fix = "give a folder with Parquet, CSV or JSON files"
        raise DataError("no table in the folder", where=str(address), fix=fix)
    return chosen, opened(base).path


def _is_hidden(path: str) -> bool:
    parts = path.split("/")
    return any(p.startswith((".", "_")) and "=" not in p for p in parts) or path.endswith(".crc")


def _pattern(glob: str) -> re.Pattern[str]:
    """A glob as a regular expression: * and ? match within a part of the path, **/ any folders."""
    return re.compile("".join(_meaning(word) for word in re.split(r"(\*\*/|\*|\?|\[[^\]/]+\])", glob)))


def _meaning(word: str) -> str:
    if word.startswith("[") and word.endswith("]"):
        return f"[{'^' if word[1] == '!' else ''}{re.escape(word[1:-1].lstrip('!')).replace(chr(92) + '-', '-')}]"
    return {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}.get(word) or re.escape(word)


def _inside(folder: Path, path: str, address: Address) -> Path:
    """Where a file of a folder is copied to. Raises RemoteError for a name that leads out of the folder."""
    if any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 or "\0" in part for part in path.split("/")):
        fix = "rename it, or give files by a glob"
        raise RemoteError("a name that no file can have here", where=str(address), seen=path, fix=fix)
    return folder.joinpath(*path.split("/"))


def _fetch_all(address: Address, there: Opened, targets: dict[str, Path], sizes: Sequence[int]) -> None:
    """Copy files of a file system, several at once."""
    total = sum(sizes)
    free = shutil.disk_usage(temporary.folder()).free
    if total > free:
        raise _no_room(address, f"{memory.in_words(total)}, {memory.in_words(free)} are free")
    count = Count("downloading", address, total)
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(min(_AT_ONCE, len(targets)))
    try:
        for done in [pool.submit(_stream, address, there.system, path, to, count) for path, to in targets.items()]:
            done.result()
    finally:
        count.stopped.set()
        pool.shutdown(cancel_futures=True)


def _stream(address: Address, system: Any, path: str, target: Path, count: Count) -> None:
    with (
        in_words(address),
        system.open_input_stream(path, compression=None) as source,
        target.open("wb") as file,
    ):
        while not count.stopped.is_set() and (block := source.read(BLOCK)):
            try:
                file.write(block)
            except OSError as error:
                raise _no_room(address, error.strerror) from None
            count.add(len(block))


def _fetch(address: Address, target: Path, count: Count) -> None:
    """Copy one file, from a file system or the web."""
    if not address.is_web:
        there = opened(address)
        _stream(address, there.system, there.path, target, count)
        return
    part, left = web.Part(target), _TRIES
    with _web_in_words(address):
        while left:
            before, left = target.stat().st_size if target.exists() else 0, left - 1
            try:
                web.download(_quoted(address), part, None, count.set)
                return
            except DataError:
                if not left or not target.exists() or target.stat().st_size <= before:
                    raise
            except OSError as error:
                raise _no_room(address, error.strerror) from None


@contextlib.contextmanager
def _web_in_words(address: Address) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        fix = (error.fix or "").removesuffix(" to resume")
        raise RemoteError(error.what, where=str(address), seen=error.seen, fix=fix) from None


def _quoted(address: Address) -> str:
    """The address as it is sent, with the letters escaped that a request cannot hold."""
    return urllib.parse.quote(address.text, safe="%/:=&?~#+!$,;'@()*[]")


def _no_room(address: Address, seen: object) -> ResourceError:
    fix = "set TMPDIR to a folder with more room"
    return ResourceError(f"no room for a copy in {temporary.folder()}", where=str(address), seen=seen, fix=fix)
