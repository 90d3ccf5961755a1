"""A broker in foreign hands: it can alter, swap, repeat and keep back what the server signed, in vain."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schema import trust, wire
from tests.agent.scripted import AgentProcess, ScriptedGateway, script

CONTEXTS = (
    wire.SIGNING_CONTEXT,
    wire.CANCEL_CONTEXT,
    wire.HELD_CONTEXT,
    trust.TRUST_CONTEXT,
    wire.NATS_CONTEXT,
    wire.HTTP_CONTEXT,
    wire.ENROLL_CONTEXT,
    wire.ROTATE_CONTEXT,
)


def test_no_two_contexts_are_alike() -> None:
    """Each ends in a zero byte and none begins another, so that no signature can stand for anything else."""
    assert all(context.endswith(b"\x00") and context.count(b"\x00") == 1 for context in CONTEXTS)
    assert len(set(CONTEXTS)) == len(CONTEXTS)


async def test_nothing_is_done_that_the_server_has_not_signed_for_it(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """Altered in one bit, signed for something else, or by somebody else: rejected, and not run."""
    ran = place / "ran"
    agent.start()
    await gateway.hello()
    await gateway.deliver(gateway.order(wire.PingWork()))
    order = gateway.order(script(f"echo run >> {ran}"))
    good = wire.decode_downlink(gateway.delivery(order))
    assert isinstance(good, wire.Delivery)
    altered = good.body.replace(b"echo run", b"echo rum")
    assert altered != good.body
    for body, signature in (
        (altered, good.signature),
        (good.body, bytes(64)),
        (good.body, b""),
        (good.body, Ed25519PrivateKey.generate().sign(wire.SIGNING_CONTEXT + good.body)),
        (good.body, gateway.server_key.sign(good.body)),
        *((good.body, gateway.server_key.sign(context + good.body)) for context in CONTEXTS[1:]),
    ):
        reply = await gateway.ask(wire.encode(wire.Delivery(body=body, signature=signature)))
        assert isinstance(reply, wire.DeliveryReply)
        assert [(one.status, one.code) for one in reply.orders] == [("rejected", "bad_signature")]
    cancel = wire.encode(
        wire.CancelBody(agent_id=gateway.agent_id, sent_at=datetime.now(UTC), command_ids=[order.command_id])
    )
    refused = await gateway.ask(wire.encode(wire.CancelRequest(body=cancel, signature=good.signature)))
    assert isinstance(refused, wire.Refused)
    assert not ran.exists()
    # The very order, as it was signed: what was refused has not spoiled it, nor does its repetition run it again.
    for _ in range(3):
        reply = await gateway.ask(wire.encode(good))
        assert isinstance(reply, wire.DeliveryReply)
        assert [one.status for one in reply.orders] == ["accepted"]
    assert (await gateway.result(order.command_id)).outcome == "succeeded"
    assert ran.read_text() == "run\n"


async def test_what_was_kept_back_until_it_expired_is_not_run(
    gateway: ScriptedGateway, agent: AgentProcess, place: Path
) -> None:
    """The agent goes by the latest time that the server signed, and refuses an order that ended before that."""
    ran = place / "ran"
    agent.start()
    await gateway.hello()
    soon = datetime.now(UTC) + timedelta(seconds=30)
    kept = gateway.delivery(gateway.order(script(f"echo late >> {ran}"), expires_at=soon))
    later = gateway.delivery(gateway.order(wire.PingWork()), sent_at=soon + timedelta(minutes=1))
    assert isinstance(await gateway.ask(later), wire.DeliveryReply)
    reply = await gateway.ask(kept)
    assert isinstance(reply, wire.DeliveryReply)
    assert [one.status for one in reply.orders] == ["expired"]
    assert not ran.exists()
