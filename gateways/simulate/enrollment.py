"""How simulated agents become agents of a fleet: as real ones do, or in bulk by whoever has the database."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from command_bus.postgres_log import PostgresEventLog
from domain.ids import AgentId, ClientId, SiteId
from gateways.agents.keys import load_keys
from gateways.bench.simulated import VERSION, SimulatedIdentity, enroll_simulated
from projections.catalog import INLINE
from schema import wire

AT_ONCE = 8


class Poster(Protocol):
    """The API, as far as it is needed here; called from several threads."""

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a document, and return the answer."""


class Enrolled(msgspec.Struct, frozen=True):
    """Agents that may connect, and what they must know for it."""

    identities: Sequence[SimulatedIdentity]
    server_key: bytes
    nats_urls: Sequence[str]


async def enroll(api: Poster, count: int, tokens: Sequence[str]) -> Enrolled:
    """Each makes a key of its own and comes in by a token, over HTTP.

    Args:
        api: where.
        count: how many.
        tokens: shared out among them. The uses of one token are recorded one after the other, so those of one are
            enrolled in turn, and several tokens side by side.
    """

    async def in_turn(first: int, token: str) -> list[tuple[SimulatedIdentity, wire.EnrollReply]]:
        numbers = range(first, count, len(tokens))
        return [await asyncio.to_thread(enroll_one, api, token, hostname=f"simulated-{number}") for number in numbers]

    turns = await asyncio.gather(*(in_turn(first, token) for first, token in enumerate(tokens)))
    answers = [one for turn in turns for one in turn]
    reply = answers[0][1]
    return Enrolled([identity for identity, _ in answers], bytes.fromhex(reply.server_public_key), reply.nats_urls)


def enroll_one(
    api: Poster, token: str, *, hostname: str, platform: str = "linux", arch: str = "x86_64", version: str = VERSION
) -> tuple[SimulatedIdentity, wire.EnrollReply]:
    """One makes its key and comes in.

    Args:
        api: where.
        token: lets it in.
        hostname: what it says of itself; the fleet knows it by this.
        platform: likewise.
        arch: likewise.
        version: of its program.

    Returns:
        Who it is now, and what the server answered.
    """
    key = Ed25519PrivateKey.generate()
    request = wire.EnrollRequest(
        token=token,
        public_key=key.public_key().public_bytes_raw().hex(),
        proof=key.sign(wire.ENROLL_CONTEXT + token.encode()).hex(),
        hostname=hostname,
        platform=platform,
        arch=arch,
        agent_version=version,
    )
    reply = msgspec.convert(api.post("/enroll", msgspec.to_builtins(request)), wire.EnrollReply)
    return SimulatedIdentity(AgentId(reply.agent_id), key.private_bytes_raw()), reply


async def adopt(url: str, nats_urls: Sequence[str], count: int, client_id: UUID, site_id: UUID) -> Enrolled:
    """Record all of them as enrolled at once.

    Args:
        url: the database.
        nats_urls: where agents connect.
        count: how many.
        client_id: whose they are.
        site_id: where they are.
    """
    keys = await asyncio.to_thread(load_keys, url)
    log = PostgresEventLog(url, inline=INLINE, name="simulate")
    await log.start()
    try:
        identities = await enroll_simulated(log, count, ClientId(client_id), SiteId(site_id))
    finally:
        await log.stop()
    return Enrolled(identities, keys.delivery.public, nats_urls)
