"""A follower of the log: a thread with a connection of its own, of which one leads in the whole platform."""

import asyncio
import threading
from typing import Any, LiteralString

import psycopg
import structlog

from schema.archive import ArchiveDamagedError

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
STANDBY_S = 1.0
WATCH_S = 1.0
PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,  # not migrated yet
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UniqueViolation,  # another led meanwhile, and was faster
    ArchiveDamagedError,  # until its file is back
    OSError,
)
"""What may be mended from outside: all is read anew, and tried again."""
_LOCK: LiteralString = "SELECT pg_try_advisory_lock(%s)"

Connection = psycopg.Connection[Any]

_log = structlog.get_logger(__name__)


class Leading:
    """Does its work while it holds a lock; whoever comes second stands by. Subclasses say what the work is.

    The lock ends with the connection that holds it, so a leader that dies is replaced at once.

    Args:
        conninfo: as the application connects.
        name: of the thread, and in the log.
        lock_key: of the advisory lock.
    """

    def __init__(self, conninfo: str, name: str, lock_key: int) -> None:
        self._conninfo = conninfo
        self._name = name
        self._lock_key = lock_key
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.state = "stopped"
        """``stopped``, ``waiting`` (for what is not in order), ``standby`` (another leads) or ``running``."""
        self.failure: Exception | None = None
        """What ended it, if anything but `stop` did; that is a fault of the program."""

    async def start(self) -> None:
        """Begin; waits for nothing."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish what is under way and end."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def wait(self) -> None:
        """Raise what ended it, if anything but `stop` does."""
        while self.failure is None:  # noqa: ASYNC110 - it is set by a thread that knows no loop
            await asyncio.sleep(WATCH_S)
        raise self.failure

    def lead(self, connection: Connection) -> None:
        """Begin anew: whatever was known is to be read again."""
        raise NotImplementedError

    def step(self, connection: Connection) -> float:
        """Do a piece of the work.

        Returns:
            How many seconds to rest before the next; 0 goes on at once.
        """
        raise NotImplementedError

    # -- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        try:
            while not self._stopping.is_set():
                self.state = "waiting"
                try:
                    with psycopg.connect(self._conninfo, autocommit=True) as connection:
                        if self._won(connection):
                            self.lead(connection)
                            self.state = "running"
                            _log.info("leads", part=self._name)
                            wait_s = FIRST_WAIT_S
                            self._work(connection)
                except PASSING as error:
                    _log.warning("waits", part=self._name, error=str(error).strip(), wait_s=wait_s)
                    self.state = "waiting"
                    self._stopping.wait(wait_s)
                    wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        except Exception as error:  # noqa: BLE001 - a thread has no caller: the owner finds it in `failure`
            self.failure = error
            _log.exception("failed", part=self._name)
        finally:
            self.state = "stopped"

    def _won(self, connection: Connection) -> bool:
        while not self._stopping.is_set():
            if connection.execute(_LOCK, [self._lock_key]).fetchone() == (True,):
                return True
            self.state = "standby"
            self._stopping.wait(STANDBY_S)
        return False

    def _work(self, connection: Connection) -> None:
        while not self._stopping.is_set():
            if rest_s := self.step(connection):
                self._stopping.wait(rest_s)
