"""The picture of a sampler's traces, as an SVG file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_mf.outputs import check_output, written_output

if TYPE_CHECKING:
    from recsys_mf.run import Run


def check_trace(path: Path, *, force: bool) -> None:
    """Raise ConfigError if a picture cannot be written there, or ResourceError if the system refuses."""
    check_output(path, "picture", (".svg",), force=force)


def write_trace(run: Run, path: Path, data: str | None, *, force: bool) -> None:
    """Draw the scalars that were monitored in the final fit, and the validation error, per sweep.

    force : replace an existing picture. Raises ResourceError if it cannot be written
    """
    import numpy as np

    from recsys_mf.evaluation.scoring import convergence
    from recsys_mf.evaluation.trace import to_svg

    traces = {name: np.array(chains) for name, chains in run.fit.traces.items()}
    if run.fit.history:
        traces["validation RMSE of the running mean"] = np.array([[row["valid_rmse"] for row in run.fit.history]])
    burn_in = run.fit.details.burn_in
    heading = run.fit.solver if data is None else f"{run.fit.solver} · {data}"
    picture = to_svg(traces, burn_in=burn_in, heading=heading, summaries=convergence(run.fit))
    with written_output(path, force=force) as aside:
        aside.write_text(picture, encoding="utf-8")
