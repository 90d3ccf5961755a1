"""Whose hands an account or a key is in: who else may come in by it, as far as the log tells.

A key is in those of whoever made it, since they saw it, and of its owner. An account is in those of whoever gave it
its password last, or made it as long as nobody else has set one; of whoever has taken its second factor away since; and
of whoever linked an identity at a provider that is linked still. What people do for themselves takes it out of nobody's
hands: it may have been somebody else in their name. A password that another sets does: it ends all sessions and
passkeys, and without it a second factor opens nothing.
"""

from collections.abc import Iterable

import msgspec

from domain.api_keys import ApiKeyCreated
from domain.event import Recorded
from domain.identities import Identity, IdentityLinked, IdentityUnlinked
from domain.logins import PasswordSet, TotpRemoved
from domain.users import UserCreated


class Hand(msgspec.Struct, frozen=True):
    """Somebody, when they did something: whoever could act by them then, may have done it."""

    actor: str
    """As events bear it."""
    position: int
    """In the log."""


def hands_on(one: Hand, story: Iterable[Recorded]) -> set[Hand]:
    """Who could come in by a key or an account, at some time; through whom they could in turn is not followed.

    Args:
        one: the key or the user, and when.
        story: the key's events, oldest first; or the user's, and then those of how they log in.

    Returns:
        With the positions at which they came to it. An account is among its own where an identity was linked in its
        own name: by whoever could act so then.
    """
    of_key: set[Hand] = set()
    password: set[Hand] = set()
    factor: set[Hand] = set()
    links: dict[Identity, Hand] = {}
    for told in story:
        if told.position > one.position:
            continue
        by = Hand(told.actor, told.position)
        match told.event:
            case ApiKeyCreated(owner_id=owner_id):
                of_key = {by} if owner_id is None else {by, Hand(f"user:{owner_id}", one.position)}
            case UserCreated():
                password = {by}
            case PasswordSet() if told.actor != one.actor:
                password, factor = {by}, set()
            case TotpRemoved() if told.actor != one.actor:
                factor.add(by)
            case IdentityLinked(issuer=issuer, subject=subject):
                links[Identity(issuer, subject)] = by
            case IdentityUnlinked(issuer=issuer, subject=subject):
                links.pop(Identity(issuer, subject), None)
            case _:
                pass
    return of_key | password | factor | set(links.values())
