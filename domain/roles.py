"""Roles: named sets of permissions, with limits on how much one action may touch.

Five are built in and never change; others are made of events. Both are named by an id, so that a grant does not care.
"""

import enum
from typing import Any, ClassVar

import msgspec

from domain.errors import BuiltInRoleError, InvalidValueError, RoleRetiredError
from domain.event import Aggregate, Change, Event, Upcaster
from domain.ids import RoleId, derived_id
from domain.names import clean_name
from domain.permissions import ALL, Permission

P = Permission
MAX_AGENTS = 10_000_000
NEVER_WAITS = frozenset({P.ENROLLMENT_MANAGE, P.APPROVALS_DECIDE, P.APPROVALS_SEE})
"""A token is shown to whoever makes it, at once; and who decides for others does not wait for them in turn."""


class Role(enum.StrEnum):
    """The roles that are built in."""

    ADMIN = "administrator"
    OPERATOR = "operator"
    HELPDESK = "helpdesk"
    AUDITOR = "auditor"
    READ_ONLY = "read-only"

    @property
    def id(self) -> RoleId:
        return RoleId(derived_id("role", self.value))


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much one action may touch. None does not limit."""

    max_agents: int | None = None
    """More agents than these no single action may touch."""
    approval_above: int | None = None
    """An action that touches more waits for another person."""
    approval_for: tuple[str, ...] = ()
    """Permissions of which each use waits for another person."""

    def check(self) -> None:
        """Raise InvalidValueError for an impossible limit."""
        if self.max_agents is not None and not 1 <= self.max_agents <= MAX_AGENTS:
            raise InvalidValueError(f"limits.max_agents: 1 to {MAX_AGENTS}, not {self.max_agents}.")
        if self.approval_above is not None and not 0 <= self.approval_above <= MAX_AGENTS:
            raise InvalidValueError(f"limits.approval_above: 0 to {MAX_AGENTS}, not {self.approval_above}.")
        if unfit := sorted(set(self.approval_for) & NEVER_WAITS):
            raise InvalidValueError(f"limits.approval_for: {unfit[0]} cannot wait for another person.")

    def __and__(self, other: "Limits") -> "Limits":
        """The tighter of both."""
        return Limits(
            max_agents=_least(self.max_agents, other.max_agents),
            approval_above=_least(self.approval_above, other.approval_above),
            approval_for=tuple(sorted({*self.approval_for, *other.approval_for})),
        )

    def __or__(self, other: "Limits") -> "Limits":
        """The looser of both."""
        return Limits(
            max_agents=_most(self.max_agents, other.max_agents),
            approval_above=_most(self.approval_above, other.approval_above),
            approval_for=tuple(sorted({*self.approval_for} & {*other.approval_for})),
        )

    def within(self, other: "Limits") -> bool:
        """Whether it is no looser than another."""
        return self & other == Limits(
            max_agents=self.max_agents,
            approval_above=self.approval_above,
            approval_for=tuple(sorted(set(self.approval_for))),
        )


UNLIMITED = Limits()


def _least(one: int | None, other: int | None) -> int | None:
    given = [limit for limit in (one, other) if limit is not None]
    return min(given, default=None)


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


class Terms(msgspec.Struct, frozen=True):
    """What a role allows."""

    permissions: frozenset[Permission]
    limits: Limits = UNLIMITED


_SEEN_BY_ALL = frozenset(
    {
        P.AGENTS_SEE,
        P.COMMANDS_SEE,
        P.COMMANDS_OUTPUT,
        P.ROLLOUTS_SEE,
        P.CHECKS_SEE,
        P.SCRIPTS_SEE,
        P.CLIENTS_SEE,
        P.ENROLLMENT_SEE,
        P.EVENTS_SEE,
        P.APPROVALS_SEE,
        P.SECRETS_SEE,
        P.FORWARDING_SEE,
        P.PLATFORM_SEE,
    }
)
_WORK = frozenset(
    {
        P.AGENTS_EDIT,
        P.NOTES_WRITE,
        P.AGENTS_MOVE,
        P.AGENTS_SUSPEND,
        P.AGENTS_KEYS,
        P.COMMANDS_QUEUE,
        P.COMMANDS_SCRIPT,
        P.COMMANDS_SHELL,
        P.COMMANDS_PATCH,
        P.COMMANDS_CANCEL,
        P.ROLLOUTS_START,
        P.ROLLOUTS_STEER,
        P.CHECKS_MANAGE,
        P.SCRIPTS_MANAGE,
        P.APPROVALS_DECIDE,
        P.FIELDS_FILL,
    }
)
_HELP = frozenset(
    {
        P.AGENTS_EDIT,
        P.NOTES_WRITE,
        P.COMMANDS_QUEUE,
        P.COMMANDS_SCRIPT,
        P.COMMANDS_PATCH,
        P.COMMANDS_CANCEL,
        P.ROLLOUTS_START,
        P.ROLLOUTS_STEER,
    }
)
HELPDESK_AGENTS = 25

BUILT_IN: dict[Role, Terms] = {
    Role.ADMIN: Terms(ALL),
    Role.OPERATOR: Terms(_SEEN_BY_ALL | _WORK),
    # It runs what others have written and looked over, on a few machines at a time.
    Role.HELPDESK: Terms(_SEEN_BY_ALL | _HELP, Limits(max_agents=HELPDESK_AGENTS)),
    Role.AUDITOR: Terms(_SEEN_BY_ALL | {P.PEOPLE_SEE, P.ROLES_SEE, P.KEYS_SEE, P.PLATFORM_BROWSE}),
    Role.READ_ONLY: Terms(_SEEN_BY_ALL),
}
BUILT_IN_IDS: dict[RoleId, Role] = {role.id: role for role in Role}


_COVERED = {
    "agents.edit": ("agents.edit", "notes.write"),
    "commands.see": ("commands.see", "commands.output"),
    "events.see": ("events.see", "commands.output"),
    "forwarding.manage": ("forwarding.manage", "commands.output"),
    "rollouts.see": ("rollouts.see", "commands.output"),
    "platform.browse": ("platform.browse", "commands.output"),
    "people.see": ("people.see", "roles.see", "keys.see"),
    "platform.manage": ("retention.manage", "server_keys.manage"),
}
"""What a permission covered until 3. Outputs are read where one sees what shows them, so no role reads more by this;
what is forwarded, and the rows of read models, showed them to whoever could have those."""


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    return body


def _one_for_each_thing(body: dict[str, Any]) -> dict[str, Any]:
    """A role of before allows what it allowed, and asks for another person where it did."""
    body = body | {"permissions": _spread(body["permissions"])}
    limits = body.get("limits", {})
    if limits.get("approval_for"):
        body["limits"] = limits | {"approval_for": _spread(limits["approval_for"])}
    return body


def _spread(names: list[str]) -> list[str]:
    return sorted({now for name in names for now in _COVERED.get(name, (name,))})


class RoleCreated(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was, 2: _one_for_each_thing}
    """Since 2 limits may ask for another person; since 3 some permissions are several."""

    name: str
    permissions: tuple[str, ...]
    """Sorted. A permission that this program does not know allows nothing."""
    limits: Limits = UNLIMITED


class RoleChanged(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {1: _as_it_was, 2: _one_for_each_thing}

    name: str
    permissions: tuple[str, ...]
    limits: Limits = UNLIMITED


class RoleRetired(Event, frozen=True, kw_only=True):
    """It allows nothing from now on, whoever has it."""

    reason: str = ""


class CustomRole(Aggregate):
    name: str = ""
    permissions: frozenset[Permission] = frozenset()
    limits: Limits = UNLIMITED
    retired: bool = False

    @property
    def terms(self) -> Terms:
        return Terms(frozenset() if self.retired else self.permissions, self.limits)

    def create(self, name: str, permissions: frozenset[Permission], limits: Limits) -> Change:
        limits.check()
        return self.decide(RoleCreated(name=_named(name), permissions=tuple(sorted(permissions)), limits=limits))

    def change(self, name: str, permissions: frozenset[Permission], limits: Limits) -> Change:
        self._must_not_be_retired()
        limits.check()
        return self.decide(RoleChanged(name=_named(name), permissions=tuple(sorted(permissions)), limits=limits))

    def retire(self, reason: str) -> Change:
        self._must_not_be_retired()
        return self.decide(RoleRetired(reason=reason))

    def _must_not_be_retired(self) -> None:
        if self.retired:
            raise RoleRetiredError

    def when(self, event: Event) -> None:
        match event:
            case RoleCreated() | RoleChanged():
                self.name = event.name
                self.permissions = frozenset(_KNOWN[one] for one in event.permissions if one in _KNOWN)
                self.limits = event.limits
            case RoleRetired():
                self.retired = True
            case _:
                super().when(event)


_KNOWN = {permission.value: permission for permission in Permission}


def _named(name: str) -> str:
    cleaned = clean_name(name, what="role")
    if cleaned.casefold() in {role.value for role in Role} | {"admin"}:
        raise BuiltInRoleError(f"The role {cleaned!r} is built in; choose another name.")
    return cleaned
