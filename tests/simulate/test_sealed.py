"""Simulated agents open what is sealed, as real ones do, and say so where it does not open."""

import asyncio
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from command_bus.ids import new_id
from domain.ids import AgentId
from gateways.bench.simulated import SimulatedIdentity
from gateways.simulate.agent import SimulatedMachine, World
from gateways.simulate.checks import Rule
from gateways.simulate.plan import Plan
from schema import wire
from schema.sealing import seal
from tests.agent.scripted import script


def _order(work: bytes) -> wire.Order:
    return wire.Order(
        command_id=new_id(),
        attempt=1,
        lane="default",
        priority=5,
        position=1,
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        age_ms=0,
        work=work,
        correlation_id=new_id(),
    )


async def test_what_is_sealed_is_opened_or_refused() -> None:
    """Sealed for this agent and this order it is taken; for another of either, or no work at all, it is a breach."""
    server = Ed25519PrivateKey.generate()
    identity = SimulatedIdentity(AgentId(new_id()), Ed25519PrivateKey.generate().private_bytes_raw())
    public = identity.key.public_key().public_bytes_raw()
    inner = wire.encode(wire.SecretWork(work=script("true"), secrets=["hush"]))
    async with asyncio.TaskGroup() as tasks:
        world = World(Plan(run_s=60), [], tasks)
        machine = SimulatedMachine(identity, server.public_key().public_bytes_raw(), world, 1)

        def told(order: wire.Order) -> tuple[str, str]:
            body = wire.encode(wire.DeliveryBody(agent_id=identity.agent_id, sent_at=datetime.now(UTC), orders=[order]))
            delivery = wire.Delivery(body=body, signature=server.sign(wire.SIGNING_CONTEXT + body))
            reply = wire.decode_downlink_reply(machine.reply_to(wire.encode(delivery)))
            assert isinstance(reply, wire.DeliveryReply)
            return reply.orders[0].status, reply.orders[0].code

        def sealed(key: bytes, name: bytes, plain: bytes = inner) -> bytes:
            return wire.encode(wire.SealedWork(sealed=seal(key, plain, name)))

        good = _order(b"")
        name = wire.sealed_name(identity.agent_id, good.command_id, 1)
        other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        for work, code in (
            (sealed(other, name), "not_for_this_agent"),
            (sealed(public, wire.sealed_name(identity.agent_id, new_id(), 1)), "not_for_this_agent"),
            (sealed(public, name, b"\xc1"), "malformed"),
            (b"\xc1", "malformed"),
        ):
            assert told(replace(good, work=work)) == ("rejected", code)
        assert [breach.rule for breach in world.checks.breaches] == [Rule.READABLE] * 4
        assert told(replace(good, work=sealed(public, name))) == ("accepted", "")
        assert len(world.checks.breaches) == 4
        world.end()
