"""Environments: a virtual environment for every peer, made from the versions in peers.toml and reused."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DEFAULT = ROOT / ".bench"


@dataclass(frozen=True)
class Peer:
    """What peers.toml says about an environment.

    package : the peer as reports name it, with its version
    requirements : every package with its version
    build : environment variables for the build by pip; needs : what the machine must have, in words
    """

    package: str
    requirements: tuple[str, ...]
    build: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""


class InstallError(Exception):
    """A peer cannot be installed; the message has pip's last error."""


def peers() -> dict[str, Peer]:
    """The environments of peers.toml by name."""
    entries = tomllib.loads((HERE / "peers.toml").read_text())
    return {name: Peer(**entry | {"requirements": tuple(entry["requirements"])}) for name, entry in entries.items()}


def python(name: str, folder: Path) -> Path:
    """The Python of a peer's environment under a folder. Raises InstallError.

    The environment is made if it is missing or peers.toml has changed.
    """
    peer = peers()[name]
    home = folder / name
    stamp = home / "stamp"
    wanted = "\n".join([sys.version, *peer.requirements, *map(str, sorted(peer.build.items()))])
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing {peer.package}", file=sys.stderr)
        venv.create(home, clear=True, with_pip=True)
        _install(home / "bin" / "python", peer)
        stamp.write_text(wanted)
    return home / "bin" / "python"


def _install(executable: Path, peer: Peer) -> None:
    """Install in order: what a build needs comes before it in the requirements."""
    pip = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if peer.build:
        pip += ["--no-cache-dir"]  # the cache may have a wheel that was built with other variables
    done = subprocess.run([*pip, *peer.requirements], capture_output=True, text=True, env=os.environ | peer.build)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        said = (errors or done.stderr.splitlines() or ["pip failed"])[-1]
        raise InstallError(f"not installed: {said.strip()}" + (f" (needs {peer.needs})" if peer.needs else ""))
