"""Scopes: over which clients and sites something may be done."""

from collections.abc import Iterable
from uuid import UUID

import msgspec

from domain.ids import ClientId, SiteId


class Place(msgspec.Struct, frozen=True):
    """One site, and the client that it belongs to for ever."""

    site_id: SiteId
    client_id: ClientId


class Scope(msgspec.Struct, frozen=True):
    """Everything, or whole clients and single sites of others. An empty one is nothing at all."""

    everything: bool = False
    clients: frozenset[ClientId] = frozenset()
    sites: frozenset[Place] = frozenset()

    @classmethod
    def of(cls, clients: Iterable[UUID] = (), sites: Iterable[Place] = ()) -> "Scope":
        """Whole clients, and sites; those of the clients among them need no mention."""
        whole = frozenset(ClientId(one) for one in clients)
        return cls(clients=whole, sites=frozenset(place for place in sites if place.client_id not in whole))

    @property
    def empty(self) -> bool:
        return not (self.everything or self.clients or self.sites)

    @property
    def site_ids(self) -> frozenset[SiteId]:
        return frozenset(place.site_id for place in self.sites)

    @property
    def known_clients(self) -> frozenset[ClientId]:
        """Those that it holds wholly or in part."""
        return self.clients | {place.client_id for place in self.sites}

    def with_their_clients(self) -> "Scope":
        """The clients of the sites, too: for what is known of a client by whoever sees a part of it."""
        return self if self.everything else Scope.of(self.known_clients)

    def holds(self, client_id: UUID, site_id: UUID | None = None) -> bool:
        """Whether a client, wholly, or a site of it lies within."""
        if self.everything or client_id in self.clients:
            return True
        return site_id is not None and Place(SiteId(site_id), ClientId(client_id)) in self.sites

    def includes(self, other: "Scope") -> bool:
        """Whether all of another lies within."""
        if self.everything or other.everything:
            return self.everything
        return other.clients <= self.clients and all(self.holds(one.client_id, one.site_id) for one in other.sites)

    def __and__(self, other: "Scope") -> "Scope":
        if self.everything:
            return other
        if other.everything or self == other:
            return self
        sites = {one for one in self.sites if other.holds(one.client_id, one.site_id)}
        sites |= {one for one in other.sites if self.holds(one.client_id, one.site_id)}
        return Scope.of(self.clients & other.clients, sites)

    def __or__(self, other: "Scope") -> "Scope":
        if self.everything or other.everything:
            return EVERYTHING
        if self == other:
            return self
        return Scope.of(self.clients | other.clients, self.sites | other.sites)


EVERYTHING = Scope(everything=True)
NOTHING = Scope()
