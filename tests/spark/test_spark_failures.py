"""What Spark can lack is one line: what, where, the value seen, what to type."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from recsys_mf.errors import ConfigError, DataError, DeviceError
from recsys_mf.spark import crew, session, worker
from recsys_mf.spark.engine import Cluster

SOFTWARE = worker.describe_software()


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    message = r"^pyspark: Spark is not installed here; install it: pip install 'recsys-mf"
    with pytest.raises(DeviceError, match=message), session.opened():
        pass


def test_without_java_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"^Java: Spark needs Java, and there is none here .*openjdk-17-jre-headless"):
        session.require_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match=r"there is none here \(saw .*bin/java\)"):
        session.require_java()


@pytest.mark.parametrize(("told", "seen"), [("1.8.0_392", "8"), ("11.0.2", "11")])
def test_an_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, seen: str) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{told}\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(DeviceError, match=rf"Spark needs Java 17 or later \(saw {seen}\)"):
        session.require_java()


def test_a_master_at_a_closed_port_does_not_answer() -> None:
    pytest.importorskip("pyspark")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        master = f"spark://127.0.0.1:{bound.getsockname()[1]}"
        for address in (master, "spark://127.0.0.1:no"):
            with pytest.raises(DeviceError, match=rf"^{address}: the master does not answer \(saw .*\); start it, or"):
                session._knock(address)


def test_what_takes_longer_than_its_deadline_is_left_behind() -> None:
    with pytest.raises(TimeoutError):
        session.within(0.05, threading.Event().wait)
    assert session.within(5, lambda: 3) == 3
    with pytest.raises(ValueError, match="no"):
        session.within(5, lambda: int("no"))


def test_a_session_and_a_master_exclude_each_other() -> None:
    pytest.importorskip("pyspark")
    message = r"^master: a session has a master \(saw local\); leave one of them out"
    with pytest.raises(ConfigError, match=message), session.opened(object(), "local"):
        pass


@pytest.mark.parametrize(("changed", "message"), [
    ({"recsys_mf": "0.0.1"}, r"^Spark: a worker has another recsys_mf \(saw 0.0.1, expected .*\); install recsys_mf"),
    ({"numba": "0.1"}, "another numba"),
    ({"processor": "z80"}, "a worker has another processor .* take workers of one kind"),
])  # fmt: skip
def test_a_worker_of_another_version_is_refused(changed: dict[str, str], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        crew.check_software([SOFTWARE, SOFTWARE | changed])
    crew.check_software([SOFTWARE, SOFTWARE])


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"every": 0}, {"least": -1}, {"workers": 1.5}])
def test_numbers_of_a_cluster_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(wrong))}: .*out of range"):
        Cluster(**wrong)


def test_a_stack_trace_is_cut_to_the_line_that_says_something() -> None:
    text = (
        "An error occurred.\n: org.apache.spark.SparkException: Job aborted\n\tat org.apache.X\n"
        'Traceback (most recent call last):\n  File "x.py", line 3\nValueError: the reason\n\tat java.Y\n'
    )
    assert crew.reason(RuntimeError(text)) == "ValueError: the reason"
    assert crew.reason(None) == "it ended"


def test_an_endpoint_refuses_who_lacks_the_token() -> None:
    wire = pytest.importorskip("recsys_mf.spark.wire")
    import numpy as np

    rows = wire.Rows(np.arange(32, dtype=np.float32).reshape(2, 16), np.ones(2, np.float32))
    mailbox = wire.Mailbox()

    def act(name: str, facts: dict[str, Any]) -> dict[str, Any]:
        if name == "fail":
            raise DataError("bad", where="table", fix="mend it")
        return {"echo": {"echo": facts}}[name]

    endpoint = wire.Endpoint("127.0.0.1", "right", mailbox, act, lambda key: rows)
    try:
        address = f"127.0.0.1:{endpoint.port}"
        friend, stranger = wire.Peer(address, "right"), wire.Peer(address, "wrong")
        assert friend.call("echo", {"x": 1}) == {"echo": {"x": 1}}
        friend.send("key", rows)
        for one, other in zip(mailbox.take("key", lambda: False), friend.fetch("any"), strict=True):
            assert np.array_equal(one, other)
            assert one.flags.writeable
        with pytest.raises(DataError, match=r"^worker 127.0.0.1:\d+: table: bad; mend it"):
            friend.call("fail", {})
        with pytest.raises(RuntimeError, match=r"^KeyError: worker 127.0.0.1:\d+: 'no'"):
            friend.call("no", {})
        with pytest.raises(ConnectionError, match="token"):
            stranger.call("echo", {})
        with pytest.raises(ConnectionError, match="token"):
            stranger.fetch("any")
        with pytest.raises(ConnectionError, match="token"):
            stranger.send("key", rows)
        with pytest.raises(ConnectionError, match="did not come"):
            mailbox.take("key", lambda: False)
    finally:
        endpoint.shutdown()


def test_the_package_needs_no_spark_until_it_is_used() -> None:
    script = "import sys, recsys_mf.spark; recsys_mf.spark.train; print('pyspark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    with pytest.raises(AttributeError, match=r"^module 'recsys_mf.spark' has no attribute 'trian'$"):
        _ = importlib.import_module("recsys_mf.spark").trian
