"""A standalone cluster of Spark on this machine: a master and workers as processes of their own, from pip's pyspark."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_DEADLINE = 60.0


@dataclass(frozen=True)
class LocalCluster:
    """master : its address; folder : what its processes write; storage : a folder for trainings."""

    master: str
    folder: Path
    storage: Path
    processes: tuple[subprocess.Popen[bytes], ...]

    def one_executor(self) -> list[int]:
        """The processes of the last worker's executor: Java, and the Python that runs tasks."""
        return _below(self.processes[-1].pid)


@contextlib.contextmanager
def cluster(folder: Path, workers: int = 2, cores: int = 2, memory: str = "1g") -> Iterator[LocalCluster]:
    """A cluster of workers, with cores and memory for each: so many tasks run side by side."""
    import pyspark

    home = Path(pyspark.__file__).parent
    port = _free_port()
    master = f"spark://127.0.0.1:{port}"
    environment = os.environ | {
        "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_DIRS": str(folder / "local"), "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    storage = folder / "storage"
    storage.mkdir()
    with contextlib.ExitStack() as stack:

        def started(name: str, role: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", *arguments]
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_ended, process)
            return process

        first = started("master", "master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0")
        _await("the master", lambda: _answers(port))
        others = [
            started(f"worker-{number}", "worker.Worker", "--host", "127.0.0.1", "--webui-port", "0", "-c", str(cores),
                    "-m", memory, "-d", str(folder / f"work-{number}"), master)
            for number in range(workers)
        ]  # fmt: skip
        for number in range(workers):
            log = folder / f"worker-{number}.log"
            _await(f"worker {number}", lambda log=log: b"Successfully registered" in log.read_bytes())
        yield LocalCluster(master, folder, storage, (first, *others))


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _await(what: str, is_there: object) -> None:
    end = time.monotonic() + _DEADLINE
    while not is_there():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not start"
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _below(pid: int) -> list[int]:
    """Processes started by one, and by these (Linux)."""
    children = [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [process for child in children for process in [child, *_below(child)]]
