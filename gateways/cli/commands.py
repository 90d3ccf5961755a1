"""``fleetlog queue``, ``show``, ``output``, ``cancel``, ``retry``: commands after they were queued."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.finding import AgentArgument, CommandArgument, Names
from gateways.cli.output import Column, Row, ago, moment, write_bytes
from gateways.cli.run import watch
from gateways.cli.session import Session, command
from gateways.cli.times import point

Reason = Annotated[str, typer.Option("--reason", help="Why; shown in its story.")]


CELL = 60
"""So much of a shell line fits a table."""


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, function in (
        ("queue", queue),
        ("commands", history),
        ("show", show),
        ("output", output),
        ("cancel", cancel),
        ("prioritise", prioritise),
        ("retry", retry),
    ):
        command(app, name, past=function not in (cancel, prioritise, retry))(function)


def what(item: Row, names: Names) -> str:
    """What a command does, in a few words."""
    spec: Row = item["spec"]
    match spec["kind"]:
        case "run_script":
            return f"{names.script(spec['script_id'])} rev {spec['revision']}"
        case "run_shell":
            line = " ".join(str(spec["line"]).split())
            return f"{spec['shell']}: {line if len(line) <= CELL else line[: CELL - 1] + '…'}"
        case kind:
            return str(kind).replace("_", " ")


def _not_before(item: Row) -> str:
    """When it may begin: from a moment on, within hours, or both."""
    hours = item["hours"]
    within = f"{hours['begins']}-{hours['ends']} {','.join(hours.get('days', ()))}".strip() if hours else ""
    return " ".join(filter(None, (moment(item["not_before"]), within)))


def queue(session: Session, agent: AgentArgument) -> None:
    """Show an agent's pending queue in the order of delivery."""
    found = finding.agent(session.api, agent)
    items = session.api.items(f"/agents/{found['id']}/queue")
    names = Names(session.api)
    columns = (
        Column("#", lambda item: item["place"]),
        Column("state", lambda item: item["state"] + (" (cancel asked)" if item["cancel_requested"] else "")),
        Column("lane", lambda item: item["lane"]),
        Column("priority", lambda item: item["priority"]),
        Column("what", lambda item: what(item, names)),
        Column("waits", lambda item: ago(item["queued_at"])),
        Column("not before", _not_before),
        Column("expires", lambda item: moment(item["expires_at"])),
        Column("command", lambda item: item["id"]),
    )
    numbered = ({"place": place, **item} for place, item in enumerate(items, 1))
    session.out.rows(columns, numbered, empty=f"Nothing waits for {found['name']}.")


def history(
    session: Session,
    agent: Annotated[str | None, typer.Option("--agent", help="Only of this agent.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Only of this client.")] = None,
    script: Annotated[str | None, typer.Option("--script", help="Only of this script.")] = None,
    state: Annotated[list[str] | None, typer.Option("--state", help="queued, failed, ...; repeatable.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="2h, 7d, or a time.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List commands, newest first."""
    api = session.api
    commands = api.items(
        "/commands",
        at_most=limit,
        agent_id=finding.agent(api, agent)["id"] if agent else None,
        client_id=finding.client(api, client)["id"] if client else None,
        script_id=finding.script(api, script)["id"] if script else None,
        state=state or None,
        since=point(since, datetime.now(UTC), past=True).isoformat() if since else None,
    )
    names = Names(api)
    columns = (
        Column("queued", lambda item: moment(item["queued_at"])),
        Column("state", lambda item: item["state"]),
        Column("agent", lambda item: names.agent(item["agent_id"])),
        Column("what", lambda item: what(item, names)),
        Column("exit", lambda item: item["exit_code"]),
        Column("command", lambda item: item["id"]),
    )
    session.out.rows(columns, commands, empty="No commands match.")


def show(session: Session, command_id: CommandArgument) -> None:
    """Show a command with its result and its story."""
    found = finding.command(session.api, command_id)
    whole: Row = session.api.get(f"/commands/{found['id']}")
    story = list(session.api.items(f"/commands/{found['id']}/events"))
    result: Row = whole["result"] or {}
    names = Names(session.api)
    session.out.fields(
        [
            ("command", whole["id"]),
            ("state", whole["state"]),
            ("what", what(whole, names)),
            ("agent", names.agent(whole["agent_id"])),
            ("lane", f"{whole['lane']}, priority {whole['priority']}"),
            ("attempt", whole["attempt"]),
            ("reason", whole["reason"]),
            ("by", whole.get("actor")),
            ("queued", moment(whole["queued_at"])),
            ("not before", moment(whole.get("not_before"))),
            ("expires", moment(whole["expires_at"])),
            ("ended", moment(whole.get("ended_at"))),
            ("exit code", result.get("exit_code")),
            ("detail", whole["detail"] or result.get("detail")),
            ("stdout", _size(result.get("stdout"))),
            ("stderr", _size(result.get("stderr"))),
        ],
        whole | {"events": story},
    )
    if not session.out.as_json:
        session.out.plain("")
        for event in story:
            session.out.plain(f"{moment(event['recorded_at'])}  ", event["text"])


def _size(stream: Row | None) -> str | None:
    return f"{stream['size']} bytes" if stream and stream.get("size") else None


def output(
    session: Session,
    command_id: CommandArgument,
    stream: Annotated[Stream, typer.Option("--stream", help="Which of its two.")] = Stream.STDOUT,
) -> None:
    """Write a command's complete output, byte for byte."""
    found = finding.command(session.api, command_id)
    for piece in session.api.content(f"/commands/{found['id']}/output", stream=stream.value):
        write_bytes(piece)


def cancel(session: Session, command_id: CommandArgument, reason: Reason = "") -> None:
    """Take a command back; if its agent may have it already, the agent is asked."""
    found = finding.command(session.api, command_id)
    answer = session.api.post(f"/commands/{found['id']}/cancel", {"reason": reason})
    if answer["state"] == "cancelled":
        session.out.done("Cancelled; it never left the queue.", answer)
    else:
        session.out.done("The agent may have it already, and is asked to drop or end it.", answer)


def prioritise(
    session: Session,
    command_id: CommandArgument,
    priority: Annotated[int, typer.Argument(min=0, max=9, help="0 goes first, 9 last; 5 is usual.")],
) -> None:
    """Change a waiting command's place in its agent's queue."""
    found = finding.command(session.api, command_id)
    answer = session.api.put(f"/commands/{found['id']}/priority", {"priority": priority})
    session.out.done(f"It has priority {priority} now.", answer)


def retry(
    session: Session,
    command_id: CommandArgument,
    reason: Reason = "",
    expires_in: Annotated[str | None, typer.Option("--expires-in", help="Not delivered later: 2h, 7d.")] = None,
    at_once: Annotated[bool, typer.Option("--queue", help="Return at once instead of waiting.")] = False,
) -> None:
    """Queue an ended command once more, as a new one that names the old."""
    found = finding.command(session.api, command_id)
    body = {"reason": reason} | ({"expires_at": point(expires_in, datetime.now(UTC)).isoformat()} if expires_in else {})
    queued = session.api.post(f"/commands/{found['id']}/retry", body)
    watch(session, queued, Names(session.api).agent(found["agent_id"]), wait=not at_once)
