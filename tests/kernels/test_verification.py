"""The first use of a card: every kernel is held to the reference once; what is wrong is left to torch or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys_mf.errors import DeviceError, DeviceWarning
from recsys_mf.kernels import cases, oracle
from recsys_mf.kernels.backend import Backend
from tests.backends import interpreted, on_triton

pytestmark = [interpreted, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record is; small ranks, since the interpreter is slow."""
    on_triton("cpu")
    from recsys_mf.kernels.triton import verification

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(verification, "_FIRST_RANKS", (5,))
    return tmp_path


def use(*, strict: bool = False) -> Backend:
    from recsys_mf.kernels.triton.backend import make_verified_backend

    return make_verified_backend("cpu", strict=strict)


def break_kernel(monkeypatch: pytest.MonkeyPatch, module: str, name: str, broken: Callable[..., Any]) -> None:
    import importlib

    found = importlib.import_module(f"recsys_mf.kernels.triton.{module}")
    monkeypatch.setattr(found, name, broken)


def check_only(monkeypatch: pytest.MonkeyPatch, *operations: str) -> None:
    """Leave out the checks of other operations, which take minutes under the interpreter."""
    from recsys_mf.kernels.triton import verification

    every = verification._checks
    monkeypatch.setattr(verification, "_checks", lambda *given: (c for c in every(*given) if c[0] in operations))


def twice(module: str, name: str) -> Callable[..., Any]:
    """The kernel with a result that is twice too large."""
    import importlib

    right = getattr(importlib.import_module(f"recsys_mf.kernels.triton.{module}"), name)

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        return (found[0] * 2, *found[1:]) if isinstance(found, tuple) else found * 2

    return wrong


def test_right_kernels_are_checked_once_and_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_mf.kernels.triton import verification

    assert verification.read_record() == {}
    backend = use(strict=True)
    assert "kernels_by_torch" not in backend.device.describe()
    (record,) = json.loads((folder / "recsys_mf-verified.json").read_text()).values()
    assert record == dict.fromkeys(verification.OPERATIONS)
    monkeypatch.setattr(verification, "verify", lambda *given: pytest.fail("checked a second time"))
    use()
    monkeypatch.setattr(verification, "_key", lambda: "another card")
    assert verification.read_record() == {}


@pytest.mark.parametrize(
    ("operation", "module", "name"),
    [("solve", "rows", "solve"), ("refine", "pairs", "refine"), ("multiply", "pairs", "multiply"),
     ("pair_values", "pairs", "pair_values"), ("epoch", "sgd", "visit"), ("find_top", "top", "find")],
)  # fmt: skip
def test_a_wrong_kernel_is_named_and_left_to_torch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, operation: str, module: str, name: str
) -> None:
    break_kernel(monkeypatch, module, name, twice(module, name))
    check_only(monkeypatch, operation)
    with pytest.raises(DeviceError, match=rf"cuda: kernels are wrong on this card \(saw {operation} \(rank 5.*off by"):
        use(strict=True)
    with pytest.warns(DeviceWarning, match=rf"torch does their work: {operation} \("):
        backend = use()
    assert backend.device.describe()["kernels_by_torch"] == f"{operation} (wrong on this card)"
    checks = {
        "solve": lambda: oracle.check_solve(backend, cases.make_solve(5, contexts=True, normals=True))[0],
        "refine": lambda: oracle.check_refine(backend, 5, 2)[0],
        "multiply": lambda: oracle.check_multiply(
            backend, cases.make_solve(5, contexts=False, normals=False).ratings, 3
        ),
        "pair_values": lambda: oracle.check_pair_values(backend, 5, contexts=True),
        "epoch": lambda: oracle.check_epoch(backend, 5, 16),
        "find_top": lambda: oracle.check_find_top(backend.make_prediction(), 5, 2200),
    }
    assert checks[operation]().holds


def test_a_kernel_that_does_not_compile_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> Any:
        raise RuntimeError("ptxas fatal : no kernel image\nfor this device")

    break_kernel(monkeypatch, "rows", "solve", fails)
    check_only(monkeypatch, "solve")
    with pytest.warns(DeviceWarning, match="RuntimeError: ptxas fatal : no kernel image for this device"):
        use()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": 1}', "null"])
def test_a_damaged_record_is_made_again(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from recsys_mf.kernels.triton import verification

    check_only(monkeypatch)
    (folder / "recsys_mf-verified.json").write_text(text)
    use()
    assert verification.read_record() == dict.fromkeys(verification.OPERATIONS)


def test_without_a_folder_to_write_in_the_check_still_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/proc/none")
    check_only(monkeypatch, "multiply")
    assert "kernels_by_torch" not in use(strict=True).device.describe()
