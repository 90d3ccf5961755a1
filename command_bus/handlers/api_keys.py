"""Handlers for API keys, and the check of the key that a request brings."""

import hmac
from collections import OrderedDict
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.credentials import KEY_PREFIX, mint, parse
from command_bus.errors import UnauthenticatedError
from command_bus.event_log import EventLog
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey
from command_bus.repository import load_existing, load_many
from domain.api_keys import ApiKey, ApiKeyCreated, Role
from domain.clients import Client
from domain.errors import NotFoundError
from domain.ids import ClientId

CACHE_SIZE = 4096
CACHE_LIFE = timedelta(seconds=1)


class ApiKeyHandlers:
    def __init__(self, log: EventLog, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id

    async def create(self, intent: CreateApiKey, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        client_ids = None
        if intent.client_ids is not None:
            client_ids = tuple(ClientId(client_id) for client_id in dict.fromkeys(intent.client_ids))
            clients = await load_many(self._log, Client, list(client_ids))
            for client_id, client in clients.items():
                if not client.exists:
                    raise NotFoundError(f"There is no client {client_id}.")
        key = ApiKey(self._new_id())
        credential = mint(KEY_PREFIX, key.stream_id)
        created = ApiKeyCreated(
            name=intent.name,
            role=intent.role,
            secret_sha256=credential.secret_sha256,
            client_ids=client_ids,
            expires_at=intent.expires_at,
        )
        return Decision(
            changes=[key.create(created, self._clock())],
            answer=id_answer(key.stream_id),
            secret={"key": credential.text},
            subject=key,
        )

    async def revoke(self, intent: RevokeApiKey, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        key = await load_existing(self._log, ApiKey, intent.key_id, "API key")
        return Decision(changes=[key.revoke(intent.reason)], answer=id_answer(key.stream_id), subject=key)


class Authenticated(msgspec.Struct, frozen=True):
    """Whom an API key speaks for."""

    actor: str
    role: Role
    client_ids: frozenset[ClientId] | None


class Authenticator:
    """Checks API keys against the log; what it read is believed for one second, so a revocation takes that long."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._known: OrderedDict[UUID, tuple[datetime, ApiKey]] = OrderedDict()

    async def authenticate(self, text: str, at: datetime) -> Authenticated:
        """Whom this key speaks for.

        Args:
            text: the key as the caller sent it.
            at: now.

        Raises:
            UnauthenticatedError: it is no key, or an expired or revoked one.
        """
        parsed = parse(KEY_PREFIX, text)
        if parsed is None:
            raise UnauthenticatedError("That is not a Fleetlog API key; one begins with 'flk_'.")
        key_id, secret_sha256 = parsed
        key = await self._key(key_id, at)
        # Compared in constant time first, so that a wrong secret and an expired key cannot be told apart by timing.
        matches = key.exists and hmac.compare_digest(key.secret_sha256, secret_sha256)
        if not matches or not key.opens(secret_sha256, at):
            raise UnauthenticatedError("The API key is unknown, expired or revoked.")
        return Authenticated(
            actor=f"key:{key_id}",
            role=key.role,
            client_ids=frozenset(key.client_ids) if key.client_ids is not None else None,
        )

    async def _key(self, key_id: UUID, at: datetime) -> ApiKey:
        known = self._known.get(key_id)
        if known is not None and timedelta(0) <= at - known[0] < CACHE_LIFE:
            return known[1]
        try:
            key = await load_existing(self._log, ApiKey, key_id, "API key")
        except NotFoundError:
            return ApiKey(key_id)
        self._known[key_id] = (at, key)
        self._known.move_to_end(key_id)
        while len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)
        return key
