"""What is said of downloads and uploads: a line now and then without a terminal, nothing under --quiet."""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np
import pytest

from recsys_mf import cli
from recsys_mf.cli import transfers
from recsys_mf.cli.places import PlaceType
from recsys_mf.cli.transfers import Transfers
from recsys_mf.storage.transfer import Transfer
from recsys_mf.store import save
from tests.cli.conftest import Cli
from tests.trained import factor_run, small_table


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


def test_every_command_that_takes_an_address_has_quiet() -> None:
    for name, command in cli.command.commands.items():
        if any(isinstance(p.type, PlaceType) and p.type.local is None for p in command.params):
            assert "quiet" in {p.name for p in command.params}, name


MATRIX = "\n".join(",".join(f"{x:.3f}" for x in row) for row in np.random.default_rng(0).random((20, 3)))
READ = {
    "evaluate": ("run", "--test", small_table().to_frame().to_csv(index=False)),
    "inspect": (small_table().to_frame().to_csv(index=False),),
    "fold-in": ("run", "user_id,item_id,rating\n9000,100,3\n", "-o", "more"),
    "forget": ("run", "-o", "less", "--users", "user_id\n5\n"),
    "explain": ("run", "5", "100", "--titles", "item_id,title\n100,A\n"),
    "complete": (f"a,b,c\n{MATRIX}\n1,,2\n", "-o", "full.csv"),
}
"""The arguments of a command; a text of several lines stands for the address of a table."""


@pytest.mark.parametrize("name", READ)
def test_quiet_hides_the_lines_of_transfers(
    recsys: Cli, web: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(transfers, "_INTERVAL", 0.0)
    save(factor_run(), "run")
    typed = [web("table.csv", text.encode()) if "\n" in text else text for text in READ[name]]
    again = [f"new-{text}" if before == "-o" else text for before, text in zip(["", *typed], typed, strict=False)]
    code, _, err = recsys(name, *typed)
    assert (code, "downloading http://" in err) == (0, True), err
    code, _, err = recsys(name, *again, "--quiet")
    assert (code, "downloading" in err) == (0, False), err
