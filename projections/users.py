"""Users and service accounts: who they are, and what they were granted."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.access import Grant
from domain.erasures import SubjectErased
from domain.event import Event, Recorded
from domain.personal import ERASED, SubjectKind
from domain.users import UserChanged, UserCreated, UserDisabled, UserEnabled, UserGranted, UserGroupsApplied, UserKind
from projections import sql
from projections.pages import DEFAULT_LIMIT, Connection, Order, Page, Query
from projections.projection import Batch, Projection


class UserRow(msgspec.Struct, frozen=True):
    user_id: UUID
    kind: UserKind
    name: str
    email: str
    disabled: bool
    erased: bool
    grants: tuple[Grant, ...]
    """By hand."""
    group_grants: tuple[Grant, ...]
    """By the provider's groups."""
    created_at: datetime
    created_by: str
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[1] = UserKind(row[1])
        cells[6:8] = (msgspec.convert(one, tuple[Grant, ...]) for one in row[6:8])
        return cls(*cells)


class Users(Projection):
    name: ClassVar[str] = "users"
    folds: ClassVar[tuple[type[Event], ...]] = (
        UserCreated,
        UserChanged,
        UserGranted,
        UserGroupsApplied,
        UserDisabled,
        UserEnabled,
        SubjectErased,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        users, key, version = batch["users"], recorded.originator_id, recorded.originator_version
        match recorded.event:
            case UserCreated() as event:
                users.insert(
                    key,
                    kind=event.kind,
                    name=event.name,
                    sort_key=event.name.casefold(),
                    email=event.email,
                    disabled=False,
                    erased=False,
                    grants=event.grants,
                    group_grants=(),
                    created_at=recorded.recorded_at,
                    created_by=recorded.actor,
                    version=version,
                )
            case UserChanged(name=name, email=email):
                users.update(key, name=name, sort_key=name.casefold(), email=email, version=version)
            case UserGranted(grants=grants):
                users.update(key, grants=grants, version=version)
            case UserGroupsApplied(grants=grants):
                users.update(key, group_grants=grants, version=version)
            case UserDisabled():
                users.update(key, disabled=True, version=version)
            case UserEnabled():
                users.update(key, disabled=False, version=version)
            case SubjectErased(kind=SubjectKind.USER):
                # Whatever comes of sealed fields: see projections/agents.py.
                users.update(key, erased=True, name=ERASED, sort_key=ERASED, email="", version=version)


_SQL = sql.load("users")
_BY_NAME = Order("users.name", "sort_key, user_id", (str, UUID))


async def list_users(
    connection: Connection, *, kind: UserKind | None = None, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[UserRow]:
    """Users and service accounts by name. They belong to no tenant: who may see any sees all."""
    query = Query(_SQL["select"])
    if kind is not None:
        query.where("kind = %s", kind.value)
    return await query.page(
        connection,
        UserRow.from_row,
        _BY_NAME,
        cursor=cursor,
        limit=limit,
        key=lambda row: (row.name.casefold(), row.user_id),
    )


async def get_user(connection: Connection, user_id: UUID) -> UserRow | None:
    """One of them, or None."""
    query = Query(_SQL["select"])
    query.where("user_id = %s", user_id)
    return await query.one(connection, UserRow.from_row)
