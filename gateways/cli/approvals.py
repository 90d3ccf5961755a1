"""``fleetlog approvals``: what waits for another person."""

from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.output import Column, moment
from gateways.cli.session import Session, command, group

app = group("approvals", "Requests that wait for another person.")

RequestArgument = Annotated[str, typer.Argument(metavar="REQUEST", help="Id, or a piece of it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]

COLUMNS = (
    Column("state", lambda one: one["state"]),
    Column("request", lambda one: one["intent"]),
    Column("asked by", lambda one: one["user"] or one["actor"]),
    Column("why", lambda one: one["why"]),
    Column("until", lambda one: moment(one["expires_at"])),
    Column("decided by", lambda one: one["decider"]),
    Column("id", lambda one: one["id"]),
)


@command(app, "list", past=True)
def list_requests(
    session: Session, all_: Annotated[bool, typer.Option("--all", help="Those that are decided, too.")] = False
) -> None:
    """List requests that wait."""
    state = None if all_ else "waiting"
    session.out.rows(COLUMNS, session.api.items("/approvals", state=state), empty="Nothing waits for anybody.")


@command(app, "show", past=True)
def show_request(session: Session, request: RequestArgument) -> None:
    """Show one, with all that was asked for."""
    found = finding.approval(session.api, request)
    session.out.fields([(name, found[name]) for name in ("state", "intent", "why", "agents", "request", "id")], found)


@command(app, "approve")
def approve_request(session: Session, request: RequestArgument, reason: Reason = "") -> None:
    """Allow what somebody else asked for; it is done at once."""
    found = finding.approval(session.api, request)
    answer = session.api.post(f"/approvals/{found['id']}/approve", {"reason": reason})
    session.out.done(f"{found['intent']} is done.", answer)


@command(app, "refuse")
def refuse_request(session: Session, request: RequestArgument, reason: Reason = "") -> None:
    """Do not allow what somebody else asked for."""
    found = finding.approval(session.api, request)
    answer = session.api.post(f"/approvals/{found['id']}/refuse", {"reason": reason})
    session.out.done(f"{found['intent']} is refused.", answer)


@command(app, "withdraw")
def withdraw_request(session: Session, request: RequestArgument, reason: Reason = "") -> None:
    """Take back what you asked for."""
    found = finding.approval(session.api, request)
    answer = session.api.post(f"/approvals/{found['id']}/withdraw", {"reason": reason})
    session.out.done(f"{found['intent']} is withdrawn.", answer)
