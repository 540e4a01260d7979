"""A table as aligned columns of a terminal: text on the left of its column, numbers on the right."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from recsys_mf.cli import options
from recsys_mf.errors import printable

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_LONGEST = 60  # characters of a text


def print_table(table: pa.Table) -> None:
    """Print a table; a null is blank, the middle of a long text is left out."""
    import pyarrow as pa

    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        cells = [printable(field.name, _LONGEST), *map(_cell, column.to_pylist())]
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        columns.append(_padded(cells, on_the_right=is_number))
    for row in zip(*columns, strict=True):
        options.say("  ".join(row).rstrip())


def print_frame(frame: pd.DataFrame) -> None:
    """Print a pandas frame without its index."""
    import pyarrow as pa

    print_table(pa.Table.from_pandas(frame, preserve_index=False))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else printable(value, _LONGEST)


def _padded(cells: list[str], *, on_the_right: bool) -> list[str]:
    widths = [_width(cell) for cell in cells]
    blanks = [" " * (max(widths) - width) for width in widths]
    return [blank + cell if on_the_right else cell + blank for cell, blank in zip(cells, blanks, strict=True)]


def _width(text: str) -> int:
    """Columns of a terminal that a text takes: two for a wide letter, none for a mark on the letter before."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)
    return len(text) + wide - marks
