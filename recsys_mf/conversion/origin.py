"""Origin: where a column comes from, so that an error names table, column, row and value."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from recsys_mf.errors import DataError, ReadingNotice

_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Origin:
    """Where a column comes from, for messages.

    where : its table and its name, "ratings.csv, column user_id"
    place : the name of a row, given its number
    typed : whether the column has a type of its own; in a text table 17 may be an integer or a string
    said : notices given already, so that each is given only once for a column that is read in batches
    """

    where: str
    place: Callable[[int], str] = "row {}".format
    typed: bool = True
    said: set[str] = field(default_factory=set)

    def from_row(self, start: int) -> Origin:
        """The origin of the part of the column that starts at this row."""
        return replace(self, place=lambda row: self.place(start + row))

    def of_rows(self, rows: Any) -> Origin:
        """The origin of the rows with these numbers."""
        return replace(self, place=lambda row: self.place(int(rows[row])))

    def fault(self, what: str, fix: str, *, row: int | None = None, seen: Any = None) -> DataError:
        """An error that names the column and, if given, the row."""
        where = self.where if row is None else f"{self.where}, {self.place(row)}"
        return DataError(what, where=where, seen=seen, fix=fix)

    def fault_in(self, column: Any, row: int, what: str, fix: str) -> DataError:
        """An error that names the value in a row of an Arrow column."""
        return self.fault(what, fix, row=row, seen=format_value(column[row]))

    def note(self, text: str) -> None:
        """Warn, once, that the column is read in a special way."""
        if text not in self.said:
            self.said.add(text)
            warnings.warn(f"{self.where}: {text}", ReadingNotice, stacklevel=2)


def format_value(value: Any) -> str:
    """A value, or an Arrow scalar, as a message shows it: at most 60 characters."""
    if hasattr(value, "as_py"):
        try:
            value = value.as_py()
        except UnicodeDecodeError:
            value = value.as_buffer().to_pybytes()
        except (ValueError, OverflowError):  # a time beyond the years of Python
            value = f"{value.value} {value.type}"
    text = repr(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
