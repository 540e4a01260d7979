"""Engine: a session, a storage, and the backend of the driver's CPU cores, but for SGD and ALS by workers of Spark."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

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

_PATIENCE = 20.0  # seconds in which executors that were lost may come back
_SETTLED = 2.0  # seconds without another executor, after which no more are expected
_LOOKS = 0.25
_NEW = 10.0  # seconds after its start in which executors of a session may still come


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How the workers are used.

    storage : a folder that the driver and all workers see, by its path or URI; made up if the master is local
    workers : tasks side by side; if None as many as the cluster has slots for, with SGD up to the bands of the grid
    every : epochs between two states in the storage: at most so many are made again if a worker is lost
    least : ratings of a table below which the driver trains alone, to the same bytes
    deadline : seconds within which workers must be there
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
    """The driver's memory, where tables that workers hold stand for arrays."""

    def put(self, array: Any) -> Any:
        """See `CpuDevice.put`; a table of workers stays there."""
        return array if isinstance(array, SharedTable) else super().put(array)

    def get(self, array: Any) -> NDArray[Any]:
        """See `CpuDevice.get`."""
        return super().get(array.collect() if isinstance(array, SharedTable) else array)

    def is_finite(self, array: Any) -> bool:
        """See `CpuDevice.is_finite`; workers have looked at what they hold."""
        return array.is_finite if isinstance(array, SharedTable) else super().is_finite(array)

    def describe(self) -> dict[str, str]:
        """The device, and that Spark was there."""
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
    """The engine; its workers start when a solver first wants them, and leave at the end.

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
    """A storage of its own, which is removed at the end."""
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
    """Where the storage is."""
    if cluster.storage is not None:
        return os.fspath(cluster.storage)
    if context.master.startswith("local"):
        import tempfile

        return tempfile.gettempdir()
    fix = "give a folder that all workers see, such as one on NFS, hdfs:// or s3:// (--storage)"
    raise ConfigError("a cluster needs a storage that all its machines see", where="storage", seen=None, fix=fix)


def _settled(context: Any) -> int:
    """Slots; of a session that is new, once no more have come for a while."""
    found, since = count_slots(context), time.monotonic()
    is_new = time.time() - context.startTime / 1000 < _NEW and not context.master.startswith("local")
    while is_new and time.monotonic() - since < _SETTLED:
        time.sleep(_LOOKS)
        now = count_slots(context)
        found, since = (found, since) if now == found else (now, time.monotonic())
    return found


def _awaited(context: Any, wanted: int, patience: float) -> int:
    """Slots, once there are as many as wanted or patience is at its end."""
    end = time.monotonic() + patience
    while (found := count_slots(context)) < wanted and time.monotonic() < end:
        time.sleep(_LOOKS)
    return found
