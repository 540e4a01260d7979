"""Every option and argument that names a file or a folder takes an address, or says why it must be on this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pytest

from recsys_mf import cli
from recsys_mf.cli.places import PlaceType
from recsys_mf.storage.address import LOCAL_ONLY
from tests.servers import Bucket, parquet
from tests.trained import small_table

Cli = Callable[..., tuple[int, str, str]]

NAMES = {
    "by": "a rule",
    "chains": "a number",
    "device": "a device",
    "encoding": "an encoding",
    "engine": "an engine",
    "every": "a time",
    "feature_columns": "columns",
    "item": "an id",
    "item_column": "a column",
    "likelihood": "a setting",
    "master": "the address of a master of Spark",
    "method": "a method",
    "name": "a solver or a data set",
    "precision": "a setting",
    "ranks": "numbers",
    "rating_column": "a column",
    "schedule": "a setting",
    "settings": "settings",
    "size": "a size",
    "solver": "a solver",
    "solvers": "solvers",
    "svd_ranks": "numbers",
    "svd_route": "a way to compute",
    "storage": "a folder that the workers of Spark open themselves",
    "sweeps": "a number",
    "time_column": "a column",
    "user": "an id",
    "user_column": "a column",
    "weight_column": "a column",
}
"""Parameters that take a text which names no file."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, also those of groups."""

    def walked(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if isinstance(command, click.Group):
            for inner, found in command.commands.items():
                yield from walked(f"{name} {inner}".strip(), found)
        else:
            yield name, command

    return walked("", cli.command)


PARAMETERS = [(name, parameter) for name, command in commands() for parameter in command.params]
PLACES = {(name, str(p.name)): p.type for name, p in PARAMETERS if isinstance(p.type, PlaceType)}


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_a_parameter_that_takes_a_text_is_a_place_or_is_known_to_be_none(name: str, parameter: click.Parameter) -> None:
    if isinstance(parameter.type, PlaceType):
        assert parameter.name not in NAMES
    elif type(parameter.type) is type(click.STRING):
        assert parameter.name in NAMES, f"{name}: give {parameter.name} a type of cli.places, or list what it takes"
    else:
        assert not isinstance(parameter.type, click.Path | click.File), f"{name}: {parameter.name} takes no address"


LOCAL = {
    "checkpoint": ("train", "t.csv", "-o", "run", "--checkpoint"),
    "log": ("tune", "t.csv", "--trials", "1", "--log"),
    "state": ("compare", "t.csv", "--state"),
    "study": ("tune", "t.csv", "--trials", "1", "--study"),
    "folder of a data set": ("datasets", "fetch", "sample", "-o"),
}


@pytest.mark.parametrize("what", LOCAL_ONLY)
def test_what_must_be_on_this_machine_says_why(recsys: Cli, what: str) -> None:
    code, out, err = recsys(*LOCAL[what], "s3://bucket/x")
    reason = f"the {what} cannot be at an address: {LOCAL_ONLY[what]}; give a path on this machine"
    assert (code, out, err) == (2, "", f"error: s3://bucket/x: {reason}\n")
    assert not list(Path().iterdir())


def test_every_reason_is_that_of_an_option() -> None:
    assert {kind.local for kind in PLACES.values() if kind.local is not None} == set(LOCAL_ONLY)


@pytest.mark.parametrize(("name", "parameter"), [key for key, kind in PLACES.items() if kind.local is None])
def test_an_address_of_an_unknown_kind_is_refused_at_once(recsys: Cli, name: str, parameter: str) -> None:
    command = dict(commands())[name]
    typed = next(p for p in command.params if p.name == parameter)
    required = [p for p in command.params if p.required and p is not typed and isinstance(p, click.Option)]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    line = ["x" if p is not typed else "s9://b/x" for p in arguments]
    line += [text for p in required for text in (p.opts[0], "x")]
    line += [] if typed in arguments else [typed.opts[0], "s9://b/x"]
    code, out, err = recsys(*name.split(), *line)
    assert (code, out) == (2, "")
    assert (
        err == "error: s9://b/x: unknown kind of address 's9://'; did you mean 's3'? (valid: s3, hdfs, https, http)\n"
    )


SMALL = ("-p", "rank=2", "-p", "epochs=2", "--svd-ranks", "1,2")
QUICK = ("--solvers", "mean,bias")
LINES = (
    ("train", "IN/t.csv", "--test", "IN/u.csv", "-o", "OUT/run", "--predictions", "OUT/rows.parquet", "--html",
     "OUT/page.html", "--plots", "OUT/plots", "--titles", "IN/titles.csv", "--config", "IN/options.toml", *SMALL),
    ("train", "IN/t.csv", "-o", "OUT/gibbs", "--solver", "gibbs", "-p", "rank=2", "--sweeps", "8", "--svd-ranks", "1",
     "--user-features", "IN/users.csv", "--item-features", "IN/items.csv"),
    ("train", "IN/more.csv", "--from", "OUT/run", "-o", "OUT/continued", "--hold-out", "0"),
    ("train", "--repeat", "OUT/run", "-o", "OUT/again"),
    ("evaluate", "OUT/run", "--test", "IN/u.csv", "--predictions", "OUT/e.csv", "--html", "OUT/e.html", "--plots",
     "OUT/e", "--titles", "IN/titles.csv"),
    ("compare", "IN/t.csv", "--test", "IN/u.csv", "--html", "OUT/c.html", "--plots", "OUT/c", *QUICK),
    ("compare", "OUT/run", "OUT/gibbs", "--test", "IN/u.csv"),
    ("tune", "IN/t.csv", "--test", "IN/u.csv", "--solver", "bias", "--trials", "2", "-o", "OUT/best.toml", "--run",
     "OUT/tuned"),
    ("predict", "OUT/run", "IN/pairs.csv", "-o", "OUT/predicted.parquet"),
    ("recommend", "OUT/run", "--users", "IN/ids.csv", "--titles", "IN/titles.csv", "--exclude", "IN/pairs.csv",
     "--among", "IN/some.csv", "--ratings", "IN/more.csv", "-o", "OUT/best.csv"),
    ("similar", "OUT/gibbs", "IN/some.csv", "--titles", "IN/titles.csv"),
    ("explain", "OUT/run", "5", "100", "--titles", "IN/titles.csv"),
    ("fold-in", "OUT/run", "IN/more.csv", "-o", "OUT/folded", "--duplicates", "last"),
    ("forget", "OUT/run", "--users", "IN/ids.csv", "-o", "OUT/less"),
    ("complete", "IN/matrix.csv", "-o", "OUT/full.csv", "--errors", "OUT/errors.npy", "--html", "OUT/m.html",
     "--plots", "OUT/m"),
    ("export", "OUT/run", "-o", "OUT/export"),
    ("inspect", "IN/t.csv"),
)  # fmt: skip
"""A line per command, in which every place is an address or, in another folder, a path."""


def test_the_lines_use_every_place() -> None:
    used = set()
    for name, *rest in LINES:
        command = dict(commands())[name]
        typed, _, _ = command.make_parser(click.Context(command)).parse_args(list(rest))
        for parameter, value in typed.items():
            values = value if isinstance(value, tuple) else (value,)
            used |= {(name, parameter) for text in values if str(text).startswith(("IN/", "OUT/"))}
    assert used == {key for key, kind in PLACES.items() if kind.local is None}


def inputs() -> dict[str, bytes]:
    """The files that the lines read."""
    table = small_table().to_frame()
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 4))
    rows = [",".join("" if (i + j) % 7 == 0 else f"{x:.4f}" for j, x in enumerate(row)) for i, row in enumerate(matrix)]
    held_out = np.arange(len(table)) % 10 == 0
    users, items = (sorted(set(table[name])) for name in ("user_id", "item_id"))
    frames = {"t.csv": table[~held_out], "u.csv": table[held_out]}
    texts = {
        "more.csv": "user_id,item_id,rating,timestamp\n5000,100,4,1\n5000,102,3,2\n",
        "titles.csv": "item_id,title\n" + "".join(f"{item},Film {item}\n" for item in items),
        "users.csv": "user_id,age\n" + "".join(f"{user},{user % 50}\n" for user in users),
        "items.csv": "item_id,year\n" + "".join(f"{item},{1900 + item % 90}\n" for item in items),
        "pairs.csv": "user_id,item_id\n5,100\n8,102\n",
        "ids.csv": "user_id\n5\n8\n",
        "some.csv": "item_id\n100\n102\n104\n",
        "matrix.csv": "a,b,c,d\n" + "\n".join(rows) + "\n",
        "options.toml": "seed = 3\n",
    }
    found = {name: frame.to_csv(index=False).encode() for name, frame in frames.items()}
    return found | {name: text.encode() for name, text in texts.items()}


def words(text: str) -> list[str]:
    """What was printed, without numbers, what depends on seconds, rulers and where things are."""
    return re.sub(r"s3://bucket/|[\d.,]+( ([KMG]i)?B)?|─|\bfront\b", "", text).split()


@pytest.mark.slow
def test_every_command_does_at_addresses_what_it_does_with_files(recsys: Cli, s3: Bucket) -> None:
    """The same lines with files and with addresses print and write the same, but for names, times and the record."""
    for name, data in inputs().items():
        Path("IN").mkdir(exist_ok=True)
        Path("IN", name).write_bytes(data)
        s3.put(f"IN/{name}", data)
    Path("OUT").mkdir()
    for line in LINES:
        quiet = ("--quiet",) if line[0] in ("train", "tune", "export", "predict", "recommend", "similar") else ()
        there = [f"s3://bucket/{text}" if text.startswith(("IN/", "OUT/")) else text for text in line]
        code, out, err = recsys(*line, *quiet)
        assert code == 0, (line, err)
        code, remote, err = recsys(*there, *quiet)
        assert code == 0, (there, err)
        assert words(out) == words(remote), line
    here = {str(path) for path in Path("OUT").rglob("*") if path.is_file()}
    assert here == set(s3.names("OUT/"))
    varies = {"run.json", "report.json", "page.html", "e.html", "c.html", "m.html", "best.toml"}
    for name in sorted(here):
        if Path(name).name not in varies and Path(name).suffix != ".svg":
            assert Path(name).read_bytes() == s3.get(name), name


@pytest.mark.slow
def test_train_says_where_the_run_stands_and_leaves_it(recsys: Cli, s3: Bucket) -> None:
    s3.put("t.parquet", parquet(pa.Table.from_pandas(small_table().to_frame(), preserve_index=False)))
    line = ("train", "s3://bucket/t.parquet", "-o", "s3://bucket/run", *SMALL, "--quiet")
    assert recsys(*line)[0] == 0
    before = {name: s3.get(name) for name in s3.names("run/")}
    code, out, err = recsys(*line)
    assert (code, out) == (5, "")
    assert err == (
        "error: s3://bucket/run: the directory holds a run already; give another directory, "
        "or --force (force=True in Python)\n"
    )
    assert {name: s3.get(name) for name in s3.names("run/")} == before
    assert recsys(*line, "--force")[0] == 0
    code, _, err = recsys("train", "s3://bucket/t.parquet", "-o", "s3://nobucket/run", *SMALL, "--quiet")
    assert (code, err.count("\n")) == (5, 1)
    assert "there is no bucket 'nobucket'" in err
    code, _, err = recsys("train", "s3://bucket/none.parquet", "-o", "s3://bucket/new", *SMALL, "--quiet")
    assert (code, err.count("\n")) == (3, 1)
    assert s3.names("new") == []
