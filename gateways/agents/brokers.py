"""What the NATS servers say of themselves: which there are, who is connected to each, and off with whom.

A server that is killed says nothing, and the departures of its agents die with it. So the servers are asked each second
who they are and to whom they have routes; one that neither answers nor is named by another, three times in a row, is
gone. Being named counts: a server that is slow under a storm of connects must not make thousands of agents look gone.
Where nobody answers at all, nothing is known and nothing is concluded.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from gateways.agents.nats_config import ACCOUNT
from gateways.cancelling import end

_log = structlog.get_logger()
LOOK_S = 1.0
MISSES = 3
_PAGE = 1000
_REPLY_S = 2.0

Link = tuple[str, int]
"""A connection: the server's id, and its number there."""


class Connection(msgspec.Struct):
    """One line of a server's list."""

    cid: int
    authorized_user: str = ""
    ip: str = ""
    name: str = ""


class _Connections(msgspec.Struct):
    server_id: str
    total: int = 0
    connections: list[Connection] = []


class _Connz(msgspec.Struct):
    data: _Connections | None = None


class _Route(msgspec.Struct):
    remote_id: str = ""


class _Routes(msgspec.Struct):
    server_id: str
    routes: list[_Route] = []


class _Routez(msgspec.Struct):
    data: _Routes | None = None


_decode_connz = msgspec.json.Decoder(_Connz).decode
_decode_routez = msgspec.json.Decoder(_Routez).decode


class Brokers:
    """The servers, as one gateway knows them.

    Args:
        system: a connection to their system account.
        on_new: called when there is one that was not there before: what it said till now was not heard.
        on_gone: called with the id of one that is gone.
    """

    def __init__(self, system: Client, *, on_new: Callable[[], None], on_gone: Callable[[str], None]) -> None:
        self._system = system
        self._on_new = on_new
        self._on_gone = on_gone
        self._inbox = system.new_inbox()
        self._missed: dict[str, int] = {}
        self._named: set[str] = set()
        self._looked = False
        self._subscription: Any = None
        self._task: asyncio.Task[None] | None = None

    def there(self, server: str) -> bool:
        """Whether it is there, as far as is known."""
        return server in self._missed

    def heard(self, server: str) -> None:
        """It spoke by itself."""
        self._missed.setdefault(server, 0)

    async def start(self) -> None:
        self._subscription = await self._system.subscribe(self._inbox, cb=self._on_reply)
        self._task = asyncio.create_task(self._look_for_ever(), name="brokers")

    async def stop(self) -> None:
        if self._task is not None:
            await end((self._task,))
        if self._subscription is not None and self._system.is_connected:
            await self._subscription.unsubscribe()

    # -- which there are -------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        while True:
            if self._system.is_connected:
                with contextlib.suppress(nats.errors.Error):  # it goes just now: nobody is judged by this round
                    await self._system.publish("$SYS.REQ.SERVER.PING.ROUTEZ", b"", reply=self._inbox)
            await asyncio.sleep(LOOK_S)
            self._judge()

    async def _on_reply(self, message: Msg) -> None:
        try:
            data = _decode_routez(message.data).data
        except msgspec.MsgspecError as error:
            _log.warning("routes_unreadable", error=str(error))
            return
        if data is not None:
            self._named.add(data.server_id)
            self._named.update(route.remote_id for route in data.routes)

    def _judge(self) -> None:
        named, self._named = self._named, set()
        if not named:
            return
        new = named - self._missed.keys()
        self._missed = {server: 0 if server in named else self._missed[server] + 1 for server in self._missed}
        self._missed |= dict.fromkeys(new, 0)
        for server in [server for server, missed in self._missed.items() if missed >= MISSES]:
            _log.warning("nats_server_gone", server=server)
            del self._missed[server]
            self._on_gone(server)
        if new and self._looked:
            self._on_new()
        self._looked = True

    # -- who is connected ------------------------------------------------------------------------------------------

    async def connections(self) -> AsyncIterator[tuple[str, list[Connection]]]:
        """Pages of the lists of all servers that answer; each gives one page at least.

        Raises:
            nats.errors.Error: none answers, or one stopped half-way.
        """
        for data in await self._first_pages():
            page, offset = data, _PAGE
            yield page.server_id, page.connections
            while offset < page.total:
                more = await self._list(page.server_id, _ask(offset))
                if more is None:
                    break
                yield more.server_id, more.connections
                page, offset = more, offset + _PAGE

    async def _first_pages(self) -> list[_Connections]:
        inbox = self._system.new_inbox()
        replies = await self._system.subscribe(inbox)
        pages: dict[str, _Connections] = {}
        try:
            await self._system.publish("$SYS.REQ.SERVER.PING.CONNZ", _ask(0), reply=inbox)
            while True:
                # Those that are known are waited for; there may be more of them than are known yet.
                patience_s = _REPLY_S if not pages or self._missed.keys() - pages.keys() else 0.25
                data = _decode_connz((await replies.next_msg(patience_s)).data).data
                if data is not None:
                    pages[data.server_id] = data
        except nats.errors.TimeoutError:
            if not pages:
                raise
        finally:
            await replies.unsubscribe()
        return list(pages.values())

    async def _list(self, server: str, ask: bytes) -> _Connections | None:
        reply = await self._system.request(f"$SYS.REQ.SERVER.{server}.CONNZ", ask, _REPLY_S)
        return _decode_connz(reply.data).data

    async def connected(self, link: Link) -> bool:
        """Whether a connection is there, by the word of its server.

        Raises:
            nats.errors.Error: that does not answer.
        """
        try:
            data = await self._list(link[0], msgspec.json.encode({"cid": link[1]}))
        except nats.errors.NoRespondersError:
            return False
        return data is not None and bool(data.connections)

    async def kick(self, link: Link) -> None:
        """End a connection.

        Raises:
            nats.errors.Error: its server does not answer.
        """
        # The server ignores it unless it can answer, so it is a request although nothing depends on the answer.
        ask = msgspec.json.encode({"cid": link[1]})
        await self._system.request(f"$SYS.REQ.SERVER.{link[0]}.KICK", ask, _REPLY_S)


def _ask(offset: int) -> bytes:
    return msgspec.json.encode({"auth": True, "acc": ACCOUNT, "sort": "cid", "limit": _PAGE, "offset": offset})
