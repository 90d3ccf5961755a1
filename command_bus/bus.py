"""The bus: takes an intent from any adapter, has its handler decide, and records what was decided.

    intent -> handler -> Decision (changes, answer) -> event log -> Done

A handler reads and decides; only the bus appends. So one place sees to permissions, to requests that carry an
Idempotency-Key, and to deciding again when somebody else was quicker.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, ClassVar
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict

from command_bus.context import Caller
from command_bus.errors import BusyStreamError, ForbiddenError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load
from domain.errors import DomainError
from domain.event import Aggregate, Change
from domain.idempotency import AcceptedIntent, IntentAccepted
from domain.permissions import Permission

MAX_TRIES = 20


class Intent(BaseModel):
    """A validated request to change something. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[Permission]
    """Without it nobody may ask for it. Some need more, by what they ask for: `required`."""
    fleet_wide: ClassVar[bool] = False
    """True where it concerns more than one tenant, so that it needs its permissions over everything."""

    def required(self) -> tuple[Permission, ...]:
        """All that it needs, over what it is about."""
        return (self.needs,)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler decided, not yet recorded."""

    changes: list[Change]
    answer: dict[str, Any] = {}
    """For the caller, and for a repeat with the same Idempotency-Key."""
    secret: dict[str, Any] = {}
    """For the caller alone, once; never recorded."""
    subject: Aggregate | None = None
    """What the caller's next ETag speaks of."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted intent: it is on disk."""

    position: int
    """Of its last event; a read that waits for it sees the change."""
    answer: dict[str, Any]
    version: int | None = None
    repeated: bool = False
    """The Idempotency-Key had been used for this very request before; nothing new was recorded."""


Handler = Callable[[Any, Caller, AsyncExitStack], Awaitable[Decision]]


class CommandBus:
    """Dispatches intents to handlers.

    Args:
        log: where decisions are recorded.
        handlers: one for each type of intent. A handler may enter contexts on the stack it is given; they are left
            after its decision is recorded.
    """

    def __init__(self, log: EventLog, handlers: Mapping[type[Intent], Handler]) -> None:
        self._log = log
        self._handlers = dict(handlers)

    async def dispatch(self, intent: Intent, caller: Caller) -> Done:
        """Have an intent decided and recorded (invariant 1: when this returns, it is committed).

        Raises:
            ForbiddenError: the caller's roles do not cover it.
            DomainError: a rule of the domain forbids it; nothing was recorded.
            BusyStreamError: others kept changing the same streams.
            EventLogError: the log could not record it.
        """
        caller = caller.asking(*intent.required())
        if intent.fleet_wide and not caller.scope.everything:
            raise ForbiddenError("This concerns all tenants, and your roles are limited to some.")
        handler = self._handlers[type(intent)]
        for _ in range(MAX_TRIES):
            try:
                return await self._decide_and_record(handler, intent, caller)
            except ConflictError:
                continue
        raise BusyStreamError

    async def _decide_and_record(self, handler: Handler, intent: Intent, caller: Caller) -> Done:
        marker = await self._marker(intent, caller)
        if isinstance(marker, Done):
            return marker
        async with AsyncExitStack() as stack:
            try:
                decision = await handler(intent, caller, stack)
            except DomainError:
                # The same request may have been recorded since the look at the marker, and what it made be what now
                # stands in the way of making it: then this one is a repeat, not an error.
                if marker is not None and isinstance(again := await self._marker(intent, caller), Done):
                    return again
                raise
            version = decision.subject.version if decision.subject is not None else None
            changes = list(decision.changes)
            if marker is not None:
                told = msgspec.json.encode({"answer": decision.answer, "version": version}).decode()
                changes.append(
                    marker.accept(
                        IntentAccepted(
                            key=caller.idempotency_key or "",
                            intent=type(intent).__name__,
                            request_sha256=_fingerprint(intent),
                            response=told,
                        )
                    )
                )
            positions = await self._log.append(changes, caller.metadata) if changes else []
        position = positions[-1] if positions else await self._log.head()
        return Done(position=position, answer=decision.answer | decision.secret, version=version)

    async def _marker(self, intent: Intent, caller: Caller) -> AcceptedIntent | Done | None:
        """The stream of the caller's Idempotency-Key, or what it was answered before."""
        if caller.idempotency_key is None:
            return None
        stream_id = AcceptedIntent.id_of(caller.actor, caller.idempotency_key)
        marker = await load(self._log, AcceptedIntent, stream_id)
        told = marker.answer(type(intent).__name__, _fingerprint(intent))
        if told is None:
            return marker
        before = msgspec.json.decode(told)
        position = (await self._log.read_heads([stream_id]))[stream_id].position
        return Done(position=position, answer=before["answer"], version=before["version"], repeated=True)


def _fingerprint(intent: Intent) -> str:
    return hashlib.sha256(intent.model_dump_json().encode()).hexdigest()


def id_answer(stream_id: UUID) -> dict[str, Any]:
    return {"id": str(stream_id)}
