"""Handlers for machines that wait for approval."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from uuid import UUID

from command_bus.bus import Decision
from command_bus.context import Caller, Clock, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.handlers.limits import must_touch
from command_bus.intents.enrollments import ApproveEnrollments, RefuseEnrollments
from command_bus.repository import load_many, replay_existing
from domain.agents import Agent
from domain.enrollments import WaitingEnrollment
from domain.errors import NotFoundError
from domain.event import Change, Metadata
from domain.scopes import Place, Scope
from domain.tokens import EnrollmentToken

AT_ONCE = 100


class EnrollmentHandlers:
    """Approve and refuse.

    Args:
        log: the event log.
        clock: now.
    """

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock

    async def approve(self, intent: ApproveEnrollments, caller: Caller, _stack: AsyncExitStack) -> Decision:
        waiting = await self._waiting(intent, caller)
        sites = {Place(one.requested.site_id, one.requested.client_id) for one in waiting}
        must_touch(caller, intent.required(), len(waiting), Scope.of(sites=sites))
        tokens = await load_many(self._log, EnrollmentToken, sorted({one.requested.token_id for one in waiting}))
        now, changes = self._clock(), list[Change]()
        for one in waiting:
            agent_id = one.requested.agent_id
            changes += [
                one.approve(intent.reason, now),
                tokens[one.requested.token_id].admit(agent_id),
                Agent(agent_id).enroll(one.enrolled()),
            ]
        agents = [str(one.requested.agent_id) for one in waiting]
        # Of one alone, what is known of why it is there; of several, each is its own story.
        causation_id = waiting[0].stream_id if len(waiting) == 1 else None
        return Decision(changes=changes, answer={"agents": agents}, causation_id=causation_id)

    async def refuse(self, intent: RefuseEnrollments, caller: Caller, _stack: AsyncExitStack) -> Decision:
        now = self._clock()
        waiting = await self._waiting(intent, caller)
        changes = [one.refuse(intent.reason, now) for one in waiting]
        return Decision(changes=changes, answer={"agents": []})

    async def _waiting(self, intent: ApproveEnrollments | RefuseEnrollments, caller: Caller) -> list[WaitingEnrollment]:
        """Those that are named; what the caller does not see is not there."""
        ids = list(dict.fromkeys(intent.enrollments))
        streams = await self._log.read_streams(ids)
        found = [replay_existing(WaitingEnrollment, one, streams.get(one, []), "enrollment") for one in ids]
        for one in found:
            if not caller.scope.holds(one.requested.client_id, one.requested.site_id):
                raise NotFoundError(f"There is no enrollment {one.stream_id}.")
        return found


Due = Callable[[datetime, int], Awaitable[Sequence[UUID]]]
"""Finds those that wait and whom nobody can let in any more, at most so many."""


class EnrollmentExpiry:
    """Ends what nobody can decide any more: its time is up, or its token revoked. Several may run at once.

    Args:
        log: the event log; it records each ending once.
        due: finds them.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, due: Due, new_id: NewId) -> None:
        self._log = log
        self._due = due
        self._new_id = new_id

    async def expire_due(self, now: datetime) -> int:
        """Expire up to 100; returns how many. Call again while it returns any."""
        found = await load_many(self._log, WaitingEnrollment, await self._due(now, AT_ONCE))
        there = [one for one in found.values() if one.exists]
        tokens = await load_many(self._log, EnrollmentToken, sorted({one.requested.token_id for one in there}))
        ended = 0
        for one in there:
            if changes := one.expire(now, token_revoked=tokens[one.requested.token_id].revoked):
                try:
                    await self._log.append(changes, Metadata(actor="scheduler", correlation_id=self._new_id()))
                except ConflictError:
                    continue  # somebody decided it just now
                ended += 1
        return ended
