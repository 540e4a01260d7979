"""What every test may use: the folder of real tables, and Triton's interpreter if there is no card."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton's kernels are imported


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data", metavar="DIR", help="folder with real rating tables, e.g. ml-1m.parquet")


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder given with --data; tests that use it are skipped without it."""
    folder = request.config.getoption("--data")
    if folder is None:
        pytest.skip("needs real rating tables: pytest --data DIR")
    return Path(folder)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
