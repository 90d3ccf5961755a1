"""The certificate authorities that a Fleetlog makes for its own listeners: one takes over from another in three steps.

The files say how it is (`gateways.local.authority`); the log says what happened to them. So what is seen is compared
with what was last recorded, and whatever was missed, as while nothing ran, is recorded then.
"""

from collections.abc import Sequence

from domain.event import Aggregate, Change, Event
from domain.ids import derived_id


class AuthorityAnnounced(Event, frozen=True, kw_only=True):
    """Agents are told to trust it, beside those that there are."""

    fingerprint: str
    """SHA-256 of its certificate, as ``sha256:<hex>``."""


class AuthorityUsed(Event, frozen=True, kw_only=True):
    """The server's certificates come from it."""

    fingerprint: str


class AuthorityRetired(Event, frozen=True, kw_only=True):
    """Agents are told to trust it no longer."""

    fingerprint: str


class Authorities(Aggregate):
    """Of one platform."""

    STREAM = derived_id("authorities")
    trusted: tuple[str, ...] = ()
    """Fingerprints, in the order in which they were announced."""
    used: str | None = None

    def see(self, trusted: Sequence[str], used: str) -> list[Change]:
        """Record what is another than before.

        Args:
            trusted: fingerprints of those that agents are told to trust.
            used: of the one that certificates come from.
        """
        changes = [self.decide(AuthorityAnnounced(fingerprint=one)) for one in trusted if one not in self.trusted]
        if used != self.used:
            changes.append(self.decide(AuthorityUsed(fingerprint=used)))
        changes += [self.decide(AuthorityRetired(fingerprint=one)) for one in self.trusted if one not in trusted]
        return changes

    def when(self, event: Event) -> None:
        match event:
            case AuthorityAnnounced():
                self.trusted = (*self.trusted, event.fingerprint)
            case AuthorityUsed():
                self.used = event.fingerprint
            case AuthorityRetired():
                self.trusted = tuple(one for one in self.trusted if one != event.fingerprint)
            case _:
                super().when(event)
