"""`recsys-mf inspect`: facts about a table that help before training on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from recsys_mf.cli import options
from recsys_mf.cli.places import TABLE
from recsys_mf.errors import printable

if TYPE_CHECKING:
    from recsys_mf.loaders.describe import Description


@click.command()
@click.argument("ratings", metavar="RATINGS", type=TABLE)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@options.column_options
@options.weight_option
@options.quiet_option
def inspect(ratings: str, as_json: bool, quiet: bool, **columns: Any) -> None:
    """Describe the table RATINGS.

    Prints the numbers of rows, users and items, the density, the rating scale, the time range, the numbers of
    duplicates and nulls, and how many ratings users and items have.
    """
    import dataclasses

    from recsys_mf.loaders import describe

    facts = describe(ratings, **columns)
    options.say(json.dumps(dataclasses.asdict(facts), indent=2) if as_json else _table(facts))


def _weights(facts: Description) -> dict[str, str]:
    """The line of the weights, if there are any."""
    if facts.weights is None:
        return {}
    bad = facts.weights["not_valid"]
    said = [f"{bad:,.0f} not a finite number above 0"] if bad else []
    if "mean" in facts.weights:
        said.insert(0, "{lowest:g} to {highest:g}, mean {mean:.4g}".format_map(facts.weights))
    return {"weights": "; ".join(said)}


def _table(facts: Description) -> str:
    """The facts, one line each with name and value."""
    scale, nulls = facts.scale, facts.nulls
    spread = f"mean {scale['mean']:.4g}, standard deviation {scale['standard_deviation']:.4g}"
    times = " to ".join(facts.time_range) if facts.time_range else "none"
    columns = ", ".join(f"{role}: {name}" for role, name in facts.columns.items() if name)
    lines = {
        "table": facts.source,
        "columns": columns,
        "rows": f"{facts.rows:,}",
        "users": f"{facts.users:,} ({facts.user_ids} ids)",
        "items": f"{facts.items:,} ({facts.item_ids} ids)",
        "density": f"{facts.density:.4%}",
        "scale": f"{scale['lowest']:g} to {scale['highest']:g} ({facts.levels} distinct ratings), {spread}",
        "time range": times,
        **_weights(facts),
        "nulls": ", ".join(f"{count:,} {role}" for role, count in nulls.items()),
        "NaN or infinite": f"{facts.not_finite:,}",
        "duplicates": f"{facts.duplicates:,}",
    }
    heads = "".join(f"{'min' if p == 0 else 'max' if p == 100 else f'{p} %':>9}" for p in facts.user_degrees)
    degrees = {"ratings per user": facts.user_degrees, "ratings per item": facts.item_degrees}
    rows = [f"{name:18}" + "".join(f"{count:>9,.0f}" for count in counts.values()) for name, counts in degrees.items()]
    return "\n".join([f"{name:18}{printable(value)}" for name, value in lines.items()] + ["", " " * 18 + heads, *rows])
