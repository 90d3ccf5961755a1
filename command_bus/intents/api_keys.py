"""Intents about API keys."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from command_bus.context import NewId
from command_bus.credentials import KEY_PREFIX, mint
from command_bus.intents.grants import Grants, RoleName
from command_bus.intents.times import Moment
from domain.permissions import Permission


class CreateApiKey(Intent):
    """Make an API key. Its text is shown once.

    Without `owner_id` a person's is their own; a program that makes one has a service account made for it, of its name
    and with what the key may.
    """

    needs: ClassVar[Permission] = Permission.KEYS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    name: str = Field(max_length=200)
    owner_id: UUID | None = Field(
        default=None,
        description="The user or service account that it speaks for; it never does more than that one may. Without it, "
        "the person who asks; where a program asks, a new service account of this name.",
    )
    role: RoleName | None = Field(
        default=None,
        description="Short for one grant. Without it and `grants`, all that the owner may at any time, where they make "
        "it themselves, and what they were granted until then where somebody else does; without an owner, `operator`.",
    )
    client_ids: list[UUID] | None = Field(
        default=None, description="With `role`: over these clients; null is over everything.", max_length=1000
    )
    grants: Grants | None = Field(default=None, description="Instead of `role`: what it may do.")
    expires_at: Moment | None = None
    unattended: bool = Field(
        default=False,
        description="It may do what a person has to give a fresh proof for. Without it such a request of the key's is "
        "refused with `fresh_proof_needed`.",
    )

    def sealed(self, new_id: NewId) -> tuple[Intent, str | None]:
        """The key is made now, and opens nothing until it is recorded."""
        key_id = new_id()
        credential = mint(KEY_PREFIX, key_id)
        fields = {name: getattr(self, name) for name in CreateApiKey.model_fields}
        return SealedApiKey(**fields, key_id=key_id, secret_sha256=credential.secret_sha256), credential.text


class SealedApiKey(CreateApiKey):
    """The same while it waits for another person: the key is known to whoever asked for it, and here is its hash."""

    key_id: UUID
    secret_sha256: str


class RevokeApiKey(Intent):
    """Void an API key."""

    needs: ClassVar[Permission] = Permission.KEYS_MANAGE
    grave: ClassVar[bool] = True
    fleet_wide: ClassVar[bool] = True

    key_id: UUID
    reason: str = Field(default="", max_length=2000)
