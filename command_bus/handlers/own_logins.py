"""What people do about their own password and second factor, in a session."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from command_bus.authenticating import LiveSession
from command_bus.context import NewId
from command_bus.credential_store import CredentialStore
from command_bus.errors import NoSessionError
from command_bus.event_log import EventLog
from command_bus.handlers.login_checks import LoginChecks, Shown, Visitor
from command_bus.handlers.sessions import Begun, Sessions, account_of
from command_bus.intents.sessions import ChangePassword, EnrollSecondFactor, OfferSecondFactor, RenewRecoveryCodes
from command_bus.repository import load, load_existing
from command_bus.second_factor import new_recovery_codes, new_secret, otpauth_uri, recovery_hash
from command_bus.session_rows import SessionRows
from domain.errors import NoSecondFactorError, SecondFactorThereError, WeakPasswordError
from domain.event import Change
from domain.ids import UserId
from domain.login_attempts import Purpose, Why
from domain.logins import Login, login_stream
from domain.passwords import check_password, clean_password
from domain.sessions import OF_PROVIDER, Ending, UserSession
from domain.users import User


class Offered(msgspec.Struct, frozen=True):
    """A second factor to enroll; shown once."""

    secret: str
    uri: str
    position: int


class Codes(msgspec.Struct, frozen=True):
    """Recovery codes; shown once."""

    codes: list[str]
    position: int


class OwnLogin:
    """Change the password, enroll and replace the second factor, make recovery codes.

    Args:
        log: the event log.
        rows: the table of sessions.
        sessions: begins those that go on under a new token.
        checks: of passwords and codes.
        credentials: keeps them.
        new_id: for new values.
    """

    def __init__(
        self,
        log: EventLog,
        rows: SessionRows,
        sessions: Sessions,
        checks: LoginChecks,
        credentials: CredentialStore,
        new_id: NewId,
    ) -> None:
        self._log = log
        self._rows = rows
        self._sessions = sessions
        self._checks = checks
        self._credentials = credentials
        self._new_id = new_id

    async def change_password(self, intent: ChangePassword, session: LiveSession, visitor: Visitor) -> Begun:
        """Set another password; the session goes on under a new token, and all others are over.

        Raises:
            ProofRefusedError: the present one is wrong.
            WeakPasswordError: the new one is too easy to guess, or the same.
        """
        user_id, purpose = session.user_id, Purpose.PASSWORD_CHANGE
        user = await load_existing(self._log, User, user_id, "user")
        current, new = intent.current.get_secret_value(), intent.new.get_secret_value()
        password = check_password(new, user.name, user.email)
        if password == clean_password(current):
            raise WeakPasswordError("new: it is the one that you have.")
        login = await self._login(user_id)
        await self._checks.admit(purpose, account_of(user_id, ""), user_id, visitor)
        shown = await self._checks.password(login, current)
        if isinstance(shown, Why):
            raise await self._checks.refused(purpose, shown, user_id, visitor)
        before, value_id = login.password_id, self._new_id()
        change = login.set_password(user_id, value_id, must_change=False)
        await self._credentials.keep_password(login.stream_id, value_id, password)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._credentials.settle([value_id], [before]))
            return await self._go_on(purpose, login, session, visitor, shown, [change])

    async def offer(self, intent: OfferSecondFactor, session: LiveSession, visitor: Visitor) -> Offered:
        """Make a secret for a second factor.

        Raises:
            SecondFactorThereError: there is one, and no code of it came with the request.
            ProofRefusedError: that code is wrong.
        """
        user_id = session.user_id
        user = await load_existing(self._log, User, user_id, "user")
        login = await self._login(user_id)
        used: Sequence[Change] = ()
        if login.totp_id is not None:
            if intent.code is None:
                raise SecondFactorThereError
            used = (await self._shown(login, user_id, visitor, intent.code.get_secret_value())).changes
        secret, value_id, before = new_secret(), self._new_id(), login.offered_id
        change = login.offer_totp(user_id, value_id)
        await self._credentials.keep_totp(login.stream_id, value_id, secret)
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._credentials.settle([value_id], [before]))
            position = await self._record(login, user_id, visitor, [*used, change], codes=bool(used))
        return Offered(secret, otpauth_uri(secret, user.name), position)

    async def enroll(
        self, intent: EnrollSecondFactor, session: LiveSession, visitor: Visitor
    ) -> tuple[Begun, list[str]]:
        """Take what was offered, on a code of it; the session goes on under a new token, and all others are over.

        Raises:
            NoSecondFactorError: nothing was offered.
            ProofRefusedError: the code is wrong.
        """
        user_id, purpose = session.user_id, Purpose.ENROLLMENT
        login = await self._login(user_id)
        if login.offered_id is None:
            raise NoSecondFactorError("No secret was offered; begin anew.")
        await self._checks.admit(purpose, account_of(user_id, ""), user_id, visitor)
        shown = await self._checks.device_code(login.offered_id, user_id, intent.code.get_secret_value())
        if isinstance(shown, Why):
            raise await self._checks.refused(purpose, shown, user_id, visitor)
        codes, recovery_id, gone = new_recovery_codes(), self._new_id(), [login.totp_id, login.recovery_id]
        change = login.enroll_totp(user_id, recovery_id)
        await self._credentials.keep_recovery(login.stream_id, recovery_id, [recovery_hash(code) for code in codes])
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._credentials.settle([recovery_id], gone))
            begun = await self._go_on(purpose, login, session, visitor, shown, [change])
        return begun, codes

    async def renew_codes(self, intent: RenewRecoveryCodes, session: LiveSession, visitor: Visitor) -> Codes:
        """Make new recovery codes.

        Raises:
            NoSecondFactorError: there is nothing to recover.
            ProofRefusedError: the code is wrong.
        """
        user_id = session.user_id
        login = await self._login(user_id)
        if login.totp_id is None:
            raise NoSecondFactorError
        shown = await self._shown(login, user_id, visitor, intent.code.get_secret_value())
        codes, value_id, before = new_recovery_codes(), self._new_id(), login.recovery_id
        change = login.make_recovery_codes(user_id, value_id)
        await self._credentials.keep_recovery(login.stream_id, value_id, [recovery_hash(code) for code in codes])
        async with AsyncExitStack() as stack:
            stack.push_async_exit(self._credentials.settle([value_id], [before]))
            position = await self._record(login, user_id, visitor, [*shown.changes, change], codes=True)
        return Codes(codes, position)

    async def _go_on(
        self,
        purpose: Purpose,
        login: Login,
        session: LiveSession,
        visitor: Visitor,
        shown: Shown,
        changes: Sequence[Change],
    ) -> Begun:
        """Record it, and have the session go on under a new token: who knew the old one is out (no fixation)."""
        user_id = session.user_id
        old = await load(self._log, UserSession, session.session_id)
        # What a provider vouched for holds for as long as the session goes on.
        proofs = (shown.proof, *(one for one in old.proofs if one in OF_PROVIDER))
        opened = await self._sessions.open(
            user_id, login, proofs, visitor, replaces=session, identity_id=old.identity_id
        )
        everything = [*shown.changes, *changes, old.end(Ending.REPLACED, visitor.address), opened.change]
        try:
            position = await self._checks.record(
                purpose, account_of(user_id, ""), user_id, visitor, everything, codes=bool(shown.changes)
            )
        except Exception:
            await self._rows.drop(opened.row.session_id)
            raise
        await self._sessions.forget_older(user_id, login.generation)
        return Begun(opened, login.pending_in(proofs), position)

    async def _shown(self, login: Login, user_id: UserId, visitor: Visitor, code: str) -> Shown:
        await self._checks.admit(Purpose.ENROLLMENT, account_of(user_id, ""), user_id, visitor)
        shown = await self._checks.code(login, user_id, code)
        if isinstance(shown, Why):
            raise await self._checks.refused(Purpose.ENROLLMENT, shown, user_id, visitor)
        return shown

    async def _record(
        self, login: Login, user_id: UserId, visitor: Visitor, changes: Sequence[Change], *, codes: bool
    ) -> int:
        del login
        return await self._checks.record(Purpose.ENROLLMENT, account_of(user_id, ""), user_id, visitor, changes, codes)

    async def _login(self, user_id: UserId) -> Login:
        return await load(self._log, Login, login_stream(user_id))


def session_of(session: LiveSession | None) -> LiveSession:
    """The session that a request came in.

    Raises:
        NoSessionError: it came with an API key.
    """
    if session is None:
        raise NoSessionError
    return session
