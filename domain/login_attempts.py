"""What came of attempts to log in: codes that are used up, refusals, lockouts.

A code from a device is claimed as a stream of its own, named after secret and step, so the log itself refuses it a
second time. Refusals have streams of their own, too: nobody who guesses makes anybody's story longer. What somebody
typed as a name is never recorded, since people type passwords there.
"""

import enum
from typing import Any, ClassVar
from uuid import UUID

from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import UserId, derived_id
from domain.personal import Personal, SubjectKind


class Purpose(enum.StrEnum):
    """What somebody wanted to show themselves for."""

    LOG_IN = "log_in"
    PROOF = "proof"
    PASSWORD_CHANGE = "password_change"  # noqa: S105 -- names it
    ENROLLMENT = "enrollment"
    LOG_OUT = "log_out"
    """A provider's word that somebody has."""


class Why(enum.StrEnum):
    """What was wrong; on record, and never told to whoever tried."""

    UNKNOWN_USER = "unknown_user"
    DISABLED_USER = "disabled_user"
    NO_PASSWORD = "no_password"  # noqa: S105 -- names it
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 -- names it
    NO_CODE = "no_code"
    WRONG_CODE = "wrong_code"
    USED_CODE = "used_code"
    WRONG_PASSKEY = "wrong_passkey"
    SSO_UNKNOWN_ANSWER = "sso_unknown_answer"
    """It answers no login that was begun there, or came late, or twice."""
    SSO_DECLINED = "sso_declined"
    """The provider says no."""
    SSO_BAD_TOKEN = "sso_bad_token"  # noqa: S105 -- names it
    SSO_NOT_LINKED = "sso_not_linked"
    SSO_UNAVAILABLE = "sso_unavailable"


class CodeUsed(Event, frozen=True, kw_only=True):
    user_id: UserId
    step: int
    """Half minutes since 1970."""


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    return body


class LoginRefused(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 4
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was, 2: _as_it_was, 3: _as_it_was}
    """Since 2 there are passkeys, since 3 identities at a provider, since 4 its logouts."""
    personal: ClassVar[Personal | None] = Personal(fields=("address", "detail"), of=SubjectKind.USER, subject="user_id")

    purpose: Purpose
    why: Why
    user_id: UserId | None = None
    """Whom they said to be; None where nobody goes by that name."""
    address: str
    detail: str = ""
    """What was wrong with a provider's answer."""


class LoginLockedOut(Event, frozen=True, kw_only=True):
    """Too many were wrong: further ones are not looked at for a while, nor recorded."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was}
    """Since 2 there are a provider's logouts."""
    personal: ClassVar[Personal | None] = Personal(fields=("address",), of=SubjectKind.USER, subject="user_id")

    purpose: Purpose
    user_id: UserId | None = None
    address: str
    wait_s: int


class WrongKeysHeldBack(Event, frozen=True, kw_only=True):
    """An address sent so many wrong API keys or session tokens that it has to wait for each further one."""

    address: str


class TotpCode(Aggregate):
    """One code of one secret."""

    @staticmethod
    def id_of(secret_id: UUID, step: int) -> UUID:
        return derived_id("totp-code", secret_id, str(step))

    def use(self, user_id: UserId, step: int) -> Change:
        return self.decide(CodeUsed(user_id=user_id, step=step))

    def when(self, event: Event) -> None:
        match event:
            case CodeUsed():
                pass
            case _:
                super().when(event)


class LoginAttempt(Aggregate):
    """One attempt that came to nothing."""

    def refuse(self, refused: LoginRefused) -> Change:
        return self.decide(refused)

    def lock_out(self, locked: LoginLockedOut) -> Change:
        return self.decide(locked)

    def hold_back(self, held: WrongKeysHeldBack) -> Change:
        return self.decide(held)

    def when(self, event: Event) -> None:
        match event:
            case LoginRefused() | LoginLockedOut() | WrongKeysHeldBack():
                pass
            case _:
                super().when(event)
