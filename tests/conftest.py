"""What every test may use: the folder of real tables, the documentation site, servers of S3 and http (`servers`), and
Triton's interpreter if there is no card.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest_plugins = ["tests.servers"]

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


_WITHOUT_NETWORK = """
import socket, sys
def refused(*_): raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refused
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation site, built as `scripts/docs` builds it, where a connection is an error."""
    docs, folder = Path(__file__).parents[1] / "docs", tmp_path_factory.mktemp("site")
    options = ["-b", "html", "-W", "--keep-going", "-n", "-q", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_NETWORK, *options, str(docs), str(folder / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return folder / "html"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
