"""Handlers for requests that wait for another person."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from uuid import UUID

from command_bus.access import access_of_actor
from command_bus.bus import Decision, Intent, id_answer
from command_bus.context import Allowed, Caller, Clock, NewId
from command_bus.errors import ForbiddenError
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.scope import match_version
from command_bus.hands import alone, behind
from command_bus.intents.approvals import ApproveRequest, RefuseRequest, WithdrawRequest
from command_bus.repository import load_existing, load_many
from domain.approvals import Approval
from domain.errors import NotFoundError, OwnApprovalError, PersonNeededError
from domain.event import Metadata
from domain.hands import Hand
from domain.ids import UserId

Decide = Callable[[Intent, Caller, AsyncExitStack], Awaitable[Decision]]
AT_ONCE = 100


class ApprovalHandlers:
    """Approve, refuse, withdraw.

    Args:
        log: the event log.
        clock: now.
        read: makes the intent out of its type's name and its fields.
        decide: has an intent's own handler decide it.
    """

    def __init__(self, log: EventLog, clock: Clock, read: Callable[[str, object], Intent], decide: Decide) -> None:
        self._log = log
        self._clock = clock
        self._read = read
        self._decide = decide

    async def approve(self, intent: ApproveRequest, caller: Caller, stack: AsyncExitStack) -> Decision:
        approval, wanted = await self._for_another(intent.approval_id, caller)
        person = _person(caller)
        granted = approval.grant(person, intent.reason, self._clock())
        await self._must_be_another(person, approval, wanted)
        requested = approval.requested
        access = await access_of_actor(self._log, requested.actor)
        asking = Caller(
            actor=requested.actor,
            access=access,
            user_id=requested.user_id,
            correlation_id=caller.correlation_id,
            causation_id=approval.stream_id,
            allowed=Allowed(agents=requested.agents),
        ).asking(*wanted.required())
        if wanted.fleet_wide and not asking.scope.everything:
            raise ForbiddenError("Whoever asked for it may not do it any more.")
        done = await self._decide(wanted, asking, stack)
        return Decision(
            changes=[granted, *done.changes],
            answer=id_answer(approval.stream_id) | {"state": approval.state.value, "answer": done.answer},
            subject=approval,
            causation_id=approval.stream_id,
        )

    async def refuse(self, intent: RefuseRequest, caller: Caller, _stack: AsyncExitStack) -> Decision:
        approval, wanted = await self._for_another(intent.approval_id, caller)
        person = _person(caller)
        refused = approval.refuse(person, intent.reason, self._clock())
        await self._must_be_another(person, approval, wanted)
        return _decided(approval, [refused])

    async def withdraw(self, intent: WithdrawRequest, caller: Caller, _stack: AsyncExitStack) -> Decision:
        approval = await self._approval(intent.approval_id, caller)
        if not approval.asked_by(caller.actor, caller.user_id):
            raise NotFoundError(f"There is no request {intent.approval_id} of yours.")
        return _decided(approval, [approval.withdraw(intent.reason, self._clock())])

    async def _for_another(self, approval_id: UUID, caller: Caller) -> tuple[Approval, Intent]:
        """A request that the caller may decide: of what they might do as well, wherever it reaches."""
        approval = await self._approval(approval_id, caller)
        wanted = self._read(approval.requested.intent, approval.requested.request)
        scope = caller.scope & caller.access.scope(*wanted.required())
        clients = approval.requested.client_ids
        covered = scope.everything if clients is None else all(scope.holds(one) for one in clients)
        if not covered:
            raise NotFoundError(f"There is no request {approval_id}.")
        return approval, wanted

    async def _approval(self, approval_id: UUID, caller: Caller) -> Approval:
        approval = await load_existing(self._log, Approval, approval_id, "request")
        match_version(approval, caller)
        return approval

    async def _must_be_another(self, person: UserId, approval: Approval, wanted: Intent) -> None:
        """The decider is not behind what asked by keys alone, and nobody who needs another person is behind both.

        Argument: to decide in somebody's name one has to come in by their account. Whoever can has it in their hands
        (`domain.hands`), or comes by the account or the key of somebody who has; so they are behind it. If they could
        ask as well, they are behind what asked, too. Then this refuses, unless they gain nothing by it.

        Raises:
            OwnApprovalError: it may be the same person.
        """
        requested, decider = approval.requested, f"user:{person}"
        head = await self._log.head()
        (first, *_) = (await self._log.read_streams([approval.stream_id]))[approval.stream_id]
        actors = {requested.actor} if requested.user_id is None else {requested.actor, f"user:{requested.user_id}"}
        askers = [Hand(actor, first.position) for actor in actors]
        asking = await behind(self._log, askers, people=False)
        if decider in asking:
            raise OwnApprovalError("You made the key that asked for it: another person has to decide it.")
        deciding = await behind(self._log, [Hand(decider, head)], people=True)
        both = deciding & await behind(self._log, askers, people=True)
        for one in sorted(both):
            if not await alone(self._log, one, wanted.required(), requested):
                raise OwnApprovalError(
                    f"Your account and what asked may both be in the hands of {one}, who needs another person here. "
                    "Somebody else decides it; or whoever may do it alone sets your password anew first."
                )


def _person(caller: Caller) -> UserId:
    """Another person is one who sits there: a key is whoever holds it, its maker, too, and the asker perhaps.

    Raises:
        PersonNeededError: it is no session.
    """
    if caller.freshness is None or not caller.freshness.of_person or caller.user_id is None:
        raise PersonNeededError
    return caller.user_id


def _decided(approval: Approval, changes: list[object]) -> Decision:
    answer = id_answer(approval.stream_id) | {"state": approval.state.value, "answer": None}
    return Decision(changes=changes, answer=answer, subject=approval)  # type: ignore[arg-type]


Due = Callable[[datetime, int], Awaitable[Sequence[UUID]]]
"""Finds requests that wait and whose time is up, at most so many."""


class ApprovalExpiry:
    """Ends requests that nobody decided in time. Several may run at once: the log records each ending once.

    Args:
        log: the event log.
        due: finds them.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, due: Due, new_id: NewId) -> None:
        self._log = log
        self._due = due
        self._new_id = new_id

    async def expire_due(self, now: datetime) -> int:
        """Expire up to 100; returns how many. Call again while it returns any."""
        approvals = await load_many(self._log, Approval, await self._due(now, AT_ONCE))
        ended = 0
        for approval in approvals.values():
            if changes := approval.expire(now):
                try:
                    await self._log.append(changes, Metadata(actor="scheduler", correlation_id=self._new_id()))
                except ConflictError:
                    continue  # somebody decided it just now
                ended += 1
        return ended
