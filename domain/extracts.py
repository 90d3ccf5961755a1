"""That somebody took a part of the history out, as a fact in it: who, and what was asked for."""

import enum
from datetime import datetime
from uuid import UUID

from domain.event import Aggregate, Change, Event


class ExtractFormat(enum.StrEnum):
    NDJSON = "ndjson"
    """Each event with the proof that it is in the log."""
    CSV = "csv"
    HTML = "html"
    """A report to read and to print."""


class HistoryExtracted(Event, frozen=True, kw_only=True):
    """What is None or empty does not restrict. It holds what was recorded before this very event."""

    format: ExtractFormat
    agent_id: UUID | None = None
    client_id: UUID | None = None
    actor: str | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


class Extract(Aggregate):
    """One part of the history that was taken out."""

    asked: HistoryExtracted | None = None

    def ask(self, asked: HistoryExtracted) -> Change:
        """Record what is asked for."""
        return self.decide(asked)

    def when(self, event: Event) -> None:
        match event:
            case HistoryExtracted():
                self.asked = event
            case _:
                super().when(event)
