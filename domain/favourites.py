"""Favourites: the scripts that somebody wants at hand. Everybody has their own."""

from uuid import UUID

from domain.errors import InvalidValueError
from domain.event import Aggregate, Change, Event
from domain.ids import derived_id

MOST = 200


class ScriptFavoured(Event, frozen=True, kw_only=True):
    owner: str
    """Whose: ``user:<id>``, or the actor of a key that is nobody's."""
    script_id: UUID


class ScriptUnfavoured(Event, frozen=True, kw_only=True):
    owner: str
    script_id: UUID


class Favourites(Aggregate):
    """One owner's."""

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.scripts: set[UUID] = set()

    @staticmethod
    def id_of(owner: str) -> UUID:
        return derived_id("favourites", owner)

    def keep(self, owner: str, script_id: UUID) -> list[Change]:
        """Take a script in; nothing happens to one that is there.

        Raises:
            InvalidValueError: there are as many as there can be.
        """
        if script_id in self.scripts:
            return []
        if len(self.scripts) >= MOST:
            raise InvalidValueError(f"There are {MOST} favourites, the most there can be; take one out first.")
        return [self.decide(ScriptFavoured(owner=owner, script_id=script_id))]

    def leave(self, owner: str, script_id: UUID) -> list[Change]:
        """Take a script out; nothing happens to one that is not there."""
        if script_id not in self.scripts:
            return []
        return [self.decide(ScriptUnfavoured(owner=owner, script_id=script_id))]

    def when(self, event: Event) -> None:
        match event:
            case ScriptFavoured():
                self.scripts.add(event.script_id)
            case ScriptUnfavoured():
                self.scripts.discard(event.script_id)
            case _:
                super().when(event)
