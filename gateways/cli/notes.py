"""``fleetlog notes``: what people want each other to know of a machine."""

from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.errors import AmbiguousError, NotFoundHereError
from gateways.cli.finding import SHORTEST_PIECE, AgentArgument
from gateways.cli.output import Column, Row, moment
from gateways.cli.session import Session, command, group

app = group("notes", "Notes on a machine, for all who see it.")

Note = Annotated[str, typer.Argument(metavar="NOTE", help="Its id, or a piece of it.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="What it says.")]


@command(app, "list", past=True)
def list_notes(session: Session, agent: AgentArgument) -> None:
    """List the notes on an agent, newest first."""
    found = finding.agent(session.api, agent)
    columns = (
        Column("written", lambda note: moment(note["written_at"])),
        Column("by", lambda note: note["actor"]),
        Column("changed", lambda note: moment(note["changed_at"])),
        Column("text", lambda note: note["text"]),
        Column("id", lambda note: note["id"]),
    )
    notes = session.api.get(f"/agents/{found['id']}/notes")["items"]
    session.out.rows(columns, notes, empty="Nobody has written a note on it.")


@command(app, "add")
def add_note(session: Session, agent: AgentArgument, text: Text) -> None:
    """Write a note on an agent."""
    found = finding.agent(session.api, agent)
    answer = session.api.post(f"/agents/{found['id']}/notes", {"text": text})
    session.out.done(f"Noted on {found['name']}.", answer)


@command(app, "change")
def change_note(session: Session, agent: AgentArgument, note: Note, text: Text) -> None:
    """Have a note say something else."""
    path = _path(session, agent, note)
    session.out.done("The note is changed.", session.api.put(path, {"text": text}))


@command(app, "remove")
def remove_note(session: Session, agent: AgentArgument, note: Note) -> None:
    """Take a note away."""
    path = _path(session, agent, note)
    session.out.done("The note is removed.", session.api.post(f"{path}/remove", {}))


def _path(session: Session, agent: str, typed: str) -> str:
    found = finding.agent(session.api, agent)
    path = f"/agents/{found['id']}/notes"
    notes: list[Row] = session.api.get(path)["items"]
    piece = typed.lower()
    meant = [one["id"] for one in notes if len(piece) >= SHORTEST_PIECE and piece in one["id"]]
    if not meant:
        raise NotFoundHereError(f"There is no note {typed!r} on {found['name']}.")
    if len(meant) > 1:
        raise AmbiguousError(f"{typed!r} is a piece of several notes' ids; type more of it.")
    return f"{path}/{meant[0]}"
