"""The agent as a whole: its parts put together, started in order and stopped in order."""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from agent import link_nats
from agent.checks import MAX_OUTPUT_BYTES, Checks
from agent.clock import ServerClock
from agent.errors import AgentError, AlreadyRunningError, JournalFullError, LinkError
from agent.executor import Executor
from agent.facts import gather
from agent.identity import LOCK_FILE, AgentKey, Identity, TrustRefusedError, trusting
from agent.instance import this_run
from agent.intake import Intake
from agent.journal import Journal
from agent.keyring import Keyring
from agent.lanes import Lanes
from agent.link import Link, OnRequest, Session, Timing, Way
from agent.opening import Opener
from agent.patching import RESTART_TAKES_S
from agent.platforms import PLATFORM
from agent.refusals import WINDOW_S, Refusals
from agent.regain import Regain
from agent.rotation import Rotation
from agent.runner import Runner
from agent.server_keys import ServerKeysRefusedError, following
from agent.steps import Steps, nothing
from agent.telemetry import Telemetry
from agent.threads import OneThread
from agent.uplink import Uplink, noted_offset_s
from schema import trust

log = logging.getLogger("fleetlog.agent")

STOP_GRACE_S = 10.0
_FLUSH_S = 2.0
_COMPACT_EVERY_S = 3600.0
_RESERVE_BYTES = 64 * 1024 * 1024
"""Free space below which no more orders are taken: what runs must be able to leave its output."""
LINK_NOTE = "link"


class Agent:
    """The endpoint program on one state directory.

    Args:
        state_dir: as enrollment left it.
        transport: ``auto`` (NATS, and HTTP where that cannot be had), ``nats`` or ``http``.
        timing: how patient the link is.
        steps: see `agent.steps`.
        reserve_bytes: free space below which no orders are taken.
        stop_grace_s: how long running work may go on after a stop was asked for.
        refusals_window_s: how often refused orders that were only counted are told of.
        restart_takes_s: how long a machine that was told to restart may still be there.

    Raises:
        NotEnrolledError, StateDamagedError: the state directory is of no use.
        AlreadyRunningError: another agent uses it.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        transport: str = "auto",
        timing: Timing | None = None,
        steps: Steps = nothing,
        reserve_bytes: int = _RESERVE_BYTES,
        stop_grace_s: float = STOP_GRACE_S,
        refusals_window_s: float = WINDOW_S,
        restart_takes_s: float = RESTART_TAKES_S,
    ) -> None:
        self._stop_grace_s = stop_grace_s
        self._transport = transport
        self._state_dir = state_dir
        self.identity = Identity.load(state_dir)
        lock = PLATFORM.lock(state_dir / LOCK_FILE)
        if lock is None:
            raise AlreadyRunningError(f"Another agent runs on {state_dir}.")
        # Behind the lock: what a start finds half done it ends, and one process alone may do so.
        self._keys = Keyring(state_dir)
        self._who = this_run(state_dir)
        self._reserve_bytes = reserve_bytes
        self._steps = steps
        spool_dir = state_dir / "spool"
        PLATFORM.make_private_dir(spool_dir)
        self._spool_dir = spool_dir
        self._journal = Journal(state_dir)
        self._disk = OneThread("journal")
        self._clock = ServerClock(last_offset_s=noted_offset_s(dict(self._journal.notes())))
        boot_id = PLATFORM.boot_id()
        lanes = Lanes()
        opener = Opener(self.identity.agent_id, self._keys)
        runner = Runner(PLATFORM.scripts_dir(state_dir), spool_dir)
        self._link = Link(
            self._nats_ways() if transport != "http" else [],
            Way(url=self.identity.server_url, connect=self._connect_http) if transport != "nats" else None,
            lambda data: self._intake.answer(data),  # noqa: PLW0108 - made below
            self._on_up,
            timing=timing,
        )
        self._refusals = Refusals(
            self._journal,
            self._disk,
            self._who.instance,
            knows=lambda key: self.identity.knows(key),  # noqa: PLW0108 - the identity is another one by then
            now=self._clock.now,
            on_kept=lambda: self._uplink.refused(),  # noqa: PLW0108 - made below
            window_s=refusals_window_s,
        )
        self._checks = Checks(
            lambda: self.identity,
            self._journal,
            self._disk,
            Runner(PLATFORM.scripts_dir(state_dir), spool_dir, max_output_bytes=MAX_OUTPUT_BYTES),
            spool_dir,
            now=self._clock.now,
            refusals=self._refusals,
            on_report=lambda: self._uplink.check_changed(),  # noqa: PLW0108 - made below
        )
        self._uplink = Uplink(
            self._link,
            self._journal,
            self._disk,
            spool_dir,
            self._clock,
            boot_id=boot_id,
            hello_interval_s=self.identity.hello_interval_s,
            gather_facts=gather,
            gather_software=PLATFORM.software,
            free_lanes=lambda: lanes.free,
            on_held=lambda held: self._intake.held(held),  # noqa: PLW0108 - made below
            trusts=lambda: trust.trust_digest(self.identity.server_ca, self.identity.nats_ca),
            on_trust=self._on_trust,
            server_keys=lambda: [bytes.fromhex(key.public_key) for key in self.identity.accepted],
            on_server_keys=self._on_server_keys,
            telemetry=Telemetry(self._clock.now),
            checks=self._checks,
            steps=steps,
        )
        self._rotation = Rotation(self.identity.agent_id, self._keys, self._link, self._uplink.ask, steps)
        self._regain = Regain(lambda: self.identity.server_url, self._on_whom_to_trust)
        self._executor = Executor(
            self._journal,
            self._disk,
            lanes,
            runner,
            opener,
            self._clock,
            boot_id=boot_id,
            reports=self._uplink,
            gather_facts=self._uplink.gather_facts,
            rotate_key=self._rotation.begin,
            look_again=self._uplink.look_again,
            files=PLATFORM.scripts_dir(state_dir),
            steps=steps,
            restart_takes_s=restart_takes_s,
        )
        self._intake = Intake(
            lambda: self.identity,
            self._journal,
            self._disk,
            self._clock,
            opener,
            self._refusals,
            check=runner.check,
            has_room=self._has_room,
            on_accepted=self._executor.accepted,
            on_ended=self._uplink.ended,
            on_cancel=self._executor.cancel,
            on_watch=self._executor.watched,
            on_unknown_key=self._uplink.hello_soon,
            on_checks_changed=self._uplink.hello_soon,
            who=self._who,
            steps=steps,
        )
        self._background: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set; what fails beyond repair is raised."""
        PLATFORM.leave_no_core()
        await self._executor.recover()
        await self._sweep_spool()
        await self._checks.load()
        parts = [
            asyncio.create_task(part, name=name)
            for name, part in (
                ("executor", self._executor.run()),
                ("uplink", self._uplink.run()),
                ("link", self._link.run()),
                ("rotation", self._rotation.run()),
                ("regain", self._regain.run()),
                ("refusals", self._refusals.run()),
                ("checks", self._checks.run()),
                ("compaction", self._compact()),
            )
        ]
        stopping = asyncio.create_task(stop.wait())
        log.info("running agent_id=%s server=%s", self.identity.agent_id, self.identity.server_url)
        try:
            await asyncio.wait({*parts, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                log.info("stopping")
            self._intake.close()
            await self._executor.close(self._stop_grace_s if stop.is_set() else 0.0)
            await self._uplink.flush(_FLUSH_S)
            failures = [part.exception() for part in parts if part.done() and not part.cancelled()]
        finally:
            await _end([*parts, stopping, *self._background])
            self._disk.close()
            self._journal.close()
        for failure in failures:
            if failure is not None:
                raise failure

    async def _connect_http(self, on_request: OnRequest, patience_s: int) -> Session:
        del patience_s  # a long poll has its own
        from agent import link_http  # noqa: PLC0415 - some megabytes that most agents never need

        return await self._shown(
            lambda key: link_http.connect(self.identity, key, self._clock, on_request, self._on_nats, who=self._who)
        )

    def _nats_ways(self) -> list[Way]:
        return [Way(url=url, connect=partial(self._connect_nats, url)) for url in self.identity.nats_urls]

    async def _connect_nats(self, url: str, on_request: OnRequest, patience_s: int) -> Session:
        return await self._shown(
            lambda key: link_nats.connect(self.identity, key, url, on_request, patience_s, self._who)
        )

    async def _shown(self, connect: Callable[[AgentKey], Awaitable[Session]]) -> Session:
        """Connect with the next key, if there is one: the server may take no other. Else with the present one."""
        following = self._keys.next
        if following is not None:
            try:
                session = await connect(following)
            except LinkError as error:
                log.info("not let in under the next key (yet): %s", error)
            else:
                self._rotation.let_in(following)
                return session
        try:
            return await connect(self._keys.current)
        except LinkError as error:
            self._regain.failed(error)
            raise

    def _on_nats(self, urls: list[str], ca: str | None) -> None:
        """NATS has moved since this agent enrolled."""
        log.info("nats_moved urls=%s", ",".join(urls))
        self.identity = msgspec.structs.replace(self.identity, nats_urls=urls, nats_ca=ca)
        self.identity.save(self._state_dir)
        if self._transport != "http":
            self._link.use(self._nats_ways())

    def _on_trust(self, told: trust.Trust) -> None:
        """An authority takes over, or has: on disk first, then for each connection from the next one on."""
        try:
            identity = trusting(self.identity, told)
        except TrustRefusedError as error:
            log.error("refused to trust others than before: %s", error)  # noqa: TRY400 - the reason says it all
            return
        identity.save(self._state_dir)
        self.identity = identity
        log.info("trusts other authorities from now on")
        if self._transport != "http":
            self._link.use(self._nats_ways())

    def _on_whom_to_trust(self, told: trust.WhomToTrust) -> None:
        """The same from somebody whom this agent does not trust: each part is checked as it is in a hello's answer."""
        self._on_server_keys(told.server_keys)
        self._on_trust(told.trust)

    def _on_server_keys(self, told: trust.ServerKeys) -> bool:
        """The server's delivery key takes over from another, or has: on disk first. Returns whether that is news."""
        try:
            identity = following(self.identity, told)
        except ServerKeysRefusedError as error:
            log.error("refused another key of the server: %s", error)  # noqa: TRY400 - the reason says it all
            return False
        if identity is self.identity:
            return False
        self._steps("server_key_heard")
        identity.save(self._state_dir)
        self._steps("server_key_kept")
        self.identity = identity
        log.info("accepts other keys of the server from now on keys=%d", len(identity.accepted))
        return True

    def _on_up(self, transport: str, url: str) -> None:
        self._uplink.connected()
        self._spawn(self._note_link(f"{transport} {url}"))

    async def _note_link(self, link: str) -> None:
        try:
            await self._disk.call(self._journal.note, LINK_NOTE, link)
        except JournalFullError as error:
            log.warning("cannot note the link: %s", error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._state_dir).free >= self._reserve_bytes

    async def _sweep_spool(self) -> None:
        """Remove outputs whose results the server has: the agent died before it could."""
        kept = {str(key) for key in await self._disk.call(self._journal.ended)}
        for path in self._spool_dir.iterdir():
            if path.stem not in kept:
                path.unlink()

    async def _compact(self) -> None:
        while True:
            try:
                await self._disk.call(self._journal.compact, self._clock.now())
            except AgentError as error:
                log.warning("cannot compact the journal: %s", error)
            await asyncio.sleep(_COMPACT_EVERY_S)


async def _end(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks, return_exceptions=True)
