"""Handlers for custom fields."""

from contextlib import AsyncExitStack
from uuid import UUID

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.scope import match_version, visible
from command_bus.intents.fields import (
    DefineField,
    FillAgentFields,
    FillClientFields,
    FillSiteFields,
    RemoveField,
    to_value,
)
from command_bus.placeholders import Resolver
from command_bus.repository import load, load_existing
from domain.agents import Agent
from domain.clients import Client
from domain.errors import InvalidValueError
from domain.fields import Field, FieldValues, Holder, field_stream, values_stream
from domain.ids import AgentId, ClientId
from domain.sites import Site


class FieldHandlers:
    """Define and remove fields; fill them in.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._resolver = Resolver(log)

    async def define(self, intent: DefineField, caller: Caller, _stack: AsyncExitStack) -> Decision:
        field = await load(self._log, Field, field_stream(intent.name))
        match_version(field, caller)
        change = field.define(intent.name, intent.terms.to_domain())
        return Decision(changes=[change], answer=id_answer(field.stream_id), subject=field)

    async def remove(self, intent: RemoveField, caller: Caller, _stack: AsyncExitStack) -> Decision:
        field = await load_existing(self._log, Field, intent.field_id, "field")
        match_version(field, caller)
        return Decision(changes=[field.remove()], answer=id_answer(field.stream_id), subject=field)

    async def fill(
        self, intent: FillClientFields | FillSiteFields | FillAgentFields, caller: Caller, _stack: AsyncExitStack
    ) -> Decision:
        holder, holder_id, client_id = await self._holder(intent, structs.replace(caller, if_match=None))
        filled = await load(self._log, FieldValues, values_stream(holder_id))
        match_version(filled, caller)
        filled.client_id = client_id
        filled.agent_id = AgentId(holder_id) if holder is Holder.AGENT else None
        given = {name.lower(): to_value(value) if value is not None else None for name, value in intent.values.items()}
        if len(given) != len(intent.values):
            raise InvalidValueError("values: a field may be named once only.")
        terms = await self._resolver.terms(list(given))
        change = filled.fill(holder, holder_id, given, {name: one for name, one in terms.items() if one is not None})
        return Decision(changes=[change], answer=id_answer(holder_id), subject=filled)

    async def _holder(
        self, intent: FillClientFields | FillSiteFields | FillAgentFields, caller: Caller
    ) -> tuple[Holder, UUID, ClientId]:
        match intent:
            case FillClientFields():
                client = await visible(self._log, caller, Client, intent.client_id)
                return Holder.CLIENT, client.stream_id, ClientId(client.stream_id)
            case FillSiteFields():
                site = await visible(self._log, caller, Site, intent.site_id)
                return Holder.SITE, site.stream_id, site.client_id
            case FillAgentFields():
                agent = await visible(self._log, caller, Agent, intent.agent_id)
                agent.must_not_be_erased()
                return Holder.AGENT, agent.stream_id, agent.client_id
