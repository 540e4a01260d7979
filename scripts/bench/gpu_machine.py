"""The card: its versions, and the rates of copies and of matrix products that everything is compared with."""

from __future__ import annotations

import subprocess
from functools import partial
from statistics import median

import torch
import triton
from gpu_session import Figures, Session, timing


def machine(session: Session) -> None:
    """Names and versions, then the limits."""
    session.row("versions", "versions", lambda: _versions(session))
    session.row("limits", "copy", lambda: _copy(session))
    for name, dtype, tf32 in (
        ("float32", torch.float32, False), ("TF32", torch.float32, True), ("bfloat16", torch.bfloat16, False),
    ):  # fmt: skip
        session.row("limits", name, partial(_product, session, dtype, tf32))


def _versions(session: Session) -> Figures:
    from recsys_mf import __version__

    figures: Figures = {"recsys-mf": __version__, "torch": torch.__version__, "triton": triton.__version__}
    if session.device == "cpu":
        return figures
    card = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, text=True, check=False)
    return figures | {
        "CUDA": str(torch.version.cuda), "driver": asked.stdout.strip() or session.backend.device.describe()["driver"],
        "capability": f"{card.major}.{card.minor}", "multiprocessors": card.multi_processor_count,
        "GiB": round(card.total_memory / 2**30, 1), "L2 MiB": card.L2_cache_size / 2**20,
    }  # fmt: skip


def _copy(session: Session) -> Figures:
    """Two pairs of buffers, used alternately, so that nothing is read from a cache."""
    size = session.plan.copy_bytes // 4
    sources = [torch.rand(size, device=session.device) for _ in range(2)]
    copies = [torch.empty_like(source) for source in sources]

    def both() -> None:
        for source, copy in zip(sources, copies, strict=True):
            copy.copy_(source)

    seconds = session.seconds(both)
    return timing(seconds) | {"GB/s": 2 * 2 * 4 * size / median(seconds) / 1e9}


def _product(session: Session, dtype: torch.dtype, tf32: bool) -> Figures:
    side = session.plan.matrix
    A, B = (torch.randn((side, side), device=session.device).to(dtype) for _ in range(2))
    C = torch.empty_like(A)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        seconds = session.seconds(lambda: torch.matmul(A, B, out=C))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return timing(seconds) | {"TFLOP/s": 2 * side**3 / median(seconds) / 1e12}
