"""Matrices in files: plain tables of numbers with or without column names and row labels.

    .csv, .tsv, .txt    empty fields, NA, N/A, #N/A, <NA>, NaN, null, none, - and ? are missing, in lower or upper case;
                        the delimiter and the decimal sign are detected
    .parquet            nulls and NaN are missing
    .npy, .npz          NumPy; an .npz holds one array

A first column holds row labels if it is text, numbers with leading zeros (007) included, or if it has no name while the
others have one. The first line of a text holds the names of the columns unless it holds a number.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from recsys_mf.completion.containers import FIRST_INEXACT, inexact_integer
from recsys_mf.errors import ConfigError, DataError, ReadingNotice, system_errors
from recsys_mf.loaders.dialect import Dialect, dialect_of, row_reader
from recsys_mf.loaders.numerals import MISSING, ambiguous_columns, comma_fault, is_number
from recsys_mf.loaders.rewriting import rewrite_fields
from recsys_mf.loaders.words import clipped
from recsys_mf.loaders.writing import open_table
from recsys_mf.outputs import written_output
from recsys_mf.storage import Address, Place
from recsys_mf.storage.reading import copied, renamed

if TYPE_CHECKING:
    import pandas as pd

Header = Literal["auto", "yes", "no"]
TEXTS = (".csv", ".tsv", ".txt")
WRITTEN = (".csv", ".tsv", ".parquet", ".npy", ".npz")
"""Suffixes of the files that can be written."""

_INTEGER, _PADDED = re.compile(r"[+-]?\d+"), re.compile(r"0\d+")
_HEAD = 1 << 16  # characters that the dialect is found from


@dataclass(frozen=True)
class Table:
    """A matrix from a file.

    frame : its numbers, NaN where missing; the index holds the row labels
    labels : the name of the column of row labels; None without one
    """

    frame: pd.DataFrame
    labels: str | None


def read_table(path: Place, *, header: Header = "auto") -> Table:
    """The matrix in a file, by its suffix.

    header : "yes" if the first line of a text holds the names of the columns, "no" if it is data, "auto" to find out
    Raises DataError if the file is not a table of numbers, and ConfigError for the header of a file that is not text.
    """
    fix = f"give a file ending in {', '.join(TEXTS)}, .parquet, .npy or .npz"
    if path.suffix not in (*TEXTS, ".parquet", ".npy", ".npz"):
        raise DataError("unknown file type for a matrix", where=str(path), seen=path.suffix or "no suffix", fix=fix)
    if header != "auto" and path.suffix not in TEXTS:
        what = "only text tables have a line of names"
        raise ConfigError(what, where="--header", seen=f"{header}, {path}", fix="leave it out")
    with system_errors(DataError, "cannot be read", where=path, fix="give a file that can be read"):
        if not isinstance(path, Address):
            return _of_suffix(path, path.suffix, header, str(path))
        copy = copied(path)
        with renamed(copy.path, path):
            return _of_suffix(copy.path, path.suffix, header, str(path))


def _of_suffix(path: Path, suffix: str, header: Header, where: str) -> Table:
    if suffix in TEXTS:
        return _of_text(path, {"yes": True, "no": False}.get(header), where)
    return _of_parquet(path) if suffix == ".parquet" else _of_numpy(path, suffix)


def write_table(table: Table, frame: pd.DataFrame, path: Place, *, force: bool) -> None:
    """Write a frame of the shape of the table in the format of the suffix; the file is complete or absent."""
    import pyarrow as pa

    with written_output(path, force=force) as aside:
        if path.suffix == ".npy":
            np.save(aside, frame.to_numpy())
        elif path.suffix == ".npz":
            np.savez(aside, matrix=frame.to_numpy())
        else:
            columns = {} if table.labels is None else {table.labels: pa.array(frame.index)}
            columns |= {str(name): pa.array(frame[name].to_numpy()) for name in frame.columns}
            batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
            writer = open_table(aside, path.suffix, batch.schema)
            writer.write_batch(batch)
            writer.close()


def _of_text(path: Path, is_named: bool | None, where: str) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        seen = f"byte {error.object[error.start]:#04x} at {error.start:,}"
        raise DataError("not UTF-8 text", where=where, seen=seen, fix="save it as UTF-8") from None
    if not text.strip():
        raise DataError("the file is empty", where=where, fix="give lines of numbers")
    dialect = dialect_of(text[:_HEAD], where, whole=len(text) <= _HEAD, header=is_named)
    if dialect.separator != dialect.delimiter:
        text = rewrite_fields(dialect.delimiter, dialect.quotes)(text.encode()).decode()
    reader = row_reader(text.splitlines(keepends=True), dialect.separator, dialect.quotes)
    rows = [[field.strip() for field in row] for row in reader if len(row) > 1 or any(row)]  # not blank lines
    first = 1  # number of the line of the first row, for messages
    header: list[str] | None = None
    if dialect.header or (is_named is None and _counts_columns(rows[0])):
        header, rows, first = rows[0], rows[1:], 2
    elif is_named is None and _may_be_names(rows[0]):
        remark = "the first line is read as data; give --header yes if it names the columns"
        warnings.warn(f"{where}: {remark}", ReadingNotice, stacklevel=4)
    return _of_rows(rows, header, first, dialect, where)


def _counts_columns(row: list[str]) -> bool:
    """Whether a line has the column names 0, 1, 2, … of pandas, after an empty field if rows have labels."""
    names = row[1:] if not row[0] else row
    return len(names) > 1 and names == [str(j) for j in range(len(names))]


def _may_be_names(row: list[str]) -> bool:
    """Whether a line that is read as data may name the columns: all different, and numbers except for the first."""
    names = row[1:] if not row[0] else row
    return len(set(row)) == len(row) > 1 and all(map(is_number, row[1:])) and not MISSING & {n.lower() for n in names}


def _of_rows(rows: list[list[str]], header: list[str] | None, first: int, dialect: Dialect, where: str) -> Table:
    """Fields as numbers, with a first column of labels if there is one."""
    import pandas as pd

    if not rows:
        raise DataError("no rows in the table", where=where, fix="give at least one row of numbers")
    width = len(rows[0])
    short = next((at for at, row in enumerate(rows) if len(row) != width), None)
    if short is not None:
        seen = f"{len(rows[short])} fields; {width} in the first row"
        raise DataError("a row of another length", where=f"{where}, row {first + short}", seen=seen, fix="repair it")
    names = _names(header, width, where)
    labelled = (header is not None and len(header) == width and not header[0]) or any(
        _parsed(row[0], dialect.decimal) is None or _PADDED.fullmatch(row[0]) for row in rows
    )
    begin = int(labelled)
    if begin == width:
        raise DataError(
            "not a table of numbers", where=where, seen=repr(clipped(rows[0][0], 40)), fix="give columns of numbers"
        )
    if dialect.decimal == ",":
        for j, seen in ambiguous_columns(rows, dialect.delimiter).items():
            if j >= begin:
                raise comma_fault(f"{where}, column {names[j]}", seen)
    values = np.empty((len(rows), width - begin))
    for i, row in enumerate(rows):
        for j, field in enumerate(row[begin:]):
            number = _parsed(field, dialect.decimal)
            if number is None:
                place = f"{where}, row {first + i}, column {names[begin + j]}"
                fix = "give a number, or leave the field empty if it is missing"
                raise DataError("not a number", where=place, seen=repr(clipped(field, 40)), fix=fix)
            if abs(number) >= FIRST_INEXACT and _INTEGER.fullmatch(field) and int(field) != number:
                raise inexact_integer(f"{where}, row {first + i}, column {names[begin + j]}", int(field))
            values[i, j] = number
    index = pd.Index([row[0] for row in rows] if labelled else range(first, first + len(rows)))
    label = (names[0] if header else "") or "row"
    return Table(pd.DataFrame(values, index, names[begin:]), label if labelled else None)


def _names(header: list[str] | None, width: int, where: str) -> list[str]:
    if header is None:
        return [f"column_{j + 1}" for j in range(width)]
    names = ["", *header] if len(header) == width - 1 else header
    if len(names) != width:
        seen = f"{len(names)} names, {width} fields in the rows"
        raise DataError("the line of names has another length", where=where, seen=seen, fix="name every column once")
    return names


def _parsed(field: str, decimal: str) -> float | None:
    """A field as a number, NaN if it is missing; None for another text."""
    if field.lower() in MISSING:
        return float("nan")
    try:
        return float(field.replace(",", ".") if decimal == "," else field)
    except ValueError:
        return None


def _of_parquet(path: Path) -> Table:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
    except pa.ArrowInvalid as error:
        seen = clipped(str(error).splitlines()[0], 100)
        raise DataError("not a Parquet file", where=str(path), seen=seen, fix="give a whole Parquet file") from None
    if not frame.shape[1]:
        raise DataError("no columns in the table", where=str(path), fix="give columns of numbers")
    if isinstance(frame.index, pd.RangeIndex) and not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[0]):
        frame = frame.set_index(frame.columns[0])
    if isinstance(frame.index, pd.RangeIndex):
        return Table(frame, None)
    return Table(frame, str(frame.index.name or "row"))


def _of_numpy(path: Path, suffix: str) -> Table:
    import pandas as pd

    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if suffix == ".npz":
            if len(loaded.files) != 1:
                seen = f"{len(loaded.files)} arrays: {clipped(', '.join(loaded.files), 60)}"
                raise DataError("an .npz file must hold one array", where=str(path), seen=seen, fix="save it alone")
            loaded = loaded[loaded.files[0]]
    except ValueError as error:
        seen = clipped(str(error).splitlines()[0], 100)
        raise DataError("not an array of numbers", where=str(path), seen=seen, fix="save it by numpy.save") from None
    if loaded.ndim != 2:
        raise DataError("not a matrix", where=str(path), seen=f"shape {loaded.shape}", fix="give an array [m, n]")
    return Table(pd.DataFrame(loaded, columns=[f"column_{j + 1}" for j in range(loaded.shape[1])]), None)
