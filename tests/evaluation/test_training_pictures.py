"""What is drawn of long traces: as it looks with all sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_mf.evaluation.training_pictures import thin


@pytest.mark.parametrize("n", [1, 2, 599, 600, 601, 5_000, 77_777])
def test_a_thinned_line_keeps_its_extremes_and_its_order(n: int) -> None:
    line = np.random.default_rng(n).standard_normal(n).cumsum()
    places = thin(line)
    assert (np.diff(places) > 0).all()
    assert len(places) <= 600
    assert line[places].min() == line.min()
    assert line[places].max() == line.max()


def test_entries_that_are_not_finite_are_left_out() -> None:
    for n in (10, 5_000):
        line = np.arange(float(n))
        line[[0, n // 2]] = np.nan, np.inf
        assert np.isfinite(line[thin(line)]).all()
    assert len(thin(np.full(2_000, np.nan))) == 0
