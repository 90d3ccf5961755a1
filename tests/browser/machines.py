"""Machines that come, go and tell of themselves, as a gateway records it."""

from typing import Any
from uuid import UUID

from command_bus.handlers.presence import Arrival, Departure, PresenceHandler
from command_bus.ids import new_id
from domain.ids import AgentId, ClientId
from tests.rest.harness import Fleet


def presence(fleet: Fleet) -> PresenceHandler:
    return PresenceHandler(fleet.api.log, new_id)


async def come(fleet: Fleet, *agent_ids: str) -> None:
    client_id = ClientId(UUID(fleet.client_id))
    arrivals = [
        Arrival(agent_id=AgentId(UUID(one)), client_id=client_id, address="10.0.0.7", transport="nats")
        for one in agent_ids
    ]
    await presence(fleet).connected(arrivals, "test")


async def go(fleet: Fleet, agent_id: str) -> None:
    departure = Departure(agent_id=AgentId(UUID(agent_id)), client_id=ClientId(UUID(fleet.client_id)))
    await presence(fleet).disconnected([departure], "test")


async def tell(fleet: Fleet, agent_id: str, **facts: Any) -> None:
    await presence(fleet).facts(AgentId(UUID(agent_id)), ClientId(UUID(fleet.client_id)), facts)
