"""Parquet: a file, a folder of part files, a hive-partitioned tree or a glob of files."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_mf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 1 << 18  # rows


class ParquetSource:
    """A Parquet table on disk; parts are read in the order of their paths, hidden and `_` files are left out."""

    typed = True

    def __init__(self, where: str) -> None:
        self.where = where

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Columns, those of hive partitions among them."""
        return tuple(self._dataset.schema.names)

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """One column at a time; Parquet knows the types, so `texts` and `ids` say nothing here."""
        for name in names:
            yield self._column(name)  # held by no name here, so that the caller can free it

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, batch by batch, read no further ahead than a batch or two."""
        with _errors_of(self.where):
            yield from self._dataset.to_batches(batch_size=_BATCH, batch_readahead=1, fragment_readahead=1)

    def place(self, row: int) -> str:
        """The part file and the row in it, or the row where there is one file."""
        before = 0
        parts = list(self._dataset.get_fragments())
        for part in parts:
            rows = part.count_rows()
            if len(parts) > 1 and row < before + rows:
                return f"{part.path}, row {row - before}"
            before += rows
        return f"row {row}"

    def _column(self, name: str) -> pa.ChunkedArray:
        with _errors_of(self.where):
            return self._dataset.to_table(columns=[name]).column(0)

    @cached_property
    def _dataset(self) -> Any:
        import pyarrow.dataset as ds

        # Without pre_buffer a column chunk is freed when it is decoded, not when the whole scan ends.
        scan = ds.ParquetFragmentScanOptions(pre_buffer=False)
        parts: str | list[str] = self.where
        if not Path(self.where).exists():
            parts = sorted(glob.glob(self.where))
        with _errors_of(self.where):
            dataset = ds.dataset(
                parts, format=ds.ParquetFileFormat(default_fragment_scan_options=scan), partitioning="hive"
            )
        if not dataset.files:
            raise DataError("no Parquet files in the folder", where=self.where, fix="give the folder of the part files")
        return dataset


class _errors_of:  # noqa: N801 (reads as a statement)
    """Turns what Arrow says of a damaged file into a DataError."""

    typed = True

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import pyarrow as pa

        if isinstance(error, pa.ArrowException | OSError):
            reason = str(error).splitlines()[0].rsplit(": ", 1)[-1]
            raise DataError(
                "cannot be read as Parquet: truncated, damaged or of another format",
                where=self._where,
                seen=reason,
                fix="write or download it again",
            ) from error
