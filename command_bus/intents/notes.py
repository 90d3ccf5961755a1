"""Intents about notes on agents."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain.notes import MAX_LENGTH
from domain.permissions import Permission

Text = Field(min_length=1, max_length=MAX_LENGTH, description="Plain text.")


class WriteNote(Intent):
    """Write a note on an agent, for all who see it."""

    needs: ClassVar[Permission] = Permission.NOTES_WRITE

    agent_id: UUID
    text: str = Text


class ChangeNote(Intent):
    """Have a note on an agent say something else."""

    needs: ClassVar[Permission] = Permission.NOTES_WRITE

    agent_id: UUID
    note_id: UUID
    text: str = Text


class RemoveNote(Intent):
    """Take a note on an agent away; the log keeps what it said."""

    needs: ClassVar[Permission] = Permission.NOTES_WRITE

    agent_id: UUID
    note_id: UUID
