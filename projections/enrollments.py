"""Machines that wait for approval, or waited for it. One that is approved is an agent, too, of the same id."""

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.agents import Platform
from domain.enrollments import (
    EnrollmentApproved,
    EnrollmentExpired,
    EnrollmentRefused,
    EnrollmentRequested,
    EnrollmentState,
)
from domain.erasures import SubjectErased
from domain.event import Event, Recorded
from domain.personal import ERASED, SubjectKind
from projections import sql
from projections.errors import FoldError
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection


class EnrollmentRow(msgspec.Struct, frozen=True):
    agent_id: UUID
    enrollment_id: UUID
    token_id: UUID
    client_id: UUID
    site_id: UUID
    hostname: str
    platform: Platform
    arch: str
    agent_version: str
    public_key: str
    address: str
    state: EnrollmentState
    reason: str
    decided_by: str
    expires_at: datetime
    requested_at: datetime
    decided_at: datetime | None
    position: int
    version: int
    token_note: str | None

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[6], cells[11] = Platform(row[6]), EnrollmentState(row[11])
        return cls(*cells)


class Enrollments(Projection):
    name: ClassVar[str] = "enrollments"
    folds: ClassVar[tuple[type[Event], ...]] = (
        EnrollmentRequested,
        EnrollmentApproved,
        EnrollmentRefused,
        EnrollmentExpired,
        SubjectErased,
    )
    strict: ClassVar[bool] = False
    """Of most agents that are erased there is no row here: they did not have to wait."""

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        enrollments, event = batch["enrollments"], recorded.event
        if isinstance(event, SubjectErased):
            if event.kind is SubjectKind.AGENT:
                enrollments.update(event.subject, hostname=ERASED, address=ERASED)
            return
        if recorded.agent_id is None:
            raise FoldError(f"{recorded.topic} at {recorded.position} names no agent.")
        if isinstance(event, EnrollmentRequested):
            enrollments.insert(
                recorded.agent_id,
                enrollment_id=recorded.originator_id,
                token_id=event.token_id,
                client_id=event.client_id,
                site_id=event.site_id,
                hostname=event.hostname,
                platform=event.platform,
                arch=event.arch,
                agent_version=event.agent_version,
                public_key=event.public_key,
                address=event.address,
                state=EnrollmentState.WAITING,
                reason="",
                decided_by="",
                expires_at=event.expires_at,
                requested_at=recorded.recorded_at,
                decided_at=None,
                position=recorded.position,
                version=recorded.originator_version,
            )
            return
        enrollments.update(
            recorded.agent_id,
            **_decided(event),
            decided_by=recorded.actor,
            decided_at=recorded.recorded_at,
            version=recorded.originator_version,
        )


def _decided(event: Event) -> Cells:
    match event:
        case EnrollmentApproved(reason=reason):
            return {"state": EnrollmentState.APPROVED, "reason": reason}
        case EnrollmentRefused(reason=reason):
            return {"state": EnrollmentState.REFUSED, "reason": reason}
        case EnrollmentExpired(why=why):
            return {"state": EnrollmentState.EXPIRED, "reason": why.value}
        case _:
            raise FoldError(f"{type(event).__name__} is not folded into enrollments.")


_SQL = sql.load("enrollments")


async def list_enrollments(
    connection: Connection,
    *,
    client_ids: Tenants,
    state: EnrollmentState | None = None,
    token_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[EnrollmentRow]:
    """Machines that wait or waited, newest first.

    Args:
        connection: to the database.
        client_ids: what the caller sees.
        state: only those in this state.
        token_id: only those that came by this token.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    query.tenants("client_id", client_ids, site="site_id")
    if state is not None:
        query.where("state = %s", state.value)
    if token_id is not None:
        query.where("token_id = %s", token_id)
    return await query.page(
        connection, EnrollmentRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_enrollment(connection: Connection, enrollment_id: UUID, *, client_ids: Tenants) -> EnrollmentRow | None:
    """One of them, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("enrollment_id = %s", enrollment_id)
    query.tenants("client_id", client_ids, site="site_id")
    return await query.one(connection, EnrollmentRow.from_row)


CatchUp = Callable[[Collection[str]], Awaitable[None]]
"""Returns once these projections are where the log was when it was called."""


def counting(
    connect: Callable[[], AbstractAsyncContextManager[Connection]], catch_up: CatchUp | None = None
) -> Callable[[UUID, UUID], Awaitable[tuple[int, int, int]]]:
    """What counts machines that wait, for who lets them in: of whatever tenant.

    Args:
        connect: lends a connection.
        catch_up: without it, those are counted that the read model knows of.

    Returns:
        A coroutine function: how many wait that came by a token, how many of a client, and how many in all.
    """

    async def count(token_id: UUID, client_id: UUID) -> tuple[int, int, int]:
        if catch_up is not None:
            await catch_up((Enrollments.name,))
        async with connect() as connection:
            arguments = {"token_id": token_id, "client_id": client_id}
            cursor = await connection.execute(_SQL["count_waiting"], arguments)
            by_token, of_client, in_all = await cursor.fetchone() or (0, 0, 0)
        return by_token, of_client, in_all

    return count


async def not_agents_at(connection: Connection, site_ids: Collection[UUID]) -> frozenset[UUID]:
    """By the ids that they would have as agents: machines that wait for approval at some sites, or did in vain."""
    query = Query("SELECT agent_id FROM enrollments")
    query.where("site_id = ANY(%s::uuid[])", list(site_ids))
    query.where("state <> 'approved'")
    return frozenset(await query.all(connection, lambda row: row[0]))


async def due(connection: Connection, now: datetime, limit: int) -> list[UUID]:
    """Those that wait and that nobody can let in any more: for the scheduler, who sees all."""
    cursor = await connection.execute(_SQL["due"], {"now": now, "limit": limit})
    return list(dict.fromkeys(row[0] for row in await cursor.fetchall()))
