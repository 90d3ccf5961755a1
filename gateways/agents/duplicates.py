"""Keeps two machines with one identity (a cloned disk) from being one agent.

Were both let in, each order would go to both, and what one of them does not know the server would take for lost. So
whoever connects while another is connected is compared with it: another run of the program, or another address. That
may be the same machine after its power was cut, whose connection the NATS server has not given up yet: so the other one
is asked for a sign of life. If it gives one, there are two, and the newcomer is not let in. A machine that came back to
the same server by itself is the same run from the same address, and costs nothing here.

Two that were let in at the same moment by two gateways are found by their connections, and treated alike.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client

from command_bus.handlers.duplicates import DuplicateNotices
from domain.duplicates import Sighting
from domain.errors import DomainError
from domain.ids import AgentId
from gateways.agents import metrics
from gateways.agents.directory import Directory, Entry
from schema import wire

_log = structlog.get_logger()
NOBODY_LISTENS = "503"
"""What a NATS server says itself, where nobody is subscribed."""
SIGN_OF_LIFE_S = 1.0
"""How long whoever is there has for it; it takes a round trip."""


class DuplicateAgentError(DomainError):
    """Another machine is this agent, and this looks like its clone: say which of them stays, or enroll it anew."""

    code = "duplicate_agent"
    status = 409


class There(msgspec.Struct, frozen=True):
    """A connection of an agent, and who is behind it."""

    who: wire.Instance | None
    """None where it did not say."""
    address: str


def must_not_be_barred(entry: Entry, who: wire.Instance | None) -> None:
    """Raise DuplicateAgentError if this machine was shut out as a clone."""
    if who is not None and who.machine in entry.barred:
        raise DuplicateAgentError


class Doorkeeper:
    """Judges newcomers for one gateway.

    Args:
        client: a connection to the agents' account.
        directory: of agents.
        notices: records what is noticed.
        there: the connections of an agent that are known.
        gateway: this one's name.
    """

    def __init__(
        self,
        client: Client,
        directory: Directory,
        notices: DuplicateNotices,
        there: Callable[[AgentId], Sequence[There]],
        gateway: str,
    ) -> None:
        self._client = client
        self._directory = directory
        self._notices = notices
        self._there = there
        self._gateway = gateway

    async def admit(self, entry: Entry, who: wire.Instance | None, address: str) -> None:
        """Let a newcomer pass.

        Raises:
            DuplicateAgentError: another machine is this agent.
            EventLogError: that cannot be recorded.
        """
        must_not_be_barred(entry, who)
        if who is None:
            return  # an agent that is too old to say
        others = [one for one in self._there(entry.agent_id) if not _is_same_run(one, who, address)]
        if not others:
            return
        alive = await self._signs_of_life(entry.agent_id, enough=1)
        if not alive:
            return
        await self._notice(entry, _sighting(alive[0], others[0].address), _sighting(who, address))
        raise DuplicateAgentError

    async def crowded(self, agent_id: AgentId, newcomer: There) -> bool:
        """Two connections of an agent are there; returns whether they are two machines, and the newcomer is to go."""
        if newcomer.who is None:
            return False
        alive = await self._signs_of_life(agent_id, enough=2)
        others = [one for one in alive if one.instance != newcomer.who.instance]
        entry = await self._directory.get(agent_id)
        if not others or entry is None:
            return False
        addresses = [one.address for one in self._there(agent_id) if one.who == others[0]]
        present = _sighting(others[0], addresses[0] if addresses else "")
        await self._notice(entry, present, _sighting(newcomer.who, newcomer.address))
        return True

    async def _notice(self, entry: Entry, present: Sighting, newcomer: Sighting) -> None:
        metrics.DUPLICATES.inc()
        if await self._notices.noticed(entry.agent_id, entry.client_id, present, newcomer, self._gateway):
            _log.warning(
                "duplicate_agent",
                agent_id=str(entry.agent_id),
                present=f"{present.hostname} {present.address}",
                newcomer=f"{newcomer.hostname} {newcomer.address}",
            )
            self._directory.forget(entry.agent_id)

    async def _signs_of_life(self, agent_id: AgentId, *, enough: int) -> list[wire.Instance]:
        return await signs_of_life(self._client, agent_id, enough=enough)


async def signs_of_life(client: Client, agent_id: AgentId, *, enough: int) -> list[wire.Instance]:
    """Who of those that listen as an agent answers; one that is too old to say who it is answers all the same.

    Args:
        client: a connection to the agents' account.
        agent_id: of the agent.
        enough: so many need not be waited beyond.
    """
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    found: dict[str, wire.Instance] = {}
    try:
        await client.publish(wire.command_subject(agent_id), wire.encode(wire.Probe()), reply=inbox)
        async with asyncio.timeout(SIGN_OF_LIFE_S):
            while len(found) < enough:
                reply = await replies.next_msg(SIGN_OF_LIFE_S)
                if reply.headers and reply.headers.get("Status") == NOBODY_LISTENS:
                    break
                one = _instance(reply.data)
                if one is not None:
                    found[one.instance] = one
    except (TimeoutError, nats.errors.Error):
        pass  # whoever has not answered by now is not there, or NATS is not
    finally:
        if client.is_connected:
            await replies.unsubscribe()
    return list(found.values())


def _instance(data: bytes) -> wire.Instance | None:
    try:
        reply: wire.DownlinkReply = wire.decode_downlink_reply(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None  # NATS itself, which says that nobody listens; or nonsense, which is no sign of life
    return reply.who if isinstance(reply, wire.ProbeReply) else wire.Instance(instance="", machine="", hostname="")


def _is_same_run(there: There, who: wire.Instance, address: str) -> bool:
    return there.who is not None and there.who.instance == who.instance and there.address == address


def _sighting(who: wire.Instance, address: str) -> Sighting:
    return Sighting(address=address, hostname=who.hostname, machine=who.machine, instance=who.instance)
