"""Sites: the locations of a client; every agent belongs to one."""

from uuid import UUID

from domain.event import Aggregate, Change, Event
from domain.ids import ClientId
from domain.names import clean_name


class SiteCreated(Event, frozen=True, kw_only=True):
    client_id: ClientId
    name: str


class SiteRenamed(Event, frozen=True, kw_only=True):
    name: str


class Site(Aggregate):
    client_id: ClientId
    name: str = ""

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.client_id

    def create(self, client_id: ClientId, name: str) -> Change:
        return self.decide(SiteCreated(client_id=client_id, name=clean_name(name, what="site")))

    def rename(self, name: str) -> Change:
        return self.decide(SiteRenamed(name=clean_name(name, what="site")))

    def when(self, event: Event) -> None:
        match event:
            case SiteCreated():
                self.client_id = event.client_id
                self.name = event.name
            case SiteRenamed():
                self.name = event.name
            case _:
                super().when(event)
