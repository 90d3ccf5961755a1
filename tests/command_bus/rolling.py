"""A fleet that something is rolled out to, on a real log, with its read models beside it."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from command_bus.event_log import Selection
from command_bus.handlers.delivery import Deliveries
from command_bus.ids import new_id
from command_bus.intents.commands import Ping
from command_bus.intents.rollouts import (
    Include,
    StartRollout,
    Target,
)
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from command_bus.repository import load
from command_bus.rollouts import FanOut
from domain.agents import (
    Agent,
    AgentEnrolled,
    AgentFactsReported,
    Platform,
    facts_stream,
    presence_stream,
)
from domain.commands import Command
from domain.event import Change, Event, Metadata
from domain.ids import AgentId, ClientId, SiteId
from domain.rollouts import Rollout, command_id
from projections import tracking
from projections.catalog import FOLLOWING
from projections.paging import fold_page
from projections.rollout_reads import RolloutReader
from projections.rollouts import count_states
from schema.wire import ResultReport
from tests.command_bus.rolling_out import Impatient
from tests.projections.database import head

if TYPE_CHECKING:
    from tests.command_bus.conftest import Clock, Fleet, InFlightSet  # it makes the fixture of what is here

PATIENCE_S = 120.0


class Rolling:
    """A fleet that something is rolled out to; the read models follow when the test says so."""

    def __init__(
        self,
        url: str,
        log: PostgresEventLog,
        reads: RolloutReader,
        clock: "Clock",
        in_flight: "InFlightSet",
        fleet: "Fleet",
    ) -> None:
        self.url = url
        self.log = log
        self.reads = reads
        self.clock = clock
        self.in_flight = in_flight
        self.fleet = fleet
        self.deliveries = Deliveries(log, clock)
        self.fan_out = self.another()

    def another(self) -> FanOut:
        return FanOut(self.log, self.in_flight, self.reads, Impatient(), new_id)

    async def tell(self, agent_id: AgentId, *events: Event) -> None:
        """Presence and facts of an agent."""
        for event in events:
            stream_id = facts_stream(agent_id) if isinstance(event, AgentFactsReported) else presence_stream(agent_id)
            heads = await self.log.read_heads([stream_id])
            version = heads[stream_id].originator_version + 1 if stream_id in heads else 1
            change = Change(stream_id, version, event, agent_id, self.fleet.client_id)
            await self.log.append([change], Metadata(actor="system", correlation_id=new_id()))
        self.follow()

    async def agents(self, count: int, platform: Platform = Platform.LINUX) -> list[AgentId]:
        agents = [Agent(new_id()) for _ in range(count)]
        enrolled = AgentEnrolled(
            site_id=SiteId(self.fleet.site_id),
            client_id=ClientId(self.fleet.client_id),
            token_id=None,
            hostname="h",
            platform=platform,
            arch="x86_64",
            agent_version="1",
            public_key="00" * 32,
        )
        changes = [agent.enroll(enrolled) for agent in agents]
        await self.log.append_bulk(changes, Metadata(actor="system", correlation_id=new_id()))
        self.follow()
        return [AgentId(agent.stream_id) for agent in agents]

    def follow(self) -> None:
        with psycopg.connect(app_conninfo(self.url), autocommit=True) as connection:
            goal = head(self.url)
            while min(tracking.read_all(connection.cursor())[one.name].position for one in FOLLOWING) < goal:
                fold_page(connection, FOLLOWING, 1000)

    async def start(self, **more: Any) -> UUID:
        done = await self.fleet.dispatch(rollout(**more))
        self.follow()
        return UUID(done.answer["id"])

    async def turn(self) -> bool:
        moved = await self.fan_out.turn(self.clock())
        self.follow()
        return moved

    async def settle(self) -> None:
        """Turn until nothing moves."""
        while await self.turn():
            pass

    async def story(self, rollout_id: UUID) -> Rollout:
        return await load(self.log, Rollout, rollout_id)

    async def finish(self, rollout_id: UUID, outcome: str = "succeeded", *, at_most: int = 10_000) -> int:
        """Have agents report what is open."""
        one, finished = await self.story(rollout_id), 0
        for entry in one.entries[: one.cursor]:
            command = await load(self.log, Command, command_id(rollout_id, entry.agent_id, entry.round))
            if finished < at_most and command.exists and not command.state.terminal:
                report = ResultReport(
                    command_id=command.stream_id,
                    attempt=1,
                    outcome=outcome,
                    exit_code=0 if outcome == "succeeded" else 1,
                    started_at=self.clock(),
                    finished_at=self.clock(),
                )
                await self.deliveries.finished(entry.agent_id, report, "test")
                finished += 1
        self.follow()
        return finished

    async def connection(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(app_conninfo(self.url), autocommit=True)

    async def counts(self, rollout_id: UUID) -> Counter[str]:
        async with await self.connection() as connection:
            waves = await count_states(connection, rollout_id)
        return sum((Counter(states) for states in waves.values()), Counter())


def rollout(kind: type[StartRollout] = StartRollout, **more: Any) -> StartRollout:
    given = {"name": "update", "target": Target(include=Include(everything=True)), "spec": Ping()} | more
    return kind(**given)


async def count_queued(connection: psycopg.AsyncConnection[Any]) -> int:
    rows = await connection.execute("SELECT count(*) FROM fleetlog.events WHERE topic LIKE 'CommandQueued/%'")
    [(count,)] = await rows.fetchall()
    return int(count)


async def queued_per_agent(log: PostgresEventLog) -> Counter[UUID | None]:
    found: Counter[UUID | None] = Counter()
    after = 0
    while page := await log.read(Selection(types=("CommandQueued",)), after=after, limit=1000):
        found.update(recorded.agent_id for recorded in page)
        after = page[-1].position
    return found


class CrashError(Exception):
    """Where a process would have died."""


class CrashingLog:
    """The real log, beneath a process that dies before or after one of its appends."""

    def __init__(self, log: PostgresEventLog, at: int, *, after: bool) -> None:
        self._log = log
        self._left = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, changes: Sequence[Any], metadata: Metadata) -> Any:
        return await self._dying(self._log.append(changes, metadata))

    async def append_bulk(self, changes: Sequence[Any], metadata: Metadata) -> Any:
        return await self._dying(self._log.append_bulk(changes, metadata))

    async def append_each(self, items: Sequence[Any]) -> Any:
        return await self._dying(self._log.append_each(items))

    async def _dying(self, append: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            append.close()
            raise CrashError
        outcome = await append
        if self._left == 0:
            raise CrashError
        return outcome
