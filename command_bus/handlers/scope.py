"""What a caller limited to some clients or sites may reach: to them, what lies elsewhere does not exist.

A machine's things are where the machine is now: who sees a site sees the past of the machines that are there, so far as
they were the same client's then.
"""

from typing import TypeVar
from uuid import UUID

from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.repository import load_existing
from domain.agents import Agent
from domain.clients import Client
from domain.commands import Command
from domain.errors import NotFoundError, StaleVersionError
from domain.event import Aggregate
from domain.sites import Site
from domain.tokens import EnrollmentToken

T = TypeVar("T", Agent, Client, Command, Site, EnrollmentToken)

_WHAT: dict[type[Aggregate], str] = {
    Agent: "agent",
    Client: "client",
    Command: "command",
    Site: "site",
    EnrollmentToken: "enrollment token",
}


async def visible(log: EventLog, caller: Caller, kind: type[T], stream_id: UUID) -> T:
    """Load what a tenant owns, for a caller who sees it, at the version the caller means.

    Raises:
        NotFoundError: there is no such thing, or the caller does not see it.
        StaleVersionError: it has changed since the caller read it (If-Match).
    """
    return await _checked(log, await load_existing(log, kind, stream_id, _WHAT[kind]), caller)


async def _checked(log: EventLog, aggregate: T, caller: Caller) -> T:
    _, client_id = aggregate.concerns()
    if client_id is not None and not caller.scope.holds(client_id, await _site_of(log, aggregate, caller)):
        raise NotFoundError(f"There is no {_WHAT[type(aggregate)]} {aggregate.stream_id}.")
    match_version(aggregate, caller)
    return aggregate


async def _site_of(log: EventLog, aggregate: T, caller: Caller) -> UUID | None:
    """Where it is, so far as it matters to the caller."""
    if not caller.scope.sites:
        return None
    match aggregate:
        case Agent() | EnrollmentToken():
            return aggregate.site_id
        case Site():
            return aggregate.stream_id
        case Command():
            return (await load_existing(log, Agent, aggregate.queued.agent_id, "agent")).site_id
        case _:
            return None


def match_version(aggregate: Aggregate, caller: Caller) -> None:
    """Raise StaleVersionError unless the aggregate is at the version that the caller read."""
    if caller.if_match is not None and caller.if_match != aggregate.version:
        raise StaleVersionError(f"It is at version {aggregate.version}, not {caller.if_match}; read it again.")
