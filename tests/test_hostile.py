"""Hundreds of tables as they occur in practice, drawn and shrunk by hypothesis: read right, or refused in one line."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests import hostile

ANY = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@pytest.mark.slow
@settings(ANY, max_examples=250)
@given(st.randoms(use_true_random=False))
def test_a_table_is_read_as_it_is_or_refused_in_one_line(r: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = hostile.draw(r, Path(folder))
        note(f"{case.label}, {case.fault}")
        hostile.check_reading(case)


@settings(ANY, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_what_is_read_predicts_the_same_after_training_saving_and_loading(r: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = hostile.draw(r, Path(folder))
        hostile.check_pipeline(case, Path(folder), r)


@pytest.mark.slow
@settings(ANY, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_the_commands_succeed_or_fail_with_one_line(r: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        case = hostile.draw(r, Path(folder))
        if isinstance(case.source, Path):
            hostile.check_commands(case, Path(folder), r)


@pytest.mark.parametrize("fault", hostile.FAULTS)
def test_every_fault_is_drawn_and_refused(fault: str) -> None:
    """Drawing tables tests nothing if the faults are not faults."""
    seen = 0
    for seed in range(400):
        with tempfile.TemporaryDirectory() as folder:
            case = hostile.draw(random.Random(seed), Path(folder))
            if case.fault == fault:
                assert hostile.check_reading(case) is None
                seen += 1
        if seen == 3:
            return
    pytest.fail("not drawn")
