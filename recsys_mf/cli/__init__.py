"""The command line: parse, call the library, print. Results on stdout, progress and messages on stderr.

Modules of this package import only click and the standard library at the top, so that `--help` is instant; each
command imports what it needs when it runs. However the process ends, `failures` says why in one line.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import signal
import sys
import warnings
from typing import Any

import click

from recsys_mf import __version__
from recsys_mf.cli.compare import compare
from recsys_mf.cli.complete import complete
from recsys_mf.cli.datasets import datasets
from recsys_mf.cli.devices import devices
from recsys_mf.cli.evaluate import evaluate
from recsys_mf.cli.export import export
from recsys_mf.cli.failures import Signals, report, say_error
from recsys_mf.cli.fold import fold_in, forget
from recsys_mf.cli.inspect import inspect
from recsys_mf.cli.predict import predict
from recsys_mf.cli.recommend import explain, recommend, similar
from recsys_mf.cli.solvers import solvers
from recsys_mf.cli.train import train
from recsys_mf.cli.transfers import Transfers
from recsys_mf.cli.tune import tune
from recsys_mf.errors import ReadingNotice, RecsysWarning, printable
from recsys_mf.storage.transfer import watched


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="recsys-mf")
def command() -> None:
    """Matrix factorisation for rating tables.

    Train a model on a table of (user, item, rating) rows, compare its error on held-out ratings with that of the
    truncated SVD, and predict missing ratings.

    \b
    recsys-mf train ratings.parquet -o run        train, and report the error on 10 % of the ratings
    recsys-mf evaluate run --test new.parquet     report the error on another table
    recsys-mf compare ratings.parquet             compare solvers on the same held-out ratings
    recsys-mf tune ratings.parquet --minutes 5    find the best solver and settings in five minutes
    recsys-mf predict run pairs.csv -o out.csv    add a prediction to every (user, item) row
    recsys-mf recommend run --users 17,42         list the best items of users
    recsys-mf complete matrix.csv -o full.csv     fill the missing entries of a table of numbers

    Shell completion: eval "$(_RECSYS_MF_COMPLETE=bash_source recsys-mf)" (also zsh_source, fish_source).
    """


for subcommand in (
    train,
    evaluate,
    compare,
    tune,
    predict,
    recommend,
    similar,
    explain,
    fold_in,
    forget,
    complete,
    export,
    inspect,
    solvers,
    datasets,
    devices,
):
    command.add_command(subcommand)


def _show_warning(message: Warning | str, *rest: Any, **named: Any) -> None:
    """Print a warning on stderr as one line, without its place in the code; a notice is only a note."""
    if isinstance(message, ReadingNotice):
        say_error(f"note: {printable(message)}")
    else:
        say_error(click.style(f"warning: {printable(message)}", fg="yellow", bold=True))


def main() -> None:
    """Run the command line and exit with 0, or with the code of the error or signal that ended it."""
    if sys.stderr is None:  # it was closed: nothing can be said, and no other file may take its place
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (to the end of the process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know every letter of a report
    signals, code = Signals(), 0
    try:
        with signals, watched(Transfers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries, and of arithmetic whose results are checked
            warnings.simplefilter("always", RecsysWarning)
            warnings.showwarning = _show_warning
            command.main(prog_name="recsys-mf", standalone_mode=False, obj=signals)
            if sys.stdout is not None:
                sys.stdout.flush()
    except BaseException as error:
        code = report(error, signals.received)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the work is done: a late Ctrl-C changes nothing
    sys.exit(code)
