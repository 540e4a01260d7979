"""The soak test: all kinds of tables, damaged runs, killed writers, loads during a save, folders with other files.

It counts what happened and exits with 1 if anything was wrong: a traceback, a table read wrongly, a damaged run that
loads, a mixture of two runs, a lost run or file, or a step that takes longer than its limit. A case depends only on its
number, which is printed with what was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import recsys_mf as mf
from recsys_mf.errors import ArtifactError, RecsysError
from tests import hostile
from tests.planted import planted

LIMIT = 120  # seconds that a case may take; one that takes longer counts as hanging
PAIRS = [7, 14, 21, 28], [101, 102, 103, 104]
WRITER = """
import signal, sys, recsys_mf as mf
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
a, b = mf.load(sys.argv[1]), mf.load(sys.argv[2])
print("ready", flush=True)
while True:
    for run in (b, a):
        mf.save(run, sys.argv[3], force=True)
"""


def main() -> None:
    """Run every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--flips", type=int, default=5_000, help="in each file of a run")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trainings", type=int, default=100, help="that are killed and continued from a checkpoint")
    parser.add_argument("--loads", type=int, default=2_000, help="while a writer replaces the run")
    parser.add_argument("--folders", type=int, default=500, help="with other files, which --force must not touch")
    parser.add_argument("--first", type=int, default=0, help="number of the first table")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        runs = _small_runs(here)
        counts = {
            "tables": _read_tables(asked.first, asked.tables),
            "flips": _flip_bits(here, asked.flips),
            "kills": _kill_writers(here, runs, asked.kills),
            "trainings killed": _kill_trainings(here, asked.trainings),
            "loads under a writer": _load_under_a_writer(here, runs, asked.loads),
            "folders in the way": _force_over_folders(here, asked.folders),
        }
    for part, found in counts.items():
        print(f"{part:22}" + ", ".join(f"{count:,} {what}" for what, count in sorted(found.items())))
    wrong = sum(count for found in counts.values() for what, count in found.items() if what.startswith("WRONG"))
    print(f"{wrong} wrong")
    sys.exit(bool(wrong))


def _cases(what: str, numbers: range) -> Iterator[int]:
    """The numbers, with a progress bar; a case that takes too long ends the program and shows where it hangs."""
    for number in tqdm(numbers, desc=what, leave=False, disable=None):
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        yield number
        faulthandler.cancel_dump_traceback_later()


def _read_tables(first: int, number: int) -> Counter[str]:
    """Tables of all kinds are read or refused; a tenth is also trained on, and a tenth is given to the commands."""
    counts: Counter[str] = Counter()
    for seed in _cases("tables", range(first, first + number)):
        with tempfile.TemporaryDirectory() as name:
            folder, r = Path(name), random.Random(seed)
            label = "not drawn"
            try:
                case = hostile.draw(r, folder)
                label = f"{case.label}, {case.fault}"
                counts["read" if hostile.check_reading(case) is not None else "refused"] += 1
                if seed % 10 == 0:
                    hostile.check_pipeline(case, folder, r)
                    counts["trained, saved, loaded and predicted"] += 1
                if seed % 10 == 5 and isinstance(case.source, Path):
                    hostile.check_commands(case, folder, r)
                    counts["by the commands"] += 1
            except Exception as error:
                counts[f"WRONG {type(error).__name__}"] += 1
                print(f"table {seed}: {label}: {type(error).__name__}: {str(error)[-300:]}", file=sys.stderr)
    return counts


def _small_runs(here: Path) -> dict[str, list[float]]:
    """Two runs of the same table in different units, and what they predict."""
    predictions = {}
    for name, step in (("a", 1.0), ("b", 20.0)):
        rng = np.random.default_rng(0)
        users, items = np.divmod(rng.permutation(60 * 40)[:800], 40)
        ratings = mf.Ratings.from_ids(users * 7, items + 100, np.clip(np.rint(3 + rng.normal(0, 1, 800)), 1, 5) * step)
        split = mf.hold_out(ratings, 0.1, seed=0)
        run = mf.train(split, mf.SOLVERS["sgd"](rank=4, members=2, epochs=3), device="cpu")
        assert split.test_as_read is not None
        mf.save(run, here / name, report=mf.evaluate(run, split.test_as_read, device="cpu"))
        predictions[name] = run.predict(*PAIRS).tolist()
    return predictions


def _flip_bits(here: Path, number: int) -> Counter[str]:
    """If one bit of a file of a run is flipped, `load` refuses the run and names the file."""
    counts: Counter[str] = Counter()
    shutil.copytree(here / "a", here / "flipped")
    for path in sorted((here / "flipped").iterdir()):
        good = path.read_bytes()
        for seed in _cases(path.name, range(number)):
            r = random.Random(f"{path.name} {seed}")
            bad = bytearray(good)
            bad[r.randrange(len(bad))] ^= 1 << r.randrange(8)
            path.write_bytes(bytes(bad))
            try:
                mf.load(here / "flipped")
                counts["WRONG loaded"] += 1
                print(f"flip {seed} of {path.name} loads", file=sys.stderr)
            except ArtifactError:
                counts[f"refused in {path.name}"] += 1
            except Exception as error:
                counts[f"WRONG {type(error).__name__}"] += 1
                print(f"flip {seed} of {path.name}: {type(error).__name__}: {error}", file=sys.stderr)
        path.write_bytes(good)
    return counts


@contextlib.contextmanager
def _writer(here: Path, target: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that replaces a run again and again."""
    arguments = [sys.executable, "-c", WRITER, str(here / "a"), str(here / "b"), str(target)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def _kill_writers(here: Path, runs: dict[str, list[float]], number: int) -> Counter[str]:
    """If a writer is killed at a random moment, a complete run remains, and the next save leaves no other files."""
    counts: Counter[str] = Counter()
    folder = here / "killed"
    folder.mkdir()
    mf.save(mf.load(here / "a"), folder / "run")
    for seed in _cases("kills", range(number)):
        with _writer(here, folder / "run") as process:
            time.sleep(random.Random(seed).uniform(0.0, 0.1))
            process.send_signal(random.Random(seed).choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
            process.wait(LIMIT)
        try:
            found = mf.load(folder / "run").predict(*PAIRS).tolist()
        except RecsysError as error:
            counts["WRONG lost"] += 1
            print(f"kill {seed}: {error}", file=sys.stderr)
            found = None
        mf.save(mf.load(here / "a"), folder / "run", force=True)
        left = [name for name in os.listdir(folder) if name != "run"]
        counts["whole" if found in runs.values() else "WRONG mixed"] += 1
        if left:
            counts["WRONG left behind"] += 1
            print(f"kill {seed}: {left}", file=sys.stderr)
    return counts


def _kill_trainings(here: Path, number: int) -> Counter[str]:
    """If a training with a checkpoint is killed at a random moment and continued, the run has the same bytes."""
    counts: Counter[str] = Counter()
    folder = here / "trainings"
    folder.mkdir()
    planted(density=0.2)[0].to_frame().to_csv(folder / "ratings.csv", index=False)
    took: dict[str, float] = {}
    for name in _TRAININGS:
        began = time.monotonic()
        _training(folder, name, "-o", name).wait(LIMIT)
        took[name] = time.monotonic() - began
    for seed in _cases("trainings", range(number)):
        r, name = random.Random(seed), list(_TRAININGS)[seed % len(_TRAININGS)]
        process = _training(folder, name, "-o", f"{name}-new", "--checkpoint", f"{name}-kept", "--every", "0")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(r.uniform(0.3, 1) * took[name])
        process.send_signal(r.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)))
        counts["killed" if process.wait(LIMIT) else "done before"] += 1
        counts.update(_checked(folder, name))
    for name in _TRAININGS:
        if _training(folder, name, "-o", f"{name}-new", "--checkpoint", f"{name}-kept").wait(LIMIT):
            counts["WRONG does not go on"] += 1
        counts.update(_checked(folder, name))
    if left := [*folder.glob("*-kept"), *folder.glob(".recsys_mf-*")]:
        counts["WRONG left behind"] += len(left)
    return counts


_TRAININGS = {
    "sgd": ("-p", "regularisation=0.04", "-p", "members=1", "-p", "epochs=40"),
    "committee": ("-p", "regularisation=0.04", "-p", "members=4", "-p", "epochs=20"),
    "als": ("--solver", "als", "-p", "regularisation=1", "-p", "members=3", "-p", "epochs=8"),
    "gibbs": ("--solver", "gibbs", "--sweeps", "30"),
}


def _training(folder: Path, name: str, *options: str) -> subprocess.Popen[bytes]:
    """The command that makes a run of this name."""
    script = "from recsys_mf.cli import main; main()"
    fixed = ("train", "ratings.csv", "--svd-ranks", "2", "-q", "-p", "rank=16")
    command = [sys.executable, "-c", script, *fixed, *_TRAININGS[name], *options]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _checked(folder: Path, name: str) -> Counter[str]:
    """If the run exists, count whether it has the bytes of the one that was not killed; then remove it."""
    new = folder / f"{name}-new"
    if not new.exists():
        return Counter()
    one, other = (
        {file.name: file.read_bytes() for file in run.iterdir() if file.suffix == ".safetensors"}
        for run in (folder / name, new)
    )
    shutil.rmtree(new)
    return Counter({"the same bytes" if one == other else "WRONG bytes": 1})


def _load_under_a_writer(here: Path, runs: dict[str, list[float]], number: int) -> Counter[str]:
    """While a writer replaces a run, every load gives one of the two runs, complete."""
    counts: Counter[str] = Counter()
    with _writer(here, here / "replaced"):
        while not (here / "replaced").exists():
            time.sleep(0.01)
        for seed in _cases("loads", range(number)):
            try:
                found = mf.load(here / "replaced").predict(*PAIRS).tolist()
                counts[next((f"run {name}" for name, those in runs.items() if found == those), "WRONG mixed")] += 1
            except ArtifactError:
                counts["refused by name"] += 1
            except Exception as error:
                counts[f"WRONG {type(error).__name__}"] += 1
                print(f"load {seed}: {type(error).__name__}: {error}", file=sys.stderr)
    return counts


def _force_over_folders(here: Path, number: int) -> Counter[str]:
    """With and without `--force`, nothing that `save` did not write is lost, whatever the folder holds."""
    counts: Counter[str] = Counter()
    run = mf.load(here / "a")
    for seed in _cases("folders", range(number)):
        r = random.Random(seed)
        target = here / "folders" / f"f{seed}"
        target.mkdir(parents=True)
        if r.random() < 0.5:
            mf.save(run, target)
        for name, make in _OTHERS:
            if r.random() < 0.25:
                make(target / name)
        before = {path.relative_to(target): _content(path) for path in target.rglob("*")}
        force = r.random() < 0.7
        try:
            mf.save(run, target, force=force)
            is_kept = force or not before
            counts["saved"] += 1
        except ArtifactError:
            is_kept = before == {path.relative_to(target): _content(path) for path in target.rglob("*")}
            counts["refused"] += 1
        names = {path.name for path in before}
        if not is_kept or not all((target / name).exists() for name, _ in _OTHERS if name in names):
            counts["WRONG lost"] += 1
            print(f"folder {seed}: {sorted(names)}, force {force}", file=sys.stderr)
    return counts


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


_OTHERS: tuple[tuple[str, Callable[[Path], object]], ...] = (
    ("thesis.tex", lambda path: path.write_text("years of work")),
    ("ratings.parquet", lambda path: path.write_bytes(b"PAR1")),
    ("notes", lambda path: path.mkdir()),
    (".hidden", lambda path: path.write_text("")),
    ("o.csv", lambda path: path.write_text("a,b\n")),
)


if __name__ == "__main__":
    main()
