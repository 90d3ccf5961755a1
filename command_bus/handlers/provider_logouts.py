"""A logout at the provider ends sessions here, too (OpenID Connect Back-Channel Logout 1.0).

The provider itself says so, by a signed token; no browser is asked. Which sessions a token ends:

    sub alone      all that whoever the provider calls so began through it
    sid alone      those of that session there
    both           those of that session there, and those of which the provider did not say then of which they are

What was begun with a password or passkey goes on: the provider has never vouched for it. A token counts once (`jti`),
as a stream of its own, which is recorded together with what it ends.
"""

from command_bus.context import NewId
from command_bus.errors import (
    BusyStreamError,
    LockedOutError,
    LogoutRefusedError,
    ProviderUnavailableError,
    SsoOffError,
)
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.identity_holders import Holding, holding_of
from command_bus.handlers.login_checks import ANONYMOUS, Patience, Visitor
from command_bus.handlers.provider_roles import ACTOR
from command_bus.repository import load, load_many
from command_bus.session_rows import SessionRow, SessionRows
from command_bus.sso_flows import SsoFlows
from command_bus.sso_provider import LoggedOut, Provider, ProviderRefusedError, sid_hash
from domain.event import Change, Metadata
from domain.identities import Identity, ProviderLogout
from domain.login_attempts import LoginAttempt, LoginLockedOut, LoginRefused, Purpose, Why
from domain.sessions import Ending, UserSession

_MAX_TRIES = 5
_MAX_SHOWN = 200


class ProviderLogouts:
    """Takes such tokens.

    Args:
        log: the event log.
        rows: the table of sessions.
        flows: logins that have not come back.
        provider: of identities; None where there is none.
        patience: with those who send tokens that do not hold, by address.
        new_id: for refusals.
    """

    def __init__(
        self,
        log: EventLog,
        rows: SessionRows,
        flows: SsoFlows,
        provider: Provider | None,
        patience: Patience,
        new_id: NewId,
    ) -> None:
        self._log = log
        self._rows = rows
        self._flows = flows
        self._provider = provider
        self._patience = patience
        self._new_id = new_id

    async def take(self, token: str, visitor: Visitor) -> int:
        """End what a logout token ends; returns how many sessions. None is no error: they may be over already.

        Args:
            token: as it was sent.
            visitor: who sent it.

        Raises:
            SsoOffError: there is no provider.
            LogoutRefusedError: the token does not hold, or was taken before; on record.
            LockedOutError: too many that did not hold came from there lately.
            ProviderUnavailableError: the provider's keys cannot be asked for.
            BusyStreamError: sessions kept changing; nothing has ended yet.
        """
        if self._provider is None:
            raise SsoOffError
        # Nobody waits for having been right: a provider sends many at once when it ends everybody's session.
        if (wait := await self._patience.wait(visitor.address, visitor.address)) is not None:
            await self._held_back(int(wait.seconds) + 1, visitor, first=wait.first)
        try:
            told = await self._provider.logged_out(token)
        except ProviderRefusedError as error:
            raise await self._refused(visitor, Why.SSO_BAD_TOKEN, str(error)) from error
        except ProviderUnavailableError as error:
            await self._note(visitor, Why.SSO_UNAVAILABLE, error.detail)
            raise
        ended = await self._end(told, visitor)
        await self._patience.succeeded(visitor.address, visitor.address)
        return ended

    async def _end(self, told: LoggedOut, visitor: Visitor) -> int:
        issuer = self._issuer
        sid = sid_hash(issuer, told.sid) if told.sid is not None else None
        identity = Identity(issuer, told.subject) if told.subject is not None else None
        holding = await holding_of(self._log, identity) if identity is not None else None
        # First, so that whoever is on their way in does not begin a session behind it: see `Sso.log_in`.
        await self._flows.drop(holding.ids if holding is not None else None, sid)
        logout_id = ProviderLogout.id_of(issuer, told.jti)
        for _ in range(_MAX_TRIES):
            logout = await load(self._log, ProviderLogout, logout_id)
            if logout.exists:
                raise await self._refused(visitor, Why.SSO_BAD_TOKEN, "the logout token was taken before")
            over = await self._sessions_of(holding, sid)
            changes: list[Change] = [logout.take(issuer, tuple(sorted(one.stream_id for one in over)))]
            changes += [session.end(Ending.PROVIDER, visitor.address) for session in over]
            try:
                await self._log.append(changes, Metadata(actor=ACTOR, correlation_id=visitor.correlation_id))
            except ConflictError:
                continue  # the same token came twice at once, or a session was ended or shown once more just now
            for session in over:
                await self._rows.drop(session.stream_id)
            return len(over)
        raise BusyStreamError

    @property
    def _issuer(self) -> str:
        if self._provider is None:
            raise SsoOffError
        return self._provider.terms.issuer

    async def _sessions_of(self, holding: Holding | None, sid: bytes | None) -> list[UserSession]:
        """Those that go on, and end by it."""
        rows: list[SessionRow] = []
        if holding is not None:
            rows = await self._rows.of_user(holding.holder) if holding.holder is not None else []
            rows = [row for row in rows if sid is None or row.sid_sha256 in (sid, None)]
        elif sid is not None:
            rows = await self._rows.of_provider(sid)
        found = await load_many(self._log, UserSession, [row.session_id for row in rows])
        sessions = [found[row.session_id] for row in rows]
        if holding is not None:
            sessions = [one for one in sessions if one.identity_id in holding.ids]
        return [one for one in sessions if one.exists and not one.ended]

    async def _held_back(self, wait_s: int, visitor: Visitor, *, first: bool) -> None:
        if first:
            attempt = LoginAttempt(self._new_id())
            locked = LoginLockedOut(purpose=Purpose.LOG_OUT, address=visitor.address, wait_s=wait_s)
            await self._log.append([attempt.lock_out(locked)], _metadata(visitor))
        raise LockedOutError(retry_after_s=wait_s)

    async def _refused(self, visitor: Visitor, why: Why, detail: str) -> LogoutRefusedError:
        await self._patience.attempt(visitor.address, visitor.address)
        await self._note(visitor, why, detail)
        return LogoutRefusedError()

    async def _note(self, visitor: Visitor, why: Why, detail: str) -> None:
        refused = LoginRefused(purpose=Purpose.LOG_OUT, why=why, address=visitor.address, detail=detail[:_MAX_SHOWN])
        await self._log.append([LoginAttempt(self._new_id()).refuse(refused)], _metadata(visitor))


def _metadata(visitor: Visitor) -> Metadata:
    return Metadata(actor=ANONYMOUS, correlation_id=visitor.correlation_id)
