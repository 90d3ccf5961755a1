"""Intents about identities at a provider: logging in by one, and linking one to a user."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field, SecretStr

from command_bus.bus import Intent
from command_bus.intents.sessions import Code, Own
from domain.identities import MAX_ISSUER_LENGTH, MAX_SUBJECT_LENGTH
from domain.permissions import Permission

State = Annotated[str, Field(min_length=1, max_length=200, description="As the provider gave it back.")]
Ticket = Annotated[
    SecretStr | None,
    Field(min_length=1, max_length=200, description="From the offer, of a terminal; a browser's is its cookie."),
]
_Port = Annotated[int | None, Field(ge=1024, le=65535)]


class _Offered(Own):
    terminal: bool = Field(
        default=False,
        description="For programs: the ticket comes in the answer, to be sent along later; no cookie.",
    )
    port: _Port = Field(
        default=None,
        description="Of a terminal that listens on its own loopback: the page sends what the provider answered there, "
        "and otherwise shows it, to be copied.",
    )


class OfferSso(_Offered):
    """Begin to log in through the provider: where the browser goes.

    It comes back to `/login/sso` of this server, with `state` and `code`. Register that address with the provider.
    """


class OfferSsoProof(_Offered):
    """Begin to show once more that it is you, through the provider: where the browser goes. It asks you anew there."""


class _Answered(Own):
    state: State
    code: SecretStr | None = Field(default=None, min_length=1, max_length=4096, description="As the provider gave it.")
    error: str | None = Field(default=None, max_length=200, description="The same, in place of a code.")
    iss: str | None = Field(default=None, max_length=MAX_ISSUER_LENGTH, description="The same, if it did.")
    ticket: Ticket = None


class AnswerSso(_Answered):
    """Hand in what the provider answered: once, from where the login was begun.

    Then `POST /session/sso` begins the session, with a code of the second factor where that is asked for.
    """


class LogInBySso(Own):
    """Log in as whom the provider vouched for; with a code, where the answer said that it is needed."""

    state: State
    ticket: Ticket = None
    code: Code | None = None
    bearer: bool = Field(default=False, description="As for `POST /session`.")


class ProveBySso(_Answered):
    """Show once more that it is you: hand in what the provider answered."""


class TakeProviderLogout(Own):
    """The provider says that somebody has logged out there (OpenID Connect Back-Channel Logout 1.0).

    Register this address with the provider. Sessions that began through it end at once: those of the session there
    (`sid`), or all of whom it names (`sub`).
    """

    logout_token: SecretStr = Field(min_length=1, max_length=16_384, description="Signed by the provider; good once.")


class LinkIdentity(Intent):
    """Let whom the provider calls so log in as this user. An identity is one user's alone."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    subject: str = Field(
        min_length=1, max_length=MAX_SUBJECT_LENGTH, description="What the provider calls them for ever: `sub`."
    )
    issuer: str | None = Field(
        default=None, max_length=MAX_ISSUER_LENGTH, description="The provider; left out, the one that is set."
    )


class UnlinkIdentity(Intent):
    """Take an identity from a user. It opens nothing any more, and all sessions of the user are over."""

    needs: ClassVar[Permission] = Permission.USERS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    user_id: UUID
    identity_id: UUID
    reason: str = Field(default="", max_length=2000, description="Why; kept in the log.")
