"""Handlers for destinations of forwarded events. Whoever sends to them is in `gateways.forward`."""

import base64
import binascii
import os
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.clients import rename_claim
from command_bus.handlers.scope import match_version, visible
from command_bus.intents.destinations import (
    AddDestination,
    ChangeDestination,
    Only,
    PauseDestination,
    RemoveDestination,
    ResumeDestination,
    Secrets,
    SkipEvent,
)
from command_bus.keystore import Keystore, Unreadable
from command_bus.repository import load, load_existing, load_many
from domain.clients import Client
from domain.destinations import Destination, EventFilter, NatsSubject, Target, Terms, Webhook
from domain.errors import InvalidValueError, NoMasterKeyError
from domain.event import Change
from domain.ids import ClientId, DestinationId, SiteId
from domain.names import Name
from domain.scopes import Place
from domain.sites import Site
from schema.authorities import AuthorityError, certificates

KIND = "destination"
KEY_PREFIX = "whsec_"
"""Of Standard Webhooks: what follows is base 64."""
MADE_KEY_BYTES = 32
_KEY_BYTES = range(24, 65)
_FITTING: dict[type[Target], frozenset[str]] = {
    Webhook: frozenset({"signing_key", "authorization", "query"}),
    NatsSubject: frozenset({"user", "password", "token", "credentials"}),
}


class DestinationHandlers:
    """Add, change, pause, resume, skip, remove.

    Args:
        log: the event log.
        new_id: for new destinations and values.
        keystore: keeps what they are told in confidence; None where this process keeps nothing.
    """

    def __init__(self, log: EventLog, new_id: NewId, keystore: Keystore | None) -> None:
        self._log = log
        self._new_id = new_id
        self._keystore = keystore

    async def add(self, intent: AddDestination, caller: Caller, stack: AsyncExitStack) -> Decision:
        terms = await self._terms(intent, caller)
        destination = Destination(DestinationId(self._new_id()))
        told, made = _with_key(terms.to, _checked(terms.to, _given(intent.secrets)))
        head = await self._log.head()
        after = intent.after if isinstance(intent.after, int) else head if intent.after == "now" else 0
        if after > head:
            raise InvalidValueError(f"after: the log has come to {head}, and not to {after} yet.")
        value_id = await self._keep(destination.stream_id, told, stack, None)
        changes = [destination.add(terms, after, value_id, tuple(sorted(told)))]
        return await self._decided(destination, "", changes, made)

    async def change(self, intent: ChangeDestination, caller: Caller, stack: AsyncExitStack) -> Decision:
        destination = await self._existing(intent.destination_id, caller)
        terms = await self._terms(intent, caller)
        before, old = destination.name, destination.value_id
        told = await self._still_told(destination, terms.to) | _given(intent.secrets)
        told, made = _with_key(terms.to, _checked(terms.to, {name: value for name, value in told.items() if value}))
        value_id = await self._keep(destination.stream_id, told, stack, old)
        gone = sorted(set(destination.sealed) - told.keys())
        changes = [destination.change(terms, value_id, tuple(sorted(told)))]
        return await self._decided(destination, before, changes, made, gone)

    async def pause(self, intent: PauseDestination, caller: Caller, _stack: AsyncExitStack) -> Decision:
        destination = await self._existing(intent.destination_id, caller)
        return _answered(destination, [destination.pause(intent.reason)])

    async def resume(self, intent: ResumeDestination, caller: Caller, _stack: AsyncExitStack) -> Decision:
        destination = await self._existing(intent.destination_id, caller)
        return _answered(destination, [destination.resume(intent.reason)])

    async def skip(self, intent: SkipEvent, caller: Caller, _stack: AsyncExitStack) -> Decision:
        destination = await self._existing(intent.destination_id, caller)
        rows: list[Any] = await self._log.read_rows(after=intent.position - 1, upto=intent.position, limit=1)
        if not rows:
            raise InvalidValueError(f"position: the log has no event at {intent.position}.")
        event_type = rows[0][3].partition("/")[0]
        return _answered(destination, [destination.skip(intent.position, event_type, intent.reason)])

    async def remove(self, intent: RemoveDestination, caller: Caller, stack: AsyncExitStack) -> Decision:
        destination = await self._existing(intent.destination_id, caller)
        old = destination.value_id
        changes = [destination.remove(intent.reason)]
        name = await load(self._log, Name, Name.id_of(KIND, None, destination.name))
        if name.holder == destination.stream_id:
            changes.append(name.release())
        if old is not None:
            stack.push_async_exit(self._store.settle([], [old]))
        return _answered(destination, changes)

    @property
    def _store(self) -> Keystore:
        if self._keystore is None:
            raise NoMasterKeyError
        return self._keystore

    async def _existing(self, destination_id: UUID, caller: Caller) -> Destination:
        destination = await load_existing(self._log, Destination, destination_id, KIND)
        match_version(destination, caller)
        return destination

    async def _terms(self, intent: AddDestination | ChangeDestination, caller: Caller) -> Terms:
        to = intent.to.to_domain()
        if to.authority:
            _check_authority(to.authority)
        only = await self._only(intent.only, structs.replace(caller, if_match=None))
        return Terms(name=intent.name, to=to, only=only).cleaned()

    async def _only(self, only: Only, caller: Caller) -> EventFilter:
        clients = [await visible(self._log, caller, Client, one) for one in dict.fromkeys(only.clients)]
        sites = [await visible(self._log, caller, Site, one) for one in dict.fromkeys(only.sites)]
        return EventFilter(
            types=tuple(sorted(set(only.types))),
            clients=tuple(ClientId(one.stream_id) for one in clients),
            sites=tuple(Place(SiteId(one.stream_id), one.client_id) for one in sites),
        )

    async def _still_told(self, destination: Destination, to: Target) -> dict[str, str]:
        """What it was told and may be told on: what was meant for one is shown to no other."""
        if destination.value_id is None or type(to) is not type(destination.to):
            return {}
        told = await opened(self._store, destination.value_id)
        if to.address != destination.to.address:
            # A signature shows nothing of its key.
            told = {name: value for name, value in told.items() if name == "signing_key"}
        return told

    async def _keep(
        self, destination_id: UUID, told: dict[str, str], stack: AsyncExitStack, old: UUID | None
    ) -> UUID | None:
        """On disk before the event that names it; what it takes the place of goes after that."""
        value_id = None
        if told:
            value_id = self._new_id()
            await self._store.keep(destination_id, value_id, msgspec.json.encode(told))
        if value_id is not None or old is not None:
            gone = [old] if old is not None else []
            stack.push_async_exit(self._store.settle([value_id] if value_id is not None else [], gone))
        return value_id

    async def _decided(
        self, destination: Destination, before: str, changes: list[Change], made: str | None, gone: Sequence[str] = ()
    ) -> Decision:
        claim = await rename_claim(self._log, KIND, None, before, destination.name, destination.stream_id)
        secrets = {"secrets": list(destination.sealed), "secrets_gone": list(gone)}
        answer = id_answer(destination.stream_id) | secrets | {"signing_key": None}
        shown: dict[str, Any] = {"signing_key": made} if made is not None else {}
        return Decision(changes=[*changes, *claim], answer=answer, secret=shown, subject=destination)


def _answered(destination: Destination, changes: list[Change]) -> Decision:
    return Decision(changes=changes, answer=id_answer(destination.stream_id), subject=destination)


def _given(secrets: Secrets | None) -> dict[str, str]:
    return secrets.given() if secrets is not None else {}


def _with_key(to: Target, told: dict[str, str]) -> tuple[dict[str, str], str | None]:
    """A webhook is always signed: where no key is given one is made, and shown once."""
    told = {name: value for name, value in told.items() if value}
    if not isinstance(to, Webhook) or "signing_key" in told:
        return told, None
    made = KEY_PREFIX + base64.b64encode(os.urandom(MADE_KEY_BYTES)).decode()
    return told | {"signing_key": made}, made


def _checked(to: Target, told: dict[str, str]) -> dict[str, str]:
    """Refuse what its kind has no use for, or no receiver could take; values are never named.

    Raises:
        InvalidValueError: says which.
    """
    fitting = _FITTING.get(type(to), frozenset())
    for name, value in told.items():
        if name not in fitting:
            raise InvalidValueError(f"secrets.{name}: a destination of this kind has none.")
        several_lines = name == "credentials"
        # Whatever a library could stumble over, it would quote in its error.
        one_line = value.isprintable() and value == value.strip()
        if not value.isascii() or not (several_lines or one_line) or "\x00" in value:
            raise InvalidValueError(f"secrets.{name}: printable ASCII characters, and no space around them.")
    if "#" in told.get("query", "") or " " in told.get("query", ""):
        raise InvalidValueError("secrets.query: neither `#` nor space in it.")
    if key := told.get("signing_key"):
        try:
            length = len(base64.b64decode(key.removeprefix(KEY_PREFIX), validate=True))
        except (binascii.Error, ValueError):
            length = 0
        if length not in _KEY_BYTES:
            raise InvalidValueError(f"secrets.signing_key: {KEY_PREFIX} and 24 to 64 bytes in base 64.")
    if ("user" in told) != ("password" in told):
        raise InvalidValueError("secrets.user and secrets.password: both or neither.")
    if sum(name in told for name in ("user", "token", "credentials")) > 1:
        raise InvalidValueError("secrets: one of user with password, token, and credentials.")
    return told


def _check_authority(pem: str) -> None:
    try:
        found = "".join(certificates(pem))
        ssl.create_default_context(cadata=found)
    except (AuthorityError, ssl.SSLError, ValueError) as error:
        raise InvalidValueError(f"to.authority: {error}") from None


async def opened(keystore: Keystore, value_id: UUID) -> dict[str, str]:
    """What a destination is told in confidence.

    Raises:
        NoMasterKeyError: it cannot be opened here.
    """
    value = (await keystore.open([value_id])).get(value_id)
    if not isinstance(value, bytes):
        why = value.why if isinstance(value, Unreadable) else "they are not there any more; give them anew."
        raise NoMasterKeyError(f"The destination's secrets cannot be read: {why}")
    return msgspec.json.decode(value, type=dict[str, str])


async def sweep_destination_values(log: EventLog, keystore: Keystore, age: timedelta) -> int:
    """Drop values that no destination has; see `command_bus.handlers.secrets.sweep_values`."""
    kept = await keystore.older_than(age)
    found = await load_many(log, Destination, [destination_id for _, destination_id in kept])
    gone = [value_id for value_id, destination_id in kept if found[destination_id].value_id != value_id]
    if gone:
        await keystore.drop(gone)
    return len(gone)
