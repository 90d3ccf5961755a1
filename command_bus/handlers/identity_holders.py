"""Whose an identity at a provider is; in the log under ids that tell nobody which identity it is.

An identity's stream was once called after a plain hash of it, so that whoever guesses a subject could see that it is
right. Such holdings stand until they are freed, and sessions that began so are found by it; every new one is under a
hash with a secret of the fleet's, as with the names of users.
"""

from uuid import UUID

import msgspec

from command_bus.event_log import EventLog
from command_bus.repository import load_many
from domain.event import Change
from domain.identities import Identity, IdentityHolder
from domain.ids import UserId


class Holding(msgspec.Struct, frozen=True):
    """Of one identity."""

    by_id: IdentityHolder
    by_plain_id: IdentityHolder

    @property
    def id(self) -> UUID:
        return self.by_id.stream_id

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """What it is called, and what it was once."""
        return self.by_id.stream_id, self.by_plain_id.stream_id

    @property
    def once(self) -> UUID:
        """What is done once for an identity is named after it as it was when that was done first."""
        return self.by_plain_id.stream_id if self.by_plain_id.exists else self.id

    @property
    def holder(self) -> UserId | None:
        return self.by_id.holder or self.by_plain_id.holder

    def hold(self, user_id: UserId) -> Change:
        """Give it to a user.

        Raises:
            IdentityTakenError: it is somebody's.
        """
        self.by_plain_id.must_be_free()
        return self.by_id.hold(user_id)

    def free(self, user_id: UserId) -> list[Change]:
        """Take it from a user, under whichever id they hold it."""
        return [one.free(user_id) for one in (self.by_id, self.by_plain_id) if one.holder == user_id]


async def holding_of(log: EventLog, identity: Identity) -> Holding:
    """Whose it is."""
    by_id, by_plain_id = identity.ids(await log.names_key())
    found = await load_many(log, IdentityHolder, [by_id, by_plain_id])
    return Holding(found[by_id], found[by_plain_id])
