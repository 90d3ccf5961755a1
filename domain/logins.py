"""How a person logs in: that there is a password, a second factor and recovery codes, and since when.

None of them is in an event. Each is kept sealed beside the log (`command_bus.credential_store`) under an id that
changes with each value, and here is that id. Whatever makes what was known before worthless raises the generation:
sessions of an older one are over, in the very transaction that says so.
"""

from collections.abc import Collection
from uuid import UUID

import msgspec

from domain.errors import InvalidValueError, NoSecondFactorError, RecoveryCodeUsedError
from domain.event import Aggregate, Change, Event
from domain.identities import MOST as MOST_IDENTITIES
from domain.identities import Identity, IdentityLinked, IdentityUnlinked
from domain.ids import UserId, derived_id
from domain.names import clean_name
from domain.passkeys import MOST, Passkey, PasskeyAdded, PasskeyRemoved, PasskeyRenamed
from domain.sessions import Proof


class PasswordSet(Event, frozen=True, kw_only=True):
    user_id: UserId
    value_id: UUID
    """Of the row that holds its hash, sealed."""
    must_change: bool = False
    """Somebody else knows it."""


class TotpOffered(Event, frozen=True, kw_only=True):
    """A secret was shown, and counts once a code from it comes back."""

    user_id: UserId
    value_id: UUID


class TotpEnrolled(Event, frozen=True, kw_only=True):
    """A code from the secret that was offered came back; recovery codes were shown."""

    user_id: UserId
    value_id: UUID
    recovery_id: UUID
    """Of the row that holds the recovery codes' hashes."""


class TotpRemoved(Event, frozen=True, kw_only=True):
    """By an administrator: at the next login another is enrolled. Recovery codes and passkeys go with it."""

    user_id: UserId
    reason: str = ""


class RecoveryCodesMade(Event, frozen=True, kw_only=True):
    user_id: UserId
    value_id: UUID


class RecoveryCodeUsed(Event, frozen=True, kw_only=True):
    """In place of a code from the device; it opens nothing any more."""

    user_id: UserId
    value_id: UUID
    number: int


class SessionsRevoked(Event, frozen=True, kw_only=True):
    """All of a user's sessions are over."""

    user_id: UserId
    reason: str = ""


def login_stream(user_id: UUID) -> UUID:
    """The stream of how a user logs in."""
    return derived_id("login", user_id)


class Login(Aggregate):
    """How one user logs in; without events: not at all."""

    password_id: UUID | None = None
    must_change: bool = False
    offered_id: UUID | None = None
    totp_id: UUID | None = None
    recovery_id: UUID | None = None
    recovery_used: frozenset[int] = frozenset()
    generation: int = 0

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.passkeys: dict[str, Passkey] = {}
        """By the id that the device calls each."""
        self.identities: set[Identity] = set()
        """At providers, who vouch for them."""

    @property
    def complete(self) -> bool:
        """Whether a session that a provider has no part in may do more than put this in order."""
        return not self.pending_in(())

    def pending_in(self, proofs: Collection[Proof]) -> tuple[str, ...]:
        """What has to be put in order first, in a session that was begun with these.

        Whoever comes from a provider has typed no password, and so need not change one that somebody else knows; it is
        still to be changed by who does type it.
        """
        password = self.must_change and Proof.SSO not in proofs
        totp = self.totp_id is None and Proof.SSO_SECOND_FACTOR not in proofs
        return (*(("password",) if password else ()), *(("totp",) if totp else ()))

    @property
    def values(self) -> frozenset[UUID]:
        """The rows that count."""
        held = (self.password_id, self.offered_id, self.totp_id, self.recovery_id)
        return frozenset(one for one in held if one is not None)

    def set_password(self, user_id: UserId, value_id: UUID, *, must_change: bool) -> Change:
        return self.decide(PasswordSet(user_id=user_id, value_id=value_id, must_change=must_change))

    def offer_totp(self, user_id: UserId, value_id: UUID) -> Change:
        return self.decide(TotpOffered(user_id=user_id, value_id=value_id))

    def enroll_totp(self, user_id: UserId, recovery_id: UUID) -> Change:
        """Take what was offered.

        Raises:
            NoSecondFactorError: nothing was.
        """
        if self.offered_id is None:
            raise NoSecondFactorError("No secret was offered; begin anew.")
        return self.decide(TotpEnrolled(user_id=user_id, value_id=self.offered_id, recovery_id=recovery_id))

    def remove_totp(self, user_id: UserId, reason: str) -> Change:
        if self.totp_id is None:
            raise NoSecondFactorError
        return self.decide(TotpRemoved(user_id=user_id, reason=reason))

    def make_recovery_codes(self, user_id: UserId, value_id: UUID) -> Change:
        if self.totp_id is None:
            raise NoSecondFactorError
        return self.decide(RecoveryCodesMade(user_id=user_id, value_id=value_id))

    def use_recovery_code(self, user_id: UserId, number: int) -> Change:
        """Use one up.

        Raises:
            RecoveryCodeUsedError: it is used up.
        """
        if self.recovery_id is None or number in self.recovery_used:
            raise RecoveryCodeUsedError
        return self.decide(RecoveryCodeUsed(user_id=user_id, value_id=self.recovery_id, number=number))

    def add_passkey(self, user_id: UserId, passkey: Passkey, *, synced: bool) -> Change:
        """Have one more.

        Raises:
            InvalidValueError: it is there already, or there are too many.
        """
        if passkey.credential_id in self.passkeys:
            raise InvalidValueError("That passkey is there already.")
        if len(self.passkeys) >= MOST:
            raise InvalidValueError(f"At most {MOST} passkeys; take one away first.")
        return self.decide(
            PasskeyAdded(
                user_id=user_id,
                name=clean_name(passkey.name, what="passkey"),
                credential_id=passkey.credential_id,
                public_key=passkey.public_key,
                synced=synced,
            )
        )

    def rename_passkey(self, user_id: UserId, passkey: Passkey, name: str) -> list[Change]:
        """Call it otherwise; called as it is, nothing happens.

        Raises:
            InvalidValueError: that is no name.
        """
        wanted = clean_name(name, what="passkey")
        if wanted == passkey.name:
            return []
        return [self.decide(PasskeyRenamed(user_id=user_id, credential_id=passkey.credential_id, name=wanted))]

    def remove_passkey(self, user_id: UserId, passkey: Passkey) -> Change:
        return self.decide(PasskeyRemoved(user_id=user_id, credential_id=passkey.credential_id))

    def link(self, user_id: UserId, identity: Identity) -> Change:
        """Let whom a provider calls so log in as this user.

        Raises:
            InvalidValueError: it is linked already, or there are too many.
        """
        if identity in self.identities:
            raise InvalidValueError("That identity is linked to this user already.")
        if len(self.identities) >= MOST_IDENTITIES:
            raise InvalidValueError(f"At most {MOST_IDENTITIES} identities; take one away first.")
        return self.decide(IdentityLinked(user_id=user_id, issuer=identity.issuer, subject=identity.subject))

    def unlink(self, user_id: UserId, identity: Identity, reason: str) -> Change:
        return self.decide(
            IdentityUnlinked(user_id=user_id, issuer=identity.issuer, subject=identity.subject, reason=reason)
        )

    def revoke_sessions(self, user_id: UserId, reason: str) -> Change:
        return self.decide(SessionsRevoked(user_id=user_id, reason=reason))

    def when(self, event: Event) -> None:
        match event:
            case PasswordSet():
                self.password_id, self.must_change = event.value_id, event.must_change
                self.generation += 1
                if event.must_change:
                    # Set by somebody else, since the account may be in the wrong hands: none of theirs stays.
                    self.passkeys.clear()
            case TotpOffered():
                self.offered_id = event.value_id
            case TotpEnrolled():
                self.totp_id, self.offered_id = event.value_id, None
                self.recovery_id, self.recovery_used = event.recovery_id, frozenset()
                self.generation += 1
            case TotpRemoved():
                self.totp_id = self.offered_id = self.recovery_id = None
                self.passkeys.clear()
                self.recovery_used = frozenset()
                self.generation += 1
            case RecoveryCodesMade():
                self.recovery_id, self.recovery_used = event.value_id, frozenset()
            case RecoveryCodeUsed():
                self.recovery_used |= {event.number}
            case SessionsRevoked():
                self.generation += 1
            case _:
                self._when_elsewhere(event)

    def _when_elsewhere(self, event: Event) -> None:
        """What is kept on devices, and at providers."""
        match event:
            case IdentityLinked():
                self.identities.add(Identity(event.issuer, event.subject))
            case IdentityUnlinked():
                self.identities.discard(Identity(event.issuer, event.subject))
                self.generation += 1
            case PasskeyAdded():
                self.passkeys[event.credential_id] = Passkey(event.name, event.credential_id, event.public_key)
            case PasskeyRenamed():
                known = self.passkeys.get(event.credential_id)
                if known is not None:
                    self.passkeys[event.credential_id] = msgspec.structs.replace(known, name=event.name)
            case PasskeyRemoved():
                self.passkeys.pop(event.credential_id, None)
            case _:
                super().when(event)
