"""Backend: the operations that a device offers, in a handful of families.

`reference` specifies every operation of `RowKernels`, `SgdKernels`, `ProbitKernels` and `PredictionKernels`, under the
same name. Arrays are the backend's own, except those of `PredictionKernels`, which takes and gives NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_mf.arrays.csr import Csr
from recsys_mf.kernels.operands import (
    Curves,
    FactorModel,
    LevelScores,
    Offsets,
    OrdinalPairs,
    Pairs,
    RatingScale,
    RatingTable,
    Regressors,
    RowPrior,
    SampleTables,
    SgdState,
    SgdStep,
    Shrinkage,
    Tables,
    TopQuery,
)
from recsys_mf.kernels.schedule.plan import PlanSettings, SgdPlan

F64 = NDArray[np.float64]


class Device(Protocol):
    """Where arrays live, and how they get there.

    name : as runs and reports name the device, "cpu" or "cuda"
    threads : threads of the host that may be used
    xp : the module of its arrays, NumPy or torch, for functions with the same name in both (sqrt, hstack, einsum, …)
    """

    name: str
    threads: int
    xp: Any

    def describe(self) -> dict[str, str]:
        """What a run records about the device."""
        ...

    def guard(self) -> AbstractContextManager[None]:
        """Inside, a device without room raises ResourceError."""
        ...

    def put(self, array: Any) -> Any:
        """The array on the device (a copy if that is another memory, or if the array is read-only)."""
        ...

    def get(self, array: Any) -> NDArray[Any]:
        """The array as NumPy; a copy."""
        ...

    def is_finite(self, array: Any) -> bool:
        """Whether every entry of an array of the device is a finite number."""
        ...

    def draw_normals(self, rng: np.random.Generator, rows: int, columns: int) -> Any:
        """Standard normals float32[rows, columns], drawn by rng or on the device from a seed of it."""
        ...

    def draw_uniforms(self, rng: np.random.Generator, size: int) -> Any:
        """Multiples of 2⁻²⁴ in [0, 1), float32[size], also on the device."""
        ...


class RowKernels(Protocol):
    """Systems of rows, products with sparse matrices, and the model's values."""

    def solve(
        self, ratings: Csr, regressors: Regressors, prior: RowPrior, noise_precision: float, normals: Any | None
    ) -> tuple[Any, Any]: ...

    def refine(self, ratings: Csr, X: Any, regressors: Regressors, prior: Shrinkage, steps: int) -> tuple[Any, Any]: ...

    def multiply(self, matrix: Csr, X: Any, offsets: Offsets | None = None) -> Any: ...

    def row_scales(self, ratings: Csr, regressors: Regressors) -> Any: ...

    def row_values(self, ratings: Csr, X: Any, regressors: Regressors) -> Any: ...

    def pair_values(self, pairs: Pairs, tables: Tables) -> Any: ...


class SgdKernels(Protocol):
    """Masked stochastic gradient descent.

    takes_weights : whether its own kernels take weights of ratings; if not, slower ones are used for them
    precisions : how factors can be stored: "float32", and types with half the bytes
    schedules : "conflict-free" (blocks that run in parallel share no rows), and "hogwild" (they may share rows)
    max_rank : the largest rank, None for any
    """

    precisions: tuple[str, ...]
    takes_weights: bool
    schedules: tuple[str, ...]
    max_rank: int | None

    def plan(self, ratings: RatingTable, settings: PlanSettings, rng: np.random.Generator) -> SgdPlan:
        """The triples in the order of their visits, and how they are visited (`schedule.plan`)."""
        ...

    def put_factors(self, factors: NDArray[Any], precision: str) -> Any:
        """Factors on the device, stored in one of `precisions`."""
        ...

    def epoch(self, plan: SgdPlan, state: SgdState, step: SgdStep) -> float: ...

    def collect(self, plan: SgdPlan, state: SgdState) -> None:
        """Bring the rows that epochs have changed into the arrays of the state, before these are read: a backend may
        keep the rows elsewhere.
        """
        ...


class ProbitKernels(Protocol):
    """The cumulative probit of ordinal ratings."""

    def expected_levels(
        self, means: Any, scales: Any | None, thresholds: F64, noise: float, levels: NDArray[Any]
    ) -> Any: ...

    def ordinal_terms(self, pairs: OrdinalPairs, cuts: F64, slope: float) -> tuple[float, F64, F64]: ...

    def draw_latents(self, pairs: OrdinalPairs, cuts: F64, slope: float, uniforms: Any) -> Any: ...


class PredictionKernels(Protocol):
    """The kernels that models predict with: NumPy arrays in, NumPy arrays out."""

    def predict(self, model: FactorModel, pairs: Pairs) -> NDArray[np.float32]: ...

    def predict_samples(
        self, samples: SampleTables, pairs: Pairs, scale: RatingScale
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], F64]: ...

    def predict_levels(
        self, samples: SampleTables, pairs: Pairs, thresholds: NDArray[Any], noises: NDArray[Any]
    ) -> NDArray[np.float32]: ...

    def predict_noise(self, samples: SampleTables, pairs: Pairs, noises: NDArray[Any]) -> F64: ...

    def find_top(
        self, queries: NDArray[Any], table: NDArray[Any], count: int, excluded: Csr | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...

    def find_top_of_samples(
        self, samples: SampleTables, query: TopQuery, curves: Curves
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...

    def find_top_of_levels(
        self, samples: SampleTables, query: TopQuery, levels: LevelScores
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...

    def select_top(
        self, scores: NDArray[Any], count: int, excluded: Csr | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...


@dataclass(frozen=True)
class Backend:
    """The families of a device, as `kernels.select` gives them.

    make_prediction : makes the family of predictions; a new one each time, since it may keep the tables of every model
        that it is used for
    """

    device: Device
    rows: RowKernels
    sgd: SgdKernels
    probit: ProbitKernels
    make_prediction: Callable[[], PredictionKernels]
