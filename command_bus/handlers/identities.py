"""Handlers for whom a provider may vouch for."""

from contextlib import AsyncExitStack
from uuid import UUID

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller
from command_bus.event_log import EventLog
from command_bus.handlers.grants import must_cover
from command_bus.handlers.identity_holders import holding_of
from command_bus.handlers.scope import match_version
from command_bus.intents.sso import LinkIdentity, UnlinkIdentity
from command_bus.repository import load, load_existing
from domain.errors import InvalidValueError, NotAPersonError, NotFoundError
from domain.identities import clean_identity
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.users import User, UserKind


class IdentityHandlers:
    """Link and unlink.

    Nobody does so to a user who may do more than they may themselves; else whoever manages users could be anybody.

    Args:
        log: the event log.
        issuer: of the provider that is set; None where none is.
    """

    def __init__(self, log: EventLog, issuer: str | None) -> None:
        self._log = log
        self._issuer = issuer

    async def link(self, intent: LinkIdentity, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user, login = await self._person(intent.user_id, caller)
        issuer = intent.issuer or self._issuer
        if issuer is None:
            raise InvalidValueError("issuer: no provider is set here, so name the one that the identity is of.")
        identity = clean_identity(issuer, intent.subject)
        holding = await holding_of(self._log, identity)
        user_id = UserId(user.stream_id)
        return Decision(changes=[login.link(user_id, identity), holding.hold(user_id)], answer=id_answer(holding.id))

    async def unlink(self, intent: UnlinkIdentity, caller: Caller, _stack: AsyncExitStack) -> Decision:
        user, login = await self._person(intent.user_id, caller)
        key = await self._log.names_key()
        identity = next((one for one in login.identities if intent.identity_id in one.ids(key)), None)
        if identity is None:
            raise NotFoundError(f"There is no identity {intent.identity_id} of {user.name}.")
        holding = await holding_of(self._log, identity)
        user_id = UserId(user.stream_id)
        changes = [login.unlink(user_id, identity, intent.reason), *holding.free(user_id)]
        return Decision(changes=changes, answer=id_answer(holding.id))

    async def _person(self, user_id: UUID, caller: Caller) -> tuple[User, Login]:
        user = await load_existing(self._log, User, user_id, "user")
        match_version(user, caller)
        await must_cover(self._log, caller, user.grants)
        if user.kind is not UserKind.PERSON:
            raise NotAPersonError
        return user, await load(self._log, Login, login_stream(user_id))
