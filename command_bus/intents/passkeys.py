"""Intents of people about their own passkeys."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from command_bus.intents.sessions import Own

Credential = Annotated[
    dict[str, Any],
    Field(description="What `navigator.credentials` gave, as `PublicKeyCredential.toJSON()` writes it."),
]


class AskForPasskey(Own):
    """Begin to log in by a passkey: what the device is to sign."""


class LogInByPasskey(Own):
    """Log in by a passkey, in place of name, password and code.

    The device itself has asked for its PIN or a fingerprint. Whatever is wrong, the answer is that of any wrong login.
    """

    credential: Credential
    bearer: bool = Field(default=False, description="As for `POST /session`.")


class AskForPasskeyProof(Own):
    """Begin to show once more that it is you, by a passkey: what the device is to sign."""


class ProveByPasskey(Own):
    """Show once more that it is you, by a passkey: the device has asked for its PIN or a fingerprint."""

    credential: Credential


class OfferPasskey(Own):
    """Begin to add a passkey: what the device is told. Asks for a fresh proof."""


class AddPasskey(Own):
    """Add a passkey: another way to log in. Asks for a fresh proof."""

    name: str = Field(min_length=1, max_length=200, description="To know it by: the device's name.")
    credential: Credential


class RenamePasskey(Own):
    """Call a passkey otherwise."""

    passkey_id: UUID
    name: str = Field(min_length=1, max_length=200, description="To know it by: the device's name.")


class RemovePasskey(Own):
    """Take a passkey away; it opens nothing any more. Asks for a fresh proof."""

    passkey_id: UUID
