"""``fleetlog diff``: what changed between two moments, thing by thing."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.output import Column
from gateways.cli.session import Session, as_of, command

COLUMNS = (
    Column("positions", lambda one: f"{one['first_position']} to {one['last_position']}"),
    Column("change", lambda one: one["change"]),
    Column("what", lambda one: one["text"]),
    Column("id", lambda one: one["id"]),
)


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    command(app, "diff")(diff)


def diff(
    session: Session,
    earlier: Annotated[str, typer.Argument(metavar="EARLIER", help="A position, a time, 2h ago, or a replay's name.")],
    later: Annotated[str | None, typer.Argument(metavar="[LATER]", help="Likewise; by default, now.")] = None,
    what: Annotated[
        list[str] | None, typer.Option("--what", help="Only agents, scripts, users, commands, ...; repeatable.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Only what concerns this agent.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """Show what changed between two moments; what went to and fro in between did not."""
    now = datetime.now(UTC)
    found = session.api.items(
        "/diff",
        at_most=limit,
        earlier=as_of(earlier, now),
        later=as_of(later, now) if later is not None else None,
        what=what or None,
        agent_id=finding.agent(session.api, agent)["id"] if agent else None,
    )
    session.out.rows(COLUMNS, found, empty="Nothing changed.")
