"""Handlers for API keys. The check of the key that a request brings is in `command_bus.authenticating`."""

from contextlib import AsyncExitStack
from uuid import UUID

from msgspec import structs

from command_bus.access import access_of, key_access
from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.credentials import KEY_PREFIX, key_prefix, mint
from command_bus.event_log import EventLog
from command_bus.handlers.grants import must_cover, must_include, to_record
from command_bus.handlers.user_names import claim_name
from command_bus.intents.api_keys import CreateApiKey, RevokeApiKey, SealedApiKey
from command_bus.intents.grants import Grant as Wanted
from command_bus.repository import load_existing
from domain.access import Grant
from domain.api_keys import ApiKey, ApiKeyCreated
from domain.errors import InvalidValueError, NameTakenError
from domain.event import Change
from domain.ids import UserId
from domain.names import MAX_NAME_LENGTH
from domain.roles import Role
from domain.users import User, UserCreated, UserKind


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
        if intent.owner_id is None:
            await must_cover(self._log, caller, grants or ())
            owner, account = await self._own_account(intent.name, grants or (), caller, key)
        else:
            # Whoever makes a key is shown it: so it must not do more than they may, whoever it speaks for.
            owner, account = await self._owner(intent.owner_id), []
            access = await access_of(self._log, owner.grants)
            if grants is None and caller.user_id != owner.stream_id:
                # Else it would come to do more than its maker may, as soon as its owner does.
                grants = owner.grants
            must_include(caller, access if grants is None else access & await access_of(self._log, grants))
        created = ApiKeyCreated(
            name=intent.name,
            secret_sha256=secret_sha256,
            owner_id=UserId(owner.stream_id),
            grants=grants,
            expires_at=intent.expires_at,
            unattended=intent.unattended,
        )
        return Decision(
            changes=[*account, key.create(created, self._clock())],
            answer=id_answer(key.stream_id) | {"prefix": key_prefix(key.stream_id), "owner_id": str(owner.stream_id)},
            subject=key,
        )

    async def _own_account(
        self, name: str, grants: tuple[Grant, ...], caller: Caller, key: ApiKey
    ) -> tuple[User, list[Change]]:
        """Whose a key is that names no owner: the person's who asks, else a service account's that is made with it."""
        if caller.user_id is not None:
            asker = await load_existing(self._log, User, caller.user_id, "user")
            if asker.kind is UserKind.PERSON:
                return asker, []
        account = User(self._new_id())
        created = account.create(UserCreated(kind=UserKind.SERVICE, name=name, grants=grants))
        try:
            claim = await claim_name(self._log, "", account.name, account.stream_id)
        except NameTakenError:
            # Keys may share a name, accounts do not: the next one is told apart by its key.
            account = User(account.stream_id)
            told = f"{name.strip()[: MAX_NAME_LENGTH - 9]} {key.stream_id.hex[-8:]}"
            created = account.create(UserCreated(kind=UserKind.SERVICE, name=told, grants=grants))
            claim = await claim_name(self._log, "", account.name, account.stream_id)
        return account, [created, *claim]

    async def _grants(self, intent: CreateApiKey) -> tuple[Grant, ...] | None:
        """What it may do, as it was asked for; None is all that its owner may."""
        if intent.grants is not None:
            if intent.role is not None or intent.client_ids is not None:
                raise InvalidValueError("grants stands instead of role and client_ids: give one or the other.")
            return await to_record(self._log, intent.grants)
        if intent.owner_id is not None and intent.role is None and intent.client_ids is None:
            return None
        clients = intent.client_ids
        role = intent.role or Role.OPERATOR
        return await to_record(self._log, [Wanted(role=role, everything=clients is None, clients=clients or [])])

    async def _owner(self, owner_id: UUID) -> User:
        owner = await load_existing(self._log, User, owner_id, "user")
        owner.must_be_enabled()
        return owner

    async def revoke(self, intent: RevokeApiKey, caller: Caller, _stack: AsyncExitStack) -> Decision:
        key = await load_existing(self._log, ApiKey, intent.key_id, "API key")
        must_include(caller, (await key_access(self._log, key.stream_id)).access)
        return Decision(changes=[key.revoke(intent.reason)], answer=id_answer(key.stream_id), subject=key)
