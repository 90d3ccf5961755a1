"""Grants and scopes as answers show them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import Field

from domain.access import Grant
from domain.roles import BUILT_IN_IDS, Limits
from domain.scopes import Scope
from gateways.rest.route import Model
from projections.pages import Connection
from projections.roles import names_of


class GrantModel(Model):
    """A role, over everything or over some clients and sites."""

    role_id: UUID
    role: str | None = Field(description="Its name; null while the read model does not know it.")
    everything: bool
    clients: list[UUID] = Field(description="Whole clients.")
    sites: list[UUID] = Field(description="Single sites.")


class ScopeModel(Model):
    """Over what something may be done."""

    everything: bool
    clients: list[UUID] = Field(description="Whole clients.")
    sites: list[UUID] = Field(description="Single sites.")


def built_in_names() -> dict[UUID, str]:
    """What the roles that are built in are called."""
    return {role_id: role.value for role_id, role in BUILT_IN_IDS.items()}


async def role_names(connection: Connection, grants: Sequence[Grant]) -> dict[UUID, str]:
    """What the roles of some grants are called."""
    names = built_in_names()
    custom = sorted({grant.role_id for grant in grants} - names.keys())
    return names | (await names_of(connection, custom) if custom else {})


def grant_documents(grants: Sequence[Grant], names: dict[UUID, str]) -> list[dict[str, Any]]:
    """Grants, as `GrantModel` describes them."""
    return [
        {
            "role_id": grant.role_id,
            "role": names.get(grant.role_id),
            "everything": grant.everything,
            "clients": grant.clients,
            "sites": [place.site_id for place in grant.sites],
        }
        for grant in grants
    ]


def limits_document(limits: Limits) -> dict[str, Any]:
    """How much one action may touch, as `command_bus.intents.roles.Limits` describes it."""
    return {
        "max_agents": limits.max_agents,
        "approval_above": limits.approval_above,
        "approval_for": limits.approval_for,
    }


def scope_document(scope: Scope) -> dict[str, Any]:
    """A scope, as `ScopeModel` describes it."""
    return {"everything": scope.everything, "clients": sorted(scope.clients), "sites": sorted(scope.site_ids)}
