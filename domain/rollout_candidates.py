"""Who of those that a rollout's target names gets a place in it, and why the others do not."""

import enum
from collections.abc import Sequence
from typing import Any

import msgspec

from domain.agents import AgentState, MachineType, Platform
from domain.facts_filter import parsed
from domain.hours import TIMEZONE_FACTS, timezone_of
from domain.ids import AgentId, ClientId, SiteId
from domain.rollout_terms import Order, Selector, Target


class LeftOut(enum.StrEnum):
    """Why an agent that a target names gets no place, beside its state and what its command runs on."""

    EXCLUDED = "excluded"
    OTHER_PLATFORM = "other_platform"
    OFFLINE = "offline"
    ONLINE = "online"
    OTHER_MACHINE_TYPE = "other_machine_type"
    MACHINE_TYPE_UNKNOWN = "machine_type_unknown"
    FILTER_NOT_MET = "filter_not_met"
    FILTER_UNKNOWN = "filter_unknown"
    """Its facts do not tell whether the filter holds."""
    TIMEZONE_UNKNOWN = "timezone_unknown"
    """The command has hours of the machine's own time, and it does not tell which that is."""
    UNRESOLVED_PLACEHOLDER = "unresolved_placeholder"
    """A placeholder of the command stands for nothing there."""


NOT_MEANT = frozenset(
    set(LeftOut)
    - {
        LeftOut.MACHINE_TYPE_UNKNOWN,
        LeftOut.FILTER_UNKNOWN,
        LeftOut.TIMEZONE_UNKNOWN,
        LeftOut.UNRESOLVED_PLACEHOLDER,
    }
)
"""These are left out on purpose; whoever plans a rollout wants to look at the others."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that a target names, and what may stand in the way."""

    agent_id: AgentId
    client_id: ClientId
    site_id: SiteId
    platform: Platform
    state: AgentState
    online: bool = False
    excluded: bool = False
    """By name, tag, platform or presence; what its facts exclude is judged here."""
    facts: dict[str, Any] = {}
    """Those that `wanted_facts` asks for, where it tells them."""

    @property
    def machine_type(self) -> MachineType | None:
        told = self.facts.get("machine_type")
        return MachineType(told) if told in set(MachineType) else None


class Joined(msgspec.Struct, frozen=True):
    """What happened to agents."""

    candidates: Sequence[Candidate]
    """Those that a target names and to whom something happened, the first of them."""
    upto: int
    """All up to this position of the log are among them."""
    all: bool
    """Nothing more happened by the moment that was asked for."""


def wanted_facts(target: Target, *, timezone: bool) -> tuple[str, ...]:
    """The facts at the top that agents are judged by; their time zone only where it matters."""
    names: set[str] = set(TIMEZONE_FACTS) if timezone else set()
    for selector in (target.include, target.exclude):
        names.update(parsed(selector.filter).names if selector.filter else ())
        if selector.machine_types:
            names.add("machine_type")
    return tuple(sorted(names))


def why_left_out(target: Target, order: Order, one: Candidate) -> str | None:
    """Why an agent gets no place; None where it does."""
    if one.excluded or _excluded(target.exclude, one):
        return LeftOut.EXCLUDED
    passed_over = _passed_over(target.include, one)
    if passed_over is not None:
        return passed_over
    if one.state is not AgentState.ACTIVE:
        return one.state.value
    return LeftOut.TIMEZONE_UNKNOWN if order.needs_timezone and timezone_of(one.facts) is None else None


def is_meant(target: Target, one: Candidate) -> bool:
    """Whether an active agent that a target names is one of those that it is for."""
    left_out = one.excluded or _excluded(target.exclude, one) or _passed_over(target.include, one) is not None
    return not left_out and one.state is AgentState.ACTIVE


def _excluded(exclude: Selector, one: Candidate) -> bool:
    if exclude.machine_types and one.machine_type in exclude.machine_types:
        return True
    return bool(exclude.filter) and parsed(exclude.filter).holds(one.facts) is True


def _passed_over(include: Selector, one: Candidate) -> LeftOut | None:
    """What narrows a target down beside its lists."""
    if include.platforms and one.platform not in include.platforms:
        return LeftOut.OTHER_PLATFORM
    if include.online is not None and one.online is not include.online:
        return LeftOut.OFFLINE if include.online else LeftOut.ONLINE
    if include.machine_types and one.machine_type not in include.machine_types:
        return LeftOut.MACHINE_TYPE_UNKNOWN if one.machine_type is None else LeftOut.OTHER_MACHINE_TYPE
    truth = parsed(include.filter).holds(one.facts) if include.filter else True
    if truth is not True:
        return LeftOut.FILTER_UNKNOWN if truth is None else LeftOut.FILTER_NOT_MET
    return None
