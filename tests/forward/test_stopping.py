"""A forwarder that has stopped has left nothing behind."""

import asyncio
from collections.abc import Sequence

from domain.destinations import Destination
from gateways.forward.channel import Channel
from gateways.forward.envelope import Outgoing
from gateways.forward.errors import UnreachableError
from gateways.forward.service import Forwarder
from tests.forward.receivers import HERE, KEYS, Place, WebReceiver


class Deaf:
    """A way that takes the first cancellation for a broken connection, as `asyncio.wait_for` may before Python 3.12."""

    at_once = 1

    def __init__(self, channel: Channel, sending: asyncio.Event) -> None:
        self._channel = channel
        self._sending = sending

    async def open(self) -> None:
        await self._channel.open()

    async def close(self) -> None:
        await self._channel.close()

    async def settled(self) -> int | None:
        return await self._channel.settled()

    async def send(self, events: Sequence[Outgoing]) -> None:
        self._sending.set()
        try:
            await self._channel.send(events)
        except asyncio.CancelledError:
            raise UnreachableError("broken") from None


class DeafForwarder(Forwarder):
    """Its ways are so."""

    sending: asyncio.Event

    async def _channel(self, destination: Destination) -> Channel:
        return Deaf(await super()._channel(destination), self.sending)


async def test_who_sends_has_ended_when_it_has_stopped(here: Place) -> None:
    """Also where a sender did not hear that it was to end; it would go on, over and over, with a closed pool."""
    await here.grow(5)
    async with WebReceiver().serving() as receiver:
        receiver.holds = 1
        one, _ = await here.add({"kind": "webhook", "url": receiver.url})
        forwarder = DeafForwarder(here.url, KEYS, HERE, look_s=0.05)
        forwarder.sending = asyncio.Event()
        await forwarder.start()
        await asyncio.wait_for(forwarder.sending.wait(), 20)
        assert list(forwarder.sends_to) == [one]
        await forwarder.stop()
        left = {task.get_name() for task in asyncio.all_tasks()}
        receiver.go_on.set()
    assert left.isdisjoint({"forwarder", f"forward-{one}"})
    assert list(forwarder.sends_to) == []
