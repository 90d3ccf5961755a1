"""The projector: follows the log and feeds the projections. Any number may run; one works, the others stand by."""

import asyncio
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import structlog

from projections import tracking
from projections.aside import Aside
from projections.catalog import FOLLOWING
from projections.errors import ProjectionError
from projections.paging import PASSING, Folded, fold_page
from projections.projection import Projection
from projections.reading import ReadAhead
from projections.rebuild import rebuild_with
from projections.settings import prepare

_log = structlog.get_logger(__name__)

PAGE = 20_000
"""Most commands are whole within so many events, and are then written once instead of four times."""
POLL_S = 0.5
LOOK_ASIDE_S = 0.05
MANY = 200
"""Events in a page that came while the last one was folded: more are on their way."""
LONGEST_GATHER_S = 0.5
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
_LEADER = "SELECT pg_try_advisory_lock(hashtextextended('fleetlog projector', 0))"

Connection = psycopg.Connection[Any]


class Projector:
    """Folds the log into the read models until it is stopped.

    It works in a thread of its own over one connection: the fold is all computing and waiting for the server, and what
    it holds (the leader's lock, LISTEN) belongs to a connection. A NOTIFY of the log is a hint; it looks by itself
    twice a second. When the database goes away it waits, connects anew and goes on from the tracking rows.

    Args:
        conninfo: as the application connects.
        projections: what to feed.
        page_size: events per transaction.
        poll_s: how long to wait at most before looking again.
    """

    def __init__(
        self,
        conninfo: str,
        projections: Sequence[Projection] = FOLLOWING,
        *,
        page_size: int = PAGE,
        poll_s: float = POLL_S,
    ) -> None:
        self._conninfo = conninfo
        self._projections = tuple(projections)
        self._page_size = page_size
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._connected = threading.Event()
        self._wake_up: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.state = "stopped"
        """``stopped``, ``waiting`` (for the database), ``standby`` (another works), ``rebuilding`` or ``running``."""
        self.failure: Exception | None = None
        """What ended it, if anything but `stop` did; that is a fault of the program."""

    async def start(self) -> None:
        """Begin, and return once the database has answered."""
        self._stopping.clear()
        self._connected.clear()
        asleep, self._wake_up = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(asleep,), name="projector", daemon=True)
        self._thread.start()
        try:
            await asyncio.to_thread(self._connected.wait)
        except asyncio.CancelledError:  # its owner gives up before there is a database
            await self.stop()
            raise

    async def stop(self) -> None:
        """Commit the page under way and end."""
        self._stopping.set()
        self._connected.set()
        if self._thread is None or self._wake_up is None:
            return
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._wake_up.send(b"\x00")
        await asyncio.to_thread(self._thread.join)
        self._wake_up.close()
        self._thread = self._wake_up = None

    # -- in the thread -------------------------------------------------------------------------------------------

    def _run(self, asleep: socket.socket) -> None:
        wait_s = FIRST_WAIT_S
        try:
            while not self._stopping.is_set():
                self.state = "waiting"
                try:
                    with psycopg.connect(self._conninfo, autocommit=True) as connection:
                        self.state = "standby"
                        self._connected.set()
                        wait_s = FIRST_WAIT_S
                        self._work(connection, asleep)
                except PASSING as error:
                    _log.warning("projector_waits_for_database", error=str(error).strip(), wait_s=wait_s)
                    self._stopping.wait(wait_s)
                    wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        except Exception as error:  # noqa: BLE001 - a thread has no caller: the owner finds it in `failure`
            self.failure = error
            _log.exception("projector_failed")
        finally:
            self.state = "stopped"
            self._connected.set()
            asleep.close()

    def _work(self, connection: Connection, asleep: socket.socket) -> None:
        while not self._stopping.is_set():
            if connection.execute(_LEADER).fetchone() == (True,):
                break
            self._stopping.wait(self._poll_s)
        if self._stopping.is_set():
            return
        connection.execute("LISTEN fleetlog_events")
        prepare(connection)
        self._rebuild_stale(connection)
        self.state = "running"
        _log.info("projector_leads")
        types = frozenset[str]().union(*(projection.types for projection in self._projections))
        ahead = ReadAhead(self._conninfo, types)
        aside = Aside(self._conninfo, self._page_size, self._report)
        here, stand = self._projections, None
        try:
            while not self._stopping.is_set():
                if aside.given_back():
                    here, stand = self._projections, None
                began = time.monotonic()
                folded = fold_page(connection, here, self._page_size, ahead, stand, apart=aside.ready)
                stand = folded.stand
                self._report(folded)
                if folded.left:
                    aside.begin(folded.left)
                    here = tuple(one for one in here if one not in folded.left)
                if not folded.full:
                    ahead.rest()
                    if folded.events >= MANY:
                        self._gather(time.monotonic() - began)
                    self._sleep(connection, asleep, LOOK_ASIDE_S if aside.projections else self._poll_s)
        finally:
            try:
                ahead.close()
            finally:
                aside.end()

    def _rebuild_stale(self, connection: Connection) -> None:
        """Remake the tables that another version of a fold made."""
        with connection.cursor() as cursor:
            tracked = tracking.read_all(cursor)
        for projection in self._projections:
            row = tracked.get(projection.name)
            if row is None or row.digest == projection.digest:
                continue
            self.state = "rebuilding"
            _log.info("projection_is_stale", projection=projection.name)
            # A connection of its own: a rebuild changes the search path.
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as own:
                    done = rebuild_with(own, projection)
            except PASSING:
                raise
            except Exception as error:  # noqa: BLE001 - it stays stale, `status` says so, and the others go on
                _log.error("projection_rebuild_failed", projection=projection.name, error=str(error))
            else:
                _log.info("projection_rebuilt", projection=projection.name, position=done.position)

    def _report(self, folded: Folded) -> None:
        for stop in folded.stops:
            _log.error(
                "projection_stopped",
                projection=stop.projection,
                position=stop.position,
                topic=stop.topic,
                error=stop.error,
            )

    def _gather(self, took_s: float) -> None:
        """While a bulk is under way, rest for as long as its last page took.

        A command that is whole within a page is written once, and not again for each of its events; and those who do
        the work have the machine for half of the time. What people do one by one never waits for this.
        """
        self._stopping.wait(min(took_s, LONGEST_GATHER_S))

    def _sleep(self, connection: Connection, asleep: socket.socket, longest_s: float) -> None:
        """Wait for a hint, for `stop`, or until it is time to look anyway."""
        # A hint that came with the answer to a statement was read off the socket with it: nothing would wake us.
        if _heard(connection):
            return
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(asleep, selectors.EVENT_READ)
            selector.select(longest_s)
        # Take what came, so that the next wait is one; a broken connection says so here.
        _heard(connection)


def _heard(connection: Connection) -> bool:
    """Take what notifications there are; whether there were any."""
    return bool(list(connection.notifies(timeout=0)))


def _unnoted(_connection: Connection) -> None:
    """Nobody is to be told."""


def resume(conninfo: str, name: str, noted: Callable[[Connection], None] = _unnoted) -> None:
    """Let a stopped projection try again at the event where it stopped.

    Args:
        conninfo: as the application connects.
        name: which.
        noted: puts it on record, in the transaction that resumes it.

    Raises:
        ProjectionError: it is not stopped.
    """
    with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
        row = tracking.lock(cursor, [name]).get(name)
        if row is None or not row.stopped:
            raise ProjectionError(f"The projection {name!r} is not stopped.")
        tracking.resume(cursor, name)
        noted(connection)
