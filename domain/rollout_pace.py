"""How fast a rollout goes, and when it will be over."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from domain.rollout_terms import Limits, Wave

RECENT = timedelta(minutes=5)
"""What ended within that time says how fast it goes now."""
LEAST = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def recent_since(started_at: datetime, until: datetime) -> datetime:
    """From when on endings count as recent, as seen at ``until``."""
    return max(started_at, until - RECENT)


def per_minute(ended: int, started_at: datetime, until: datetime) -> float:
    """Agents a minute, of which ``ended`` have ended since `recent_since`."""
    return ended * (MINUTE / max(LEAST, until - recent_since(started_at, until)))


def estimated_end(
    at: datetime,
    *,
    waiting: int,
    given: int,
    rate: float,
    limits: Limits,
    waves: Sequence[Wave],
    open_until: datetime | None = None,
) -> datetime | None:
    """When all will have ended if it goes on as it does.

    Args:
        at: now.
        waiting: agents without a command yet.
        given: agents whose command has not ended.
        rate: agents that end in a minute.
        limits: of the rollout.
        waves: those after which another one has yet to begin.
        open_until: more agents may come until then.

    Returns:
        None where nobody can say: nothing ends, or a wave waits for a person.
    """
    earliest = max(at, open_until or at)
    if not waiting and not given:
        return earliest
    if rate <= 0 or any(wave.manual for wave in waves):
        return None
    minutes = (waiting + given) / rate
    if limits.per_minute is not None:
        minutes = max(minutes, waiting / limits.per_minute)
    try:
        return max(earliest, at + minutes * MINUTE + timedelta(seconds=sum(wave.pause_s for wave in waves)))
    except OverflowError:
        return None
