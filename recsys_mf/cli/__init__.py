"""The command line: parse, call the library, print. Results on stdout, progress and messages on stderr.

Modules of this package import only click and the standard library at the top, so that `--help` is instant; each
command imports what it needs when it runs. An error of the library ends the process with the exit code of its class.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import click

from recsys_mf import __version__
from recsys_mf.cli.datasets import datasets
from recsys_mf.cli.evaluate import evaluate
from recsys_mf.cli.inspect import inspect
from recsys_mf.cli.predict import predict
from recsys_mf.cli.solvers import solvers
from recsys_mf.cli.train import train
from recsys_mf.errors import ReadingNotice, RecsysError

_INTERRUPTED = 130  # as a shell reports a process ended by Ctrl-C


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="recsys-mf")
def command() -> None:
    """Matrix factorisation for rating tables.

    Train on a table of (user, item, rating) rows, report the error on held-out ratings beside the truncated SVD,
    predict missing ratings.

    \b
    recsys-mf train ratings.parquet -o run        train, and report on 10 % held out
    recsys-mf evaluate run --test new.parquet     report on another table
    recsys-mf predict run pairs.csv -o out.csv    add a prediction to every (user, item) row

    Shell completion: eval "$(_RECSYS_MF_COMPLETE=bash_source recsys-mf)" (also zsh_source, fish_source).
    """


for subcommand in (train, evaluate, predict, inspect, solvers, datasets):
    command.add_command(subcommand)


def _show_warning(message: Warning | str, *rest: Any, **named: Any) -> None:
    """A warning on stderr as one line, without the place in the code; a notice is no cause for alarm."""
    if isinstance(message, ReadingNotice):
        click.echo(f"note: {message}", err=True)
    else:
        click.secho(f"warning: {message}", err=True, fg="yellow", bold=True)


def main() -> None:
    """Run the command line and exit with 0, or with the code of the error that ended it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show_warning
            sys.exit(command.main(prog_name="recsys-mf", standalone_mode=False))
    except RecsysError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing was written", err=True)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
        sys.exit(1)
