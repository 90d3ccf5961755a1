"""Handlers for clients and sites."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.scope import visible
from command_bus.intents.clients import CreateClient, CreateSite, RenameClient, RenameSite
from command_bus.repository import load_many
from domain.clients import Client
from domain.event import Change
from domain.ids import ClientId
from domain.names import Name, clean_name
from domain.sites import Site


class ClientHandlers:
    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def create_client(self, intent: CreateClient, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        client = Client(self._new_id())
        created = client.create(intent.name)
        claim = await rename_claim(self._log, "client", None, "", client.name, client.stream_id)
        return Decision(changes=[created, *claim], answer=id_answer(client.stream_id), subject=client)

    async def rename_client(self, intent: RenameClient, caller: Caller, _stack: AsyncExitStack) -> Decision:
        client = await visible(self._log, caller, Client, intent.client_id)
        before = client.name
        renamed = client.rename(intent.name)
        claim = await rename_claim(self._log, "client", None, before, client.name, client.stream_id)
        return Decision(changes=[renamed, *claim], answer=id_answer(client.stream_id), subject=client)

    async def create_site(self, intent: CreateSite, caller: Caller, _stack: AsyncExitStack) -> Decision:
        client = await visible(self._log, caller, Client, intent.client_id)
        site = Site(self._new_id())
        created = site.create(ClientId(client.stream_id), intent.name)
        claim = await rename_claim(self._log, "site", client.stream_id, "", site.name, site.stream_id)
        return Decision(changes=[created, *claim], answer=id_answer(site.stream_id), subject=site)

    async def rename_site(self, intent: RenameSite, caller: Caller, _stack: AsyncExitStack) -> Decision:
        site = await visible(self._log, caller, Site, intent.site_id)
        before = site.name
        renamed = site.rename(intent.name)
        claim = await rename_claim(self._log, "site", site.client_id, before, site.name, site.stream_id)
        return Decision(changes=[renamed, *claim], answer=id_answer(site.stream_id), subject=site)


async def rename_claim(
    log: EventLog, kind: str, scope: UUID | None, before: str, after: str, holder: UUID
) -> list[Change]:
    """Claim the new name and release the old, where they differ as names.

    Args:
        log: where the names' streams are.
        kind: client, site or script.
        scope: within which the name must be unique.
        before: the name held until now, or "" for none.
        after: the name wanted, cleaned.
        holder: who wants it.

    Raises:
        NameTakenError: another holds it.
    """
    old_id = Name.id_of(kind, scope, clean_name(before, what=kind)) if before else None
    new_id = Name.id_of(kind, scope, after)
    if old_id == new_id:
        return []
    names = await load_many(log, Name, [name_id for name_id in (new_id, old_id) if name_id is not None])
    changes = [names[new_id].claim(kind, scope, after, holder)]
    if old_id is not None and names[old_id].holder == holder:
        changes.append(names[old_id].release())
    return changes
