"""Comparisons as text for the terminal, as Markdown, and as JSON.

Nothing is said by a colour alone: what is shaded on a terminal is also called worse in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from recsys_mf import strict_json
from recsys_mf.comparison.differences import Difference
from recsys_mf.comparison.table import BOOTSTRAP, Comparison, Row, Setup
from recsys_mf.errors import printable
from recsys_mf.layout import Table, paragraphs, piped, plain
from recsys_mf.memory import in_words

_NAMED = 3  # candidates that a sentence names
_FEW = 5  # splits below which the t-distribution has such wide tails that hardly anything is significant
_LONGEST = 40  # characters of a name


def to_json(comparison: Comparison) -> str:
    """`Comparison.to_mapping` as JSON."""
    return strict_json.to_text(comparison.to_mapping())


def to_text(comparison: Comparison, shade: Callable[[str], str] = str) -> str:
    """For the terminal.

    shade : changes the line of a candidate that is worse
    """
    lines = [printable(line) for line in plain(list_candidates(comparison)).split("\n")]
    head = len(lines) - len(comparison.rows)
    rows = (shade(line) if row.is_worse else line for row, line in zip(comparison.rows, lines[head:], strict=True))
    table = "\n".join([*lines[:head], *rows])
    parts = [_printable(paragraphs(describe_verdict(comparison))), _printable(describe_setup(comparison.setup))]
    return "\n\n".join([*parts, table, _printable(describe_table(comparison))])


def to_markdown(comparison: Comparison) -> str:
    """For GitHub and notebooks."""
    heading = describe_setup(comparison.setup).replace("\n", "\\\n")
    legend = describe_table(comparison).replace("*", "\\*")
    parts = describe_verdict(comparison), heading, piped(list_candidates(comparison)), legend
    return "\n\n".join(map(_printable, parts))


def describe_verdict(comparison: Comparison) -> str:
    """Which candidate is best, and which others are clearly worse, in one or two sentences."""
    best, undecided = _name(comparison.best), comparison.undecided
    if not undecided:
        row = comparison.rows[1]
        following = f"{_name(row)} is" if len(comparison.rows) == 2 else f"the next is {_name(row)},"
        return f"{best} is best; {following} {_interval(row.difference)}."
    others = [f"{_name(row)} ({_worse(row.difference)})" for row in undecided[:_NAMED]]
    others += [f"{len(undecided) - _NAMED} more"] if undecided[_NAMED:] else []
    sentence = f"{best} has the lowest RMSE, but it is not clear that it is better than {_listed(others)}."
    worse = len(comparison.rows) - 1 - len(undecided)
    return f"{sentence} {worse} other{'s are' if worse > 1 else ' is'} worse." if worse else sentence


def _worse(difference: Difference | None) -> str:
    return "" if difference is None else f"{difference.value:.4f} worse"


def _interval(difference: Difference | None) -> str:
    """The difference with its interval; empty for that of the best from itself."""
    if difference is None:
        return ""
    return f"{_worse(difference)} (95 % interval {difference.low:.4f} to {difference.high:.4f})"


def _listed(texts: list[str]) -> str:
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def describe_setup(setup: Setup) -> str:
    """What was tested, on which rows, and where it ran."""
    what = f"Held-out error: {setup.splits[0]}" if len(setup.splits) == 1 else f"Held-out error over {_splits(setup)}"
    rows = f"{_range(setup.train_ratings)} training ratings · {_range(setup.test_ratings)} test ratings"
    if len(setup.splits) > 1:
        rows += " per split"
    if setup.weighted:
        rows += ", weighted"
    where = [setup.device] if setup.threads is None else [setup.device, f"{setup.threads} threads"]
    if setup.seed is not None:
        last = setup.seed + (setup.seeds or 1) - 1
        where.append(f"seed {setup.seed}" if last == setup.seed else f"seeds {setup.seed} to {last}")
    return "\n".join([what if setup.data is None else f"{what} · {setup.data}", rows, ", ".join(where)])


def _splits(setup: Setup) -> str:
    """The splits in words: "5 folds", "3 seeds", "5 folds × 3 seeds"."""
    counts = {"folds": setup.folds or 1, "seeds": setup.seeds or 1}
    return " × ".join(f"{count} {name}" for name, count in counts.items() if count > 1)


def _range(counts: tuple[int, ...]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def list_candidates(comparison: Comparison) -> Table:
    """A row per candidate, the best first."""
    head = [
        "candidate",
        *(["solver"] if _names_lack_solvers(comparison) else []),
        "rank",
        "RMSE",
        "difference from the best",
        "verdict",
        "MAE",
        "fit seconds",
    ]
    head += ["seconds with choosing"] if _has_totals(comparison) else []
    memory = "memory added" if _has_totals(comparison) else "peak memory"
    return Table((*head, memory, "front"), tuple(_cells(row, comparison) for row in comparison.rows))


def _has_totals(comparison: Comparison) -> bool:
    return all(row.seconds is not None for row in comparison.rows)


def _names_lack_solvers(comparison: Comparison) -> bool:
    return not all(row.name.startswith(row.solver) for row in comparison.rows)


def _cells(row: Row, comparison: Comparison) -> tuple[str, ...]:
    verdict = "best" if row is comparison.best else "worse" if row.is_worse else "unclear"
    low, high = min(row.ranks), max(row.ranks)
    cells = [
        _name(row),
        *([row.solver] if _names_lack_solvers(comparison) else []),
        str(low) if low == high else f"{low}-{high}",
        f"{row.rmse:.4f}",
        "" if row.difference is None else _with_reach(row.difference),
        verdict,
        f"{row.mae:.4f}",
        f"{row.fit_seconds:.2f}",
    ]
    cells += [f"{row.seconds:.2f}"] if row.seconds is not None and _has_totals(comparison) else []
    memory = "unknown" if row.memory is None else in_words(row.memory)
    return (*cells, memory, "front" if row.is_on_front else "")


def _name(row: Row) -> str:
    return printable(row.name, _LONGEST)


def _with_reach(difference: Difference) -> str:
    return f"{difference.value:+.4f} ±{(difference.high - difference.low) / 2:.4f}"


def describe_table(comparison: Comparison) -> str:
    """What the columns of the table are and how differences were judged."""
    return paragraphs(" ".join(_judged(comparison)), " ".join(_costs(comparison)))


def _judged(comparison: Comparison) -> Iterator[str]:
    """Whether errors are weighted, and how differences were judged."""
    setup, count = comparison.setup, len(comparison.setup.splits)
    if setup.weighted:
        yield "Errors are weighted: RMSE √(Σ w e² / Σ w), MAE Σ w |e| / Σ w."
    interval = "±: half-width of the 95 % interval of the difference of RMSE"
    if comparison.method == BOOTSTRAP:
        yield f"{interval}, from a paired bootstrap of the test rows."
        yield "It does not say how much the difference varies from split to split (--folds, --seeds)."
    else:
        yield f"Errors are means over {_splits(setup)}. {interval}, by the corrected resampled t-test"
        yield f"(Nadeau and Bengio 2003): variance (1/{count} + n_test/n_train) s²"
        yield f"with n_test/n_train = {setup.test_share:.3f}, {count - 1} degree{'s' if count > 2 else ''} of freedom."
    if comparison.n_pairs == 1:
        yield "worse: the interval excludes 0; unclear: it does not."
    else:
        yield "worse: the interval excludes 0, and the difference is still significant at 5 % after Holm's correction"
        yield f"for all {comparison.n_pairs} pairs of candidates, since the best of many is partly so by chance;"
        yield "unclear: not both."
        if count in range(2, _FEW) and any(row.difference and row.difference.low > 0 for row in comparison.undecided):
            yield f"Over {count} splits even a large difference can remain unclear: give more folds or seeds."


def _costs(comparison: Comparison) -> Iterator[str]:
    """What is meant by seconds and memory."""
    yield "front: no other candidate is at least as good in both RMSE and fit seconds (the Pareto front)."
    if _has_totals(comparison):
        yield "Fit seconds are those of the final fit; those with choosing include the choice of settings on validation"
        where = "" if comparison.setup.device == "cpu" else " on the host"
        yield f"rows. Memory added: the most that the process had{where} beyond what it had before the fit."
    else:
        yield "Fit seconds are those of the final fit, and peak memory is that of the process, as the runs record them."


def _printable(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
