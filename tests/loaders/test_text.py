# ruff: noqa: E501, PT017
"""Text files: a table gives the same triples in every dialect; an error says what a file is if it is not a table."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import threading
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_mf.errors import ConfigError, DataError, IdMismatchWarning, ReadingNotice
from recsys_mf.loaders import describe, read_features, read_ratings
from recsys_mf.ratings import Ratings
from recsys_mf.streaming import Wanted, predict_file
from tests.trained import small_run

NAMES = ("user_id", "item_id", "rating", "timestamp")
Row = tuple[Any, Any, float, int]


def triples(path: Path | str, **how: Any) -> list[Row]:
    """The rows of a table that is read, ignoring notices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingNotice)
        return rows(read_ratings(path, **how))


def rows(table: Ratings) -> list[Row]:
    users, items = table.user_vocabulary.ids(table.users), table.item_vocabulary.ids(table.items)
    times = [0] * len(table) if table.times is None else table.times.tolist()
    return list(zip(users.to_pylist(), items.to_pylist(), table.values.tolist(), times, strict=True))


def made(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


PLAIN: list[Row] = [
    (1 + n % 7, 10 + n // 7, (n % 9) / 2, 1_100_000_000 + n) for n in range(60)
]  # whole and half stars, a zero among them
TEXTS: list[Row] = [(f"u{user}", f"film {item}", value, time) for user, item, value, time in PLAIN]
NASTY: list[Row] = [
    (mark + str(user), item, value, time)
    for (user, item, value, time), mark in zip(PLAIN, ['a"', '"b', "c,", "d;", "e\t", "f\n", "g|", "h ", " i", "é😀", "j\r\n", "#", "0"] * 5, strict=False)
]  # fmt: skip


def written(
    table: list[Row],
    delimiter: str = ",",
    *,
    header: bool = True,
    end: str = "\n",
    quoting: int = csv.QUOTE_MINIMAL,
    around: str = "",
    decimal: str = ".",
    trailing: bool = False,
) -> str:
    """A table as text."""
    out = io.StringIO(newline="")
    between = delimiter if len(delimiter) == 1 else "\x1f"
    writer = csv.writer(out, delimiter=between, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    if header:
        writer.writerow(NAMES)
    for user, item, value, time in table:
        number = f"{value:g}".replace(".", decimal)
        writer.writerow([user, item, number if decimal == "," else value, time])
    text = out.getvalue().replace(between, f"{around}{delimiter}{around}")
    return text.replace(end, delimiter + end) if trailing else text


DIALECTS: dict[str, dict[str, Any]] = {
    "comma": {},
    "tab": {"delimiter": "\t"},
    "semicolon": {"delimiter": ";"},
    "bar": {"delimiter": "|"},
    "colons": {"delimiter": "::"},
    "comma and blanks": {"around": " "},
    "tab and blanks": {"delimiter": "\t", "around": "  "},
    "quoted": {"quoting": csv.QUOTE_ALL},
    "quoted texts, tabs": {"delimiter": "\t", "quoting": csv.QUOTE_NONNUMERIC},
    "quoted after blanks": {"quoting": csv.QUOTE_NONNUMERIC, "around": " "},
    "decimal comma": {"delimiter": ";", "decimal": ","},
    "decimal comma, tabs": {"delimiter": "\t", "decimal": ","},
    "carriage returns": {"end": "\r"},
    "Windows": {"end": "\r\n"},
    "delimiter at the end": {"trailing": True},
    "semicolon at the end": {"delimiter": ";", "trailing": True, "end": "\r\n"},
}


@pytest.mark.parametrize("header", [True, False], ids=["names", "no names"])
@pytest.mark.parametrize("table", [PLAIN, TEXTS], ids=["numbers", "texts"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_triples(tmp_path: Path, dialect: str, table: list[Row], header: bool) -> None:
    path = made(tmp_path / "t.csv", written(table, header=header, **DIALECTS[dialect]))
    assert rows(read_ratings(path)) == table
    facts = describe(path)
    assert (facts.rows, facts.users, facts.items) == (60, 7, 9)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blanks", [" ", "  ", " \t "])
def test_runs_of_blanks_separate_columns(tmp_path: Path, blanks: str, end: str) -> None:
    lines = [blanks.join(f"{field:g}" if isinstance(field, float) else str(field) for field in row) for row in PLAIN]
    for head in ("", "user item rating time\n", "% sym\n% 60 7 9\n", "# a comment, of words\n#\n"):
        path = made(tmp_path / "t.txt", head + " " + (" " + end).join(lines) + end)
        assert rows(read_ratings(path)) == PLAIN


THOUSANDS = {
    "quoted": (",", ['"1,250"', '"980"']),
    "one value": (",", ['"1,250"']),
    "every value": ("\t", ["1,250", "2,500", "12,000"]),
    "integers too": ("\t", ["980", "1,250", "7"]),
    "several": (";", ["980", "1,250", "-1,250,000"]),
    "late": (";", [*["980"] * 40_000, "1,250"]),
}


@pytest.mark.parametrize("header", ["", "user{0}item{0}rating{0}time{0}weight\n"], ids=["no names", "names"])
@pytest.mark.parametrize("role", ["rating", "weight"])
@pytest.mark.parametrize("name", THOUSANDS)
def test_commas_that_may_separate_thousands_are_refused(tmp_path: Path, name: str, role: str, header: str) -> None:
    between, numbers = THOUSANDS[name]
    rows = [
        [n, n + 1, number, 978300760 + n, 1] if role == "rating" else [n, n + 1, 3, 978300760 + n, number]
        for n, number in enumerate(numbers)
    ]
    path = made(tmp_path / "t.csv", header.format(between) + "".join(between.join(map(str, r)) + "\n" for r in rows))
    weight: dict[str, Any] = {"weight_column": "weight" if header else "column_4"} if role == "weight" else {}
    for read in (read_ratings, describe):
        with pytest.raises(DataError, match=r"t.csv, column \w+: a comma may separate thousands or decimals") as fault:
            read(path, **weight)
        assert "(saw '1,250'); write such numbers as 1250 or 1.250" in str(fault.value)


@pytest.mark.parametrize(
    "numbers",
    [
        ["3,5", "4,25"],
        ["3,5", "1,250"],
        ["0,125", "0,250"],
        ["1234,567", "900"],
        ["-0,500", "12,000"],
        ["1,0", "500"],
        ["3,125", "4,250", "48"],
    ],
)
def test_commas_before_decimals_are_read(tmp_path: Path, numbers: list[str]) -> None:
    path = made(tmp_path / "t.csv", "".join(f"{n};{n + 1};{number}\n" for n, number in enumerate(numbers)))
    assert [row[2] for row in rows(read_ratings(path))] == [float(np.float32(t.replace(",", "."))) for t in numbers]


def test_commas_of_columns_that_are_not_read_do_not_matter(tmp_path: Path) -> None:
    path = made(tmp_path / "t.csv", 'user,item,rating,views\n"1,200",5,3,"1,250"\n"1,300",6,4,980\n')
    assert [row[0] for row in rows(read_ratings(path))] == ["1,200", "1,300"]
    path = made(tmp_path / "t.csv", "user;item;rating;weight\n1;2;3,5;1,250\n2;3;4;2,125\n")
    weights = read_ratings(path, weight_column="weight").weights
    assert weights is not None
    assert weights.tolist() == [1.25, 2.125], "the ratings show what the comma means"


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "gzip in two": lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda content: pa.compress(content, "zstd", asbytes=True),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_every_encoding_and_packing_gives_the_same_triples(tmp_path: Path, encoding: str, packing: str) -> None:
    table = [(f"Zoë {user}", *rest) for user, *rest in PLAIN]
    for header in (True, False):
        text = written(table, header=header)
        path = made(tmp_path / "table", PACKINGS[packing](text.encode(encoding)))
        assert triples(path) == table
        assert triples(path, encoding=encoding) == table


def test_a_zip_with_one_table_is_read_and_one_with_several_names_them(tmp_path: Path) -> None:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml/ratings.csv", written(PLAIN))
        archive.writestr("ml/README.txt", "read me")
        archive.writestr("__MACOSX/ml/._ratings.csv", b"\0\1")
    assert rows(read_ratings(path)) == PLAIN
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("ml/tags.csv", "user_id,tag\n1,x\n")
    with pytest.raises(
        DataError, match=r"the zip archive holds 2 files \(saw ml/ratings.csv, ml/tags.csv\); unpack.*unzip"
    ):
        read_ratings(path)


ids = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n\r"), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    users=st.lists(ids.filter(str.strip), min_size=2, max_size=8, unique=True),
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_text_in_quotes_is_an_id(
    tmp_path: Path, users: list[str], delimiter: str, quoting: int, end: str, encoding: str
) -> None:
    table = [(user, f"i{n}", float(n), n) for n, user in enumerate(users)]
    path = made(tmp_path / "t.csv", written(table, delimiter, quoting=quoting, end=end).encode(encoding))
    assert triples(path, ids="string") == table


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_what_predict_writes_is_read_back(tmp_path: Path, suffix: str) -> None:
    pairs = tmp_path / "pairs.parquet"
    table = {"note": [row[0] for row in NASTY], "user_id": [5] * len(NASTY), "item_id": [100] * len(NASTY)}
    pq.write_table(pa.table(table), pairs)
    predict_file(small_run(), pairs, tmp_path / f"once{suffix}", wanted=Wanted(device="cpu"))
    again = (tmp_path / f"once{suffix}").read_bytes().replace(b"prediction", b"old", 1).replace(b"known", b"was", 1)
    counts = predict_file(
        small_run(), made(tmp_path / f"in{suffix}", again), tmp_path / f"twice{suffix}", wanted=Wanted(device="cpu")
    )
    assert counts["both"] == len(NASTY)
    for name in ("once", "twice"):
        found = read_ratings(tmp_path / f"{name}{suffix}", user_column="note", rating_column="prediction", ids="string", duplicates="mean")  # fmt: skip
        assert sorted(found.user_vocabulary.entries.to_pylist()) == sorted(set(table["note"]))
    assert b'"\xc3\xa9' not in again, "what needs no quotes has none"


def test_line_breaks_in_quotes_are_read_in_files_of_any_size(tmp_path: Path) -> None:
    review = 'first line, number %d\nsecond ""line""\nthe end'
    lines = [f'{n},U{n % 997},I{n // 997},{n % 5},"{review % n}{"x" * 300}"' for n in range(15_000)]
    path = made(tmp_path / "t.csv", "Id,User,Item,Score,Text\n" + "\n".join(lines) + "\n")
    assert len(read_ratings(path)) == 15_000


@pytest.mark.parametrize(
    ("title", "said"),
    [
        (b"Caf\xe9", "Windows-1252"), (b'5" disc', None), (b'"Great" movie', None), (b'"open', None),
        (b'"a \\"b\\", c"', None), (b'"a ""b"", c"', None), (b"\x80\x81", "Windows-1252"),
    ],
)  # fmt: skip
def test_a_column_that_is_not_asked_for_cannot_make_a_file_unreadable(
    tmp_path: Path, title: bytes, said: str | None
) -> None:
    body = b"".join(b"%d,%d,3,%s\n" % (n, n, title if n % 2 else b"plain") for n in range(100))
    path = made(tmp_path / "t.csv", b"user,item,rating,title\n" + body)
    if said is None:
        assert len(read_ratings(path)) == 100
    else:
        with pytest.warns(ReadingNotice, match=said):
            assert len(read_ratings(path)) == 100


def test_a_given_encoding_is_used(tmp_path: Path) -> None:
    path = made(tmp_path / "t.csv", "user,item,rating\nЖук,1,3\n".encode("cp866"))
    assert rows(read_ratings(path, encoding="cp866"))[0][0] == "Жук"
    assert describe(path, encoding="cp866").users == 1
    with pytest.raises(DataError, match=r"t.csv: not utf-8 \(saw byte 0x86\); give the right encoding"):
        read_ratings(path, encoding="UTF8")
    with pytest.raises(ConfigError, match=r"encoding: unknown encoding \(saw 'klingon'\)"):
        read_ratings(path, encoding="klingon")
    with pytest.raises(ConfigError, match=r"encoding: unknown encoding \(saw 'rot13'\)"):
        read_features(path, role="user", encoding="rot13")


PADDED = {
    "zeros": (["0042", "42", "7"], "leading zeros"),
    "plus": (["+12", "12", "7"], "leading zeros or a sign"),
    "late zeros": ([*map(str, range(1, 50)), "01"], "leading zeros"),
    "beyond 64 bits": (["15839785061582574730", "1", "2"], "beyond 64-bit"),
}


@pytest.mark.parametrize("name", PADDED)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "::", " "])
def test_ids_that_are_not_written_as_integers_stay_text(tmp_path: Path, name: str, delimiter: str) -> None:
    found, said = PADDED[name]
    body = "".join(delimiter.join((user, "3", "0.5")) + "\n" for user in found)
    path = made(tmp_path / "t.csv", delimiter.join(("user", "item", "rating")) + "\n" + body)
    with pytest.warns(ReadingNotice, match=said) as notices:
        assert [row[0] for row in rows(read_ratings(path))] == found
    assert len(notices) == 1
    with pytest.warns(ReadingNotice, match=said):
        assert describe(path).users == len(found)
    assert describe(path, ids="string").users == len(found)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_and_a_glob_of_parts_are_one_table(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "out.csv"
    folder.mkdir()
    for number in range(3):
        content = written(PLAIN[number * 20 : number * 20 + 20], header=number != 1).encode()
        made(folder / f"part-{number}.csv{suffix}", gzip.compress(content) if suffix else content)
    made(folder / "_SUCCESS", "")
    made(folder / "part-3.csv", "")
    made(folder / ".part-0.csv.crc", b"crc\0")
    assert rows(read_ratings(folder)) == PLAIN
    assert rows(read_ratings(folder / "part-*")) == PLAIN
    assert describe(folder).rows == 60
    made(folder / "part-9.csv", "user_id,item_id,stars\n1,2,3\n")
    with pytest.raises(
        DataError, match=r"part-9.csv: the parts have different columns \(saw user_id, item_id, stars, but"
    ):
        read_ratings(folder)
    made(folder / "part-9.csv", json.dumps({"user_id": 1}))
    with pytest.raises(
        DataError, match=r"out.csv: the files have different formats \(saw .*part-0.*: text, .*: JSON\)"
    ):
        read_ratings(folder)


def test_parts_whose_types_differ_are_one_table(tmp_path: Path) -> None:
    made(tmp_path / "a.csv", "user,item,rating\n1,2,3\n")
    made(tmp_path / "b.csv", "item,rating,user\n3,4.5,ann\n")
    assert rows(read_ratings(tmp_path)) == [("1", 2, 3.0, 0), ("ann", 3, 4.5, 0)]


@pytest.mark.parametrize("name", ["fifo", "-"])
def test_pipes_are_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(written(PLAIN).encode())
    if name == "-":
        with made(tmp_path / "in", content).open() as stdin:
            monkeypatch.setattr("sys.stdin", stdin)
            assert rows(read_ratings("-")) == PLAIN
        return
    os.mkfifo(tmp_path / name)
    writer = threading.Thread(target=made, args=(tmp_path / name, content))
    writer.start()
    assert rows(read_ratings(tmp_path / name)) == PLAIN
    writer.join()


JSON = [
    ("reviewerID", "asin", "overall", "unixReviewTime"),
    ("user_id", "business_id", "stars", "timestamp"),
    ("user_id", "book_id", "rating", "time"),
    ("User-ID", "ISBN", "Book-Rating", "date"),
    ("userId", "movieId", "rating", "timestamp"),
]


@pytest.mark.parametrize("names", JSON)
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_json_lines_and_arrays_of_objects_are_read(tmp_path: Path, names: tuple[str, ...], packing: str) -> None:
    objects = [{"helpful": [n, 1], **dict(zip(names, row, strict=True)), "x": n if n % 2 else str(n)} for n, row in enumerate(TEXTS)]  # fmt: skip
    for text in ("\n".join(map(json.dumps, objects)), json.dumps(objects, indent=1)):
        path = made(tmp_path / "t.json", PACKINGS[packing](text.encode()))
        assert rows(read_ratings(path)) == TEXTS
        assert describe(path).rows == 60
    with pytest.raises(DataError, match="column helpful: the column holds objects or arrays"):
        read_ratings(path, user_column="helpful")


def test_the_netflix_prize_is_read(tmp_path: Path) -> None:
    path = made(tmp_path / "combined_data_1.txt", "1:\n5,3,2005-01-01\n6,4,1970-01-02\n20:\r\n5,1,1970-01-01\r\n")
    assert rows(read_ratings(path)) == [(5, 1, 3.0, 1104537600), (6, 1, 4.0, 86400), (5, 20, 1.0, 0)]
    path = made(tmp_path / "a.txt", "1:\n5,3,2005-01-01\n2:\n6,x,1970-01-02\n")
    with pytest.raises(DataError, match=r"column rating, row 1 \(line 4\): rating is text.*saw 'x'"):
        read_ratings(path)


def _cells(rows: int, columns: int, label: bool) -> list[list[str]]:
    return [([f"r{row}"] if label else []) + [str((row * 3 + column * 5) % 6) for column in range(columns)] for row in range(rows)]  # fmt: skip


@pytest.mark.parametrize("label", [True, False], ids=["row labels", "no labels"])
@pytest.mark.parametrize("names", ["none", "films", "numbers"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", " "])
@pytest.mark.parametrize(("n_rows", "n_columns"), [(20, 101), (7, 6)])
def test_the_error_for_a_matrix_says_that_it_is_one(
    tmp_path: Path, n_rows: int, n_columns: int, delimiter: str, names: str, label: bool
) -> None:
    cells = _cells(n_rows, n_columns, label)
    heads = [f"Film{n}" if names == "films" else str(n) for n in range(n_columns)]
    head = [] if names == "none" else [["user"] * label + heads]
    path = made(tmp_path / "m.csv", "".join(delimiter.join(row) + "\n" for row in head + cells))
    for read in (read_ratings, describe, lambda path: predict_file(small_run(), path, tmp_path / "o.csv")):
        with pytest.raises(DataError, match=rf"m.csv: a matrix of \d+ rows × {n_columns + label} columns.*from_matrix"):
            read(path)


def test_the_border_between_matrices_and_ratings(tmp_path: Path) -> None:
    def is_matrix(text: str) -> bool:
        try:
            read_ratings(made(tmp_path / "t.csv", text), duplicates="mean")
        except DataError as error:
            assert "a matrix of" in str(error), error
            return True
        return False

    assert is_matrix("5,3,0,1\n4,0,0,1\n1,1,0,5\n1,0,0,4\n0,1,5,4\n")  # four columns of the same few values
    assert is_matrix("3.5,2,4\n1,2.5,3\n")  # ids are not fractions
    assert not is_matrix("1,1,5\n1,2,3\n2,1,4\n")  # three columns are ratings
    assert not is_matrix("1,1,5,100\n1,2,3,200\n2,1,4,300\n")
    assert not is_matrix("1,1,5,1100000000,9\n1,2,3,1100000001,9\n")  # seconds, and one more column


def test_pairs_without_column_names_are_read_or_the_missing_line_is_named(tmp_path: Path) -> None:
    def known(text: str) -> int:
        pairs, output = made(tmp_path / "p.csv", text), tmp_path / "o.csv"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IdMismatchWarning)
            return sum(predict_file(small_run(strings=True), pairs, output, force=True).values())

    assert known("ann0,film20\nbob1,film3\n") == 2
    assert known("ann,film b\nbob,film c\nann,film a\n") == 3  # ann is not a column name: she occurs again
    with pytest.raises(DataError, match="if the first line is data, put a line of column names above it: user_id,item"):
        known("ann,heat\nbob,alien\n")


def test_a_tab_separates_although_ids_hold_commas_and_times_hold_blanks(tmp_path: Path) -> None:
    lines = [f"a,b{k}\t{k:06d}\t{k % 5}\t2014-05-23 20:42:2{k}.000Z\t0.5\tboth" for k in range(8)]
    path = made(tmp_path / "t.tsv", "\n".join(["userId\tmovieId\trating\ttimestamp\told\twas", *lines]) + "\n")
    assert [row[:3] for row in triples(path)] == [(f"a,b{k}", f"{k:06d}", float(k % 5)) for k in range(8)]


FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n\n", "the file is empty"),
    "PDF": (b"%PDF-1.7 ...", "a PDF"),
    "pickle": (b"\x80\x04\x95\x00\x00", "a pickle, not a table"),
    "SQLite": (b"SQLite format 3\x00....", "an SQLite database"),
    "HDF5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "NumPy": (b"\x93NUMPY\x01\x00", r"numpy\.load and give the matrix to recsys_mf\.from_matrix"),
    "MATLAB": (b"MATLAB 5.0 MAT-file", "a MATLAB file"),
    "Arrow": (b"ARROW1\x00\x00", "an Arrow file"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
    "HTML": (b"<!DOCTYPE html><html>", "a page of HTML or XML"),
    "SQL": (b"INSERT INTO ratings VALUES (1,2,3);\n", "an SQL dump"),
    "Matrix Market": (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 5\n", "a Matrix Market file"),
    "Python": (b"{'reviewerID': 'A', 'overall': 5.0}\n", "lines of Python literals, not JSON"),
    "matrix of JSON": (b"[[1, 2, 3], [4, 5, 6]]", "a matrix of 2 rows × 3 columns"),
    "broken JSON": (b'{"user": 1, "item": 2, "rating": 3}\n{"user": 1,\n', "line 2: not JSON"),
    "noise": (bytes(range(256)) * 8, "not a text table|no delimiter"),
    "cut gzip": (gzip.compress(written(PLAIN).encode())[:-9], "truncated or damaged"),
    "gzip in gzip": (gzip.compress(gzip.compress(b"user,item,rating\n1,2,3\n")), "the file is compressed twice"),
    "bad zip": (b"PK\x03\x04" + b"\0" * 40, "cannot be read"),
    "escapes": (b"user_id,item_id,rating\n1,2,3\n1,\x1b[31m2,3,4,5\n", "line 3.*5 fields, but the table has 3"),
    "long": (b"user_id,item_id,rating\n1,2,3\n" + b"9," * 5000 + b"\n", "line 3.*5001 fields"),
    "wide names": (",".join(f"column{n}" for n in range(500)).encode() + b"\nx" + b",x" * 499 + b"\n", "and 4.. more"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_a_table_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    content, message = FOREIGN[name]
    path = made(tmp_path / "t.csv", content)
    with pytest.raises(DataError, match=message) as failed:
        triples(path)
    line = str(failed.value).replace(str(tmp_path), "")
    assert line.isprintable()
    assert len(line) <= 300


def test_paths_that_do_not_lead_to_a_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "stale").symlink_to(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("loop", "loop: cannot be opened"), ("stale", "stale: the link points to a file that does not exist"),
        ("empty", "empty: no table in the folder"), ("nothing.csv", "nothing.csv: no such file"),
        ("*.none", "no such file"), ("x" * 300, "cannot be opened"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            read_ratings(tmp_path / path)
    for bare, message in (
        ("", "the path is empty"),
        ("/dev/null", "file is empty"),
    ):
        with pytest.raises(DataError, match=message):
            read_ratings(bare)
