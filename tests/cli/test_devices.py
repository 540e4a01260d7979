"""`devices` typed, on a machine without a card."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from recsys_mf.cli import command
from recsys_mf.errors import ConfigError

without_card = pytest.mark.skipif(torch.cuda.is_available(), reason="a card is here")


@without_card
def test_the_processor_is_listed_and_the_card_that_is_not_there() -> None:
    printed = CliRunner().invoke(command, ["devices"], catch_exceptions=False).output.splitlines()
    assert printed[0].startswith("cpu: ")
    assert printed[1].endswith(" threads")
    assert printed[2].endswith(" of memory free")
    assert printed[3] == "cuda: not available"


@without_card
def test_without_a_card_there_is_nothing_to_check() -> None:
    with pytest.raises(ConfigError, match="there is no CUDA device to check"):
        CliRunner().invoke(command, ["devices", "--check"], catch_exceptions=False)
