"""Agents as a list of them is narrowed: the fleet's own question, kept so that others can ask it."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from domain.agents import AgentState, Platform
from domain.errors import InvalidValueError
from domain.ids import AgentId, ClientId, SiteId
from domain.scopes import Place


class Matching(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"tags": "tag", "text": "q", "named_check": "check"},
):
    """Agents that fit all that is given; what is None narrows nothing. Recorded under the names that the list has."""

    client_id: ClientId | None = None
    site_id: SiteId | None = None
    tags: tuple[str, ...] = ()
    """It has all of them."""
    state: AgentState | None = None
    retired: bool | None = None
    platform: Platform | None = None
    os: str | None = None
    """Part of its operating system's name, in any case."""
    agent_version: str | None = None
    online: bool | None = None
    duplicate: bool | None = None
    text: str | None = None
    """Part of its name or hostname, in any case."""
    pending: int | None = None
    """So many commands wait for it, or more."""
    updates: int | None = None
    """So many of its packages could be updated, or more."""
    security_updates: int | None = None
    """The same, for security."""
    software: str | None = None
    """Something of that name is installed, in any case."""
    failing: int | None = None
    """So many checks fail on it, or more."""
    warning: int | None = None
    """The same of those that warn."""
    named_check: str | None = None
    """A check of that name, in any case, finds something on it: it fails, warns, informs or cannot be measured."""
    reboot_needed: bool | None = None
    """Whether it waits to be restarted; one that cannot say is neither."""
    seen_after: datetime | None = None
    seen_before: datetime | None = None

    @property
    def by_the_log(self) -> bool:
        """Whether it is the agent's own events alone that make it match, or not."""
        return self.pending is None and self.seen_after is None and self.seen_before is None

    @property
    def judges_checks(self) -> bool:
        """Whether what checks find makes it match, or not."""
        return self.failing is not None or self.warning is not None or self.named_check is not None

    def check(self) -> None:
        """Raise InvalidValueError where it narrows nothing: all are only meant by those who say so."""
        if self == Matching():
            raise InvalidValueError("matching: narrow it by something; an empty one would be everything.")


class ToTag(msgspec.Struct, frozen=True):
    """Agents whose tags are not yet as somebody wants them."""

    agents: Sequence[tuple[AgentId, Place]]
    """In the order of their ids, and where each is."""
    unknown: Sequence[AgentId] = ()
    """Of those that were named: whoever asks sees no such agent."""
