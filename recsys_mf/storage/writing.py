"""Writing: files and folders are made on this machine, and sent to their address when they are complete.

Stores have no rename, so one file marks a folder as complete: it is sent last and, if the folder is replaced, removed
first. If sending fails, what was sent is removed again, and what was made stays on this machine.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from recsys_mf import temporary
from recsys_mf.errors import RecsysError, RemoteError
from recsys_mf.storage.address import Address
from recsys_mf.storage.faults import in_words
from recsys_mf.storage.reading import exists, files_in
from recsys_mf.storage.systems import opened, written
from recsys_mf.storage.transfer import BLOCK, Count

_PROBE = ".recsys_mf-writable"


def check_writable(folder: Address) -> None:
    """Raise RemoteError unless files can be written into a folder: writes an empty file there and removes it."""
    refuse_web(folder)
    system, path = opened(folder)
    with in_words(folder):
        with system.open_output_stream(f"{path}/{_PROBE}"):
            pass
        with contextlib.suppress(OSError):  # without permission to remove it, it stays; its name is hidden
            system.delete_file(f"{path}/{_PROBE}")


def refuse_web(address: Address) -> None:
    """Raise RemoteError for an address of the web."""
    if address.is_web:
        fix = "give a path, or an address that begins with s3:// or hdfs://"
        raise RemoteError("the web can only be read", where=str(address), fix=fix)


@contextlib.contextmanager
def written_file(address: Address, *, replace: bool) -> Iterator[Path]:
    """A path to write a file to, which is sent to the address at the end if nothing was raised.

    replace : replace an existing file
    Raises RemoteError if the file exists and may not be replaced, or if it cannot be sent.
    """
    refuse_web(address)
    with _made_here(address) as (path, keep):
        yield path
        with keep(path):
            if not replace and exists(address):
                raise RemoteError(
                    "the file exists", where=str(address), fix="give another name, or --force (force=True in Python)"
                )
            _send(address, path, Count("uploading", address, path.stat().st_size))


@contextlib.contextmanager
def written_folder(address: Address, last: str, *, may_replace: Callable[[], None]) -> Iterator[Path]:
    """A new folder to write to, whose files are sent to the address at the end if nothing was raised.

    last : the file that marks the folder as complete
    may_replace : raises unless an existing folder may be replaced; called at the start, and again before files are sent
    """
    refuse_web(address)
    may_replace()
    with _made_here(address) as (folder, keep):
        folder.mkdir()
        yield folder
        with keep(folder):
            may_replace()
            _send_folder(address, folder, last)


@contextlib.contextmanager
def _made_here(address: Address) -> Iterator[tuple[Path, Callable[[Path], Any]]]:
    """A path in a temporary folder, and a context in which a fault leaves the folder and says where it is."""
    root, kept = Path(tempfile.mkdtemp(prefix="recsys_mf-", dir=temporary.folder())), False

    @contextlib.contextmanager
    def keep(path: Path) -> Iterator[None]:
        nonlocal kept
        try:
            yield
        except (RemoteError, RecsysError) as fault:
            kept = True
            fix, where = f"the output is kept in {path}; {fault.fix}, and copy it there", fault.where or str(address)
            raise type(fault)(f"not sent: {fault.what}", where=where, seen=fault.seen, fix=fix) from fault

    try:
        yield root / (address.name or "output"), keep
    finally:
        if not kept:
            shutil.rmtree(root, ignore_errors=True)


def _send_folder(address: Address, folder: Path, last: str) -> None:
    files = sorted((path for path in folder.iterdir()), key=lambda path: (path.name == last, path.name))
    names = [path.name for path in files]
    old = [entry.path for entry in files_in(address)]
    count, sent = Count("uploading", address, sum(path.stat().st_size for path in files)), []
    if last in old:
        _remove(address, [last])  # from here on the folder is incomplete
    try:
        for path in files:
            if path.name == last:
                _remove(address, [name for name in old if name not in names])
            sent.append(path.name)
            _send(address / path.name, path, count)
    except BaseException:
        with contextlib.suppress(RemoteError):
            _remove(address, sent)
        raise


def _remove(folder: Address, names: list[str]) -> None:
    """Remove files of a folder, if they are there."""
    system, path = opened(folder)
    for name in names:
        with in_words(folder / name), contextlib.suppress(FileNotFoundError):
            system.delete_file(f"{path}/{name}")


def _send(address: Address, path: Path, count: Count) -> None:
    """Send a file."""
    system, target = opened(address)
    through = f"{target}._COPYING_" if address.scheme == "hdfs" else None  # HDFS shows a file while it is written
    with in_words(address), written(system, target, through) as stream, path.open("rb") as file:
        while block := file.read(BLOCK):
            stream.write(block)
            count.add(len(block))
