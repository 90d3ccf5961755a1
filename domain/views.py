"""Saved views: how somebody looks at the fleet, under a name; their own, or shared with all who see its place."""

from uuid import UUID

import msgspec

from domain.errors import InvalidValueError
from domain.event import Aggregate, Change, Event
from domain.ids import ClientId, SiteId
from domain.names import clean_name

MAX_QUERY = 500
MAX_COLUMNS = 40
MAX_COLUMN = 40


class ViewTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown, and how."""

    name: str
    query: str = ""
    """As typed into the search box."""
    client_id: ClientId | None = None
    site_id: SiteId | None = None
    sort: str = "name"
    columns: tuple[str, ...] = ()
    """None: those that each person has chosen for themselves."""
    shared: bool = False

    def cleaned(self) -> "ViewTerms":
        """The same, tidied.

        Raises:
            InvalidValueError: it cannot be meant; says which field.
        """
        if len(self.query) > MAX_QUERY or "\x00" in self.query:
            raise InvalidValueError(f"query: at most {MAX_QUERY} characters without NUL.")
        if len(self.columns) > MAX_COLUMNS or len(set(self.columns)) < len(self.columns):
            raise InvalidValueError(f"columns: at most {MAX_COLUMNS}, each once.")
        return msgspec.structs.replace(
            self, name=clean_name(self.name, what="view"), query=" ".join(self.query.split())
        )


class ViewSaved(Event, frozen=True, kw_only=True):
    """All of it from now on."""

    owner: str
    """Whose it is: a user, or a key that belongs to nobody."""
    name: str
    query: str = ""
    client_id: ClientId | None = None
    site_id: SiteId | None = None
    sort: str = "name"
    columns: tuple[str, ...] = ()
    shared: bool = False


class ViewRemoved(Event, frozen=True, kw_only=True):
    pass


class View(Aggregate):
    owner: str = ""
    shared: bool = False
    client_id: ClientId | None = None
    site_id: SiteId | None = None
    removed: bool = False

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return None, self.client_id

    def save(self, owner: str, terms: ViewTerms) -> Change:
        """Keep it like this from now on.

        Raises:
            InvalidValueError: it cannot be meant.
        """
        terms = terms.cleaned()
        # Whoever may see the event is whoever may see the place that it is of now.
        self.client_id = terms.client_id
        return self.decide(
            ViewSaved(
                owner=owner,
                name=terms.name,
                query=terms.query,
                client_id=terms.client_id,
                site_id=terms.site_id,
                sort=terms.sort,
                columns=terms.columns,
                shared=terms.shared,
            )
        )

    def remove(self) -> Change:
        return self.decide(ViewRemoved())

    def when(self, event: Event) -> None:
        match event:
            case ViewSaved():
                self.owner, self.shared = event.owner, event.shared
                self.client_id, self.site_id = event.client_id, event.site_id
            case ViewRemoved():
                self.removed = True
            case _:
                super().when(event)
