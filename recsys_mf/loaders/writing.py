"""Tables written batch by batch; text in a dialect that the loaders read: quoted if necessary, quotes doubled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recsys_mf.conversion.arrow import is_binary
from recsys_mf.errors import DataError
from recsys_mf.loaders.words import clipped

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = (".parquet", ".csv", ".tsv")
"""Suffixes of the tables that can be written."""

_NEEDS_QUOTES = r'["\r\n]|^[ \t]|[ \t]$'  # or if it contains the delimiter


class TableWriter(Protocol):
    """Writes the batches of a table."""

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """The rows, in order."""

    def close(self) -> None:
        """End the file."""


def open_table(path: Path, suffix: str, schema: pa.Schema) -> TableWriter:
    """A writer for the file type of a suffix, one of TABLES."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if suffix == ".parquet":
        # Predictions hardly repeat: looking for a dictionary of them takes longer than everything else.
        repeating = [field.name for field in schema if not pa.types.is_floating(field.type)]
        writer: TableWriter = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeating)
        return writer
    return TextWriter(path, "," if suffix == ".csv" else "\t", schema)


class TextWriter:
    """CSV or TSV in UTF-8.

    delimiter : between fields
    schema : of the batches. Raises DataError for a column that text cannot hold
    """

    def __init__(self, path: Path, delimiter: str, schema: pa.Schema) -> None:
        import pyarrow as pa

        for field in schema:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if pa.types.is_nested(kind) or pa.types.is_null(kind) or is_binary(kind):
                where, fix = f"column {clipped(field.name)}", "write Parquet, or leave the column out"
                raise DataError("a text file cannot hold values of this type", where=where, seen=kind, fix=fix)
        self._delimiter = delimiter
        self._pattern = f"{delimiter}|{_NEEDS_QUOTES}"
        self._file = path.open("wb")
        names = self._quoted(pa.array(schema.names, pa.large_string())).to_pylist()
        self._file.write((delimiter.join(names) + "\n").encode())

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """The rows, in order."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.csv as csv

        columns = [_plain(column) for column in batch.columns]
        texts = [number for number, column in enumerate(columns) if pa.types.is_large_string(column.type)]
        if not any(pc.any(self._special(columns[number])).as_py() for number in texts):
            plain = pa.RecordBatch.from_arrays(columns, names=list(map(str, range(len(columns)))))
            options = csv.WriteOptions(include_header=False, delimiter=self._delimiter, quoting_style="none")
            csv.write_csv(plain, self._file, options)
            return
        for number in texts:
            columns[number] = self._quoted(columns[number])
        fields = [column.cast(pa.large_string()) for column in columns]
        delimiter, end = pa.scalar(self._delimiter, pa.large_string()), pa.scalar("\n", pa.large_string())
        empty: dict[str, Any] = {"null_handling": "replace", "null_replacement": ""}
        lines = pc.binary_join_element_wise(*fields, delimiter, **empty)
        lines = pc.binary_join_element_wise(lines, end, pa.scalar("", pa.large_string()), **empty)
        starts = lines.buffers()[1]
        first, last = (int.from_bytes(starts[8 * at : 8 * at + 8].to_pybytes(), "little") for at in (0, len(lines)))
        self._file.write(lines.buffers()[2][first:last])

    def close(self) -> None:
        """End the file."""
        self._file.close()

    def _special(self, column: pa.Array) -> pa.Array:
        """Which fields need quotes."""
        import pyarrow.compute as pc

        return pc.match_substring_regex(column, self._pattern)

    def _quoted(self, column: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        quote, nothing = pa.scalar('"', pa.large_string()), pa.scalar("", pa.large_string())
        inside = pc.replace_substring(column, '"', '""')
        return pc.if_else(self._special(column), pc.binary_join_element_wise(quote, inside, quote, nothing), column)


def _plain(column: pa.Array) -> pa.Array:
    """A column of numbers, times or large_string."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = pa.types.is_string(column.type) or pa.types.is_string_view(column.type)
    return column.cast(pa.large_string()) if is_text else column
