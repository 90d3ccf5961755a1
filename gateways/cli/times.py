"""Times and spans as people type them."""

import re
from datetime import datetime, timedelta

from gateways.cli.errors import BadValueError

_UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(\d+)\s*(s|m|min|h|d|w)?", re.IGNORECASE)


def span(text: str) -> timedelta:
    """How long: ``90``, ``90s``, ``15m``, ``2h``, ``7d``, ``1w``.

    Raises:
        BadValueError: it is none of these.
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise BadValueError(f"{text!r} is no span of time; write 90s, 15m, 2h, 7d or 1w.")
    try:
        return timedelta(seconds=int(match[1]) * _UNITS_S[(match[2] or "s").lower()])
    except OverflowError:
        raise BadValueError(f"{text!r} is too long a time.") from None


def seconds(text: str) -> int:
    """A span in whole seconds."""
    return int(span(text).total_seconds())


def point(text: str, now: datetime, *, past: bool = False) -> datetime:
    """When: a time as ``2026-05-01T18:00`` (in this machine's zone unless it names one), or a span from now.

    Args:
        text: what was typed.
        now: with its zone.
        past: a span counts backwards, for ``--since 2h``.

    Raises:
        BadValueError: it is neither.
    """
    try:
        if _SPAN.fullmatch(text.strip()):
            return now - span(text) if past else now + span(text)
        moment = datetime.fromisoformat(text.strip())
        return moment if moment.tzinfo is not None else moment.astimezone()
    except OverflowError:
        raise BadValueError(f"{text!r} is too far from now.") from None
    except ValueError:
        raise BadValueError(f"{text!r} is no time; write 2026-05-01T18:00, or a span such as 2h.") from None
