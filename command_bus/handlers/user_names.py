"""The names of users: unique, and in the log under ids that tell nobody what they are.

A name's stream was once called after a plain hash of it, so that whoever guesses a name could see that it is right.
Such claims stand for as long as they are held; every new one is under a hash with a secret of the fleet's.
"""

from uuid import UUID

from command_bus.event_log import EventLog
from command_bus.repository import load_many
from domain.event import Change
from domain.ids import UserId
from domain.names import Name

KIND = "user"


async def user_named(log: EventLog, name: str) -> UserId | None:
    """Who goes by a name, in any case."""
    names = await load_many(log, Name, list(await _ids(log, name)))
    holders = [one.holder for one in names.values() if one.holder is not None]
    return UserId(holders[0]) if holders else None


async def claim_name(log: EventLog, before: str, after: str, holder: UUID) -> list[Change]:
    """Claim a user's new name and release the one before, where they differ as names.

    Args:
        log: where the names' streams are.
        before: held until now, or "" for none.
        after: wanted, cleaned; "" for none any more.
        holder: the user.

    Raises:
        NameTakenError: another holds it.
    """
    if before.casefold() == after.casefold():
        return []
    old = await _ids(log, before) if before else ()
    changes: list[Change] = []
    if after:
        secret, plain = await _ids(log, after)
        wanted = await load_many(log, Name, [secret, plain])
        wanted[plain].must_be_free(KIND, after, holder)
        changes.append(wanted[secret].claim(KIND, None, after, holder))
    held = await load_many(log, Name, list(old))
    return changes + [name.release() for name in held.values() if name.holder == holder]


async def _ids(log: EventLog, name: str) -> tuple[UUID, UUID]:
    """The stream of a name, and what it was called once."""
    return Name.secret_id_of(await log.names_key(), KIND, None, name), Name.id_of(KIND, None, name)
