"""What somebody may do, read from the log: a key or a session, whose it is, and the roles that were granted.

What was read is believed for one second, and not even that long once the log tells of a change (`Believed.heard`).
All that a key stands on is read again by one statement.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TypeVar
from uuid import UUID

import msgspec

from command_bus.event_log import EventLog, Mark
from command_bus.repository import replay_existing
from domain.access import Access, Grant
from domain.api_keys import ApiKey
from domain.errors import NotFoundError
from domain.event import Recorded
from domain.ids import RoleId
from domain.logins import Login, login_stream
from domain.roles import BUILT_IN, BUILT_IN_IDS, CustomRole, Terms
from domain.sessions import UserSession
from domain.users import User

NO_TERMS = Terms(frozenset())
Streams = Mapping[UUID, Sequence[Recorded]]
A = TypeVar("A", ApiKey, User, CustomRole, UserSession, Login)


class Standing:
    """Whether what was read still holds; who does something for long is told when it does not.

    Args:
        stands_on: the streams that say so, and the position of the last event that was read of each; 0 if none was.
    """

    def __init__(self, stands_on: Mapping[UUID, int] = MappingProxyType({})) -> None:
        self.stands_on = stands_on
        self.lasts_until_s: float | None = None
        """By the event loop's clock; None where only an event ends it."""
        self.over = False
        self._told: set[Callable[[], None]] = set()

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded; what had been read already, and is only heard of late, ends nothing."""
        if recorded.position > self.stands_on.get(recorded.originator_id, recorded.position):
            self.end()

    def end(self) -> None:
        self.over = True
        for tell in tuple(self._told):
            tell()

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Have something called once it is over, at once if it is already, as long as the context is open."""
        self._told.add(tell)
        if self.over:
            tell()
        timer = None
        if self.lasts_until_s is not None:
            timer = asyncio.get_running_loop().call_at(self.lasts_until_s, self.end)
        try:
            yield
        finally:
            self._told.discard(tell)
            if timer is not None:
                timer.cancel()


class KeyAccess(msgspec.Struct, frozen=True):
    """A key, and what may be done with it."""

    key: ApiKey
    owner: User | None
    access: Access
    standing: Standing

    @property
    def grants(self) -> tuple[Grant, ...]:
        """The key's own or, where it has none, its owner's."""
        if self.key.grants is not None:
            return self.key.grants
        return self.owner.grants if self.owner is not None else ()

    @property
    def there(self) -> bool:
        return self.key.exists

    @property
    def good(self) -> bool:
        """Not of a disabled owner, nor of one who is not there."""
        return self.key.exists and (self.key.owner_id is None or (self.owner is not None and not self.owner.disabled))


async def key_access(log: EventLog, key_id: UUID, hint: Iterable[UUID] = ()) -> KeyAccess:
    """Read a key and what it stands on.

    Args:
        log: the event log.
        key_id: of the key; where there is none, the answer is not `good`.
        hint: what it stood on when it was last read, to be read along with it.
    """
    streams: dict[UUID, Sequence[Recorded]] = {}
    wanted = {key_id, *hint}
    while missing := wanted - streams.keys():
        found = await log.read_streams(list(missing))
        streams |= {stream_id: found.get(stream_id, ()) for stream_id in missing}
        key = _replayed(ApiKey, key_id, streams) or ApiKey(key_id)
        if not key.exists:
            return KeyAccess(key, None, Access(), Standing())
        owner = _replayed(User, key.owner_id, streams) if key.owner_id is not None else None
        wanted = {key_id, *custom_roles(key.grants or ())}
        if key.owner_id is not None:
            wanted |= {key.owner_id, *custom_roles(owner.grants if owner is not None else ())}
    return KeyAccess(key, owner, _both(key, owner, streams), Standing({one: _last(streams[one]) for one in wanted}))


class UserAccess(msgspec.Struct, frozen=True):
    """A user or service account, and what they may do, however they come."""

    user: User
    access: Access
    standing: Standing

    @property
    def there(self) -> bool:
        return self.user.exists

    @property
    def good(self) -> bool:
        """Not disabled."""
        return self.user.exists and not self.user.disabled


async def user_access(log: EventLog, user_id: UUID, hint: Iterable[UUID] = ()) -> UserAccess:
    """Read a user and what they stand on; see `key_access`."""
    streams: dict[UUID, Sequence[Recorded]] = {}
    wanted = {user_id, *hint}
    while missing := wanted - streams.keys():
        found = await log.read_streams(list(missing))
        streams |= {stream_id: found.get(stream_id, ()) for stream_id in missing}
        user = _replayed(User, user_id, streams) or User(user_id)
        if not user.exists:
            return UserAccess(user, Access(), Standing())
        wanted = {user_id, *custom_roles(user.grants)}
    access = _worked_out(user.grants, streams)
    return UserAccess(user, access, Standing({one: _last(streams[one]) for one in wanted}))


class SessionAccess(msgspec.Struct, frozen=True):
    """A session, and what may be done in it."""

    session: UserSession
    user: User | None
    login: Login | None
    access: Access
    """Nothing, until the login is in order."""
    standing: Standing

    @property
    def there(self) -> bool:
        return self.session.exists

    @property
    def good(self) -> bool:
        """Not ended, of a user who is not disabled, and begun since the user's sessions were last revoked."""
        return (
            self.session.exists
            and not self.session.ended
            and self.user is not None
            and not self.user.disabled
            and self.login is not None
            and self.session.generation == self.login.generation
        )


async def session_access(log: EventLog, session_id: UUID, hint: Iterable[UUID] = ()) -> SessionAccess:
    """Read a session and what it stands on; see `key_access`."""
    streams: dict[UUID, Sequence[Recorded]] = {}
    wanted = {session_id, *hint}
    while missing := wanted - streams.keys():
        found = await log.read_streams(list(missing))
        streams |= {stream_id: found.get(stream_id, ()) for stream_id in missing}
        session = _replayed(UserSession, session_id, streams) or UserSession(session_id)
        if not session.exists:
            return SessionAccess(session, None, None, Access(), Standing())
        user = _replayed(User, session.user_id, streams)
        login = _replayed(Login, login_stream(session.user_id), streams)
        wanted = {session_id, session.user_id, login_stream(session.user_id)}
        wanted |= custom_roles(user.grants if user is not None else ())
    complete = user is not None and login is not None and not login.pending_in(session.proofs)
    access = _worked_out(user.grants, streams) if complete and user is not None else Access()
    standing = Standing({one: _last(streams[one]) for one in wanted})
    return SessionAccess(session, user, login, access, standing)


def _last(story: Sequence[Recorded]) -> int:
    return story[-1].position if story else 0


def _both(key: ApiKey, owner: User | None, streams: Streams) -> Access:
    own = None if key.grants is None else _worked_out(key.grants, streams)
    if key.owner_id is None:
        return own or Access()
    of_owner = _worked_out(owner.grants, streams) if owner is not None else Access()
    return of_owner if own is None else own & of_owner


async def access_of_actor(log: EventLog, actor: str) -> Access:
    """What somebody who asked for something may do now; nothing, where their key or they themselves are shut out."""
    kind, _, text = actor.partition(":")
    if kind == "user":
        user = await user_access(log, UUID(text))
        return user.access if user.good else Access()
    if kind != "key":
        return Access()
    found = await key_access(log, UUID(text))
    return found.access if found.good and not found.key.revoked else Access()


async def access_of(log: EventLog, grants: Sequence[Grant]) -> Access:
    """What grants come to now."""
    return _worked_out(grants, await log.read_streams(sorted(custom_roles(grants))))


def custom_roles(grants: Iterable[Grant]) -> set[RoleId]:
    """Of the roles that are granted, those that are made of events."""
    return {grant.role_id for grant in grants if grant.role_id not in BUILT_IN_IDS}


def _worked_out(grants: Iterable[Grant], streams: Streams) -> Access:
    def terms_of(role_id: RoleId) -> Terms:
        if role_id in BUILT_IN_IDS:
            return BUILT_IN[BUILT_IN_IDS[role_id]]
        role = _replayed(CustomRole, role_id, streams)
        return role.terms if role is not None else NO_TERMS

    return Access.of(grants, terms_of)


def _replayed(kind: type[A], stream_id: UUID, streams: Streams) -> A | None:
    try:
        return replay_existing(kind, stream_id, streams.get(stream_id, ()), kind.__name__)
    except NotFoundError:
        return None
