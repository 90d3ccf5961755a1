"""The administrator's half of the command line: all that goes through the REST API."""

import typer

from gateways.cli import (
    agents,
    approvals,
    checks,
    clients,
    commands,
    diff,
    enrollments,
    events,
    fields,
    forward,
    keys,
    login,
    notes,
    patches,
    retention,
    roles,
    rollouts,
    run,
    scripts,
    secrets,
    sessions,
    simulate,
    tokens,
    users,
    views,
)


def register(app: typer.Typer) -> None:
    """Add every command of this half to the program.

    Args:
        app: the program ``fleetlog``.
    """
    run.register(app)
    commands.register(app)
    events.register(app)
    diff.register(app)
    enrollments.register(agents.app)
    groups = (
        agents.app,
        notes.app,
        patches.app,
        views.app,
        clients.clients,
        clients.sites,
        fields.app,
        scripts.app,
        secrets.app,
        forward.app,
        retention.app,
        rollouts.app,
        checks.app,
        tokens.app,
    )
    for group in (*groups, users.app, roles.app, keys.app, approvals.app):
        app.add_typer(group)
    login.register(app)
    sessions.register(app)
    simulate.register(app)
