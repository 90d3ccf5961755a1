"""Live output of running commands, for whoever watches: best effort, from NATS, and without what nobody may see."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg

from command_bus.event_log import EventLog
from domain.ids import AgentId
from gateways.agents.connection import connect
from gateways.agents.duplicates import signs_of_life
from gateways.agents.keys import KeysInUse, wait_for_keys
from gateways.agents.masking import Masks
from gateways.cancelling import end
from gateways.tls import SYSTEM, Authorities
from schema import wire

BACKLOG_BYTES = 1024 * 1024
"""What waits for a slow watcher; beyond that the oldest pieces are dropped."""


class LiveOutput:
    """Follows commands' output. Start it with the process; while NATS is away there is simply nothing to see.

    Args:
        log: says whose command it is.
        masks: know what is not to be seen of it.
        database_url: where the fleet's keys are.
        nats_urls: of the servers.
        name: of the process.
        authorities: whom to trust over TLS.
    """

    def __init__(
        self,
        log: EventLog,
        masks: Masks,
        database_url: str,
        nats_urls: Sequence[str],
        name: str,
        authorities: Authorities = SYSTEM,
    ) -> None:
        self._log = log
        self._masks = masks
        self._database_url = database_url
        self._nats_urls = nats_urls
        self._name = name
        self._authorities = authorities
        self._connecting: asyncio.Task[Client] | None = None

    async def start(self) -> None:
        """Begin to connect; does not wait for it."""
        self._connecting = asyncio.create_task(self._connect(), name="live-connect")

    async def stop(self) -> None:
        if self._connecting is None:
            return
        if self._connecting.done() and not self._connecting.cancelled() and self._connecting.exception() is None:
            await self._connecting.result().close()
        await end((self._connecting,))

    @contextlib.asynccontextmanager
    async def follow(self, command_id: UUID) -> AsyncIterator[AsyncIterator[wire.OutputLive]]:
        """What one command prints: from its beginning or as far back as its agent remembers, and from now on."""
        pieces = _Backlog()

        async def on_piece(message: Msg) -> None:
            try:
                piece = wire.decode_live(message.data)
            except msgspec.MsgspecError:
                return
            if piece.command_id != command_id:
                return
            shown = piece if mask is None else await mask.shown(piece)
            if shown is not None:
                pieces.put(shown)

        if self._connecting is None:
            raise RuntimeError("LiveOutput was not started.")
        client = await asyncio.shield(self._connecting)
        story = (await self._log.read_streams([command_id], tolerant=True, closed=True)).get(command_id)
        agent_id = story[0].agent_id if story else None
        mask = self._masks.live(story) if story else None
        # Only the command's own agent is heard: another could publish under this command's id too.
        subscription = (
            await client.subscribe(wire.live_subject(agent_id, command_id), cb=on_piece)
            if agent_id is not None
            else None
        )
        if agent_id is not None:
            # Behind the subscription on the same connection, so that the server knows it before the agent answers.
            await client.publish(wire.command_subject(agent_id), wire.encode(wire.OutputWatch(command_id=command_id)))
        try:
            yield _endless(pieces)
        finally:
            if subscription is not None and not client.is_closed:
                await subscription.unsubscribe()

    async def who_is_there(self, agent_id: AgentId) -> list[wire.Instance]:
        """Who listens as an agent at NATS just now; nobody where NATS is not there."""
        connecting = self._connecting
        if connecting is None or not connecting.done() or connecting.cancelled() or connecting.exception() is not None:
            return []
        client = connecting.result()
        return await signs_of_life(client, agent_id, enough=1) if client.is_connected else []

    async def _connect(self) -> Client:
        keys = KeysInUse(self._database_url, await wait_for_keys(self._database_url))
        return await connect(
            self._nats_urls,
            lambda: keys.keys.gateway,
            f"{self._name}-live",
            authorities=self._authorities,
            look=keys.look,
        )


class _Backlog:
    """Pieces of output, bounded by their bytes."""

    def __init__(self) -> None:
        self._pieces: deque[wire.OutputLive] = deque()
        self._size = 0
        self._came = asyncio.Event()

    def put(self, piece: wire.OutputLive) -> None:
        self._pieces.append(piece)
        self._size += len(piece.data)
        while self._size > BACKLOG_BYTES and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft().data)
        self._came.set()

    async def get(self) -> wire.OutputLive:
        while not self._pieces:
            self._came.clear()
            await self._came.wait()
        piece = self._pieces.popleft()
        self._size -= len(piece.data)
        return piece


async def _endless(pieces: _Backlog) -> AsyncIterator[wire.OutputLive]:
    while True:
        yield await pieces.get()
