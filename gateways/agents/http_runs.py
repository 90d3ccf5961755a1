"""Two machines with one identity, told apart over HTTP, where there are no connections to compare.

A check-in says which run of the program it comes from, and runs do not come back: so whoever checks in is compared with
the run that was heard of last. For another one, that one is asked for a sign of life, as over NATS
(`gateways.agents.duplicates`): its long poll is answered at once, and it comes again. Until it has had the time for it
the newcomer waits. If it comes there are two, and the newcomer is shut out; if not, its machine is gone or its program
was restarted, and the newcomer takes its place. Where NATS is there, whoever listens there is asked as well.

What is compared is in Postgres, for each check-in may come to another process.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, LiteralString

import msgspec
import nats.errors
import structlog
from psycopg.types.json import Jsonb

from command_bus.context import Clock
from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.postgres import AsyncPool
from domain.duplicates import Sighting
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.directory import Entry
from gateways.agents.duplicates import DuplicateAgentError
from gateways.rest.errors import ApiError
from schema import wire

_log = structlog.get_logger()
GONE_AFTER = timedelta(seconds=90)
"""A long poll lasts for less than a minute, and another follows."""
ANSWER_S = 6.0
"""The present run's long poll is answered within a second, whichever process has it, and it comes again at once."""
NATS_EVERY_S = 30.0
WhoIsThere = Callable[[AgentId], Awaitable[Sequence[wire.Instance]]]
"""Who listens as an agent at NATS; raises nats.errors.Error where that cannot be asked."""

_SAME: LiteralString = """
    UPDATE fleetlog.http_runs SET seen_at = %(now)s
    WHERE agent_id = %(agent_id)s AND present->>'instance' = %(instance)s AND asked_at IS NULL
    RETURNING agent_id
"""
_PRESENT: LiteralString = "SELECT present->>'instance' FROM fleetlog.http_runs WHERE agent_id = %(agent_id)s"
_LOCK: LiteralString = """
    SELECT present, seen_at, newcomer, asked_at FROM fleetlog.http_runs WHERE agent_id = %(agent_id)s FOR UPDATE
"""
_FIRST: LiteralString = """
    INSERT INTO fleetlog.http_runs (agent_id, present, seen_at) VALUES (%(agent_id)s, %(who)s, %(now)s)
    ON CONFLICT DO NOTHING RETURNING agent_id
"""
_REPLACE: LiteralString = """
    UPDATE fleetlog.http_runs SET present = %(who)s, seen_at = %(now)s, newcomer = NULL, asked_at = NULL
    WHERE agent_id = %(agent_id)s
"""
_ASK: LiteralString = """
    UPDATE fleetlog.http_runs SET newcomer = %(who)s, asked_at = %(now)s WHERE agent_id = %(agent_id)s
"""
_GONE: LiteralString = """
    UPDATE fleetlog.http_runs SET seen_at = 'epoch' WHERE agent_id = %(agent_id)s
        AND present->>'instance' = %(instance)s
"""
_ASKED: LiteralString = "SELECT agent_id FROM fleetlog.http_runs WHERE asked_at > %(since)s"


class AnotherRunError(ApiError):
    """Another run of this agent was here a moment ago; it is asked whether it still is: come again."""

    code = "another_run"
    status = 503


class _Row(msgspec.Struct, frozen=True):
    present: Sighting
    seen_at: Any
    newcomer: Sighting | None
    asked_at: Any


class HttpRuns:
    """Judges check-ins for one process.

    Args:
        pool: to the database.
        notices: records what is noticed.
        clock: now.
        name: of the process.
        ask: has the present run of an agent come again at once, if it is this process that it waits at.
        on_noticed: told of an agent that is two machines.
        who_is_there: asks at NATS; None where there is none to ask.
    """

    def __init__(
        self,
        pool: AsyncPool,
        notices: DuplicateNotices,
        clock: Clock,
        name: str,
        *,
        ask: Callable[[AgentId], None],
        on_noticed: Callable[[AgentId], None],
        who_is_there: WhoIsThere | None = None,
    ) -> None:
        self._pool = pool
        self._notices = notices
        self._clock = clock
        self._name = name
        self._ask = ask
        self._on_noticed = on_noticed
        self._who_is_there = who_is_there

    async def admit(self, entry: Entry, who: wire.Instance | None, address: str) -> None:
        """Let a check-in pass, and note that its run is there.

        Raises:
            DuplicateAgentError: another machine is this agent, and was here before.
            AnotherRunError: that is not known yet.
            EventLogError: it cannot be recorded.
        """
        if who is None or not who.instance:
            return  # an agent that is too old to say
        came = Sighting(address=address, hostname=who.hostname, machine=who.machine, instance=who.instance)
        values = {"agent_id": entry.agent_id, "instance": who.instance, "now": self._clock()}
        async with self._pool.connection() as connection:
            if await (await connection.execute(_SAME, values)).fetchone() is not None:
                return
            here = await (await connection.execute(_PRESENT, values)).fetchone()
        if here != (who.instance,):  # the one that is there by record is no newcomer to whoever is at NATS
            await self._not_at_nats(entry, came)
        present = await self._judge(entry.agent_id, came)
        if present is not None:
            await self._notice(entry, *present)

    async def seen_at_nats(self, entry: Entry, who: wire.Instance | None, address: str) -> None:
        """For a run that was here before: shut out whoever came in at NATS under its identity meanwhile.

        Raises:
            EventLogError: it cannot be recorded.
        """
        if who is None or not who.instance:
            return
        here = Sighting(address=address, hostname=who.hostname, machine=who.machine, instance=who.instance)
        for other in await self._others_at_nats(entry.agent_id, who.instance):
            await self._notice(entry, here, other)

    async def gone(self, agent_id: AgentId, who: wire.Instance | None) -> None:
        """A run has hung up: whoever waits for its sign of life need not wait longer."""
        if who is not None:
            async with self._pool.connection() as connection:
                await connection.execute(_GONE, {"agent_id": agent_id, "instance": who.instance})

    async def asked(self) -> None:
        """Have the runs that a newcomer waits for come again, those that wait at this process; to be called often."""
        since = self._clock() - timedelta(seconds=ANSWER_S)
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_ASKED, {"since": since})).fetchall()
        for (agent_id,) in rows:
            self._ask(AgentId(agent_id))

    async def _not_at_nats(self, entry: Entry, came: Sighting) -> None:
        for other in await self._others_at_nats(entry.agent_id, came.instance):
            await self._notice(entry, other, came)
            raise DuplicateAgentError

    async def _others_at_nats(self, agent_id: AgentId, instance: str) -> list[Sighting]:
        if self._who_is_there is None:
            return []
        found: Sequence[wire.Instance] = ()
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):  # NATS is away: nobody is there, then
            found = await self._who_is_there(agent_id)
        return [
            Sighting(address="", hostname=one.hostname, machine=one.machine, instance=one.instance)
            for one in found
            if one.instance and one.instance != instance
        ]

    async def _judge(self, agent_id: AgentId, came: Sighting) -> tuple[Sighting, Sighting] | None:
        """None to let it pass; or who is there and who came beside, the present one being this one.

        Raises:
            AnotherRunError: it has to wait for the other one's sign of life.
        """
        now = self._clock()
        values = {"agent_id": agent_id, "who": Jsonb(msgspec.to_builtins(came)), "now": now}
        async with self._pool.connection() as connection, connection.transaction():
            if await (await connection.execute(_FIRST, values)).fetchone() is not None:
                return None
            found = await (await connection.execute(_LOCK, values)).fetchone()
            row = msgspec.convert(dict(zip(_Row.__struct_fields__, found or (), strict=True)), _Row)
            if row.present.instance == came.instance:
                # A sign of life: whoever waits for it to fail is a second one.
                await connection.execute(_REPLACE, values)
                return (came, row.newcomer) if row.newcomer is not None else None
            waits = row.newcomer is not None and row.newcomer.instance == came.instance
            unanswered = waits and now - row.asked_at >= timedelta(seconds=ANSWER_S)
            if unanswered or now - row.seen_at > GONE_AFTER:
                await connection.execute(_REPLACE, values)
                return None
            if not waits:
                await connection.execute(_ASK, values)
        self._ask(agent_id)
        raise AnotherRunError(headers={"Retry-After": "2"})

    async def _notice(self, entry: Entry, present: Sighting, newcomer: Sighting) -> None:
        metrics.DUPLICATES.inc()
        if await self._notices.noticed(entry.agent_id, entry.client_id, present, newcomer, self._name):
            _log.warning(
                "duplicate_agent",
                agent_id=str(entry.agent_id),
                present=f"{present.hostname} {present.address}",
                newcomer=f"{newcomer.hostname} {newcomer.address}",
            )
            self._on_noticed(entry.agent_id)
