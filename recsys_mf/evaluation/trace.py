"""Trace plots: every scalar of a sampler over its sweeps, a line per chain, as one self-contained SVG.

The picture has its own light background and uses only attributes, no style sheet and no ids, so that it looks the same
in a dark viewer and can be embedded in a page. A curve that is not sampled, such as a validation error, is one line.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.convergence import Summary

F64 = NDArray[np.float64]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#333333")
"""Of chains, in turn: told apart by colour-blind readers (Okabe, Ito: Color universal design, 2008)."""

_INK, _MUTED, _GRID, _SHADE, _PAPER, _RULE = "#1f2328", "#59636e", "#e1e5ea", "#f1ebdd", "#ffffff", "#c4c9d0"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"
_WIDTH, _EDGE, _HEAD = 960, 24, 76  # px: the picture, its margins, the heading and legend
_LEFT, _TOP, _BOTTOM = 72, 26, 24  # px round a plot area: for tick labels, the title, the sweeps
_PLOT_HEIGHT, _COLUMN_GAP, _ROW_GAP = 112, 36, 18
_LETTER = 0.6  # width of a letter relative to the font size, for bold text in a wide font
_POINTS = 1000  # per line at most; more than there are pixels
_FLAT = 1e-6  # spread, relative to the values, below which a float32 trace shows only noise: drawn as a constant


@dataclass(frozen=True)
class _Plot:
    """A plot area in px, with the values at its lower and upper edge; sweep s of n lies at s / n of its width."""

    width: float
    n_sweeps: int
    low: float
    high: float

    def across(self, sweep: Any) -> Any:
        return self.width * sweep / self.n_sweeps

    def down(self, value: Any) -> Any:
        return _PLOT_HEIGHT * (self.high - value) / (self.high - self.low)


def to_svg(traces: Mapping[str, F64], *, burn_in: int, heading: str, summaries: Iterable[Summary] = ()) -> str:
    """An SVG document with a panel for every trace [chains, sweeps], in two columns if there are more than 3.

    traces : by name, with the unit in the name; entries that are not finite are gaps
    burn_in : sweeps at the start that are shaded; an axis spans the values after them, and up to half as far again if
        burn-in values are there: the first sweeps, often far away, are cut off at the edge of the panel
    summaries : matched by name; their effective sample size and R̂ are shown in the panels; a trace may have none
    Raises ConfigError if there is nothing to draw, or if a trace is not [chains, sweeps].
    """
    if not traces:
        raise ConfigError("no trace to draw", fix="give one or more")
    for name, lines in traces.items():
        if lines.ndim != 2 or not lines.size:
            fix = "give one row per chain: [chains, sweeps]"
            raise ConfigError("the trace has the wrong shape", where=name, seen=list(lines.shape), fix=fix)
    known = {summary.name: summary for summary in summaries}
    columns = 1 if len(traces) <= 3 else 2
    width = (_WIDTH - 2 * _EDGE - (columns - 1) * _COLUMN_GAP) / columns
    step = _TOP + _PLOT_HEIGHT + _BOTTOM + _ROW_GAP
    height = _HEAD + -(-len(traces) // columns) * step + _EDGE - _ROW_GAP
    places = (
        f"{_EDGE + i % columns * (width + _COLUMN_GAP):g} {_HEAD + i // columns * step}" for i in range(len(traces))
    )
    panels = (
        f'<g transform="translate({place})">\n'
        f"{_panel(name, lines.astype(np.float64), burn_in, width, known.get(name))}\n</g>"
        for place, (name, lines) in zip(places, traces.items(), strict=True)
    )
    body = "\n".join([*_head(heading, burn_in, max(map(len, traces.values()))), *panels])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" font-family="{_FONT}">\n<title>{_written(heading)}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="6" fill="{_PAPER}"/>\n{body}\n</svg>\n'
    )


def decimated(line: F64, most: int = _POINTS) -> NDArray[np.intp]:
    """Indices, in order, of at most `most` finite entries of line [n] that look like all of them when drawn.

    All finite entries if n <= most; else the smallest and the largest of each of most / 2 buckets of equal width.
    """
    n, finite = len(line), np.isfinite(line)
    if n <= most:
        return np.flatnonzero(finite)
    width = math.ceil(n / (most // 2))
    buckets = np.full((math.ceil(n / width), width), np.nan)
    buckets.ravel()[:n] = np.where(finite, line, np.nan)
    extremes = [
        np.where(np.isnan(buckets), math.inf, buckets).argmin(axis=1),
        np.where(np.isnan(buckets), -math.inf, buckets).argmax(axis=1),
    ]
    indices: NDArray[np.intp] = np.unique(np.add(extremes, width * np.arange(len(buckets))))
    kept: NDArray[np.intp] = indices[finite[indices]]
    return kept


def nice_ticks(low: float, high: float, fewest: int = 3) -> F64:
    """The multiples in [low, high] of a step of 1, 2, 2.5 or 5 times a power of ten, the widest that has so many.

    Returns at most 2 · fewest - 1 ticks: the next wider step gave too few, and consecutive candidate steps differ by
    a factor of at most 2. fewest is 3 or more.
    """
    largest = math.floor(math.log10(high - low))
    for step in (part * 10.0**power for power in itertools.count(largest, -1) for part in (5, 2.5, 2, 1)):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first + 1 >= fewest:
            break
    return step * np.arange(first, last + 1, dtype=np.float64)


def tick_labels(ticks: F64) -> list[str]:
    """The shortest texts, all with equally many decimals, that give every tick to a hundredth of the step."""
    largest, step = float(np.abs(ticks).max()), float(ticks[1] - ticks[0])
    kind = ("," if largest >= 1e4 else "", "f") if 1e-3 <= largest < 1e6 else ("", "e")
    for places in range(17):
        texts = [f"{tick:{kind[0]}.{places}{kind[1]}}" for tick in ticks]
        read = np.array([float(text.replace(",", "")) for text in texts])
        if np.abs(read - ticks).max() < step / 100:
            break
    short = (re.sub(r"e\+?(-?)0*", r"e\1", text) for text in texts)
    return ["0" if tick == 0 else text for text, tick in zip(short, ticks, strict=True)]


def _span(lines: F64, burn_in: int) -> tuple[float, float]:
    """The values at the lower and upper edge of a panel."""
    every, kept = (part[np.isfinite(part)] for part in (lines, lines[:, burn_in:]))
    kept = kept if len(kept) else every
    if not len(kept):
        return 0.0, 1.0
    low, high = float(kept.min()), float(kept.max())
    reach = (high - low) / 2
    low, high = max(float(every.min()), low - reach), min(float(every.max()), high + reach)
    size = max(abs(low), abs(high))
    margin = 0.08 * (high - low) if high - low > _FLAT * size else 0.12 * size or 1.2
    return low - margin, high + margin


def _head(heading: str, burn_in: int, n_chains: int) -> Iterator[str]:
    """The heading, and what the shade and the colours stand for."""
    yield _text(_EDGE, 32, _shortened(heading, _WIDTH - 2 * _EDGE, 17), size=17, weight=600)
    left = _EDGE
    if burn_in:
        yield f'<rect x="{left}" y="45" width="16" height="12" fill="{_SHADE}" stroke="{_RULE}" stroke-width="0.5"/>'
        words = f"burn-in: {burn_in:,} sweeps" if burn_in > 1 else "burn-in: 1 sweep"
        yield _text(left + 22, 55, words, fill=_MUTED)
        left += 22 + round(_LETTER * 12 * len(words)) + 12
    for chain in range(n_chains if 1 < n_chains <= len(COLOURS) else 0):
        yield f'<path d="M{left} 51h16" stroke="{COLOURS[chain]}" stroke-width="2.5"/>'
        yield _text(left + 22, 55, f"chain {chain + 1}", fill=_MUTED)
        left += 86
    if n_chains > len(COLOURS):
        yield _text(left, 55, f"{n_chains} chains", fill=_MUTED)


def _panel(name: str, lines: F64, burn_in: int, width: float, summary: Summary | None) -> str:
    """Title, figures, plot area and axes; the inner svg element clips lines at the plot area."""
    plot = _Plot(width - _LEFT, lines.shape[1], *_span(lines, burn_in))
    figures = "" if summary is None else f"ESS {summary.ess:,.0f} · R̂ {summary.r_hat:.3f}"
    room = width - _LETTER * 12 * len(figures) - 12
    area = f'x="{_LEFT}" y="{_TOP}" width="{plot.width:g}" height="{_PLOT_HEIGHT}"'
    return "\n".join(
        [
            f"<title>{_written(name)}</title>",
            _text(0, 15, _shortened(name, room, 12), size=12, weight=600),
            *([_text(width, 15, figures, anchor="end", fill=_MUTED)] if figures else []),
            f"<svg {area}>",
            *_shade(plot, burn_in),
            *_grid(plot),
            *_lines(plot, lines),
            "</svg>",
            f'<rect {area} fill="none" stroke="{_RULE}"/>',
            *_axes(plot),
        ]
    )


def _shade(plot: _Plot, burn_in: int) -> Iterator[str]:
    if burn_in:
        width = plot.across(min(burn_in, plot.n_sweeps))
        yield f'<rect class="burn-in" width="{width:.1f}" height="{_PLOT_HEIGHT}" fill="{_SHADE}"/>'


def _grid(plot: _Plot) -> Iterator[str]:
    for tick in nice_ticks(plot.low, plot.high):
        yield f'<path d="M0 {plot.down(tick):.1f}h{plot.width:g}" stroke="{_GRID}"/>'


def _axes(plot: _Plot) -> Iterator[str]:
    """Tick labels of the values, and of the sweeps below."""
    ticks = nice_ticks(plot.low, plot.high)
    for tick, label in zip(ticks, tick_labels(ticks), strict=True):
        yield _text(_LEFT - 8, _TOP + plot.down(tick) + 4, label, size=11, anchor="end", fill=_MUTED)
    below = _TOP + _PLOT_HEIGHT + 17
    yield _text(_LEFT - 12, below, "sweep", size=11, anchor="end", fill=_MUTED)
    for sweep in nice_ticks(0, plot.n_sweeps, fewest=4):
        if sweep == round(sweep):
            x = _LEFT + plot.across(sweep)
            anchor = "end" if plot.across(sweep) > plot.width - 12 else "middle"
            yield f'<path d="M{x:.1f} {_TOP + _PLOT_HEIGHT}v4" stroke="{_RULE}"/>'
            yield _text(x, below, f"{sweep:,.0f}", size=11, anchor=anchor, fill=_MUTED)


def _lines(plot: _Plot, lines: F64) -> Iterator[str]:
    for chain, line in enumerate(lines):
        yield f'<g fill="none" stroke="{COLOURS[chain % len(COLOURS)]}" stroke-linejoin="round" stroke-linecap="round">'
        for piece in _pieces(line):
            points = " ".join(
                f"{x:.1f},{y:.1f}" for x, y in zip(plot.across(piece + 1), plot.down(line[piece]), strict=True)
            )
            # A lone point is drawn as a dot: a line from it to itself, with round ends.
            points, thickness = (points, 1.1) if len(piece) > 1 else (f"{points} {points}", 2.5)
            yield f'<polyline points="{points}" stroke-width="{thickness}" stroke-opacity="0.85"/>'
        yield "</g>"


def _pieces(line: F64) -> Sequence[NDArray[np.intp]]:
    """The decimated indices of a line, cut wherever it has a gap."""
    indices = decimated(line)
    gaps = np.cumsum(~np.isfinite(line))[indices]
    return [piece for piece in np.split(indices, np.flatnonzero(np.diff(gaps)) + 1) if len(piece)]


def _text(
    x: float, y: float, words: str, *, size: int = 12, weight: int = 400, anchor: str = "start", fill: str = _INK
) -> str:
    place = f'x="{x:.5g}" y="{y:.5g}" font-size="{size}" text-anchor={quoteattr(anchor)}'
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return f'<text {place}{bold} fill="{fill}">{_written(words)}</text>'


def _shortened(words: str, room: float, size: int) -> str:
    """The words, shortened to fit into this many px at this font size."""
    most = int(room / (_LETTER * size))
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"


def _written(words: str) -> str:
    """As XML text; control characters and lone surrogates, e.g. from a file name, are not allowed there."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", words))
