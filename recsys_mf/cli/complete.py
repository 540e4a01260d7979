"""`recsys-mf complete`: the missing entries of a matrix in a file."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.pictures import PictureFiles, picture_options
from recsys_mf.cli.places import OUTPUT, PLACE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import ConfigError, printable
from recsys_mf.storage import Place

if TYPE_CHECKING:
    from recsys_mf.completion import Completion

_SHOWN = 5  # how many of the columns with the largest error are printed


@click.command(cls=WritingCommand)
@click.argument("matrix", metavar="MATRIX", type=PLACE)
@click.option("--output", "-o", required=True, type=OUTPUT, metavar="FULL",
              help="File to write (.csv, .tsv, .parquet, .npy or .npz).")  # fmt: skip
@click.option("--errors", type=OUTPUT, metavar="FILE",
              help="Write the standard deviation of every entry to FILE: 0 if observed, NaN if unknown.")  # fmt: skip
@click.option("--method", default="auto", show_default=True, metavar="auto|gaussian|factors|soft-impute",
              help="How entries are filled; auto: the method with the smallest error on held-out entries.")  # fmt: skip
@click.option("--rank", type=int, metavar="K", help="Number of factors of the method factors.  [default: chosen]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the entries that are held out.")
@click.option("--header", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True,
              help="Whether the first line of a text names the columns.")  # fmt: skip
@picture_options
@click.option("--force", is_flag=True, help="Replace the output files if they exist.")
@options.quiet_option
def complete(
    matrix: Place,
    output: Place,
    errors: Place | None,
    method: str,
    rank: int | None,
    seed: int,
    force: bool,
    **given: Any,
) -> None:
    """Fill the missing entries of the table of numbers MATRIX.

    MATRIX is a .csv, .tsv, .parquet, .npy or .npz file, with or without column names; a first column of text, or of
    numbers with leading zeros, holds row labels. Empty fields, NA, N/A, #N/A, <NA>, NaN, null, none, - and ? are
    missing. Observed entries are kept. The error is measured on observed entries that are held out.
    """
    from recsys_mf import completion
    from recsys_mf.completion.containers import read_matrix
    from recsys_mf.completion.tables import WRITTEN, read_table, write_table
    from recsys_mf.outputs import check_output

    if errors is not None and errors == output:
        raise ConfigError("two results in one file", where="--errors", seen=str(errors), fix="give another name")
    for path in (output,) if errors is None else (output, errors):
        check_output(path, "output", WRITTEN, force=force)
    pictures = PictureFiles(given["html"], given["plots"], force)
    pictures.check(output, errors)
    table = read_table(matrix, header=given["header"])
    result = completion.complete(read_matrix(table.frame, where=str(matrix)), method, rank=rank, seed=seed)
    write_table(table, result.filled, output, force=force)
    if errors is not None:
        write_table(table, result.deviations, errors, force=force)
    written = f"{output}" if errors is None else f"{output}, {errors}"
    pictures.write(result)
    options.say(_report(result, written))


def _report(result: Completion, written: str) -> str:
    """What was filled and how well, as lines."""
    rows, columns = result.filled.shape
    missing = sum(column.missing for column in result.column_errors)
    lines = {
        "written": written,
        "matrix": f"{rows:,} rows, {columns:,} columns",
        "missing": f"{missing:,} of {rows * columns:,} entries ({missing / (rows * columns):.1%})",
    }
    if result.error is not None:
        how = result.tried[0]
        added = " and near rows" if how.neighbour_share else ""
        lines["method"] = f"{result.method}{added}{', skewed columns straightened' if how.straightened else ''}"
        lines["error"] = f"{result.error:.4f} standard deviations, on held-out entries"
        if isnan(result.error):
            lines["error"] = "unknown: too few entries of columns with different values"
    text = [f"{name:10}{printable(value)}" for name, value in lines.items()]
    return "\n".join([*text, *_tried(result), *_worst(result)])


def _tried(result: Completion) -> list[str]:
    if not result.tried:
        return []
    rows = [
        f"{how.method:12}{'' if how.rank is None else how.rank:>6}{_number(how.error, 16, '.4f')}"
        for how in result.tried
    ]
    return ["", f"{'method':12}{'rank':>6}{'held-out error':>16}", *rows]


def _worst(result: Completion) -> list[str]:
    """The filled columns with the largest error."""
    filled = [column for column in result.column_errors if column.missing]
    worst = sorted(filled, key=lambda column: (isnan(column.error), -column.standardised))[:_SHOWN]
    if not worst:
        return []
    names = [printable(column.name, 30) for column in worst]
    width = max(12, *(len(name) + 2 for name in names))
    rows = [
        f"{name:{width}}{column.missing:>8,}{_number(column.error, 14, '.4g')}{_number(column.standardised, 21, '.4f')}"
        for name, column in zip(names, worst, strict=True)
    ]
    return ["", f"{'worst column':{width}}{'missing':>8}{'error':>14}{'standard deviations':>21}", *rows]


def _number(value: float, width: int, form: str) -> str:
    return f"{'unknown' if isnan(value) else format(value, form):>{width}}"
