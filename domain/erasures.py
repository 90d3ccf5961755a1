"""Erasure of what is personal: the subject's key is destroyed in the very transaction that records this."""

from uuid import UUID

from domain.event import Aggregate, Change, Event
from domain.ids import derived_id
from domain.personal import SubjectKind


class SubjectErased(Event, frozen=True, kw_only=True):
    """Of an agent or a user nothing personal is to be seen any more, in what was recorded before or after."""

    kind: SubjectKind
    subject: UUID
    """The agent or the user, whose stream it is."""
    reason: str = ""


class OutputsErased(Event, frozen=True, kw_only=True):
    """The whole outputs of an erased agent's commands are gone, but for those that others' commands printed as well."""

    outputs: int
    bytes: int
    """As commands wrote them."""


class ErasedOutputs(Aggregate):
    """That the outputs of one agent are done with: said once."""

    agent_id: UUID | None = None
    client_id: UUID | None = None

    @staticmethod
    def of(agent_id: UUID) -> UUID:
        """The stream that says so."""
        return derived_id("outputs-erased", agent_id)

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def record(self, outputs: int, size: int) -> Change:
        return self.decide(OutputsErased(outputs=outputs, bytes=size))

    def when(self, event: Event) -> None:
        if not isinstance(event, OutputsErased):
            super().when(event)
