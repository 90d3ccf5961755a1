"""What agents, gateways and the scheduler do, and what it is to leave in the log."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from command_bus.handlers.agent_keys import AgentKeys
from command_bus.handlers.approvals import ApprovalExpiry
from command_bus.handlers.duplicates import DuplicateNotices
from command_bus.handlers.enrollments import EnrollmentExpiry
from command_bus.handlers.housekeeping import Housekeeping
from command_bus.handlers.presence import Arrival, Departure, PresenceHandler
from command_bus.handlers.refused_orders import RefusedOrderReports
from command_bus.ids import new_id, utc_now
from command_bus.rollouts import FanOut
from domain.duplicates import Sighting
from domain.ids import AgentId, ClientId
from gateways.agents.software import SoftwareReports
from projections.approvals import due
from projections.enrollments import due as enrollments_due
from projections.pending import QueueReader
from projections.rollout_reads import RolloutReader
from schema.software import Package, listed, pack
from schema.wire import Accepted, EnrollRequest, RefusalReport
from tests.command_bus.rolling_out import Impatient
from tests.rest.gains import ASKS, PING, Ground, waits
from tests.rest.harness import made

NAME = "test"
"""Of the gateway."""


class Act(msgspec.Struct):
    """What is about to be done."""

    run: Callable[[], Awaitable[Any]]
    agent_id: str = ""
    asker: str = ""
    correlation_id: UUID | None = None
    """Of the request that it goes back to."""


class Deed(msgspec.Struct):
    """What somebody does whom nobody asks."""

    name: str
    actor: str
    """With `{agent_id}`, or `{asker}` for whoever asked in the beginning."""
    gains: list[str]
    prepare: Callable[[Ground], Awaitable[Act]]


async def queued(ground: Ground) -> tuple[str, str, UUID]:
    """A command, and the id of the request that queued it."""
    agent_id = (await ground.agent())["agent_id"]
    answer = await ground.fleet.http.post("/commands", json={"agent_id": agent_id, "spec": PING})
    return agent_id, answer.json()["id"], UUID(answer.headers["X-Request-Id"])


async def asker_of(ground: Ground) -> str:
    return str((await ground.fleet.http.get("/me")).json()["actor"])


async def accept(ground: Ground) -> Act:
    agent_id, command_id, request_id = await queued(ground)
    return Act(lambda: ground.fleet.accept(agent_id, command_id), agent_id, correlation_id=request_id)


async def reject(ground: Ground) -> Act:
    agent_id, command_id, request_id = await queued(ground)
    reply = Accepted(command_id=UUID(command_id), attempt=1, status="rejected", code="unknown_kind")

    async def run() -> None:
        await ground.api.deliveries.accepted(AgentId(UUID(agent_id)), [reply], NAME, None)

    return Act(run, agent_id, correlation_id=request_id)


async def refuse(ground: Ground) -> Act:
    agent_id, command_id, request_id = await queued(ground)
    ids = AgentId(UUID(agent_id)), ClientId(UUID(ground.fleet.client_id))
    report = RefusalReport(
        run="x", number=1, at=utc_now(), what="delivery", code="bad_signature", command_id=UUID(command_id), attempt=1
    )
    return Act(
        lambda: RefusedOrderReports(ground.api.log, new_id).reported(*ids, report), agent_id, correlation_id=request_id
    )


async def start(ground: Ground) -> Act:
    agent_id, command_id, request_id = await queued(ground)
    await ground.fleet.accept(agent_id, command_id)
    return Act(lambda: ground.fleet.start(agent_id, command_id), agent_id, correlation_id=request_id)


def finish(outcome: str, event: str) -> Deed:
    async def prepare(ground: Ground) -> Act:
        agent_id, command_id, request_id = await queued(ground)
        await ground.fleet.accept(agent_id, command_id)
        await ground.fleet.start(agent_id, command_id)
        return Act(lambda: ground.fleet.finish(agent_id, command_id, outcome), agent_id, correlation_id=request_id)

    return Deed(f"an agent's result, {outcome}", "agent:{agent_id}", [event], prepare)


async def finish_late(ground: Ground) -> Act:
    agent_id, command_id, request_id = await queued(ground)
    await made(ground.fleet.http, f"/commands/{command_id}/cancel", {})
    return Act(lambda: ground.fleet.finish(agent_id, command_id), agent_id, correlation_id=request_id)


async def enroll(ground: Ground) -> Act:
    token = await made(ground.fleet.http, "/enrollment-tokens", {"site_id": ground.fleet.site_id})
    asked = EnrollRequest(
        token=token["token"],
        public_key=new_id().hex * 2,
        proof="",
        hostname="x",
        platform="linux",
        arch="x86_64",
        agent_version="0.1.0",
    )

    async def run() -> None:
        enrolled = await ground.api.enrollment().enroll(asked)
        act.agent_id, act.correlation_id = str(enrolled.agent_id), enrolled.agent_id

    act = Act(run)
    return act


def of_presence(do: Callable[[PresenceHandler, AgentId, ClientId], Awaitable[Any]], before: bool) -> Any:
    """What a gateway hears of an agent.

    Args:
        do: says it.
        before: the agent was there already.
    """

    async def prepare(ground: Ground) -> Act:
        presence = PresenceHandler(ground.api.log, new_id)
        ids = AgentId(UUID((await ground.agent())["agent_id"])), ClientId(UUID(ground.fleet.client_id))
        if before:
            await came(presence, *ids)
        return Act(lambda: do(presence, *ids), str(ids[0]))

    return prepare


async def came(presence: PresenceHandler, agent_id: AgentId, client_id: ClientId) -> None:
    await presence.connected([Arrival(agent_id=agent_id, client_id=client_id)], NAME)


async def left(presence: PresenceHandler, agent_id: AgentId, client_id: ClientId) -> None:
    await presence.disconnected([Departure(agent_id=agent_id, client_id=client_id)], NAME)


async def told(presence: PresenceHandler, agent_id: AgentId, client_id: ClientId) -> None:
    await presence.facts(agent_id, client_id, {"os": "linux"})


async def installed(ground: Ground) -> Act:
    agent_id, client_id = AgentId(UUID((await ground.agent())["agent_id"])), ClientId(UUID(ground.fleet.client_id))
    reports = SoftwareReports(ground.api.log, ground.api.pool, utc_now, new_id)
    packed = pack(listed([Package("bash", "5.2")], updates_known=True))
    return Act(lambda: reports.reported(agent_id, client_id, packed), str(agent_id))


def of_keys(do: Callable[[AgentKeys, AgentId], Awaitable[Any]], offered: bool = False) -> Any:
    """What an agent says of keys, after it offered one of its own, or before."""

    async def prepare(ground: Ground) -> Act:
        keys, agent_id = AgentKeys(ground.api.log, new_id), AgentId(UUID((await ground.agent())["agent_id"]))
        if offered:
            await keys.offered(agent_id, "ab" * 32)
        return Act(lambda: do(keys, agent_id), str(agent_id))

    return prepare


async def doubled(ground: Ground) -> Act:
    agent_id = (await ground.agent())["agent_id"]
    ids = AgentId(UUID(agent_id)), ClientId(UUID(ground.fleet.client_id))
    one, two = (Sighting(address="192.0.2.1", hostname=name, machine=name, instance=name) for name in "ab")
    return Act(lambda: DuplicateNotices(ground.api.log, new_id).noticed(*ids, one, two, NAME), agent_id)


async def expire(ground: Ground) -> Act:
    await queued(ground)
    reads = QueueReader(ground.api.pool.connection)
    keeper = Housekeeping(ground.api.log, ground.api.in_flight, reads, new_id)
    return Act(lambda: keeper.expire_due(utc_now() + timedelta(days=365)))


async def undecided(ground: Ground) -> Act:
    await ground.approval()

    async def find(now: datetime, limit: int) -> list[UUID]:
        async with ground.api.pool.connection() as connection:
            return await due(connection, now, limit)

    await ground.fleet.http.get("/approvals")
    expiry = ApprovalExpiry(ground.api.log, find, new_id)
    return Act(lambda: expiry.expire_due(utc_now() + timedelta(days=2)))


async def wait(ground: Ground) -> Act:
    token = await made(ground.fleet.http, "/enrollment-tokens", {"site_id": ground.fleet.site_id, **ASKS})

    async def run() -> None:
        enrollment_id = await waits(ground.api, token["token"])
        one = (await ground.fleet.http.get(f"/enrollments/{enrollment_id}")).json()
        act.agent_id, act.correlation_id = one["agent_id"], UUID(one["agent_id"])

    act = Act(run)
    return act


async def not_approved(ground: Ground) -> Act:
    await ground.waiting_machine()

    async def find(now: datetime, limit: int) -> list[UUID]:
        async with ground.api.pool.connection() as connection:
            return await enrollments_due(connection, now, limit)

    await ground.fleet.http.get("/enrollments")
    expiry = EnrollmentExpiry(ground.api.log, find, new_id)
    return Act(lambda: expiry.expire_due(utc_now() + timedelta(days=2)))


async def fan_out(ground: Ground) -> Act:
    answer = await ground.fleet.http.post("/rollouts", json=await ground.rollout_body())
    return await turning(ground, UUID(answer.headers["X-Request-Id"]))


def ended(event: str, **more: Any) -> Deed:
    """All that was queued of a rollout has ended."""

    async def prepare(ground: Ground) -> Act:
        answer = await ground.fleet.http.post("/rollouts", json=await ground.rollout_body(**more))
        request_id = UUID(answer.headers["X-Request-Id"])
        await (await turning(ground, request_id)).run()
        path = f"/rollouts/{answer.json()['id']}/agents"
        for one in (await ground.fleet.http.get(path, params={"state": "queued"})).json()["items"]:
            await ground.fleet.finish(one["agent_id"], one["command_id"])
        # Another one: the first goes by what it counted, for a moment.
        return await turning(ground, request_id)

    return Deed(f"a rollout comes to {event}", "scheduler", [event], prepare)


async def turning(ground: Ground, request_id: UUID) -> Act:
    """All that the scheduler has to do for rollouts now."""
    api = ground.api
    scheduler = FanOut(api.log, api.in_flight, RolloutReader(api.pool.connection), Impatient(), new_id)

    async def run() -> None:
        while True:
            # It leans on read models.
            await ground.fleet.http.get("/rollouts")
            if not await scheduler.turn(utc_now() + timedelta(seconds=1)):
                return

    await ground.fleet.http.get("/rollouts")
    return Act(run, asker=await asker_of(ground), correlation_id=request_id)


AGENT, GATEWAY = "agent:{agent_id}", f"gateway:{NAME}"
DEEDS = [
    Deed("a command expires", "scheduler", ["CommandExpired"], expire),
    Deed("a request that nobody decides", "scheduler", ["ApprovalExpired"], undecided),
    Deed("a machine that nobody approves", "scheduler", ["EnrollmentExpired"], not_approved),
    Deed("a machine waits for approval", AGENT, ["EnrollmentRequested"], wait),
    Deed("an agent accepts", AGENT, ["CommandDelivered"], accept),
    Deed("an agent rejects", AGENT, ["CommandRejected"], reject),
    Deed("an agent refuses what is forged", AGENT, ["OrderRefused"], refuse),
    Deed("an agent starts", AGENT, ["CommandStarted"], start),
    finish("succeeded", "CommandSucceeded"),
    finish("failed", "CommandFailed"),
    finish("timed_out", "CommandTimedOut"),
    finish("interrupted", "CommandInterrupted"),
    Deed("an agent's late result", AGENT, ["LateResultRecorded"], finish_late),
    Deed("an agent enrolls", AGENT, ["EnrollmentTokenUsed", "AgentEnrolled", "IntentAccepted"], enroll),
    Deed("an agent's facts", AGENT, ["AgentFactsReported"], of_presence(told, before=False)),
    Deed("what is installed", AGENT, ["AgentSoftwareReported"], installed),
    Deed("a key offered", AGENT, ["AgentKeyOffered"], of_keys(lambda keys, one: keys.offered(one, "ab" * 32))),
    Deed("a key used", AGENT, ["AgentKeyRotated"], of_keys(lambda keys, one: keys.used(one, "ab" * 32), offered=True)),
    Deed("a server's key", AGENT, ["AgentServerKeyLearned"], of_keys(lambda keys, one: keys.learned(one, 2))),
    Deed("an agent comes", GATEWAY, ["AgentConnected"], of_presence(came, before=False)),
    Deed("an agent goes", GATEWAY, ["AgentDisconnected"], of_presence(left, before=True)),
    Deed("two with one identity", GATEWAY, ["AgentDuplicateNoticed"], doubled),
    Deed("a rollout fans out", "{asker}", ["RolloutAdvanced", "CommandQueued", "CommandQueued"], fan_out),
    ended("RolloutWaveFinished", waves=[{"count": 1, "manual": True}]),
    ended("RolloutCompleted"),
]
"""In this order: what expires does so for all. A rollout's commands are queued by whoever started it."""
