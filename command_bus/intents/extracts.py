"""Intents about parts of the history that are taken out."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema

from command_bus.bus import Intent
from command_bus.intents.times import Moment
from domain.catalog import EVENTS
from domain.extracts import ExtractFormat
from domain.permissions import Permission


def _known_type(name: str) -> str:
    if name not in EVENTS:
        raise ValueError(f"there is no event type {name!r}")
    return name


EventType = Annotated[
    str, AfterValidator(_known_type), WithJsonSchema({"type": "string", "enum": sorted(EVENTS)}, mode="validation")
]


class ExtractHistory(Intent):
    """Take a part of the history out, for an auditor: that it was is on record. Its id gives its content."""

    needs: ClassVar[Permission] = Permission.EVENTS_SEE

    format: ExtractFormat = ExtractFormat.NDJSON
    agent_id: UUID | None = None
    client_id: UUID | None = None
    actor: str | None = Field(default=None, max_length=200, description="As `key:<id>`, `agent:<id>` or `scheduler`.")
    types: list[EventType] = Field(default=[], max_length=100, description="Only these; none means all.")
    since: Moment | None = None
    until: Moment | None = Field(default=None, description="Exclusive.")
