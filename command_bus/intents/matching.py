"""Which agents, as the list of them is narrowed: one shape for the list, and for what is done to all that match."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from command_bus.intents.times import Moment
from domain import matching
from domain.agents import MAX_TAG_LENGTH, AgentState, Platform
from domain.ids import ClientId, SiteId


class Matching(BaseModel):
    """Agents that fit all that is given, as `GET /agents` takes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    client_id: UUID | None = None
    site_id: UUID | None = None
    tag: list[Annotated[str, Field(max_length=MAX_TAG_LENGTH)]] = Field(
        default=[], max_length=64, description="May be repeated; an agent has them all."
    )
    state: AgentState | None = None
    retired: bool | None = None
    platform: Platform | None = None
    os: str | None = Field(
        default=None, max_length=200, description="Part of its operating system's name, in any case."
    )
    agent_version: str | None = Field(default=None, max_length=100)
    online: bool | None = None
    q: str | None = Field(default=None, max_length=200, description="Part of its name or hostname, in any case.")
    duplicate: bool | None = Field(
        default=None, description="Whether another machine with its identity was shut out, and nobody said which stays."
    )
    pending: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="So many commands wait for it, or more."
    )
    updates: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="So many of its packages could be updated, or more, as far as it knows."
    )
    security_updates: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="The same, of updates that are for security."
    )
    software: str | None = Field(
        default=None, max_length=200, description="A package or program of exactly that name is installed, in any case."
    )
    failing: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="So many checks fail on it, or more."
    )
    warning: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="So many checks warn on it, or more."
    )
    check: str | None = Field(
        default=None,
        max_length=200,
        description="A check of exactly that name, in any case, finds something on it: it is not passing.",
    )
    reboot_needed: bool | None = Field(
        default=None, description="Whether it waits to be restarted; one that cannot say is neither."
    )
    seen_after: Moment | None = Field(
        default=None, description="Its last sign of life was then or later; of now alone."
    )
    seen_before: Moment | None = Field(default=None, description="Its last sign of life was earlier; of now alone.")

    def to_domain(self) -> matching.Matching:
        return matching.Matching(
            client_id=ClientId(self.client_id) if self.client_id is not None else None,
            site_id=SiteId(self.site_id) if self.site_id is not None else None,
            tags=tuple(dict.fromkeys(self.tag)),
            state=self.state,
            retired=self.retired,
            platform=self.platform,
            os=self.os or None,
            agent_version=self.agent_version,
            online=self.online,
            duplicate=self.duplicate,
            text=self.q or None,
            pending=self.pending,
            updates=self.updates,
            security_updates=self.security_updates,
            software=self.software or None,
            failing=self.failing,
            warning=self.warning,
            named_check=self.check or None,
            reboot_needed=self.reboot_needed,
            seen_after=self.seen_after,
            seen_before=self.seen_before,
        )
