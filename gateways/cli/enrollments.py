"""Machines that came by a token that asks for approval: ``fleetlog agents waiting``, and what is done with them."""

from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.erasing import erased
from gateways.cli.errors import BadValueError
from gateways.cli.finding import Names
from gateways.cli.output import Column, Row, moment
from gateways.cli.session import Session, command

AT_ONCE = 100
"""That one request decides."""

Machines = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MACHINE]...", help="Id, piece of it, key (sha256:...), or hostname; none with --all."),
]
All = Annotated[bool, typer.Option("--all", help="All that wait; with --token, of that one.")]
Token = Annotated[str | None, typer.Option("--token", metavar="TOKEN_ID", help="Only those that came by this token.")]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="SHA256", help="Only if its key is this, as its console shows it."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log. The machine is not told.")]


def list_waiting(
    session: Session,
    token: Token = None,
    all_: Annotated[bool, typer.Option("--all", help="Those that are decided, too.")] = False,
) -> None:
    """List machines that wait for approval. What they say of themselves nobody has checked: compare the key."""
    names = Names(session.api)
    columns = (
        *([Column("state", lambda one: one["state"])] if all_ else []),
        Column("hostname", lambda one: one["hostname"]),
        Column("address", lambda one: one["address"]),
        Column("platform", lambda one: f"{one['platform']}/{one['arch']}"),
        Column("site", lambda one: names.place(one["site_id"])),
        Column("token", lambda one: one["token_note"] or one["token_id"]),
        Column("came", lambda one: moment(one["requested_at"])),
        Column("until", lambda one: moment(one["expires_at"])),
        Column("key", lambda one: one["fingerprint"]),
        Column("id", lambda one: one["id"]),
    )
    found = session.api.items("/enrollments", state=None if all_ else "waiting", token_id=_token_id(session, token))
    session.out.rows(columns, found, empty="No machine waits for approval.")


def approve_machines(
    session: Session,
    machines: Machines = None,
    all_: All = False,
    token: Token = None,
    fingerprint: Fingerprint = None,
    reason: Reason = "",
) -> None:
    """Let machines in that wait: each is an agent from then on."""
    chosen = _chosen(session, machines, token, all_=all_, fingerprint=fingerprint)
    answer = _decide(session, "approve", chosen, reason)
    session.out.done(f"{_said(chosen)} {'is an agent' if len(chosen) == 1 else 'are agents'} now.", answer)


def refuse_machines(
    session: Session,
    machines: Machines = None,
    all_: All = False,
    token: Token = None,
    fingerprint: Fingerprint = None,
    reason: Reason = "",
) -> None:
    """Do not let machines in that wait; they are told so, and ask no more."""
    chosen = _chosen(session, machines, token, all_=all_, fingerprint=fingerprint)
    answer = _decide(session, "refuse", chosen, reason)
    session.out.done(f"{_said(chosen)} {'is' if len(chosen) == 1 else 'are'} refused.", answer)


def erase_machine(
    session: Session,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="Id, piece of it, key (sha256:...), or hostname.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log, for ever.")] = "",
) -> None:
    """Erase what a machine said of itself that was refused, or came in vain. It cannot be undone."""
    found = finding.enrollment(session.api, machine, state=None)
    answer = session.api.post(f"/enrollments/{found['id']}/erase", {"reason": reason})
    session.out.done(erased(f"What machine {found['id']} said of itself", answer), answer)


def _chosen(
    session: Session, machines: list[str] | None, token: str | None, *, all_: bool, fingerprint: str | None
) -> list[Row]:
    if bool(machines) == all_:
        raise BadValueError("Name the machines, or say --all.")
    if token is not None and not all_:
        raise BadValueError("--token goes with --all.")
    if all_:
        waiting = session.api.items("/enrollments", state="waiting", token_id=_token_id(session, token))
        chosen = list(waiting)
        if not chosen:
            raise BadValueError("No machine waits for approval.")
    else:
        named = [finding.enrollment(session.api, typed) for typed in machines or []]
        chosen = list({one["id"]: one for one in named}.values())
    if fingerprint is not None and [one["fingerprint"] for one in chosen] != [fingerprint]:
        raise BadValueError("That is not its key: it is another machine, or not the one that you mean.")
    return chosen


def _token_id(session: Session, token: str | None) -> str | None:
    return None if token is None else str(finding.token(session.api, token)["id"])


def _decide(session: Session, how: str, chosen: list[Row], reason: str) -> Row:
    agents: list[str] = []
    answer: Row = {}
    for first in range(0, len(chosen), AT_ONCE):
        part = [one["id"] for one in chosen[first : first + AT_ONCE]]
        answer = session.api.post(f"/enrollments/{how}", {"enrollments": part, "reason": reason})
        agents += answer["agents"]
    return answer | {"agents": agents}


def _said(chosen: list[Row]) -> str:
    if len(chosen) > 1:
        return f"{len(chosen)} machines"
    (one,) = chosen
    return f"{one['hostname']} at {one['address']} ({one['fingerprint']})"


def register(agents: typer.Typer) -> None:
    """Add these commands to a group.

    Args:
        agents: the group ``fleetlog agents``.
    """
    command(agents, "waiting", past=True)(list_waiting)
    command(agents, "approve")(approve_machines)
    command(agents, "refuse")(refuse_machines)
    command(agents, "erase-refused")(erase_machine)
