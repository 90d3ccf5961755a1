"""Access: what somebody may do, and over what. Grants say it in events; here they are worked out."""

from collections.abc import Callable, Iterable
from functools import reduce

import msgspec

from domain.errors import InvalidValueError
from domain.ids import ClientId, RoleId
from domain.permissions import Permission
from domain.roles import BUILT_IN, UNLIMITED, Limits, Role, Terms
from domain.scopes import EVERYTHING, NOTHING, Place, Scope

MAX_GRANTS = 50
MAX_PLACES = 1_000
"""Clients and sites of one grant."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role, over everything or over some clients and sites."""

    role_id: RoleId
    everything: bool = False
    clients: tuple[ClientId, ...] = ()
    sites: tuple[Place, ...] = ()

    @property
    def scope(self) -> Scope:
        return EVERYTHING if self.everything else Scope.of(self.clients, self.sites)


def check_grants(grants: tuple[Grant, ...]) -> None:
    """Raise InvalidValueError where there are too many, or one that is over nothing or over everything and more."""
    if len(grants) > MAX_GRANTS:
        raise InvalidValueError(f"grants: at most {MAX_GRANTS}, not {len(grants)}.")
    for grant in grants:
        places = len(grant.clients) + len(grant.sites)
        if grant.everything == bool(places):
            raise InvalidValueError("grants: each is over everything, or names clients or sites.")
        if places > MAX_PLACES:
            raise InvalidValueError(f"grants: at most {MAX_PLACES} clients and sites each, not {places}.")


class Right(msgspec.Struct, frozen=True):
    """One grant with what its role allows."""

    terms: Terms
    scope: Scope


class Access:
    """All that somebody may do. It is asked again and again, so what it has worked out it remembers.

    Args:
        rights: of each grant.
    """

    def __init__(self, rights: tuple[Right, ...] = ()) -> None:
        self.rights = rights
        self._scopes: dict[tuple[Permission, ...], Scope] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Access) and self.rights == other.rights

    def __hash__(self) -> int:
        return hash(self.rights)

    @classmethod
    def of(cls, grants: Iterable[Grant], terms_of: Callable[[RoleId], Terms]) -> "Access":
        """Work out grants.

        Args:
            grants: of a user, a service account or a key.
            terms_of: what a role allows now.
        """
        return cls(tuple(Right(terms_of(grant.role_id), grant.scope) for grant in grants))

    @classmethod
    def as_role(cls, role: Role, scope: Scope = EVERYTHING) -> "Access":
        """That of a built-in role."""
        return cls((Right(BUILT_IN[role], scope),))

    def scope(self, *permissions: Permission) -> Scope:
        """Over what all of these may be done; nothing, where one of them may not be done at all."""
        found = self._scopes.get(permissions)
        if found is None:
            found = reduce(lambda one, other: one & other, map(self._scope, permissions), EVERYTHING)
            self._scopes[permissions] = found
        return found

    def _scope(self, permission: Permission) -> Scope:
        scopes = (right.scope for right in self.rights if permission in right.terms.permissions)
        return reduce(lambda one, other: one | other, scopes, NOTHING)

    def limits(self, *permissions: Permission, over: Scope) -> Limits:
        """Of an action that needs all of these.

        Args:
            permissions: what it needs.
            over: all that it touches. A role over that whole says how much, and of several such the loosest; where it
                takes several roles to cover it, the tightest of them.
        """
        return reduce(lambda one, other: one & other, (self._limits(one, over) for one in permissions), UNLIMITED)

    def _limits(self, permission: Permission, over: Scope) -> Limits:
        giving = [right for right in self.rights if permission in right.terms.permissions]
        covering = [right.terms.limits for right in giving if right.scope.includes(over)]
        if covering:
            return reduce(lambda one, other: one | other, covering)
        return reduce(lambda one, other: one & other, (right.terms.limits for right in giving), UNLIMITED)

    def includes(self, other: "Access") -> bool:
        """Whether whoever has this may do all that the other may: what one may give, and whom one may change."""
        return all(
            self._scope(permission).includes(right.scope)
            and right.terms.limits.within(self._limits(permission, right.scope))
            for right in other.rights
            for permission in right.terms.permissions
        )

    def __and__(self, other: "Access") -> "Access":
        """What both allow: a key never does more than its owner may."""
        both = [
            Right(Terms(permissions, one.terms.limits & two.terms.limits), scope)
            for one in self.rights
            for two in other.rights
            if (permissions := one.terms.permissions & two.terms.permissions)
            and not (scope := one.scope & two.scope).empty
        ]
        return Access(tuple(both))


FULL = Access.as_role(Role.ADMIN)
