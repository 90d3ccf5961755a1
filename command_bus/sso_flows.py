"""Logins that went to a provider and have not come back: the table of them. Each is answered once, by who began it."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from command_bus.postgres import AsyncPool
from command_bus.sso_provider import Asked
from domain.ids import UserId
from schema.arrays import uuids

LIFE = timedelta(minutes=10)
_BYTES = 32


class Flow(msgspec.Struct, frozen=True):
    """One of them."""

    state_sha256: bytes
    asked: Asked
    began_at: datetime
    user_id: UserId | None = None
    """Whom the provider vouched for; None until it has."""
    identity_id: UUID | None = None
    second_factor: bool = False
    sid_sha256: bytes | None = None
    """Of the session at the provider, where it said."""
    roles: tuple[str, ...] | None = None
    """That their groups stand for; None where an older version took the answer, which did not look."""
    taken_at: datetime | None = None
    """When the answer came, by the database's clock; None where an older version took it."""


class Began(msgspec.Struct, frozen=True):
    """What its beginner is given: one half travels with the browser, the other stays."""

    state: str
    ticket: str
    asked: Asked
    expires_at: datetime


class SsoFlows:
    """The table.

    Args:
        pool: connections of the application.
    """

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool

    async def begin(
        self, kind: str, redirect_uri: str, ticket: str | None, session_id: UUID | None, now: datetime
    ) -> Began:
        """A new one; those whose time is up go.

        Args:
            kind: in front of the state, for the page that takes the answer.
            redirect_uri: where the answer comes to.
            ticket: of one that the same browser began a moment ago; None has one made.
            session_id: whose person shows themselves once more; None where somebody logs in.
            now: the time.
        """
        state, ticket = f"{kind}.{secrets.token_urlsafe(_BYTES)}", ticket or secrets.token_urlsafe(_BYTES)
        asked = Asked(secrets.token_urlsafe(_BYTES), secrets.token_urlsafe(_BYTES), redirect_uri)
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM fleetlog.sso_flows WHERE expires_at <= %s", [now])
            await connection.execute(
                "INSERT INTO fleetlog.sso_flows (state_sha256, ticket_sha256, nonce, verifier, redirect_uri, "
                "session_id, began_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [_hash(state), _hash(ticket), *msgspec.structs.astuple(asked), session_id, now, now + LIFE],
            )
        return Began(state, ticket, asked, now + LIFE)

    async def take(self, state: str, ticket: str, session_id: UUID | None, now: datetime) -> Flow | None:
        """The one that is answered, if it was begun so and not answered before; of two at once, one has it."""
        found = await self._one(
            "UPDATE fleetlog.sso_flows SET taken = true, taken_at = clock_timestamp() "
            "WHERE state_sha256 = %s AND ticket_sha256 = %s AND session_id IS NOT DISTINCT FROM %s "
            "AND expires_at > %s AND NOT taken RETURNING nonce, verifier, redirect_uri, began_at",
            [_hash(state), _hash(ticket), session_id, now],
        )
        return None if found is None else Flow(_hash(state), Asked(*found[:3]), found[3])

    async def vouched(
        self,
        flow: Flow,
        user_id: UserId,
        identity_id: UUID,
        *,
        second_factor: bool,
        roles: Sequence[str],
        sid_sha256: bytes | None,
    ) -> None:
        """Note whom it is for."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "UPDATE fleetlog.sso_flows SET user_id = %s, identity_id = %s, second_factor = %s, roles = %s, "
                "sid_sha256 = %s WHERE state_sha256 = %s",
                [user_id, identity_id, second_factor, list(roles), sid_sha256, flow.state_sha256],
            )

    async def find(self, state: str, ticket: str, now: datetime) -> Flow | None:
        """One that was vouched for, and has not begun a session yet."""
        found = await self._one(
            "SELECT nonce, verifier, redirect_uri, began_at, user_id, identity_id, second_factor, roles, sid_sha256, "
            "taken_at FROM fleetlog.sso_flows WHERE state_sha256 = %s AND ticket_sha256 = %s AND session_id IS NULL "
            "AND expires_at > %s AND user_id IS NOT NULL",
            [_hash(state), _hash(ticket), now],
        )
        if found is None:
            return None
        *asked, began_at, user_id, identity_id, second_factor, roles, sid_sha256, taken_at = found
        return Flow(
            state_sha256=_hash(state),
            asked=Asked(*asked),
            began_at=began_at,
            user_id=user_id,
            identity_id=identity_id,
            second_factor=second_factor,
            sid_sha256=sid_sha256,
            roles=tuple(roles) if roles is not None else None,
            taken_at=taken_at,
        )

    async def drop(self, identity_ids: Sequence[UUID] | None, sid_sha256: bytes | None) -> None:
        """Whoever the provider vouched for has logged out there: what is on its way in begins no session any more.

        Args:
            identity_ids: whose, by all ids that it has; None where only the session there was named.
            sid_sha256: of the session there; None means all of that identity.
        """
        ids = uuids(identity_ids) if identity_ids is not None else None
        logout = {"identities": ids, "sid": sid_sha256}
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM fleetlog.sso_logouts WHERE at < clock_timestamp() - 2 * %s", [LIFE])
            await connection.execute(
                "INSERT INTO fleetlog.sso_logouts (identity_ids, sid_sha256) VALUES (%(identities)s, %(sid)s)", logout
            )
            await connection.execute(
                "DELETE FROM fleetlog.sso_flows WHERE user_id IS NOT NULL AND (%(identities)s::uuid[] IS NULL "
                "OR identity_id = ANY(%(identities)s::uuid[])) AND (%(sid)s::bytea IS NULL "
                "OR sid_sha256 = %(sid)s OR (sid_sha256 IS NULL AND %(identities)s::uuid[] IS NOT NULL))",
                logout,
            )

    async def logged_out(self, flow: Flow) -> bool:
        """Whether whoever the provider vouched for has logged out there since it did."""
        return (
            await self._one(
                "SELECT true FROM fleetlog.sso_logouts WHERE at >= %(taken_at)s "
                "AND (identity_ids IS NULL OR %(identity)s = ANY(identity_ids)) AND (sid_sha256 IS NULL "
                "OR sid_sha256 = %(sid)s OR (%(sid)s::bytea IS NULL AND identity_ids IS NOT NULL)) LIMIT 1",
                {"taken_at": flow.taken_at, "identity": flow.identity_id, "sid": flow.sid_sha256},
            )
            is not None
        )

    async def end(self, flow: Flow) -> bool:
        """Whether it was still there; of two that end it at once, one hears so."""
        return (
            await self._one(
                "DELETE FROM fleetlog.sso_flows WHERE state_sha256 = %s RETURNING state_sha256", [flow.state_sha256]
            )
            is not None
        )

    async def _one(self, sql: Any, parameters: Any) -> Any:
        async with self._pool.connection() as connection:
            return await (await connection.execute(sql, parameters)).fetchone()


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
