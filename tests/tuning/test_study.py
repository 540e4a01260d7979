"""A study: pruned by its curves, kept in a file, shared by processes, and of one table and one search only."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from recsys_mf.errors import ArtifactError, ConfigError, ResourceError
from recsys_mf.kernels import select
from recsys_mf.solvers import SOLVERS
from recsys_mf.splits import hold_out
from recsys_mf.training import Progress, Validated, cut_parts
from recsys_mf.tuning import Trial, tune
from recsys_mf.tuning.clock import Clock
from recsys_mf.tuning.searching import Search
from recsys_mf.tuning.space import Space
from recsys_mf.tuning.storage import open_storage, quiet_optuna
from recsys_mf.tuning.study import COMPLETE, Attempt, PrunedError, Study
from recsys_mf.tuning.trying import Job, try_next
from tests.trained import small_table

QUICK = {"epochs": 6, "members": 2}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quiet_optuna():
        yield


def study_of(file: Path | None = None, facts: dict[str, Any] | None = None, seed: int = 0) -> Study:
    space = Space.of(SOLVERS["sgd"](**QUICK), tuple(QUICK), small_table(), select("cpu"))
    return Study(space, facts or {"split": {}}, open_storage(file), str(file), seed)


def epoch(number: int, error: float, stage: str = "member", n_epochs: int = 6) -> Progress:
    return Progress("sgd", stage, number, n_epochs, None, error, 1.0)


def finish(attempt: Attempt, error: float) -> Trial:
    """Let an attempt run to its end on a flat curve."""
    for number in range(1, 7):
        attempt.saw(epoch(number, error))
    for number in (1, 2):
        attempt.saw(epoch(number, error, "validate", 2))
    return attempt.complete(Validated(attempt.solver.resolved(small_table(), select("cpu")), (), error, None), 1.0)


# Defaults and pruning.


def test_the_defaults_are_the_first_trial_and_are_never_pruned() -> None:
    study = study_of()
    first = study.start()
    assert (first.is_default, first.solver) == (True, SOLVERS["sgd"](**QUICK))
    finish(first, 9.0)
    for _ in range(6):
        attempt = study.start()
        assert not attempt.is_default
        finish(attempt, 1.0)
    assert [trial.is_default for trial in study.trials] == [True] + [False] * 6


def test_a_curve_that_is_worse_than_the_median_is_given_up_after_the_first_epochs() -> None:
    study = study_of()
    for _ in range(5):
        finish(study.start(), 1.0)
    attempt = study.start()
    attempt.saw(epoch(1, 2.0))
    with pytest.raises(PrunedError):
        attempt.saw(epoch(2, 2.0))
    trial = attempt.prune(0.5)
    assert (trial.state, trial.epochs, trial.error) == ("pruned", 2, 2.0)
    finish(study.start(), 0.9)  # a better one is not


def test_only_the_curve_of_a_member_and_of_its_committee_are_compared() -> None:
    study = study_of()
    attempt = study.start()
    attempt.saw(epoch(1, 1.0, "search"))
    attempt.saw(epoch(3, 1.0))
    attempt.saw(epoch(1, 0.9, "validate", 2))
    attempt.saw(epoch(1, 5.0, "member", 1))  # the biases alone, at the end
    attempt.saw(epoch(1, 5.0, "validate", 2))  # another committee
    steps = study._study.get_trials()[0].intermediate_values
    assert steps == {3: 1.0, 7: 0.9}


def test_a_pruned_trial_stops_at_once() -> None:
    split = hold_out(small_table(), 0.1, seed=0)
    told: list[Progress] = []

    def watch(attempt: Attempt, progress: Progress | None) -> None:
        if progress is not None:
            told.append(progress)
            raise PrunedError

    job = Job(split, cut_parts(split, 0.1, 0, [SOLVERS["sgd"]()]), select("cpu"), 0, Clock(None))
    trial = try_next(study_of(), job, 1e9, watch)
    assert (trial.state, len(told)) == ("pruned", 1)


def test_a_trial_that_was_interrupted_is_failed_and_the_interruption_goes_on() -> None:
    split, study = hold_out(small_table(), 0.1, seed=0), study_of()

    def watch(attempt: Attempt, progress: Progress | None) -> None:
        raise KeyboardInterrupt

    job = Job(split, cut_parts(split, 0.1, 0, [SOLVERS["sgd"]()]), select("cpu"), 0, Clock(None))
    with pytest.raises(KeyboardInterrupt):
        try_next(study, job, 1e9, watch)
    assert [(trial.state, trial.problem) for trial in study.trials] == [("failed", "interrupted")]
    assert study.needs_defaults
    assert study.start().is_default


def test_the_defaults_are_kept_unless_others_are_clearly_better() -> None:
    split, study = hold_out(small_table(), 0.1, seed=0), study_of()
    job = Job(split, cut_parts(split, 0.1, 0, [SOLVERS["sgd"]()]), select("cpu"), 0, Clock(None))
    search = Search([study], job, None, lambda standing: None)
    finish(study.start(), 1.0)
    finish(study.start(), 1 - job.chance / 2)
    assert search.best()[1].number == 0
    assert search.lowest(study).number == 1
    finish(study.start(), 1 - 2 * job.chance)
    assert search.best()[1].number == 2


def test_what_may_be_chance_shrinks_with_the_root_of_the_validation_rows() -> None:
    split = hold_out(small_table(), 0.1, seed=0)
    parts = cut_parts(split, 0.1, 0, [SOLVERS["sgd"]()])
    one, all_parts = (Job(split, some, select("cpu"), 0, Clock(None)).chance for some in (parts[:1], parts))
    rows = [len(part.valid) for part in parts if part.valid is not None]
    assert one / all_parts == pytest.approx((sum(rows) / rows[0]) ** 0.5)


# In a file.


def errors(trials: tuple[Trial, ...]) -> list[tuple[str, float | None]]:
    return [(trial.state, trial.error) for trial in trials]


def small_tune(**given: Any) -> Any:
    return tune(small_table(), "sgd", fixed=QUICK, **given)


def test_a_study_goes_on_where_it_was_left(tmp_path: Path) -> None:
    file = tmp_path / "study"
    first = small_tune(trials=4, study=file, search_only=True)
    assert first.outcome is None
    then = small_tune(trials=7, study=file)
    assert errors(then.trials[:4]) == errors(first.trials)
    assert errors(then.trials) == errors(small_tune(trials=7).trials)
    again = small_tune(trials=7, study=file)
    assert errors(again.trials) == errors(then.trials)
    assert (then.times_tested, again.times_tested) == (1, 2)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"seed": 1}, "other ratings or another split of them"),
        ({"validation": 0.2}, "other validation rows"),
        ({"fixed": {"epochs": 5, "members": 2}}, "other settings that are fixed"),
        ({"fixed": {"epochs": 6}}, "other settings that are fixed"),
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path: Path, other: dict[str, Any], word: str) -> None:
    file = tmp_path / "study"
    small_tune(trials=1, study=file, search_only=True)
    before = file.read_bytes()
    with pytest.raises(
        ArtifactError, match=f"^{file}: the study of 'sgd' has {word}; give another file, or the options"
    ):
        tune(small_table(), "sgd", **{"fixed": QUICK, "trials": 2, "study": file, **other})
    assert file.read_bytes().startswith(before)
    with pytest.raises(ArtifactError, match="other ratings"):
        tune(small_table(seed=1), "sgd", fixed=QUICK, trials=2, study=file)


@pytest.mark.parametrize("content", ["user,item,rating\n1,2,3\n", "{}\n", '{"a": 1}', "\x00\x01"])
def test_a_file_that_is_no_study_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    file = tmp_path / "study"
    file.write_text(content)
    with pytest.raises(ArtifactError, match="the file exists and is not a study; give another file, or a new one"):
        small_tune(trials=1, study=file)
    assert file.read_text() == content


def test_a_damaged_study_and_a_missing_folder_are_one_error(tmp_path: Path) -> None:
    file = tmp_path / "study"
    small_tune(trials=1, study=file, search_only=True)
    file.write_text(file.read_text() + "nonsense\n{}\n")
    with pytest.raises(ArtifactError, match="the study is damaged"):
        small_tune(trials=2, study=file)
    with pytest.raises(ArtifactError, match="the study cannot be written"):
        small_tune(trials=2, study=tmp_path / "no" / "study")


@pytest.mark.parametrize("cut", [1, 20])
def test_a_study_whose_last_line_was_only_partly_written_goes_on(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "study"
    small_tune(trials=2, study=file, search_only=True)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    then = small_tune(trials=3, study=file, search_only=True)
    assert errors(then.trials)[:1] == errors(small_tune(trials=1).trials)
    assert sum(trial.state == COMPLETE for trial in then.trials) == 3
    assert all(line.startswith(b"{") for line in file.read_bytes().splitlines())


@pytest.mark.parametrize("fits", [0, 10, 30])
def test_a_study_on_a_full_disk_is_one_error_and_goes_on_with_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    file = tmp_path / "study"
    small_tune(trials=1, study=file, search_only=True)
    append, left = JournalFileBackend.append_logs, [3]

    def full(self: JournalFileBackend, logs: list[dict[str, Any]]) -> None:
        left[0] -= 1
        if left[0]:
            append(self, logs)
            return
        with file.open("ab") as journal:
            journal.write(json.dumps(logs[0]).encode()[:fits])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(JournalFileBackend, "append_logs", full)
    with pytest.raises(ResourceError, match=f"^{file}: the study cannot be written .*free some space there and run"):
        small_tune(trials=3, study=file, search_only=True)
    monkeypatch.setattr(JournalFileBackend, "append_logs", append)
    assert sum(trial.state == COMPLETE for trial in small_tune(trials=3, study=file, search_only=True).trials) == 3


PROGRAM = """
import sys
from recsys_mf.tuning import tune
from tests.trained import small_table
fixed = {"epochs": 6, "members": 2}
tune(small_table(), "sgd", fixed=fixed, trials=int(sys.argv[2]), study=sys.argv[1], search_only=True)
"""


def process(file: Path, trials: int) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(file), str(trials)], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_share_a_study(tmp_path: Path) -> None:
    file = tmp_path / "study"
    both = [process(file, 60) for _ in range(2)]
    for one in both:
        assert one.communicate(timeout=300)[1] == ""
        assert one.returncode == 0
    study = study_of_search(file)
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    assert 60 <= len(study.trials) <= 61  # two may have started the last at the same time
    assert sum(trial.is_default for trial in study.trials) == 1
    assert {trial.state for trial in study.trials} <= {"complete", "pruned"}
    assert {trial.user_attrs["process"][1] for trial in study._study.get_trials()} == {one.pid for one in both}


def test_a_trial_that_no_process_signed_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "study"
    small_tune(trials=3, study=file)
    study_of_search(file)._study.ask()  # its process was killed before it signed
    tuned = small_tune(trials=5, study=file)
    assert tuned.trials[3].state == "running"  # it may be another process that is about to sign
    monkeypatch.setattr("recsys_mf.tuning.study._TO_SIGN", timedelta(0))
    tuned = small_tune(trials=7, study=file)
    assert tuned.trials[3].state == "failed"
    assert tuned.trials[3].problem == "the process ended"


@pytest.mark.slow
def test_a_killed_process_loses_only_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_mf.tuning.study._TO_SIGN", timedelta(0))
    file = tmp_path / "study"
    one = process(file, 10_000)
    while not (file.exists() and file.read_text().count('"chosen"') > 2):
        assert one.poll() is None
        time.sleep(0.05)
    os.kill(one.pid, signal.SIGKILL)
    one.communicate()
    before = [json.loads(line) for line in file.read_text().splitlines()]
    done = sum("chosen" in entry.get("user_attr", {}) for entry in before)
    tuned = small_tune(trials=done + 3, study=file)
    assert sum(trial.state == "complete" for trial in tuned.trials) >= done
    assert {trial.problem for trial in tuned.trials if trial.state == "failed"} <= {"the process ended"}
    assert not [trial for trial in tuned.trials if trial.state == "running"]


def study_of_search(file: Path) -> Study:
    """The study of `small_tune`, opened again."""
    split = hold_out(small_table(), 0.1, seed=0)
    space = Space.of(SOLVERS["sgd"](**QUICK), tuple(QUICK), split.train, select("cpu"))
    facts = {
        "split": dict(split.record), "validation": 0.1, "seed": 0, "fixed": QUICK, "space": space.to_mapping(),
    }  # fmt: skip
    return Study(space, facts, open_storage(file), str(file), 0)


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ConfigError, match=r"^tune: tune needs the package optuna; install it: pip install 'recsys-mf\[tune\]'$"
    ):
        small_tune(trials=1)
