"""Foreign: formats that are not read, told by their first bytes or their first line, and what to do with each."""

from __future__ import annotations

import re
from collections.abc import Sequence

from recsys_mf.errors import DataError
from recsys_mf.loaders.words import clipped

_FROM_MATRIX = "and give the matrix to recsys_mf.from_matrix"
_FROM_FRAME = "and give the table to recsys_mf.from_frame"
_BYTES = (
    (
        b"\xd0\xcf\x11\xe0",
        "an Excel workbook",
        f"save the sheet as CSV, or read it with pandas.read_excel {_FROM_FRAME}",
    ),
    (b"%PDF", "a PDF", "copy its table into a CSV file"),
    (b"SQLite format 3", "an SQLite database", f"read the table with pandas.read_sql {_FROM_FRAME}"),
    (b"\x89HDF", "an HDF5 file", f"read it with pandas.read_hdf {_FROM_FRAME}, or with h5py {_FROM_MATRIX}"),
    (b"\x93NUMPY", "a NumPy array", f"load it with numpy.load {_FROM_MATRIX}"),
    (b"MATLAB 5.0", "a MATLAB file", f"load it with scipy.io.loadmat {_FROM_MATRIX}"),
    (b"ARROW1", "an Arrow file", f"read it with pyarrow.feather.read_table {_FROM_FRAME}"),
    (b"FEA1", "a Feather file", f"read it with pyarrow.feather.read_table {_FROM_FRAME}"),
    (b"ORC", "an ORC file", f"read it with pandas.read_orc {_FROM_FRAME}"),
    (b"Obj\x01", "an Avro file", "convert it to Parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and give the table in it"),
    (b"Rar!", "a rar archive", "unpack it and give the table in it"),
    (b"RDX", "an R workspace", "write the table from R with write.csv"),
    (b"X\n\x00\x00", "an R object", "write the table from R with write.csv"),
    (b"$FL2", "an SPSS file", f"read it with pandas.read_spss {_FROM_FRAME}"),
    (b"<stata_dta>", "a Stata file", f"read it with pandas.read_stata {_FROM_FRAME}"),
)  # by their first bytes
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_PACKED_AGAIN = re.compile(rb"\x1f\x8b|BZh|\x28\xb5\x2f\xfd|\xfd7zXZ|PK\x03\x04")
_LINES = (
    (r"%%MatrixMarket", "a Matrix Market file", "read it with scipy.io.mmread and give it to from_matrix"),
    (r"<\?xml|<!doctype|<html|<table", "a page of HTML or XML", "save its table as CSV"),
    (
        r"@relation",
        "an ARFF file",
        "read it with scipy.io.arff.loadarff, make a pandas frame, and give it to from_frame",
    ),
    (r"\{'|\[\{'", "lines of Python literals, not JSON", "write each as JSON: json.dumps(ast.literal_eval(line))"),
    (r"(insert into|create table|-- )", "an SQL dump", "export the table as CSV"),
    (r"[-+.\d]+( \d+:[-+.\d]+)+\s*$", "a LIBSVM file", "write one line of user, item, rating per entry"),
)


def refuse_foreign_bytes(head: bytes, where: str, *, is_packed: bool) -> None:
    """Raise DataError if the first bytes of a file are those of another format.

    is_packed : whether they were compressed
    """
    for magic, what, fix in _BYTES:
        if head.startswith(magic):
            raise DataError(f"{what}, not a table of text, JSON or Parquet", where=where, fix=fix)
    if _PICKLE.match(head):
        fix = f"load it with pandas.read_pickle, if you trust it, {_FROM_FRAME}"
        raise DataError("a pickle, not a table of text, JSON or Parquet", where=where, fix=fix)
    if head[257:262] == b"ustar":
        raise DataError("a tar archive", where=where, fix="unpack it and give the table in it")
    if is_packed and _PACKED_AGAIN.match(head):
        raise DataError("the file is compressed twice", where=where, fix="unpack it and give the table in it")


def refuse_foreign_line(lines: Sequence[str], where: str) -> None:
    """Raise DataError if the first line of a text is that of another format."""
    start = next((line for line in lines if line.strip()), "").lstrip("\ufeff \t")
    for pattern, what, fix in _LINES:
        if re.match(pattern, start, re.IGNORECASE):
            raise DataError(f"{what}, not a table of text", where=where, seen=repr(clipped(start.strip(), 40)), fix=fix)
