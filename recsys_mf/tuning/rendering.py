"""What a search found as text for the terminal, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from recsys_mf import strict_json
from recsys_mf.errors import printable
from recsys_mf.evaluation.names import shown_name
from recsys_mf.layout import Table, paragraphs, piped, plain
from recsys_mf.solvers.settings import AUTO
from recsys_mf.training import BASELINE
from recsys_mf.tuning.study import COMPLETE, FAILED, PRUNED, RUNNING, STOPPED, Trial
from recsys_mf.tuning.tuned import Tuned

_NO_TEST = "Nothing was held out, so there is no unbiased error to report: give --hold-out or --test."
_ENDED = {
    COMPLETE: "to the end",
    PRUNED: "given up early as clearly worse (pruned)",
    STOPPED: "stopped as too slow for the time left",
    FAILED: "failed",
    RUNNING: "still running in another process",
}


def to_json(tuned: Tuned) -> str:
    """`Tuned.to_mapping` as JSON."""
    return strict_json.to_text(tuned.to_mapping())


def to_text(tuned: Tuned) -> str:
    """For the terminal."""
    return "\n\n".join(_parts(tuned, plain, paragraphs))


def to_markdown(tuned: Tuned) -> str:
    """For GitHub and notebooks."""
    return "\n\n".join(_parts(tuned, piped, _joined))


def describe_verdict(tuned: Tuned) -> str:
    """Whether the search gained anything on the test part, in one sentence."""
    best, tested = tuned.best, tuned.tested
    if best.is_default:
        return _describe_defaults(tuned)
    if tested is None:
        gained = "" if tuned.default is None else f", of its defaults {_number(tuned.default.error)}"
        return f"{_name(best)} has the lowest validation RMSE: {_number(best.error)}{gained}."
    difference = tested.difference
    if difference is None:
        return f"The settings found for {best.solver} have the test RMSE {tested.best.value:.4f}."
    ends = sorted((abs(difference.low), abs(difference.high)))
    if difference.low > 0 or difference.high < 0:
        word = "worse" if difference.low > 0 else "better"
        return (
            f"The settings found for {best.solver} are {abs(difference.value):.4f} {word} than its defaults on the "
            f"test ratings (95 % interval {ends[0]:.4f} to {ends[1]:.4f})."
        )
    return (
        f"It is not clear that the settings found for {best.solver} are better than its defaults: on the test ratings "
        f"the difference is {difference.value:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f})."
    )


def _describe_defaults(tuned: Tuned) -> str:
    """A sentence that the defaults were kept, and why."""
    best, lowest = tuned.best, tuned.lowest
    if sum(trial.solver == best.solver for trial in tuned.trials) == 1:
        return f"The defaults of {best.solver} are best; no other settings of it were tried."
    if lowest.is_default or best.error is None:
        return f"The defaults of {best.solver} are best: nothing else had a lower validation RMSE."
    return (
        f"The defaults of {best.solver} are kept: nothing was clearly better on the validation rows. The lowest RMSE "
        f"is {_number(lowest.error)} (trial {lowest.number}), of the defaults {_number(best.error)}; less than "
        f"{tuned.chance * best.error:.4f} between them may be chance."
    )


def _parts(tuned: Tuned, table: Callable[[Table], str], wrapped: Callable[..., str]) -> Iterator[str]:
    yield _printable(wrapped(describe_verdict(tuned)))
    yield _printable(wrapped(*_heading(tuned)))
    yield _printable(table(_errors(tuned)))
    if len(tuned.searched) > 1:
        yield _printable(table(_solvers(tuned)))
    if not tuned.best.is_default:
        yield _printable(table(_settings(tuned)))
    yield _printable(wrapped(*_legend(tuned)))


def _heading(tuned: Tuned) -> Iterator[str]:
    setup = tuned.setup
    seed = "" if setup["split_seed"] is None else f", seed {setup['split_seed']}"
    none = setup["test_ratings"] is None
    held_out = "Nothing is held out" if none else f"Held-out error: {setup['split']}{seed}"
    yield held_out if setup["data"] is None else f"{held_out} · {setup['data']}"
    rows = f"{setup['train_ratings']:,} training ratings, of which {100 * setup['validation']:.3g} % to validate on"
    yield rows if setup["test_ratings"] is None else f"{rows} · {setup['test_ratings']:,} test ratings"


def _errors(tuned: Tuned) -> Table:
    tested, default, rows = tuned.tested, tuned.default, []
    difference = ""
    if tested is not None and tested.difference is not None:
        reach = (tested.difference.high - tested.difference.low) / 2
        difference = f"{tested.difference.value:+.4f} ±{reach:.4f}"
    rows.append((_name(tuned.best), _number(tuned.best.error), _value(tested and tested.best), difference))
    if not tuned.lowest.is_default and tuned.best.is_default:
        rows.append((_name(tuned.lowest), _number(tuned.lowest.error), "", ""))
    if default is not None and not tuned.best.is_default:
        rows.append((_name(default), _number(default.error), _value(tested and tested.default), ""))
    if tuned.outcome is not None:
        baseline = tuned.outcome.run.baselines[BASELINE]
        scored = {row.label: row.scores["rmse"] for row in tuned.outcome.report.rows if row.scores}
        rows.append(
            (shown_name(BASELINE, None), _number(baseline.valid_rmse), _value(scored.get(BASELINE)), "")
        )  # fmt: skip
    head = ("settings", "validation RMSE", "test RMSE", "difference from the defaults")
    shown = [index for index, _ in enumerate(head) if any(row[index] for row in rows)]
    return Table(tuple(head[index] for index in shown), tuple(tuple(row[index] for index in shown) for row in rows))


def _solvers(tuned: Tuned) -> Table:
    rows = []
    for name in tuned.searched:
        trials = [trial for trial in tuned.trials if trial.solver == name]
        errors = [trial.error for trial in trials if trial.state == COMPLETE and trial.error is not None]
        seconds = sum(trial.seconds for trial in trials)
        note = "left out" if name in tuned.left_out else "best" if name == tuned.best.solver else ""
        rows.append((name, str(len(trials)), _number(min(errors, default=None)), f"{seconds:.1f}", note))
    return Table(("solver", "tried", "lowest validation RMSE", "seconds", "note"), tuple(rows))


def _settings(tuned: Tuned) -> Table:
    best, default, rows = tuned.best, tuned.default, []
    for name, tried in tuned.searched[best.solver].items():
        kind, *values = tried
        shown = f"{values[0]:g} to {values[1]:g}" if kind == "between" else ", ".join(values[0])
        rows.append((name, _setting(default, name), _setting(best, name), shown))
    return Table((f"setting of {best.solver}", "default", "best", "searched"), tuple(rows))


def _legend(tuned: Tuned) -> Iterator[str]:
    counts = tuned.counts
    ended = ", ".join(f"{counts[state]} {words}" for state, words in _ENDED.items() if counts[state])
    total = sum(counts.values())
    budget = "" if tuned.minutes is None else f" of {60 * tuned.minutes:.0f}"
    yield (
        f"{total} settings were tried on the validation rows: {ended}. All of it took {tuned.seconds:.0f}{budget} "
        "seconds."
    )
    for name, reason in tuned.left_out.items():
        yield f"{name} was left out: {reason}."
    for trial in [trial for trial in tuned.trials if trial.state == FAILED and trial.solver not in tuned.left_out][:1]:
        yield f"The first that failed was trial {trial.number} of {trial.solver}: {trial.problem}."
    if total > 1:
        yield "The validation RMSE of the best is optimistic: it is the lowest of many on the same rows."
    if tuned.outcome is not None and tuned.tested is None:
        yield _NO_TEST
    if tuned.tested is not None:
        often = tuned.times_tested
        times = "once" if often == 1 else f"for the {_ordinal(often)} time with this study"
        yield f"The test part was scored {times}, at the end, after the fit on all training ratings."
        if often > 1:
            yield "Do not choose anything by it any more: a test error that is used to choose becomes optimistic too."
    if tuned.tested is not None and tuned.tested.difference is not None:
        yield "±: half-width of the 95 % interval of the difference, from a paired bootstrap of the test rows."


def _name(trial: Trial) -> str:
    return f"{trial.solver}, defaults" if trial.is_default else f"{trial.solver}, trial {trial.number}"


def _setting(trial: Trial | None, name: str) -> str:
    if trial is None:
        return ""
    value, chosen = trial.settings[name], (trial.chosen or {}).get(name)
    return f"{value} ({chosen})" if value == AUTO and chosen not in (None, AUTO) else str(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _value(estimate: Any) -> str:
    return "" if estimate is None else f"{estimate.value:.4f}"


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")


def _joined(*texts: str) -> str:
    return "\n\n".join(texts)


def _printable(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
