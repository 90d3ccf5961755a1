"""What those who asked for something may do by now: for what was asked long ago and is only done today.

Whoever queues a command for a machine that is away, or starts a rollout whose last wave begins next month, may have
been shut out by then. So what is done in their name is judged when it is done, by what they may at that moment. What
was read is remembered, and dropped as soon as somebody tells of a change (`Askers.heard`).
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from command_bus.access import KeyAccess, UserAccess, key_access, user_access
from command_bus.believing import CACHE_LIFE, Believed
from command_bus.event_log import EventLog, Mark
from command_bus.intents.commands import permissions_of
from domain.access import Access
from domain.catalog import EVENTS
from domain.commands import Spec
from domain.event import Recorded
from domain.ids import is_derived
from domain.permissions import Permission

_MODULES = ("domain.api_keys", "domain.roles", "domain.users")
ABOUT_ASKERS = frozenset(name for name, event in EVENTS.items() if event.__module__ in _MODULES)
"""Event types that change what a user or a key may do, whoever is logged in."""
NOTHING = Access()


class Askers:
    """Answers for the actors of events.

    Args:
        log: the event log.
        life: so long what was read is believed, where nobody tells of a change.
    """

    def __init__(self, log: EventLog, life: timedelta = CACHE_LIFE) -> None:
        self._keys: Believed[KeyAccess] = Believed(partial(key_access, log), life)
        self._users: Believed[UserAccess] = Believed(partial(user_access, log), life)

    async def access(self, actors: Iterable[str], at: datetime) -> dict[str, Access]:
        """What each of these may do.

        Args:
            actors: as events bear them.
            at: now.

        Returns:
            Of users and keys. Others (the scheduler, gateways) were not granted what they do, and are left out.
        """
        wanted = sorted(set(actors))
        found = await asyncio.gather(*(self._access(actor, at) for actor in wanted))
        return {actor: access for actor, access in zip(wanted, found, strict=True) if access is not None}

    async def _access(self, actor: str, at: datetime) -> Access | None:
        kind, _, text = actor.partition(":")
        if kind not in ("key", "user"):
            return None
        try:
            stream_id = UUID(text)
        except ValueError:
            return None
        if kind == "user":
            user = await self._users.get(stream_id, at)
            return user.access if user.good else NOTHING
        key = await self._keys.get(stream_id, at)
        # One whose time is up was let go as planned: what it asked for in its time stands.
        return key.access if key.good and not key.key.revoked else NOTHING

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded of a key, a user or a role."""
        self._keys.heard(recorded)
        self._users.heard(recorded)


def needs_of(command_id: UUID, spec: Spec) -> tuple[Permission, ...]:
    """What it takes to ask for a command, by itself or as a rollout's."""
    asking = Permission.ROLLOUTS_START if is_derived(command_id) else Permission.COMMANDS_QUEUE
    return asking, *permissions_of(spec)
