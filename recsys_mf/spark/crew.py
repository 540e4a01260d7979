"""Crew: the workers of a job as the driver sees them: tasks of a barrier stage that run until it stops them."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from recsys_mf.errors import DeviceError, RecsysWarning, ResourceError
from recsys_mf.spark.storage import Storage
from recsys_mf.spark.wire import Facts, Peer
from recsys_mf.spark.worker import Job, describe_software, serve

T = TypeVar("T")
_PINGS = 5.0  # seconds between two pings
_LOOKS = 0.05  # seconds between two polls of a wait


class LostWorkers(ConnectionError):  # noqa: N818 (not for users)
    """The workers of a job are gone; another job can continue."""


class Crew:
    """The workers of a job.

    workers : their number, None for as many as the cluster has slots; deadline : seconds within which they must start
    Raises DeviceError if they do not start within the deadline, or if their software differs.
    """

    def __init__(self, context: Any, storage: Storage, workers: int | None, deadline: float) -> None:
        self._context, self._group = context, f"recsys_mf-{uuid.uuid4().hex}"
        self.size = workers or count_slots(context)
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        job = Job(f"crew-{self._group}", secrets.token_urlsafe(32), storage)
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._thread.start()
        try:
            members = self._await_members(storage, job.name, deadline)
            check_software([member["software"] for member in members])
        except BaseException:
            self.cancel()
            raise
        self.peers = [Peer(member["address"], job.token) for member in members]
        self._pings = threading.Thread(target=self._ping, daemon=True)
        self._pings.start()

    def call_all(self, name: str, facts: Facts | Sequence[Facts]) -> list[Facts]:
        """Run an action on all workers in parallel. facts : the same for all, or a sequence with one per worker"""
        each = facts if isinstance(facts, Sequence) else [facts] * self.size
        return self.for_all([partial(peer.call, name, own) for peer, own in zip(self.peers, each, strict=True)])

    def for_all(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """The results of these calls, run in parallel. Raises LostWorkers if a worker or the job ends before them."""
        found: list[Any] = [None] * len(works)
        errors: list[BaseException] = []
        finished = threading.Semaphore(0)

        def run(index: int, work: Callable[[], T]) -> None:
            try:
                found[index] = work()
            except BaseException as error:
                errors.append(error)
            finished.release()

        for index, work in enumerate(works):
            threading.Thread(target=run, args=(index, work), daemon=True).start()
        left = len(works)
        while left:
            if finished.acquire(timeout=_LOOKS):
                left -= 1
            if errors or self._ended.is_set():
                break
        if errors and not isinstance(errors[0], ConnectionError):
            raise errors[0]
        if errors or left:
            raise LostWorkers(str(errors[0]) if errors else f"the job of the workers ended: {reason(self._failure)}")
        return found

    def stop(self) -> None:
        """Tell the workers that the work is done, and end the job."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.call_all("stop", {})
            self._ended.wait(5)
        self.cancel()

    def cancel(self) -> None:
        """End the job."""
        if not self._ended.is_set():
            with contextlib.suppress(Exception):  # the context may be gone
                self._context.cancelJobGroup(self._group)
            self._ended.wait(30)

    def _run(self, job: Job) -> None:
        """The job, in a thread of its own."""
        try:
            self._context.setJobGroup(self._group, "recsys_mf: workers", interruptOnCancel=True)
            tasks = self._context.parallelize(range(self.size), self.size)
            tasks.barrier().mapPartitions(partial(serve, job)).collect()
        except BaseException as error:
            self._failure = error
        self._ended.set()

    def _ping(self) -> None:
        """Tell the workers again and again that the driver is alive."""
        while not self._ended.wait(_PINGS):
            for peer in self.peers:
                with contextlib.suppress(ConnectionError, RuntimeError):
                    peer.call("ping", {}, timeout=_PINGS)

    def _await_members(self, storage: Storage, name: str, deadline: float) -> list[Facts]:
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if self._ended.is_set():
                raise _as_error(self._failure, storage)
            members: list[Facts] | None = storage.get_facts(f"{name}.json")
            if members is not None:
                return members
            time.sleep(_LOOKS)
        what = f"{self.size} workers did not start within {deadline:g} s"
        fix = "free task slots on the cluster, ask for fewer (workers), or give a storage that workers see too"
        raise DeviceError(what, where="Spark", seen=f"{count_slots(self._context)} task slots", fix=fix)


def count_slots(context: Any) -> int:
    """Barrier tasks that the cluster can run at the same time now; at least 1."""
    scala = context._jsc.sc()
    profile = scala.resourceProfileManager().defaultResourceProfile()
    return max(1, int(scala.maxNumConcurrentTasks(profile)))


def check_software(found: Sequence[dict[str, str]]) -> None:
    """Raise DeviceError if workers have other versions or processors than one another, or versions than the driver."""
    here = describe_software()
    for one in found:
        for name, version in one.items():
            expected = found[0][name] if name == "processor" else here[name]
            if version != expected:
                what = "a worker has another processor" if name == "processor" else f"a worker has another {name}"
                fix = "take workers of one kind" if name == "processor" else f"install {name} {expected} on all workers"
                raise DeviceError(what, where="Spark", seen=f"{version}, expected {expected}", fix=fix)
    if found[0]["processor"] != here["processor"]:
        seen = f"{found[0]['processor']} and {here['processor']}"
        text = f"workers and driver have different processors ({seen}): one machine alone may give other last bits"
        warnings.warn(text, RecsysWarning, stacklevel=2)


def reason(error: BaseException | None) -> str:
    """The last informative line of an error of Spark, without its stack trace."""
    lines = [line.strip() for line in ("" if error is None else str(error)).splitlines()]
    lines = [line for line in lines if line and not line.startswith(("at ", "...", "File ", "Traceback"))]
    told = [line for line in lines if "Error: " in line or "Exception: " in line]
    return (told or lines or ["it ended"])[-1 if told else 0]


def _as_error(failure: BaseException | None, storage: Storage) -> Exception:
    """The error for a job that ended before its workers started, with what a user can do about it."""
    text = str(failure)
    if "No module named 'recsys_mf" in text:
        fix = "install the package there, or set PYSPARK_PYTHON to an environment that has it"
        return DeviceError("the workers do not have the package", where="Spark", seen=reason(failure), fix=fix)
    if "ArtifactError" in text:
        fix = "make it writable there, or give another with storage (--storage)"
        return ResourceError("the workers cannot use the storage", where=storage.uri, seen=reason(failure), fix=fix)
    return DeviceError("the workers did not start", where="Spark", seen=reason(failure), fix="look at Spark's log")
