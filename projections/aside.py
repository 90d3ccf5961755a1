"""What is much for one projection, folded by itself, so that those who wait for the others do not wait for it.

A list of a hundred thousand agents takes seconds to fold; a command that somebody else gives meanwhile is in the log
behind it, and is read back from other tables. Each projection has its own tracking row, so nothing changes about
exactly once: this is one more connection that folds, of projections that the projector leaves alone meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import structlog

from projections.paging import PASSING, Folded, fold_page
from projections.projection import Projection
from projections.settings import prepare

REST_S = 10.0
"""After it broke off the projector folds everything itself for so long."""

_log = structlog.get_logger(__name__)


class Aside:
    """Folds some projections until they have caught up, in a thread of its own.

    Args:
        conninfo: as the application connects.
        page_size: events per transaction.
        report: what is told of each page.
    """

    def __init__(self, conninfo: str, page_size: int, report: Callable[[Folded], None]) -> None:
        self._conninfo = conninfo
        self._page_size = page_size
        self._report = report
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._rests_until = 0.0
        self.projections: tuple[Projection, ...] = ()
        """Those that it has in hand."""

    @property
    def ready(self) -> bool:
        """Whether it may be given something; not for a while after it broke off."""
        return not self.projections and time.monotonic() >= self._rests_until

    def begin(self, projections: Sequence[Projection]) -> None:
        """Take these in hand; it must have none."""
        self.projections = tuple(projections)
        self._ending.clear()
        self._thread = threading.Thread(target=self._run, name="projector-aside", daemon=True)
        self._thread.start()

    def given_back(self) -> bool:
        """Whether what it had in hand has caught up; it has nothing in hand then.

        Raises:
            Exception: what ended it, if that is a fault of the program.
        """
        if self._thread is None or self._thread.is_alive():
            return False
        self.end()
        return True

    def end(self) -> None:
        """End after the page under way; what is left is for whoever folds next.

        Raises:
            Exception: as above.
        """
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._thread, self.projections = None, ()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _run(self) -> None:
        try:
            with psycopg.connect(self._conninfo, autocommit=True) as connection:
                prepare(connection)
                while not self._ending.is_set():
                    folded = fold_page(connection, self.projections, self._page_size)
                    self._report(folded)
                    if not folded.full:
                        return
        except PASSING as error:  # the projector meets it too, or goes on from where this came to
            self._rests_until = time.monotonic() + REST_S
            _log.warning("projection_aside_broke_off", error=str(error).strip())
        except Exception as error:  # noqa: BLE001 - a thread has no caller: `end` raises it
            self._failure = error
