"""Handlers for secrets. Whoever reads them is in `gateways.agents.secrets`."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.errors import ForbiddenError
from command_bus.event_log import EventLog
from command_bus.handlers.scope import match_version, visible
from command_bus.intents.secrets import AgentScope, ClientScope, RemoveSecret, RotateSecrets, SetSecret, SiteScope
from command_bus.keystore import Keystore
from command_bus.repository import load, load_existing
from domain.agents import Agent
from domain.clients import Client
from domain.errors import NoMasterKeyError, NotFoundError
from domain.event import Recorded, Undecodable
from domain.ids import AgentId, ClientId, SiteId
from domain.secrets import Rewrapping, Scope, Secret, SecretSet, check_value, secret_stream
from domain.sites import Site

Handed = Callable[[], Awaitable[set[UUID]]]


class SecretHandlers:
    """Set, remove, rotate.

    Args:
        log: the event log.
        new_id: for new values.
        keystore: keeps the values; None where this process keeps none.
        also: what else is sealed with the same master key.
    """

    def __init__(self, log: EventLog, new_id: NewId, keystore: Keystore | None, also: Sequence[Keystore] = ()) -> None:
        self._log = log
        self._new_id = new_id
        self._kept = keystore
        self._also = also

    @property
    def _keystore(self) -> Keystore:
        if self._kept is None:
            raise NoMasterKeyError
        return self._kept

    async def put(self, intent: SetSecret, caller: Caller, stack: AsyncExitStack) -> Decision:
        value = check_value(intent.value.get_secret_value())
        scope = await self._scope(intent, caller)
        secret = await load(self._log, Secret, secret_stream(intent.name, scope.holder))
        match_version(secret, caller)
        value_id = self._new_id()
        change = secret.put(intent.name, scope, value_id, intent.note)
        # On disk before the event that names it.
        await self._keystore.keep(secret.stream_id, value_id, value)
        # The value before stays until no command runs that was handed it: what it prints is masked (`sweep_values`).
        stack.push_async_exit(self._keystore.settle([value_id], []))
        answer = id_answer(secret.stream_id) | {"number": secret.number}
        return Decision(changes=[change], answer=answer, subject=secret)

    async def remove(self, intent: RemoveSecret, caller: Caller, _stack: AsyncExitStack) -> Decision:
        secret = await load_existing(self._log, Secret, intent.secret_id, "secret")
        if not await self._within(secret.scope, caller):
            raise NotFoundError(f"There is no secret {intent.secret_id}.")
        match_version(secret, caller)
        return Decision(changes=[secret.remove(intent.reason)], answer=id_answer(secret.stream_id), subject=secret)

    async def rotate(self, _intent: RotateSecrets, _caller: Caller, _stack: AsyncExitStack) -> Decision:
        for other in self._also:
            await other.rewrap()
        key_id, count = await self._keystore.rewrap()
        whole = await load(self._log, Rewrapping, Rewrapping.STREAM)
        answer = id_answer(whole.stream_id) | {"key_id": key_id, "count": count}
        return Decision(changes=[whole.rewrapped(key_id, count)], answer=answer, subject=whole)

    async def _scope(self, intent: SetSecret, caller: Caller) -> Scope:
        # If-Match speaks of the secret.
        caller = structs.replace(caller, if_match=None)
        match intent.scope:
            case AgentScope(agent_id=agent_id):
                agent = await visible(self._log, caller, Agent, agent_id)
                return Scope(client_id=agent.client_id, agent_id=AgentId(agent.stream_id))
            case SiteScope(site_id=site_id):
                site = await visible(self._log, caller, Site, site_id)
                return Scope(client_id=site.client_id, site_id=SiteId(site.stream_id))
            case ClientScope(client_id=client_id):
                client = await visible(self._log, caller, Client, client_id)
                return Scope(client_id=ClientId(client.stream_id))
        if not caller.scope.everything:
            raise ForbiddenError("A secret of the whole fleet concerns all clients, and the API key is limited.")
        return Scope()

    async def _within(self, scope: Scope, caller: Caller) -> bool:
        if scope.client_id is None:
            return caller.scope.everything
        site_id = scope.site_id
        if scope.agent_id is not None and caller.scope.sites:
            # Where the machine is now.
            site_id = (await load_existing(self._log, Agent, scope.agent_id, "agent")).site_id
        return caller.scope.holds(scope.client_id, site_id)


async def sweep_values(log: EventLog, keystore: Keystore, age: timedelta, now: datetime, handed: Handed) -> int:
    """Drop values that no secret has and no command can print.

    They are of requests that came to nothing, or whose process died before it cleaned up; or others took their place.

    Args:
        log: says which value a secret has.
        keystore: of the values.
        age: only those kept, and replaced, so long ago; longer than any request or delivery is under way.
        now: the time.
        handed: which values commands were handed that have not ended.

    Returns:
        How many were dropped.
    """
    kept = await keystore.older_than(age)
    heads = await log.read_heads(list({secret_id for _, secret_id in kept}), tolerant=True)
    gone = {value_id for value_id, secret_id in kept if _past(value_id, heads.get(secret_id), now - age)}
    if gone:
        gone -= await handed()
        await keystore.drop(list(gone))
    return len(gone)


def _past(value_id: UUID, head: Recorded | None, before: datetime) -> bool:
    """Whether a secret has had another value, or none, since before a time."""
    if head is None:
        return True
    if isinstance(head.event, Undecodable) or head.recorded_at >= before:
        return False
    return not isinstance(head.event, SecretSet) or head.event.value_id != value_id
