"""Two machines with one identity: a disk was cloned, or the state of an agent was copied.

Who is there stays; the newcomer is shut out until somebody says which of them is the agent. The story of it is a stream
of its own, beside the agent's.
"""

import enum
from typing import ClassVar
from uuid import UUID

import msgspec

from domain.errors import NoDuplicateError
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, derived_id
from domain.personal import Personal, SubjectKind


class Stays(enum.StrEnum):
    PRESENT = "present"
    NEWCOMER = "newcomer"


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, as far as it shows itself."""

    address: str
    hostname: str
    machine: str
    """Tells machines apart; empty where it did not say."""
    instance: str
    """Tells two runs of the program apart."""


class AgentDuplicateNoticed(Event, frozen=True, kw_only=True):
    """Two that are alive at once hold one agent's key; the newcomer is shut out."""

    personal: ClassVar[Personal | None] = Personal(
        fields=("present.address", "present.hostname", "newcomer.address", "newcomer.hostname"), of=SubjectKind.AGENT
    )

    present: Sighting
    newcomer: Sighting


class AgentDuplicateSettled(Event, frozen=True, kw_only=True):
    """Somebody said which of them is the agent; the other one stays shut out, and is to enroll anew."""

    stays: Stays
    reason: str = ""


def duplicates_stream(agent_id: UUID) -> UUID:
    return derived_id("duplicates", agent_id)


class Duplicates(Aggregate):
    """Of one agent."""

    agent_id: AgentId | None = None
    client_id: ClientId | None = None
    open: AgentDuplicateNoticed | None = None
    """What nobody has settled yet."""
    barred: frozenset[str] = frozenset()
    """Machines that are not let in as this agent."""

    @classmethod
    def of(cls, agent_id: AgentId, client_id: ClientId) -> "Duplicates":
        """The stream of an agent, before it is replayed."""
        duplicates = cls(duplicates_stream(agent_id))
        duplicates.agent_id, duplicates.client_id = agent_id, client_id
        return duplicates

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    def notice(self, present: Sighting, newcomer: Sighting) -> list[Change]:
        """Shut the newcomer out; noticed again before it is settled, it is one event."""
        if self.open is not None and _same(self.open.newcomer, newcomer):
            return []
        return [self.decide(AgentDuplicateNoticed(present=present, newcomer=newcomer))]

    def settle(self, stays: Stays, reason: str) -> Change:
        """Say which of them is the agent.

        Raises:
            NoDuplicateError: nobody waits for that.
        """
        if self.open is None:
            raise NoDuplicateError
        return self.decide(AgentDuplicateSettled(stays=stays, reason=reason))

    def when(self, event: Event) -> None:
        match event:
            case AgentDuplicateNoticed():
                self.open = event
                self._bar(event.newcomer, event.present)
            case AgentDuplicateSettled():
                if self.open is not None and event.stays is Stays.NEWCOMER:
                    self._bar(self.open.present, self.open.newcomer)
                self.open = None
            case _:
                super().when(event)

    def _bar(self, one: Sighting, other: Sighting) -> None:
        # Two that look alike cannot be told apart when they come again: whoever is there first stays.
        self.barred -= {other.machine}
        if one.machine and one.machine != other.machine:
            self.barred |= {one.machine}


def _same(one: Sighting, other: Sighting) -> bool:
    return one.machine == other.machine if one.machine else one.instance == other.instance
