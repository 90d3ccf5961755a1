"""A bus on a real log, and the fleet that most tests begin with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from command_bus.bus import CommandBus, Done, Intent
from command_bus.context import Caller
from command_bus.handlers.delivery import Deliveries
from command_bus.handlers.enrollment import Enrollment
from command_bus.ids import new_id
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.tokens import CreateEnrollmentToken
from command_bus.keystore import Keystore
from command_bus.master_keys import GivenKeys, MasterKey
from command_bus.postgres import AsyncPool, open_pool
from command_bus.postgres_log import PostgresEventLog
from command_bus.wiring import make_bus
from domain.ids import AgentId
from projections.catalog import INLINE
from projections.enrollments import counting
from projections.rollout_reads import RolloutReader
from schema.wire import EnrollRequest
from tests.command_bus.rolling import Rolling


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, delta: timedelta) -> None:
        self.now += delta


class InFlightSet:
    """What the test says is on its way; the real one, made of leases, is tested with the gateway."""

    def __init__(self) -> None:
        self.command_ids: set[UUID] = set()

    @asynccontextmanager
    async def hold(self, agent_id: AgentId) -> AsyncIterator[frozenset[UUID]]:
        del agent_id
        yield frozenset(self.command_ids)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def in_flight() -> InFlightSet:
    return InFlightSet()


@pytest.fixture
async def log(postgres_url: str) -> AsyncIterator[PostgresEventLog]:
    log = PostgresEventLog(postgres_url, inline=INLINE, name="test")
    await log.start()
    yield log
    await log.stop()


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[AsyncPool]:
    pool = await open_pool(postgres_url, name="reads")
    yield pool
    await pool.close()


@pytest.fixture
def reads(pool: AsyncPool) -> RolloutReader:
    return RolloutReader(pool.connection)


@pytest.fixture
def keystore(pool: AsyncPool) -> Keystore:
    return Keystore(pool, GivenKeys([MasterKey(bytes(range(32)))]))


@pytest.fixture
def bus(
    log: PostgresEventLog, clock: Clock, in_flight: InFlightSet, reads: RolloutReader, keystore: Keystore
) -> CommandBus:
    return make_bus(log, in_flight, reads, clock=clock, keystore=keystore)


@pytest.fixture
def deliveries(log: PostgresEventLog, clock: Clock) -> Deliveries:
    return Deliveries(log, clock)


@pytest.fixture
def caller() -> Caller:
    return Caller(actor="key:test", correlation_id=new_id())


Dispatch = Callable[[Intent], Awaitable[Done]]


@pytest.fixture
def dispatch(bus: CommandBus, caller: Caller) -> Dispatch:
    return lambda intent: bus.dispatch(intent, caller)


class Fleet(msgspec.Struct):
    """One client with one site, and a way to add agents."""

    client_id: UUID
    site_id: UUID
    enrollment: Enrollment
    dispatch: Any

    async def agent(self, platform: str = "linux") -> AgentId:
        token = await self.dispatch(CreateEnrollmentToken(site_id=self.site_id))
        enrolled = await self.enrollment.enroll(enroll_request(token.answer["token"], platform))
        return enrolled.agent_id


def enroll_request(token: str, platform: str = "linux") -> EnrollRequest:
    return EnrollRequest(
        token=token,
        public_key=new_id().hex * 2,
        proof="",
        hostname="web-07",
        platform=platform,
        arch="x86_64",
        agent_version="0.1.0",
    )


@pytest.fixture
async def fleet(dispatch: Dispatch, log: PostgresEventLog, clock: Clock, pool: AsyncPool) -> Fleet:
    client = await dispatch(CreateClient(name="Acme"))
    site = await dispatch(CreateSite(client_id=UUID(client.answer["id"]), name="Main"))
    enrollment = Enrollment(log, clock, new_id, counting(pool.connection))
    return Fleet(UUID(client.answer["id"]), UUID(site.answer["id"]), enrollment, dispatch)


@pytest.fixture
async def rolling(
    postgres_url: str,
    log: PostgresEventLog,
    reads: RolloutReader,
    clock: Clock,
    in_flight: InFlightSet,
    fleet: Fleet,
    monkeypatch: pytest.MonkeyPatch,
) -> Rolling:
    # Each turn counts anew: how long the one before took says more about the machine than about us.
    monkeypatch.setattr("command_bus.rollouts.TALLY_SHARE", 0.0)
    return Rolling(postgres_url, log, reads, clock, in_flight, fleet)
