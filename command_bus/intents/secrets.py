"""Intents about secrets."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from command_bus.bus import Intent
from command_bus.context import NewId
from domain.errors import SecretCannotWaitError
from domain.permissions import Permission
from domain.placeholders import NAME
from domain.secrets import MAX_BYTES, MIN_CHARACTERS

Reason = Annotated[str, Field(max_length=2000)]


class _Scope(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FleetScope(_Scope):
    """The whole fleet."""

    kind: Literal["fleet"] = "fleet"


class ClientScope(_Scope):
    """One client."""

    kind: Literal["client"] = "client"
    client_id: UUID


class SiteScope(_Scope):
    """One site."""

    kind: Literal["site"] = "site"
    site_id: UUID


class AgentScope(_Scope):
    """One agent."""

    kind: Literal["agent"] = "agent"
    agent_id: UUID


class SetSecret(Intent):
    """Give a secret its value, the first or another. It counts for one client, site or agent, or for the whole fleet.

    The value is sealed, and no answer ever has it. A repeat with the same Idempotency-Key is answered as before,
    whatever its value: nothing that is kept could tell it from the first.
    """

    needs: ClassVar[Permission] = Permission.SECRETS_MANAGE
    grave: ClassVar[bool] = True

    name: str = Field(pattern=f"^{NAME}$", description="As in `{{secret.NAME}}`; case does not matter.")
    value: SecretStr = Field(
        min_length=MIN_CHARACTERS, max_length=MAX_BYTES, description="It is masked wherever a command prints it."
    )
    scope: Annotated[FleetScope | ClientScope | SiteScope | AgentScope, Field(discriminator="kind")] = Field(
        default=FleetScope(), description="Where it counts; of several with one name the nearest to the agent does."
    )
    note: str = Field(default="", max_length=200, description="For whoever lists the secrets.")

    def sealed(self, new_id: NewId) -> tuple[Intent, str | None]:
        """Never: what waits is an event, and no event may hold the value."""
        del new_id
        raise SecretCannotWaitError


class RemoveSecret(Intent):
    """Take a secret away; a command that names it and was not delivered yet will end as rejected."""

    needs: ClassVar[Permission] = Permission.SECRETS_MANAGE
    grave: ClassVar[bool] = True

    secret_id: UUID
    reason: Reason = ""


class RotateSecrets(Intent):
    """Seal all secrets anew under the present master key; their values stay as they are."""

    needs: ClassVar[Permission] = Permission.SECRETS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True
