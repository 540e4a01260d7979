"""Engine: a session, a storage, and a backend: the driver's CPU cores, with SGD and ALS on workers of Spark."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from recsys_mf import temporary
from recsys_mf.errors import ConfigError, DeviceError
from recsys_mf.kernels import select
from recsys_mf.kernels.backend import Backend
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.spark.crew import Crew, count_slots
from recsys_mf.spark.crews import Crews
from recsys_mf.spark.rows import SharedTable, SparkRows
from recsys_mf.spark.session import DEADLINE, opened
from recsys_mf.spark.sgd import RingSgd
from recsys_mf.spark.storage import Storage

_PATIENCE = 20.0  # seconds in which lost executors may return
_SETTLED = 2.0  # seconds without a new executor, after which no more are expected
_LOOKS = 0.25  # seconds between two polls
_NEW = 10.0  # seconds after the start of a session in which executors may still arrive


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How the workers are used.

    storage : the path or URI of a folder that the driver and all workers can access; if the master is local, None means
        the temporary folder
    workers : their number; None for as many as the cluster has slots, with SGD at most the number of bands of the grid
    every : epochs between two states in the storage: at most this many are computed again if a worker is lost
    least : a table with fewer ratings is trained by the driver alone, to the same bytes
    deadline : seconds within which the workers must start
    Raises ConfigError for a number that is out of range.
    """

    storage: str | os.PathLike[str] | None = None
    workers: int | None = None
    every: int = 5
    least: int = 30_000
    deadline: float = DEADLINE

    def __post_init__(self) -> None:
        for name in ("workers", "every", "least"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and number >= (name != "least")):
                raise ConfigError(f"{name} is out of range", where=name, seen=number, fix="give a whole number")


class SparkDevice(CpuDevice):
    """The driver's memory; a table that workers hold takes the place of an array."""

    def put(self, array: Any) -> Any:
        """See `CpuDevice.put`; a table of the workers stays with them."""
        return array if isinstance(array, SharedTable) else super().put(array)

    def get(self, array: Any) -> NDArray[Any]:
        """See `CpuDevice.get`."""
        return super().get(array.collect() if isinstance(array, SharedTable) else array)

    def is_finite(self, array: Any) -> bool:
        """See `CpuDevice.is_finite`; workers have checked what they hold."""
        return array.is_finite if isinstance(array, SharedTable) else super().is_finite(array)

    def describe(self) -> dict[str, str]:
        """The device, and that Spark was used."""
        return {**super().describe(), "engine": "spark"}


class Engine(NamedTuple):
    """What a training on Spark works with."""

    session: Any
    storage: Storage
    backend: Backend


@contextlib.contextmanager
def opened_engine(
    session: Any = None, master: str | None = None, cluster: Cluster | None = None, threads: int | None = None
) -> Iterator[Engine]:
    """The engine; its workers start when a solver first needs them, and end with it.

    session, master : as in `session.opened`; threads : of the driver
    """
    cluster = cluster or Cluster()
    with (
        opened(session, master, cluster.deadline) as standing,
        _stored(standing.sparkContext, cluster) as storage,
        _ring(standing.sparkContext, storage, cluster, threads) as backend,
    ):
        yield Engine(standing, storage, backend)


@contextlib.contextmanager
def _stored(context: Any, cluster: Cluster) -> Iterator[Storage]:
    """A new folder in the storage, which is deleted at the end."""
    storage = Storage.new(_folder(context, cluster))
    try:
        yield storage
    finally:
        storage.remove()


@contextlib.contextmanager
def _ring(context: Any, storage: Storage, cluster: Cluster, threads: int | None) -> Iterator[Backend]:
    """The backend."""
    wanted: list[int] = []

    def start(most: int) -> Crew:
        is_first = not wanted
        if is_first:
            wanted.append(cluster.workers or min(_settled(context), most))
        size = _awaited(context, wanted[0], cluster.deadline if is_first else _PATIENCE)
        if is_first and size < wanted[0]:
            seen, fix = f"{size} task slots for {wanted[0]} workers", "ask for fewer, or free slots on the cluster"
            raise DeviceError("the cluster has no room for so many workers", where="workers", seen=seen, fix=fix)
        return Crew(context, storage, min(size, wanted[0]), cluster.deadline)  # fewer, if some are lost for good

    plain, crews = select("cpu", threads), Crews(start)
    device = SparkDevice(plain.device.threads)
    numbers: Any = {"threads": device.threads, "every": cluster.every, "least": cluster.least}
    try:
        yield replace(
            plain, device=device, rows=SparkRows(crews, storage, **numbers), sgd=RingSgd(crews, storage, **numbers)
        )
    finally:
        crews.close()


def _folder(context: Any, cluster: Cluster) -> str:
    """The path or URI of the storage."""
    if cluster.storage is not None:
        return os.fspath(cluster.storage)
    if context.master.startswith("local"):
        return temporary.folder()
    fix = "give a folder that all workers see, such as one on NFS, hdfs:// or s3:// (--storage)"
    raise ConfigError("a cluster needs a storage that all its machines see", where="storage", seen=None, fix=fix)


def _settled(context: Any) -> int:
    """The number of slots; for a new session, once no more have arrived for a while."""
    found, since = count_slots(context), time.monotonic()
    is_new = time.time() - context.startTime / 1000 < _NEW and not context.master.startswith("local")
    while is_new and time.monotonic() - since < _SETTLED:
        time.sleep(_LOOKS)
        now = count_slots(context)
        found, since = (found, since) if now == found else (now, time.monotonic())
    return found


def _awaited(context: Any, wanted: int, patience: float) -> int:
    """The number of slots, once there are as many as wanted, or after `patience` seconds."""
    end = time.monotonic() + patience
    while (found := count_slots(context)) < wanted and time.monotonic() < end:
        time.sleep(_LOOKS)
    return found
