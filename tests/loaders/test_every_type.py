"""One table in every type and container gives the same rows, or one line that says why not; inspection agrees."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_mf.errors import DataError, ReadingNotice
from recsys_mf.loaders import describe, from_frame, read_ratings
from recsys_mf.ratings import Ratings

N = 6
USERS, ITEMS = [7, 7, 3, 3, 2, 9], [10, 20, 10, 30, 20, 30]
VALUES = [4.0, 0.0, 3.0, 1.0, 5.0, 2.0]
TIMES = [1_600_000_000 + 100 * n for n in range(N)]

INTEGERS = {
    **{f"int{w}": pa.array(USERS, pa.int64()).cast(f"int{w}") for w in (8, 16, 32, 64)},
    **{f"uint{w}": pa.array(USERS, pa.int64()).cast(f"uint{w}") for w in (8, 16, 32, 64)},
    **{name: pa.array(np.array(USERS, name)) for name in ("float16", "float32", "float64")},
    "decimal(9, 0)": pa.array(USERS).cast(pa.decimal128(20, 0)),
    "decimal(9, 2)": pa.array([Decimal(u) for u in USERS], pa.decimal128(9, 2)),
    "decimal256": pa.array([Decimal(u) for u in USERS], pa.decimal256(50, 0)),
    "dictionary": pa.array(USERS).dictionary_encode(),
    "run ends": pc.run_end_encode(pa.array(USERS)),
}
TEXTS = [f"u{user}" for user in USERS]
STRINGS = {
    **{str(kind): pa.array(TEXTS, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{
        str(kind): pa.array([t.encode() for t in TEXTS], kind)
        for kind in (pa.binary(), pa.large_binary(), pa.binary(2))
    },
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "dictionary of views": pa.array(TEXTS, pa.string_view()).dictionary_encode(),
}
NUMBERS = {
    **{name: pa.array(np.array(VALUES, name)) for name in ("int8", "uint64", "int64", "float16", "float32", "float64")},
    "decimal(4, 1)": pa.array([Decimal(str(v)) for v in VALUES], pa.decimal128(4, 1)),
    "decimal256": pa.array([Decimal(str(v)) for v in VALUES], pa.decimal256(60, 5)),
    "text": pa.array([str(v) for v in VALUES]),
    "bytes": pa.array([str(v).encode() for v in VALUES]),
    "dictionary": pa.array(VALUES).dictionary_encode(),
}
MOMENTS = pa.array(TIMES, pa.timestamp("s"))
CLOCKS = {
    "seconds": pa.array(TIMES),
    "int32": pa.array(TIMES, pa.int32()),
    "uint64": pa.array(TIMES, pa.uint64()),
    "fractions": pa.array([t + 0.75 for t in TIMES]),
    "decimal": pa.array([Decimal(t) for t in TIMES], pa.decimal128(20, 3)),
    **{f"numbers of {name}": pa.array([t * k + k // 2 for t in TIMES]) for name, k in
       (("milliseconds", 1000), ("microseconds", 10**6), ("nanoseconds", 10**9))},
    "float milliseconds": pa.array([t * 1000.0 + 0.5 for t in TIMES]),
    "unsigned nanoseconds": pa.array([t * 10**9 for t in TIMES], pa.uint64()),
    **{f"timestamp[{unit}]": MOMENTS.cast(pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "zone": MOMENTS.cast(pa.timestamp("us", "Europe/Berlin")),
    "text of numbers": pa.array([str(t) for t in TIMES]),
    "ISO": pc.strftime(MOMENTS, "%Y-%m-%dT%H:%M:%S"),
    "ISO with Z": pc.strftime(MOMENTS, "%Y-%m-%dT%H:%M:%SZ"),
    "ISO with fraction": pa.array([f"{t}.987654321Z" for t in pc.strftime(MOMENTS, "%Y-%m-%d %H:%M:%S").to_pylist()]),
    "UTC in words": pa.array([f"{t} UTC" for t in pc.strftime(MOMENTS, "%Y-%m-%d %H:%M:%S").to_pylist()]),
    "offsets": pa.array([
        dt.datetime.fromtimestamp(t, dt.timezone(dt.timedelta(hours=n))).isoformat() for n, t in enumerate(TIMES)
    ]),
}  # fmt: skip


def triples(table: Ratings) -> list[tuple[Any, ...]]:
    users, items = table.user_vocabulary.ids(table.users), table.item_vocabulary.ids(table.items)
    times = [None] * len(table) if table.times is None else table.times.tolist()
    return list(zip(users.to_pylist(), items.to_pylist(), table.values.tolist(), times, strict=True))


def quietly(read: Any, *arguments: Any, **keywords: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingNotice)
        return read(*arguments, **keywords)


def table(**columns: Any) -> pa.Table:
    return pa.table({"user_id": USERS, "item_id": ITEMS, "rating": VALUES, "timestamp": TIMES} | columns)


def expected(users: list[Any] = USERS) -> list[tuple[Any, ...]]:
    return list(zip(users, ITEMS, VALUES, TIMES, strict=True))


def storable(column: pa.Array) -> pa.Array:
    """The column as Parquet can store it: types that it cannot store are decoded."""
    if pa.types.is_dictionary(column.type) and pa.types.is_string_view(column.type.value_type):
        return pa.array(column.to_pylist())
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


def agrees(path: Path, ratings: Ratings, **keywords: Any) -> None:
    facts = quietly(describe, path, **keywords)
    assert (facts.rows, facts.usable_rows) == (len(ratings), len(ratings))
    assert (facts.users, facts.items) == (ratings.n_users, ratings.n_items)
    assert facts.user_ids == ("integer" if ratings.user_vocabulary.is_integer else "string")
    ends_of_scale = tuple(float(np.float32(facts.scale[end])) for end in ("lowest", "highest"))
    assert ends_of_scale == ratings.rating_range
    if ratings.times is not None:
        ends = [str(np.datetime64(int(t), "s")) + "Z" for t in (ratings.times.min(), ratings.times.max())]
        assert facts.time_range == tuple(ends)


@pytest.mark.parametrize(
    ("column", "kinds", "users"),
    [
        ("user_id", INTEGERS, USERS),
        ("user_id", STRINGS, TEXTS),
        ("rating", NUMBERS, USERS),
        ("timestamp", CLOCKS, USERS),
    ],
)
def test_every_type_of_a_column_gives_the_same_rows(
    tmp_path: Path, column: str, kinds: dict[str, Any], users: list[Any]
) -> None:
    for name, values in kinds.items():
        path = tmp_path / "a.parquet"
        pq.write_table(table(**{column: storable(values)}), path)
        read = quietly(read_ratings, path)
        assert triples(read) == expected(users), name
        assert triples(quietly(from_frame, table(**{column: values}))) == expected(users), name
        agrees(path, read)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "kinds", "users"),
    [
        ("user_id", INTEGERS, USERS),
        ("user_id", STRINGS, TEXTS),
        ("rating", {k: v for k, v in NUMBERS.items() if k not in ("text", "bytes")}, USERS),
        ("rating", {k: NUMBERS[k] for k in ("text", "bytes")}, USERS),
        ("timestamp", {k: v for k, v in CLOCKS.items() if "timestamp" in k or k == "zone"}, USERS),
        ("timestamp", {k: CLOCKS[k] for k in ("seconds", "uint64", "int32", "decimal")}, USERS),
    ],
)
def test_parts_of_different_types_are_read_whichever_comes_first(
    tmp_path: Path, column: str, kinds: dict[str, Any], users: list[Any]
) -> None:
    for first, second in itertools.permutations(kinds, 2):
        pq.write_table(table(**{column: storable(kinds[first])}).slice(0, 3), tmp_path / "a.parquet")
        pq.write_table(table(**{column: storable(kinds[second])}).slice(3), tmp_path / "b.parquet")
        assert triples(quietly(read_ratings, tmp_path)) == expected(users), (first, second)
        assert quietly(describe, tmp_path).rows == N


def test_a_part_without_values_takes_the_type_of_the_others(tmp_path: Path) -> None:
    pq.write_table(table(note=pa.nulls(N)), tmp_path / "a.parquet")
    other = table(user_id=[u + 1 for u in USERS], note=["x"] * N)
    pq.write_table(other, tmp_path / "b.parquet")
    assert len(read_ratings(tmp_path)) == 2 * N
    pq.write_table(table(rating=pa.nulls(N)), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column rating, .*a\.parquet, row 0: null rating \(saw null, one of 6"):
        read_ratings(tmp_path)


def test_integers_in_one_part_and_text_in_another_are_refused_or_read_as_text_if_asked(tmp_path: Path) -> None:
    pq.write_table(table().slice(0, 3), tmp_path / "a.parquet")
    pq.write_table(table(user_id=[str(u) for u in USERS]).slice(3), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"int64 in .*a\.parquet, string in .*b\.parquet.*--ids string"):
        read_ratings(tmp_path)
    read = read_ratings(tmp_path, ids="string")
    assert [row[0] for row in triples(read)] == [str(u) for u in USERS]
    agrees(tmp_path, read, ids="string")


def test_unsigned_ids_beyond_63_bits_together_with_signed_ones_lose_nothing(tmp_path: Path) -> None:
    huge = [2**64 - 1 - u for u in USERS]
    pq.write_table(table(user_id=pa.array(huge, pa.uint64())), tmp_path / "a.parquet")
    pq.write_table(table(user_id=pa.array([-u for u in USERS])), tmp_path / "b.parquet")
    with pytest.warns(ReadingNotice, match="ids beyond 64-bit integers: all are read as text"):
        read = read_ratings(tmp_path)
    assert {row[0] for row in triples(read)} == {str(u) for u in huge} | {str(-u) for u in USERS}


def test_hive_keys_have_the_types_of_their_values(tmp_path: Path) -> None:
    for user, day, stars, shop in ((7, "2024-01-31", "4", "05"), (3_000_000_000, "1969-12-31", "2.5", "x y")):
        folder = tmp_path / f"user={user}" / f"date={day}" / f"rating={stars}" / f"shop={shop.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"item": [1, 2]}), folder / "p.parquet")
    read = read_ratings(tmp_path)
    assert sorted(triples(read)) == [
        (7, 1, 4.0, 1_706_659_200), (7, 2, 4.0, 1_706_659_200),
        (3_000_000_000, 1, 2.5, -86_400), (3_000_000_000, 2, 2.5, -86_400),
    ]  # fmt: skip
    agrees(tmp_path, read)
    shops = read_ratings(tmp_path, user_column="shop").user_vocabulary
    assert shops.entries.to_pylist() == ["05", "x y"]
    named = read_ratings(tmp_path / "*" / "*" / "*" / "*" / "*.parquet")
    assert triples(named) == triples(read)


def test_columns_that_were_not_asked_for_cause_no_error(tmp_path: Path) -> None:
    others = {"nested": [[{"a": [1]}]] * N, "bytes": [b"\xff"] * N, "nothing": pa.nulls(N)}
    plain = table(**others)
    twice = pa.table([*plain.columns, plain["nested"], plain["item_id"]], [*plain.schema.names, "nested", "x"])
    pq.write_table(twice, tmp_path / "a.parquet")
    assert triples(read_ratings(tmp_path / "a.parquet")) == expected()
    assert describe(tmp_path / "a.parquet").rows == N
    pq.write_table(table(other=["text"] * N), tmp_path / "b.parquet")
    assert quietly(describe, tmp_path).rows == 2 * N
    pq.write_table(pa.table([*plain.columns, plain["rating"]], [*plain.schema.names, "rating"]), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet: two columns of the same name \(saw 'rating'\); rename one"):
        read_ratings(tmp_path / "c.parquet")


def test_the_part_that_lacks_a_column_or_is_damaged_is_named(tmp_path: Path) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    pq.write_table(table().drop_columns(["rating"]), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: no column 'rating' in this part"):
        read_ratings(tmp_path)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-50])
    with pytest.raises(DataError, match=r"b\.parquet: cannot be read as Parquet"):
        read_ratings(tmp_path)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "fraction": ({"user_id": [1.0, 1.5] * 3}, r"row 1: id is not a whole number \(saw 1.5\).*--ids string"),
    "decimal fraction": ({"user_id": [Decimal("1.5")] * N}, r"row 0: id is not a whole number \(saw 1.5\)"),
    "lossy float": ({"user_id": [2.0**60] * N}, r"row 0: a float id beyond 2\^53.*--ids string"),
    "NaN id": ({"user_id": [1.0, float("nan")] * 3}, r"row 1: null id"),
    "bytes": ({"user_id": [b"a", b"\xff"] * 3}, r"row 1: not text in UTF-8 \(saw b'\\xff'\)"),
    "list": ({"user_id": [[1]] * N}, r"ids must be integers or text \(saw type list<.*--ids"),
    "struct": ({"user_id": [{"a": 1}] * N}, r"ids must be integers or text \(saw type struct<.*--ids"),
    "duration": ({"user_id": [dt.timedelta(1)] * N}, r"must be integers or text \(saw type duration\[us\]\).*--ids"),
    "all null": ({"user_id": pa.nulls(N)}, r"row 0: null id \(saw null, one of 6 in the column\)"),
    "text rating": ({"rating": ["4.0", "4,5"] * 3}, r"row 1: rating is text, not a number \(saw '4,5'\)"),
    "infinite text": ({"rating": ["4.0", "1e400"] * 3}, r"row 1: rating is not finite \(saw '1e400'\)"),
    "huge rating": ({"rating": [1.0, 1e39] * 3}, r"row 1: rating is not finite \(saw 1e\+39\); .*3.4e38"),
    "date rating": ({"rating": [dt.date(2020, 1, 1)] * N}, r"ratings are not numbers \(saw type date32"),
    "time of day": ({"timestamp": [dt.time(1)] * N}, r"must be numbers, dates or text \(saw type time64\[us\]\).*none"),
    "truth as time": ({"timestamp": [True] * N}, r"must be numbers, dates or text \(saw type bool\).*column none"),
    "word": ({"timestamp": ["2020-01-01", "noon"] * 3}, r"row 1: text is not a time \(saw 'noon'\).*column none"),
    "date with slashes": ({"timestamp": ["31/12/2020"] * N}, r"row 0: text is not a time"),
    "numbers and dates": ({"timestamp": ["2020-01-01", "5"] * 3}, r"row 1: this time is a number, but others"),
    "unsigned time": ({"timestamp": pa.array([1, 2**64 - 1] * 3, pa.uint64())}, r"--time-column none"),
    "1e300": ({"timestamp": [1.0, 1e300] * 3}, r"--time-column none"),
    "year 300000": ({"timestamp": pa.array([9 * 10**12] * N, pa.timestamp("s"))}, r"row 0: time is beyond the year"),
    "one in milliseconds": ({"timestamp": [*TIMES[1:], TIMES[0] * 1000]}, r"row 5: time is beyond the year 9999"),
    "half in milliseconds": ({"timestamp": [*TIMES[:3], *(t * 1000 for t in TIMES[3:])]}, "row"),
    "null time": ({"timestamp": [*TIMES[:5], None]}, r"row 5: null time .*--time-column none"),
    "smallest integer": ({"timestamp": [*TIMES[:5], -(2**63)]}, r"row 5: time is beyond the year 9999"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line_with_row_value_and_fix(tmp_path: Path, name: str) -> None:
    columns, message = REFUSED[name]
    path = tmp_path / "a.parquet"
    pq.write_table(table(**columns), path)
    for read in (lambda: read_ratings(path), lambda: from_frame(table(**columns))):
        with pytest.raises(DataError, match=message) as fault:
            quietly(read)
        line = str(fault.value).replace(str(path), "a.parquet")
        assert len(line) <= 300
        assert line.isprintable()


def invalid_text() -> pa.Array:
    ends = pa.py_buffer(np.array([0, 1, 2, 3, 4, 5, 6], np.int32))
    return pa.StringArray.from_buffers(N, ends, pa.py_buffer(b"abc\xffde"))


@pytest.mark.parametrize("column", ["user_id", "rating", "timestamp"])
def test_invalid_utf8_in_a_column_of_text_is_named_by_row(tmp_path: Path, column: str) -> None:
    pq.write_table(table(**{column: invalid_text()}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=rf"column {column}, row 3: not text in UTF-8 \(saw b'\\xff'\)"):
        read_ratings(tmp_path / "a.parquet")


UUIDS = [uuid.UUID(int=n * 10**37) for n in range(N)]
ANY_ID = {
    "bool": (pa.array([True, False] * 3), ["true", "false"] * 3),
    "date32": (pa.array([dt.date(1969, 12, 31)] * N), ["1969-12-31"] * N),
    "date64": (pa.array([dt.date(2020, 1, 2)] * N, pa.date64()), ["2020-01-02"] * N),
    "timestamp": (pa.array([dt.datetime(2020, 1, 2)] * N, pa.timestamp("ns")), ["2020-01-02 00:00:00"] * N),
    "zone": (pa.array([0] * N, pa.timestamp("ms", "Asia/Tokyo")), ["1970-01-01 00:00:00Z"] * N),
    "time of day": (pa.array([dt.time(1, 2)] * N), ["01:02:00"] * N),
    "uuid": (pa.array([u.bytes for u in UUIDS], pa.uuid()), [str(u) for u in UUIDS]),
    "uint64": (pa.array([2**64 - 1] * N, pa.uint64()), [str(2**64 - 1)] * N),
    "largest": (pa.array([2**63 - 1, 2**63 - 2] * 3), [2**63 - 1, 2**63 - 2] * 3),
    "smallest": (pa.array([-(2**63), 1 - 2**63] * 3), [-(2**63), 1 - 2**63] * 3),
    "huge decimal": (pa.array([Decimal(10**30)] * N), [str(10**30)] * N),
    "empty text": (pa.array(["", "a"] * 3), ["", "a"] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ANY_ID)
def test_ids_of_every_other_type_are_read_under_every_choice_of_ids_or_refused(tmp_path: Path, name: str) -> None:
    column, ids = ANY_ID[name]
    path = tmp_path / "a.parquet"
    whole = table(user_id=column, item_id=list(range(N)))
    pq.write_table(whole, path)
    read = quietly(read_ratings, path)
    assert [row[0] for row in triples(read)] == ids
    assert read.users.min() >= 0
    agrees(path, read)
    text = quietly(read_ratings, path, ids="string")
    assert [row[0] for row in triples(text)] == [str(i) for i in ids]
    agrees(path, text, ids="string")
    if isinstance(ids[0], int):
        assert triples(read_ratings(path, ids="integer")) == triples(read)
    else:
        with pytest.raises(DataError, match="--ids"):
            quietly(read_ratings, path, ids="integer")


def test_text_read_as_integers_names_the_row_that_is_not_an_integer() -> None:
    for wrong in (" 12", "+12", "0x10", "1.0", "", "99999999999999999999"):
        what = "id beyond 64-bit integers" if wrong.startswith("9") else "id is not an integer"
        with pytest.raises(DataError, match=f"row 3: {what}"):
            from_frame(table(user_id=["1234567890123456789", "-5", "007", wrong, "1", "2"]), ids="integer")


def test_notices_say_what_is_read_in_a_special_way() -> None:
    for columns, text in (
        ({"user_id": [float(u) for u in USERS]}, "whole numbers of type double are read as integer ids"),
        ({"rating": [True, False] * 3}, "true and false are read as ratings 1 and 0"),
        ({"rating": ["1"] * N}, "numbers stored as text are read as ratings"),
        ({"timestamp": [t + 0.5 for t in TIMES]}, "fractions of a second are left out"),
        ({"timestamp": pa.array([t * 10**6 + 1 for t in TIMES], pa.timestamp("us"))}, "fractions of a second"),
        ({"timestamp": ["2020-01-01T10:00:00.900Z"] * len(TIMES)}, "fractions of a second are left out"),
        ({"timestamp": [t * 1000 for t in TIMES]}, "times are read as milliseconds"),
        ({"timestamp": [t * 10**6 for t in TIMES]}, "times are read as microseconds"),
        ({"timestamp": [t * 10**9 for t in TIMES]}, "times are read as nanoseconds"),
    ):
        with pytest.warns(ReadingNotice, match=text) as said:
            from_frame(table(**columns))
        assert len(said) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.integers(-(10**9), 4 * 10**9), min_size=N, max_size=N))
def test_times_before_1970_are_rounded_down_in_every_unit(times: list[int]) -> None:
    moments = pa.array([t * 10**9 + 999_999_999 for t in times], pa.timestamp("ns"))
    kinds = [pa.array([t + 0.75 for t in times]), moments, moments.cast(pa.timestamp("us"), safe=False)]
    kinds += [pa.array([f"{np.datetime64(t, 's')}.75" for t in times])]
    for kind in (kinds[0], kinds[1], kinds[3]):
        read = quietly(from_frame, table(timestamp=kind))
        assert read.times is not None
        assert read.times.tolist() == times


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(-(10**11), 10**11), min_size=N, max_size=N))
def test_ordinary_seconds_are_never_mistaken_for_another_unit(times: list[int]) -> None:
    read = from_frame(table(timestamp=times))  # a notice would be an error
    assert read.times is not None
    assert read.times.tolist() == times


@pytest.mark.parametrize("ticks", [1000, 10**6, 10**9])
def test_times_of_1950_to_2030_are_recognised_in_every_unit(ticks: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        seconds = rng.integers(-631_152_000, 1_900_000_000, N)
        read = quietly(from_frame, table(timestamp=seconds * ticks + ticks // 2))
        assert read.times.tolist() == seconds.tolist()


class Stream:
    """A table of which only the Arrow stream is known."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._rows.__arrow_c_stream__(requested_schema)


def frame(**columns: Any) -> pd.DataFrame:
    plain: pd.DataFrame = table().to_pandas()
    return plain.assign(**columns)


HELD = {
    "pandas": frame(),
    "nullable": frame().convert_dtypes(),
    "pyarrow": frame().convert_dtypes(dtype_backend="pyarrow"),
    "categories": frame().astype({"user_id": "category", "rating": "category"}),
    "Sparse": frame().astype({"rating": pd.SparseDtype(float, 0.0), "user_id": pd.SparseDtype(int, 0)}),
    "objects": frame().astype(object),
    "Decimal": frame(rating=[Decimal(str(v)) for v in VALUES]),
    "float16": frame(rating=np.array(VALUES, "float16")),
    "index": frame().set_index(["user_id", "item_id"]),
    "zone": frame(timestamp=pd.to_datetime(TIMES, unit="s", utc=True).tz_convert("Europe/Berlin")),
    "a column twice": pd.concat([frame(x=1), frame(x=2)[["x"]]], axis=1),
    "Arrow table": table(),
    "record batch": table().to_batches()[0],
    "stream": Stream(table()),
    "columns by name": table().to_pydict(),
    "NumPy columns": {name: table()[name].to_numpy() for name in table().schema.names},
    "masked columns": {**table().to_pydict(), "rating": np.ma.masked_array(VALUES, [False] * N)},
    "rows": table().to_pylist(),
    "named fields": frame().to_records(index=False),
}  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_every_container_gives_the_same_rows(name: str) -> None:
    assert triples(quietly(from_frame, HELD[name])) == expected()


NO_FRAMES: dict[str, tuple[Any, str]] = {
    "user twice": (pd.concat([frame(), frame()[["user_id"]]], axis=1), r"two columns of the same name \(saw 'user_id'"),
    "complex": (frame(rating=np.array(VALUES) + 1j), "column rating: not a column of values of one type"),
    "levels": (frame().set_axis(pd.MultiIndex.from_product([["a"], frame().columns]), axis=1), "no column is recog"),
    "Series": (frame().rating, r"not a table \(saw Series\); give a frame: series.reset_index\(\)"),
    "path": (Path("a.csv"), r"not a table \(saw PosixPath\); use read_ratings for files"),
    "array": (np.ones((2, 3)), r"not a table \(saw ndarray\); use from_matrix for matrices"),
    "ratings": (from_frame(table()), "it is a Ratings table already"),
    "None": (None, r"not a table \(saw NoneType\)"),
    "mixed": (frame(user_id=[1, "a", 2, 3, 4, 5]), "column user_id: not a column of values of one type"),
    "periods": (frame(timestamp=pd.period_range("2024-01", periods=N, freq="M")), "must be numbers, dates or text"),
    "bytes": (frame(user_id=[b"\xff\xfe"] * N), "row 0: not text in UTF-8"),
    "masked": ({**table().to_pydict(), "rating": np.ma.masked_array(VALUES, [False] * 5 + [True])}, "row 5: null rat"),
    "lengths": ({**table().to_pydict(), "rating": [1.0]}, "arrays of a rating table differ in length"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_FRAMES)
def test_what_is_not_a_table_is_one_line_that_says_what_to_give(name: str) -> None:
    given_frame, message = NO_FRAMES[name]
    with pytest.raises(DataError, match=message) as fault:
        quietly(from_frame, given_frame)
    assert len(str(fault.value)) <= 300


def test_python_integers_beyond_64_bits_are_text() -> None:
    users = [10**30 + u for u in USERS]
    with pytest.warns(ReadingNotice, match="ids beyond 64-bit integers"):
        read = from_frame(frame(user_id=pd.Series(users, dtype=object)))
    assert [row[0] for row in triples(read)] == [str(u) for u in users]


def test_uuid_objects_are_read_as_their_text() -> None:
    users = [uuid.UUID(int=u) for u in USERS]
    assert [row[0] for row in triples(from_frame(frame(user_id=users)))] == [str(u) for u in users]
