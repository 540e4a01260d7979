"""Source: a table whose columns or batches of rows can be read; and how its columns are recognised."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from recsys_mf.errors import ConfigError, DataError, nearest
from recsys_mf.loaders.words import clipped, listed

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["user", "item"]
ROLES: tuple[Role, ...] = ("user", "item")

NO_COLUMN = "none"
"""Value of the time column that means: read no times."""


class ColumnNames(TypedDict, total=False):
    """Keywords that name the columns of a table; None, or left out, for one that is recognised by its name. A column of
    weights is read only if it is named.
    """

    user_column: str | None
    item_column: str | None
    rating_column: str | None
    time_column: str | None
    weight_column: str | None


def name_columns(
    given: Mapping[str, str | None], roles: Sequence[str] = ("user", "item", "rating", "time", "weight")
) -> dict[str, str | None]:
    """The names by role, of keywords such as `user_column`. Raises ConfigError for a keyword of another name."""
    keywords = {f"{role}_column": role for role in roles}
    for keyword in given:
        if keyword not in keywords:
            raise ConfigError(f"no argument '{keyword}'", fix=nearest(keyword, keywords))
    return {role: given.get(keyword) for keyword, role in keywords.items()}


_RECOGNISED = {
    "user": ("userid", "user", "reviewerid", "customerid", "memberid", "visitorid", "uid"),
    "item": (
        *("itemid", "item", "movieid", "movie", "asin", "parentasin", "businessid", "bookid", "isbn", "productid"),
        *("trackid", "songid", "artistid", "animeid", "gameid", "recipeid", "jokeid", "articleid", "iid"),
    ),
    "rating": ("rating", "score", "value", "overall", "stars", "bookrating", "reviewscore"),
    "time": ("timestamp", "time", "date", "unixreviewtime", "datetime"),
    "weight": (),
}  # as `_plain` writes them; the first that exists is taken


class Source(Protocol):
    """A table of a file format or in memory. Rows are counted from 0, in source order."""

    @property
    def where(self) -> str:
        """Its name, for messages."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""
        ...

    @property
    def typed(self) -> bool:
        """Whether its columns have types of their own; in text, 17 may be an integer or a string."""
        ...

    def read(
        self, names: Sequence[str], texts: Sequence[str] = (), ids: Sequence[str] = ()
    ) -> Iterator[pa.ChunkedArray]:
        """The columns one after another; if the format allows, only one is in memory at a time.

        texts : columns to be read as text if the source is not typed
        ids : columns that hold ids: if the source is not typed, 0042 is text, and times are not recognised
        """
        ...

    def place(self, row: int) -> str:
        """The position of a row, in words."""
        ...


class FileSource(Source, Protocol):
    """A table on disk."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All columns, a batch of rows at a time; as text if the source is not typed."""
        ...


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; rating, time and weight are None if they do not exist or are not wanted."""

    user: str
    item: str
    rating: str | None
    time: str | None
    weight: str | None


def recognise(source: Source, given: Mapping[str, str | None], *, rated: bool = True) -> Columns:
    """Which columns of a source hold users, items, ratings, times and weights: as given, else by their names; weights
    only if given.

    given : column names by role (user, item, rating, time, weight); None, or no entry, to recognise the name. Upper and
        lower case, underscores, hyphens and blanks do not matter: userId and User-ID are user_id
    rated : False if ratings are not needed
    Raises DataError for a missing column, with the columns found.
    """
    found = {role: _found(source, role, given.get(role)) for role in _RECOGNISED}
    for role in ("user", "item", "rating") if rated else ("user", "item"):
        if found[role] is None:
            what = f"no column is recognised as the {role if role == 'rating' else role + ' ids'}"
            raise _doubt(source, what) or DataError(
                what,
                where=source.where,
                seen=f"columns {listed(source.names)}",
                fix=f"give its name with --{role}-column ({role}_column in Python)",
            )
    if not rated and found["rating"] in (found["user"], found["item"]):
        found["rating"] = None
    _require_own(source, found)
    return Columns(found["user"] or "", found["item"] or "", found["rating"], found["time"], found["weight"])


def _require_own(source: Source, found: Mapping[str, str | None]) -> None:
    """Raise DataError if a column has two roles."""
    roles = list(found)
    for index, role in enumerate(roles):
        other = next(
            (first for first in roles[:index] if found[first] is not None and found[first] == found[role]), None
        )
        if other is not None:
            fix = f"name another column with --{role}-column or --{other}-column ({role}_column in Python)"
            seen = f"'{clipped(str(found[role]))}' for {other}s and {role}s"
            raise DataError("one column cannot be two things", where=source.where, seen=seen, fix=fix)


def recognise_ids(source: Source, role: Role, given: str | None = None, *, named: bool = False) -> str:
    """Which column of a table with a row for every user (or item) holds the ids: as given, else by its name, as in
    `recognise`, else the one called id. Raises DataError if there is none, with the columns found.

    named : whether the caller has an argument id_column, for the message
    """
    found = _found(source, role, given) or next((name for name in source.names if _plain(name) == "id"), None)
    if found is None:
        raise DataError(
            f"no column is recognised as the {role} ids",
            where=source.where,
            seen=f"columns {listed(source.names)}",
            fix=f"call it {role}_id" + (", or give its name as id_column" if named else ""),
        )
    return found


def _doubt(source: Source, what: str) -> DataError | None:
    """An error that says what a source without rating columns may be instead; None if that is not known."""
    doubt = getattr(source, "doubt", None)
    error: DataError | None = None if doubt is None else doubt(what)
    return error


def _found(source: Source, role: str, given: str | None) -> str | None:
    if given == NO_COLUMN and role == "time":
        return None
    if given is not None:
        if given not in source.names:
            fix = nearest(given, source.names) if len(source.names) <= 8 else f"choose one of: {listed(source.names)}"
            raise DataError(f"no column '{clipped(given)}'", where=source.where, fix=fix)
        return single_column(source, given)
    plain = {_plain(name): name for name in reversed(source.names)}
    return next((single_column(source, plain[name]) for name in _RECOGNISED[role] if name in plain), None)


def single_column(source: Source, name: str) -> str:
    """The name. Raises DataError if two columns have it."""
    if source.names.count(name) > 1:
        raise DataError("two columns of the same name", where=source.where, seen=repr(name), fix="rename one")
    return name


def is_recognised(name: str) -> bool:
    """Whether a name is one that `recognise` knows."""
    return any(_plain(name) in names for names in _RECOGNISED.values())


def _plain(name: str) -> str:
    """Without case, signs, and the type that RecBole writes after a name: `User-ID` and `user_id:token` are userid."""
    return re.sub(r"[_\-\s.]|:.*", "", name.lower())
