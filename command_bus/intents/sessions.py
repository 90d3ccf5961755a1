"""Intents of people about themselves: logging in, and how they do it. None asks for a permission."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, SecretStr

from command_bus.bus import Intent
from domain.passwords import MAX_LENGTH, MIN_LENGTH

Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]
"""Any that somebody may type; only new ones have to keep the rules."""
Code = Annotated[
    SecretStr,
    Field(min_length=6, max_length=40, description="Six figures from the device, or a recovery code."),
]


class Own(Intent):
    """Somebody's own affair."""

    needs: ClassVar[None] = None


class LogIn(Own):
    """Log in as a person: name, password, and a code from the second factor.

    Whatever is wrong of the three, the answer is the same. At the first login there is no code yet; that session may
    then do nothing but change the password and enroll a second factor.
    """

    user: str = Field(min_length=1, max_length=200, description="The user's name; case does not matter.")
    password: Password
    code: Code | None = None
    bearer: bool = Field(
        default=False,
        description="For programs: the token comes in the answer, to be sent as `Authorization: Bearer`; no cookie.",
    )


class Prove(Own):
    """Show once more that it is you: by the password, or a code."""

    password: Password | None = None
    code: Code | None = None


class ChangePassword(Own):
    """Change your own password. All your sessions are over, and this one goes on under a new token."""

    current: Password
    new: SecretStr = Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)


class OfferSecondFactor(Own):
    """Begin to enroll a second factor: its secret, for an authenticator app. It counts once a code comes back.

    Where one is enrolled already, a code of it allows another to take its place.
    """

    code: Code | None = None


class EnrollSecondFactor(Own):
    """Finish: a code from the secret that was offered. Shows the recovery codes, once.

    All your sessions are over, and this one goes on under a new token.
    """

    code: Code


class RenewRecoveryCodes(Own):
    """Make new recovery codes in place of those before; shown once."""

    code: Code


class EndSession(Own):
    """Log out."""


class RevokeSession(Own):
    """End one of your sessions."""

    session_id: UUID


class RevokeSessions(Own):
    """End all of your sessions, this one too."""
