"""`recsys-mf evaluate`: the report of a run on any table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from recsys_mf.cli import options


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--test", required=True, metavar="FILE", help="Table of ratings to report on.")
@options.device_option
@options.threads_option
@options.duplicates_option
@options.column_options
@options.report_options
def evaluate(
    run: Path,
    test: str,
    device: str,
    threads: int | None,
    duplicates: Any,
    as_json: bool,
    markdown: bool,
    **columns: Any,
) -> None:
    """Report the error of the model in the directory RUN, and of the baselines beside it, on a table of ratings.

    Every row is scored; a user or item that the run was not trained on gets its fallback and counts in the
    fallback share.
    """
    from recsys_mf import evaluation, loaders, store

    loaded = store.load(run)
    table = loaders.read_ratings(test, duplicates=duplicates, **columns)
    report = evaluation.evaluate(loaded, table, held_out=f"the pairs of {test}", device=device, threads=threads)
    options.print_report(report, as_json=as_json, markdown=markdown)
