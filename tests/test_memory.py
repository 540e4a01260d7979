"""Memory: sizes in words, and the refusal of what would not fit."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_mf import memory
from recsys_mf.errors import ResourceError


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 29, "1.5 GiB"),
        (3 << 50, "3072.0 TiB"),
    ],
)
def test_sizes_are_said_in_the_largest_unit_that_fits(size: int, words: str) -> None:
    assert memory.in_words(size) == words


def test_work_that_would_not_fit_is_refused_with_both_sizes() -> None:
    message = r"^the table needs 2.0 KiB and 1.0 KiB are free; use less$"
    with pytest.raises(ResourceError, match=message):
        memory.require(2048, "the table", there=1024, fix="use less")
    with pytest.raises(ResourceError, match=r"needs 1048576.0 TiB and .*B are free"):
        memory.require(1 << 60, "the table", fix="use less")


def test_work_that_fits_is_let_through() -> None:
    memory.require(1024, "the table", there=1024, fix="use less")
    memory.require(1, "the table", fix="use less")


def test_peak_is_in_bytes_and_counts_what_was_touched() -> None:
    touched = np.ones(8 << 20)  # 64 MiB
    assert touched.nbytes <= memory.peak() < 1 << 50
