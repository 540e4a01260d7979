"""`recsys-mf devices`: what can be computed on, and which kernels are known to be right there."""

from __future__ import annotations

import click

from recsys_mf.cli import options


@click.command()
@click.option("--check", is_flag=True, help="Check the kernels of the GPU now, also if they were checked before.")
def devices(check: bool) -> None:
    """List the devices to compute on, their memory, and which kernels are verified there.

    The first command that uses a GPU compares every kernel with the reference implementation, which takes up to a
    minute, mostly compilation, and keeps the result. A kernel that is wrong is replaced by a slower one with a warning
    under --device auto, and is an error under --device cuda.
    """
    from recsys_mf.kernels import devices as known

    for device in known.list_devices(check=check):
        options.say(f"{device.name}: {device.description}")
        for fact in device.facts:
            options.say(f"  {fact}")
