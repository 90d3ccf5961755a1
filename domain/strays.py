"""Results of commands that the log does not know: ordered after the backup that it was restored from."""

from typing import ClassVar, Self
from uuid import UUID

from domain.commands import CommandState, Result
from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import AgentId, ClientId, CommandId, derived_id


class StrayResultRecorded(Event, frozen=True, kw_only=True):
    """A result of an attempt that this log does not know: ordered after the backup that the log was restored from."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = {1: lambda body: body}
    """Since 2 it may say what came of updates."""

    command_id: CommandId
    agent_id: AgentId
    client_id: ClientId
    attempt: int
    outcome: CommandState
    result: Result


class Stray(Aggregate):
    """One attempt that an agent has made and the log knows nothing of.

    It is a stream of its own, not its command's: a story needs its beginning, and what was ordered is not known.
    """

    agent_id: AgentId
    client_id: ClientId

    @classmethod
    def of(cls, command_id: UUID, attempt: int) -> Self:
        """The stream of an attempt, before it is replayed."""
        return cls(derived_id("stray", command_id, str(attempt)))

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def record(self, recorded: StrayResultRecorded) -> list[Change]:
        """Record what it came to; said twice, it is one event."""
        return [] if self.exists else [self.decide(recorded)]

    def when(self, event: Event) -> None:
        match event:
            case StrayResultRecorded():
                self.agent_id, self.client_id = event.agent_id, event.client_id
            case _:
                super().when(event)
