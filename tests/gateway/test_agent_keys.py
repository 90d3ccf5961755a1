"""Another key of an agent takes over: ordered or asked for on the machine, cut anywhere, forged."""

import asyncio
import base64
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.identity import AgentKey, Identity
from agent.keyring import Keyring
from agent.main import main as agent_program
from command_bus.event_log import Selection
from command_bus.ids import new_id
from domain.agents import Agent, AgentEnrolled, AgentKeyOffered, AgentKeyRotated, Platform
from domain.commands import RotateKey
from domain.errors import AgentSuspendedError
from domain.ids import ClientId, SiteId
from gateways.bench.simulated import SimulatedAgent, SimulatedIdentity
from schema import wire
from schema.sealing import SealError, seal
from tests.agent.scripted import AgentProcess
from tests.gateway.harness import Fleet
from tests.gateway.test_access import refused

STEPS = ("key_made", "key_offered", "key_used", "key_kept")


class RealAgent:
    """The endpoint program itself, on a state directory as enrollment leaves it."""

    def __init__(self, fleet: Fleet, identity: SimulatedIdentity, folder: Path) -> None:
        self.agent_id = identity.agent_id
        self.folder = folder
        folder.mkdir(mode=0o711)
        (folder / "agent.key").write_text(identity.seed.hex())
        Identity(
            agent_id=identity.agent_id,
            server_url="http://127.0.0.1:9",
            server_public_key=fleet.keys.delivery.public_hex,
            nats_urls=list(fleet.nats.urls),
        ).save(folder)
        self.process = AgentProcess(folder)


@pytest.fixture
async def real(fleet: Fleet, data_dir: Path) -> Any:
    (identity,) = await fleet.identities()
    return RealAgent(fleet, identity, data_dir / "agent")


@pytest.fixture
def running(real: RealAgent) -> Iterator[RealAgent]:
    yield real
    real.process.clean_up()


async def succeeded(fleet: Fleet, command_id: UUID) -> None:
    """Wait, by the log's own follower, until a command has succeeded."""
    async with asyncio.timeout(20):
        async for page in fleet.log.follow(0, Selection(stream_id=command_id, types=("CommandSucceeded",))):
            if page:  # it yields an empty one now and then
                return


async def test_an_order_gives_an_agent_another_key(fleet: Fleet, running: RealAgent) -> None:
    """The agent makes a key, the old one vouches for it, it comes in under it, and then the old one opens nothing."""
    await fleet.gateway()
    before = AgentKey.load_or_create(running.folder)
    running.process.start()
    (command_id,) = await fleet.queue(running.agent_id, spec=RotateKey(), lane="system")
    (rotated,) = await fleet.until_event(running.agent_id, AgentKeyRotated)
    assert isinstance(rotated, AgentKeyRotated)
    assert rotated.previous == before.public_hex
    await succeeded(fleet, command_id)
    (after,) = await fleet.queue(running.agent_id)
    await succeeded(fleet, after)
    assert AgentKey.load_or_create(running.folder).public_hex == rotated.public_key
    stranger = SimulatedIdentity(running.agent_id, bytes.fromhex((running.folder / "agent.key.old").read_text()))
    assert await refused(fleet.simulate(stranger), fleet)


@pytest.mark.parametrize("step", STEPS)
async def test_killed_at(fleet: Fleet, running: RealAgent, step: str) -> None:
    """Killed at any step, the agent comes in again, and in the end has the new key alone."""
    await fleet.gateway()
    running.process.start(crash_at=step)
    (command_id,) = await fleet.queue(running.agent_id, spec=RotateKey(), lane="system")
    assert await running.process.exited() == -signal.SIGKILL
    running.process.start()
    (rotated,) = await fleet.until_event(running.agent_id, AgentKeyRotated)
    assert isinstance(rotated, AgentKeyRotated)
    await succeeded(fleet, command_id)
    (after,) = await fleet.queue(running.agent_id)
    await succeeded(fleet, after)
    keys = Keyring(running.folder)
    assert (keys.current.public_hex, keys.next) == (rotated.public_key, None)


async def test_whoever_sits_at_the_machine_may_ask_for_it(fleet: Fleet, running: RealAgent) -> None:
    """`fleetlog agent rotate-key` makes the key; the agent, when it runs, does the rest."""
    await fleet.gateway()
    for _ in range(2):  # asked for twice, it is one
        assert agent_program(["rotate-key", "--state-dir", str(running.folder)]) == 0
    made = Keyring(running.folder).next
    running.process.start()
    (rotated,) = await fleet.until_event(running.agent_id, AgentKeyRotated)
    assert isinstance(rotated, AgentKeyRotated)
    assert made is not None
    assert rotated.public_key == made.public_hex


def offer(agent: SimulatedAgent, key: Ed25519PrivateKey, *, by: Any = None, proof: Any = None) -> wire.KeyOffer:
    public = key.public_key().public_bytes_raw()
    said = wire.key_offer_proven(agent.agent_id, public)
    return wire.KeyOffer(
        public_key=public, proof=(proof or key).sign(said), proof_of_present=(by or agent.key).sign(said)
    )


async def test_both_keys_open_until_the_new_one_was_used(fleet: Fleet) -> None:
    """Offered, a key lets the agent in beside the old one; used once, it is the only one, at every gateway."""
    for name in ("gateway-1", "gateway-2"):
        await fleet.gateway(name)
    (identity,) = await fleet.identities()
    agent = await fleet.agent(identity)
    key = Ed25519PrivateKey.generate()
    for _ in range(2):
        assert isinstance(await agent.ask(offer(agent, key)), wire.Acknowledged)
    assert len(await fleet.until_event(agent.agent_id, AgentKeyOffered)) == 1
    await (await fleet.agent(identity)).close()
    following = SimulatedIdentity(identity.agent_id, key.private_bytes_raw())
    await (await fleet.agent(following)).close()
    for _ in range(4):  # whichever gateway is asked
        assert await refused(fleet.simulate(identity), fleet)
        await (await fleet.agent(following)).close()
    assert len(await fleet.until_event(agent.agent_id, AgentKeyRotated)) == 1


async def test_a_forged_offer_changes_nothing(fleet: Fleet) -> None:
    """A key that the present one does not vouch for, or that is not there, is refused; so is one for another agent."""
    await fleet.gateway()
    one, two = await fleet.identities(2)
    agent = await fleet.agent(one)
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    stolen = offer(await fleet.agent(two), key)
    good = offer(agent, key)
    for forged in (
        offer(agent, key, by=other),
        offer(agent, key, by=key),
        offer(agent, key, proof=other),
        stolen,
        wire.KeyOffer(public_key=b"short", proof=good.proof, proof_of_present=good.proof_of_present),
    ):
        reply = await agent.ask(forged)
        assert isinstance(reply, wire.Refused)
        assert reply.code == "bad_signature"
    assert not [one for one in await fleet.story(agent.agent_id) if isinstance(one, AgentKeyOffered)]
    assert await refused(fleet.simulate(SimulatedIdentity(one.agent_id, key.private_bytes_raw())), fleet)


async def test_a_signature_for_something_else_is_no_offer(fleet: Fleet) -> None:
    """What an agent signs to come in vouches for no key: each signature has a context of its own."""
    await fleet.gateway()
    agent = await fleet.agent()
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    bare = agent.agent_id.bytes + public
    for context in (wire.NATS_CONTEXT, wire.HTTP_CONTEXT, wire.ENROLL_CONTEXT):
        said = wire.KeyOffer(
            public_key=public,
            proof=key.sign(wire.ROTATE_CONTEXT + bare),
            proof_of_present=agent.key.sign(context + bare),
        )
        assert isinstance(await agent.ask(said), wire.Refused)
    assert base64.b64encode(public)


def test_what_was_sealed_for_the_key_before_still_opens(tmp_path: Path) -> None:
    """An order with secrets that waits in the journal while another key takes over is not lost."""
    keys = Keyring(tmp_path)
    before, name = keys.current, b"order"
    sealed = [seal(before.public_raw, b"old", name)]
    made = keys.make_next()
    sealed.append(seal(made.public_raw, b"next", name))
    for _ in range(2):
        assert [keys.unseal(one, name) for one in sealed] == [b"old", b"next"]
        if keys.next is not None:
            keys.promote(made)
    assert [Keyring(tmp_path).unseal(one, name) for one in sealed] == [b"old", b"next"]
    with pytest.raises(SealError):
        keys.unseal(seal(AgentKey(Ed25519PrivateKey.generate()).public_raw, b"x", name), name)


@given(st.lists(st.tuples(st.sampled_from(["offer", "use"]), st.sampled_from("abc")), max_size=12))
def test_there_is_always_one_key_that_opens(steps: list[tuple[str, str]]) -> None:
    """Whatever is offered and used in whatever order: a key takes over only if it was offered last, and was used."""
    agent = Agent(new_id())
    enrolled = AgentEnrolled(
        site_id=SiteId(new_id()),
        client_id=ClientId(new_id()),
        token_id=None,
        hostname="h",
        platform=Platform.LINUX,
        arch="x",
        agent_version="1",
        public_key="a",
    )
    agent.enroll(enrolled)
    present, following = "a", None
    for step, key in steps:
        if step == "offer":
            agent.offer_key(key)
            following = key if key not in (present, following) else following
        else:
            agent.use_key(key)
            if key == following:
                present, following = key, None
        assert (agent.public_key, agent.next_key) == (present, following)
    agent.suspend("")
    with pytest.raises(AgentSuspendedError):
        agent.offer_key("d")
