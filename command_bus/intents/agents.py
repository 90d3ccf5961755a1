"""Intents about agents."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from command_bus.intents.matching import Matching
from domain.agents import MAX_TAG_LENGTH, MAX_TAGS
from domain.duplicates import Stays
from domain.permissions import Permission

Reason = Field(default="", max_length=2000, description="Why; shown in the agent's story.")


class MoveAgent(Intent):
    """Move an agent to another site, of the same or another client."""

    needs: ClassVar[Permission] = Permission.AGENTS_MOVE

    agent_id: UUID
    site_id: UUID


class RenameAgent(Intent):
    """Give an agent a name of its own; its hostname stays what the machine says."""

    needs: ClassVar[Permission] = Permission.AGENTS_EDIT

    agent_id: UUID
    name: str = Field(max_length=200)


class TagAgent(Intent):
    """Set an agent's tags, all of them."""

    needs: ClassVar[Permission] = Permission.AGENTS_EDIT

    agent_id: UUID
    tags: list[str] = Field(max_length=64)


Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG_LENGTH)]


class TagAgents(Intent):
    """Give many agents tags, and take others from them; what else each has stays. Retired ones are passed over."""

    needs: ClassVar[Permission] = Permission.AGENTS_EDIT

    agents: list[UUID] = Field(default=[], max_length=20_000)
    matching: Matching | None = Field(
        default=None, description="Those, too, that `GET /agents` finds by this. Not an empty one."
    )
    exclude: list[UUID] = Field(default=[], max_length=20_000, description="Not these, whatever names them.")
    add: list[Tag] = Field(default=[], max_length=MAX_TAGS)
    remove: list[Tag] = Field(default=[], max_length=MAX_TAGS)


class SuspendAgent(Intent):
    """Shut an agent out for a while: its connection ends, its commands wait."""

    needs: ClassVar[Permission] = Permission.AGENTS_SUSPEND

    agent_id: UUID
    reason: str = Reason


class ResumeAgent(Intent):
    """Let a suspended agent in again."""

    needs: ClassVar[Permission] = Permission.AGENTS_SUSPEND

    agent_id: UUID
    reason: str = Reason


class SettleDuplicate(Intent):
    """Say which of two machines with one identity is the agent. The other one stays shut out, until it enrolls anew."""

    needs: ClassVar[Permission] = Permission.AGENTS_SUSPEND

    agent_id: UUID
    stays: Stays = Field(description="`present`: who was connected first; `newcomer`: who was shut out.")
    reason: str = Reason


class RetireAgent(Intent):
    """Take an agent out for good: its key is void, its waiting commands are cancelled."""

    needs: ClassVar[Permission] = Permission.AGENTS_RETIRE
    grave: ClassVar[bool] = True

    agent_id: UUID
    reason: str = Reason
