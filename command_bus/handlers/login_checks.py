"""Whether somebody is who they say: the one place where passwords and codes are compared, and where it is recorded.

Every attempt is counted before anything is compared. What is wrong is on record, with whom it was about and where it
came from, and never told.
"""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from command_bus.context import Clock, NewId
from command_bus.credential_store import CredentialStore
from command_bus.errors import BusyStreamError, LockedOutError, LoginRefusedError, ProofRefusedError
from command_bus.event_log import ConflictError, EventLog
from command_bus.second_factor import clean_code, is_totp, recovery_number, step_of
from domain.errors import RecoveryCodeUsedError
from domain.event import Change, Metadata
from domain.ids import UserId
from domain.login_attempts import LoginAttempt, LoginLockedOut, LoginRefused, Purpose, TotpCode, Why
from domain.logins import Login
from domain.sessions import Proof

ANONYMOUS = "anonymous"


class Visitor(msgspec.Struct, frozen=True):
    """Where a request came from."""

    address: str
    agent: str
    """What its program calls itself."""
    correlation_id: UUID


class Wait(msgspec.Struct, frozen=True):
    """Not now."""

    seconds: float
    first: bool
    """Nobody was told to wait so before."""


class Patience(Protocol):
    """Holds guesses back, by account and by address."""

    async def attempt(self, account: str, address: str) -> Wait | None:
        """Count an attempt, if it may be made now."""

    async def wait(self, account: str, address: str) -> Wait | None:
        """The same without counting."""

    async def succeeded(self, account: str, address: str) -> None:
        """It was no guess."""


class Shown(msgspec.Struct, frozen=True):
    """By what somebody has shown themselves, and what that uses up."""

    proof: Proof
    changes: Sequence[Change] = ()


class LoginChecks:
    """Compares and records.

    Args:
        log: the event log.
        credentials: what people log in with.
        patience: holds guesses back.
        clock: now.
        new_id: for refusals.
    """

    def __init__(
        self, log: EventLog, credentials: CredentialStore, patience: Patience, clock: Clock, new_id: NewId
    ) -> None:
        self._log = log
        self._credentials = credentials
        self._patience = patience
        self._clock = clock
        self._new_id = new_id

    async def admit(self, purpose: Purpose, account: str, user_id: UserId | None, visitor: Visitor) -> None:
        """Count an attempt.

        Args:
            purpose: what it is for.
            account: that is tried; of one that does not exist, something that stands for it.
            user_id: of the account, where it exists.
            visitor: who tries.

        Raises:
            LockedOutError: too many were wrong lately; nothing is compared.
        """
        wait = await self._patience.attempt(account, visitor.address)
        if wait is None:
            return
        seconds = int(wait.seconds) + 1
        if wait.first:
            attempt = LoginAttempt(self._new_id())
            locked = LoginLockedOut(purpose=purpose, user_id=user_id, address=visitor.address, wait_s=seconds)
            await self._log.append([attempt.lock_out(locked)], _metadata(purpose, user_id, visitor))
        raise LockedOutError(retry_after_s=seconds)

    async def forgive(self, account: str, visitor: Visitor) -> None:
        """It was no guess, and what it allows is still to come."""
        await self._patience.succeeded(account, visitor.address)

    async def password(self, login: Login, text: str) -> Shown | Why:
        """Compare a password; the same work is done where there is none."""
        right = await self._credentials.is_password(login.password_id, text)
        if login.password_id is None:
            return Why.NO_PASSWORD
        return Shown(Proof.PASSWORD) if right else Why.WRONG_PASSWORD

    async def code(self, login: Login, user_id: UserId, text: str | None) -> Shown | Why:
        """Compare a code from the device, or a recovery code; the same work is done where there is none."""
        code = clean_code(text or "")
        if is_totp(code):
            return await self.device_code(login.totp_id, user_id, code)
        hashes = await self._credentials.recovery(login.recovery_id)
        number = recovery_number(hashes, code)
        if not code:
            return Why.NO_CODE
        if number is None:
            return Why.WRONG_CODE
        try:
            return Shown(Proof.RECOVERY_CODE, [login.use_recovery_code(user_id, number)])
        except RecoveryCodeUsedError:
            return Why.USED_CODE

    async def device_code(self, value_id: UUID | None, user_id: UserId, text: str) -> Shown | Why:
        """Compare a code with one secret."""
        secret = await self._credentials.totp(value_id)
        step = step_of(secret, clean_code(text), self._clock())
        if secret is None or value_id is None or step is None:
            return Why.WRONG_CODE
        used = TotpCode(TotpCode.id_of(value_id, step))
        return Shown(Proof.TOTP, [used.use(user_id, step)])

    async def record(
        self, purpose: Purpose, account: str, user_id: UserId, visitor: Visitor, changes: Sequence[Change], codes: bool
    ) -> int:
        """Record what somebody has shown, together with what it allows.

        Args:
            purpose: what it was for.
            account: as in `admit`.
            user_id: who.
            visitor: from where.
            changes: all of it, recorded together or not at all.
            codes: whether a code is used up by it. The log takes each once, and refuses whoever comes second with it.

        Returns:
            The last position.

        Raises:
            LoginRefusedError, ProofRefusedError: the code is used up.
            BusyStreamError: something else has changed meanwhile.
        """
        metadata = Metadata(actor=f"user:{user_id}", correlation_id=visitor.correlation_id)
        try:
            positions = await self._log.append(list(changes), metadata)
        except ConflictError:
            if codes:
                raise await self.refused(purpose, Why.USED_CODE, user_id, visitor) from None
            raise BusyStreamError from None
        await self._patience.succeeded(account, visitor.address)
        return positions[-1]

    async def refused(
        self, purpose: Purpose, why: Why, user_id: UserId | None, visitor: Visitor
    ) -> LoginRefusedError | ProofRefusedError:
        """Record a refusal; returns what to raise, which says nothing of why."""
        await self.note(LoginRefused(purpose=purpose, why=why, user_id=user_id, address=visitor.address), visitor)
        return LoginRefusedError() if purpose is Purpose.LOG_IN else ProofRefusedError()

    async def note(self, refused: LoginRefused, visitor: Visitor) -> None:
        """Record a refusal."""
        metadata = _metadata(refused.purpose, refused.user_id, visitor)
        await self._log.append([LoginAttempt(self._new_id()).refuse(refused)], metadata)


def _metadata(purpose: Purpose, user_id: UserId | None, visitor: Visitor) -> Metadata:
    """Whoever logs in is nobody yet."""
    actor = ANONYMOUS if purpose is Purpose.LOG_IN or user_id is None else f"user:{user_id}"
    return Metadata(actor=actor, correlation_id=visitor.correlation_id)
