"""Progress bars: every fit has one that shows its epochs and errors, but only on a terminal and without --quiet."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial

import pytest
import tqdm

from recsys_mf import SOLVERS, train
from recsys_mf.cli.progress import Bars
from tests.trained import small_split

DRAWN = tqdm.tqdm
Shown = Callable[..., str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Returns what a training writes to stderr."""

    def run(solver: str, settings: dict[str, str], *, quiet: bool = False, terminal: bool = True) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
        monkeypatch.setattr(tqdm, "tqdm", partial(DRAWN, mininterval=0, miniters=1))  # every step, however fast
        with Bars(quiet=quiet) as bars:
            train(small_split(), SOLVERS[solver].from_texts(settings), device="cpu", watch=bars)
        return capsys.readouterr().err

    return run


def test_every_fit_has_a_bar_with_its_purpose_and_errors(shown: Shown) -> None:
    text = shown("sgd", {"rank": "2", "epochs": "3", "members": "1"})
    assert "mean, choosing epochs" in text
    assert "sgd, choosing settings" in text
    assert "sgd, fitting all training ratings" in text
    assert re.search(
        r"3/3 .*epoch/s, train RMSE \d\.\d{4}, validation RMSE \d\.\d{4}, \d+\.\d million ratings/s\]", text
    )


def test_the_bar_of_a_sampler_has_sweeps_and_the_noise(shown: Shown) -> None:
    text = shown("gibbs", {"rank": "2", "sweeps": "6", "burn_in": "2", "likelihood": "gaussian"})
    assert re.search(
        r"gibbs, fitting all training ratings.* 6/6 .*sweep/s, train RMSE \d\.\d{4}, noise \d\.\d{4}, ", text
    )


@pytest.mark.parametrize(("quiet", "terminal"), [(True, True), (False, False)])
def test_nothing_is_drawn_if_quiet_or_without_a_terminal(shown: Shown, quiet: bool, terminal: bool) -> None:
    assert shown("bias", {}, quiet=quiet, terminal=terminal) == ""
