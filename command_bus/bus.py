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
from msgspec import structs
from pydantic import BaseModel, ConfigDict, ValidationError

from command_bus.approving import NeedsApprovalError, asks_for_another
from command_bus.context import Caller, Clock, NewId
from command_bus.errors import BusyStreamError, ForbiddenError
from command_bus.event_log import ConflictError, EventLog
from command_bus.repository import load
from domain.approvals import LIFE, Approval, ApprovalRequested, ApprovalState
from domain.errors import ApprovalAwaitedError, DomainError, IdempotencyMismatchError, InvalidValueError
from domain.event import Aggregate, Change
from domain.idempotency import AcceptedIntent, IntentAccepted
from domain.ids import derived_id
from domain.permissions import Permission

MAX_TRIES = 20


class Intent(BaseModel):
    """A validated request to change something. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    needs: ClassVar[Permission | None]
    """Without it nobody may ask for it; None for what is everybody's own affair. Some need more, by what they ask for:
    `required`."""
    fleet_wide: ClassVar[bool] = False
    """True where it concerns more than one tenant, so that it needs its permissions over everything."""

    grave: ClassVar[bool] = False
    """True where it can do harm whatever its size: a person's session is asked for a fresh proof, a key has to be
    unattended. Where that depends on what it is about, its handler asks, and its route declares the error."""

    def sealed(self, new_id: NewId) -> tuple["Intent", str | None]:
        """What is kept of it while it waits for another person, and what its caller alone is shown then, once."""
        del new_id
        return self, None

    def required(self) -> tuple[Permission, ...]:
        """All that it needs, over what it is about."""
        return () if self.needs is None else (self.needs,)


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler decided, not yet recorded."""

    changes: list[Change]
    answer: dict[str, Any] = {}
    """For the caller, and for a repeat with the same Idempotency-Key."""
    secret: dict[str, Any] = {}
    """For the caller alone, once; never recorded."""
    subject: Aggregate | None = None
    """What the caller's next ETag speaks of."""
    causation_id: UUID | None = None
    """What brought it about, if not the caller's own request."""


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
        clock: now.
        new_id: for requests that wait.
    """

    def __init__(self, log: EventLog, handlers: Mapping[type[Intent], Handler], clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._handlers = dict(handlers)
        self._by_name = {intent.__name__: intent for intent in handlers}
        self._clock = clock
        self._new_id = new_id

    def add(self, handlers: Mapping[type[Intent], Handler]) -> None:
        """More of them: those that need the bus itself."""
        self._handlers |= handlers
        self._by_name |= {intent.__name__: intent for intent in handlers}

    def read(self, name: str, fields: object) -> Intent:
        """An intent as it was kept.

        Raises:
            InvalidValueError: this version knows no such request.
        """
        try:
            return self._by_name[name].model_validate_json(msgspec.json.encode(fields))
        except (KeyError, ValidationError) as error:
            raise InvalidValueError(f"This version cannot read the request {name}; ask for it anew.") from error

    async def decide(self, intent: Intent, caller: Caller, stack: AsyncExitStack) -> Decision:
        """Have an intent's handler decide it; nothing is recorded.

        Raises:
            NeedsApprovalError: the caller's roles ask for another person.
        """
        decision = await self._handlers[type(intent)](intent, caller, stack)
        if decision.changes and (why := asks_for_another(caller, intent.required(), caller.scope)):
            raise NeedsApprovalError(why)
        return decision

    async def dispatch(self, intent: Intent, caller: Caller) -> Done:
        """Have an intent decided and recorded (invariant 1: when this returns, it is committed).

        Raises:
            ForbiddenError: the caller's roles do not cover it.
            FreshProofNeededError: it can do harm, and the caller's session was not proved lately.
            DomainError: a rule of the domain forbids it; nothing was recorded.
            ApprovalAwaitedError: it is recorded as a request that waits for another person.
            BusyStreamError: others kept changing the same streams.
            EventLogError: the log could not record it.
        """
        if intent.grave:
            caller.must_be_fresh()
        caller = caller.asking(*intent.required())
        if intent.fleet_wide and not caller.scope.everything:
            raise ForbiddenError("This concerns all tenants, and your roles are limited to some.")
        for _ in range(MAX_TRIES):
            try:
                return await self._decide_and_record(intent, caller)
            except ConflictError:
                continue
        raise BusyStreamError

    async def _decide_and_record(self, intent: Intent, caller: Caller) -> Done:
        marker = await self._marker(intent, caller)
        if isinstance(marker, Done):
            return marker
        async with AsyncExitStack() as stack:
            try:
                decision = await self.decide(intent, caller, stack)
            except NeedsApprovalError as needed:
                raise await self._kept(intent, caller, needed) from None
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
            metadata = caller.metadata
            if decision.causation_id is not None:
                metadata = structs.replace(metadata, causation_id=decision.causation_id)
            positions = await self._log.append(changes, metadata) if changes else []
        position = positions[-1] if positions else await self._log.head()
        return Done(position=position, answer=decision.answer | decision.secret, version=version)

    async def _kept(self, intent: Intent, caller: Caller, needed: NeedsApprovalError) -> ApprovalAwaitedError:
        """Record a request that has to wait, once for each Idempotency-Key, and say where it is."""
        key = caller.idempotency_key
        approval_id = derived_id("approval", caller.actor, key) if key is not None else self._new_id()
        approval = await load(self._log, Approval, approval_id)
        kept, secret = intent.sealed(self._new_id)
        if approval.exists:
            secret = None
            asked = msgspec.json.decode(intent.model_dump_json())
            if type(kept).__name__ != approval.requested.intent or any(
                approval.requested.request.get(name) != value for name, value in asked.items()
            ):
                raise IdempotencyMismatchError
        else:
            scope = caller.scope
            requested = ApprovalRequested(
                intent=type(kept).__name__,
                request=msgspec.json.decode(kept.model_dump_json()),
                why=needed.why,
                agents=needed.agents,
                user_id=caller.user_id,
                actor=caller.actor,
                client_ids=None if scope.everything else tuple(sorted(scope.known_clients)),
                expires_at=self._clock() + LIFE,
            )
            await self._log.append([approval.request(requested)], caller.metadata)
        detail = f"It waits for another person as {approval_id}, since {approval.requested.why}. Nothing is done yet."
        if approval.state is not ApprovalState.WAITING:
            detail = f"It was asked for before, and is {approval.state}: see the request {approval_id}."
        return ApprovalAwaitedError(detail, approval_id=str(approval_id), secret=secret)

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
