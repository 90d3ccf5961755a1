"""As of when a read asks: a position, a time or the name of a replay, from its query or its header."""

import re
from datetime import UTC, datetime

from starlette.datastructures import Headers

from command_bus.audit.records import ask
from gateways.rest.errors import (
    FieldError,
    InvalidRequestError,
    MalformedHeaderError,
    NotOfPastError,
    PositionAheadError,
)
from gateways.rest.parts import ApiParts
from gateways.rest.route import CONNECTION_S, MAX_POSITION, Query, Route
from projections.replays import position_named
from projections.times import position_at

HEADER = "Fleetlog-At"
_POSITION = re.compile(r"[0-9]{1,16}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d")
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
SAID = "a position of the log, a time as 2026-05-01T18:00:00Z, or the name of a replay."


async def position_asked_for(parts: ApiParts, route: Route, query: Query, headers: Headers) -> int | None:
    """The position as of which a request asks; None where it asks for what is now.

    Raises:
        NotOfPastError: the route is about now.
        InvalidRequestError, MalformedHeaderError: it is none of the three.
        PositionAheadError: the log is not there yet.
        UnknownReplayError: there is no replay of that name.
    """
    asked: str | None = getattr(query, "at", None)
    told = headers.get(HEADER)
    if asked is None and told is None:
        return None
    if not route.of_past:
        raise NotOfPastError
    if told is not None and parsed(told) is None:
        raise MalformedHeaderError(f"{HEADER}: {SAID}")
    wanted = parsed(asked if asked is not None else told or "")
    if wanted is None:
        raise InvalidRequestError(errors=[FieldError("?at", f"It is {SAID}", "at")])
    return await resolved(parts, wanted)


async def resolved(parts: ApiParts, wanted: int | datetime | str) -> int:
    """The position that a position, a moment or a replay's name stands for.

    Raises:
        PositionAheadError: the log is not there yet.
        UnknownReplayError: there is no replay of that name.
    """
    if isinstance(wanted, int):
        if wanted > await parts.log.head():
            raise PositionAheadError
        return wanted
    if isinstance(wanted, datetime):
        return await ask(lambda: parts.pool.connection(timeout=CONNECTION_S), position_at(wanted))
    async with parts.pool.connection(timeout=CONNECTION_S) as connection:
        return await position_named(connection, wanted)


def parsed(text: str) -> int | datetime | str | None:
    """What a text says: a position, a moment, a name; None if none of them, as a time without its zone."""
    if _POSITION.fullmatch(text) and int(text) <= MAX_POSITION:
        return int(text)
    if _NAME.fullmatch(text):
        return text
    if not _TIME.match(text):
        return None
    try:
        # A "+" that somebody did not encode in a query is a space by now.
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except OverflowError:  # at the ends of all time, and a zone beyond
        return _FIRST if text < "5" else _LAST
    except ValueError:
        return None
