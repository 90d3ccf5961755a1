"""Handlers for saved views: each person's own, and those that are shared with whoever sees their place."""

from contextlib import AsyncExitStack
from uuid import UUID

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.errors import ForbiddenError
from command_bus.event_log import EventLog
from command_bus.handlers.scope import match_version, visible
from command_bus.intents.views import ChangeView, RemoveView, SaveView
from command_bus.repository import load_existing
from domain.clients import Client
from domain.errors import InvalidValueError, NotFoundError
from domain.permissions import Permission
from domain.sites import Site
from domain.views import View, ViewTerms


def owner_of(caller: Caller) -> str:
    """Whose views the caller's are: their person's whichever way they come, or those of a key that is nobody's."""
    return f"user:{caller.user_id}" if caller.user_id is not None else caller.actor


class ViewHandlers:
    """Save, change and remove.

    Args:
        log: the event log.
        new_id: for new views.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def save(self, intent: SaveView, caller: Caller, _stack: AsyncExitStack) -> Decision:
        terms = await self._placed(intent.terms(), caller)
        view = View(self._new_id())
        return Decision(changes=[view.save(owner_of(caller), terms)], answer=id_answer(view.stream_id), subject=view)

    async def change(self, intent: ChangeView, caller: Caller, _stack: AsyncExitStack) -> Decision:
        view = await self._of(intent.view_id, caller)
        terms = await self._placed(intent.terms(), caller)
        return Decision(changes=[view.save(view.owner, terms)], answer=id_answer(view.stream_id), subject=view)

    async def remove(self, intent: RemoveView, caller: Caller, _stack: AsyncExitStack) -> Decision:
        view = await self._of(intent.view_id, caller)
        return Decision(changes=[view.remove()], answer=id_answer(view.stream_id), subject=view)

    async def _placed(self, terms: ViewTerms, caller: Caller) -> ViewTerms:
        """The same, with a place that there is and that the caller sees; one to be shared has a place of theirs."""
        caller = structs.replace(caller, if_match=None)
        if terms.site_id is not None:
            site = await visible(self._log, caller, Site, terms.site_id)
            if terms.client_id not in (None, site.client_id):
                raise InvalidValueError("site_id: a site of that client.")
            return structs.replace(terms, client_id=site.client_id)
        if terms.client_id is not None:
            await visible(self._log, caller, Client, terms.client_id)
        elif terms.shared and not caller.scope.everything:
            raise ForbiddenError(
                "A view of the whole fleet is shared by those who may edit machines everywhere; share one of a client."
            )
        return terms

    async def _of(self, view_id: UUID, caller: Caller) -> View:
        """A view that is the caller's own, or shared where the caller may edit machines."""
        view = await load_existing(self._log, View, view_id, "view")
        if view.removed or not (view.owner == owner_of(caller) or self._edits(view, caller)):
            raise NotFoundError(f"There is no view {view_id}.")
        match_version(view, caller)
        return view

    @staticmethod
    def _edits(view: View, caller: Caller) -> bool:
        scope = caller.access.scope(Permission.AGENTS_EDIT)
        if not view.shared:
            return False
        return scope.everything if view.client_id is None else scope.holds(view.client_id, view.site_id)
