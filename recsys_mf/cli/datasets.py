"""`recsys-mf datasets`: public data sets and the shipped sample, as Parquet tables."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import click

from recsys_mf.cli import options
from recsys_mf.errors import ConfigError, nearest

_SAMPLE = "sample"
_SAMPLE_FACTS = "shipped with the package: generated, CC0"


@click.group()
def datasets() -> None:
    """List the data sets, and fetch one as a Parquet table."""


@datasets.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the data sets that can be fetched: what they hold, and their licences."""
    from recsys_mf.loaders.catalog import catalog

    known = catalog()
    if as_json:
        click.echo(json.dumps({name: dataclasses.asdict(entry) for name, entry in known.items()}, indent=2))
        return
    click.echo(f"{'name':16}{'ratings':>12}{'users':>10}{'items':>9}  {'scale':10}checksum")
    click.echo(f"{_SAMPLE:16}{_SAMPLE_FACTS}")
    for name, entry in known.items():
        scale = f"{entry.scale[0]:g} to {entry.scale[1]:g}"
        counts = f"{entry.ratings:>12,}{entry.users:>10,}{entry.items:>9,}"
        click.echo(f"{name:16}{counts}  {scale:10}{'MD5' if entry.md5 else 'none published'}")
    click.echo()
    for licence in dict.fromkeys(entry.licence for entry in known.values()):
        names = ", ".join(name for name, entry in known.items() if entry.licence == licence)
        click.echo(f"{names}: {licence}")


@datasets.command()
@click.argument("name")
@click.option("--output", "-o", default=".", type=click.Path(path_type=Path), help="Folder to write NAME.parquet to.")
@options.quiet_option
def fetch(name: str, output: Path, quiet: bool) -> None:
    """Download the data set NAME, check it and convert it to NAME.parquet; go on with a download that broke off."""
    from tqdm import tqdm

    from recsys_mf.cli.progress import is_silent
    from recsys_mf.loaders.catalog import catalog
    from recsys_mf.loaders.catalog import fetch as fetched

    if name == _SAMPLE:
        click.echo(f"{_copied_sample(output)}: {_SAMPLE_FACTS}")
        return
    known = catalog()
    if name not in known:
        raise ConfigError(f"no data set '{name}'", fix=nearest(name, [_SAMPLE, *known]))
    with tqdm(desc=name, unit="B", unit_scale=True, disable=is_silent(quiet=quiet), leave=False) as bar:

        def show(received: int, total: int | None) -> None:
            bar.total = total
            bar.update(received - bar.n)

        path = fetched(name, output, watch=show)
    entry = known[name]
    click.echo(f"{path}: {entry.title}, {entry.ratings:,} ratings")
    click.echo(f"licence: {entry.licence}; {entry.licence_address}")


def _copied_sample(folder: Path) -> Path:
    from recsys_mf.datasets import SAMPLE

    if not folder.is_dir():
        raise ConfigError("no such folder", where=str(folder), fix="make it first")
    path: Path = folder / SAMPLE.name
    if not path.exists():
        shutil.copyfile(SAMPLE, path)
    return path
