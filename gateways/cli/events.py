"""``fleetlog timeline`` and ``fleetlog events``: the story of one machine, and the whole log."""

import itertools
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError, UnreachableError
from gateways.cli.output import Column, Row, moment
from gateways.cli.session import Session, command
from gateways.cli.times import point

RECONNECT_S = 1.0

COLUMNS = (
    Column("position", lambda event: event["position"]),
    Column("recorded", lambda event: moment(event["recorded_at"])),
    Column("type", lambda event: event["type"]),
    Column("actor", lambda event: event["actor"]),
    Column("what", lambda event: event["text"]),
)
STORY = (
    Column("when", lambda event: moment(event["recorded_at"])),
    Column("what", lambda event: event["text"]),
    Column("by", lambda event: event["actor"]),
)

BECAUSE = {
    "follows": "after: ",
    "asked": "asked for with: ",
    "queued_by": "queued by: ",
    "retry_of": "tried again after: ",
    "approved": "allowed by: ",
    "agent_retired": "since: ",
    "rollout_aborted": "since: ",
    "token": "let in by: ",
}
"""How the event above came of the one beside it."""


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    command(app, "timeline", past=True)(timeline)
    command(app, "events", past=True)(events)
    command(app, "why", past=True)(why)


def timeline(
    session: Session,
    agent: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="An agent.", autocompletion=finding.complete_agent)
    ] = None,
    command_: Annotated[str | None, typer.Option("--command", help="Of this command.")] = None,
    script: Annotated[str | None, typer.Option("--script", help="Of this script.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Of this user, and all that they did.")] = None,
    rollout: Annotated[str | None, typer.Option("--rollout", help="Of this rollout, and of its commands.")] = None,
    correlation: Annotated[str | None, typer.Option("--correlation", help="All that one request did (id).")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many of the newest.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens, until Ctrl-C.")] = False,
) -> None:
    """Show the story of an agent, a command, a script, a user, a rollout or a request, oldest first."""
    api = session.api
    subject: Row = {
        "agent_id": finding.agent(api, agent)["id"] if agent else None,
        "command_id": finding.command(api, command_)["id"] if command_ else None,
        "script_id": finding.script(api, script)["id"] if script else None,
        "user_id": finding.user(api, user)["id"] if user else None,
        "rollout_id": finding.rollout(api, rollout)["id"] if rollout else None,
        "correlation_id": correlation,
    }
    if sum(one is not None for one in subject.values()) != 1:
        raise BadValueError("Name one thing: an agent, --command, --script, --user, --rollout or --correlation.")
    newest = list(api.items("/timeline", at_most=limit, **subject, backwards="true"))
    story = newest[::-1]
    if not follow:
        session.out.rows(STORY, story, empty="Nothing is on record of it.")
        return
    after = story[-1]["position"] if story else 0
    if agent is not None or correlation is not None:
        query = {name: subject[name] for name in ("agent_id", "correlation_id")}
        following = _live(session, after, query)
    else:
        following = _asked_again(session, after, subject)
    for event in itertools.chain(story, following):
        _line(session, event)


def why(
    session: Session,
    what: Annotated[str, typer.Argument(metavar="EVENT|COMMAND", help="An event's position, or a command's id.")],
) -> None:
    """Show why something happened: back, cause by cause, to the request that began it."""
    if what.isdecimal():
        path = f"/events/{what}/causes"
    else:
        path = f"/commands/{finding.command(session.api, what)['id']}/causes"
    answer: Row = session.api.get(path)
    if session.out.as_json:
        session.out.json(answer)
        return
    for item in answer["items"]:
        event, because = item["event"], BECAUSE.get(item["because"], "")
        session.out.plain(f"{moment(event['recorded_at'])}  {event['position']}  ", f"{because}{event['text']}")
    if answer["hidden"]:
        session.out.note("It goes on beyond what you may see.")
    else:
        session.out.plain("begun by  ", f"{answer['begun_by']}, request {answer['correlation_id']}")


def events(
    session: Session,
    agent: Annotated[str | None, typer.Option("--agent", help="Only what concerns this agent.")] = None,
    stream: Annotated[str | None, typer.Option("--stream", help="Only of this command, script, ... (id).")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help="As CommandQueued; repeatable.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="As key:<id> or agent:<id>.")] = None,
    correlation: Annotated[str | None, typer.Option("--correlation", help="Only of one story (id).")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Only what concerns this client.")] = None,
    said: Annotated[
        str | None, typer.Option("--said", help="Words of its sentence or type; not with --follow or --export.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="2h, 7d, or a time.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="2h ago, or a time.")] = None,
    after: Annotated[int | None, typer.Option("--after", min=0, help="Only from beyond this position.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    backwards: Annotated[bool, typer.Option("--backwards", help="Newest first.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it happens, until Ctrl-C.")] = False,
    export: Annotated[Path | None, typer.Option("--export", help="Write all that match to FILE as NDJSON.")] = None,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="With the ends of outputs, too: that you read them is put on record.")
    ] = False,
) -> None:
    """Replay the log: all of it, or what a filter lets through."""
    now = datetime.now(UTC)
    query: Row = {
        "agent_id": finding.agent(session.api, agent)["id"] if agent else None,
        "stream_id": stream,
        "type": kind or None,
        "actor": actor,
        "correlation_id": correlation,
        "client_id": finding.client(session.api, client)["id"] if client else None,
        "outputs": "true" if outputs else None,
    }
    if said is not None and (follow or export is not None):
        raise BadValueError("--said narrows a list, and neither --follow nor --export.")
    window: Row = {
        "since": point(since, now, past=True).isoformat() if since else None,
        "until": point(until, now, past=True).isoformat() if until else None,
    }
    if export is not None:
        _export(session, export, query | window | {"after": after})
    elif follow:
        for event in _live(session, after, query):
            _line(session, event)
    else:
        found = session.api.items(
            "/events",
            at_most=limit,
            **query,
            **window,
            after=after,
            q=said,
            backwards="true" if backwards else None,
        )
        session.out.rows(COLUMNS, found, empty="No events match.")


def _line(session: Session, event: Row) -> None:
    if session.out.as_json:
        session.out.json_line(event)
    else:
        session.out.plain(f"{moment(event['recorded_at'])}  ", event["text"])


def _live(session: Session, after: int | None, query: Row) -> Iterator[Row]:
    """Events as they are recorded, each once: a broken stream resumes after the last one seen."""
    if after is None:
        # Begin now: at a position of our own, so that a connection lost before the first event loses nothing either.
        after = next((event["position"] for event in session.api.items("/events", at_most=1, backwards="true")), 0)
    last = str(after)
    told = False
    while True:
        try:
            for event in session.api.stream("/events/stream", last_event_id=last, **query):
                told = False
                if event.id:
                    last = event.id
                data: Any = event.json() if event.data else None
                if isinstance(data, dict) and "position" in data:
                    yield data
        except UnreachableError as error:
            if not told:
                session.out.note(f"{error.detail} Waiting for the connection; nothing will be missed ...")
            told = True
        time.sleep(RECONNECT_S)


def _asked_again(session: Session, after: int, subject: Row) -> Iterator[Row]:
    """What comes to the story of a command, a script, a user or a rollout, each event once.

    Of which streams it is made is found anew each time: a rollout gets commands, a user keys, and what these come to
    belongs to it, though none of them was there when it was begun to be followed.
    """
    told = False
    while True:
        try:
            # No cursor is 0: of a story that has not begun yet, all of it is new.
            for event in session.api.items("/timeline", cursor=str(after) if after else None, **subject):
                told = False
                after = event["position"]
                yield event
        except UnreachableError as error:
            if not told:
                session.out.note(f"{error.detail} Waiting for the connection; nothing will be missed ...")
            told = True
        time.sleep(RECONNECT_S)


def _export(session: Session, file: Path, query: Row) -> None:
    """Write an export that is whole or absent: it gets its name when the last line is on disk."""
    fresh = file.with_name(f".{file.name}.part")
    count = 0
    try:
        with fresh.open("wb") as stream:
            for piece in session.api.content("/events/export", **query):
                stream.write(piece)
                count += piece.count(b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as fault:
        raise BadValueError(f"{file} cannot be written: {fault.strerror}.") from fault
    finally:
        fresh.unlink(missing_ok=True)
    session.out.done(f"{count} events written to {file}.", {"file": str(file), "events": count})
