"""The command line end to end: from a table to a run, a report and predictions, and a message for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_mf import cli
from recsys_mf.solvers import SOLVERS
from recsys_mf.store import save
from tests.trained import small_run, small_table

Cli = Callable[..., tuple[int, str, str]]

SMALL = ("-p", "rank=4", "-p", "epochs=6", "--svd-ranks", "1,2,4")


@pytest.fixture
def recsys(recsys: Cli) -> Cli:
    """Runs the command in an empty folder that holds `table.parquet`; returns (exit code, stdout, stderr)."""
    small_table().to_frame().to_parquet("table.parquet")
    return recsys


def rmse(report: dict[str, object], label: str) -> float:
    rows: list[dict[str, dict[str, dict[str, float]]]] = report["rows"]  # type: ignore[assignment]
    return next(row["scores"]["rmse"]["value"] for row in rows if row["label"] == label)  # type: ignore[comparison-overlap]


def test_from_a_table_to_a_report_and_predictions(recsys: Cli) -> None:
    code, out, err = recsys("train", "table.parquet", "-o", "run", "--json", *SMALL)
    assert code == 0, err
    trained = json.loads(out)
    labels = [row["label"] for row in trained["rows"]]
    assert labels[-1] == "sgd"
    assert {"mean", "bias", "svd zero", "svd mean", "svd item-mean", "svd bias"} <= set(labels)
    assert rmse(trained, "sgd") < rmse(trained, "mean")

    table = pq.read_table("table.parquet")
    test = np.random.default_rng(0).random(len(table)) < 0.1
    pq.write_table(table.filter(pa.array(test)), "test.parquet")
    code, out, _ = recsys("evaluate", "run", "--test", "test.parquet", "--json")
    assert code == 0
    assert rmse(json.loads(out), "sgd") == rmse(trained, "sgd")

    Path("pairs.csv").write_text("user,item\n5,100\n1,2\n")
    code, out, _ = recsys("predict", "run", "pairs.csv", "-o", "out.csv")
    assert (code, out) == (
        0,
        "out.csv: 2 predictions; ids known: 1 both, 0 only the item, 0 only the user, 1 neither\n",
    )
    assert [line.split(",")[-1] for line in Path("out.csv").read_text().splitlines()] == ["known", "both", "neither"]


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_trains_from_the_command_line(recsys: Cli, solver: str) -> None:
    code, out, err = recsys("train", "table.parquet", "-o", "run", "--solver", solver, "--quiet", "--svd-ranks", "1,2")
    assert code == 0, err
    assert "held-out" in out.lower()
    assert Path("run/report.json").exists()


def test_the_newest_of_duplicates_is_kept_by_a_solver_without_times_too(recsys: Cli) -> None:
    frame = small_table().to_frame()
    older = frame[:50].assign(rating=0.0, timestamp=frame["timestamp"] - 1)
    pd.concat([frame, older]).to_csv("twice.csv", index=False)
    options = ("--solver", "mean", "--hold-out", "0", "--svd-ranks", "1", "-q")
    assert recsys("train", "table.parquet", "-o", "once", *options)[0] == 0
    assert recsys("train", "twice.csv", "-o", "twice", *options, "--duplicates", "last")[0] == 0
    assert Path("twice/model.safetensors").read_bytes() == Path("once/model.safetensors").read_bytes()


@pytest.mark.parametrize("form", [[], ["--markdown"], ["--json"]])
def test_the_report_comes_in_every_form(recsys: Cli, form: list[str]) -> None:
    code, out, _ = recsys("train", "table.parquet", "-o", "run", *SMALL, *form)
    assert code == 0
    assert ("svd bias" if "--json" in form else "SVD, bias fill") in out
    assert out.startswith("{") == (form == ["--json"])
    assert ("| " in out) == (form == ["--markdown"]) or form == ["--json"]


def test_hold_out_zero_trains_on_all_rows_and_reports_validation(recsys: Cli) -> None:
    code, out, _ = recsys("train", "table.parquet", "-o", "run", "--hold-out", "0", *SMALL)
    assert code == 0
    assert "validation" in out
    assert json.loads(Path("run/run.json").read_text())["provenance"]["train_ratings"] == 601
    assert json.loads(Path("run/report.json").read_text())["kind"] == "validation"


def test_folds_give_mean_and_spread_and_a_run_of_all_rows(recsys: Cli) -> None:
    code, out, _ = recsys("train", "table.parquet", "-o", "run", "--folds", "3", *SMALL)
    assert code == 0
    assert "±" in out
    report = json.loads(Path("run/report.json").read_text())
    assert report["kind"] == "folds"
    assert sum(report["n_pairs"]) == 601
    assert json.loads(Path("run/run.json").read_text())["provenance"]["train_ratings"] == 601


def test_the_ranking_of_train_is_that_of_evaluate_and_of_python(recsys: Cli) -> None:
    given = "--ranking", "5", "--relevant", "3"
    code, out, err = recsys("train", "table.parquet", "-o", "run", "--json", *SMALL, *given)
    assert code == 0, err
    trained = json.loads(out)
    assert json.loads(Path("run/report.json").read_text())["ranking"] == trained["ranking"]

    table = pq.read_table("table.parquet")
    test = np.random.default_rng(0).random(len(table)) < 0.1
    pq.write_table(table.filter(pa.array(test)), "test.parquet")
    report = json.loads(recsys("evaluate", "run", "--test", "test.parquet", "--json", *given)[1])
    assert report["ranking"] == trained["ranking"]
    assert [row["ranking"] for row in report["rows"]] == [row["ranking"] for row in trained["rows"]]
    text = recsys("evaluate", "run", "--test", "test.parquet", *given)[1]
    assert "Ranking: top 5 of all items, relevant = rating of at least 3" in text
    code, out, _ = recsys("train", "--repeat", "run", "-o", "again", "--json", *given)
    assert json.loads(out)["rows"][-1]["ranking"] == trained["rows"][-1]["ranking"]


def test_a_run_without_its_ratings_is_not_ranked(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", "--no-keep-rated", *SMALL)
    code, out, err = recsys("evaluate", "run", "--test", "table.parquet", "--ranking", "5")
    assert (code, out) == (2, "")
    assert "does not keep its training ratings" in err


@pytest.mark.parametrize("by", ["random", "user", "time", "user-time"])
def test_every_split_rule_is_applied(recsys: Cli, by: str) -> None:
    code, out, _ = recsys("train", "table.parquet", "-o", "run", "--by", by, *SMALL, "--json")
    assert code == 0
    assert {"random": "random, 10%", "user": "random within each", "time": "newest", "user-time": "by time within"}[
        by
    ] in json.loads(out)["split"]


def test_a_run_is_continued_on_ratings_that_it_has_not_seen(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SMALL)
    code, out, err = recsys("train", "table.parquet", "-o", "run2", "--from", "run", "--json")
    assert code == 0, err
    assert "warning" not in err
    report = json.loads(out)
    assert report["kind"] == "held-out"
    assert report["rows"][-1]["settings"]["rank"] == 4
    facts = report["continued"]
    assert facts["added"]["ratings"] + report["held_out"]["n_pairs"] + facts["kept"]["ratings"] == 601
    text = recsys("train", "table.parquet", "-o", "run3", "--from", "run")[1]
    assert f"{facts['kept']['ratings']} ratings kept, {facts['added']['ratings']} added" in text


def test_a_continued_run_can_replace_the_run_it_starts_from(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SMALL)
    code, _, err = recsys("train", "table.parquet", "-o", "run", "--from", "run", "--force", "--hold-out", "0")
    assert code == 0, err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("-p", "rank=3"), "error: --set or -p cannot be given with --from"),
        (("--svd-ranks", "1"), "error: --svd-ranks cannot be given with --from"),
        (("--folds", "2"), "error: --folds cannot be given with --from"),
        (("--solver", "als"), "error: the run to continue from is of another solver (saw als); continue it with 'sgd'"),
    ],
)
def test_options_taken_from_the_continued_run_cannot_be_given(
    recsys: Cli, option: tuple[str, str], message: str
) -> None:
    recsys("train", "table.parquet", "-o", "run", *SMALL)
    code, _, err = recsys("train", "table.parquet", "-o", "run2", "--from", "run", *option)
    assert code == 2
    assert err.startswith(message)


def test_a_run_without_its_ratings_cannot_be_continued(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", "--no-keep-rated", *SMALL)
    code, _, err = recsys("train", "table.parquet", "-o", "run2", "--from", "run")
    assert code == 2
    assert "its training ratings were not kept" in err


def test_the_model_depends_on_the_seed_and_not_on_the_threads(recsys: Cli) -> None:
    def factors(name: str, *options: str) -> bytes:
        assert recsys("train", "table.parquet", "-o", name, *SMALL, *options)[0] == 0
        return Path(name, "model.safetensors").read_bytes()

    assert factors("a", "--threads", "1") == factors("b", "--threads", "2")
    assert factors("c", "--seed", "3") != factors("d", "--seed", "4")


SAMPLED = ("--solver", "gibbs", "-p", "rank=2", "--svd-ranks", "1,2")


@pytest.mark.slow
def test_a_sampler_with_side_information_chains_and_a_trace(recsys: Cli) -> None:
    items = np.arange(100, 170, 2)
    kinds = np.array(["a", "a|b", "b"])[items % 3]
    pq.write_table(
        pa.table({"item_id": items, "kind": kinds, "title": [f"t{item}" for item in items]}), "items.parquet"
    )
    options = "--sweeps", "30", "--chains", "2", "--likelihood", "ordinal", "--plots", "plots"
    files = "--item-features", "items.parquet"
    code, out, err = recsys("train", "table.parquet", "-o", "run", *SAMPLED, *options, *files)
    assert code == 0, err
    assert "items.parquet: 2 features of 35 items; left out: title: all 35 categories occur once" in err
    assert "90% intervals of gibbs contain" in out
    assert "split R̂ is at most" in " ".join(out.split())
    picture = ElementTree.parse("plots/traces.svg").getroot()
    assert "ordinal" not in "".join(picture.itertext())
    assert "noise" in "".join(picture.itertext())

    Path("pairs.csv").write_text("user_id,item_id\n5,168\n5,100\n")  # 168 has side information but no rating
    code, out, err = recsys("predict", "run", "pairs.csv", "-o", "out.csv", "--distribution")
    assert code == 0, err
    header, new, old = Path("out.csv").read_text().splitlines()
    assert header == "user_id,item_id,prediction,p_0,p_1,p_2,p_3,p_4,p_5,known"
    assert new.endswith("both")
    assert new.split(",")[2] != old.split(",")[2]


def test_ids_that_do_not_match_give_a_warning(recsys: Cli) -> None:
    recsys("train", "table.parquet", "-o", "run", *SMALL)
    Path("other.csv").write_text("user,item,rating\n1000005,1,3\n1000008,1,4\n1000011,1,4\n")
    code, out, err = recsys("evaluate", "run", "--test", "other.csv")
    assert code == 0
    for text in (out, err):
        assert "3 of 3 test pairs have an id that training did not see" in text


def test_inspect_describes_a_table(recsys: Cli) -> None:
    code, out, _ = recsys("inspect", "table.parquet")
    assert code == 0
    for text in ("601", "ratings per user", "density", "0 to 5", "1970-01-01T00:00:00Z", "duplicates"):
        assert text in out
    assert json.loads(recsys("inspect", "table.parquet", "--json")[1])["users"] == 41


def test_solvers_lists_every_solver_with_its_settings(recsys: Cli) -> None:
    out = recsys("solvers")[1]
    listing = json.loads(recsys("solvers", "--json")[1])
    assert set(listing) == set(SOLVERS)
    for name, described in listing.items():
        assert f"{name}: " in out
        for field in described["settings"]:
            assert field["help"] in out
    assert "r̂" in recsys("solvers", "sgd")[1]


MISTAKES = {
    "misspelt option": (["train", "table.parquet", "-o", "run", "--quite"], 2, "--quiet"),
    "misspelt command": (["trian"], 2, "Did you mean 'train'"),
    "misspelt setting": (["train", "table.parquet", "-o", "run", "-p", "rnak=3"], 2, "did you mean 'rank'"),
    "misspelt solver": (["train", "table.parquet", "-o", "run", "--solver", "sgdd"], 2, "did you mean 'sgd'"),
    "no value": (["train", "table.parquet", "-o", "run", "-p", "rank"], 2, "write it as NAME=VALUE"),
    "wrong type": (["train", "table.parquet", "-o", "run", "-p", "rank=many"], 2, "give a whole number"),
    "out of range": (["train", "table.parquet", "-o", "run", "-p", "rank=-1"], 2, "rank: setting out of range"),
    "bad ranks": (["train", "table.parquet", "-o", "run", "--svd-ranks", "a"], 2, "whole numbers with commas"),
    "bad route": (["train", "table.parquet", "-o", "run", "--svd-route", "dens"], 2, "did you mean 'dense'"),
    "two ways": (
        ["train", "table.parquet", "-o", "run", "--folds", "3", "--hold-out", "0.1"],
        2,
        "has no effect together with",
    ),
    "fraction": (
        ["train", "table.parquet", "-o", "run", "--hold-out", "1.5"],
        2,
        "give a number of at least 0 and below 1",
    ),
    "validation": (["train", "table.parquet", "-o", "run", "--validation", "1.5"], 2, "at least 0 and below 1"),
    "rule": (["train", "table.parquet", "-o", "run", "--by", "tiem"], 2, "did you mean 'time'"),
    "ranking": (["train", "table.parquet", "-o", "run", "--ranking", "0"], 2, "ranking: out of range (saw 0)"),
    "too many": (["train", "table.parquet", "-o", "run", "--ranking", "99"], 2, "give a whole number from 1 to 30"),
    "relevant": (
        ["train", "table.parquet", "-o", "run", "--ranking", "5", "--relevant", "9"],
        2,
        "relevant: outside the range of the ratings (saw 9.0); give a rating from 0 to 5",
    ),
    "threads": (["train", "table.parquet", "-o", "run", "--threads", "999"], 2, "number of threads out of range"),
    "device": (["train", "table.parquet", "-o", "run", "--device", "gpu"], 2, "valid: auto, cpu, cuda"),
    "no table": (["train", "none.parquet", "-o", "run"], 3, "none.parquet: no such file"),
    "overlap": (["train", "table.parquet", "-o", "run", "--test", "table.parquet"], 3, "are in both the training"),
    "diverged": (
        ["train", "table.parquet", "-o", "run", "-p", "learning_rate=1", "-p", "initial_scale=10"],
        4,
        "lower learning_rate",
    ),
    "not free": (
        ["train", "table.parquet", "-o", "."],
        2,
        ".: --output would replace RATINGS, which the command reads",
    ),
    "no run": (["evaluate", "none", "--test", "table.parquet"], 5, "none: no such directory"),
    "no start": (["train", "table.parquet", "-o", "run", "--from", "none"], 5, "none: no such directory"),
    "no features": (
        ["train", "table.parquet", "-o", "run", *SAMPLED, "--user-features", "none.csv"],
        3,
        "none.csv: no such",
    ),
    "features twice": (
        ["train", "table.parquet", "-o", "run", *SAMPLED, "--user-features", "table.parquet"],
        3,
        "occurs twice",
    ),
    "columns alone": (["train", "table.parquet", "-o", "run", "--feature-columns", "a"], 2, "give --user-features"),
    "kind of page": (["train", "table.parquet", "-o", "run", "--html", "t.pdf"], 2, "end the name in .html"),
    "pictures in the run": (["train", "table.parquet", "-o", "run", "--plots", "run"], 2, "two results in one place"),
    "titles of none": (["train", "table.parquet", "-o", "run", "--titles", "t.csv"], 2, "give --html too"),
    "titles of a matrix": (
        ["train", "table.parquet", "-o", "run", "--html", "a.html", "--titles", "table.parquet"],
        3,
        "call it title or name",
    ),
    "no titles": (["train", "table.parquet", "-o", "run", "--html", "a.html", "--titles", "t.csv"], 3, "no such file"),
    "likelihood": (
        ["train", "table.parquet", "-o", "run", *SAMPLED, "--likelihood", "ordnal"],
        2,
        "did you mean 'ordinal'",
    ),
    "no sampler": (["train", "table.parquet", "-o", "run", "--sweeps", "9"], 2, "solver 'sgd' has no setting 'sweeps'"),
    "inspect": (["inspect", "none.csv"], 3, "none.csv: no such file"),
    "solver name": (["solvers", "sgdd"], 2, "did you mean 'sgd'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_one_line_with_its_exit_code_and_nothing_is_written(recsys: Cli, name: str) -> None:
    arguments, expected, message = MISTAKES[name]
    code, out, err = recsys(*arguments)
    assert code == expected, err
    assert message in err
    assert not out
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["table.parquet"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
@pytest.mark.parametrize("command", [("predict", "-o", "out.csv", "run", "table.parquet"),
                                     ("evaluate", "run", "--test", "table.parquet")])  # fmt: skip
def test_cuda_on_a_machine_without_it_is_a_one_line_error(recsys: Cli, command: tuple[str, ...]) -> None:
    save(small_run(), "run")
    code, out, err = recsys(*command, "--device", "cuda")
    assert (code, out) == (6, "")
    assert err.splitlines()[-1] == "error: CUDA is not available here; use the device 'cpu' or 'auto'"
    assert "Traceback" not in err
    assert sorted(path.name for path in Path().iterdir()) == ["run", "table.parquet"]


@pytest.mark.parametrize("command", [("predict", "-o", "out.csv", "run", "table.parquet"),
                                     ("evaluate", "run", "--test", "table.parquet")])  # fmt: skip
def test_an_unknown_device_is_named(recsys: Cli, command: tuple[str, ...]) -> None:
    save(small_run(), "run")
    code, _, err = recsys(*command, "--device", "gpu")
    assert code == 2
    assert "unknown device (saw gpu)" in err


def test_help_is_instant_because_nothing_heavy_is_imported() -> None:
    heavy = ("torch", "numpy", "pandas", "pyarrow", "numba")
    script = f"import sys, recsys_mf.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help(recsys: Cli) -> None:
    for name, command in cli.command.commands.items():
        code, out, _ = recsys(name, "--help")
        assert code == 0
        assert command.help
        assert command.help.split("\n")[0].split(".")[0][:30] in out
        assert all(
            getattr(parameter, "help", "") for parameter in command.params if parameter.param_type_name == "option"
        )


def test_a_closed_pipe_gives_no_traceback(tmp_path: Path) -> None:
    script = "import sys; from recsys_mf.cli import main; sys.argv = ['recsys-mf', 'solvers']; main()"
    piped = f'{sys.executable} -c "{script}" | true'
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
