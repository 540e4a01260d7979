"""How many programs of a Triton kernel a card holds at once."""

from __future__ import annotations

from typing import Any

import torch
import triton

_REGISTERS_A_WARP = 256  # allocated at a time
_QUARTERS = 4  # of a multiprocessor, each with registers of its own: a warp must fit into one
_SHARED_UNIT = 128  # bytes
_SHARED = 1024  # bytes of shared memory that every program takes besides its own
_MAX_PROGRAMS = 16  # on a multiprocessor: what the hardware allows on every card that Triton's kernels run on


def resident_programs(kernel: Any, arguments: tuple[Any, ...], options: dict[str, Any], device: torch.device) -> int:
    """Programs that run at the same time on the device; one under Triton's interpreter.

    arguments : as in a launch, with the type of its elements for a tensor
    """
    if not isinstance(kernel, triton.runtime.JITFunction):
        return 1
    compiled = kernel.warmup(*arguments, grid=(1,), **options)
    compiled._init_handles()  # loads it: what a launch would do next
    return fitting(
        torch.cuda.get_device_properties(device), compiled.n_regs, compiled.metadata.num_warps, compiled.metadata.shared
    )


def fitting(card: Any, registers: int, warps: int, shared: int) -> int:
    """Programs of `warps` warps that a card holds at once.

    registers : of a thread; shared : bytes of shared memory of a program
    """
    a_warp = -(-32 * registers // _REGISTERS_A_WARP) * _REGISTERS_A_WARP
    by_registers = _QUARTERS * (card.regs_per_multiprocessor // _QUARTERS // a_warp) // warps
    by_memory = card.shared_memory_per_multiprocessor // (-(-shared // _SHARED_UNIT) * _SHARED_UNIT + _SHARED)
    by_threads = card.max_threads_per_multi_processor // (32 * warps)
    return int(card.multi_processor_count * min(by_registers, by_memory, by_threads, _MAX_PROGRAMS))
