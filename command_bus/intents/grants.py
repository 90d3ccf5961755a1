"""Grants as people write them: a role by name or id, and over what."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.access import MAX_GRANTS, MAX_PLACES

RoleName = Annotated[str, Field(min_length=1, max_length=200, description="A role's name or id.")]


class Grant(BaseModel):
    """A role, over everything or over some clients and sites."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: RoleName
    everything: bool = False
    clients: list[UUID] = Field(default=[], max_length=MAX_PLACES, description="Whole clients.")
    sites: list[UUID] = Field(default=[], max_length=MAX_PLACES, description="Single sites.")


Grants = Annotated[list[Grant], Field(max_length=MAX_GRANTS)]
