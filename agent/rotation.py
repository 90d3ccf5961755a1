"""Another key takes over: made here, proven by the old one, and used from the next connection on.

What may be killed when, and why nobody is locked out: `agent.keyring`. Offering a key again is harmless.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from agent.errors import LaterError, LinkError
from agent.identity import AgentKey
from agent.keyring import Keyring
from agent.link import Link
from agent.steps import Steps
from schema import wire

log = logging.getLogger("fleetlog.agent.rotation")
LOOK_S = 5.0
"""How often it is looked whether somebody on this machine asked for another key (`fleetlog agent rotate-key`)."""

Ask = Callable[[str, wire.Uplink], Awaitable[wire.UplinkReply]]
"""Says something to the server and returns its answer; raises LinkError."""


class Rotation:
    """Sees to the next key, if there is one.

    Args:
        agent_id: of this agent.
        keys: of it.
        link: made anew once the server has heard of the next key.
        ask: says something to the server.
        steps: see `agent.steps`.
    """

    def __init__(self, agent_id: UUID, keys: Keyring, link: Link, ask: Ask, steps: Steps) -> None:
        self._agent_id = agent_id
        self._keys = keys
        self._link = link
        self._ask = ask
        self._steps = steps
        self._asked = asyncio.Event()

    def begin(self) -> str:
        """Make the next key, and see to it; returns its public half in hex."""
        key = self._keys.make_next()
        self._steps("key_made")
        self._asked.set()
        return key.public_hex

    def let_in(self, key: AgentKey) -> None:
        """The server has let this agent in under its next key."""
        self._steps("key_used")
        self._keys.promote(key)
        self._steps("key_kept")
        log.info("has another key public=%s", key.public_hex)

    async def run(self) -> None:
        """Offer what is to be offered, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._asked.wait()
            self._asked.clear()
            key = self._keys.next
            if key is not None:
                await self._offer(key)

    async def _offer(self, key: AgentKey) -> None:
        await self._link.wait_up()
        if self._keys.next is None:
            return  # the connection that is up now was made with it
        said = wire.key_offer_proven(self._agent_id, bytes.fromhex(key.public_hex))
        offer = wire.KeyOffer(
            public_key=bytes.fromhex(key.public_hex),
            proof=key.sign(said),
            proof_of_present=self._keys.current.sign(said),
        )
        try:
            reply = await self._ask("key", offer)
        except LinkError as error:
            pause_s = error.again_s if isinstance(error, LaterError) and error.again_s else LOOK_S
            log.info("the next key is not heard of, again in %.1f s: %s", pause_s, error)
            await asyncio.sleep(pause_s)
            self._asked.set()
            return
        self._steps("key_offered")
        if isinstance(reply, wire.Refused):
            log.error("the server will not have another key: %s: %s", reply.code, reply.detail)
            self._keys.drop_next()
            return
        self._link.renew()
