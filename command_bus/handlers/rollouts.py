"""Handlers for what people ask of rollouts. What follows by itself is in `command_bus.rollouts`."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, NewId
from command_bus.errors import ForbiddenError
from command_bus.event_log import EventLog
from command_bus.handlers.commands import Pinned, must_be_fresh_for, pin
from command_bus.handlers.limits import must_touch
from command_bus.handlers.scope import match_version
from command_bus.handlers.scripts import ScriptShelf
from command_bus.intents.commands import permissions_of
from command_bus.intents.rollouts import (
    AbortRollout,
    CloseRollout,
    PauseRollout,
    PlanRollout,
    ReleaseRollout,
    ResumeRollout,
    RetryRollout,
    StartRollout,
)
from command_bus.placeholders import FIELD, READ_AT_ONCE, Resolver, data_in
from command_bus.repository import load_existing, load_many
from domain.agents import Agent
from domain.commands import DEFAULT_EXPIRY, Command, CommandQueued, lane_of
from domain.errors import NeverJoinsError, NotFoundError, WrongPlatformError
from domain.event import Change
from domain.ids import AgentId, ClientId, SiteId
from domain.permissions import Permission
from domain.rollout_candidates import NOT_MEANT, Candidate, LeftOut, why_left_out
from domain.rollout_events import Entry, RolloutStarted
from domain.rollout_terms import Joins, Order, Target, sizes
from domain.rollouts import Rollout, check
from domain.scopes import Place, Scope

SHOWN = 500
"""Of each list in a plan."""


class RolloutReads(Protocol):
    """What a rollout's decisions need of the read models."""

    async def candidates(
        self, target: Target, scope: Scope, *, timezone: bool = False
    ) -> tuple[Sequence[Candidate], Sequence[UUID], int]:
        """The agents that a target names, of those within a scope; the ids in it that name nothing; as of when."""

    async def failed(self, rollout_id: UUID) -> Sequence[tuple[AgentId, int]]:
        """Agents whose last command failed, and the round it was of."""


class _Drafted(msgspec.Struct, frozen=True):
    """An intent whose target is resolved."""

    started: RolloutStarted
    chosen: list[Candidate]
    left_out: list[tuple[Candidate, str]]


class RolloutHandlers:
    """Plan, start, pause, resume, release, abort, retry.

    Args:
        log: the event log.
        clock: now.
        new_id: for new rollouts.
        reads: who is meant, and who failed.
        default_expiry: how long a command waits at the most, where its intent does not say.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        new_id: NewId,
        reads: RolloutReads,
        default_expiry: timedelta = DEFAULT_EXPIRY,
    ) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._reads = reads
        self._default_expiry = default_expiry
        self._scripts = ScriptShelf(log)
        self._resolver = Resolver(log)

    async def start(self, intent: StartRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        must_be_fresh_for(intent.spec, caller)
        drafted = await self._drafted(intent, caller)
        if drafted.started.joins is not None:
            must_touch(caller, intent.required(), None, caller.scope)
        else:
            must_touch(caller, intent.required(), len(drafted.chosen), _where(drafted.chosen))
        rollout = Rollout(self._new_id())
        # A list of a hundred thousand takes a second to draw up: the loop has others to serve meanwhile.
        changes = await asyncio.to_thread(rollout.start, drafted.started, [_place(one) for one in drafted.chosen])
        answer = id_answer(rollout.stream_id) | {"targeted": len(drafted.chosen)}
        return Decision(changes=changes, answer=answer, subject=rollout)

    async def plan(self, intent: PlanRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        drafted = await self._drafted(intent, caller)
        answer: dict[str, Any] = {
            "targeted": len(drafted.chosen),
            "waves": list(sizes(len(drafted.chosen), drafted.started.waves)),
            "open_until": drafted.started.joins.until.isoformat() if drafted.started.joins is not None else None,
            "excluded": drafted.started.excluded,
            "agents": [str(one.agent_id) for one in drafted.chosen[:SHOWN]],
            "left_out": [{"agent_id": str(one.agent_id), "reason": why} for one, why in drafted.left_out[:SHOWN]],
        }
        return Decision(changes=[], answer=answer)

    async def _drafted(self, intent: StartRollout, caller: Caller) -> _Drafted:
        pinned = await pin(self._scripts, intent.spec, caller)
        target = intent.target.to_domain()
        expiry = timedelta(seconds=intent.expires_in_s) if intent.expires_in_s is not None else self._default_expiry
        order = Order(
            spec=pinned.spec,
            lane=lane_of(pinned.spec, intent.lane),
            priority=intent.priority,
            not_before=intent.not_before,
            expires_in_s=int(expiry.total_seconds()),
            retry=intent.retry.to_domain(),
            hours=intent.hours.to_domain() if intent.hours is not None else None,
        )
        started = RolloutStarted(
            name=intent.name,
            target=target,
            order=order,
            client_ids=(),
            targeted=0,
            waves=tuple(wave.to_domain() for wave in intent.waves),
            wave_sizes=(),
            limits=intent.limits.to_domain(),
            guard=intent.guard.to_domain() if intent.guard is not None else None,
            reason=intent.reason,
        )
        check(started)
        self._must_be_queueable(order)
        candidates, unknown, position = await self._reads.candidates(
            target, caller.scope, timezone=order.needs_timezone
        )
        if unknown:
            raise NotFoundError(f"target: there is no client, site or agent {unknown[0]}.")
        unresolved = await self._unresolved(order, candidates)
        # As they may be many, the loop has others to serve meanwhile.
        chosen, left_out = await asyncio.to_thread(_judged, target, order, candidates, pinned, unresolved)
        excluded = dict(sorted(Counter(why for _, why in left_out).items()))
        joins = None
        if intent.joins_within_s is not None:
            if not target.by_the_log:
                raise NeverJoinsError
            if caller.scope.sites:
                raise ForbiddenError("Agents may join a rollout only of those who act for whole clients.")
            until = self._clock() + timedelta(seconds=intent.joins_within_s)
            seen = None if caller.scope.everything else tuple(sorted(caller.scope.clients))
            joins = Joins(until=until, after=position, clients=seen)
        return _Drafted(msgspec.structs.replace(started, excluded=excluded, joins=joins), chosen, left_out)

    async def _unresolved(self, order: Order, candidates: Sequence[Candidate]) -> set[UUID]:
        """The agents for which a placeholder of the command stands for nothing, or a secret is not there."""
        data = data_in(order.spec)
        if not data.secrets and not any(key.startswith(FIELD) for key in data.placeholders):
            return set()  # the others stand for something on every agent
        found: set[UUID] = set()
        for start in range(0, len(candidates), READ_AT_ONCE):
            ids = [one.agent_id for one in candidates[start : start + READ_AT_ONCE]]
            agents = await load_many(self._log, Agent, ids)
            resolved = await self._resolver.resolve(agents.values(), data)
            found.update(agent_id for agent_id, one in resolved.items() if one.missing)
        return found

    def _must_be_queueable(self, order: Order) -> None:
        """Refuse now what could not be queued later, agent after agent."""
        now = self._clock()
        nobody = self._new_id()
        hours = order.hours_of("UTC")
        not_before, expires_at = order.times(now, hours)
        Command(nobody).queue(
            CommandQueued(
                agent_id=AgentId(nobody),
                client_id=ClientId(nobody),
                site_id=SiteId(nobody),
                spec=order.spec,
                lane=order.lane,
                priority=order.priority,
                not_before=not_before,
                expires_at=expires_at,
                retry=order.retry,
                hours=hours,
            ),
            now,
        )

    async def pause(self, intent: PauseRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        return await self._changed(intent.rollout_id, caller, lambda rollout: [rollout.pause(intent.reason)])

    async def resume(self, intent: ResumeRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        def resume(rollout: Rollout) -> list[Change]:
            resumed = rollout.resume(intent.reason)
            _must_be_startable(rollout, caller, len(rollout.entries) - rollout.cursor)
            return [resumed]

        return await self._changed(intent.rollout_id, caller, resume)

    async def release(self, intent: ReleaseRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        def release(rollout: Rollout) -> list[Change]:
            released = rollout.release(intent.reason)
            _must_be_startable(rollout, caller, rollout.border - rollout.cursor)
            return [released]

        return await self._changed(intent.rollout_id, caller, release)

    async def close(self, intent: CloseRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        return await self._changed(intent.rollout_id, caller, lambda rollout: [rollout.close(intent.reason)])

    async def abort(self, intent: AbortRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        return await self._changed(intent.rollout_id, caller, lambda rollout: [rollout.abort(intent.reason)])

    async def retry(self, intent: RetryRollout, caller: Caller, _stack: AsyncExitStack) -> Decision:
        # Who has failed stays so; what the read model does not know yet can be retried later.
        failed = await self._reads.failed(intent.rollout_id)

        def retry(rollout: Rollout) -> list[Change]:
            _must_be_startable(rollout, caller, len(failed))
            return rollout.retry(failed, intent.reason)

        return await self._changed(intent.rollout_id, caller, retry)

    async def _changed(self, rollout_id: UUID, caller: Caller, decide: Callable[[Rollout], list[Change]]) -> Decision:
        rollout = await load_existing(self._log, Rollout, rollout_id, "rollout")
        if not rollout.lies_within(caller.scope):
            raise NotFoundError(f"There is no rollout {rollout_id}.")
        match_version(rollout, caller)
        return Decision(changes=decide(rollout), answer=id_answer(rollout_id), subject=rollout)


def _must_be_startable(rollout: Rollout, caller: Caller, agents: int) -> None:
    """Refuse to have more commands queued for somebody who might not start it: who has it go on asks for them as well.

    Args:
        rollout: whose commands.
        caller: who has it go on, with its next wave, or with those that failed.
        agents: how many get a command for it.

    Raises:
        ForbiddenError, NotFoundError: the caller may not do that, or not over all of its agents.
        FreshProofNeededError, TooManyAgentsError, NeedsApprovalError: as where it is started.
    """
    needs = (Permission.ROLLOUTS_START, *permissions_of(rollout.started.order.spec))
    if not rollout.lies_within(caller.asking(*needs).scope):
        raise NotFoundError(f"There is no rollout {rollout.stream_id}.")
    must_be_fresh_for(rollout.started.order.spec, caller)
    must_touch(caller, needs, agents, _where(rollout.entries))


def _where(agents: Iterable[Candidate | Entry]) -> Scope:
    return Scope.of(sites={Place(one.site_id, one.client_id) for one in agents})


def _judged(
    target: Target, order: Order, candidates: Sequence[Candidate], pinned: Pinned, unresolved: Collection[UUID]
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    """Who is chosen, and who is left out and why."""
    chosen: list[Candidate] = []
    left_out: list[tuple[Candidate, str]] = []
    for one in candidates:
        reason = why_not(target, order, one, pinned)
        if reason is None and one.agent_id in unresolved:
            reason = LeftOut.UNRESOLVED_PLACEHOLDER
        if reason is None:
            chosen.append(one)
        else:
            left_out.append((one, reason))
    # Who plans wants to see first those that are left out without having been meant to.
    left_out.sort(key=lambda one: one[1] in NOT_MEANT)
    return chosen, left_out


def _place(one: Candidate) -> tuple[AgentId, ClientId, SiteId]:
    return one.agent_id, one.client_id, one.site_id


def why_not(target: Target, order: Order, one: Candidate, pinned: Pinned) -> str | None:
    """Why an agent that the target names gets no command."""
    reason = why_left_out(target, order, one)
    if reason is not None:
        return reason
    try:
        pinned.must_run_on(one.platform)
    except WrongPlatformError as error:
        return error.code
    return None
