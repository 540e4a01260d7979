"""Documents: the blocks of a Markdown text, and whether a program prints what they show."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple


class Block(NamedTuple):
    """A fenced block: its language and its text."""

    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```", document, re.DOTALL | re.MULTILINE)]


def commands(block: str) -> list[tuple[str, str]]:
    """(command, output) pairs of a console block."""
    return [(part.partition("\n")[0], part.partition("\n")[2].strip()) for part in block.split("$ ")[1:]]


def output_of(command: str, folder: Path) -> str:
    """What a command of a shell prints on stdout, run in a folder. Raises CalledProcessError if it fails."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", command], cwd=folder, env=os.environ | {"PATH": path}, stdout=subprocess.PIPE, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


class Program:
    """What runs the blocks of a document: a process of its own that starts in a folder. Its Python is one program.

    So nothing that a document leaves behind (variables of the environment too, a virtual machine of Java and its
    folder) reaches another one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: tuple[Any, Connection] | None = None

    def run(self, text: str) -> str:
        """What Python prints on stdout. Raises AssertionError with the traceback if it fails."""
        return self._ask(_run_python, text)

    def output_of(self, command: str) -> str:
        """`output_of` in the environment of the program. Raises AssertionError if the command fails."""
        return self._ask(_run_command, command)

    def _ask(self, run: Callable[[str, dict[str, Any]], str], text: str) -> str:
        if self._started is None:
            context = multiprocessing.get_context("spawn")
            here, there = context.Pipe()
            process = context.Process(target=_run_blocks, args=(there, self._folder))
            process.start()
            there.close()
            self._started = process, here
        _, channel = self._started
        channel.send((run, text))
        printed, failure = channel.recv()
        assert not failure, f"{text}\n{printed}\n{failure}"
        return str(printed)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._started is not None:
            process, channel = self._started
            channel.close()
            process.join(30)
            process.kill()


def _run_blocks(channel: Connection, folder: Path) -> None:
    """Run the blocks that arrive and answer with what each prints and its traceback, which is empty if it succeeds."""
    os.chdir(folder)
    program: dict[str, Any] = {"__name__": "page"}
    with contextlib.suppress(EOFError):
        while True:
            (run, text), failure = channel.recv(), ""
            try:
                printed = run(text, program)
            except BaseException:
                printed, failure = "", traceback.format_exc()
            channel.send((printed, failure))


def _run_python(text: str, program: dict[str, Any]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        exec(compile(text, "document", "exec"), program)
    return stream.getvalue().strip()


def _run_command(text: str, program: dict[str, Any]) -> str:
    return output_of(text, Path.cwd())


def agree(shown: str, printed: str, *, whole_numbers_may_differ: bool = False) -> bool:
    """The same words, and numbers nearly equal (processors round differently); seconds, rates and memory may differ.

    whole_numbers_may_differ : in all lines; else only in rows of models, where they are numbers of epochs
    """
    of_comparison = r"( +\d+\.\d+)+ +[\d.]+ [KMG]iB( +front)?$"
    measured = rf"peak memory .*|took \d+ seconds|\d+ threads|─+|{of_comparison}"
    shown, printed = (re.sub(measured, "", text, flags=re.MULTILINE) for text in (shown, printed))
    if len(shown.splitlines()) != len(printed.splitlines()):
        return False
    words, others = ([line.replace("±", " ").split() for line in text.splitlines()] for text in (shown, printed))
    number = r"[+-]?[\d.]+" if whole_numbers_may_differ else r"[+-]?\d*\.\d+"
    return all(_alike(line, other, number) for line, other in zip(words, others, strict=True))


def _alike(shown: list[str], printed: list[str], number: str) -> bool:
    in_table = shown[:1] in (["mean"], ["bias"], ["SVD,"], ["sgd"])
    if in_table:  # the last two are the seconds and the speed of the fit; before them are numbers of runs and epochs
        shown, printed, number = shown[:-2], printed[:-2], r"[+-]?[\d.]+"
    return len(shown) == len(printed) and all(_near(*words, number) for words in zip(shown, printed, strict=True))


def _near(shown: str, printed: str, number: str) -> bool:
    if re.fullmatch(number, shown) and re.fullmatch(number, printed):
        return abs(float(shown) - float(printed)) <= max(0.005, 0.1 * abs(float(shown)))
    fields, others = shown.split(","), printed.split(",")
    if len(fields) != len(others):
        return False
    return shown == printed or (
        len(fields) > 1 and all(_near(*pair, number) for pair in zip(fields, others, strict=True))
    )
