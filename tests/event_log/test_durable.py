"""Invariant 1: whatever happens to its connections, what was acknowledged is in the log; what was refused is not."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from command_bus.bus import CommandBus, Done
from command_bus.context import Caller
from command_bus.event_log import LogUnavailableError, OutcomeUnknownError, Selection
from command_bus.ids import new_id
from command_bus.intents.clients import CreateClient
from command_bus.postgres import AsyncPool, app_conninfo, open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.wiring import make_bus
from domain.clients import ClientCreated
from domain.commands import CommandQueued
from domain.event import Change, Recorded
from projections.catalog import INLINE
from projections.rollout_reads import RolloutReader
from tests.command_bus.conftest import InFlightSet
from tests.event_log.samples import created, metadata, queued
from tests.event_log.trouble import cut_connections
from tests.shape import CLUSTER

NAME = "durable"
BULK_EVENTS = 7_000
"""More than two transactions of a bulk append."""


def some(count: int) -> list[Change]:
    """Events of streams of their own: every other one a command's, which is folded into its queue as it is recorded."""
    return [queued(new_id(), new_id()) if number % 2 else created() for number in range(count)]


async def outcome_of(work: Awaitable[Any]) -> Any:
    """What a caller was told; anything but these two errors is a failure of the test."""
    try:
        return await work
    except (LogUnavailableError, OutcomeUnknownError) as error:
        return error


class Ledger:
    """Callers of a log and a bus, and what each was told."""

    def __init__(self, url: str, log: PostgresEventLog, pool: AsyncPool) -> None:
        self._url = url
        self._log = log
        self._bus: CommandBus = make_bus(log, InFlightSet(), RolloutReader(pool.connection))
        self.appends: list[tuple[list[Change], Any]] = []
        self.bulks: list[tuple[list[Change], Any]] = []
        self.intents: list[tuple[str, Any]] = []
        """By the name of the client to make."""
        self.killed = 0

    async def append(self, count: int) -> None:
        changes = some(count)
        self.appends.append((changes, await outcome_of(self._log.append(changes, metadata()))))

    async def append_each(self, counts: Sequence[int]) -> None:
        calls = [some(count) for count in counts]
        told = await outcome_of(self._log.append_each([(changes, metadata()) for changes in calls]))
        self.appends += zip(calls, told if isinstance(told, list) else [told] * len(calls), strict=True)

    async def append_bulk(self, count: int) -> None:
        changes = some(count)
        self.bulks.append((changes, await outcome_of(self._log.append_bulk(iter(changes), metadata()))))

    async def dispatch(self) -> None:
        name = f"client {new_id()}"
        self.intents.append((name, await self.make(self._bus, name)))

    async def kill(self) -> None:
        self.killed += await cut_connections(self._url, f"fleetlog-{NAME}-%")

    @staticmethod
    async def make(bus: CommandBus, name: str) -> Any:
        caller = Caller(actor="key:test", correlation_id=new_id(), idempotency_key=f"make {name}")
        return await outcome_of(bus.dispatch(CreateClient(name=name), caller))


async def everything(log: PostgresEventLog, after: int) -> list[Recorded]:
    found: list[Recorded] = []
    while page := await log.read(after=found[-1].position if found else after, limit=5_000):
        found += page
    return found


async def judge(ledger: Ledger, url: str, log: PostgresEventLog, pool: AsyncPool, before: int) -> None:
    """Hold what callers were told against what another process reads."""
    recorded = {one.originator_id: one for one in await everything(log, before)}
    for changes, told in ledger.appends:
        there = [recorded.get(change.originator_id) for change in changes]
        if isinstance(told, list):
            assert [one and (one.position, one.event) for one in there] == [
                (position, change.event) for position, change in zip(told, changes, strict=True)
            ]
        elif isinstance(told, LogUnavailableError):
            assert there == [None] * len(changes)
        else:
            assert isinstance(told, OutcomeUnknownError)
            assert None not in there or there == [None] * len(changes)
    for changes, told in ledger.bulks:
        places = [one.position for change in changes if (one := recorded.get(change.originator_id)) is not None]
        assert places == sorted(places)
        if isinstance(told, int):
            assert (len(places), places[-1]) == (len(changes), told)
        else:  # whole transactions of it are there, from its beginning
            assert [change.originator_id in recorded for change in changes] == [
                at < len(places) for at in range(len(changes))
            ]
    await judge_intents(ledger, log, pool)
    queues = {stream_id for stream_id, one in recorded.items() if isinstance(one.event, CommandQueued)}
    async with await psycopg.AsyncConnection.connect(app_conninfo(url)) as connection:
        rows = await (
            await connection.execute("SELECT command_id FROM pending WHERE position > %s", [before])
        ).fetchall()
    assert {row[0] for row in rows} == queues


async def judge_intents(ledger: Ledger, log: PostgresEventLog, pool: AsyncPool) -> None:
    """What was accepted is told again under its key; what was not is done once, now."""
    bus = make_bus(log, InFlightSet(), RolloutReader(pool.connection))
    for name, told in ledger.intents:
        again = await Ledger.make(bus, name)
        assert isinstance(again, Done)
        if isinstance(told, Done):
            assert again.repeated
            assert (again.answer, again.position) == (told.answer, told.position)
        elif isinstance(told, LogUnavailableError):
            assert not again.repeated
        (story,) = (await log.read_streams([UUID(again.answer["id"])])).values()
        assert [one.event for one in story] == [ClientCreated(name=name)]
    made = await log.read(Selection(types=("ClientCreated",), actor="key:test"), limit=100_000)
    names = [one.event.name for one in made if isinstance(one.event, ClientCreated)]
    assert len(set(names)) == len(names)


Step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("append each"), st.lists(st.integers(1, 4), min_size=1, max_size=12)),
    st.tuples(st.just("append in bulk"), st.sampled_from([1, 500, BULK_EVENTS])),
    st.tuples(st.just("dispatch")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("all are answered")),
)
MIX = [("append", 40), ("append each", [1, 4, 2]), ("append in bulk", BULK_EVENTS), ("dispatch",), ("kill",)]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(Step, min_size=3, max_size=25), timeout_s=st.sampled_from([0.05, 20.0]))
@example(steps=MIX * 3, timeout_s=20.0)
@example(steps=MIX * 3, timeout_s=0.05)
@example(steps=[*MIX, ("all are answered",)] * 3, timeout_s=0.5)
async def test_what_is_acknowledged_is_there(postgres_url: str, steps: list[tuple[Any, ...]], timeout_s: float) -> None:
    """Appends of every kind and intents run side by side while their connections are killed, at any moment of each."""
    reader = PostgresEventLog(postgres_url, inline=INLINE, name="reader")
    log = PostgresEventLog(postgres_url, inline=INLINE, name=NAME, timeout_s=timeout_s)
    await reader.start()
    await log.start()
    while isinstance(await outcome_of(log.append([created()], metadata())), Exception):
        pass  # until it has a connection, there is none to cut
    before = await reader.head()
    pool = await open_pool(postgres_url, name="reads")
    ledger = Ledger(postgres_url, log, pool)
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as callers:
            under_way = []
            for step in steps:
                match step:
                    case ("append", int(count)):
                        work = ledger.append(count)
                    case ("append each", list(counts)):
                        work = ledger.append_each(counts)
                    case ("append in bulk", int(count)):
                        work = ledger.append_bulk(count)
                    case ("dispatch",):
                        work = ledger.dispatch()
                    case ("kill",):
                        work = ledger.kill()
                    case _:
                        await asyncio.gather(*under_way)
                        continue
                under_way.append(callers.create_task(work))
        # A log that was only just opened may have no connection yet, nor a pooler a server process for it.
        assert ledger.killed > 0 or CLUSTER or steps[: len(MIX)] != MIX
        await judge(ledger, postgres_url, reader, pool, before)
    finally:
        await log.stop()
        await reader.stop()
        await pool.close()
