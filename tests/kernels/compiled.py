"""Compiles every Triton kernel, without a card, and prints the resources that each takes: run as a program.

One line per kernel: name, capability, registers and spilt bytes per thread, bytes of shared memory, and whether loads
are issued ahead of stores (asynchronous copies), which the SGD kernel must not have.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from recsys_mf.kernels.triton import pairs, rows, schedule, sgd, top

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
INTEGERS = (
    "users",
    "items",
    "others",
    "contexts",
    "progress",
    "stalled",
    "bits",
    "columns",
    "found_columns",
)  # pointers to int32
LONG = ("bounds", "lows", "highs", "starts", "order", "first_pieces", "pieces", "rows")  # pointers to int64
WHOLE = (
    "seed",
    "batch",
    "polls",
    "first",
    "last",
    "bands",
    "first_row",
    "first_piece",
    "k",
    "steps",
    "n",
    "n_parts",
    "n_columns",
    "words",
    "groups",
    "width",
    "count",
    "chosen",
)
REAL = ("rate", "bias_rate", "ridge_rate", "noise_precision")


def compiled(kernel: Any, storage: torch.dtype, capability: int, options: dict[str, Any]) -> str:
    """The line for a kernel."""
    names = list(inspect.signature(kernel.fn).parameters)
    constants = {name: options[name] for name in names if name in options}
    rest = {name: value for name, value in options.items() if name not in names}
    in_sgd = kernel is sgd._epoch

    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        if name in INTEGERS:
            return "*i32"
        if name in LONG:
            return "*i64"
        if name in WHOLE:
            return "i32"
        if name in REAL or (in_sgd and name in ("ridge", "bias_ridge")):
            return "fp32"
        if in_sgd and name == "squares":
            return "*fp64"
        if name == "unsure":
            return "*i8"
        stored = (kernel is sgd._epoch and name in ("P", "Q")) or (kernel is top._maxima and name in ("X", "Y"))
        return "*" + (NAMES[storage] if stored else "fp32")

    source = ASTSource(
        kernel,
        {name: kind(name) for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(n,): [["tt.divisibility", 16]] for n, name in enumerate(names) if kind(name).startswith("*")},
    )
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=rest)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(binary.asm["cubin"])
        usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file], capture_output=True, text=True).stdout
        code = subprocess.run([TOOLS / "nvdisasm", "-c", file], capture_output=True, text=True).stdout
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0]
    ahead = "LDGSTS" in code
    shared = binary.metadata.shared
    return f"{kernel.fn.__name__} {constants} sm_{capability} {NAMES[storage]} {registers} {stack} {shared} {ahead}"


def lines(capability: int) -> list[str]:
    """The lines for every kernel, at common ranks."""
    f32 = torch.float32
    found = [
        compiled(sgd._epoch, storage, capability, sgd.shape(columns, storage))
        for columns, storage in ((8, f32), (64, f32), (128, f32), (128, torch.float16), (256, torch.bfloat16))
    ]
    for columns in (16, 48, 64, 128):
        gram, solve = rows.shapes(
            columns, columns, with_contexts=columns == 48, with_normals=columns != 64, capability=capability,
            with_weights=columns in (48, 128), with_scales=columns in (16, 48),
        )  # fmt: skip
        found.append(compiled(rows._gram, f32, capability, gram))
        found.append(compiled(rows._solve, f32, capability, solve))
        shape = pairs.shape(columns, columns)
        found.append(compiled(pairs._refine, f32, capability, shape))
        by_sums = {"SPAN": rows.span_of(columns), "num_warps": max(1, rows.span_of(columns) // 16)}
        found.append(compiled(pairs._refine_by_sums, f32, capability, by_sums))
        groups, some = top.Groups.of(2500 * columns), {"has_excluded": columns != 48}
        found.append(compiled(top._maxima, torch.float16, capability, top.maxima_shape(columns, groups.tiles, **some)))
        found.append(compiled(top._choose, f32, capability, top.choose_shape(columns, groups, 10, **some)))
        found.append(compiled(pairs._sums, f32, capability, pairs.sums_shape(columns, weighted=True)))
        found.append(compiled(pairs._values, f32, capability, shape | {"WITH_CONTEXTS": columns == 48}))
    shuffle = {"PARTS": 32, "num_warps": 1, "num_stages": 1}
    found.append(compiled(top._mark, f32, capability, {"TILE": 128, "num_warps": 1}))
    return [*found, compiled(schedule._shuffle, f32, capability, shuffle)]


if __name__ == "__main__":
    assert "TRITON_INTERPRET" not in os.environ
    print("\n".join(lines(int(sys.argv[1]))))
