"""The administrator's half of the command line: all that goes through the REST API."""

import typer

from gateways.cli import agents, clients, commands, events, keys, login, rollouts, run, scripts, simulate, tokens


def register(app: typer.Typer) -> None:
    """Add every command of this half to the program.

    Args:
        app: the program ``fleetlog``.
    """
    run.register(app)
    commands.register(app)
    events.register(app)
    for group in (agents.app, clients.clients, clients.sites, scripts.app, rollouts.app, tokens.app, keys.app):
        app.add_typer(group)
    login.register(app)
    simulate.register(app)
