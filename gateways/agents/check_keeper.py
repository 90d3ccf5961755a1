"""Keeps which checks each agent is to measure, as their targets mean it: a table that gateways follow.

The targets of all checks over all agents are worked out when a check is another; after that, those of the agents alone
to whom something happened. So a quiet fleet costs a look at two numbers, and an agent that enrolls, moves or is tagged
falls under its checks by itself. What a check found where it is not measured any more is ended on record.

It runs where the scheduler leads. Two of them for a moment would write the same; what they know is read again now and
then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from command_bus.askers import Askers
from command_bus.context import Clock, NewId
from command_bus.event_log import ConflictError, EventLog, EventLogError
from command_bus.intents.checks import permissions_of
from command_bus.postgres import AsyncPool
from domain.checks import AgentCheckEnded, CheckState
from domain.event import Change, Metadata, Undecodable
from domain.ids import CheckId
from domain.permissions import Permission
from domain.scopes import Scope
from gateways.cancelling import end
from projections.check_reads import CheckReader, Orphan, Targeted
from projections.checks import stamp

_log = structlog.get_logger()
TURN_S = 1.0
LOOKED_AT_ONCE = 5_000
ORPHANS_EVERY = timedelta(seconds=5)
ORPHANS_AT_ONCE = 500
ANEW_EVERY = timedelta(minutes=15)
NOTHING: tuple[UUID, ...] = ()


class CheckKeeper:
    """The service.

    Args:
        log: hears what ended, and says what those who defined checks may do.
        pool: to the database.
        reads: of the read models.
        clock: now.
        new_id: for correlation.
        leads: whether this process is the one that does it.
    """

    def __init__(
        self,
        log: EventLog,
        pool: AsyncPool,
        reads: CheckReader,
        clock: Clock,
        new_id: NewId,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._log = log
        self._pool = pool
        self._reads = reads
        self._clock = clock
        self._new_id = new_id
        self._leads = leads
        self._askers = Askers(log)
        self._lists: dict[UUID, tuple[UUID, ...]] = {}
        self._worked_out: dict[UUID, tuple[int, Scope]] = {}
        """Of each check that is in the lists: its revision then, and on whose agents it might be."""
        self._targeted: list[Targeted] = []
        self._stamp: tuple[int, int] | None = None
        self._looked_upto = 0
        self._read_at: datetime | None = None
        self._orphans_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name="check-keeper")

    async def stop(self) -> None:
        if self._task is not None:
            await end((self._task,))

    async def _for_ever(self) -> None:
        while True:
            try:
                if self._leads():
                    await self.turn()
                else:
                    self._read_at = None
            except (psycopg.OperationalError, PoolTimeout, EventLogError) as error:
                self._read_at = None
                _log.info("check_keeper_waiting", error=str(error).strip())
            await asyncio.sleep(TURN_S)

    async def turn(self) -> None:
        """Bring the table to what checks and agents are now."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= ANEW_EVERY:
            await self._read()
            self._read_at = now
        upto = await self._reads.position()
        async with self._pool.connection() as connection:
            seen = await stamp(connection)
        if seen != self._stamp:
            self._targeted = await self._reads.targeted()
        scopes = await self._scopes(now)
        fresh = [one for one in self._targeted if self._worked_out.get(one.check_id) != _key(one, scopes)]
        gone = self._worked_out.keys() - {one.check_id for one in self._targeted}
        changes: dict[UUID, set[UUID]] = {}
        if fresh or gone:
            await self._work_out(fresh, gone, scopes, changes)
        looked = await self._look(upto, [one for one in self._targeted if one not in fresh], scopes, changes)
        await self._write(changes)
        self._worked_out = {one.check_id: _key(one, scopes) for one in self._targeted}
        self._stamp, self._looked_upto = seen, looked
        if self._orphans_at is None or now - self._orphans_at >= ORPHANS_EVERY:
            await self._end_orphans()
            self._orphans_at = now

    async def _read(self) -> None:
        """What the table holds; all targets are worked out anew after it."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute("SELECT agent_id, checks FROM fleetlog.check_lists")).fetchall()
        self._lists = {agent_id: tuple(checks) for agent_id, checks in rows if checks}
        self._worked_out = dict.fromkeys({check for checks in self._lists.values() for check in checks}, (0, Scope()))
        self._stamp, self._looked_upto = None, 0

    async def _scopes(self, now: datetime) -> dict[UUID, Scope]:
        """On whose agents each check may be.

        One that runs something may be on those alone where whoever defined it may have that run now.
        """
        runs = [one for one in self._targeted if permissions_of(one.terms.what)]
        access = await self._askers.access({one.actor for one in runs}, now)
        scopes = {one.check_id: one.scope for one in self._targeted}
        for one in runs:
            if one.actor in access:
                needs = (Permission.CHECKS_MANAGE, *permissions_of(one.terms.what))
                scopes[one.check_id] = one.scope & access[one.actor].scope(*needs)
        return scopes

    async def _work_out(
        self, fresh: list[Targeted], gone: Iterable[UUID], scopes: dict[UUID, Scope], changes: dict[UUID, set[UUID]]
    ) -> None:
        """Who is meant by these checks, of all agents."""
        others = {*gone, *(one.check_id for one in fresh)}
        had: dict[UUID, set[UUID]] = defaultdict(set)
        for agent_id, checks in self._lists.items():
            for check_id in checks:
                if check_id in others:
                    had[check_id].add(agent_id)
        for check_id in gone:
            for agent_id in had[check_id]:
                self._change(changes, agent_id).discard(check_id)
        for one in fresh:
            meant = await self._reads.meant(one.terms.target, scopes[one.check_id])
            for agent_id in meant - had[one.check_id]:
                self._change(changes, agent_id).add(one.check_id)
            for agent_id in had[one.check_id] - meant:
                self._change(changes, agent_id).discard(one.check_id)

    async def _look(
        self, upto: int, targeted: list[Targeted], scopes: dict[UUID, Scope], changes: dict[UUID, set[UUID]]
    ) -> int:
        """Who is meant by these checks, of the agents to whom something happened; returns up to where that was."""
        after = self._looked_upto
        if not targeted or after == 0:
            return upto
        while after < upto:
            agents, until = await self._reads.changed(after, upto, LOOKED_AT_ONCE)
            for one in targeted if agents else ():
                meant = await self._reads.meant_among(one.terms.target, scopes[one.check_id], after, until)
                for agent_id in agents:
                    listed = changes[agent_id] if agent_id in changes else self._lists.get(agent_id, NOTHING)
                    if agent_id in meant and one.check_id not in listed:
                        self._change(changes, agent_id).add(one.check_id)
                    elif agent_id not in meant and one.check_id in listed:
                        self._change(changes, agent_id).discard(one.check_id)
            after = until
        return after

    def _change(self, changes: dict[UUID, set[UUID]], agent_id: UUID) -> set[UUID]:
        if agent_id not in changes:
            changes[agent_id] = set(self._lists.get(agent_id, NOTHING))
        return changes[agent_id]

    async def _write(self, changes: dict[UUID, set[UUID]]) -> None:
        rows = {agent_id: tuple(sorted(checks)) for agent_id, checks in changes.items()}
        rows = {agent_id: checks for agent_id, checks in rows.items() if checks != self._lists.get(agent_id, NOTHING)}
        if not rows:
            return
        async with self._pool.connection() as connection, connection.transaction():
            # So that whoever follows by `changed` sees no smaller one after a larger.
            await connection.execute("LOCK TABLE fleetlog.check_lists IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute(
                "INSERT INTO fleetlog.check_lists AS l (agent_id, checks, changed)"
                " SELECT agent_id, checks::uuid[], nextval('fleetlog.check_lists_changed')"
                " FROM unnest(%s::uuid[], %s::text[]) AS new (agent_id, checks)"
                " ON CONFLICT (agent_id) DO UPDATE SET checks = excluded.checks, changed = excluded.changed",
                (list(rows), ["{" + ",".join(map(str, checks)) + "}" for checks in rows.values()]),
            )
            emptied = [agent_id for agent_id, checks in rows.items() if not checks]
            if emptied:
                await connection.execute("DELETE FROM fleetlog.check_told WHERE agent_id = ANY(%s)", (emptied,))
        known: dict[tuple[UUID, ...], tuple[UUID, ...]] = {}
        for agent_id, checks in rows.items():
            if checks:
                self._lists[agent_id] = known.setdefault(checks, checks)
            else:
                self._lists.pop(agent_id, None)
        _log.info("check_lists_changed", agents=len(rows))

    async def _end_orphans(self) -> None:
        """Put on record that what was found is not measured any more."""
        orphans = await self._reads.orphans(ORPHANS_AT_ONCE)
        if not orphans:
            return
        heads = await self._log.read_heads([one.finding_id for one in orphans], tolerant=True)
        items: list[tuple[list[Change], Metadata]] = []
        for one in orphans:
            head = heads.get(one.finding_id)
            # What the row says may be over by now, or written by a newer server: that one will see to it.
            if head is None or isinstance(head.event, AgentCheckEnded | Undecodable):
                continue
            ended = _ended(one)
            change = Change(one.finding_id, head.originator_version + 1, ended, one.agent_id, head.client_id)
            metadata = Metadata(actor="scheduler", correlation_id=self._new_id(), causation_id=one.check_id)
            items.append(([change], metadata))
        for outcome in await self._log.append_each(items):
            # One that changed meanwhile is found again.
            if isinstance(outcome, EventLogError) and not isinstance(outcome, ConflictError):
                raise outcome


def _ended(one: Orphan) -> AgentCheckEnded:
    return AgentCheckEnded(check_id=CheckId(one.check_id), check=one.name, was=CheckState(one.state))


def _key(one: Targeted, scopes: dict[UUID, Scope]) -> tuple[int, Scope]:
    return one.revision, scopes[one.check_id]
