"""Handlers for users and service accounts."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.grants import must_cover, to_record
from command_bus.handlers.scope import match_version
from command_bus.handlers.user_names import claim_name
from command_bus.intents.users import ChangeUser, CreateUser, DisableUser, EnableUser, GrantRoles
from command_bus.repository import load, load_existing
from domain.event import Change
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.users import User, UserCreated


class UserHandlers:
    """Add, change, grant, disable, enable.

    Nobody changes a user who may do more than they may themselves; else whoever manages users could have everything.
    """

    def __init__(self, log: EventLog, new_id: NewId) -> None:
        self._log = log
        self._new_id = new_id

    async def create(self, intent: CreateUser, caller: Caller, _stack: AsyncExitStack) -> Decision:
        grants = await to_record(self._log, intent.grants)
        await must_cover(self._log, caller, grants)
        user = User(self._new_id())
        created = user.create(UserCreated(kind=intent.kind, name=intent.name, email=intent.email, grants=grants))
        return _decided(user, [created, *await claim_name(self._log, "", user.name, user.stream_id)])

    async def change(self, intent: ChangeUser, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user = await self._user(intent.user_id, caller)
        before = user.name
        name = user.name if intent.name is None else intent.name
        changed = user.change(name, user.email if intent.email is None else intent.email)
        claim = await claim_name(self._log, before, user.name, user.stream_id)
        return _decided(user, [changed, *claim])

    async def grant(self, intent: GrantRoles, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user = await self._user(intent.user_id, caller)
        grants = await to_record(self._log, intent.grants)
        await must_cover(self._log, caller, grants)
        return _decided(user, [user.grant(grants)])

    async def disable(self, intent: DisableUser, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user = await self._user(intent.user_id, caller)
        disabled = user.disable(intent.reason)
        # Enabled again, they log in again.
        login = await load(self._log, Login, login_stream(user.stream_id))
        over = [login.revoke_sessions(UserId(user.stream_id), intent.reason)] if login.exists else []
        return _decided(user, [disabled, *over])

    async def enable(self, intent: EnableUser, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user = await self._user(intent.user_id, caller)
        return _decided(user, [user.enable(intent.reason)])

    async def _user(self, user_id: UUID, caller: Caller) -> User:
        user = await load_existing(self._log, User, user_id, "user")
        match_version(user, caller)
        await must_cover(self._log, caller, user.grants)
        return user


def _decided(user: User, changes: list[Change]) -> Decision:
    return Decision(changes=changes, answer=id_answer(user.stream_id), subject=user)
