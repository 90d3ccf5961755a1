"""What agents' comings, goings and facts mean: events, each only when it says something new."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from command_bus.context import NewId
from command_bus.event_log import ConflictError, EventLog, EventLogError
from domain.agents import AgentConnected, AgentDisconnected, AgentFactsReported, facts_stream, presence_stream
from domain.event import Change, Event, Metadata, Recorded
from domain.ids import AgentId, ClientId

MAX_TRIES = 5


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """An agent is there."""

    agent_id: AgentId
    client_id: ClientId
    address: str = ""
    transport: str = "nats"


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """An agent is gone."""

    agent_id: AgentId
    client_id: ClientId
    reason: str = ""
    last_seen_at: datetime | None = None


M = TypeVar("M", Arrival, Departure)


class PresenceHandler:
    """Compares with the last event of each agent's presence or facts stream, so that saying it twice is one event."""

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def connected(self, arrivals: Sequence[Arrival], gateway: str) -> list[AgentId]:
        """Record who came; returns those who were not there before."""

        def decide(arrival: Arrival, last: Event | None) -> Event | None:
            if isinstance(last, AgentConnected) and last.transport == arrival.transport:
                return None
            return AgentConnected(gateway=gateway, address=arrival.address, transport=arrival.transport)

        return await self._record(arrivals, decide, gateway)

    async def disconnected(self, departures: Sequence[Departure], gateway: str) -> list[AgentId]:
        """Record who left; returns those who were there until now."""

        def decide(departure: Departure, last: Event | None) -> Event | None:
            if not isinstance(last, AgentConnected):
                return None
            return AgentDisconnected(gateway=gateway, reason=departure.reason, last_seen_at=departure.last_seen_at)

        return await self._record(departures, decide, gateway)

    async def facts(self, agent_id: AgentId, client_id: ClientId, facts: dict[str, Any]) -> bool:
        """Record facts that differ from the last ones; returns whether they did."""
        stream_id = facts_stream(agent_id)
        for _ in range(MAX_TRIES):
            head = (await self._log.read_heads([stream_id], tolerant=True)).get(stream_id)
            if head is not None and isinstance(head.event, AgentFactsReported) and head.event.facts == facts:
                return False
            event = AgentFactsReported(facts=facts)
            metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id())
            try:
                await self._log.append([_change(stream_id, head, event, agent_id, client_id)], metadata)
            except ConflictError:
                continue
            return True
        return False

    async def _record(
        self, messages: Sequence[M], decide: Callable[[M, Event | None], Event | None], gateway: str
    ) -> list[AgentId]:
        # The last word of a batch on an agent is the one that counts.
        waiting = {presence_stream(message.agent_id): message for message in messages}
        recorded: list[AgentId] = []
        for _ in range(MAX_TRIES):
            # What cannot be read says nothing of who is there, so whatever comes is news; it must not keep the others
            # from being recorded.
            heads = await self._log.read_heads(list(waiting), tolerant=True)
            changes: dict[UUID, Change] = {}
            for stream_id, message in waiting.items():
                head = heads.get(stream_id)
                event = decide(message, head.event if head is not None else None)
                if event is not None:
                    changes[stream_id] = _change(stream_id, head, event, message.agent_id, message.client_id)
            outcomes = await self._log.append_each(
                [
                    ([change], Metadata(actor=f"gateway:{gateway}", correlation_id=self._new_id()))
                    for change in changes.values()
                ]
            )
            done = set()
            for stream_id, outcome in zip(changes, outcomes, strict=True):
                if isinstance(outcome, EventLogError) and not isinstance(outcome, ConflictError):
                    raise outcome
                if not isinstance(outcome, EventLogError):
                    done.add(stream_id)
            recorded += [waiting[stream_id].agent_id for stream_id in done]
            waiting = {stream_id: waiting[stream_id] for stream_id in changes if stream_id not in done}
            if not waiting:
                break
        return recorded


def _change(stream_id: UUID, head: Recorded | None, event: Event, agent_id: AgentId, client_id: ClientId) -> Change:
    version = head.originator_version + 1 if head is not None else 1
    return Change(stream_id, version, event, agent_id, client_id)
