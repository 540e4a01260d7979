"""Predictors of epochs: tables as long as a side are made once per epoch, not for every part of the pairs."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest

from recsys_mf.arrays import mapped
from recsys_mf.kernels import select
from recsys_mf.kernels.cpu.device import CpuDevice
from recsys_mf.solvers import Als, Gibbs, Sgd, Solver
from recsys_mf.solvers.protocol import Epoch
from recsys_mf.training.validation import RunningError
from tests.planted import planted

FITS = [Sgd(members=1, epochs=1), Als(members=1, epochs=1), Gibbs(chains=1, sweeps=1)]


@pytest.mark.parametrize("solver", FITS, ids=lambda solver: solver.name)
def test_tables_are_made_once_for_all_parts_of_the_pairs(solver: Solver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "_PART", 50)
    table, backend = planted()[0], select("cpu", 1)
    solver = solver.resolved(table, backend)
    epoch = next(iter(solver.run(table, rng=np.random.default_rng(0), backend=backend)))
    assert isinstance(epoch, Epoch)
    assert epoch.predictor is not None
    made = Mock(wraps=epoch.predictor)
    RunningError(table, (0,), backend)(replace(epoch, predictor=made))
    made.assert_called_once_with()

    predict, put = epoch.predictor(), Mock(wraps=backend.device.put)
    monkeypatch.setattr(CpuDevice, "put", put)
    predict(table.users[:50], table.items[:50], None)
    assert max((call.args[0].size for call in put.call_args_list), default=0) <= 50
