"""What is said of downloads and uploads: a line now and then without a terminal, nothing under --quiet."""

from __future__ import annotations

import click
import pytest

from recsys_mf.cli.transfers import Transfers
from recsys_mf.storage.transfer import Transfer


def told(watch: Transfers, seconds: list[float], total: int | None) -> None:
    for second in list(seconds):
        watch(Transfer("downloading", "s3://b/t", int(second) << 20, total))


@pytest.mark.parametrize(("total", "said"), [(100 << 20, "12.0 MiB of 100.0 MiB"), (None, "12.0 MiB")])
def test_a_line_every_ten_seconds(capfd: pytest.CaptureFixture[str], total: int | None, said: str) -> None:
    seconds = [0.0, 3.0, 12.0, 15.0, 21.0, 23.0]
    times = iter([seconds[0], *seconds])
    told(Transfers(lambda: next(times)), seconds, total)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == f"downloading s3://b/t: {said}"
    assert len(err.splitlines()) == 2


def test_nothing_under_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    context = click.Context(click.Command("x"))
    context.params["quiet"] = True
    times = iter(range(0, 1000, 20))
    with context:
        told(Transfers(lambda: next(times)), [1.0, 2.0, 3.0], None)
    assert capfd.readouterr() == ("", "")
