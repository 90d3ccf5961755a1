"""From grants as they are asked for to those that are recorded, and the rule that nobody gives more than they have."""

from collections.abc import Sequence
from uuid import UUID

from command_bus.access import access_of
from command_bus.context import Caller
from command_bus.errors import ForbiddenError
from command_bus.event_log import EventLog
from command_bus.intents.grants import Grant as Wanted
from command_bus.repository import load, load_existing, load_many
from domain.access import Access, Grant
from domain.clients import Client
from domain.errors import NotFoundError, RoleRetiredError
from domain.ids import ClientId, RoleId, SiteId
from domain.names import Name
from domain.roles import BUILT_IN_IDS, CustomRole, Role
from domain.scopes import Place
from domain.sites import Site

_CALLED_BEFORE = {"admin": Role.ADMIN}


async def to_record(log: EventLog, wanted: Sequence[Wanted]) -> tuple[Grant, ...]:
    """Find the roles, clients and sites that are meant.

    Raises:
        NotFoundError: there is none such.
        RoleRetiredError: a role that is retired.
    """
    clients = await load_many(log, Client, sorted({one for grant in wanted for one in grant.clients}))
    sites = await load_many(log, Site, sorted({one for grant in wanted for one in grant.sites}))
    for kind, found in (("client", clients), ("site", sites)):
        for stream_id, aggregate in found.items():
            if not aggregate.exists:
                raise NotFoundError(f"There is no {kind} {stream_id}.")
    return tuple(
        [
            Grant(
                role_id=await role_id_of(log, grant.role),
                everything=grant.everything,
                clients=tuple(ClientId(one) for one in dict.fromkeys(grant.clients)),
                sites=tuple(Place(SiteId(one), sites[one].client_id) for one in dict.fromkeys(grant.sites)),
            )
            for grant in wanted
        ]
    )


async def role_id_of(log: EventLog, typed: str) -> RoleId:
    """The role that goes by a name or an id.

    Raises:
        NotFoundError: there is none.
        RoleRetiredError: it is retired.
    """
    name = typed.strip()
    built_in = _CALLED_BEFORE.get(name) or next((role for role in Role if role.value == name.casefold()), None)
    if built_in is not None:
        return built_in.id
    role_id = _as_id(name) or (await load(log, Name, Name.id_of("role", None, name))).holder
    if role_id is None:
        raise NotFoundError(f"There is no role {typed!r}.")
    if RoleId(role_id) in BUILT_IN_IDS:
        return RoleId(role_id)
    role = await load_existing(log, CustomRole, role_id, "role")
    if role.retired:
        raise RoleRetiredError
    return RoleId(role_id)


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def must_cover(log: EventLog, caller: Caller, *granted: Sequence[Grant]) -> None:
    """Refuse what would give, or change somebody who has, more than the caller has.

    Raises:
        ForbiddenError: the caller may not do all that these grants come to.
    """
    for grants in granted:
        must_include(caller, await access_of(log, grants))


def must_include(caller: Caller, access: Access) -> None:
    """The same, of grants that are worked out already."""
    if not caller.access.includes(access):
        raise ForbiddenError("That is more than you may do yourself, so it is not yours to give or to change.")
