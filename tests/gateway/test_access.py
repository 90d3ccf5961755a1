"""Who comes in, and what they may do there: judged by the broker itself."""

import asyncio
import base64
from uuid import UUID

import nats
import nats.errors
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.handlers.enrollment import Enrollment
from command_bus.ids import new_id, utc_now
from command_bus.intents.agents import ResumeAgent, RetireAgent, SuspendAgent
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.enrollments import ApproveEnrollments
from command_bus.intents.tokens import CreateEnrollmentToken
from domain.agents import AgentConnected
from domain.enrollments import EnrollmentRequested
from domain.errors import EnrollmentWaitingError
from domain.ids import AgentId
from domain.refusals import AgentRefused, Door
from domain.tokens import Approval
from gateways.agents import presence
from gateways.agents.auth_callout import permissions
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from projections.enrollments import counting
from schema.wire import EnrollRequest, HelloReply
from tests.gateway.harness import Fleet

REFUSED = (nats.errors.Error, OSError, TimeoutError)


async def refused(agent: SimulatedAgent, fleet: Fleet) -> bool:
    try:
        await asyncio.wait_for(agent.connect(fleet.nats.urls), 10)
    except REFUSED:
        return True
    return False


async def test_an_agent_with_another_key_is_not_let_in(fleet: Fleet) -> None:
    """Knowing an agent's id is worth nothing without its key; that somebody tried is in its story."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    stranger = SimulatedIdentity(identity.agent_id, Ed25519PrivateKey.generate().private_bytes_raw())
    assert await refused(fleet.simulate(stranger), fleet)
    (told,) = await fleet.until_event(identity.agent_id, AgentRefused)
    assert told == AgentRefused(door=Door.CONNECT, code="bad_signature", address="127.0.0.1")


async def test_an_unknown_agent_is_not_let_in(fleet: Fleet) -> None:
    """A key of one's own making opens nothing."""
    await fleet.gateway()
    seed, name = Ed25519PrivateKey.generate().private_bytes_raw(), new_id()
    assert await refused(fleet.simulate(SimulatedIdentity(AgentId(name), seed)), fleet)
    async for page in fleet.log.follow(0, Selection(types=("AgentRefused",))):
        if page:
            assert page[0].event == AgentRefused(
                door=Door.CONNECT, code="unknown_agent", claimed=name, address="127.0.0.1"
            )
            break


async def test_a_machine_that_waits_for_approval_is_not_let_in(fleet: Fleet) -> None:
    """Not by the id that it will have, nor by that of its wish; from the moment of its approval it is."""
    await fleet.gateway()
    caller = Caller(actor="key:test", correlation_id=new_id())
    client_id = (await fleet.bus.dispatch(CreateClient(name="Acme"), caller)).answer["id"]
    site_id = (await fleet.bus.dispatch(CreateSite(client_id=client_id, name="Main"), caller)).answer["id"]
    token = await fleet.bus.dispatch(CreateEnrollmentToken(site_id=site_id, approval=Approval.REQUIRED), caller)
    key = Ed25519PrivateKey.generate()
    asked = EnrollRequest(
        token=token.answer["token"], public_key=key.public_key().public_bytes_raw().hex(), proof="", hostname="x",
        platform="linux", arch="x86_64", agent_version="0.1.0",
    )  # fmt: skip
    enrollment = Enrollment(fleet.log, utc_now, new_id, counting(fleet.pool.connection))
    with pytest.raises(EnrollmentWaitingError) as waits:
        await enrollment.enroll(asked)
    enrollment_id = UUID(waits.value.extra["enrollment_id"])
    (requested,) = await fleet.story(enrollment_id)
    assert isinstance(requested, EnrollmentRequested)
    machine = SimulatedIdentity(requested.agent_id, key.private_bytes_raw())
    for agent_id in (requested.agent_id, AgentId(enrollment_id)):
        assert await refused(fleet.simulate(SimulatedIdentity(agent_id, machine.seed)), fleet)
    await fleet.dispatch(ApproveEnrollments(enrollments=[enrollment_id]))
    assert (await enrollment.enroll(asked)).agent_id == requested.agent_id
    assert isinstance(await (await fleet.agent(machine)).hello(), HelloReply)


async def test_a_signature_of_the_bare_nonce_is_not_enough(fleet: Fleet) -> None:
    """The proof is bound to its purpose, so that one made for something else does not serve."""
    await fleet.gateway()
    agent = fleet.simulate((await fleet.identities())[0])
    agent.sign_nonce = lambda nonce: base64.b64encode(agent.key.sign(nonce.encode()))  # type: ignore[method-assign]
    assert await refused(agent, fleet)


@pytest.mark.parametrize("intent", [SuspendAgent, RetireAgent])
async def test_an_agent_that_is_suspended_or_retired_is_disconnected_and_stays_out(
    fleet: Fleet, intent: type[SuspendAgent | RetireAgent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed at the event itself, by no timer, and without a reload of anything."""
    monkeypatch.setattr(presence, "_KICK_AGAIN_S", (0.0,))
    await fleet.gateway()
    (identity,) = await fleet.identities()
    agent = await fleet.agent(identity)
    await fleet.until_event(agent.agent_id, AgentConnected)
    await fleet.dispatch(intent(agent_id=identity.agent_id, reason="lost"))
    await asyncio.wait_for(agent.closed.wait(), 20)
    assert await refused(fleet.simulate(identity), fleet)


async def test_a_connection_that_is_heard_of_too_late_is_closed_all_the_same(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let in just before it was suspended, an agent is closed as soon as the NATS server says that it has come."""
    monkeypatch.setattr(presence, "_KICK_AGAIN_S", (0.0,))
    there = (await fleet.gateway())._presence
    agent = await fleet.agent()
    await fleet.until_event(agent.agent_id, AgentConnected)
    ((link,),) = there._links.values()
    there._links.clear()
    await fleet.dispatch(SuspendAgent(agent_id=agent.agent_id))
    async with asyncio.timeout(20):
        state = "active"
        while there._kicks or state == "active":
            state = (await there._directory.get_many([agent.agent_id]))[agent.agent_id].state
            await asyncio.sleep(0.02)
    there._came(agent.agent_id, link, "127.0.0.1")
    await asyncio.wait_for(agent.closed.wait(), 20)


async def test_a_resumed_agent_comes_back_and_gets_what_waited(fleet: Fleet) -> None:
    """Suspension keeps its queue; resuming hands it over."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    (command_id,) = await fleet.queue(identity.agent_id)
    await fleet.dispatch(SuspendAgent(agent_id=identity.agent_id))
    assert await refused(fleet.simulate(identity), fleet)
    await fleet.dispatch(ResumeAgent(agent_id=identity.agent_id))
    agent = fleet.simulate(identity)
    # The gateway hears of it by following the log, a moment after the commit.
    async with asyncio.timeout(10):
        while await refused(agent, fleet):
            agent = fleet.simulate(identity)
    await agent.hello()
    await agent.until(lambda: len(agent.received) == 1)
    assert agent.received[0].command_id == command_id


def allowed(subject: str, patterns: list[str]) -> bool:
    """NATS' own rule for wildcards, for subjects without any."""
    for pattern in patterns:
        wanted, have = pattern.split("."), subject.split(".")
        if wanted[-1] == ">":
            if len(have) >= len(wanted) and all(w in ("*", h) for w, h in zip(wanted[:-1], have, strict=False)):
                return True
        elif len(wanted) == len(have) and all(w in ("*", h) for w, h in zip(wanted, have, strict=True)):
            return True
    return False


A, B = AgentId(new_id()), AgentId(new_id())
TOKENS = st.sampled_from(
    [
        "fleet",
        str(A),
        str(B),
        "cmd",
        "up",
        "out",
        "hello",
        "result",
        f"_INBOX_{A}",
        f"_INBOX_{B}",
        "_INBOX",
        "$SYS",
        "x",
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_the_broker_lets_an_agent_use_its_own_subjects_alone(fleet: Fleet, data: st.DataObject) -> None:
    """Invariant 8 at the broker: of random subjects, those of others are refused for publishing and for subscribing."""
    if not fleet.services:
        await fleet.gateway()
    agent = await fleet.agent()
    try:
        subjects = data.draw(
            st.lists(st.lists(TOKENS, min_size=1, max_size=5).map(".".join), min_size=1, max_size=8, unique=True)
        )
        subjects = [one.replace(str(A), str(agent.agent_id)) for one in subjects]
        mine = permissions(agent.agent_id)
        for subject in subjects:
            for verb, rule in (("publish", "pub"), ("subscribe", "sub")):
                agent.errors.clear()
                if verb == "publish":
                    await agent.client.publish(subject, b"")
                else:
                    await agent.client.subscribe(subject)
                # The server answers in order. The client may send a first ping ahead of what it has buffered, and a
                # second one only behind it.
                await agent.client.flush(10)
                await agent.client.flush(10)
                refused_here = any("permissions violation" in str(error).lower() for error in agent.errors)
                assert refused_here is not allowed(subject, mine[rule]["allow"]), (verb, subject)
    finally:
        await agent.close()
