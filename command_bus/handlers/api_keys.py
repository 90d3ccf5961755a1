"""Handlers for API keys, and the check of the key that a request brings."""

import hmac
from collections import OrderedDict
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID
from weakref import WeakSet

import msgspec
from msgspec import structs

from command_bus.access import KeyAccess, Standing, access_of, key_access
from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.credentials import KEY_PREFIX, mint, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLog, Mark
from command_bus.handlers.grants import must_cover, must_include, to_record
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey, SealedApiKey
from command_bus.intents.grants import Grant as Wanted
from command_bus.repository import load_existing
from domain.access import Access, Grant
from domain.api_keys import ApiKey, ApiKeyCreated
from domain.catalog import EVENTS
from domain.errors import InvalidValueError
from domain.event import Recorded
from domain.ids import UserId
from domain.roles import Role
from domain.users import User

CACHE_SIZE = 4096
ABOUT_ACCESS = frozenset(
    name for name, event in EVENTS.items() if event.__module__ in ("domain.api_keys", "domain.roles", "domain.users")
)
"""Event types that change what somebody may do."""
TRIES = 3
CACHE_LIFE = timedelta(seconds=1)


class ApiKeyHandlers:
    def __init__(self, log: EventLog, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id

    async def create(self, intent: CreateApiKey, caller: Caller, _stack: AsyncExitStack) -> Decision:
        key = ApiKey(self._new_id())
        credential = mint(KEY_PREFIX, key.stream_id)
        decision = await self._created(intent, caller, key, credential.secret_sha256)
        return structs.replace(decision, secret={"key": credential.text})

    async def create_sealed(self, intent: SealedApiKey, caller: Caller, _stack: AsyncExitStack) -> Decision:
        return await self._created(intent, caller, ApiKey(intent.key_id), intent.secret_sha256)

    async def _created(self, intent: CreateApiKey, caller: Caller, key: ApiKey, secret_sha256: str) -> Decision:
        grants = await self._grants(intent)
        owner = await self._owner(intent.owner_id)
        if owner is None:
            await must_cover(self._log, caller, grants or ())
        else:
            # Whoever makes a key is shown it: so it must not do more than they may, whoever it speaks for.
            access = await access_of(self._log, owner.grants)
            must_include(caller, access if grants is None else access & await access_of(self._log, grants))
        created = ApiKeyCreated(
            name=intent.name,
            secret_sha256=secret_sha256,
            owner_id=UserId(owner.stream_id) if owner is not None else None,
            grants=grants,
            expires_at=intent.expires_at,
        )
        return Decision(
            changes=[key.create(created, self._clock())],
            answer=id_answer(key.stream_id),
            subject=key,
        )

    async def _grants(self, intent: CreateApiKey) -> tuple[Grant, ...] | None:
        """What it may do; None is all that its owner may."""
        if intent.grants is not None:
            if intent.role is not None or intent.client_ids is not None:
                raise InvalidValueError("grants stands instead of role and client_ids: give one or the other.")
            return await to_record(self._log, intent.grants)
        if intent.owner_id is not None and intent.role is None and intent.client_ids is None:
            return None
        clients = intent.client_ids
        role = intent.role or Role.OPERATOR
        return await to_record(self._log, [Wanted(role=role, everything=clients is None, clients=clients or [])])

    async def _owner(self, owner_id: UUID | None) -> User | None:
        if owner_id is None:
            return None
        owner = await load_existing(self._log, User, owner_id, "user")
        owner.must_be_enabled()
        return owner

    async def revoke(self, intent: RevokeApiKey, caller: Caller, _stack: AsyncExitStack) -> Decision:
        key = await load_existing(self._log, ApiKey, intent.key_id, "API key")
        must_include(caller, (await key_access(self._log, key.stream_id)).access)
        return Decision(changes=[key.revoke(intent.reason)], answer=id_answer(key.stream_id), subject=key)


class Authenticated(msgspec.Struct, frozen=True):
    """Whom an API key speaks for."""

    actor: str
    access: Access
    user_id: UserId | None
    grants: tuple[Grant, ...]
    """Of the key or, where it has none of its own, of its owner."""
    standing: Standing


class Authenticator:
    """Checks API keys against the log.

    What it read is believed for one second, and no longer than until the log tells otherwise: whoever follows the log
    hands on what it hears. So a revocation, a disabled owner or a narrower role takes effect at once, and where nobody
    listens within a second.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[UUID, tuple[datetime, KeyAccess]] = OrderedDict()
        self._alive: WeakSet[Standing] = WeakSet()
        self._heard = 0
        self._used: dict[UUID, datetime] = {}

    async def authenticate(self, text: str, at: datetime) -> Authenticated:
        """Whom this key speaks for.

        Args:
            text: the key as the caller sent it.
            at: now.

        Raises:
            UnauthenticatedError: it is no key, or an expired or revoked one, or its owner is disabled.
        """
        parsed = parse(KEY_PREFIX, text)
        if parsed is None:
            raise UnauthenticatedError("That is not a Fleetlog API key; one begins with 'flk_'.")
        key_id, secret_sha256 = parsed
        found = await self._access(key_id, at)
        key = found.key
        # Compared in constant time first, so that a wrong secret and an expired key cannot be told apart by timing.
        matches = key.exists and hmac.compare_digest(key.secret_sha256, secret_sha256)
        if not matches or not key.opens(secret_sha256, at) or not found.good:
            raise UnauthenticatedError("The API key is unknown, expired or revoked.")
        self._used[key_id] = at
        return Authenticated(
            actor=f"key:{key_id}",
            access=found.access,
            user_id=key.owner_id,
            grants=found.grants,
            standing=found.standing,
        )

    def heard(self, recorded: Recorded | Mark) -> None:
        """Something was recorded: what was read of it before counts no more."""
        if recorded.topic.partition("/")[0] not in ABOUT_ACCESS:
            return
        self._heard += 1
        for standing in tuple(self._alive):
            standing.heard(recorded)

    def missed(self) -> None:
        """Something may have been recorded without being heard; not while anybody streams, for then all is heard."""
        self._heard += 1
        self._known.clear()

    def take_used(self) -> dict[UUID, datetime]:
        """The keys that were used since the last call, and when last."""
        used, self._used = self._used, {}
        return used

    async def _access(self, key_id: UUID, at: datetime) -> KeyAccess:
        known = self._known.get(key_id)
        if known is not None and not known[1].standing.over and timedelta(0) <= at - known[0] < CACHE_LIFE:
            return known[1]
        hint = known[1].standing.stands_on if known is not None else ()
        for _ in range(TRIES):
            heard = self._heard
            found = await key_access(self._log, key_id, hint)
            if heard == self._heard:
                break
            # What was told while it was read may be in it or not.
        self._alive.add(found.standing)
        if heard == self._heard and found.key.exists:
            self._known[key_id] = (at, found)
            self._known.move_to_end(key_id)
            while len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        return found
