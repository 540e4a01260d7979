"""Devices: what a machine can compute on, in words."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from recsys_mf import memory
from recsys_mf.arrays.cores import available_threads
from recsys_mf.arrays.jit import target
from recsys_mf.errors import ConfigError
from recsys_mf.kernels import MIN_CAPABILITY, has_driver


@dataclass(frozen=True)
class Device:
    """A device: the name that `--device` takes, what it is, and lines of facts about it."""

    name: str
    description: str
    facts: tuple[str, ...]


def list_devices(*, check: bool = False) -> list[Device]:
    """The CPU, and the card if there is one. check : verify the card's kernels again; ConfigError without a card."""
    found = [_cpu()]
    card = _card(check=check) if has_driver() else None
    if card is not None:
        return [*found, card]
    if check:
        fix = "run it on a machine with an NVIDIA GPU; the CPU's kernels are checked by the tests"
        raise ConfigError("there is no CUDA device to check", where="--check", fix=fix)
    return [*found, Device("cuda", "not available", (_why_not(),))]


def _cpu() -> Device:
    facts = (f"{available_threads()} threads", f"{memory.in_words(memory.available())} of memory free")
    return Device("cpu", target(), facts)


def _card(*, check: bool) -> Device | None:
    import torch

    if not torch.cuda.is_available():
        return None
    from recsys_mf.kernels.torch import memory as card_memory

    card = card_memory.card()
    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    facts = [
        f"{memory.in_words(total)} of memory, {memory.in_words(free)} free",
        f"compute capability {major}.{minor}, driver {card['driver']}, CUDA {card['cuda']}, torch {torch.__version__}",
    ]
    if find_spec("triton") is None or (major, minor) < MIN_CAPABILITY:
        needed = f"Triton and compute capability {'.'.join(map(str, MIN_CAPABILITY))}"
        return Device("cuda", card["card"], (*facts, f"kernels: torch's; the faster ones need {needed}"))
    return Device("cuda", card["card"], (*facts, *_kernels(check=check)))


def _kernels(*, check: bool) -> list[str]:
    """What is known of Triton's kernels on the card."""
    from recsys_mf.kernels.triton import verification
    from recsys_mf.kernels.triton.backend import make_backend

    verdicts = verification.verify_again(make_backend("cuda")) if check else verification.read_record()
    if not verdicts:
        return ["kernels: not verified yet; the first use does it, or: recsys-mf devices --check"]
    right = [operation for operation, wrong in verdicts.items() if wrong is None]
    wrong = [f"wrong, replaced by torch: {operation} ({why})" for operation, why in verdicts.items() if why is not None]
    return [f"kernels verified: {', '.join(right) or 'none'}", *wrong]


def _why_not() -> str:
    if not has_driver():
        return "no NVIDIA driver is loaded"
    return "torch finds no CUDA device: a build of torch without CUDA, or a driver that is too old"
