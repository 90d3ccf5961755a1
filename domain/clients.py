"""Clients: the customers whose machines are looked after."""

from uuid import UUID

from domain.event import Aggregate, Change, Event
from domain.names import clean_name


class ClientCreated(Event, frozen=True, kw_only=True):
    name: str


class ClientRenamed(Event, frozen=True, kw_only=True):
    name: str


class Client(Aggregate):
    name: str = ""

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.stream_id

    def create(self, name: str) -> Change:
        return self.decide(ClientCreated(name=clean_name(name, what="client")))

    def rename(self, name: str) -> Change:
        return self.decide(ClientRenamed(name=clean_name(name, what="client")))

    def when(self, event: Event) -> None:
        match event:
            case ClientCreated() | ClientRenamed():
                self.name = event.name
            case _:
                super().when(event)
