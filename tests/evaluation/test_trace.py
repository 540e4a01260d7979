"""Trace plots: valid XML in which every chain, gap, extreme and figure is where the numbers say."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from numpy.typing import NDArray

from recsys_mf.errors import ConfigError
from recsys_mf.evaluation.convergence import Summary
from recsys_mf.evaluation.trace import COLOURS, decimated, nice_ticks, tick_labels, to_svg

F64 = NDArray[np.float64]
SVG = "{http://www.w3.org/2000/svg}"


def drawn(traces: dict[str, F64], *, burn_in: int = 0, heading: str = "chains", **others: list[Summary]) -> Element:
    return ElementTree.fromstring(to_svg(traces, burn_in=burn_in, heading=heading, **others))


def panels(picture: Element) -> list[Element]:
    return [group for group in picture.findall(f"{SVG}g") if group.find(f"{SVG}svg") is not None]


def polylines(panel: Element) -> list[F64]:
    """The points [n, 2] of every polyline."""
    lines = (line.attrib["points"].split() for line in panel.iter(f"{SVG}polyline"))
    return [np.array([point.split(",") for point in line], float) for line in lines]


def texts(element: Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


def value_axis(panel: Element) -> tuple[F64, F64]:
    """Heights of the grid lines in the plot area, and the values that their labels give."""
    heights = [re.match(r"M0 (.+)h", line.attrib["d"]) for line in panel.iter(f"{SVG}path")]
    labels = panel.findall(f"{SVG}text[@text-anchor='end']")
    ticks = [float(str(label.text).replace(",", "")) for label in labels if re.match(r"-?[\d.]", str(label.text))]
    found = np.array([height[1] for height in heights if height], float)
    return found, np.array(ticks[: len(found)])


def walks(chains: int, sweeps: int, seed: int = 0) -> F64:
    return np.random.default_rng(seed).standard_normal((chains, sweeps)).cumsum(axis=1)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
@pytest.mark.parametrize("chains", [1, 2, len(COLOURS) + 2])
def test_every_trace_has_a_panel_and_every_chain_a_line_in_it(count: int, chains: int) -> None:
    picture = drawn({f"scalar {i}": walks(chains, 50, i) for i in range(count)}, burn_in=5)
    assert len(panels(picture)) == count
    for i, panel in enumerate(panels(picture)):
        assert f"scalar {i}" in texts(panel)
        assert [len(line) for line in polylines(panel)] == [50] * chains
        colours = [group.attrib["stroke"] for group in panel.iter(f"{SVG}g") if "stroke" in group.attrib]
        assert colours == [COLOURS[chain % len(COLOURS)] for chain in range(chains)]


@pytest.mark.parametrize("count", [1, 4, 5])
def test_panels_lie_in_the_picture_and_do_not_overlap(count: int) -> None:
    picture = drawn({f"scalar {i}": walks(1, 9) for i in range(count)})
    places = [re.findall(r"[\d.]+", panel.attrib["transform"]) for panel in panels(picture)]
    corners = np.array(places, float)
    plot = panels(picture)[0].find(f"{SVG}svg")
    assert plot is not None
    size = np.array([float(plot.attrib[key]) + float(plot.attrib[at]) for key, at in (("width", "x"), ("height", "y"))])
    assert (corners + size <= [float(picture.attrib["width"]), float(picture.attrib["height"])]).all()
    for i, one in enumerate(corners):
        assert all((np.abs(one - other) >= size).any() for other in corners[:i])


def test_a_line_runs_through_its_values() -> None:
    values = np.array([[3.0, 1.0, 4.0, 1.5, 9.0]])
    panel = panels(drawn({"pi": values}))[0]
    plot = panel.find(f"{SVG}svg")
    assert plot is not None
    (line,) = polylines(panel)
    rounding = 0.05  # coordinates have one decimal
    np.testing.assert_allclose(line[:, 0], float(plot.attrib["width"]) * np.arange(1, 6) / 5, rtol=0, atol=rounding)
    heights, ticks = value_axis(panel)
    slope = (heights[-1] - heights[0]) / (ticks[-1] - ticks[0])
    expected = heights[0] + slope * (values[0] - ticks[0])
    np.testing.assert_allclose(line[:, 1], expected, rtol=0, atol=6 * rounding)  # extrapolated from rounded grid lines
    assert (line[:, 1] > 0).all()
    assert (line[:, 1] < float(plot.attrib["height"])).all()


@pytest.mark.parametrize(("burn_in", "share"), [(1, 0.01), (25, 0.25), (100, 1.0), (150, 1.0)])
def test_burn_in_is_shaded_from_the_first_sweep_to_its_last(burn_in: int, share: float) -> None:
    panel = panels(drawn({"walk": walks(2, 100)}, burn_in=burn_in))[0]
    plot = panel.find(f"{SVG}svg")
    assert plot is not None
    (shade,) = plot.findall(f"{SVG}rect[@class='burn-in']")
    assert float(shade.get("x", "0")) == 0
    assert float(shade.attrib["width"]) == pytest.approx(share * float(plot.attrib["width"]), abs=0.05)
    assert shade.attrib["height"] == plot.attrib["height"]
    last = polylines(panel)[0][min(burn_in, 100) - 1]
    assert last[0] == pytest.approx(float(shade.attrib["width"]), abs=0.1)


def test_without_burn_in_nothing_is_shaded() -> None:
    picture = drawn({"walk": walks(1, 20)})
    assert not list(picture.iter(f"{SVG}rect[@class='burn-in']"))
    assert not any("burn-in" in text for text in texts(picture))


def test_a_distant_start_does_not_flatten_the_kept_sweeps() -> None:
    values = np.concatenate([[1e6, 1e4, 100.0], np.sin(np.arange(97.0))])[None]
    heights = polylines(panels(drawn({"sine": values}, burn_in=3))[0])[0][:, 1]
    assert heights[0] < 0  # above the plot area, which cuts it off
    # The kept sweeps span 2; the axis spans half of that more, and 8 % on either side.
    assert np.ptp(heights[3:]) == pytest.approx(112 / 1.5 / 1.16, abs=1)


def test_long_chains_keep_their_extremes_in_few_points() -> None:
    values = np.random.default_rng(1).standard_normal((1, 123_457))
    values[0, [777, 99_999]] = 50, -60
    (line,) = polylines(panels(drawn({"noise": values}))[0])
    assert 500 < len(line) <= 1000
    assert (np.diff(line[:, 0]) >= 0).all()
    # Sweep 100,000 is the lowest point, sweep 778 the highest; the picture is 960 wide and its row has only this panel.
    width = 960 - 2 * 24 - 72
    lowest, highest = line[line[:, 1].argmax()], line[line[:, 1].argmin()]
    assert lowest[0] == pytest.approx(width * 100_000 / 123_457, abs=0.05)
    assert highest[0] == pytest.approx(width * 778 / 123_457, abs=0.05)


@pytest.mark.parametrize("n", [1, 10, 11, 19, 20, 21, 99, 1000])
def test_decimation_keeps_the_extremes_of_every_bucket_and_no_more(n: int) -> None:
    rng = np.random.default_rng(n)
    line = rng.standard_normal(n)
    line[rng.random(n) < 0.3] = np.nan
    kept = decimated(line, most=10)
    assert len(kept) <= 10
    assert (np.diff(kept) > 0).all()
    assert np.isfinite(line[kept]).all()
    if n > 10:
        for start in range(0, n, -(-n // 5)):
            bucket = line[start : start - (-n // 5)]
            finite = bucket[np.isfinite(bucket)]
            assert set(line[kept]) >= ({finite.min(), finite.max()} if len(finite) else set())
    else:
        assert kept.tolist() == np.flatnonzero(np.isfinite(line)).tolist()


def test_entries_that_are_not_finite_are_gaps() -> None:
    values = np.arange(1.0, 13.0)
    values[[0, 4, 5, 7, 11]] = np.nan, np.nan, np.inf, -np.inf, np.nan
    lines = polylines(panels(drawn({"validation RMSE": values[None]}))[0])
    width = 960 - 2 * 24 - 72
    sweeps = [np.round(line[:, 0] / width * 12).astype(int).tolist() for line in lines]
    assert sweeps == [[2, 3, 4], [7, 7], [9, 10, 11]]  # a sweep between gaps is a dot: a line to itself


def test_a_gap_of_one_sweep_survives_decimation() -> None:
    values = np.zeros((1, 50_000))
    values[0, 31_234] = np.nan
    first, second = polylines(panels(drawn({"gap": values}))[0])
    width = 960 - 2 * 24 - 72
    assert first[-1, 0] <= width * 31_235 / 50_000 + 0.05
    assert second[0, 0] >= width * 31_235 / 50_000 - 0.05


def test_a_trace_without_any_number_is_an_empty_panel() -> None:
    (panel,) = panels(drawn({"nothing": np.full((2, 10), np.nan)}, burn_in=2))
    assert polylines(panel) == []


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5e-9, 3e12, 0.1 + 0.2])
@pytest.mark.parametrize("sweeps", [1, 2, 30])
def test_a_constant_is_a_horizontal_line_in_the_middle(value: float, sweeps: int) -> None:
    panel = panels(drawn({"constant": np.full((2, sweeps), value)}, burn_in=1))[0]
    assert len(polylines(panel)) > 0
    assert all((line[:, 1] == 56).all() for line in polylines(panel))
    assert len(value_axis(panel)[1]) >= 3


def test_names_and_heading_are_escaped_and_long_names_are_shortened_but_in_the_title() -> None:
    heading, name = "a<b> & \"c\" 'd' \x00\udc80 ]]>", "σ & <µ> " + "of a name that goes on " * 9
    picture = drawn({name: walks(1, 9)}, heading=heading)
    shown = heading.replace("\x00", "\ufffd").replace("\udc80", "\ufffd")
    assert picture.findtext(f"{SVG}title") == shown
    assert shown in texts(picture)
    (panel,) = panels(picture)
    assert panel.findtext(f"{SVG}title") == name
    assert texts(panel)[0].startswith("σ & <µ> of a name")
    assert texts(panel)[0].endswith("…")


def test_figures_are_in_the_panel_of_their_trace_and_in_no_other() -> None:
    summaries = [Summary("b", 0.0, 1.0, 1234.5, 1.0042), Summary("elsewhere", 0.0, 1.0, 7.0, 2.0)]
    first, second = panels(drawn({"a": walks(1, 9), "b": walks(1, 9)}, summaries=summaries))
    assert not any("ESS" in text for text in texts(first))
    assert "ESS 1,234 · R̂ 1.004" in texts(second)


def test_traces_of_unequal_length_have_their_own_axes() -> None:
    short, long = panels(drawn({"short": walks(1, 20), "long": walks(4, 4000)}))
    assert "20" in texts(short)
    assert "4,000" in texts(long)


def test_the_same_traces_give_the_same_picture_and_may_be_read_only() -> None:
    values = walks(2, 3000)
    values.setflags(write=False)
    assert to_svg({"walk": values}, burn_in=9, heading="h") == to_svg({"walk": values}, burn_in=9, heading="h")
    single = to_svg({"walk": values.astype(np.float32)}, burn_in=9, heading="h")
    assert len(polylines(panels(ElementTree.fromstring(single))[0])) == 2


def test_nothing_outside_the_file_is_needed() -> None:
    text = to_svg({"walk": walks(2, 30)}, burn_in=9, heading="h")
    assert text.count("http") == 1  # only in the name of the format
    assert not re.search(r"<(style|script|image|use|link)|href|url\(| id=", text)


def test_ticks_are_few_and_their_labels_differ() -> None:
    rng = np.random.default_rng(3)
    for _ in range(2000):
        low = rng.standard_normal() * 10.0 ** rng.integers(-8, 9)
        high = low + max(10.0 ** rng.uniform(-8, 9), 1e-6 * abs(low))
        for fewest in (3, 4):
            ticks = nice_ticks(low, high, fewest)
            assert fewest <= len(ticks) <= 2 * fewest - 1
            assert low <= ticks[0] < ticks[-1] <= high
        labels = tick_labels(nice_ticks(low, high))
        assert len(set(labels)) == len(labels)
        assert (
            max(map(len, labels)) <= 13
        )  # with a sign and a point, what fits into 88 px: the space for labels and the margin
        read = [float(label.replace(",", "")) for label in labels]
        assert np.abs(read - nice_ticks(low, high)).max() < (high - low) / 100


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0", "0.5", "1.0"]),
        (0.811, 0.846, ["0.82", "0.83", "0.84"]),
        (-7.0, 12.0, ["-5", "0", "5", "10"]),
        (-124_200, -122_950, ["-124,000", "-123,500", "-123,000"]),
        (2.4e7, 2.9e7, ["2.4e7", "2.6e7", "2.8e7"]),
        (1.1e-5, 1.9e-5, ["1.25e-5", "1.50e-5", "1.75e-5"]),
    ],
)
def test_tick_labels_are_round_and_short(low: float, high: float, labels: list[str]) -> None:
    assert tick_labels(nice_ticks(low, high)) == labels


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^no trace to draw; give one or more$"):
        to_svg({}, burn_in=0, heading="h")
    for values in (np.zeros(5), np.zeros((2, 0)), np.zeros((0, 5))):
        with pytest.raises(
            ConfigError, match=r"^noise: the trace has the wrong shape \(saw \[.*\]\); give one row per chain"
        ):
            to_svg({"noise": values}, burn_in=0, heading="h")
