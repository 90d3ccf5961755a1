"""Server-sent events: from the log's past into its present, exactly once and in order."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from command_bus.errors import BusyStreamError
from command_bus.event_log import EventLogError, Selection
from domain.event import Recorded
from gateways.rest.errors import MalformedHeaderError
from gateways.rest.feed import CutOffError
from gateways.rest.route import MAX_POSITION, Call

UNDECODABLE = "undecodable"
"""The name under which streams tell of an event that this program cannot read; they go on after it."""
PAGE = 500
SEND_TIMEOUT_S = 30.0
"""A client that takes nothing for so long is gone."""
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger("fleetlog.streams")


async def follow(call: Call, selection: Selection, after: int | None) -> AsyncGenerator[Recorded]:
    """Events of a selection from a position on, as long as the process and the reader keep up and the caller may.

    The subscription begins before the log is read, and says from which position on it hears everything. So the log is
    read up to there and no further, and neither a gap nor a double can be between the two. Another process may have
    told the reader of events that this one's feed has yet to see: those are left out.

    Args:
        call: whose.
        selection: which events.
        after: only later ones; None means those that come from now on.
    """
    log = call.parts.log
    with call.feed.subscribe(selection) as subscription, call.standing.telling(subscription.cut_off):
        # The feed is a moment behind the log; what is recorded already is not what comes from now on.
        told = await log.head() if after is None else after
        while told < subscription.begins_after:
            page = await log.read(selection, after=told, upto=subscription.begins_after, limit=PAGE, tolerant=True)
            for recorded in page:
                yield recorded
            if call.standing.over:
                return
            if len(page) < PAGE:
                break
            told = page[-1].position
        while True:
            try:
                recorded = await subscription.next()
            except CutOffError:
                return
            if recorded.position > told:
                yield recorded


def last_event_id(call: Call) -> int | None:
    """The position that a reader who comes back has seen; None for one that comes for the first time.

    Raises:
        MalformedHeaderError: no stream ever gave such an id.
    """
    told = call.request.headers.get("last-event-id", "")
    if not told:
        return None
    if not told.isascii() or not told.isdecimal() or int(told) > MAX_POSITION:
        raise MalformedHeaderError("Last-Event-ID: the id of an event of this stream, a whole number.")
    return int(told)


def stream(call: Call, events: AsyncGenerator[tuple[int | None, str, Any]]) -> Response:
    """Answer with a stream of events, each an id (or None), a name and a document."""
    return EventSourceResponse(
        _encoded(events), ping=call.parts.heartbeat_s, send_timeout=SEND_TIMEOUT_S, headers={"X-Accel-Buffering": "no"}
    )


async def _encoded(events: AsyncGenerator[tuple[int | None, str, Any]]) -> AsyncIterator[ServerSentEvent]:
    # The heading at once: a client knows that it is heard before anything happens.
    yield ServerSentEvent(comment="listening", retry=1000)
    try:
        async with aclosing(events):
            async for position, name, document in events:
                yield ServerSentEvent(
                    _encode(document).decode(), event=name, id=None if position is None else str(position), sep="\n"
                )
    except (EventLogError, BusyStreamError) as error:
        # The log is away, or does not take the record of what would be shown: the client comes back where it was.
        _log.warning("stream_ended_early", error=str(error))
