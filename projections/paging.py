"""One page of the log, folded into the projections that stand where it begins.

Exactly once: the tracking rows of these projections are locked before the page is chosen and advanced in the
transaction that writes the rows. A second projector, or one that lost its connection at commit and does not know what
became of it, finds the rows advanced or not advanced, and goes on from there.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from domain.catalog import topic_of
from domain.event import Recorded
from projections import tracking
from projections.garbage import no_collection
from projections.projection import Cursor, Projection, type_of
from projections.reading import Bad, Page, ReadAhead, decode_page
from projections.small_pages import Stand, fold_small
from schema.reading import END, read_page

HEAVY_ROWS = 5_000
"""A projection that a page's lists alone give so many rows is left behind by the others: see aside.py."""
# What passes by itself: lost connections, shutdowns, deadlocks, lock timeouts, full disks. Never the event's fault.
PASSING = (psycopg.OperationalError, psycopg.InterfaceError)


class Stop(msgspec.Struct, frozen=True):
    """A projection met an event that it cannot fold."""

    projection: str
    position: int
    topic: str
    error: str


class Folded(msgspec.Struct, frozen=True):
    """What one page came to."""

    events: int
    """How many were read; 0 when there was nothing new."""
    position: int
    full: bool
    """There may be more."""
    stops: tuple[Stop, ...] = ()
    left: tuple[Projection, ...] = ()
    """Those that were left behind, since the page is much for them; they may be folded by themselves."""
    stand: Stand | None = None
    """Where all that are going stand, if that is one place: the next page may then be a small one."""


NOTHING = Folded(0, 0, full=False)
Fold = Callable[[Cursor, Sequence[Projection], Page], list[Stop]]


def fold_page(
    connection: psycopg.Connection,
    projections: Sequence[Projection],
    page_size: int,
    ahead: ReadAhead | None = None,
    stand: Stand | None = None,
    *,
    apart: bool = False,
) -> Folded:
    """Fold one page, in one transaction, into those of the projections that are furthest behind.

    Args:
        connection: of the application's role, in autocommit mode.
        projections: that follow the log.
        page_size: at most so many events.
        ahead: reads the next full page meanwhile.
        stand: what the page before said, if nothing else was done since.
        apart: leave behind those for whom the page is much; the caller has somebody else fold it into them.
    """
    with no_collection():
        if stand is not None and (after := fold_small(connection, stand)) is not None:
            return Folded(after.events, after.stand.position, full=False, stand=after.stand)
        try:
            return _fold_page(connection, projections, page_size, ahead, _fold_all, apart=apart)
        except PASSING:
            raise
        except Exception:  # noqa: BLE001 - rolled back as a whole; whose fault it is, is found with savepoints
            return _fold_page(connection, projections, page_size, None, _fold_each, apart=apart)


def _fold_page(
    connection: psycopg.Connection,
    projections: Sequence[Projection],
    page_size: int,
    ahead: ReadAhead | None,
    fold: Fold,
    *,
    apart: bool,
) -> Folded:
    with connection.transaction(), connection.cursor(binary=True) as cursor:
        # The tables first: see projections/rebuild.py.
        tables = [Identifier(table.name) for projection in projections for table in projection.tables]
        cursor.execute(SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(SQL(", ").join(tables)))
        tracked = tracking.lock(cursor, [projection.name for projection in projections])
        going = [
            (tracked[projection.name].position, projection)
            for projection in projections
            if projection.name in tracked
            and not tracked[projection.name].stopped
            and tracked[projection.name].digest == projection.digest
        ]
        if not going:
            return NOTHING
        after = min(position for position, _ in going)
        here = [projection for position, projection in going if position == after]
        # No further than where the next ones stand, so that all of them go on together from there.
        upto = min((position for position, _ in going if position > after), default=END)
        page = _page(cursor, here, after, page_size, upto, ahead)
        if not page.positions:
            if upto != END:
                tracking.advance(cursor, [projection.name for projection in here], upto)
            return Folded(0, after, full=upto != END, stand=Stand.of(here, after) if upto == END else None)
        heavy = _heavy(here, page) if apart else ()
        if len(heavy) == len(going):  # nobody waits for the others
            heavy = ()
        light = [projection for projection in here if projection not in heavy]
        if not light:
            return Folded(0, after, full=True, left=heavy)
        full = len(page.positions) == page_size
        if ahead is not None and full and upto == END:
            ahead.begin(page.positions[-1], page_size)
        folded = _write(cursor, fold(cursor, light, page), light, page, full=full or upto != END)
        return msgspec.structs.replace(folded, left=heavy, full=True, stand=None) if heavy else folded


def _heavy(here: Sequence[Projection], page: Page) -> tuple[Projection, ...]:
    """Those to whom the page gives long lists."""
    lists = {topic_of(kind) for projection in here for kind in projection.lists}
    listed: Counter[str] = Counter()
    for item in page.items:
        if item.topic in lists and not isinstance(item, Bad):
            listed[item.topic] += len(item.event.entries)  # type: ignore[attr-defined]  # by `Projection.lists`
    if not listed:
        return ()
    return tuple(one for one in here if sum(listed[topic_of(kind)] for kind in one.lists) >= HEAVY_ROWS)


def _page(
    cursor: Cursor, here: Sequence[Projection], after: int, page_size: int, upto: int, ahead: ReadAhead | None
) -> Page:
    page = ahead.take(after, page_size) if ahead is not None and upto == END else None
    if page is not None:
        return page
    types = frozenset[str]().union(*(projection.types for projection in here))
    return decode_page(cursor, after, read_page(cursor, after, page_size, upto), types)


def _write(cursor: Cursor, stops: Sequence[Stop], here: Sequence[Projection], page: Page, *, full: bool) -> Folded:
    last = page.positions[-1]
    stopped = {stop.projection for stop in stops}
    reached = {projection.name: last for projection in here if projection.name not in stopped}
    if not stops:
        tracking.advance_and_tell(cursor, list(reached), last)
        return Folded(len(page.positions), last, full=full, stand=None if full else Stand.of(here, last))
    if reached:
        tracking.advance(cursor, list(reached), last)
    for stop in stops:
        before = max((position for position in page.positions if position < stop.position), default=page.after)
        tracking.stop(
            cursor,
            stop.projection,
            position=before,
            error=stop.error,
            topic=stop.topic,
            error_position=stop.position,
        )
        reached[stop.projection] = before
    tracking.notify(cursor, reached)
    return Folded(len(page.positions), last, full=full, stops=tuple(stops))


def _fold_all(cursor: Cursor, here: Sequence[Projection], page: Page) -> list[Stop]:
    """Fold without a savepoint, since nearly every page is good; raises whatever a projection has against it."""
    stops = []
    for projection, (good, bad) in zip(here, _sorted(here, page.items), strict=True):
        if good:
            projection.apply(cursor, good)
        if bad is not None:
            stops.append(Stop(projection.name, bad.position, bad.topic, bad.error))
    return stops


def _fold_each(cursor: Cursor, here: Sequence[Projection], page: Page) -> list[Stop]:
    """Fold as far as each projection can, whatever another has against the page."""
    stops = []
    for projection, (good, bad) in zip(here, _sorted(here, page.items), strict=True):
        found = _first_refused(cursor, projection, good)
        if found is None and bad is not None:
            found = Stop(projection.name, bad.position, bad.topic, bad.error)
        if found is not None:
            stops.append(found)
    return stops


def _sorted(here: Sequence[Projection], items: Sequence[Recorded | Bad]) -> list[tuple[list[Recorded], Bad | None]]:
    """For each projection its events, up to the first of its types that cannot be read, and that one."""
    goods: list[list[Recorded]] = [[] for _ in here]
    bads: list[Bad | None] = [None] * len(here)
    takers: dict[str, list[int]] = {}
    for item in items:
        topic = item.topic
        wanting = takers.get(topic)
        if wanting is None:
            name = type_of(topic)
            wanting = takers[topic] = [
                i for i, projection in enumerate(here) if name in projection.types and bads[i] is None
            ]
        if isinstance(item, Bad):
            for i in wanting:
                bads[i] = item
            takers.clear()
        else:
            for i in wanting:
                goods[i].append(item)
    return list(zip(goods, bads, strict=True))


def _first_refused(cursor: Cursor, projection: Projection, good: Sequence[Recorded]) -> Stop | None:
    """Fold, each part in a savepoint, up to the event that is refused, by halving; those before it stay folded."""
    if not good:
        return None
    try:
        with cursor.connection.transaction():
            projection.apply(cursor, good)
    except PASSING:
        raise
    except Exception as error:  # noqa: BLE001 - recorded for the administrator, and the projection stops here
        if len(good) == 1:
            return Stop(projection.name, good[0].position, good[0].topic, f"{type(error).__name__}: {error}")
        half = len(good) // 2
        found = _first_refused(cursor, projection, good[:half])
        return found if found is not None else _first_refused(cursor, projection, good[half:])
    return None
