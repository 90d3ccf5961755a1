"""What a caller limited to some tenants may reach: to them, another tenant's things do not exist."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import UUID

from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.repository import load_existing, replay_existing
from domain.agents import Agent
from domain.clients import Client
from domain.commands import Command
from domain.errors import NotFoundError, StaleVersionError
from domain.event import Aggregate, Recorded
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
    """Load what a tenant owns, for a caller who sees that tenant, at the version the caller means.

    Raises:
        NotFoundError: there is no such thing, or the caller does not see it.
        StaleVersionError: it has changed since the caller read it (If-Match).
    """
    aggregate = await load_existing(log, kind, stream_id, _WHAT[kind])
    return _checked(aggregate, caller)


def visible_in(recorded: Sequence[Recorded], caller: Caller, kind: type[T], stream_id: UUID) -> T:
    """The same, of events that were read already."""
    return _checked(replay_existing(kind, stream_id, recorded, _WHAT[kind]), caller)


def _checked(aggregate: T, caller: Caller) -> T:
    _, client_id = aggregate.concerns()
    if client_id is not None and not caller.sees(client_id):
        raise NotFoundError(f"There is no {_WHAT[type(aggregate)]} {aggregate.stream_id}.")
    match_version(aggregate, caller)
    return aggregate


def match_version(aggregate: Aggregate, caller: Caller) -> None:
    """Raise StaleVersionError unless the aggregate is at the version that the caller read."""
    if caller.if_match is not None and caller.if_match != aggregate.version:
        raise StaleVersionError(f"It is at version {aggregate.version}, not {caller.if_match}; read it again.")
