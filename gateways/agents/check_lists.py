"""The checks of each agent, as one process hands them out: followed from the table, kept in memory, signed when sent.

A hello says which list its agent has. Whether that is the one it should have is known without asking anybody; the list
is made and signed for those alone that have another.
"""

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from command_bus.context import Clock
from command_bus.event_log import EventLog, EventLogError
from command_bus.postgres import AsyncPool
from command_bus.repository import UnreadableStoryError, must_be_readable
from domain.checks import (
    CpuCheck,
    DiskCheck,
    Kind,
    MemoryCheck,
    ReachCheck,
    ScriptCheck,
    ServiceCheck,
    Severity,
    ShellCheck,
)
from domain.ids import AgentId
from domain.scripts import Revision, Script
from gateways.agents.keys import Key
from gateways.cancelling import end
from projections.checks import Given, checks_given, stamp
from projections.pages import Connection
from schema import checks, wire

_log = structlog.get_logger()
LOOK_S = 1.0
LOOKED_AT_ONCE = 20_000
ANEW_EVERY_S = 600.0
MOST_TOLD = 2_000
"""Agents that are told at once that they have other checks. Whoever is one of more hears it by their next hello, within
a minute: a check for the whole fleet is to bring no storm."""
OTHERWISE = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.ERROR: "failing"}
_PERCENT_OF = {CpuCheck: "cpu", MemoryCheck: "memory"}
_CHANGED = "SELECT agent_id, checks, changed FROM fleetlog.check_lists WHERE changed > %s ORDER BY changed LIMIT %s"


class _List(msgspec.Struct, frozen=True):
    """One list: all agents with the same checks have the same."""

    digest: str
    given: list[checks.GivenCheck]


_NONE = _List(checks.NO_CHECKS, [])


class CheckLists:
    """What one process knows of them.

    Args:
        log: scripts are read from it.
        pool: to the database.
        key: the fleet's delivery key; asked for each time.
        clock: now.
        on_changed: these agents have other checks now.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        key: Callable[[], Key],
        clock: Clock,
        on_changed: Callable[[Sequence[AgentId]], None],
    ) -> None:
        self._log = log
        self._pool = pool
        self._key = key
        self._clock = clock
        self._on_changed = on_changed
        self._of: dict[UUID, tuple[UUID, ...]] = {}
        self._seen = 0
        self._stamp: tuple[int, int] | None = None
        self._given: dict[UUID, Given] = {}
        self._made: dict[UUID, checks.GivenCheck] = {}
        self._lists: dict[tuple[UUID, ...], _List] = {}
        self._revisions: dict[tuple[UUID, int], Revision] = {}
        self._looking = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name="check-lists")

    async def stop(self) -> None:
        if self._task is not None:
            await end((self._task,))

    def given(self, agent_id: UUID, check_id: UUID) -> Given | None:
        """A check, if it is one of the agent's."""
        return self._given.get(check_id) if check_id in self._of.get(agent_id, ()) else None

    def digest(self, agent_id: UUID) -> str:
        """Of the list that an agent should have."""
        return self._list(agent_id).digest

    def to(self, agent_id: UUID, has: str) -> checks.CheckList | None:
        """The list of an agent that has another; None for one that has it, or is too old to have any.

        Args:
            agent_id: of the agent.
            has: the digest of the list that it has.
        """
        if not has or self._stamp is None:
            return None
        wanted = self._list(agent_id)
        if has == wanted.digest:
            return None
        body = checks.encode(
            checks.CheckListBody(agent_id=agent_id, made_at=self._clock(), digest=wanted.digest, checks=wanted.given)
        )
        return checks.CheckList(body=body, signature=self._key().sign(checks.CHECKS_CONTEXT + body))

    def _list(self, agent_id: UUID) -> _List:
        ids = self._of.get(agent_id)
        if not ids:
            return _NONE
        made = self._lists.get(ids)
        if made is None:
            made = self._lists[ids] = _fitting([self._made[one] for one in ids if one in self._made])
        return made

    # -- following -----------------------------------------------------------------------------------------------

    async def _for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        anew_at = 0.0
        while True:
            try:
                if loop.time() >= anew_at:
                    self._seen = 0
                    anew_at = loop.time() + ANEW_EVERY_S
                await self.look()
            except (psycopg.OperationalError, PoolTimeout, EventLogError) as error:
                _log.info("check_lists_waiting", error=str(error).strip())
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Take in what changed."""
        async with self._looking:
            changed: set[UUID] = set()
            async with self._pool.connection() as connection:
                seen = await stamp(connection)
                given = await checks_given(connection) if seen != self._stamp else None
                changed |= await self._look_at_lists(connection)
            if given is not None:
                others = await self._define(given)
                self._stamp = seen
                changed |= {agent_id for agent_id, ids in self._of.items() if not others.isdisjoint(ids)}
            if changed:
                self._on_changed([AgentId(one) for one in sorted(changed)[:MOST_TOLD]])

    async def _look_at_lists(self, connection: Connection) -> set[UUID]:
        changed: set[UUID] = set()
        known = {ids: ids for ids in self._lists}
        while True:
            rows = await (await connection.execute(_CHANGED, (self._seen, LOOKED_AT_ONCE))).fetchall()
            for agent_id, listed, position in rows:
                ids = tuple(listed)
                if ids != self._of.get(agent_id, ()):
                    changed.add(agent_id)
                if ids:
                    self._of[agent_id] = known.setdefault(ids, ids)
                else:
                    self._of.pop(agent_id, None)
                self._seen = position
            if len(rows) < LOOKED_AT_ONCE:
                return changed

    async def _define(self, given: Sequence[Given]) -> set[UUID]:
        """Take these definitions for all there are; returns the checks that are others now."""
        before = {check_id: one.revision for check_id, one in self._given.items()}
        await self._read_scripts([one.terms.what for one in given if isinstance(one.terms.what, ScriptCheck)])
        now = {one.check_id: one for one in given}
        self._made = {check_id: made for check_id, one in now.items() if (made := self._given_check(one)) is not None}
        self._given = now
        self._lists = {}
        return {check_id for check_id, one in now.items() if before.get(check_id) != one.revision}

    async def _read_scripts(self, wanted: Sequence[ScriptCheck]) -> None:
        missing = {one.script_id for one in wanted if (one.script_id, one.revision) not in self._revisions}
        if not missing:
            return
        for script_id, recorded in (await self._log.read_streams(sorted(missing), tolerant=True)).items():
            try:
                must_be_readable(recorded)
            except UnreadableStoryError as error:
                _log.error("script_unreadable", script_id=str(script_id), error=error.detail)
                continue
            script = Script.load(script_id, (one.event for one in recorded))
            for number, content in enumerate(script.revisions, start=1):
                self._revisions[script_id, number] = content

    def _given_check(self, one: Given) -> checks.GivenCheck | None:
        """As it is given to agents; None where what it runs cannot be read."""
        terms = one.terms
        measure = self._measure(terms.what)
        if measure is None:
            return None
        return checks.GivenCheck(
            check_id=one.check_id,
            revision=one.revision,
            name=terms.name,
            interval_s=terms.interval_s,
            failures=terms.failures,
            recoveries=terms.recoveries,
            what=checks.encode(measure),
        )

    def _measure(self, what: Kind) -> checks.Measure | None:  # noqa: PLR0911 - one for each kind
        match what:
            case DiskCheck():
                return checks.DiskMeasure(path=what.path, warning=what.warning, error=what.error)
            case CpuCheck() | MemoryCheck():
                return checks.LoadMeasure(
                    of=_PERCENT_OF[type(what)], warning=what.warning, error=what.error, samples=what.samples
                )
            case ServiceCheck():
                return checks.ServiceMeasure(service=what.service, otherwise=OTHERWISE[what.severity])
            case ReachCheck():
                return checks.ReachMeasure(
                    host=what.host, port=what.port, timeout_s=what.timeout_s, otherwise=OTHERWISE[what.severity]
                )
            case ScriptCheck():
                content = self._revisions.get((what.script_id, what.revision))
                if content is None:
                    return None
                work = wire.ScriptWork(
                    shell=content.shell,
                    body=content.body,
                    args=list(what.args if what.args is not None else content.args),
                    env=content.env,
                    timeout_s=what.timeout_s,
                    run_as=content.run_as,
                )
                return _script_measure(what, work)
            case ShellCheck():
                work = wire.ScriptWork(shell=what.shell, body=what.line, timeout_s=what.timeout_s, inline=True)
                return _script_measure(what, work)


def _script_measure(what: ScriptCheck | ShellCheck, work: wire.ScriptWork) -> checks.ScriptMeasure:
    return checks.ScriptMeasure(
        work=wire.encode(work),
        info_codes=list(what.info_codes),
        warning_codes=list(what.warning_codes),
        otherwise=OTHERWISE[what.severity],
    )


def _fitting(made: Sequence[checks.GivenCheck]) -> _List:
    """Those that one agent may have at once, the first defined first."""
    given: list[checks.GivenCheck] = []
    room = checks.MAX_LIST_BYTES
    for one in made[: checks.MAX_CHECKS]:
        room -= len(one.what) + 512
        if room >= 0:
            given.append(one)
    return _List(checks.list_digest((one.check_id, one.revision) for one in given), given)
