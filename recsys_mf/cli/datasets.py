"""`recsys-mf datasets`: public data sets and the shipped sample, as Parquet tables."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

from recsys_mf.cli import options
from recsys_mf.cli.places import local
from recsys_mf.cli.progress import is_silent
from recsys_mf.errors import printable

if TYPE_CHECKING:
    from recsys_mf.loaders.catalog import Dataset


@click.group()
def datasets() -> None:
    """List the public data sets and the sample, or fetch one as a Parquet table."""


@datasets.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the data sets that can be fetched, with their sizes and licences."""
    from recsys_mf.loaders.catalog import catalog

    entries = catalog()
    if as_json:
        options.say(json.dumps({name: dataclasses.asdict(entry) for name, entry in entries.items()}, indent=2))
    else:
        options.say(_table(entries))


@datasets.command()
@click.argument("name")
@click.option(
    "--output",
    "-o",
    type=local("folder of a data set"),
    metavar="DIR",
    default=".",
    show_default=True,
    help="Folder in which to write NAME.parquet.",
)
@options.quiet_option
def fetch(name: str, output: str, quiet: bool) -> None:
    """Download the data set NAME, check it and write it as NAME.parquet. An interrupted download is resumed."""
    from tqdm import tqdm

    from recsys_mf.loaders import catalog

    bar = tqdm(
        desc=printable(name, 40),
        unit="B",
        unit_scale=True,
        file=sys.stderr,
        disable=is_silent(quiet=quiet),
        leave=False,
    )

    def watch(received: int, total: int | None) -> None:
        bar.total = total
        bar.update(received - bar.n)

    entries = catalog.catalog()
    with bar:
        path = catalog.fetch(name, output, datasets=entries, watch=watch)
    options.say(printable(path))
    options.say(f"licence: {entries[name].licence}; {entries[name].licence_address}")


def _table(entries: dict[str, Dataset]) -> str:
    """One line per data set."""
    lines = [f"{'name':16}{'ratings':>12}{'users':>9}{'items':>8}  {'scale':10}licence"]
    for name, entry in entries.items():
        scale = "{:g} to {:g}".format(*entry.scale)
        lines.append(f"{name:16}{entry.ratings:>12,}{entry.users:>9,}{entry.items:>8,}  {scale:10}{entry.licence}")
    return "\n".join(lines)
