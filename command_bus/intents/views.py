"""Intents about saved views."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import Field

from command_bus.bus import Intent
from domain import views as domain
from domain.ids import ClientId, SiteId
from domain.permissions import Permission

SORT = "^-?(name|id|online|platform|client|seen|pending)$"
"""The orders of the list of agents."""


class SaveView(Intent):
    """Save a view of the fleet under a name."""

    needs: ClassVar[Permission] = Permission.AGENTS_SEE

    name: str = Field(max_length=200)
    query: str = Field(default="", max_length=domain.MAX_QUERY, description="As typed into the dashboard's search box.")
    client_id: UUID | None = Field(default=None, description="Only this client's machines.")
    site_id: UUID | None = Field(default=None, description="Only this site's; `client_id` is then its client.")
    sort: str = Field(default="name", pattern=SORT, description="As of `GET /agents`.")
    columns: list[Annotated[str, Field(pattern=f"^[a-z_]{{1,{domain.MAX_COLUMN}}}$")]] = Field(
        default=[], max_length=domain.MAX_COLUMNS, description="Empty: those that each person has chosen."
    )
    shared: bool = Field(
        default=False,
        description="All who see its client or site see it; one of the whole fleet is shared by those who may do so "
        "over everything. Needs `agents.edit` there.",
    )

    def required(self) -> tuple[Permission, ...]:
        """Besides seeing machines, to edit them where others are to see it."""
        return (self.needs, Permission.AGENTS_EDIT) if self.shared else (self.needs,)

    def terms(self) -> domain.ViewTerms:
        return domain.ViewTerms(
            name=self.name,
            query=self.query,
            client_id=ClientId(self.client_id) if self.client_id is not None else None,
            site_id=SiteId(self.site_id) if self.site_id is not None else None,
            sort=self.sort,
            columns=tuple(self.columns),
            shared=self.shared,
        )


class ChangeView(SaveView):
    """Change a saved view, all of it."""

    view_id: UUID


class RemoveView(Intent):
    """Remove a saved view."""

    needs: ClassVar[Permission] = Permission.AGENTS_SEE

    view_id: UUID
