"""Handlers for roles. Those that are built in are nobody's to change."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.clients import rename_claim
from command_bus.handlers.grants import must_include
from command_bus.handlers.scope import match_version
from command_bus.intents.roles import ChangeRole, CreateRole, RetireRole
from command_bus.repository import load_existing
from domain.access import Access, Right
from domain.errors import BuiltInRoleError
from domain.event import Change
from domain.ids import RoleId
from domain.roles import BUILT_IN_IDS, CustomRole
from domain.scopes import EVERYTHING


class RoleHandlers:
    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def create(self, intent: CreateRole, caller: Caller, _stack: AsyncExitStack) -> Decision:
        role = CustomRole(self._new_id())
        created = role.create(intent.name, frozenset(intent.permissions), intent.limits.to_domain())
        _must_be_theirs(caller, role)
        return _decided(role, [created, *await rename_claim(self._log, "role", None, "", role.name, role.stream_id)])

    async def change(self, intent: ChangeRole, caller: Caller, _stack: AsyncExitStack) -> Decision:
        role = await self._role(intent.role_id, caller)
        before = role.name
        changed = role.change(
            role.name if intent.name is None else intent.name,
            role.permissions if intent.permissions is None else frozenset(intent.permissions),
            role.limits if intent.limits is None else intent.limits.to_domain(),
        )
        _must_be_theirs(caller, role)
        claim = await rename_claim(self._log, "role", None, before, role.name, role.stream_id)
        return _decided(role, [changed, *claim])

    async def retire(self, intent: RetireRole, caller: Caller, _stack: AsyncExitStack) -> Decision:
        role = await self._role(intent.role_id, caller)
        return _decided(role, [role.retire(intent.reason)])

    async def _role(self, role_id: UUID, caller: Caller) -> CustomRole:
        if RoleId(role_id) in BUILT_IN_IDS:
            raise BuiltInRoleError
        role = await load_existing(self._log, CustomRole, role_id, "role")
        match_version(role, caller)
        _must_be_theirs(caller, role)
        return role


def _must_be_theirs(caller: Caller, role: CustomRole) -> None:
    """Nobody makes or changes a role that allows more than they may themselves, everywhere."""
    must_include(caller, Access((Right(role.terms, EVERYTHING),)))


def _decided(role: CustomRole, changes: list[Change]) -> Decision:
    return Decision(changes=changes, answer=id_answer(role.stream_id), subject=role)
