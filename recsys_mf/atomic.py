"""Atomic: files and folders are written in a temporary folder and get their name when they are complete.

    .recsys_mf-xxxxxxxx/    created next to the target
        lock                locked by the writer while it runs
        new/NAME            the file or folder being written
        old/NAME            the previous target, if the system cannot exchange two names in one step

A writer that fails or is interrupted removes its folder; the target is then either unchanged or completely written. If
a writer was killed, the next writer in the same place finds its folder: it can take the lock, moves `old` back if the
name is free, and removes the rest. The folder of a running writer is never touched. Links are followed. What is
read-only by its mode is not replaced, not even by the superuser. A file or folder that takes the place of another gets
its mode; else the umask decides.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_PREFIX = ".recsys_mf-"
_ATTEMPTS = 10
_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OCCUPIED = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


@contextlib.contextmanager
def written_file(target: Path, *, replace: bool) -> Iterator[Path]:
    """A path to write a file to, which is renamed to the target at the end if nothing was raised.

    replace : replace an existing file; if False, an existing file raises FileExistsError
    Also raises OSError as the system does.
    """
    target = resolved(target)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not replace and target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    _refuse_read_only(target)
    with _aside(target) as path:
        yield path
        _settle(path)
        if replace:
            _refuse_read_only(target)
            _keep_mode(target, path)
            os.replace(path, target)
        else:
            _move_to_free_name(path, target)


@contextlib.contextmanager
def written_folder(target: Path, *, may_replace: Callable[[Path], None]) -> Iterator[Path]:
    """A new folder to write to, which is renamed to the target at the end if nothing was raised.

    may_replace : called with the path of a file or of a folder that is not empty; raises unless that may be removed.
        It is called before the target is replaced, and again with what was moved out of the way: if it raises then,
        that is moved back
    Also raises OSError as the system does.
    """
    target = resolved(target)
    _refuse_read_only(target)
    with _aside(target) as path:
        path.mkdir()
        yield path
        _settle(path)
        for _ in range(_ATTEMPTS):
            try:
                return _install(path, target, may_replace)
            except OSError as error:
                if error.errno not in (*_OCCUPIED, errno.ENOENT) or not path.is_dir():
                    raise
                # the target was created or removed since it was checked
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))


def prove_writable(target: Path) -> None:
    """Raise OSError unless a file of this name can be written there; leaves no files behind."""
    target = resolved(target)
    _refuse_read_only(target)
    with _aside(target) as path:
        path.touch()


def resolved(target: Path) -> Path:
    """The absolute path with links followed. Raises OSError for a circle of links, and for a null character."""
    if "\0" in str(target):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), repr(str(target)))
    path = Path(os.path.realpath(target))
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    return path


def is_free(target: Path) -> bool:
    """Whether nothing exists there, except perhaps an empty folder."""
    return not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir()))


def _refuse_read_only(target: Path) -> None:
    """Raise PermissionError if a file, or a folder or a file in it, is read-only: by its mode, or for this user."""
    if not target.exists():
        return
    for path in (target, *(target.iterdir() if target.is_dir() else ())):
        if not path.is_symlink() and not (path.stat().st_mode & _WRITABLE and os.access(path, os.W_OK)):
            raise PermissionError(errno.EACCES, f"{path} is read-only", str(path))


def _keep_mode(target: Path, path: Path) -> None:
    """Give the file or folder the mode of the one that it will replace."""
    if target.exists() and target.is_dir() == path.is_dir():
        path.chmod(stat.S_IMODE(target.stat().st_mode))


def _install(path: Path, target: Path, may_replace: Callable[[Path], None]) -> None:
    """Move the folder to the target, in exchange for what exists there if that may be replaced."""
    if is_free(target):
        if os.name == "nt" and target.exists():
            target.rmdir()
        os.rename(path, target)  # fails on a folder that is not empty
        return
    may_replace(target)
    _refuse_read_only(target)
    _keep_mode(target, path)
    if _exchanged(path, target):
        try:
            may_replace(path)
        except BaseException:
            _exchanged(path, target)
            raise
        return
    old = path.parent.parent / "old" / target.name
    old.parent.mkdir(exist_ok=True)
    os.rename(target, old)  # until the next rename is done, `_put_back` undoes this
    may_replace(old)
    os.rename(path, target)


def _exchanged(path: Path, other: Path) -> bool:
    """Exchange two names in one step; False if the system cannot."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = ctypes.c_int(-100)  # AT_FDCWD
    if not rename(here, os.fsencode(path), here, os.fsencode(other), ctypes.c_uint(_EXCHANGE)):
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _move_to_free_name(path: Path, target: Path) -> None:
    """Rename a file; raises FileExistsError if the name exists."""
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links here
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(path, target)


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A path with the target's name in a locked folder next to it; the folder is removed at the end."""
    clean(target.parent)
    folder, held = _locked_folder(target.parent)
    try:
        (folder / "new").mkdir()
        yield folder / "new" / target.name
    finally:
        try:
            _remove(folder)
        finally:
            if held is not None:
                os.close(held)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new folder and its lock, None if the system has no locks."""
    for _ in range(_ATTEMPTS):
        folder = parent / f"{_PREFIX}{secrets.token_hex(4)}"
        try:
            os.mkdir(folder, 0o700)
            try:
                return folder, lock(folder / "lock")
            except (BlockingIOError, FileNotFoundError):
                continue  # a cleaner thinks that the writer of this folder is dead, and removes it
        except FileExistsError:
            continue
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(parent))


def lock(path: Path) -> int | None:
    """The locked handle of a file, None if the system has no locks; released when closed or the process dies.

    Raises BlockingIOError if another holds it, FileNotFoundError if its folder has gone.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.stat(path), os.fstat(handle)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except (BlockingIOError, FileNotFoundError, KeyboardInterrupt):
        os.close(handle)
        raise
    except (ImportError, OSError):
        os.close(handle)
        return None
    return handle


def clean(parent: Path) -> None:
    """Remove what killed writers left in a folder, and move back what they had moved out of the way."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                held = None if folder.is_symlink() else lock(folder / "lock")
                if held is not None:
                    try:
                        _remove(folder)
                    finally:
                        os.close(held)


def _remove(folder: Path) -> None:
    """Remove a temporary folder after moving back the old target in it; an interruption waits for that."""
    try:
        _put_back(folder)
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        _put_back(folder)
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _put_back(folder: Path) -> None:
    """Move the old target back to its name if that is free. Raises OSError if this fails."""
    for old in (folder / "old").glob("*"):
        target = folder.parent / old.name
        if not os.path.lexists(target):
            os.rename(old, target)


def _settle(path: Path) -> None:
    """Flush files to the disk and set the mode that the umask gives a new file: some libraries set another."""
    mode = (path.parent.parent / "lock").stat().st_mode & 0o777
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("r+b") as handle:
                os.fsync(handle.fileno())
            file.chmod(mode)
