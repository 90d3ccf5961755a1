"""Enrollments that wait: a machine came with a token that asks for approval, and is no agent until somebody says so.

What is known of it is kept as it came: its key, what it said of itself, from where, and by which token. Nothing else of
Fleetlog knows of it: the agent begins with the approval, in the very transaction that says so.
"""

import enum
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from domain.agents import AgentEnrolled, Platform
from domain.erasures import SubjectErased
from domain.errors import (
    EnrollmentDecidedError,
    EnrollmentExpiredError,
    EnrollmentOpenError,
    EnrollmentRefusedError,
    ErasedError,
)
from domain.event import Aggregate, Change, Event
from domain.ids import AgentId, ClientId, SiteId, TokenId, derived_id
from domain.personal import Personal, SubjectKind


class EnrollmentState(enum.StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REFUSED = "refused"
    EXPIRED = "expired"


class EnrollmentEnd(enum.StrEnum):
    """Why nobody decides it any more."""

    TIME = "time"
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 -- a reason


class EnrollmentRequested(Event, frozen=True, kw_only=True):
    """A machine that holds the private half of its key wants to come in, and waits."""

    personal: ClassVar[Personal | None] = Personal(fields=("hostname", "address"), of=SubjectKind.AGENT)

    agent_id: AgentId
    """What it will be called, if it is approved."""
    token_id: TokenId
    site_id: SiteId
    client_id: ClientId
    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str
    """Ed25519, 32 bytes in hex."""
    address: str
    """From where it came."""
    expires_at: datetime


class EnrollmentApproved(Event, frozen=True, kw_only=True):
    """Let in: it is an agent, by the same transaction."""

    reason: str = ""


class EnrollmentRefused(Event, frozen=True, kw_only=True):
    reason: str = ""


class EnrollmentExpired(Event, frozen=True, kw_only=True):
    """Nobody decided it in time, or its token was revoked before somebody did."""

    why: EnrollmentEnd


def enrollment_stream(token_id: UUID, public_key: str) -> UUID:
    """The request of one machine by one token: whoever comes with the same key again asks for the same."""
    return derived_id("enrollment", token_id, public_key)


class WaitingEnrollment(Aggregate):
    requested: EnrollmentRequested
    state: EnrollmentState = EnrollmentState.WAITING
    erased: bool = False

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.requested.agent_id, self.requested.client_id

    @property
    def site_id(self) -> SiteId:
        return self.requested.site_id

    def request(self, requested: EnrollmentRequested) -> Change:
        return self.decide(requested)

    def approve(self, reason: str, at: datetime) -> Change:
        """Let it in.

        Raises:
            EnrollmentDecidedError, EnrollmentExpiredError: it is too late.
        """
        self._must_wait(at)
        return self.decide(EnrollmentApproved(reason=reason))

    def refuse(self, reason: str, at: datetime) -> Change:
        """Do not let it in; raises as `approve` does."""
        self._must_wait(at)
        return self.decide(EnrollmentRefused(reason=reason))

    def expire(self, at: datetime, *, token_revoked: bool) -> list[Change]:
        """End it, if it still waits and nobody can decide it any more."""
        if self.state is not EnrollmentState.WAITING or not (token_revoked or at >= self.requested.expires_at):
            return []
        why = EnrollmentEnd.TIME if at >= self.requested.expires_at else EnrollmentEnd.TOKEN_REVOKED
        return [self.decide(EnrollmentExpired(why=why))]

    def erase(self, reason: str) -> Change:
        """Have erased what a machine said of itself that was never let in.

        Raises:
            EnrollmentOpenError: it waits, or is an agent.
            ErasedError: that was done before.
        """
        if self.state not in (EnrollmentState.REFUSED, EnrollmentState.EXPIRED):
            raise EnrollmentOpenError
        if self.erased:
            raise ErasedError
        return self.decide(SubjectErased(kind=SubjectKind.AGENT, subject=self.requested.agent_id, reason=reason))

    def admitted(self, at: datetime) -> bool:
        """Whether its machine is an agent now; False while it waits.

        Raises:
            EnrollmentRefusedError, EnrollmentExpiredError: it never will be.
        """
        if self.state is EnrollmentState.REFUSED:
            raise EnrollmentRefusedError
        late = self.state is EnrollmentState.WAITING and at >= self.requested.expires_at
        if late or self.state is EnrollmentState.EXPIRED:
            raise EnrollmentExpiredError
        return self.state is EnrollmentState.APPROVED

    def enrolled(self) -> AgentEnrolled:
        """How the agent begins."""
        asked = self.requested
        return AgentEnrolled(
            site_id=asked.site_id,
            client_id=asked.client_id,
            token_id=asked.token_id,
            hostname=asked.hostname,
            platform=asked.platform,
            arch=asked.arch,
            agent_version=asked.agent_version,
            public_key=asked.public_key,
        )

    def _must_wait(self, at: datetime) -> None:
        if self.state is not EnrollmentState.WAITING:
            raise EnrollmentDecidedError(f"The enrollment {self.stream_id} is {self.state} already.")
        if at >= self.requested.expires_at:
            raise EnrollmentExpiredError

    def when(self, event: Event) -> None:
        match event:
            case EnrollmentRequested():
                self.requested = event
            case EnrollmentApproved():
                self.state = EnrollmentState.APPROVED
            case EnrollmentRefused():
                self.state = EnrollmentState.REFUSED
            case EnrollmentExpired():
                self.state = EnrollmentState.EXPIRED
            case SubjectErased():
                self.erased = True
            case _:
                super().when(event)
