"""What came in the server's name and is not done: told to the server, whoever keeps the answers to it back.

Who alters orders on their way can swallow the answer to them, too. So a report of each is on disk before that answer is
given, and goes to the server as results go: until it is answered for good (`agent.uplink`).

Somebody who forges one order can forge very many. So the first few of a minute are reported one by one, and what comes
beyond by its number at the minute's end; the journal keeps so many reports and no more. What is only counted is lost
if the agent dies within the minute.
"""

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from agent.errors import JournalFullError
from agent.journal import Journal
from agent.reading import Named
from agent.threads import OneThread
from schema import wire

log = logging.getLogger("fleetlog.agent.refusals")

SINGLY = 10
"""So many of a minute are reported one by one."""
WINDOW_S = 60.0
MAX_SUSPECTS = 20
"""Keys that are not known here and that nothing is reported of yet: the server has no more of its own."""
MAX_SEEN = 256
"""Deliveries that are known again."""


class Suspect(msgspec.Struct):
    """A key that is not known here, and what came under it."""

    since: float
    what: str
    named: list[Named]
    count: int


class Refusals:
    """Notes what was refused.

    Args:
        journal: where reports wait.
        disk: the journal's thread.
        run: names this run of the program.
        knows: whether a key that a message names counts here by now.
        now: the server's time.
        on_kept: told that there is a report to send.
        window_s: the minute.
    """

    def __init__(
        self,
        journal: Journal,
        disk: OneThread,
        run: str,
        *,
        knows: Callable[[bytes], bool],
        now: Callable[[], datetime],
        on_kept: Callable[[], None],
        window_s: float = WINDOW_S,
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._run = run
        self._knows = knows
        self._now = now
        self._on_kept = on_kept
        self._window_s = window_s
        self._singly = 0
        self._more: Counter[tuple[str, str]] = Counter()
        """By what it was and why it was refused, how many were not reported yet."""
        self._suspects: OrderedDict[bytes, Suspect] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def seen(self, signature: bytes) -> bool:
        """Whether this very delivery came before: the server signs each anew, also one that repeats another.

        Args:
            signature: of a delivery that the server did sign.
        """
        known = signature in self._seen
        self._seen[signature] = None
        self._seen.move_to_end(signature)
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return known

    async def refused(
        self, what: str, code: str, detail: str, named: Sequence[wire.Order | Named] = (), key: bytes = b""
    ) -> None:
        """Something was refused for good.

        Args:
            what: ``delivery``, ``cancel`` or ``held``.
            code: why, as `wire.RefusalReport` has it.
            detail: the same in words.
            named: the orders in it; each counts by itself.
            key: how it named the key that it is signed with.
        """
        for one in named or (None,):
            report = wire.RefusalReport(
                run=self._run,
                number=0,
                at=self._now(),
                what=what,
                code=code,
                detail=detail,
                command_id=one.command_id if one is not None else None,
                attempt=one.attempt if one is not None else 0,
                key=key,
            )
            self._singly += 1
            if self._singly > SINGLY or not await self._keep(report):
                self._more[what, code] += 1

    def suspect(self, what: str, key: bytes, named: Sequence[wire.Order | Named] = ()) -> None:
        """Something is signed by a key that is not known here. The server may have another by now, and then says so.

        Args:
            what: as above.
            key: how it named the key.
            named: the orders in it.
        """
        suspect = self._suspects.get(key)
        if suspect is not None:
            suspect.count += max(1, len(named))
        elif len(self._suspects) < MAX_SUSPECTS:
            few = [Named(one.command_id, one.attempt) for one in named[:SINGLY]]
            self._suspects[key] = Suspect(time.monotonic(), what, few, max(1, len(named)))
        else:
            self._more[what, "unknown_key"] += max(1, len(named))

    async def run(self) -> None:
        """Tell at the end of each minute what was only counted in it, until cancelled."""
        while True:
            await asyncio.sleep(self._window_s)
            self._singly = 0
            await self._judge_suspects()
            await self._tell_more()

    async def _judge_suspects(self) -> None:
        """The server has had the time to name its keys: what is not of them by now is somebody else's."""
        by_now = time.monotonic() - self._window_s / 2
        for key, suspect in list(self._suspects.items()):
            if suspect.since > by_now:
                continue
            del self._suspects[key]
            if self._knows(key):
                continue
            log.error("was sent what is signed by a key that the server does not have what=%s", suspect.what)
            await self.refused(suspect.what, "unknown_key", "The server has no such key.", suspect.named, key)
            if beyond := suspect.count - max(1, len(suspect.named)):
                self._more[suspect.what, "unknown_key"] += beyond

    async def _tell_more(self) -> None:
        for (what, code), count in list(self._more.items()):
            report = wire.RefusalReport(
                run=self._run, number=0, at=self._now(), what=what, code=code, count=count, detail="Not told singly."
            )
            if not await self._keep(report):
                return
            self._more[what, code] -= count
            if not self._more[what, code]:
                del self._more[what, code]

    async def _keep(self, report: wire.RefusalReport) -> bool:
        try:
            kept = await self._disk.call(self._journal.refusals.keep, report)
        except JournalFullError as error:
            log.warning("cannot keep a report of what was refused, which is counted: %s", error)
            return False
        if kept:
            self._on_kept()
        return kept
