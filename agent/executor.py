"""Does what the journal says is to be done: starts attempts as the lanes allow, and writes down what came of each."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import msgspec

from agent import patching
from agent.clock import ServerClock
from agent.errors import JournalFullError, StateDamagedError, WorkRefusedError
from agent.journal import Journal, Key, Leftover, Waiting
from agent.lanes import Lanes
from agent.live import LiveOutput
from agent.opening import Opened, Opener
from agent.outputs import Digest, OnOutput
from agent.platforms import restarting
from agent.processes import end_tree
from agent.runner import Ran, Runner, Stop
from agent.steps import Steps
from agent.threads import OneThread, in_thread
from schema import wire
from schema.patches import InstallWork, PatchReport, RebootWork

log = logging.getLogger("fleetlog.agent.executor")

_WHY_CHARACTERS = 500
_STARTED_AFTER_S = 0.2
"""Work that is still running then is reported as started; the result of anything shorter says it all."""


class Reports(Protocol):
    """What the executor tells the uplink."""

    def ended(self, key: Key) -> None:
        """A result is in the journal."""

    async def tell_started(self, report: wire.StartedReport) -> None:
        """Report a start until it is acknowledged; cancelled when the work ends."""

    async def live(self, command_id: UUID, data: bytes) -> None:
        """Send live output, which may be lost."""


class Executor:
    """Runs what waits.

    Args:
        journal: the truth of what is to be done.
        disk: the journal's thread.
        lanes: the order of it.
        runner: runs scripts.
        opener: opens what is sealed for this agent.
        clock: the server's time.
        boot_id: of this boot.
        reports: is told of starts, output and endings.
        gather_facts: for the command that asks for them; they are reported by the time it returns.
        rotate_key: makes another key and sees to it; returns its public half.
        look_again: told that what is installed may be another now, and whether the machine waits for a restart.
        files: where small files of running work lie.
        steps: see `agent.steps`.
        disk_retry_s: how long to wait before a full disk is tried again.
        restart_takes_s: a machine that is still there so long after it was told to restart does not.
    """

    def __init__(
        self,
        journal: Journal,
        disk: OneThread,
        lanes: Lanes,
        runner: Runner,
        opener: Opener,
        clock: ServerClock,
        *,
        boot_id: str,
        reports: Reports,
        gather_facts: Callable[[], Awaitable[dict[str, Any]]],
        rotate_key: Callable[[], str],
        look_again: Callable[[], None],
        files: Path,
        steps: Steps,
        disk_retry_s: float = 5.0,
        restart_takes_s: float = patching.RESTART_TAKES_S,
    ) -> None:
        self._journal = journal
        self._disk = disk
        self._lanes = lanes
        self._runner = runner
        self._opener = opener
        self._clock = clock
        self._boot_id = boot_id
        self._reports = reports
        self._gather_facts = gather_facts
        self._rotate_key = rotate_key
        self._look_again = look_again
        self._files = files
        self._restart_takes_s = restart_takes_s
        self._steps = steps
        self._disk_retry_s = disk_retry_s
        self._stops: dict[Key, asyncio.Future[Stop]] = {}
        self._live: dict[UUID, LiveOutput] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._closed = asyncio.Event()

    # -- told from outside ---------------------------------------------------------------------------------------

    def accepted(self, waiting: Sequence[Waiting]) -> None:
        """These wait now."""
        self._lanes.add(waiting)
        self._wake.set()

    def cancel(self, command_id: UUID) -> None:
        """A tombstone is in the journal: drop what waits, end what runs."""
        for key, stop in self._stops.items():
            if key.command_id == command_id and not stop.done():
                stop.set_result(Stop.CANCELLED)
        self._lanes.drop_command(command_id)

    def watched(self, command_id: UUID) -> bool:
        """Somebody watches a command's output; False if it does not run here just now."""
        live = self._live.get(command_id)
        if live is not None:
            live.watched()
        return live is not None

    async def recover(self) -> None:
        """Settle what was running when the agent died, before anything else runs (invariant 3).

        Its processes are ended, its script is removed, and its outcome is ``interrupted``.
        """
        for left in await self._disk.call(self._journal.leftovers):
            # What it was about may have been installing: what is true now is to be known.
            self._look_again()
            if left.rebooting:
                await self._recover_restart(left)
                continue
            same_boot = left.boot_id == self._boot_id
            pid = left.pid if same_boot else None
            ended = await asyncio.to_thread(end_tree, left.key, pid, left.pid_started)
            log.warning("recovering command_id=%s attempt=%d processes_ended=%d", *_pair(left.key), ended)
            streams = await asyncio.to_thread(self._runner.recovered, left.key)
            now = self._clock.now()
            ran = Ran(
                outcome="interrupted",
                exit_code=None,
                duration_ms=max(0, round((now - left.started_at).total_seconds() * 1000)),
                stdout=streams[0][0],
                stderr=streams[1][0],
                stdout_spool=streams[0][1],
                stderr_spool=streams[1][1],
                detail=f"the {'agent was killed' if same_boot else 'machine restarted'} while it ran",
            )
            await self._write(_ran_report(left.key, ran, left.started_at, now), ran)
        await asyncio.to_thread(self._runner.sweep)
        self.accepted(await self._disk.call(self._journal.waiting))

    async def _recover_restart(self, left: Leftover) -> None:
        """The machine was told to restart, or was just about to be. It is not told again, whatever became of that."""
        if left.boot_id != self._boot_id:
            now = self._clock.now()
            took_ms = max(0, round((now - left.started_at).total_seconds() * 1000))
            report = _report(
                left.key,
                "succeeded",
                started_at=left.started_at,
                finished_at=now,
                duration_ms=took_ms,
                detail="the machine has restarted",
            )
            await self._write(report)
            return
        waiting = Waiting(key=left.key, lane=left.lane, priority=0, position=0, expires_at=left.started_at)
        self._lanes.occupy(waiting)
        self._tasks.add(asyncio.create_task(self._until_down(waiting, left.started_at)))

    async def _until_down(self, attempt: Waiting, started_at: datetime) -> None:
        """The agent was killed in the moment of telling: either the machine goes down now, or it was not told."""
        try:
            await self._stays_up()
            if not self._closing:
                why = "the agent was killed as it told the machine to restart, and the machine did not"
                await self._write(_report(attempt.key, "interrupted", started_at=started_at, detail=why))
        finally:
            self._lanes.done(attempt)
            self._wake.set()

    # -- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start attempts as they may start, until cancelled or closed."""
        while not self._closing:
            self._wake.clear()
            for key in self._lanes.expired(self._clock.now()):
                await self._write(_report(key, "expired", detail="it expired while it waited on the machine"))
            while not self._closing and (attempt := self._lanes.take()) is not None:
                task = asyncio.create_task(self._attempt(attempt), name=f"attempt {attempt.key}")
                self._tasks.add(task)
            expiry = self._lanes.next_expiry()
            wait_s = None if expiry is None else max(0.05, (expiry - self._clock.now()).total_seconds())
            # Checked once a minute besides: the server's time may turn out to be later than it was taken for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s is None else min(wait_s, 60.0)):
                    await self._wake.wait()
            self._reap()

    def _reap(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            task.result()

    async def close(self, grace_s: float) -> None:
        """Start nothing more; give what runs a moment, then end it as ``interrupted``, journaled."""
        self._closing = True
        self._wake.set()
        self._closed.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for stop in self._stops.values():
            if not stop.done():
                stop.set_result(Stop.INTERRUPTED)
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._reap()

    async def _attempt(self, attempt: Waiting) -> None:
        key = attempt.key
        stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        # There before the journal says "running": from then on a cancellation finds whom to tell.
        self._stops[key] = stop
        again = False
        try:
            order = await self._disk.call(self._journal.order, key)
            if order is not None:
                await self._do(order, key, stop)
        except JournalFullError as error:
            log.warning("cannot start command_id=%s attempt=%d: %s", *_pair(key), error)
            await asyncio.sleep(self._disk_retry_s)
            again = True
        except StateDamagedError as error:
            log.exception("cannot read command_id=%s attempt=%d", *_pair(key))
            await self._write(_report(key, "rejected", detail=str(error), code=error.code))
        finally:
            del self._stops[key]
            self._lanes.done(attempt)
            if again:
                self._lanes.add([attempt])
            self._wake.set()

    async def _do(self, order: wire.Order, key: Key, stop: "asyncio.Future[Stop]") -> None:
        now = self._clock.now()
        if order.expires_at <= now:
            await self._write(_report(key, "expired", detail="it expired while it waited on the machine"))
            return
        try:
            opened = self._opener.open(order)
        except WorkRefusedError as error:
            # It was accepted by an agent that knew it: this one is older, or the disk has altered it.
            log.exception("cannot read what to do command_id=%s attempt=%d", *_pair(key))
            await self._write(_report(key, "rejected", detail=str(error), code=error.code))
            return
        log.info("begins command_id=%s attempt=%d correlation_id=%s", *_pair(key), order.correlation_id)
        match opened.work:
            case wire.PingWork():
                await self._write(_report(key, "succeeded", started_at=now, finished_at=now))
            case wire.FactsWork():
                digest = Digest()
                digest.update(msgspec.json.format(msgspec.json.encode(await self._gather_facts()), indent=2))
                finished = self._clock.now()
                await self._write(
                    _report(key, "succeeded", started_at=now, finished_at=finished, stdout=digest.report())
                )
            case wire.RotateKeyWork():
                detail = f"the next key is {self._rotate_key()}; it takes over with the next connection"
                await self._write(_report(key, "succeeded", started_at=now, finished_at=now, detail=detail))
            case RebootWork():
                await self._restart(key, opened.work, now, stop)
            case _:
                await self._carry_out(key, opened, now, stop)

    async def _program(
        self, key: Key, opened: Opened, stop: "asyncio.Future[Stop]", on_output: OnOutput
    ) -> tuple[Ran, PatchReport | None]:
        """What takes a program of its own."""

        def spawned(pid: int, pid_started: float | None) -> Coroutine[Any, Any, None]:
            return self._spawned(key, pid, pid_started)

        work = opened.work
        if not isinstance(work, InstallWork):
            return await self._runner.run(key, opened, stop=stop, on_spawned=spawned, on_output=on_output), None
        done = await patching.install(
            self._runner, key, work, self._files, stop=stop, on_spawned=spawned, on_output=on_output
        )
        self._look_again()
        return done

    async def _carry_out(self, key: Key, opened: Opened, now: datetime, stop: "asyncio.Future[Stop]") -> None:
        if self._closing or not await self._disk.call(self._journal.start, key, self._boot_id, now):
            return
        self._steps("marked_running")
        if stop.done():
            outcome = stop.result().value
            await self._write(_report(key, outcome, detail="ended before it began"))
            return
        live = self._live[key.command_id] = LiveOutput(key, self._reports.live)
        beside = [
            asyncio.create_task(live.run()),
            asyncio.create_task(self._tell_started(key, now)),
        ]
        try:
            ran, patched = await self._program(key, opened, stop, live.on_output)
        except WorkRefusedError as error:
            await self._write(_report(key, "rejected", detail=str(error), code=error.code))
            return
        finally:
            del self._live[key.command_id]
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        self._steps("exited")
        await live.flush()
        report = _ran_report(key, ran, now, self._clock.now())
        await self._write(msgspec.structs.replace(report, patched=patched) if patched is not None else report, ran)

    async def _restart(self, key: Key, work: RebootWork, now: datetime, stop: "asyncio.Future[Stop]") -> None:
        """Have the machine restarted, once: that it is told to is on disk before it is; its next boot settles it.

        Until then it may be cancelled, and an agent that is killed has not told it.
        """
        if self._closing or not await self._disk.call(self._journal.start, key, self._boot_id, now):
            return
        self._steps("marked_running")
        telling = asyncio.create_task(self._tell_started(key, now))
        try:
            if (stopped := await patching.give_notice(work, stop)) is not None:
                await self._write(_report(key, stopped.value, started_at=now, detail="the machine was not restarted"))
                return
            await self._disk.call(self._journal.rebooting, key)
            self._steps("rebooting")
            why = await in_thread(restarting.restart)
            self._steps("restart_told")
            if not why:
                await self._stays_up()
                why = "the machine was told to restart, and did not"
            if not self._closing:
                await self._write(
                    _report(key, "failed", started_at=now, finished_at=self._clock.now(), detail=why[:_WHY_CHARACTERS])
                )
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _stays_up(self) -> None:
        """Wait for the machine to go down, which ends this program; what cancels comes too late for that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._restart_takes_s):
                await self._closed.wait()

    async def _spawned(self, key: Key, pid: int, pid_started: float | None) -> None:
        self._steps("spawned")
        with contextlib.suppress(JournalFullError):  # the marker in its environment finds it too
            await self._disk.call(self._journal.spawned, key, pid, pid_started)

    async def _tell_started(self, key: Key, now: datetime) -> None:
        await asyncio.sleep(_STARTED_AFTER_S)
        await self._reports.tell_started(
            wire.StartedReport(command_id=key.command_id, attempt=key.attempt, started_at=now)
        )

    async def _write(self, report: wire.ResultReport, ran: Ran | None = None) -> None:
        """Put a result on disk, however long the disk is full: it is not said before it is there."""
        while True:
            try:
                await self._disk.call(
                    self._journal.end,
                    report,
                    stdout_spool=ran is not None and ran.stdout_spool,
                    stderr_spool=ran is not None and ran.stderr_spool,
                )
                break
            except JournalFullError as error:
                log.warning("cannot keep the result of command_id=%s yet: %s", report.command_id, error)
                await asyncio.sleep(self._disk_retry_s)
        log.info("ended command_id=%s attempt=%d outcome=%s", report.command_id, report.attempt, report.outcome)
        key = Key(report.command_id, report.attempt)
        self._steps("ended")
        self._reports.ended(key)


def _pair(key: Key) -> tuple[UUID, int]:
    return key.command_id, key.attempt


def _report(key: Key, outcome: str, **fields: Any) -> wire.ResultReport:
    return wire.ResultReport(command_id=key.command_id, attempt=key.attempt, outcome=outcome, **fields)


def _ran_report(key: Key, ran: Ran, started_at: datetime, finished_at: datetime) -> wire.ResultReport:
    return _report(
        key,
        ran.outcome,
        exit_code=ran.exit_code,
        started_at=started_at,
        finished_at=finished_at,
        duration_ms=ran.duration_ms,
        stdout=ran.stdout,
        stderr=ran.stderr,
        detail=ran.detail,
    )
