"""Matrices in files, in and out, and `recsys-mf complete`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_mf import cli
from recsys_mf.completion.tables import read_table, write_table
from recsys_mf.errors import DataError, ReadingNotice

Cli = Callable[..., tuple[int, str, str]]

FRAME = pd.DataFrame(
    {"a": [1.5, np.nan, 3.0], "b": [0.1, 0.2, np.nan], "c": [7.0, 8.0, 9.0]}, index=pd.Index(["x", "y", "z"], name="id")
)


@pytest.fixture
def recsys(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs the command in an empty folder with a matrix of low rank, `m.csv`; gives (exit code, stdout, stderr)."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 5)) + 0.2 * rng.standard_normal((60, 5))
    frame = pd.DataFrame(values.round(3), index=[f"r{i}" for i in range(60)], columns=list("abcde"))
    frame.mask(rng.random(values.shape) < 0.2).rename_axis("id").to_csv(tmp_path / "m.csv")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recsys-mf", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capfd.readouterr()
        return int(stop.value.code or 0), out, err

    return run


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "first.csv").write_text("id,a,b,c\nx,1.5,0.1,7\ny,,0.2,8\nz,3,NaN,9\n")
    table = read_table(tmp_path / "first.csv")
    pd.testing.assert_frame_equal(table.frame, FRAME, check_names=False)
    write_table(table, table.frame.fillna(0.5), tmp_path / f"second{suffix}", force=False)
    again = read_table(tmp_path / f"second{suffix}")
    pd.testing.assert_frame_equal(again.frame, FRAME.fillna(0.5), check_names=False)
    assert again.labels == "id"


@pytest.mark.parametrize("between", [" ", "   ", " \t", "\t", "::", ";", "|"])
@pytest.mark.parametrize("header", ["", "a{0}b{0}c\n"])
def test_a_text_may_have_any_delimiter(tmp_path: Path, between: str, header: str) -> None:
    path = tmp_path / "m.txt"
    path.write_text(header.format(between) + "".join(f" {between.join(row)}\n" for row in (["1.5", "nan", "-3"],) * 4))
    np.testing.assert_array_equal(read_table(path).frame, [[1.5, np.nan, -3.0]] * 4)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_numpy_file_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    np.save(tmp_path / "first.npy", FRAME.to_numpy())
    table = read_table(tmp_path / "first.npy")
    assert table.labels is None
    write_table(table, table.frame, tmp_path / f"second{suffix}", force=False)
    np.testing.assert_array_equal(read_table(tmp_path / f"second{suffix}").frame, FRAME)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("names", [["a", "b", "c"], [0, 1, 2]])
def test_rows_without_an_entry_stay_rows(tmp_path: Path, names: list[str | int], index: bool) -> None:
    frame = pd.DataFrame([[1.5, 2, 3], [np.nan] * 3, [np.nan, 5, 6], [np.nan] * 3], columns=names)
    frame.to_csv(tmp_path / "m.csv", index=index)
    found = read_table(tmp_path / "m.csv").frame
    np.testing.assert_array_equal(found.to_numpy(), frame.to_numpy())
    assert list(found.columns) == [str(name) for name in names]


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("1.5,2\n3,\n4,5\n", ["column_1", "column_2"], None),
        ("x;1,5;2,25\ny;3,5;\nz;2,5;1,5\n", ["column_2", "column_3"], "row"),
        (",0,1\n0,1.5,2\n1,3,\n", ["0", "1"], "row"),
        ("\ufeffa\tb\n1\t2\nNA\t3\n", ["a", "b"], None),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the first line is read as data")
def test_texts_of_every_kind_are_read(tmp_path: Path, text: str, names: list[str], labels: str | None) -> None:
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    table = read_table(tmp_path / "m.csv")
    assert list(table.frame.columns) == names
    assert table.labels == labels
    assert table.frame.isna().to_numpy().sum() == text.count(",\n") + text.count(";\n") + text.count("NA\t")


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (
            "m.csv",
            "a,b\n1,2\n3,four\n",
            r"m.csv, row 3, column b: not a number \(saw 'four'\); give a number, or leave",
        ),
        ("m.csv", "a,b\n1,2\n3\n", r"m.csv, row 3: a row of another length \(saw 1 fields; 2 in the first row\)"),
        ("m.csv", "", r"m.csv: the file is empty; give lines of numbers$"),
        ("m.xlsx", "", r"m.xlsx: unknown file type for a matrix \(saw .xlsx\); give a file ending in .csv, .tsv"),
        ("m.parquet", "a,b", r"m.parquet: not a Parquet file"),
        ("m.npy", "a,b", r"m.npy: not an array of numbers"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, text: str, line: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=line):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        'name,price,qty\na,"500",1\nb,"900",2\nc,"1,200",\nd,"1,500",4\n',
        "name\tprice\tqty\na\t1,250\t1\nb\t\t2\nc\t1,200\t\n",
        "name;price;qty\na;500;1\nb;;2\nc;1,200,000;\nd;1,200;3\n",
        "name;price;qty\na;500;1,5\nb;;2\nc;1,200;\n",
        "name;price;qty\n" + "a;7;1,5\n" * 20_000 + "b;500;1\nc;1,200;\n",
    ],
)
def test_commas_that_may_separate_thousands_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    line = r"m.csv, column price: a comma may separate thousands or decimals \(saw '(1,2[05]0)'\); write such "
    with pytest.raises(DataError, match=line + r"numbers as 12[05]0 or 1\.2[05]0$"):
        read_table(tmp_path / "m.csv")


@pytest.mark.parametrize("text", ["NA", "N/A", "#N/A", "<NA>", "nan", "NULL", "none", "-", "?", ""])
@pytest.mark.parametrize("header", ["", "a,b\n"])
@pytest.mark.filterwarnings("ignore:.*the first line is read as data")
def test_every_way_to_write_a_missing_entry_is_read(tmp_path: Path, text: str, header: str) -> None:
    (tmp_path / "m.csv").write_text(f"{header}{text},1\n2,{text}\n3,4\n")
    np.testing.assert_array_equal(read_table(tmp_path / "m.csv").frame, [[np.nan, 1], [2, np.nan], [3, 4]])


@pytest.mark.parametrize("header", ["", "id,a,b\n"])
@pytest.mark.filterwarnings("ignore:.*the first line is read as data")
def test_numbers_with_leading_zeros_are_names_of_rows(tmp_path: Path, header: str) -> None:
    (tmp_path / "m.csv").write_text(header + "000,1.5,2\n001,,0.5\n012,3,-0.25\n")
    table = read_table(tmp_path / "m.csv")
    assert (list(table.frame.index), table.labels) == (["000", "001", "012"], "id" if header else "row")
    np.testing.assert_array_equal(table.frame, [[1.5, 2], [np.nan, 0.5], [3, -0.25]])
    write_table(table, table.frame, tmp_path / "again.csv", force=False)
    assert list(read_table(tmp_path / "again.csv").frame.index) == ["000", "001", "012"]


@pytest.mark.parametrize("seen", ["9007199254740993", "-9007199254740995", "18446744073709551615"])
def test_integers_that_float64_cannot_hold_are_refused(tmp_path: Path, seen: str) -> None:
    (tmp_path / "m.csv").write_text(f"a,b\n1,2\n{seen},\n9007199254740992,1e30\n")
    line = (
        rf"m.csv, row 3, column a: float64 cannot hold this integer exactly \(saw {seen}\); if its column holds ids, "
    )
    with pytest.raises(DataError, match=line):
        read_table(tmp_path / "m.csv")
    (tmp_path / "m.csv").write_text(f",b\n1,2\n{seen},\n3,1e30\n")
    assert list(read_table(tmp_path / "m.csv").frame.index) == ["1", seen, "3"]


YEARS = "2001,2002,2003\n1.5,2,\n,3.5,4\n5,6,7\n"
LABELLED = "part,2001,2002,2003\na,1.5,2,\nb,,3.5,4\nc,5,6,7\n"
READ_AS_DATA = r"m.csv: the first line is read as data; give --header yes if it names the columns$"


@pytest.mark.parametrize("text", [YEARS, LABELLED])
def test_a_line_of_numbers_names_the_columns_if_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    named = read_table(tmp_path / "m.csv", header="yes")
    assert list(named.frame.columns) == ["2001", "2002", "2003"]
    np.testing.assert_array_equal(named.frame, [[1.5, 2, np.nan], [np.nan, 3.5, 4], [5, 6, 7]])
    assert named.labels == ("part" if text == LABELLED else None)
    with pytest.warns(ReadingNotice, match=READ_AS_DATA):
        found = read_table(tmp_path / "m.csv")
    assert found.frame.iloc[0].tolist() == [2001, 2002, 2003]
    again = read_table(tmp_path / "m.csv", header="no")
    pd.testing.assert_frame_equal(again.frame, found.frame)


@pytest.mark.parametrize("text", ["1.5,,2\n3,4,5\n", "a,b\n1,2\n3,4\n", "x,1,1\ny,2,3\n", "0,1,2\n5,6,7\n"])
def test_a_first_line_that_is_clear_is_not_mentioned(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.csv").write_text(text)
    read_table(tmp_path / "m.csv")


def test_texts_in_a_first_line_of_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"m.csv, row 1, column column_2: not a number \(saw 'b'\)"):
        read_table(tmp_path / "m.csv", header="no")


@pytest.mark.filterwarnings("ignore:.*the first line is read as data")
def test_commas_before_decimals_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("x;1,250;2,25\ny;2,125;NA\nz;;1500,125\n")
    np.testing.assert_array_equal(
        read_table(tmp_path / "m.csv").frame, [[1.25, 2.25], [2.125, np.nan], [np.nan, 1500.125]]
    )


def test_an_array_that_is_no_matrix_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.arange(3.0))
    with pytest.raises(DataError, match=r"m.npy: not a matrix \(saw shape \(3,\)\); give an array \[m, n\]$"):
        read_table(tmp_path / "m.npy")
    np.savez(tmp_path / "m.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(DataError, match=r"m.npz: an .npz file must hold one array \(saw 2 arrays: a, b\)"):
        read_table(tmp_path / "m.npz")


def test_the_command_fills_a_file_and_says_how_well(recsys: Cli) -> None:
    code, out, err = recsys("complete", "m.csv", "-o", "full.csv", "--errors", "errors.csv")
    assert (code, err) == (0, "")
    given, full, errors = (pd.read_csv(name, index_col="id") for name in ("m.csv", "full.csv", "errors.csv"))
    missing = given.isna().to_numpy()
    pd.testing.assert_frame_equal(full.mask(missing), given)
    assert not full.isna().any().any()
    assert ((errors.to_numpy() > 0) == missing).all()
    assert f"missing   {missing.sum()} of 300 entries ({missing.mean():.1%})" in out
    assert "method    gaussian" in out
    assert "worst column" in out


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_command_gives_no_deviation_for_a_column_of_one_value(recsys: Cli, suffix: str) -> None:
    frame = pd.read_csv("m.csv", index_col="id")[["a", "b", "c"]].assign(f=[2.5, *[np.nan] * 59])
    frame.to_csv("f.csv")
    code, out, err = recsys("complete", "f.csv", "-o", "full.csv", "--errors", f"errors{suffix}", "--html", "page.html")
    assert code == 0
    assert err.startswith("warning: f.csv, column f: all observed entries are equal (2.5): filled with this value; ")
    errors = read_table(Path(f"errors{suffix}")).frame.to_numpy()
    assert np.isnan(errors[1:, 3]).all()
    assert ((errors == 0) == frame.notna().to_numpy()).all()
    assert "f                 59       unknown              unknown" in out
    assert "unknown" in Path("page.html").read_text()


def test_the_command_replaces_a_file_only_if_told(recsys: Cli) -> None:
    assert recsys("complete", "m.csv", "-o", "full.npy")[0] == 0
    code, _, err = recsys("complete", "m.csv", "-o", "full.npy")
    assert code == 2
    assert err == "error: full.npy: the file exists; give another name, or --force (force=True in Python)\n"
    assert recsys("complete", "m.csv", "-o", "full.npy", "--force", "--method", "factors", "--rank", "2")[0] == 0


def test_the_command_names_the_file_and_column_of_a_fault(recsys: Cli) -> None:
    Path("bad.csv").write_text("a,b\n1,\n2,\n3,\n")
    code, _, err = recsys("complete", "bad.csv", "-o", "full.csv")
    assert code == 3
    assert err.startswith("error: bad.csv, column b: nothing is observed in this column (saw 3 missing entries)")
    assert recsys("complete", "nope.csv", "-o", "full.csv")[0] == 3
    code, _, err = recsys("complete", "m.csv", "-o", "full.csv", "--errors", "full.csv")
    assert (code, err) == (2, "error: --errors: two results in one file (saw full.csv); give another name\n")
    assert not Path("full.csv").exists()


def test_the_command_takes_the_names_of_columns_as_told(recsys: Cli) -> None:
    text = Path("m.csv").read_text().replace("id,a,b,c,d,e", "id,2001,2002,2003,2004,2005")
    Path("years.csv").write_text(text)
    code, _, err = recsys("complete", "years.csv", "-o", "full.csv")
    assert code == 0
    assert err == "note: years.csv: the first line is read as data; give --header yes if it names the columns\n"
    assert recsys("complete", "years.csv", "-o", "full.csv", "--force", "--header", "yes")[::2] == (0, "")
    assert Path("full.csv").read_text().startswith("id,2001,2002,2003,2004,2005\n")
    assert recsys("complete", "m.csv", "-o", "other.npy")[0] == 0
    code, _, err = recsys("complete", "other.npy", "-o", "third.csv", "--header", "yes")
    assert code == 2
    assert err == "error: --header: only text tables have a line of names (saw yes, other.npy); leave it out\n"


def test_the_command_says_that_nothing_is_missing(recsys: Cli) -> None:
    Path("whole.csv").write_text("a,b\n1,2\n2,3\n3,5\n")
    code, out, err = recsys("complete", "whole.csv", "-o", "full.csv")
    assert code == 0
    assert err == "note: nothing is missing: the matrix is returned as it is\n"
    assert "missing   0 of 6 entries (0.0%)" in out
