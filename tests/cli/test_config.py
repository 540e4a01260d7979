"""`train --config FILE.toml`: the same run as with the options typed, what is typed wins, every fault has a place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from recsys_mf.cli.config import SHORTHANDS, _options, read_config, write_config
from recsys_mf.cli.train import train
from tests.trained import small_table

Cli = Callable[..., tuple[int, str, str]]

TYPED = (
    "--solver", "als", "--hold-out", "0.2", "--seed", "3", "--by", "user", "--no-keep-rated", "--svd-ranks", "1,2",
    "-p", "rank=3", "-p", "epochs=4", "-p", "members=1", "-p", "regularisation=0.7",
)  # fmt: skip
WRITTEN = """
solver = "als"
hold-out = 0.2
seed = 3
by = "user"
keep-rated = false
svd-ranks = [1, 2]
quiet = true

[settings]
rank = 3
epochs = 4
members = 1
regularisation = 0.7
"""


OPTIONS = _options(click.Context(train))


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in a folder that has `table.parquet`; returns (exit code, stdout, stderr)."""
    small_table().to_frame().to_parquet("table.parquet")
    return recsys


def record(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run) / "run.json").read_text())
    return found


def test_a_file_gives_the_same_bytes_as_the_options_typed(recsys: Cli) -> None:
    Path("c.toml").write_text(WRITTEN)
    assert recsys("train", "table.parquet", "-o", "typed", *TYPED, "-q")[0] == 0
    code, _, err = recsys("train", "table.parquet", "-o", "read", "--config", "c.toml")
    assert (code, err) == (0, "")
    for name in ("model.safetensors", "baselines.safetensors", "users.parquet", "items.parquet"):
        assert Path("typed", name).read_bytes() == Path("read", name).read_bytes()
    one, other = (record(run)["provenance"] for run in ("typed", "read"))
    for fact in ("settings", "split_rule", "seed", "baselines", "reading", "given"):
        assert one[fact] == other[fact]
    assert not Path("read", "rated.parquet").exists()


def test_the_run_records_the_file_and_repeat_needs_it_no_more(recsys: Cli) -> None:
    Path("c.toml").write_text(WRITTEN)
    recsys("train", "table.parquet", "-o", "run", "--config", "c.toml")
    Path("c.toml").unlink()
    kept = record("run")["provenance"]["config"]
    assert (kept["path"], kept["options"]["seed"], kept["settings"]["rank"]) == ("c.toml", 3, "3")
    code, _, err = recsys("train", "--repeat", "run", "-o", "new")
    assert (code, "equal those in run byte for byte" in err) == (0, True)


def test_what_is_typed_wins(recsys: Cli) -> None:
    Path("c.toml").write_text(WRITTEN)
    assert recsys("train", "table.parquet", "-o", "run", "--config", "c.toml", "--seed", "9", "-p", "rank=2")[0] == 0
    found = record("run")["provenance"]
    assert (found["seed"], found["split_rule"]["fraction"]) == (9, 0.2)
    assert (found["settings"]["rank"], found["settings"]["epochs"]) == (2, 4)
    assert found["given"]["rank"] == "2"


def test_the_table_and_the_run_may_stand_in_the_file(recsys: Cli) -> None:
    Path("c.toml").write_text('ratings = "table.parquet"\noutput = "run"\nsolver = "mean"\nquiet = true\n')
    assert recsys("train", "--config", "c.toml")[0] == 0
    assert record("run")["fit"]["solver"] == "mean"


def test_a_setting_with_an_option_of_its_own_stands_at_the_top_too(recsys: Cli) -> None:
    Path("c.toml").write_text('solver = "gibbs"\nsweeps = 6\nquiet = true\n[settings]\nburn_in = 2\nrank = 2\n')
    assert recsys("train", "table.parquet", "-o", "run", "--config", "c.toml", "-p", "sweeps=5")[0] == 0
    assert record("run")["provenance"]["settings"]["sweeps"] == 5


VALUES: dict[type, Any] = {bool: True, int: 3, float: 0.25, str: "text"}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    option = OPTIONS[name]
    kind = bool if getattr(option, "is_flag", False) else {"integer": int, "float": float}.get(option.type.name, str)
    kind = int if option.type.name == "integer range" else kind
    value = option.type.choices[0] if isinstance(option.type, click.Choice) else VALUES[kind]
    path = tmp_path / "c.toml"
    write_config(path, "", {name: value}, {})
    config = read_config(path, click.Context(train))
    found = config.settings if name in SHORTHANDS else config.options
    assert found == {name: value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hold-out = ", "c.toml: not TOML (saw Invalid value (at end of document)); write NAME = VALUE"),
        ("seed = 1\nseed = 2\n", "c.toml: not TOML (saw Cannot overwrite a value (at line 2, column 9))"),
        ("hold_out = 0.1", "c.toml: there is no option 'hold_out'; did you mean 'hold-out'?"),
        ("sead = 1", "c.toml: there is no option 'sead'; did you mean 'seed'?"),
        ("config = 'd.toml'", "c.toml: there is no option 'config'"),
        ("repeat = 'run'", "c.toml: there is no option 'repeat'"),
        ("[setings]\nrank = 3", "c.toml: there is no option 'setings'; did you mean 'settings'?"),
        ("settings = 3", "c.toml: settings: not a table; write [settings] on a line of its own"),
        ("seed = '1'", "c.toml: seed: value of another type (saw '1'); give a whole number"),
        ("seed = 1.0", "c.toml: seed: value of another type (saw 1.0); give a whole number"),
        ("seed = true", "c.toml: seed: value of another type (saw True); give a whole number"),
        ("seed = -1", "c.toml: seed: not a value of this option (saw -1); -1 is not in the range x>=0."),
        ("hold-out = '0.1'", "c.toml: hold-out: value of another type (saw '0.1'); give a number"),
        ("quiet = 1", "c.toml: quiet: value of another type (saw 1); give true or false"),
        ("by = true", "c.toml: by: value of another type (saw True); give a text in quotes"),
        ("ids = 'both'", "c.toml: ids: not a value of this option (saw 'both')"),
        ("[settings]\nrank = true", "c.toml: [settings] rank: value of another type (saw True); give a number"),
        ("[settings]\nrank = [[1]]", "c.toml: [settings] rank: value of another type (saw [[1]])"),
        ("[settings]\nrang = 3", "solver 'sgd' has no setting 'rang'; did you mean 'rank'?"),
        ("[settings]\nrank = 0.5", "rank: setting of another type (saw '0.5'); give a whole number or auto"),
        ("sweeps = 3\n[settings]\nsweeps = 4", "c.toml: sweeps: given twice; give it once"),
    ],
)
def test_every_fault_is_one_line_with_its_place(recsys: Cli, text: str, message: str) -> None:
    Path("c.toml").write_text(text)
    code, out, err = recsys("train", "table.parquet", "-o", "run", "--config", "c.toml")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not Path("run").exists()


def test_a_file_that_cannot_be_read_is_one_line(recsys: Cli) -> None:
    code, _, err = recsys("train", "table.parquet", "-o", "run", "--config", "no.toml")
    assert (code, err.startswith("error: no.toml: the file of options cannot be read (saw No such file")) == (2, True)
    Path("bad.toml").write_bytes(b"seed = \xff")
    code, _, err = recsys("train", "table.parquet", "-o", "run", "--config", "bad.toml")
    assert (code, err) == (2, "error: bad.toml: not TOML: the text is not UTF-8; store it as UTF-8\n")


def test_settings_of_one_solver_are_not_those_of_another(recsys: Cli) -> None:
    Path("c.toml").write_text(WRITTEN)
    code, _, err = recsys("train", "table.parquet", "-o", "run", "--config", "c.toml", "--solver", "sgd")
    assert (code, "--solver: the settings in c.toml are those of 'als' (saw sgd)" in err) == (2, True)
    Path("c.toml").write_text('solver = "als"\nquiet = true\n')
    assert recsys("train", "table.parquet", "-o", "run", "--config", "c.toml", "--solver", "mean")[0] == 0


def test_with_from_the_settings_are_those_of_the_run(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *TYPED, "--keep-rated", "-q")
    Path("c.toml").write_text("[settings]\nrank = 3\n")
    code, _, err = recsys("train", "table.parquet", "-o", "new", "--from", "run", "--config", "c.toml")
    assert (code, "the settings in c.toml cannot be given with --from" in err) == (2, True)
    Path("c.toml").write_text("svd-ranks = [1]\n")
    code, _, err = recsys("train", "table.parquet", "-o", "new", "--from", "run", "--config", "c.toml")
    assert (code, "--svd-ranks cannot be given with --from" in err) == (2, True)


def test_options_of_a_file_exclude_each_other_as_typed_ones_do(recsys: Cli) -> None:
    Path("c.toml").write_text("hold-out = 0.2\n")
    code, _, err = recsys("train", "table.parquet", "-o", "run", "--config", "c.toml", "--folds", "3")
    assert (code, "--hold-out has no effect together with --folds" in err) == (2, True)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    options: dict[str, Any] = {
        "solver": "sgd", "hold-out": 0.1 + 0.2, "seed": 2**40, "keep-rated": False,
        "user-column": 'a "quoted" \\ name\x7f\t\u2028é😀',
    }  # fmt: skip
    settings = {"rank": 3, "regularisation": 1e-7 / 3, "ranks": [1, 2], "links": "both"}
    write_config(path, "two\nlines", options, settings)
    config = read_config(path, click.Context(train))
    assert config.options == options
    assert config.settings == {"rank": "3", "regularisation": repr(1e-7 / 3), "ranks": "1,2", "links": "both"}
