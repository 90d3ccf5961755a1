"""Passkeys (WebAuthn): added in a session, and a way to begin one. The library checks; here is what it is held to.

A passkey answers to one address: what it signs names the page's origin, which a copy of the page cannot change. The
device must have verified its user (PIN, fingerprint), so that one passkey stands for both factors.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.authentication.verify_authentication_response import VerifiedAuthentication
from webauthn.helpers import (
    base64url_to_bytes,
    bytes_to_base64url,
    options_to_json_dict,
    parse_authentication_credential_json,
    parse_client_data_json,
    parse_registration_credential_json,
)
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticationCredential,
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from command_bus.authenticating import LiveSession
from command_bus.context import Clock
from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.login_checks import LoginChecks, Shown, Visitor
from command_bus.handlers.sessions import NOBODY, Begun, Sessions, account_of
from command_bus.intents.passkeys import AddPasskey, LogInByPasskey, ProveByPasskey, RenamePasskey
from command_bus.passkey_challenges import PasskeyChallenges
from command_bus.repository import load, load_existing
from command_bus.second_factor import ISSUER
from domain.errors import NoSecondFactorError, NotFoundError
from domain.event import Metadata
from domain.ids import UserId, derived_id
from domain.login_attempts import Purpose, Why
from domain.logins import Login, login_stream
from domain.passkeys import Passkey, PasskeyUse
from domain.sessions import Proof
from domain.users import User, UserKind


class Place(msgspec.Struct, frozen=True):
    """Where browsers reach the API."""

    host: str
    """What passkeys are bound to."""
    origins: Sequence[str]
    """Of pages that may ask for them."""


class Passkeys:
    """Adds, removes and takes them.

    Args:
        log: the event log.
        challenges: what devices are asked to sign.
        sessions: begins them.
        checks: counts attempts and records refusals.
        clock: now.
    """

    def __init__(
        self, log: EventLog, challenges: PasskeyChallenges, sessions: Sessions, checks: LoginChecks, clock: Clock
    ) -> None:
        self._log = log
        self._challenges = challenges
        self._sessions = sessions
        self._checks = checks
        self._clock = clock

    async def of_user(self, user_id: UserId) -> list[Passkey]:
        login = await load(self._log, Login, login_stream(user_id))
        return sorted(login.passkeys.values(), key=lambda one: one.name)

    async def offer(self, session: LiveSession, place: Place) -> dict[str, Any]:
        """What a device is told that is to make a passkey."""
        user = await load_existing(self._log, User, session.user_id, "user")
        if not (await load(self._log, Login, login_stream(session.user_id))).complete:
            raise NoSecondFactorError("A passkey opens nothing by itself: enroll a second factor first.")
        challenge = await self._challenges.make(session.user_id, self._clock())
        options = generate_registration_options(
            rp_id=place.host,
            rp_name=ISSUER,
            user_id=session.user_id.bytes,
            user_name=user.name,
            challenge=challenge,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.credential_id))
                for one in await self.of_user(session.user_id)
            ],
        )
        return options_to_json_dict(options)

    async def add(
        self, intent: AddPasskey, session: LiveSession, visitor: Visitor, place: Place
    ) -> tuple[Passkey, int]:
        """Take a passkey that a device has made; returns it, and the position.

        Raises:
            ProofRefusedError: it is none, or of another place, or was not asked for.
        """
        user_id, purpose = session.user_id, Purpose.ENROLLMENT
        await self._checks.admit(purpose, account_of(user_id, ""), user_id, visitor)
        login = await load(self._log, Login, login_stream(user_id))
        try:
            credential = parse_registration_credential_json(intent.credential)
            challenge = parse_client_data_json(credential.response.client_data_json).challenge
            asked = await self._challenges.take(challenge, user_id, self._clock())
            verified = verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=place.host,
                expected_origin=list(place.origins),
                require_user_verification=True,
            )
        except WebAuthnException:
            raise await self._checks.refused(purpose, Why.WRONG_PASSKEY, user_id, visitor) from None
        if not asked:
            raise await self._checks.refused(purpose, Why.WRONG_PASSKEY, user_id, visitor)
        passkey = Passkey(
            intent.name.strip(),
            bytes_to_base64url(verified.credential_id),
            bytes_to_base64url(verified.credential_public_key),
        )
        synced = verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE
        change = login.add_passkey(user_id, passkey, synced=synced)
        position = await self._checks.record(purpose, account_of(user_id, ""), user_id, visitor, [change], codes=False)
        return passkey, position

    async def rename(self, intent: RenamePasskey, session: LiveSession, visitor: Visitor) -> int:
        """Call one otherwise; returns the position.

        Raises:
            NotFoundError: there is none such of theirs.
            BusyStreamError: something else has changed meanwhile.
        """
        user_id = session.user_id
        login, passkey = await self._own(intent.passkey_id, user_id)
        changes = login.rename_passkey(user_id, passkey, intent.name)
        if not changes:
            return await self._log.head()
        # Nothing was shown for it, so nothing is forgiven: `LoginChecks.record` is for what was.
        metadata = Metadata(actor=f"user:{user_id}", correlation_id=visitor.correlation_id)
        try:
            return (await self._log.append(changes, metadata))[-1]
        except ConflictError:
            raise BusyStreamError from None

    async def remove(self, passkey_id: UUID, session: LiveSession, visitor: Visitor) -> int:
        """Take one away; returns the position.

        Raises:
            NotFoundError: there is none such of theirs.
        """
        user_id = session.user_id
        login, found = await self._own(passkey_id, user_id)
        change = login.remove_passkey(user_id, found)
        account = account_of(user_id, "")
        return await self._checks.record(Purpose.ENROLLMENT, account, user_id, visitor, [change], codes=False)

    async def _own(self, passkey_id: UUID, user_id: UserId) -> tuple[Login, Passkey]:
        login = await load(self._log, Login, login_stream(user_id))
        found = next((one for one in login.passkeys.values() if one.id == passkey_id), None)
        if found is None:
            raise NotFoundError(f"There is no passkey {passkey_id} of yours.")
        return login, found

    async def ask(self, place: Place) -> dict[str, Any]:
        """What a device is to sign for a login; it says itself for whom."""
        challenge = await self._challenges.make(None, self._clock())
        options = generate_authentication_options(
            rp_id=place.host, challenge=challenge, user_verification=UserVerificationRequirement.REQUIRED
        )
        return options_to_json_dict(options)

    async def log_in(self, intent: LogInByPasskey, visitor: Visitor, place: Place) -> Begun:
        """Begin a session.

        Raises:
            LoginRefusedError: whatever is wrong; it is on record.
            LockedOutError: too many were wrong lately.
        """
        credential, user_id = _read(intent.credential)
        account = account_of(user_id, "passkey")
        await self._checks.admit(Purpose.LOG_IN, account, user_id, visitor)
        user = await load(self._log, User, user_id or NOBODY)
        login = await load(self._log, Login, login_stream(user_id or NOBODY))
        passkey = login.passkeys.get(bytes_to_base64url(credential.raw_id)) if credential is not None else None
        why: Why | None = None
        if credential is None or user_id is None or not user.exists:
            why = Why.UNKNOWN_USER
        elif user.disabled or user.kind is not UserKind.PERSON:
            why = Why.DISABLED_USER
        elif passkey is None or not login.complete:
            why = Why.WRONG_PASSKEY
        if why is not None or credential is None or user_id is None or passkey is None:
            known = user_id if user.exists else None
            raise await self._checks.refused(Purpose.LOG_IN, why or Why.WRONG_PASSKEY, known, visitor)
        use = await load(self._log, PasskeyUse, PasskeyUse.id_of(passkey.credential_id))
        verified = await self._verified(credential, passkey, use.sign_count, place)
        if verified is None:
            raise await self._checks.refused(Purpose.LOG_IN, Why.WRONG_PASSKEY, user_id, visitor)
        used = use.use(user_id, verified.new_sign_count)
        return await self._sessions.begin(user_id, login, [Proof.PASSKEY], [used], account, visitor)

    async def ask_proof(self, session: LiveSession, place: Place) -> dict[str, Any]:
        """What a device is to sign to show once more that it is its user who sits there.

        Raises:
            NotFoundError: they have no passkey.
        """
        found = await self.of_user(session.user_id)
        if not found:
            raise NotFoundError("You have no passkey; show yourself by password or code.")
        challenge = await self._challenges.make(_proof_of(session), self._clock())
        options = generate_authentication_options(
            rp_id=place.host,
            challenge=challenge,
            user_verification=UserVerificationRequirement.REQUIRED,
            allow_credentials=[
                PublicKeyCredentialDescriptor(id=base64url_to_bytes(one.credential_id)) for one in found
            ],
        )
        return options_to_json_dict(options)

    async def prove(self, intent: ProveByPasskey, session: LiveSession, visitor: Visitor, place: Place) -> int:
        """Show once more who sits there; returns the position.

        Raises:
            ProofRefusedError: whatever is wrong; it is on record.
            LockedOutError: too many were wrong lately.
        """
        user_id, account = session.user_id, account_of(session.user_id, "")
        await self._checks.admit(Purpose.PROOF, account, user_id, visitor)
        login = await load(self._log, Login, login_stream(user_id))
        credential, told = _read(intent.credential)
        passkey = login.passkeys.get(bytes_to_base64url(credential.raw_id)) if credential is not None else None
        # A device that was told which keys will do need not say whose they are; if it does, it must be right.
        named = credential.response.user_handle if credential is not None else None
        if credential is None or passkey is None or (named and told != user_id):
            raise await self._checks.refused(Purpose.PROOF, Why.WRONG_PASSKEY, user_id, visitor)
        use = await load(self._log, PasskeyUse, PasskeyUse.id_of(passkey.credential_id))
        verified = await self._verified(credential, passkey, use.sign_count, place, _proof_of(session))
        if verified is None:
            raise await self._checks.refused(Purpose.PROOF, Why.WRONG_PASSKEY, user_id, visitor)
        shown = Shown(Proof.PASSKEY, [use.use(user_id, verified.new_sign_count)])
        return await self._sessions.proved(session, shown, account, visitor)

    async def _verified(
        self,
        credential: AuthenticationCredential,
        passkey: Passkey,
        sign_count: int,
        place: Place,
        asked_for: UUID | None = None,
    ) -> VerifiedAuthentication | None:
        try:
            challenge = parse_client_data_json(credential.response.client_data_json).challenge
            asked = await self._challenges.take(challenge, asked_for, self._clock())
            verified = verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=place.host,
                expected_origin=list(place.origins),
                credential_public_key=base64url_to_bytes(passkey.public_key),
                credential_current_sign_count=sign_count,
                require_user_verification=True,
            )
        except WebAuthnException:
            return None
        return verified if asked else None


def _proof_of(session: LiveSession) -> UUID:
    """What a challenge is for that shows who sits in a session: no other, and no login or new passkey."""
    return derived_id("passkey-proof", session.session_id)


def _read(told: dict[str, Any]) -> tuple[AuthenticationCredential | None, UserId | None]:
    """What a device sent, and for whom; None where it is no such thing."""
    try:
        credential = parse_authentication_credential_json(told)
    except WebAuthnException:
        return None, None
    handle = credential.response.user_handle
    if handle is None or len(handle) != len(NOBODY.bytes):
        return credential, None
    return credential, UserId(UUID(bytes=handle))
