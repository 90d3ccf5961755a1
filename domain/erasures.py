"""Erasure of what is personal: the subject's key is destroyed in the very transaction that records this."""

from uuid import UUID

from domain.event import Event
from domain.personal import SubjectKind


class SubjectErased(Event, frozen=True, kw_only=True):
    """Of an agent or a user nothing personal is to be seen any more, in what was recorded before or after."""

    kind: SubjectKind
    subject: UUID
    """The agent or the user, whose stream it is."""
    reason: str = ""
