"""Waits until projections have come to a position, so that a client sees its own writes."""

import asyncio
from collections.abc import Collection

import msgspec
import psycopg
import structlog

from projections import tracking
from projections.catalog import ALL_PROJECTIONS
from projections.errors import PositionTimeoutError, UnknownProjectionError
from projections.pages import Connection

_log = structlog.get_logger(__name__)

POLL_S = 0.5
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
_INLINE = frozenset(projection.name for projection in ALL_PROJECTIONS if projection.inline)
_NAMES = frozenset(projection.name for projection in ALL_PROJECTIONS)
_decode = msgspec.json.Decoder(dict[str, int]).decode


class PositionWaiter:
    """Listens to the projector for all who wait in this process, over one connection.

    What the projector says is a hint: while anybody waits, the tracking rows are read twice a second besides.

    Args:
        conninfo: as the application connects.
        poll_s: how often.
    """

    def __init__(self, conninfo: str, *, poll_s: float = POLL_S) -> None:
        self._conninfo = conninfo
        self._poll_s = poll_s
        self._positions: dict[str, int] = {}
        self._waiting: dict[asyncio.Future[None], tuple[int, frozenset[str]]] = {}
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen; returns once the database has answered."""
        self._task = asyncio.create_task(self._run(), name="position-waiter")
        listening = asyncio.create_task(self._listening.wait())
        await asyncio.wait({listening, self._task}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Stop listening; who still waits will time out."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._listening.clear()

    async def wait(self, position: int, names: Collection[str], timeout_s: float) -> None:
        """Return once all of these projections have folded the log up to a position.

        Args:
            position: that a write returned.
            names: of projections; inline ones are there at commit, so they are not waited for.
            timeout_s: how long at most.

        Raises:
            PositionTimeoutError: at least one did not come so far in time.
            UnknownProjectionError: there is no projection of such a name.
        """
        unknown = frozenset(names) - _NAMES
        if unknown:
            raise UnknownProjectionError(f"There is no projection {', '.join(sorted(unknown))}.")
        wanted = frozenset(names) - _INLINE
        if self._reached(position, wanted):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = (position, wanted)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            behind = sorted(name for name in wanted if self._positions.get(name, 0) < position)
            raise PositionTimeoutError(
                f"{', '.join(behind)} did not reach position {position} within {timeout_s} s."
            ) from None
        finally:
            self._waiting.pop(future, None)

    def position(self, name: str) -> int:
        """How far a following projection is known to be."""
        return self._positions.get(name, 0)

    def _reached(self, position: int, names: Collection[str]) -> bool:
        return all(self._positions.get(name, 0) >= position for name in names)

    def _learn(self, positions: dict[str, int]) -> None:
        self._positions.update(positions)
        for future, (position, names) in self._waiting.items():
            if not future.done() and self._reached(position, names):
                future.set_result(None)

    async def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True) as connection:
                    await connection.execute("LISTEN fleetlog_projected")
                    wait_s = FIRST_WAIT_S
                    await self._poll(connection)
                    self._listening.set()
                    await self._listen(connection)
            except psycopg.OperationalError as error:
                _log.warning("position_waiter_waits_for_database", error=str(error).strip(), wait_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _listen(self, connection: Connection) -> None:
        while True:
            async for notification in connection.notifies(timeout=self._poll_s):
                self._learn(_decode(notification.payload))
            # Also where nobody waits: a connection that is lost is then found before somebody does.
            await self._poll(connection)

    async def _poll(self, connection: Connection) -> None:
        tracked = await tracking.read_positions(connection)
        self._learn({name: row.position for name, row in tracked.items()})
