"""The fleet's own keys, as far as one takes over from another: what is announced, and what is over.

The first key of each purpose is made before there is anything to tell, and no event speaks of it; the one that
announces the second names it. Two count at the most at once: whoever wants a third ends the first.
"""

import enum
from uuid import UUID

import msgspec

from domain.errors import KeyOverlapError, NoOldKeyError
from domain.event import Aggregate, Change, Event
from domain.ids import derived_id


class Purpose(enum.StrEnum):
    """What a key is for."""

    DELIVERY = "delivery"
    ISSUER = "issuer"
    GATEWAY = "gateway"
    SYSTEM = "system"


class ServerKeyAnnounced(Event, frozen=True, kw_only=True):
    """Another key counts beside the one before it."""

    purpose: Purpose
    number: int
    """From 2: the first is before any event."""
    public_key: str
    """Ed25519, hex."""
    previous: str
    signature: str = ""
    """Hex; of the delivery key, by the one before it: see `schema.trust.KeyLink`."""


class ServerKeyRetired(Event, frozen=True, kw_only=True):
    """A key counts no longer, and its private half is gone."""

    purpose: Purpose
    number: int
    public_key: str
    signature: str = ""
    """Hex; of the delivery key, by the one that is left: see `schema.trust.ServerKeys`."""
    unaware: int = 0
    """How many agents had not said by then that they know the key that is left."""


class Generation(msgspec.Struct, frozen=True):
    """One key that counts."""

    number: int
    public_key: str


def server_keys_stream(purpose: Purpose) -> UUID:
    return derived_id("server-keys", purpose.value)


class ServerKeys(Aggregate):
    """The keys of one purpose."""

    purpose: Purpose
    counting: tuple[Generation, ...] = ()
    """Those that count, the oldest first; empty while there was never more than one."""
    retired: int = 0
    """The last one that is over; 0 while there is none."""
    ended: str = ""
    """The signature that says so to agents, hex."""

    @classmethod
    def of(cls, purpose: Purpose) -> "ServerKeys":
        """Of a purpose, before they are replayed."""
        keys = cls(server_keys_stream(purpose))
        keys.purpose = purpose
        return keys

    @property
    def last(self) -> int:
        """The number of the newest key."""
        return self.counting[-1].number if self.counting else 1

    def state_of(self, number: int) -> str:
        """Of one of the keys: ``used``, ``announced`` (counts beside the one that is used) or ``retired``."""
        if number <= self.retired:
            return "retired"
        return "used" if number == self.retired + 1 else "announced"

    def announce(self, previous: Generation, public_key: str, signature: str) -> Change:
        """Let another key count beside the present one.

        Args:
            previous: the present one.
            public_key: the other one, hex.
            signature: by the present one, where it matters.

        Raises:
            KeyOverlapError: two count already.
        """
        if len(self.counting) > 1:
            raise KeyOverlapError
        return self.decide(
            ServerKeyAnnounced(
                purpose=self.purpose,
                number=previous.number + 1,
                public_key=public_key,
                previous=previous.public_key,
                signature=signature,
            )
        )

    def retire(self, signature: str, unaware: int) -> Change:
        """End the old one of two keys.

        Raises:
            NoOldKeyError: only one counts.
        """
        if len(self.counting) < 2:  # noqa: PLR2004 -- one is to be left
            raise NoOldKeyError
        old = self.counting[0]
        return self.decide(
            ServerKeyRetired(
                purpose=self.purpose,
                number=old.number,
                public_key=old.public_key,
                signature=signature,
                unaware=unaware,
            )
        )

    def when(self, event: Event) -> None:
        match event:
            case ServerKeyAnnounced():
                before = self.counting or (Generation(event.number - 1, event.previous),)
                self.counting = (*before, Generation(event.number, event.public_key))
            case ServerKeyRetired():
                self.counting = tuple(one for one in self.counting if one.number > event.number)
                self.retired, self.ended = event.number, event.signature
            case _:
                super().when(event)
