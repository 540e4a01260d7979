"""Whole fits on the card and on two threads of the CPU: seconds of an epoch or sweep, errors, memory.

The same seed draws different numbers on each device, so the models differ: their errors should agree, not their
parameters.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from gpu_data import Planted, planted
from gpu_session import Figures, Plan, Session
from threadpoolctl import threadpool_limits

from recsys_mf.loaders import read_ratings
from recsys_mf.prediction import predict
from recsys_mf.ratings import Ratings
from recsys_mf.solvers import Als, Gibbs, Sgd, Solver, TruncatedSvd
from recsys_mf.splits import Split, hold_out

SWEEPS, BESIDE, LONG = "epochs and sweeps on the card", "beside two threads of the CPU", "500 samples"
PLAIN = "plain PyTorch"
SVD, PLANTED, REAL = "truncated SVD", "a planted million", "MovieLens 1M"
SAMPLES = 500


class Fit(NamedTuple):
    """The result of a fit: seconds of every epoch (set-up in the first), the error of the last, and peak memory."""

    seconds: list[float]
    rmse: float
    peak: int

    @property
    def steady(self) -> float:
        """Median seconds of an epoch after the first."""
        return median(self.seconds[1:])


def fits(plan: Plan, rank: int) -> Iterator[tuple[str, Solver]]:
    """The solvers by label, with the plan's numbers of epochs."""
    gibbs: dict[str, Any] = {"rank": rank, "likelihood": "gaussian", "time": "none"}
    yield "als", Als(rank=rank, epochs=plan.epochs["als"], members=1, regularisation=1.1)
    yield "gibbs, links none", Gibbs(**gibbs, links="none", sweeps=plan.epochs["gibbs"])
    yield "sgd", Sgd(rank=rank, epochs=plan.epochs["sgd"], members=1, regularisation=0.045)
    yield "gibbs, links both", Gibbs(**gibbs, links="both", sweeps=plan.epochs["gibbs both"])


def beside_name(label: str, plan: Plan) -> str:
    """The name of the row of a fit at the lower rank."""
    return f"{label}, rank {plan.ranks[0]}, 25 M"


def long_name(plan: Plan) -> str:
    """The name of the row of many samples at the higher rank."""
    return f"gibbs, links none, rank {plan.ranks[1]}, 10 M"


def sweeps(session: Session) -> None:
    """Fits of 25 million ratings on the card, a long chain on 10 million, then the same fits on the CPU."""
    plan = session.plan
    low = plan.ranks[0]
    found: dict[str, Fit] = {}
    table = planted(plan.tables["25 M"], session.device, plan.held_out)
    for label, solver in fits(plan, low):
        measure = partial(_on_card, session, solver, table, found, label)
        session.row(SWEEPS, beside_name(label, plan), measure)
    ordinal = Gibbs(rank=low, links="none", time="none", likelihood="ordinal", sweeps=plan.epochs["gibbs"])
    session.row(SWEEPS, beside_name("gibbs, links none, ordinal", plan), lambda: _on_card(session, ordinal, table))
    session.row(LONG, long_name(plan), lambda: _long(session))
    session.row(PLAIN, f"Adam, rank {low}, 25 M", lambda: _plain(session, table, low))
    for label, solver in fits(plan, low):
        measure = partial(_beside, session, solver, table, found, label)
        session.row(BESIDE, beside_name(label, plan), measure)


def _fitted(session: Session, solver: Solver, table: Planted, backend: Any) -> Fit:
    """A fit, with the error of what its last epoch predicts."""
    on_card = backend.device.name == "cuda"
    if on_card:
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds, last = [], None
    with threadpool_limits(1, user_api="blas"):  # as `recsys_mf.training` does
        began = time.perf_counter()
        for epoch in solver.run(table.train, rng=np.random.default_rng(0), backend=backend):
            session.synchronise()
            seconds.append(time.perf_counter() - began)
            last, began = epoch, time.perf_counter()
        assert last is not None
        assert last.predictor is not None
        predicted = last.predictor()(backend.device.put(table.test_users), backend.device.put(table.test_items), None)
    peak = torch.cuda.max_memory_allocated() if on_card else 0
    return Fit(seconds, table.rmse(backend.device.get(predicted)), peak)


def _on_card(
    session: Session, solver: Solver, table: Planted, found: dict[str, Fit] | None = None, label: str = ""
) -> Figures:
    fit = _fitted(session, solver, table, session.backend)
    if found is not None:
        found[label] = fit
    return {
        "first s": fit.seconds[0], "s": fit.steady, "G ratings/s": len(table.train) / fit.steady / 1e9,
        "RMSE": fit.rmse, "peak GiB": fit.peak / 2**30,
    }  # fmt: skip


def _beside(session: Session, solver: Solver, table: Planted, found: dict[str, Fit], label: str) -> Figures:
    fit = _fitted(session, solver, table, session.cpu_backend)
    figures = {"epochs": len(fit.seconds), "CPU s": fit.steady, "CPU RMSE": fit.rmse}
    if label not in found:
        return figures
    card = found[label]
    return figures | {
        "card s": card.steady, "card RMSE": card.rmse, "ratio": fit.steady / card.steady,
        "difference": card.rmse - fit.rmse,
    }  # fmt: skip


def _plain(session: Session, table: Planted, rank: int) -> Figures:
    """Factors and biases as embeddings trained with Adam, and the lowest held-out error of its epochs."""
    import torch

    device, train, batch = session.device, table.train, 16_384
    users, items, values = (session.torch_backend.device.put(a) for a in (train.users, train.items, train.values))
    users, items = users.long(), items.long()
    test_users, test_items = (torch.as_tensor(a, device=device).long() for a in (table.test_users, table.test_items))
    torch.manual_seed(0)
    mean = values.mean()

    def embed(rows: int, width: int, deviation: float) -> torch.nn.Embedding:
        embedding = torch.nn.Embedding(rows, width, device=device)
        torch.nn.init.normal_(embedding.weight, std=deviation)
        return embedding

    P, Q = embed(train.n_users, rank, 0.1), embed(train.n_items, rank, 0.1)
    b_u, b_i = embed(train.n_users, 1, 0.0), embed(train.n_items, 1, 0.0)
    optimiser = torch.optim.Adam(
        [layer.weight for layer in (P, Q, b_u, b_i)], lr=0.005, weight_decay=1e-5, fused=device == "cuda"
    )

    def predicted(u: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = mean + b_u(u)[:, 0] + b_i(i)[:, 0] + (P(u) * Q(i)).sum(1)
        return value

    seconds, errors = [], []
    for _ in range(session.plan.epochs["sgd"]):
        began = time.perf_counter()
        for chosen in torch.split(torch.randperm(len(values), device=device), batch):
            loss = torch.nn.functional.mse_loss(predicted(users[chosen], items[chosen]), values[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        session.synchronise()
        seconds.append(time.perf_counter() - began)
        with torch.no_grad():
            errors.append(table.rmse(predicted(test_users, test_items).cpu().numpy()))
    steady = median(seconds[1:])
    return {"first s": seconds[0], "s": steady, "G ratings/s": len(values) / steady / 1e9, "RMSE": min(errors)}


def _long(session: Session) -> Figures:
    """Sweeps at the higher rank, with samples copied to the host, and the estimated time of 500."""
    rank, plan = session.plan.ranks[1], session.plan
    table = planted(plan.tables["10 M"], session.device, plan.held_out)
    sweeps = 4 if session.settings.rehearsal else 8
    solver = Gibbs(rank=rank, likelihood="gaussian", time="none", links="none", sweeps=sweeps, burn_in=1)
    fit = _fitted(session, solver, table, session.backend)
    whole = fit.seconds[0] + (SAMPLES - 1) * fit.steady
    return {
        "sweeps": sweeps, "first s": fit.seconds[0], "s": fit.steady, "estimate s": whole, "RMSE": fit.rmse,
        "peak GiB": fit.peak / 2**30,
    }  # fmt: skip


def svd(session: Session) -> None:
    """The truncated SVD by the operator route, on both devices."""
    table = planted(session.plan.tables["1 M"], session.device, session.plan.held_out)
    solver = TruncatedSvd(ranks=(session.plan.svd_rank,), route="operator", filling="bias")
    models: dict[str, np.ndarray] = {}

    def measure(backend: Any, device: str) -> Figures:
        taken = []
        for _ in range(2):  # the first compiles kernels and starts libraries
            began = time.perf_counter()
            model = next(iter(solver.run(table.train, rng=np.random.default_rng(0), backend=backend))).model()
            taken.append(time.perf_counter() - began)
        models[device] = predict(model, table.test_users, table.test_items).values
        figures = {"s": taken[-1], "RMSE": table.rmse(models[device])}
        if len(models) == 2:
            figures["worst difference"] = float(np.abs(models["card"] - models["CPU"]).max())
        return figures

    for device, backend in (("card", session.backend), ("CPU", session.cpu_backend)):
        session.row(SVD, f"1 M, rank {session.plan.svd_rank}, {device}", partial(measure, backend, device))


def accuracy(session: Session) -> None:
    """Held-out errors of both devices on a planted million, on the same split."""
    table = planted(session.plan.tables["1 M"], session.device).train
    _compared(session, PLANTED, table, _fixed_fits(session.plan)[:-1])


def real(session: Session) -> None:
    """The same on MovieLens 1M; a rehearsal uses a planted table instead."""
    if session.settings.rehearsal:
        table = planted(session.plan.tables["1 M"], session.device).train
    else:
        assert session.settings.data is not None
        table = read_ratings(session.settings.data / "ml-1m.parquet", time_column="none")
    _compared(session, REAL, table, _fixed_fits(session.plan))


class _Contest(NamedTuple):
    """A solver with a fixed number of epochs, and the other settings that are tried on the card."""

    label: str
    solver: Solver
    variants: Sequence[dict[str, str]] = ({},)


def _fixed_fits(plan: Plan) -> Sequence[_Contest]:
    low, n = plan.ranks[0], plan.samples
    gibbs: dict[str, Any] = {"rank": low // 2, "time": "none", "sweeps": n, "burn_in": max(1, n // 8)}
    sgd = Sgd(rank=low, epochs=min(25, n), members=1, regularisation=0.045)
    variants: Sequence[dict[str, str]] = (
        {}, {"precision": "half"}, {"precision": "bfloat16"}, {"schedule": "hogwild"},
    )  # fmt: skip
    return (
        _Contest("sgd, one run", sgd, variants),
        _Contest("sgd, six runs", replace(sgd, members=6, regularisation=0.0375)),
        _Contest("als, one run", Als(rank=low // 2, epochs=min(8, n), members=1, regularisation=1.1)),
        _Contest("gibbs, links none", Gibbs(**gibbs, links="none", likelihood="gaussian")),
        _Contest("gibbs, links both, ordinal", Gibbs(**gibbs, links="both", likelihood="ordinal")),
    )


def _compared(session: Session, title: str, table: Ratings, contests: Sequence[_Contest]) -> None:
    """A row for every fit on the card, compared with one on the CPU."""
    split = hold_out(table, 0.1, seed=0)
    for label, solver, variants in contests:
        on_cpu: list[tuple[float, float]] = []
        for variant in variants:
            name = ", ".join((label, *variant.values()))
            session.row(title, name, partial(_errors, session, split, solver, variant, on_cpu))


def _errors(
    session: Session, split: Split, solver: Solver, variant: dict[str, str], on_cpu: list[tuple[float, float]]
) -> Figures:
    """RMSE of the last model on the card and on the CPU, which runs the solver once for all variants."""
    error, seconds = _error(split, replace(solver, **variant), session.backend)
    if not on_cpu:
        on_cpu.append(_error(split, solver, session.cpu_backend))
    cpu_error, cpu_seconds = on_cpu[0]
    return {
        "card RMSE": error, "CPU RMSE": cpu_error, "difference": error - cpu_error,
        "card s": seconds, "CPU s": cpu_seconds,
    }  # fmt: skip


def _error(split: Split, solver: Solver, backend: Any) -> tuple[float, float]:
    """RMSE on the held-out rows, and the seconds of the fit."""
    assert split.test is not None
    began, last = time.perf_counter(), None
    with threadpool_limits(1, user_api="blas"):
        for epoch in solver.run(split.train, rng=np.random.default_rng(0), backend=backend):
            last = epoch
        assert last is not None
        model = last.model()
    seconds = time.perf_counter() - began
    errors = predict(model, split.test.users, split.test.items).values - split.test.values.astype(np.float64)
    return float(np.sqrt(np.mean(errors**2))), seconds
