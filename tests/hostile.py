"""Tables as they occur in practice, and tables with a fault, drawn from a `random.Random` with their truth.

`draw` makes a table in a folder: as text in some dialect, encoding and packing, as JSON lines, as Parquet of some types
in one file or in parts, or as a frame. `check_reading` reads it and compares; `check_pipeline` trains, saves, loads and
predicts. A `Wrong` is a fault of the product; so is any other exception, except those of `recsys_mf.errors`.
Used by the property tests, in which hypothesis draws and shrinks, and by `scripts/soak`.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import random
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_mf.cli import main
from recsys_mf.errors import ConfigError, DataError, RecsysError
from recsys_mf.loaders import describe, from_frame, read_ratings
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import hold_out
from recsys_mf.store import load, save
from recsys_mf.streaming import predict_file
from recsys_mf.training import train

NAMES = (
    ("user_id", "item_id", "rating", "timestamp"),
    ("userId", "movieId", "rating", "timestamp"),
    ("User", "Item", "Score", "Time"),
    ("reviewerID", "asin", "overall", "unixReviewTime"),
)
NASTY = (
    'a"b',
    '"a',
    "a,b",
    "a;b",
    "a\tb",
    "a|b",
    "a b",
    "a\nb",
    "a::b",
    "#a",
    "é😀",
    "a'b",
    "a\\n",
    "=1+1",
    "null",
    "NaN",
)


class Wrong(AssertionError):  # noqa: N818 (a verdict, not an exception of the product)
    """The product did something that it should not."""


@dataclass(frozen=True)
class Case:
    """A table with its truth.

    source : a path, or a frame in memory
    rows : (user id, item id, rating, seconds or None) as they should be read
    fault : what is wrong with it, so that it must be refused; None if it must be read
    label : how it was made
    """

    source: Any
    rows: list[tuple[Any, Any, float, int | None]]
    fault: str | None
    label: str


def draw(r: random.Random, folder: Path, *, size: int = 60) -> Case:
    """A table of at most `size` rows."""
    ids = _ids(r), _ids(r)
    n = r.randint(3, size)
    users, items = ([make(k) for k in range(r.randint(2, 12))] for make, _ in ids)
    pairs = sorted({(r.randrange(len(users)), r.randrange(len(items))) for _ in range(n)})
    r.shuffle(pairs)
    value, when = _values(r), _times(r)
    rows = [(users[u], items[i], float(np.float32(value())), when and when()) for u, i in pairs]
    fault = r.choice(FAULTS) if r.random() < 0.3 else None
    form = r.choice(("text", "text", "json", "parquet", "parts", "frame"))
    return _FORMS[form](r, folder, rows, tuple(kind for _, kind in ids), fault)


def check_reading(case: Case) -> Ratings | None:
    """Read a table in all ways; returns the ratings, or None if it was refused as it should be."""
    with quiet():
        try:
            table = from_frame(case.source) if not isinstance(case.source, Path) else read_ratings(case.source)
        except RecsysError as error:
            check_message(error)
            if case.fault is None or not isinstance(error, DataError):
                raise Wrong(f"refused: {error}") from error
            return None
        if case.fault is not None:
            raise Wrong(f"a table with {case.fault} was read")
        _compare(table, case.rows)
        if isinstance(case.source, Path):
            facts = describe(case.source)
            found = facts.rows, facts.users, facts.items, facts.duplicates
            if found != (len(table), table.n_users, table.n_items, 0):
                raise Wrong(f"described as {found}")
    return table


def check_pipeline(case: Case, folder: Path, r: random.Random) -> None:
    """Train on a table, save and load the run, predict its rows from memory and from a file: all must agree."""
    table = check_reading(case)
    if table is None:
        return
    name, given = r.choice(_SOLVERS)
    with quiet():
        try:
            split = hold_out(table, r.choice((0, 0.2)), r.randrange(100))
            run = train(split, SOLVERS[name](**given), validation=r.choice((0, 0.1)), device="cpu")
        except RecsysError as error:
            check_message(error)
            if not isinstance(error, DataError | ConfigError):
                raise Wrong(f"{name}: {error}") from error
            return
        save(run, folder / "run")
        loaded = load(folder / "run")
        ids = table.user_vocabulary.ids(table.users), table.item_vocabulary.ids(table.items)
        first, second = run.predict(*ids), loaded.predict(*ids)
        if not np.array_equal(first, second):
            raise Wrong("a loaded run predicts otherwise")
        low, high = split.train.rating_range
        if not (np.isfinite(first).all() and (first >= low).all() and (first <= high).all()):
            raise Wrong("a prediction is not finite or not in the training range")
        if not isinstance(case.source, Path):
            return
        output = folder / f"o.{r.choice(('csv', 'tsv', 'parquet'))}"
        predict_file(loaded, case.source, output, time_column="none")
        again = folder / "again.parquet"
        spelt = _without_added(output, folder)
        counts = predict_file(loaded, spelt, again, time_column="none")
        found = pq.read_table(again)["prediction"].to_numpy()
        if counts["neither"] + counts["user"] + counts["item"] and not split.test:
            raise Wrong(f"ids do not come back: {counts}")
        if not np.array_equal(found, second):
            raise Wrong("a file of pairs is predicted otherwise")


def check_commands(case: Case, folder: Path, r: random.Random) -> None:
    """The same with the command line, in this process: exit codes, one line of error, no traceback, no escape."""
    run, source = folder / "run", str(case.source)
    name = r.choice(("mean", "bias"))
    calls = [
        ["inspect", source],
        ["train", source, "-o", str(run), "--solver", name, "--hold-out", "0", "--validation", "0", "-q"],
        ["evaluate", str(run), "--test", source],
        ["predict", str(run), source, "-o", str(folder / "o.csv"), "-q"],
    ]
    for number, call in enumerate(calls):
        code, said, errors = command(call)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        if "Traceback" in errors or any(not line.isprintable() for line in (said + errors).splitlines()):
            raise Wrong(f"{call[0]}: {errors[-300:]}")
        if code != 0 and (code == 1 or len(lines) != 1 or len(lines[0]) > 307):
            raise Wrong(f"{call[0]}: exit code {code}, {errors[-300:]}")
        if number == 1 and (code == 0) != (case.fault is None):
            raise Wrong(f"train: exit code {code} where the fault is {case.fault}: {errors[-300:]}")
        if number == 1 and code != 0:
            return
        if number > 1 and code != 0:
            raise Wrong(f"{call[0]} refuses what train took: {errors[-300:]}")


def command(arguments: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `recsys-mf`, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["recsys-mf", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    else:
        code = 0
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


_SOLVERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mean", {}),
    ("bias", {}),
    ("sgd", {"rank": 2, "epochs": 2, "members": 2}),
    ("als", {"rank": 2, "epochs": 2, "members": 1}),
)


def _without_added(output: Path, folder: Path) -> Path:
    """The table that predict wrote, with its two columns renamed, so that it can be predicted again."""
    if output.suffix == ".parquet":
        table = pq.read_table(output)
        names = [{"prediction": "old", "known": "was"}.get(name, name) for name in table.column_names]
        pq.write_table(table.rename_columns(names), folder / "spelt.parquet")
        return folder / "spelt.parquet"
    head, rest = output.read_bytes().split(b"\n", 1)
    spelt = folder / f"spelt{output.suffix}"
    spelt.write_bytes(head.replace(b"prediction", b"old").replace(b"known", b"was") + b"\n" + rest)
    return spelt


def check_message(error: RecsysError) -> None:
    """An error of the product is one line of at most 300 printable characters."""
    if not str(error).isprintable() or len(str(error)) > 300:
        raise Wrong(f"not one readable line: {error!s}")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, notices are not faults, but they must also be one line."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    for warning in said:
        if not str(warning.message).isprintable() or not warning.category.__module__.startswith("recsys_mf"):
            raise Wrong(f"not a readable notice: {warning.message!s}")


def _compare(table: Ratings, rows: list[tuple[Any, Any, float, int | None]]) -> None:
    read = zip(
        table.user_vocabulary.ids(table.users).to_pylist(),
        table.item_vocabulary.ids(table.items).to_pylist(),
        table.values.tolist(),
        [None] * len(table) if table.times is None else table.times.tolist(),
        strict=True,
    )
    for found, truth in zip(list(read), rows, strict=True):
        if found != truth:
            raise Wrong(f"read {found} for {truth}")


def _ids(r: random.Random) -> tuple[Callable[[int], Any], str]:
    """A function that makes the k-th id, and the kind of the ids."""
    kind = r.choice(("small", "negative", "wide", "top", "words", "padded", "uuid", "nasty"))
    token = r.choice(NASTY)
    seed = r.randrange(1 << 30)
    makers: dict[str, Callable[[int], Any]] = {
        "small": lambda k: k + 1,
        "negative": lambda k: 3 * k - 20,
        "wide": lambda k: (k * 0x9E3779B97F4A7C15 + seed) % (1 << 63) - (1 << 62),
        "top": lambda k: (1 << 63) - 1 - k,
        "words": lambda k: f"id{k}",
        "padded": lambda k: f"{k + 7:06d}",
        "uuid": lambda k: str(uuid.UUID(int=random.Random(seed + k).getrandbits(128))),
        "nasty": lambda k: f"{token}{k}",
    }
    return makers[kind], kind


def _values(r: random.Random) -> Callable[[], float]:
    low, step, levels = r.choice(((1, 1, 5), (0.5, 0.5, 10), (-10, 0.25, 81), (0, 1, 2), (0, 1e-6, 7), (1e6, 1000, 50)))
    return lambda: low + step * r.randrange(levels)


def _times(r: random.Random) -> Callable[[], int] | None:
    if r.random() < 0.4:
        return None
    start = r.choice((946_684_800, 1_400_000_000))
    return lambda: start + r.randrange(200_000_000)


# Faults. Each changes the fields of a row (or of two) so that the table is not one of ratings.

FAULTS = ("a null id", "a null rating", "a rating that is text", "an infinite rating", "a duplicate pair")


def _spoil(r: random.Random, cells: list[list[Any]], fault: str | None) -> list[list[Any]]:
    if fault is None:
        return cells
    at = r.randrange(len(cells))
    place, put = {
        "a null id": (r.randrange(2), None),
        "a null rating": (2, None),
        "a rating that is text": (2, "good"),
        "an infinite rating": (2, float("inf")),
        "a duplicate pair": (0, cells[at][0]),
    }[fault]
    cells[at][place] = put
    if fault == "a duplicate pair":
        cells.insert(r.randrange(len(cells) + 1), list(cells[at]))
    return cells


def _cells(rows: list[tuple[Any, Any, float, int | None]]) -> list[list[Any]]:
    timed = rows[0][3] is not None
    return [list(row if timed else row[:3]) for row in rows]


# Forms.

PACKED: dict[str | None, Callable[[bytes], bytes]] = {
    None: bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip


def _text(
    r: random.Random, folder: Path, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> Case:  # fmt: skip
    delimiter = r.choice((",", "\t", ";", "|"))
    end = r.choice(("\n", "\r\n"))
    style: Literal[0, 1, 2] = r.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    names = [*r.choice(NAMES)[: len(_cells(rows)[0])]]
    iso = r.random() < 0.3
    cells = _spoil(r, _cells(rows), fault)
    for cell in cells:
        if len(cell) == 4 and iso:
            cell[3] = datetime.fromtimestamp(cell[3], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        cell[2] = cell[2] if cell[2] is None or isinstance(cell[2], str) else repr(cell[2])
    if r.random() < 0.3:
        names.append("review")
        for cell in cells:
            cell.append(r.choice(("fine", 'it is "so"', f"two{end}lines", "a, b; c|d\te", "")))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=style)
    writer.writerow(names)
    writer.writerows(cells)
    text = out.getvalue()
    if r.random() < 0.2:
        text = text.removesuffix(end)
    encoding = r.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))
    packing = r.choice((None, None, "gz", "bz2", "xz"))
    data = text.encode(encoding)
    pack = PACKED[packing]
    path = folder / f"t{r.choice(('.csv', '.tsv', '.txt', ''))}{'.' + packing if packing else ''}"
    path.write_bytes(pack(data))
    label = f"text {delimiter!r} {end!r} quoting {style} {encoding} {packing} {kinds} iso={iso}"
    return Case(path, rows, fault, label)


def _json(
    r: random.Random, folder: Path, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> Case:  # fmt: skip
    names = r.choice(NAMES)
    cells = _spoil(r, _cells(rows), fault)
    lines = [json.dumps(dict(zip(names, cell, strict=False)), ensure_ascii=r.random() < 0.5) for cell in cells]
    path = folder / r.choice(("t.jsonl", "t.json", "t.json.gz"))
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return Case(path, rows, fault, f"json {kinds}")


def _table(
    r: random.Random, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> tuple[pa.Table, str]:  # fmt: skip
    cells = _spoil(r, _cells(rows), fault)
    columns: dict[str, pa.Array] = {}
    types = []
    for place, name in enumerate(r.choice(NAMES)[: len(cells[0])]):
        column = [cell[place] for cell in cells]
        if place < 2:
            kind = r.choice(_STRINGS if isinstance(rows[0][place], str) else _INTEGERS[kinds[place]])
        elif place == 2:
            kind = pa.string() if "good" in column else r.choice((pa.float64(), pa.float32()))
            column = [str(v) if isinstance(v, float) and kind == pa.string() else v for v in column]
        else:
            kind = r.choice((pa.int64(), pa.timestamp("s"), pa.timestamp("us"), pa.timestamp("ms", "UTC")))
            scale = {"s": 1, "ms": 1000, "us": 1_000_000}[getattr(kind, "unit", "s")]
            column = [v * scale for v in column]
        types.append(str(kind))
        array = pa.array(column, pa.int64() if pa.types.is_timestamp(kind) else kind)
        columns[name] = array.cast(kind)
    return pa.table(columns), " ".join(types)


_STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
_INTEGERS = {
    "small": (pa.int8(), pa.uint8(), pa.int16(), pa.uint32(), pa.int64(), pa.uint64(), pa.float64()),
    "negative": (pa.int8(), pa.int32(), pa.int64()),
    "wide": (pa.int64(),),
    "top": (pa.int64(), pa.uint64()),
}


def _parquet(
    r: random.Random, folder: Path, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> Case:  # fmt: skip
    table, types = _table(r, rows, kinds, fault)
    path = folder / "t.parquet"
    pq.write_table(table, path, row_group_size=r.choice((3, 1000)))
    return Case(path, rows, fault, f"parquet {types} {kinds}")


def _parts(
    r: random.Random, folder: Path, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> Case:  # fmt: skip
    table, types = _table(r, rows, kinds, fault)
    cut = r.randint(0, len(table) - 1)
    (folder / "t").mkdir()
    (folder / "t" / "_SUCCESS").touch()
    for number, part in enumerate((table.slice(0, cut), table.slice(cut))):
        pq.write_table(part, folder / "t" / f"part-{number}.parquet")
    return Case(folder / "t", rows, fault, f"parts {types} {kinds}")


def _frame(
    r: random.Random, folder: Path, rows: list[Any], kinds: tuple[str, ...], fault: str | None
) -> Case:  # fmt: skip
    table, types = _table(r, rows, kinds, fault)
    way = r.choice(("arrow", "pandas", "stream"))
    frame = table if way == "arrow" else table.to_pandas() if way == "pandas" else _Stream(table)
    return Case(frame, rows, fault, f"{way} {types} {kinds}")


class _Stream:
    """A table of another library, of which only the stream of Arrow batches is known."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


_FORMS = {"text": _text, "json": _json, "parquet": _parquet, "parts": _parts, "frame": _frame}
