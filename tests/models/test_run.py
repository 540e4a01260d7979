"""Fit: a stored fit of an earlier version in the terms of this version."""

from __future__ import annotations

import pytest

from recsys_mf.models.fit import as_of_today

COMMITTEE = {
    "settings": {"epochs": 24, "members": 4},
    "epochs": 4,
    "history": [{"epoch": n, "train_rmse": None, "valid_rmse": 1 / n, "seconds": 0.1} for n in range(1, 7)],
}
SINGLE = {
    "settings": {"epochs": 5, "members": 1},
    "epochs": 5,
    "history": [{"epoch": n, "train_rmse": 2 / n, "valid_rmse": 1 / n, "seconds": 0.1} for n in range(1, 9)],
}
OF_ONE = {**COMMITTEE, "settings": {"epochs": 24, "members": 1}, "epochs": 24}  # validation chose one member
SAMPLER = {
    "settings": {"sweeps": 2, "burn_in": 1},
    "epochs": 2,
    "history": [{"epoch": n, "train_rmse": None, "valid_rmse": 1 / n, "seconds": 0.1, "burn_in": 0} for n in (1, 2)],
}


@pytest.mark.parametrize(
    ("stored", "epochs", "members", "stage", "count"),
    [
        (COMMITTEE, 24, 4, "committee", "members"),
        (OF_ONE, 24, 1, "committee", "members"),
        (SINGLE, 5, 1, "single", "epoch"),
        (SAMPLER, 2, 1, "single", "epoch"),
    ],
)
def test_epochs_and_members_of_an_earlier_version_are_told_apart(
    stored: dict[str, object], epochs: int, members: int, stage: str, count: str
) -> None:
    fit = as_of_today(stored)
    assert (fit["epochs"], fit["members"]) == (epochs, members)
    assert {row["stage"] for row in fit["history"]} == {stage}
    assert [row[count] for row in fit["history"]] == list(range(1, len(fit["history"]) + 1))
    assert as_of_today(fit) == fit


def test_a_row_of_a_report_has_no_history() -> None:
    row = {"settings": {"epochs": 24, "members": 4}, "epochs": 4}
    assert as_of_today(row) == {**row, "epochs": 24, "members": 4}
