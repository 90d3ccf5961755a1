"""The check of what a request brings: an API key, or the token of a person's session."""

import asyncio
import hmac
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import msgspec

from command_bus.access import Standing, key_access, session_access
from command_bus.believing import Believed
from command_bus.credentials import KEY_PREFIX, SESSION_PREFIX, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLog, Mark
from command_bus.session_rows import SessionRow, SessionRows
from domain.access import Access, Grant
from domain.catalog import EVENTS
from domain.event import Recorded
from domain.ids import UserId
from domain.sessions import SessionProved

_MODULES = (
    "domain.api_keys",
    "domain.roles",
    "domain.users",
    "domain.logins",
    "domain.identities",
    "domain.sessions",
)
ABOUT_ACCESS = frozenset(
    name for name, event in EVENTS.items() if event.__module__ in _MODULES and event is not SessionProved
)
"""Event types that change what somebody may do."""
IDLE = timedelta(minutes=30)
SEEN_EVERY = timedelta(seconds=60)
"""That a session is used is noted no more often."""


class LiveSession(msgspec.Struct, frozen=True):
    """A person's session, as of this request."""

    session_id: UUID
    user_id: UserId
    pending: tuple[str, ...]
    """What has to be put in order before it may do anything else."""
    opened_at: datetime
    proved_at: datetime
    """When whoever sits there has last shown themselves."""
    expires_at: datetime
    idle_at: datetime
    """When it is over unless it is used."""
    address: str


class Authenticated(msgspec.Struct, frozen=True):
    """Whom a key or a session speaks for."""

    actor: str
    access: Access
    user_id: UserId | None
    grants: tuple[Grant, ...]
    """Of the key or, where it has none of its own, of its owner."""
    standing: Standing
    session: LiveSession | None = None
    """None of a key."""
    unattended: bool = False
    """Of a key that nobody is asked for a fresh proof of."""


class Authenticator:
    """Checks keys and sessions against the log.

    What it read is believed for one second, and no longer than until the log tells otherwise: whoever follows the log
    hands on what it hears. So a revocation, a disabled owner or a narrower role takes effect at once, and where nobody
    listens within a second. A session's own row is read each time: it is gone as soon as the session is over.

    Args:
        log: the event log.
        sessions: of people; None where this process takes keys alone.
        idle: a session that is not used for so long is over.
    """

    def __init__(self, log: EventLog, sessions: SessionRows | None = None, idle: timedelta = IDLE) -> None:
        self._keys = Believed(partial(key_access, log))
        self._sessions = Believed(partial(session_access, log))
        self._rows = sessions
        self._idle = idle
        self._used: dict[UUID, datetime] = {}

    async def authenticate(self, text: str, at: datetime, *, using: bool = True) -> Authenticated:
        """Whom this key or session speaks for.

        Args:
            text: as the caller sent it.
            at: now.
            using: whether it keeps a session from being idle; a stream that goes on by itself does not.

        Raises:
            UnauthenticatedError: it is neither, or an expired or revoked one, or its owner is disabled.
        """
        if text.startswith(f"{SESSION_PREFIX}_"):
            return await self._session(text, at, using=using)
        parsed = parse(KEY_PREFIX, text)
        if parsed is None:
            raise UnauthenticatedError("That is not a Fleetlog API key; one begins with 'flk_'.")
        key_id, secret_sha256 = parsed
        found = await self._keys.get(key_id, at)
        key = found.key
        # Compared in constant time first, so that a wrong secret and an expired key cannot be told apart by timing.
        matches = key.exists and hmac.compare_digest(key.secret_sha256, secret_sha256)
        if not matches or not key.opens(secret_sha256, at) or not found.good:
            # Whose it is, is for the log alone: nothing of it is told to who sent it.
            raise UnauthenticatedError("The API key is unknown, expired or revoked.", owner_id=key.owner_id)
        self._used[key_id] = at
        return Authenticated(
            actor=f"key:{key_id}",
            access=found.access,
            user_id=key.owner_id,
            grants=found.grants,
            unattended=key.unattended,
            standing=found.standing if key.expires_at is None else _lasting(found.standing, key.expires_at - at),
        )

    async def _session(self, text: str, at: datetime, *, using: bool) -> Authenticated:
        over = UnauthenticatedError("The session is over; log in again.")
        parsed = parse(SESSION_PREFIX, text)
        if parsed is None or self._rows is None:
            raise over
        session_id, secret_sha256 = parsed
        row = await self._rows.get(session_id)
        if row is None or not hmac.compare_digest(row.secret_sha256, bytes.fromhex(secret_sha256)):
            raise over
        if not row.open_at(at, self._idle):
            raise over
        found = await self._sessions.get(session_id, at)
        if not found.good or found.user is None or found.login is None:
            raise over
        if using and at - row.seen_at >= min(SEEN_EVERY, self._idle / 10):
            await self._rows.seen(session_id, at)
        live = _live(row, found.login.pending_in(found.session.proofs), row.seen_at if not using else at, self._idle)
        return Authenticated(
            actor=f"user:{row.user_id}",
            access=found.access,
            user_id=row.user_id,
            grants=found.user.grants,
            standing=_lasting(found.standing, min(live.expires_at, live.idle_at) - at),
            session=live,
        )

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded: what was read of it before counts no more."""
        if recorded.topic.partition("/")[0] in ABOUT_ACCESS:
            self._keys.heard(recorded)
            self._sessions.heard(recorded)

    def missed(self) -> None:
        """Something may have been recorded without being heard; not while anybody streams, for then all is heard."""
        self._keys.missed()
        self._sessions.missed()

    def take_used(self) -> dict[UUID, datetime]:
        """The keys that were used since the last call, and when last."""
        used, self._used = self._used, {}
        return used


def _live(row: SessionRow, pending: tuple[str, ...], seen_at: datetime, idle: timedelta) -> LiveSession:
    return LiveSession(
        session_id=row.session_id,
        user_id=row.user_id,
        pending=pending,
        opened_at=row.opened_at,
        proved_at=row.proved_at,
        expires_at=row.expires_at,
        idle_at=seen_at + idle,
        address=row.address,
    )


def _lasting(standing: Standing, left: timedelta) -> Standing:
    """What goes on for long ends with the session's or the key's time, too."""
    standing.lasts_until_s = asyncio.get_running_loop().time() + left.total_seconds()
    return standing
