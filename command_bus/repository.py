"""Aggregates from the log."""

from collections.abc import Iterable, Sequence
from typing import TypeVar
from uuid import UUID

from command_bus.event_log import EventLog
from domain.errors import DomainError, NotFoundError
from domain.event import Aggregate, Recorded, Undecodable

A = TypeVar("A", bound=Aggregate)


class UnreadableStoryError(DomainError):
    """The log holds an event of it that this server cannot read: it is newer than the server, or damaged."""

    code = "unreadable_story"
    status = 503


def must_be_readable(recorded: Iterable[Recorded]) -> None:
    """Raise UnreadableStoryError if one of the events of a stream that was read tolerantly cannot be decoded."""
    for one in recorded:
        if isinstance(one.event, Undecodable):
            raise UnreadableStoryError(f"The event at position {one.position} cannot be read: {one.event.error}")


async def load(log: EventLog, kind: type[A], stream_id: UUID) -> A:
    """Replay one stream; an aggregate without events has version 0."""
    return (await load_many(log, kind, [stream_id]))[stream_id]


async def load_many(log: EventLog, kind: type[A], stream_ids: Sequence[UUID], *, closed: bool = False) -> dict[UUID, A]:
    """Replay several streams by one read; ``closed`` is as for `EventLog.read_streams`."""
    streams = await log.read_streams(stream_ids, closed=closed)
    return {
        stream_id: kind.load(stream_id, (recorded.event for recorded in streams.get(stream_id, ())))
        for stream_id in stream_ids
    }


async def load_existing(log: EventLog, kind: type[A], stream_id: UUID, what: str) -> A:
    """Replay a stream that must be there.

    Raises:
        NotFoundError: it has no events, or is another kind of thing.
    """
    streams = await log.read_streams([stream_id])
    return replay_existing(kind, stream_id, streams.get(stream_id, []), what)


def replay_existing(kind: type[A], stream_id: UUID, recorded: Sequence[Recorded], what: str) -> A:
    """Replay events that were read already; see `load_existing`.

    Raises:
        NotFoundError: as there.
        UnreadableStoryError: they were read tolerantly, and one of them cannot be decoded.
    """
    must_be_readable(recorded)
    try:
        aggregate = kind.load(stream_id, (one.event for one in recorded))
    except TypeError:
        # The id names a stream of another kind: to this caller, nothing.
        raise NotFoundError(f"There is no {what} {stream_id}.") from None
    if not aggregate.exists:
        raise NotFoundError(f"There is no {what} {stream_id}.")
    return aggregate
