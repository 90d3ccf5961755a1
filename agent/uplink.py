"""What the agent says: hellos, facts, starts, and results, kept until the server has them on disk (invariant 6).

A result's way: its large outputs first (offered by hash, so that nothing is sent twice), then the report; the answer to
that means "committed". Until it comes, everything is repeated with jittered back-off, and at once when the server is
heard again. The server de-duplicates by (command, attempt), so repeating does no harm.
"""

import asyncio
import contextlib
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from agent import VERSION
from agent.checks import Checks
from agent.clock import ServerClock
from agent.errors import JournalFullError, LaterError, LinkError
from agent.journal import Ended, Journal, Key
from agent.link import Backoff, Link
from agent.outputs import chunks, spool_path
from agent.steps import Steps
from agent.telemetry import SAMPLE_EVERY_S, Telemetry
from agent.threads import OneThread, in_thread
from schema import software, trust, wire
from schema.checks import CheckReport
from schema.software import SoftwareList

log = logging.getLogger("fleetlog.agent.uplink")

_SENDERS = 8
"""Results on their way at once: enough for the server to commit them together."""
_FACTS_EVERY_S = 300.0
_SOFTWARE_EVERY_S = 3600.0
_SOFTWARE_FIRST_S = 40.0
"""After the start: a machine that comes up has other things to do, and so has the server when many do."""
_FACTS_NOTE = "facts_sha256"
_SOFTWARE_NOTE = "software_sha256"
_CLOCK_NOTE = "clock_offset_s"
_GREETING_RESTS_S = 2.0
"""A hello that a message from the server asks for waits so long after the one before: anybody at the broker can ask."""


class Uplink:
    """Reports to the server.

    Args:
        link: the way there.
        journal: where results wait.
        disk: the journal's thread.
        spool_dir: where large outputs wait.
        clock: learns the server's time from hellos.
        boot_id: of this boot.
        hello_interval_s: between hellos, until the server says otherwise.
        gather_facts: what the machine is; blocks.
        gather_software: what is installed on it; blocks.
        free_lanes: how many more lanes could be busy.
        on_held: told what the server takes to be here.
        trusts: which authorities are trusted, see `trust.trust_digest`.
        on_trust: told whom to trust from now on.
        server_keys: the server's delivery keys that are accepted, raw.
        on_server_keys: told how to come to those that are in use; says whether others are accepted now.
        telemetry: how busy the machine is.
        checks: what is measured.
        steps: see `agent.steps`.
        uniform: randomness, as `random.uniform`.
    """

    def __init__(
        self,
        link: Link,
        journal: Journal,
        disk: OneThread,
        spool_dir: Path,
        clock: ServerClock,
        *,
        boot_id: str,
        hello_interval_s: float,
        gather_facts: Callable[[], dict[str, Any]],
        gather_software: Callable[[], SoftwareList],
        free_lanes: Callable[[], int],
        on_held: Callable[[wire.Held], Awaitable[None]],
        trusts: Callable[[], str],
        on_trust: Callable[[trust.Trust], None],
        server_keys: Callable[[], list[bytes]],
        on_server_keys: Callable[[trust.ServerKeys], bool],
        telemetry: Telemetry,
        checks: Checks,
        steps: Steps,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._link = link
        self._journal = journal
        self._disk = disk
        self._spool_dir = spool_dir
        self._clock = clock
        self._boot_id = boot_id
        self._hello_interval_s = hello_interval_s
        self._gather = gather_facts
        self._gather_software = gather_software
        self._software_now = asyncio.Event()
        self._facts_now = asyncio.Event()
        self._free_lanes = free_lanes
        self._on_held = on_held
        self._trusts = trusts
        self._on_trust = on_trust
        self._server_keys = server_keys
        self._on_server_keys = on_server_keys
        self._greeted_at = -_GREETING_RESTS_S
        self._telemetry = telemetry
        self._checks = checks
        self._steps = steps
        self._uniform = uniform
        # Holds keys of journal entries only, so the journal's bound on open entries is its bound too.
        self._queue: asyncio.Queue[Key] = asyncio.Queue()
        self._sending = 0
        self._refused = asyncio.Event()
        self._check_changed = asyncio.Event()
        self._heard = asyncio.Event()
        self._say_hello = asyncio.Event()

    # -- told from outside ---------------------------------------------------------------------------------------

    def connected(self) -> None:
        """A session came up."""
        self._say_hello.set()

    def hello_soon(self) -> None:
        """There is something to hear from the server."""
        if time.monotonic() - self._greeted_at >= _GREETING_RESTS_S:
            self._say_hello.set()

    def ended(self, key: Key) -> None:
        """A result is in the journal."""
        self._queue.put_nowait(key)

    def refused(self) -> None:
        """A report of what was refused is in the journal."""
        self._refused.set()

    def check_changed(self) -> None:
        """A report of what a check found is in the journal."""
        self._check_changed.set()

    async def tell_started(self, report: wire.StartedReport) -> None:
        """Report a start until it is acknowledged or of no interest; cancelled when the work ends."""

        async def once() -> None:
            await self._ask("started", report)

        await self._until_heard("started", once)

    async def live(self, command_id: UUID, data: bytes) -> None:
        """Send live output, which may be lost."""
        await self._link.live(command_id, data)

    async def report_facts(self) -> dict[str, Any]:
        """Gather the facts and report them if they differ from what the server has; return them."""
        facts = await in_thread(self._gather)
        digest = hashlib.sha256(msgspec.msgpack.encode(facts, order="deterministic")).hexdigest()
        await self._tell("facts", _FACTS_NOTE, digest, wire.FactsReport(facts=facts))
        return facts

    async def report_software(self) -> None:
        """Look what is installed, and report it if it differs from what the server has."""
        found = await in_thread(self._gather_software)
        await self._tell(
            "software",
            _SOFTWARE_NOTE,
            software.digest(found),
            wire.SoftwareReport(packed=software.fitted(found, wire.MAX_SOFTWARE_BYTES)),
        )

    def look_again(self) -> None:
        """What is installed, and what the machine waits for, may be another now."""
        self._facts_now.set()
        self._software_now.set()

    async def gather_facts(self) -> dict[str, Any]:
        """The facts, reported if that can be done now; the timer reports them otherwise. Software follows."""
        self._software_now.set()
        try:
            return await self.report_facts()
        except LinkError:
            return await in_thread(self._gather)

    async def ask(self, kind: str, message: wire.Uplink) -> wire.UplinkReply:
        """Say something once, and return the server's answer.

        Raises:
            LinkError: there is none, or it is to be asked again later.
        """
        return await self._ask(kind, message)

    # -- the loops -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Speak until cancelled."""
        for key in await self._disk.call(self._journal.ended):
            self._queue.put_nowait(key)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hellos())
            tasks.create_task(self._facts())
            tasks.create_task(self._software())
            tasks.create_task(self._looks())
            tasks.create_task(self._refusals())
            tasks.create_task(self._check_reports())
            for _ in range(_SENDERS):
                tasks.create_task(self._sender())

    async def flush(self, timeout_s: float) -> None:
        """Give results that wait a moment to get away; what does not stays in the journal."""
        deadline = time.monotonic() + timeout_s
        while (self._queue.qsize() or self._sending) and self._link.transport and time.monotonic() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)

    async def _hellos(self) -> None:
        backoff = Backoff(first_s=1.0, most_s=30.0, uniform=self._uniform)
        while True:
            await self._link.wait_up()
            self._say_hello.clear()
            try:
                await self._hello()
            except LinkError as error:
                log.info("hello was not answered: %s", error)
                wait_s = self._pause_s(error, backoff)
            else:
                backoff.reset()
                wait_s = self._hello_interval_s * self._uniform(0.9, 1.1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._say_hello.wait()

    async def _looks(self) -> None:
        """In a loop of its own: a disk that does not answer keeps no hello waiting."""
        while True:
            await asyncio.sleep(SAMPLE_EVERY_S * self._uniform(0.9, 1.1))
            await in_thread(self._telemetry.look)

    async def _hello(self) -> None:
        counts = await self._disk.call(self._journal.counts)
        samples, values = self._telemetry.waiting(), self._checks.values()
        hello = wire.Hello(
            agent_version=VERSION,
            boot_id=self._boot_id,
            sent_at=self._clock.now(),
            open_commands=counts["accepted"] + counts["running"],
            free_lanes=self._free_lanes(),
            trusts=self._trusts(),
            server_keys=self._server_keys(),
            samples=samples,
            checks=self._checks.digest,
            check_values=values,
        )
        self._greeted_at = time.monotonic()
        asked = time.monotonic()
        reply = await self._ask("hello", hello)
        if isinstance(reply, wire.Refused):
            raise LinkError(f"{reply.code}: {reply.detail}")
        self._telemetry.heard(samples)
        self._checks.heard(values)
        if isinstance(reply, wire.HelloReply):
            self._clock.heard(reply.server_time, time.monotonic() - asked)
            self._hello_interval_s = max(1.0, reply.hello_interval_s)
            await self._note(_CLOCK_NOTE, repr(self._clock.offset_s))
            if reply.repeat and reply.repeat_since is not None:
                await self._repeat(reply.repeat, reply.repeat_since)
            if reply.server_keys is not None and self._on_server_keys(reply.server_keys):
                # What it knows now it says at once: somebody may wait for just that to end an old key.
                self._say_hello.set()
            if reply.trust is not None:
                self._on_trust(reply.trust)
            if reply.held is not None:
                await self._on_held(reply.held)
            if reply.checks is not None:
                await self._checks.take(reply.checks)
            # The server listens: whoever waits to repeat something need not wait longer.
            self._heard.set()
            self._heard = asyncio.Event()

    async def _repeat(self, occasion: str, since: datetime) -> None:
        """The server has lost what it had acknowledged since a moment; what the machine is may be part of it."""
        try:
            keys = await self._disk.call(self._journal.repeat, occasion, since, (_FACTS_NOTE, _SOFTWARE_NOTE))
        except JournalFullError as error:
            log.warning("cannot repeat results yet, at the next hello again: %s", error)
            return
        await self._checks.read_standings()
        if keys:
            log.warning("the server was restored from a backup: %d results are sent once more", len(keys))
        for key in keys:
            self._queue.put_nowait(key)

    async def _tell(self, kind: str, note: str, digest: str, message: wire.Uplink) -> None:
        """Say something if it is not what was last acknowledged."""
        if (await self._disk.call(self._journal.notes)).get(note) != digest:
            reply = await self._ask(kind, message)
            if isinstance(reply, wire.Acknowledged):
                await self._note(note, digest)

    async def _note(self, name: str, value: str) -> None:
        """Keep a small fact; one that the disk has no room for is worked out anew after the next start."""
        try:
            await self._disk.call(self._journal.note, name, value)
        except JournalFullError as error:
            log.warning("cannot note %s: %s", name, error)

    async def _facts(self) -> None:
        while True:
            self._facts_now.clear()
            await self._until_heard("facts", self.report_facts)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FACTS_EVERY_S * self._uniform(0.9, 1.1)):
                    await self._facts_now.wait()

    async def _software(self) -> None:
        wait_s = _SOFTWARE_FIRST_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s * self._uniform(0.5, 1.5)):
                    await self._software_now.wait()
            self._software_now.clear()
            await self._until_heard("software", self.report_software)
            wait_s = _SOFTWARE_EVERY_S

    async def _sender(self) -> None:
        while True:
            key = await self._queue.get()
            self._sending += 1
            try:
                await self._until_heard("result", lambda key=key: self._send(key))  # type: ignore[misc]  # mypy loses the default's type
            finally:
                self._sending -= 1

    async def _until_heard(self, what: str, attempt: Callable[[], Awaitable[object]]) -> None:
        """Try until there is an answer: after a growing pause, or as soon as the server is heard again."""
        backoff = Backoff(first_s=0.5, most_s=30.0, uniform=self._uniform)
        while True:
            await self._link.wait_up()
            heard = self._heard
            try:
                await attempt()
            except LinkError as error:
                pause_s = self._pause_s(error, backoff)
                log.info("%s not heard, again in %.1f s: %s", what, pause_s, error)
                if isinstance(error, LaterError) and error.full:
                    await asyncio.sleep(pause_s)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await heard.wait()
            else:
                return

    def _pause_s(self, error: LinkError, backoff: Backoff) -> float:
        """Growing and jittered, and never less than the server asks for."""
        pause_s = backoff.next_s()
        if isinstance(error, LaterError) and error.again_s is not None:
            pause_s = max(pause_s, error.again_s * self._uniform(1.0, 1.5))
        return pause_s

    # -- what was refused ----------------------------------------------------------------------------------------

    async def _refusals(self) -> None:
        """One after the other, so that the server knows one that is said again by the last that it heard."""
        while True:
            self._refused.clear()
            while (report := await self._disk.call(self._journal.refusals.oldest)) is not None:
                await self._until_heard("refusal", lambda report=report: self._send_refusal(report))  # type: ignore[misc]  # as above
            await self._refused.wait()

    async def _send_refusal(self, report: wire.RefusalReport) -> None:
        reply = await self._ask("refusal", report)
        if isinstance(reply, wire.Refused):
            log.error("the server refused the report of a refusal for good: %s: %s", reply.code, reply.detail)
        try:
            await self._disk.call(self._journal.refusals.forget, report)
        except JournalFullError as error:
            raise LinkError(f"its acknowledgement cannot be kept: {error}") from error

    # -- what checks found ---------------------------------------------------------------------------------------

    async def _check_reports(self) -> None:
        """One after the other, so that the server hears of each check's changes in their order."""
        while True:
            self._check_changed.clear()
            while (report := await self._disk.call(self._journal.checks.oldest)) is not None:
                await self._until_heard("check", lambda report=report: self._send_check(report))  # type: ignore[misc]  # as above
            await self._check_changed.wait()

    async def _send_check(self, report: CheckReport) -> None:
        reply = await self._ask("check", report)
        if isinstance(reply, wire.Refused):
            log.error("the server refused what a check found for good: %s: %s", reply.code, reply.detail)
        self._steps("check_sent")
        try:
            await self._disk.call(self._journal.checks.forget, report)
        except JournalFullError as error:
            raise LinkError(f"its acknowledgement cannot be kept: {error}") from error

    # -- results -------------------------------------------------------------------------------------------------

    async def _send(self, key: Key) -> None:
        ended = await self._disk.call(self._journal.result, key)
        if ended is None:
            return
        await self._send_outputs(ended)
        reply = await self._ask("result", ended.result)
        if isinstance(reply, wire.Refused):
            log.error("the server refused the result of %s for good: %s: %s", key, reply.code, reply.detail)
        self._steps("sent")
        try:
            await self._disk.call(self._journal.acknowledge, key, self._clock.now())
        except JournalFullError as error:
            # Said again, it does no harm; as it stands it would be said again after every start.
            raise LinkError(f"its acknowledgement cannot be kept: {error}") from error
        for stream in ("stdout", "stderr"):
            spool_path(self._spool_dir, key, stream).unlink(missing_ok=True)
        self._steps("acknowledged")

    async def _send_outputs(self, ended: Ended) -> None:
        for stream, report, spooled in (
            ("stdout", ended.result.stdout, ended.stdout_spool),
            ("stderr", ended.result.stderr, ended.stderr_spool),
        ):
            if spooled:
                await self._send_output(ended.key, spool_path(self._spool_dir, ended.key, stream), report)

    async def _send_output(self, key: Key, path: Path, report: wire.StreamReport) -> None:
        """Send a large output; where the server refuses it for good, the report has its end at least."""
        wanted = await self._ask("offer", wire.OutputOffer(sha256=report.sha256, size=report.size))
        if not isinstance(wanted, wire.OutputWanted):
            log.error("the server refused an output of %s: %s", key, wanted)
            return
        if wanted.from_chunk < 0:
            return
        pieces = chunks(path, wanted.from_chunk)
        while True:
            try:
                piece = await in_thread(lambda: next(pieces, None))
            except FileNotFoundError:
                log.error("the output of %s is gone from %s", key, path)  # noqa: TRY400 - the path says it all
                return
            if piece is None:
                return
            index, data = piece
            reply = await self._ask(
                "chunk",
                wire.OutputChunk(
                    command_id=key.command_id,
                    attempt=key.attempt,
                    sha256=report.sha256,
                    size=report.size,
                    index=index,
                    data=data,
                ),
            )
            if isinstance(reply, wire.Refused):
                log.error("the server refused an output of %s: %s: %s", key, reply.code, reply.detail)
                return

    async def _ask(self, kind: str, message: wire.Uplink) -> wire.UplinkReply:
        """The server's answer, if it is one for good.

        Raises:
            LinkError: there is no answer, or it is to be asked again later.
        """
        data = await self._link.request(kind, wire.encode(message))
        try:
            reply: wire.UplinkReply = wire.decode_uplink_reply(data)
        except msgspec.MsgspecError as error:
            raise LinkError(f"The answer to {kind} makes no sense: {error}") from error
        if isinstance(reply, wire.Refused) and not reply.permanent:
            detail = f"{reply.code}: {reply.detail}"
            raise LaterError(detail, reply.retry_after_s, full=reply.code in wire.FULL_CODES)
        return reply


def noted_offset_s(notes: dict[str, str]) -> float:
    """How far the server's clock was ahead when it was last heard."""
    try:
        return float(notes[_CLOCK_NOTE])
    except (KeyError, ValueError):
        return 0.0
