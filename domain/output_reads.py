"""That somebody read what a command printed, as a fact in the log: recorded before the first byte of it leaves.

Whoever follows or polls does not fill the log: the same reader, by the same way, of the same thing is on record once in
each hour. What shows the outputs of many at once names what it was asked for, and not each of them.
"""

import enum
from datetime import datetime
from uuid import UUID

import msgspec

from domain.commands import (
    CommandCancelled,
    CommandFailed,
    CommandInterrupted,
    CommandRequeued,
    CommandSucceeded,
    CommandTimedOut,
    LateResultRecorded,
    Result,
)
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, CommandId, derived_id
from domain.strays import StrayResultRecorded

RESULTS = (
    CommandSucceeded,
    CommandFailed,
    CommandTimedOut,
    CommandInterrupted,
    CommandRequeued,
    CommandCancelled,
    LateResultRecorded,
    StrayResultRecorded,
)
"""The events that may hold the end of an output."""
NOT_SHOWN = "[not shown]"
"""What stands for the end of an output where nobody asked to see it."""


class Way(enum.StrEnum):
    """By what it was read."""

    WHOLE = "whole"
    """All of one stream."""
    TAIL = "tail"
    """Its end, with the command."""
    LIVE = "live"
    """As it appeared."""
    OUTCOMES = "outcomes"
    """Of a rollout, those alike together."""
    EVENTS = "events"
    """Ends, with the events that hold them: a page, an export, a stream."""
    PROOF = "proof"
    """An event as it is stored, with its proof."""
    EXTRACT = "extract"
    """A part of the history that was taken out."""
    ROWS = "rows"
    """The rows of a read model."""


class Sought(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which events were asked for, whatever their time and type; without any of these, all that the reader may see."""

    agent_id: UUID | None = None
    stream_id: UUID | None = None
    user_id: UUID | None = None
    script_id: UUID | None = None
    actor: str | None = None
    correlation_id: UUID | None = None


class OutputRead(Event, frozen=True, kw_only=True):
    """Of one attempt of a command, of a rollout, or of all that was asked for; who read it is the event's actor."""

    way: Way
    command_id: CommandId | None = None
    attempt: int | None = None
    agent_id: AgentId | None = None
    client_id: ClientId | None = None
    """Whose outputs they were, where that was one client alone."""
    rollout_id: UUID | None = None
    extract_id: UUID | None = None
    sought: Sought | None = None
    table: str = ""


def reads_of(thing: UUID | str) -> UUID:
    """Where the reads of one thing are recorded: of a command, a rollout, or else a reader."""
    return derived_id("output-reads", thing)


def begin_of_hour(at: datetime) -> datetime:
    """Of the hour within which a read counts once."""
    return at.replace(minute=0, second=0, microsecond=0)


class OutputReads(Aggregate):
    """The reads of one command or rollout, or of what a reader sought otherwise."""

    agent_id: AgentId | None = None
    client_id: ClientId | None = None

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def read(self, read: OutputRead) -> Change:
        return self.decide(read)

    def when(self, event: Event) -> None:
        match event:
            case OutputRead():
                self.agent_id, self.client_id = event.agent_id, event.client_id
            case _:
                super().when(event)


def result_of(event: Event) -> Result | None:
    """What an attempt came to, where an event tells of that."""
    result = getattr(event, "result", None)
    return result if isinstance(result, Result) else None


def shows_output(event: Event) -> bool:
    """Whether an event holds something of what a command printed."""
    result = result_of(event)
    return result is not None and bool(result.stdout.tail or result.stderr.tail)


def without_output(event: Event) -> Event:
    """An event as it is shown to who did not ask for outputs."""
    result = result_of(event)
    if result is None or not shows_output(event):
        return event
    covered = {
        name: msgspec.structs.replace(stream, tail=NOT_SHOWN)
        for name, stream in (("stdout", result.stdout), ("stderr", result.stderr))
        if stream.tail
    }
    return msgspec.structs.replace(event, result=msgspec.structs.replace(result, **covered))
