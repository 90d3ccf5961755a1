"""``fleetlog demo``: see the main job done, on this machine, in under a minute."""

from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo")(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Then leave a fleet to look at, until Ctrl-C.")] = False,
) -> None:
    """Bring up a whole Fleetlog in a temporary folder, put it through accidents, and compare with what was promised.

    With --keep, 140 simulated machines with a history join it afterwards; it prints the dashboard's address and how to
    log in there.
    """
    from gateways.local.demo import run  # noqa: PLC0415 - the other commands need not wait for what only this one needs

    raise typer.Exit(run(keep=keep, console=Console(highlight=False)))
