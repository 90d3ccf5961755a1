"""Handlers for how somebody else logs in. What people do for themselves is in `command_bus.handlers.sessions`."""

import secrets
from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.credential_store import CredentialStore
from command_bus.event_log import EventLog
from command_bus.handlers.grants import must_cover
from command_bus.handlers.scope import match_version
from command_bus.intents.logins import ResetSecondFactor, RevokeUserSessions, SetPassword
from command_bus.repository import load, load_existing
from domain.errors import NoMasterKeyError, NotAPersonError
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.passwords import check_password
from domain.users import User, UserKind

_RANDOM_BYTES = 15


def made_up_password() -> str:
    """One that nobody guesses: 120 random bits."""
    return secrets.token_urlsafe(_RANDOM_BYTES)


class LoginHandlers:
    """Set a password, take a second factor away, end sessions.

    Nobody does so to a user who may do more than they may themselves; else whoever manages users could be
    anybody.

    Args:
        log: the event log.
        new_id: for new values.
        credentials: keeps them; None where this process keeps none.
    """

    def __init__(self, log: EventLog, new_id: NewId, credentials: CredentialStore | None) -> None:
        self._log = log
        self._new_id = new_id
        self._kept = credentials

    @property
    def _credentials(self) -> CredentialStore:
        if self._kept is None:
            raise NoMasterKeyError
        return self._kept

    async def set_password(self, intent: SetPassword, caller: Caller, stack: AsyncExitStack) -> Decision:
        user, login = await self._person(intent.user_id, caller)
        given = intent.password.get_secret_value() if intent.password is not None else None
        password = check_password(given, user.name, user.email) if given is not None else made_up_password()
        before, value_id = login.password_id, self._new_id()
        change = login.set_password(UserId(user.stream_id), value_id, must_change=True)
        # On disk before the event that names it.
        await self._credentials.keep_password(login.stream_id, value_id, password)
        stack.push_async_exit(self._credentials.settle([value_id], [before]))
        shown = {} if given is not None else {"password": password}
        return Decision(changes=[change], answer=id_answer(user.stream_id), secret=shown)

    async def reset_second_factor(self, intent: ResetSecondFactor, caller: Caller, stack: AsyncExitStack) -> Decision:
        user, login = await self._person(intent.user_id, caller)
        gone = [login.totp_id, login.offered_id, login.recovery_id]
        change = login.remove_totp(UserId(user.stream_id), intent.reason)
        stack.push_async_exit(self._credentials.settle([], gone))
        return Decision(changes=[change], answer=id_answer(user.stream_id))

    async def revoke_sessions(self, intent: RevokeUserSessions, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user, login = await self._person(intent.user_id, caller)
        change = login.revoke_sessions(UserId(user.stream_id), intent.reason)
        return Decision(changes=[change], answer=id_answer(user.stream_id))

    async def _person(self, user_id: UUID, caller: Caller) -> tuple[User, Login]:
        user = await load_existing(self._log, User, user_id, "user")
        match_version(user, caller)
        await must_cover(self._log, caller, user.grants)
        if user.kind is not UserKind.PERSON:
            raise NotAPersonError
        return user, await load(self._log, Login, login_stream(user_id))
