"""The card: its name, how much of its memory is free, and the error if that is too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from recsys_mf.errors import ResourceError
from recsys_mf.memory import in_words

_SIGNS = "out of memory", "ALLOC_FAILED"  # of errors that libraries raise for it
_DRIVER = Path("/sys/module/nvidia/version"), Path("/proc/driver/nvidia/version")


def card() -> dict[str, str]:
    """Name, driver and CUDA version of the current card."""
    driver = next((path.read_text() for path in _DRIVER if path.exists()), "unknown")
    words = [word for word in driver.split() if word[0].isdigit()]
    return {
        "card": torch.cuda.get_device_name(),
        "driver": words[0] if words else "unknown",
        "cuda": str(torch.version.cuda),
    }


def free(device: torch.device) -> int:
    """Bytes that can still be allocated on the device, including those that torch holds but does not use."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


@contextmanager
def guarded() -> Iterator[None]:
    """Inside, a card without room raises ResourceError."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(sign in str(error) for sign in _SIGNS):
            raise
        there, total = torch.cuda.mem_get_info()
        raise ResourceError(
            f"the card's memory is full: {in_words(there)} of {in_words(total)} are free",
            seen=str(error).split(". ")[1] if ". " in str(error) else str(error),
            fix="lower the rank, store factors with --precision half, or use the device 'cpu'",
        ) from None
