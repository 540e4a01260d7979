"""Session: a Spark session that is given, found or made, and answers within a deadline."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

from recsys_mf.errors import ConfigError, DeviceError

DEADLINE = 60.0
"""Seconds within which a cluster must answer."""

_KNOCK = 5.0  # seconds in which a port must answer
_OLDEST_JAVA = 17
_SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",  # errors come as exceptions
    "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "1s",
    "spark.python.worker.reuse": "true",
}
_ON_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


@contextlib.contextmanager
def opened(session: Any = None, master: str | None = None, deadline: float = DEADLINE) -> Iterator[Any]:
    """The session that is given, or the active one; else a new one at a master, which is stopped at the end.

    master : as Spark names it (local[2], spark://host:7077, yarn, …); local[*] if None
    Raises ConfigError if both a session and a master are given, DeviceError without pyspark or Java, and for a master
    that does not answer.
    """
    require_pyspark()
    if session is not None and master is not None:
        fix = "leave one of them out"
        raise ConfigError("a session has a master", where="master", seen=master, fix=fix)
    standing = session or found()
    if standing is not None:
        if master is not None and standing.sparkContext.master != master:
            fix = f"stop that session, or leave master out (it has {standing.sparkContext.master})"
            raise ConfigError("there is a session at another master", where="master", seen=master, fix=fix)
        _require_context(standing)
        probe(standing, deadline)
        yield standing
        return
    made = _made(master or "local[*]", deadline)
    try:
        probe(made, deadline)
        yield made
    finally:
        made.stop()


def found() -> Any:
    """The active session of this process, whichever thread made it; None if there is none."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    return None if SparkContext._active_spark_context is None else SparkSession.builder.getOrCreate()


def require_pyspark() -> None:
    """Raise DeviceError without pyspark."""
    try:
        import pyspark  # noqa: F401
    except ImportError as error:
        fix = "install it: pip install 'recsys-mf[spark]'"
        raise DeviceError("Spark is not installed here", where="pyspark", fix=fix) from error


def require_java() -> None:
    """Raise DeviceError if there is no Java on which Spark runs."""
    fix = f"install Java {_OLDEST_JAVA} (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        raise DeviceError("Spark needs Java, and there is none here", where="Java", seen=java or "no java", fix=fix)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', told)
    if found is None or int(found[1]) < _OLDEST_JAVA:
        seen = found[1] if found else told[:80]
        raise DeviceError(f"Spark needs Java {_OLDEST_JAVA} or later", where=java, seen=seen, fix=fix)


def probe(session: Any, deadline: float = DEADLINE) -> None:
    """Run a small job. Raises DeviceError if it does not end within the deadline."""
    context = session.sparkContext

    def count() -> None:
        context.setJobGroup("recsys_mf-probe", "recsys_mf: is the cluster there?", interruptOnCancel=True)
        context.parallelize([0], 1).count()

    try:
        within(deadline, count)
    except TimeoutError:
        context.cancelJobGroup("recsys_mf-probe")
        fix = "start workers, or free some of their cores and memory"
        what = f"no worker of the cluster took a task within {deadline:g} s"
        raise DeviceError(what, where=context.master, fix=fix) from None
    except Exception as error:
        raise _unusable(context.master, error) from error


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What a call returns. Raises TimeoutError if it takes longer; the call then continues in the background."""
    found: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if errors:
        raise errors[0]
    return found[0]


def _require_context(session: Any) -> None:
    """Raise ConfigError for Spark Connect, which cannot start barrier stages of Python functions."""
    try:
        _ = session.sparkContext
    except Exception as error:
        fix = "give a session of Spark itself (not Spark Connect)"
        raise ConfigError("this session cannot run barrier stages", where="session", fix=fix) from error


def _made(master: str, deadline: float) -> Any:
    """A new session."""
    from pyspark.sql import SparkSession

    require_java()
    _knock(master)
    builder = SparkSession.builder.appName("recsys_mf").master(master)
    for name, value in (_SETTINGS | (_ON_LOOPBACK if _is_near(master) else {})).items():
        builder = builder.config(name, value)
    try:
        with _quiet():
            return within(deadline, builder.getOrCreate)
    except TimeoutError:
        what = f"the master did not give a session within {deadline:g} s"
        raise DeviceError(
            what, where=master, fix="check the address, and that it is of this version of Spark"
        ) from None
    except Exception as error:
        raise _unusable(master, error) from error


def _knock(master: str) -> None:
    """Raise DeviceError if no master of a standalone cluster answers at its port."""
    if not master.startswith("spark://"):
        return
    addresses = [address.rpartition(":") for address in master.removeprefix("spark://").split(",")]
    errors = []
    for host, _, port in addresses:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()
            return
        except (OSError, ValueError) as error:
            errors.append(getattr(error, "strerror", None) or str(error))
    fix = "start it, or give the address that its log shows (spark://HOST:7077)"
    raise DeviceError("the master does not answer", where=master, seen=errors[0], fix=fix)


def _is_near(master: str) -> bool:
    return master.startswith(("local", "spark://127.0.0.1:", "spark://localhost:"))


def _unusable(master: str, error: Exception) -> DeviceError:
    from recsys_mf.spark.crew import reason

    fix = "check the address and the version of Spark there"
    return DeviceError("the cluster cannot be used", where=master, seen=reason(error), fix=fix)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, what a new Java process writes to stderr goes to a temporary file."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
