"""Measures what the server asks for, again and again, and tells when what is measured means something else.

The list is on disk before it counts, so measuring goes on while the server is away, and from the first moment after a
start. How a check stands is on disk, too: a start tells nothing anew. A change and its report are written in one
transaction, and the report goes the way that results go (`agent.uplink`). Time between measurements is counted by a
clock that nobody can set.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import assert_never
from uuid import UUID

import msgspec

from agent import measuring
from agent.errors import JournalFullError, WorkRefusedError
from agent.identity import Identity
from agent.journal import Journal, Key
from agent.judging import Standing, judged
from agent.kept_checks import KeptList
from agent.measuring import UNKNOWN, Found
from agent.opening import Opened
from agent.outputs import spool_path
from agent.processes import end_tree
from agent.refusals import Refusals
from agent.runner import Ran, Runner, Stop
from agent.threads import OneThread, in_thread
from schema import checks, wire

log = logging.getLogger("fleetlog.agent.checks")

AT_ONCE = 4
"""Measurements under way."""
SCRIPTS_AT_ONCE = 2
HANGS_AFTER_S = 60.0
"""A measurement that takes longer than this, and than its own time limit, says that it cannot be had."""
MOST_CHANGES, FLAPPING_S = 6, 600.0
"""A check that changes more often than so within the time is told of no further, until there is room again."""
MAX_OUTPUT_BYTES = 64 * 1024
RUN = 0
"""Stands where commands have their attempt, so that what a check's script leaves running is found by its id."""
DISK_RETRY_S = 5.0
FIRST_S = 5.0
"""Within so long of a start, or of the list, each check is measured for the first time."""


class Checks:
    """All checks of this agent.

    Args:
        identity: whose list to take, and whose signature to trust.
        journal: where the list, the standings and the reports are.
        disk: the journal's thread.
        runner: runs scripts, with little room for what they print.
        spool_dir: where that lies meanwhile.
        now: the server's time.
        refusals: notes a list that is not taken.
        on_report: told that there is a report to send.
        uniform: randomness, as `random.uniform`.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        journal: Journal,
        disk: OneThread,
        runner: Runner,
        spool_dir: Path,
        *,
        now: Callable[[], datetime],
        refusals: Refusals,
        on_report: Callable[[], None],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._identity = identity
        self._journal = journal
        self._disk = disk
        self._runner = runner
        self._spool_dir = spool_dir
        self._now = now
        self._refusals = refusals
        self._on_report = on_report
        self._uniform = uniform
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._scripts_at_once = asyncio.Semaphore(SCRIPTS_AT_ONCE)
        self._taking = asyncio.Lock()
        self._made_at: datetime | None = None
        self._standings: dict[UUID, Standing] = {}
        self._given: dict[UUID, checks.GivenCheck] = {}
        self._loops: dict[UUID, asyncio.Task[None]] = {}
        self._values: dict[UUID, checks.CheckValue] = {}
        self._changed = asyncio.Event()
        self.digest = checks.NO_CHECKS
        """Of the list that counts."""

    # -- the list ------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up the list and the standings of before; end what a check's script left running."""
        kept = await self._disk.call(self._journal.checks.given)
        if kept is not None:
            body = checks.decode_list(kept.body)
            self._made_at, self.digest = kept.made_at, body.digest
            self._given = {one.check_id: one for one in body.checks}
            self._standings = await self._disk.call(self._journal.checks.standings)
            for check_id in self._given:
                await asyncio.to_thread(end_tree, Key(check_id, RUN), None, None)

    async def take(self, told: checks.CheckList) -> None:
        """Another list, if the server signed it for this agent and none later was taken."""
        async with self._taking:
            if not self._identity().verifies(told.signature, checks.CHECKS_CONTEXT, told.body):
                log.error("refused a list of checks that the server has not signed")
                await self._refusals.refused("checks", "bad_signature", "The signature is not the server's.")
                return
            try:
                body = checks.decode_list(told.body)
            except msgspec.MsgspecError as error:
                log.warning("cannot read the list of checks: %s", error)
                return
            if body.agent_id != self._identity().agent_id:
                log.error("refused the list of checks of another agent agent_id=%s", body.agent_id)
                await self._refusals.refused("checks", "wrong_agent", "It was signed for another agent.")
                return
            if self._made_at is not None and body.made_at <= self._made_at:
                log.error("refused a list of checks that is no later than the one that counts")
                await self._refusals.refused("checks", "replayed", "A later one was taken before.")
                return
            given = {one.check_id: one for one in body.checks}
            # What is measured otherwise from now on says nothing of what was measured before.
            stays = {one for one in given if one in self._given and given[one].what == self._given[one].what}
            try:
                await self._disk.call(self._journal.checks.take, KeptList(told.body, body.made_at), stays)
            except JournalFullError as error:
                log.warning("cannot keep the list of checks, at the next hello again: %s", error)
                return
            self._made_at, self.digest = body.made_at, body.digest
            self._standings = {one: standing for one, standing in self._standings.items() if one in stays}
            self._values = {one: value for one, value in self._values.items() if one in given}
            await self._end([one for one in self._loops if given.get(one) != self._given.get(one)])
            self._given = given
            log.info("measures checks=%d", len(given))
            self._changed.set()

    async def read_standings(self) -> None:
        """As the journal has them: where the server has lost what it was told, nothing counts any more."""
        self._standings = await self._disk.call(self._journal.checks.standings)

    def values(self) -> list[checks.CheckValue]:
        """What was measured since the server heard of it, the last of each check."""
        return list(self._values.values())[: checks.MAX_VALUES]

    def heard(self, values: list[checks.CheckValue]) -> None:
        """The server has these."""
        for one in values:
            if self._values.get(one.check_id) is one:
                del self._values[one.check_id]

    # -- the loops -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._changed.clear()
                for check_id, given in self._given.items():
                    if check_id not in self._loops:
                        self._loops[check_id] = asyncio.create_task(self._again_and_again(given), name="check")
                await self._changed.wait()
        finally:
            await self._end(list(self._loops))

    async def _end(self, check_ids: list[UUID]) -> None:
        ending = [self._loops.pop(one) for one in check_ids]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _again_and_again(self, given: checks.GivenCheck) -> None:
        measure = self._measure_of(given)
        changes: deque[float] = deque(maxlen=MOST_CHANGES)
        # Not all machines of a fleet, nor all checks of a machine, in the same second.
        await asyncio.sleep(self._uniform(0.0, min(FIRST_S, given.interval_s)))
        due = time.monotonic()
        while True:
            async with self._at_once:
                found = await measure()
            await self._found(given, found, changes)
            # A machine that slept, or a measurement that took long, is made up for by none.
            due = max(due + given.interval_s, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _measure_of(self, given: checks.GivenCheck) -> Callable[[], Awaitable[Found]]:
        try:
            what = checks.decode_measure(given.what)
            match what:
                case checks.DiskMeasure():
                    return _Hanging(partial(measuring.disk, what), HANGS_AFTER_S)
                case checks.LoadMeasure():
                    return _Hanging(measuring.Load(what), HANGS_AFTER_S)
                case checks.ServiceMeasure():
                    return _Hanging(partial(measuring.service, what), HANGS_AFTER_S)
                case checks.ReachMeasure():
                    return _Hanging(partial(measuring.reach, what), HANGS_AFTER_S + what.timeout_s)
                case checks.ScriptMeasure():
                    work = msgspec.msgpack.decode(what.work, type=wire.ScriptWork)
                    return partial(self._run_script, given, what, work)
                case never:
                    assert_never(never)
        except msgspec.MsgspecError as error:
            why = f"this agent does not know that kind of check; update it ({error})"
            return partial(_says, Found(state=UNKNOWN, detail=why))

    async def _run_script(self, given: checks.GivenCheck, what: checks.ScriptMeasure, work: wire.ScriptWork) -> Found:
        key = Key(given.check_id, RUN)
        stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        async with self._scripts_at_once:
            try:
                self._runner.check(Opened(work))
                ran = await self._runner.run(
                    key, Opened(work), stop=stop, on_spawned=_not_noted, on_output=lambda *_: None
                )
            except WorkRefusedError as error:
                return Found(state=UNKNOWN, detail=str(error))
            finally:
                for stream in ("stdout", "stderr"):
                    spool_path(self._spool_dir, key, stream).unlink(missing_ok=True)
        return _of_run(what, ran)

    # -- what it comes to ----------------------------------------------------------------------------------------

    async def _found(self, given: checks.GivenCheck, found: Found, changes: deque[float]) -> None:
        at = self._now()
        detail = _line(found.detail)
        self._values[given.check_id] = checks.CheckValue(
            check_id=given.check_id, at=at, state=found.state, value=found.value, detail=detail
        )
        before = self._standings.get(given.check_id, Standing())
        after = judged(before, found.state, at, failures=given.failures, recoveries=given.recoveries)
        if after == before:
            return
        if after.state == before.state or after.state is None:
            self._standings[given.check_id] = after
            with contextlib.suppress(JournalFullError):  # a measurement of many; the next one says it again
                await self._disk.call(self._journal.checks.stand, given.check_id, after)
            return
        now = time.monotonic()
        if len(changes) == MOST_CHANGES and now - changes[0] < FLAPPING_S:
            # It stays as it was told last; what it is once there is room again is told then.
            log.info("changes too often check=%s", given.check_id)
            return
        changes.append(now)
        if len(changes) == MOST_CHANGES and now - changes[0] < FLAPPING_S:
            detail = _line(f"it changes often, and is not told of for a while; {detail}")
        report = checks.CheckReport(
            number=0,
            check_id=given.check_id,
            revision=given.revision,
            state=after.state,
            since=after.since or at,
            value=found.value,
            unit=found.unit,
            detail=detail,
        )
        while True:
            try:
                await self._disk.call(self._journal.checks.change, after, report)
                break
            except JournalFullError as error:
                log.warning("cannot keep what a check found yet: %s", error)
                await asyncio.sleep(DISK_RETRY_S)
        self._standings[given.check_id] = after
        log.info("check=%s is %s", given.check_id, after.state)
        self._on_report()


class _Hanging:
    """A measurement in a thread: while one hangs, no other is begun.

    Args:
        measure: blocks.
        patience_s: how long it may.
    """

    def __init__(self, measure: Callable[[], Found], patience_s: float) -> None:
        self._measure = measure
        self._patience_s = patience_s
        self._hanging: asyncio.Future[Found] | None = None

    async def __call__(self) -> Found:
        # Whoever hung before has had its time: others wait for their turn.
        patience_s = self._patience_s if self._hanging is None else 0.0
        if self._hanging is None:
            self._hanging = in_thread(self._measure)
        await asyncio.wait({self._hanging}, timeout=patience_s)
        if not self._hanging.done():
            return Found(state=UNKNOWN, detail=f"it hangs: no answer in {self._patience_s:.0f} s")
        done, self._hanging = self._hanging, None
        try:
            return done.result()
        except Exception as error:  # noqa: BLE001 - what a system may answer is nothing to end all checks for
            log.warning("a measurement failed: %r", error)
            return Found(state=UNKNOWN, detail=f"it cannot be measured: {error}")


def _of_run(what: checks.ScriptMeasure, ran: Ran) -> Found:
    said = (ran.stdout.tail or ran.stderr.tail).decode(errors="replace").strip().rpartition("\n")[2]
    if ran.outcome not in ("succeeded", "failed") or ran.exit_code is None:
        return Found(state=what.otherwise, detail=ran.detail)
    code = float(ran.exit_code)
    state = (
        "passing"
        if ran.exit_code == 0
        else "info"
        if ran.exit_code in what.info_codes
        else "warning"
        if ran.exit_code in what.warning_codes
        else what.otherwise
    )
    return Found(state=state, value=code, unit="exit code", detail=said or ran.detail)


def _line(text: str) -> str:
    """One line of printable text."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * checks.MAX_DETAIL])
    return " ".join(shown.split())[: checks.MAX_DETAIL]


async def _says(found: Found) -> Found:
    return found


async def _not_noted(_pid: int, _started: float | None) -> None:
    """The marker in its environment finds it after a crash."""
