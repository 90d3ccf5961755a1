"""A page of a few events, as they come while people work: one statement reads it, and one writes all that comes of it.

The statement advances the tracking rows from where the page before left them, and undoes itself where they do not stand
there, are stopped, or where a row is not as it must be: whatever is unusual is then found by the way that pages take
otherwise (paging.py).
"""

import time
from collections.abc import Sequence
from typing import Self

import msgspec
import psycopg
import structlog
from prometheus_client import Counter

from domain.event import Recorded
from projections import tracking
from projections.projection import Part, Projection, type_of
from projections.reading import Bad, decode_page
from schema.reading import read_page

_log = structlog.get_logger()
LEFT = Counter(
    "fleetlog_small_pages_left",
    "Pages of a few events that could not be folded by one statement, and were folded as others are.",
    ["error"],
)
EVENTS = 64
"""The most in a small page."""
BELIEVED_S = 1.0
"""After that the tracking rows are looked at: a projection that was stopped may go on, or another be remade."""


class Stand(msgspec.Struct, frozen=True):
    """Where some projections stand, all of them that are going."""

    position: int
    projections: tuple[Projection, ...]
    until: float
    """By the monotonic clock."""

    @classmethod
    def of(cls, projections: Sequence[Projection], position: int) -> Self:
        return cls(position, tuple(projections), time.monotonic() + BELIEVED_S)


class Small(msgspec.Struct, frozen=True):
    """What a small page came to."""

    events: int
    stand: Stand


def fold_small(connection: psycopg.Connection, stand: Stand) -> Small | None:
    """Fold the next events, if they are few and nothing about them is unusual.

    Args:
        connection: of the application's role, in autocommit mode.
        stand: where the projections were left.

    Returns:
        None where the page has to be folded as others are; nothing is changed then.
    """
    if time.monotonic() > stand.until:
        return None
    with connection.cursor(binary=True) as cursor:
        rows = read_page(cursor, stand.position, EVENTS + 1)
        if not rows:
            return Small(0, stand)
        if len(rows) > EVENTS:
            return None
        types = frozenset[str]().union(*(projection.types for projection in stand.projections))
        page = decode_page(cursor, stand.position, rows, types)
        last = page.positions[-1]
        tracked = {projection.name: projection.digest for projection in stand.projections}
        try:
            parts = _parts(stand.projections, page.items)
            if parts is None:
                return None
            tracking.advance_with(cursor, tracked, stand.position, last, parts)
        except (psycopg.OperationalError, psycopg.InterfaceError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other way meets it too, and finds out whose it is
            LEFT.labels(type(error).__name__).inc()
            _log.warning("small_page_left", after=stand.position, upto=last, error=f"{type(error).__name__}: {error}")
            return None
    return Small(len(page.positions), msgspec.structs.replace(stand, position=last))


def _parts(projections: Sequence[Projection], items: Sequence[Recorded | Bad]) -> list[Part] | None:
    parts: list[Part] = []
    good = [item for item in items if not isinstance(item, Bad)]
    if len(good) < len(items):
        return None
    kinds = {type_of(item.topic) for item in good}
    for projection in projections:
        if projection.types.isdisjoint(kinds):
            continue
        found = projection.parts_beside("went", good, {})
        if found is None:
            return None
        parts += found
    return parts
