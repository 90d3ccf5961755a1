"""Roles that somebody has by their groups at the provider, as of the last login through it.

They are kept apart from what was granted by hand. A group that is gone is noticed at the next login, and not before:
the provider says nothing in between. So what an API key may by its owner's groups it may until then, and whoever has to
be out at once is disabled here.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog

from command_bus.errors import BusyStreamError
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.grants import role_id_of
from command_bus.sso_provider import Vouched
from command_bus.sso_terms import SsoTerms
from domain.access import MAX_GRANTS, Grant
from domain.errors import NotFoundError, RoleRetiredError
from domain.event import Change, Metadata
from domain.ids import UserId
from domain.users import User, UserCreated, UserGranted, UserGroupsApplied

ACTOR = "sso"
"""Who does what the provider's word brings about."""
_MAX_TRIES = 5
_log = structlog.get_logger("fleetlog.sso")


def provider_roles(terms: SsoTerms, vouched: Vouched) -> tuple[str, ...]:
    """The names of the roles that somebody's groups stand for, in the settings' order.

    Args:
        terms: of the provider.
        vouched: its word. Without the claim, or with one that is none, there are no groups.
    """
    told = vouched.claims.get(terms.roles_claim)
    values = {one for one in (told if isinstance(told, list) else [told]) if isinstance(one, str)}
    return tuple(dict.fromkeys(role for value, role in terms.roles.items() if value in values))[:MAX_GRANTS]


class GroupRoles:
    """Takes them over.

    Args:
        log: the event log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def apply(self, user_id: UserId, issuer: str, roles: Sequence[str], correlation_id: UUID) -> None:
        """Have a user have these roles over everything by groups, and no others. Where that is so, nothing is recorded.

        A role that is not there, or retired, gives nothing and keeps nobody out: a warning says so.

        Raises:
            BusyStreamError: others kept changing that user.
        """
        grants = tuple([one for name in roles if (one := await self._grant(name)) is not None])
        for _ in range(_MAX_TRIES):
            changes = await self._changes(user_id, issuer, grants)
            if not changes:
                return
            try:
                await self._log.append(changes, Metadata(actor=ACTOR, correlation_id=correlation_id))
            except ConflictError:
                continue
            return
        raise BusyStreamError

    async def _grant(self, name: str) -> Grant | None:
        try:
            return Grant(role_id=await role_id_of(self._log, name), everything=True)
        except (NotFoundError, RoleRetiredError) as error:
            _log.warning("provider_role_not_granted", role=name, error=str(error))
            return None

    async def _changes(self, user_id: UserId, issuer: str, grants: tuple[Grant, ...]) -> list[Change]:
        story = (await self._log.read_streams([user_id])).get(user_id, ())
        user = User.load(user_id, (one.event for one in story))
        changes = []
        # Earlier versions made whoever came from a trusted domain with what their groups stood for. Nobody has
        # touched that since: so it is the groups', and goes with them.
        untouched = not any(isinstance(one.event, UserGranted | UserGroupsApplied) for one in story)
        if story and story[0].actor == ACTOR and isinstance(story[0].event, UserCreated) and untouched and user.granted:
            changes.append(user.grant(()))
        if frozenset(user.of_groups) != frozenset(grants):
            changes.append(user.apply_groups(issuer, grants))
        return changes
