"""The fan-out: what rollouts do by themselves, a step at a time.

A step reads the rollout's own stream, decides, and records all of it in one transaction: the commands of the next
agents, and how far down the list they reach (`domain.rollouts`). Nothing is kept in between. So it does not matter
where a scheduler is killed, nor that two of them work for a moment: of two that decided the same, the log takes one.

What became of the commands is told by a read model that lags. Its numbers only grow, so an old one lets through less
than it might, never more.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec
import structlog
from prometheus_client import Counter as Counted

from command_bus.askers import Askers
from command_bus.context import InFlight, NewId
from command_bus.event_log import ATOMIC_EVENTS, ConflictError, EventLog, EventLogError
from command_bus.intents.commands import permissions_of
from command_bus.placeholders import PERSONAL, Resolved, Resolver, data_in, with_given
from command_bus.repository import load_many
from command_bus.rollout_growth import Growth, GrowthReads
from domain.agents import Agent, AgentFactsReported, AgentState, facts_stream
from domain.commands import Command, CommandQueued, CommandState
from domain.errors import DomainError
from domain.event import Change, Metadata
from domain.hours import Hours, timezone_of
from domain.ids import AgentId, ClientId
from domain.permissions import Permission
from domain.rollout_candidates import LeftOut
from domain.rollout_events import Entry, RolloutResumed, RolloutStarted, Skip
from domain.rollout_terms import Order
from domain.rollouts import Rollout, RolloutState, Tally, command_id

BATCH = 2_000
"""Commands per transaction. With the event that says so they have to fit one."""
SHARED = 300
"""The same while others write to the log: each of them waits for one transaction at the most, and then for a short one.
"""
FEW = 200
"""So many go with those of others in a group commit."""
TAKEN_BACK_AT_ONCE = 500
UNREAD = timedelta(seconds=10)
"""What was recorded so short a time ago may be unread (`unanswered` in projections/rollouts.sql): so much longer nobody
counts as silent."""
TALLY_SHARE = 20
"""Counting may take this part of the time: a count is reused for so many times as long as it took."""

QUEUED = Counted("fleetlog_rollout_commands_queued", "Commands that rollouts queued.")

WITHDRAWN = "whoever had it go on last may no longer; who may can resume it"

_log = structlog.get_logger(__name__)


class FanOutReads(GrowthReads, Protocol):
    """What the read models know of rollouts."""

    async def running(self) -> Sequence[UUID]:
        """Rollouts that run, oldest first; also those that are paused while agents may join."""

    async def tally(self, rollout_id: UUID, unanswered_since: datetime | None = None) -> Tally:
        """What became of its commands.

        Args:
            rollout_id: of the rollout.
            unanswered_since: count the agents that have not answered since then, as far as that is known by now.
        """

    async def to_take_back(self, limit: int) -> Sequence[tuple[UUID, AgentId]]:
        """(command, agent) of aborted rollouts that are queued still."""


class Progress(Protocol):
    """How far the read models are."""

    def position(self) -> int:
        """Now."""

    async def wait_beyond(self, position: int, timeout_s: float) -> None:
        """Return once they are further, or when the time is up."""


class _Known(msgspec.Struct):
    rollout: Rollout
    metadata: Metadata
    """Of the commands: in the name of whoever started it, or had it go on last."""
    looked_upto: int = 0
    """For agents that join."""
    tally: Tally = Tally()
    tally_until: float = 0.0
    active: bool = True
    """It queued something in the last turn, or nobody knows yet."""

    @property
    def client_id(self) -> ClientId | None:
        """Whose agents come next."""
        entries = self.rollout.next_entries(1)
        return entries[0].client_id if entries else None


class FanOut:
    """Moves rollouts on. Several may run at once.

    Args:
        log: the event log.
        in_flight: which commands an agent may already have.
        reads: of the read models.
        progress: of the same.
        new_id: for correlation.
    """

    def __init__(
        self, log: EventLog, in_flight: InFlight, reads: FanOutReads, progress: Progress, new_id: NewId
    ) -> None:
        self._log = log
        self._in_flight = in_flight
        self._reads = reads
        self._progress = progress
        self._new_id = new_id
        self._growth = Growth(log, reads)
        self._askers = Askers(log)
        self._resolver = Resolver(log)
        self._known: dict[UUID, _Known] = {}
        self._looked_at = 0
        self._pace = BATCH
        self._recorded_upto: int | None = None

    async def turn(self, now: datetime) -> bool:
        """One step of each rollout that runs, and some of what aborted ones left behind.

        A turn queues about as many commands however many run: clients share them alike, and so do each one's rollouts.

        Returns:
            Whether anything was recorded: then there may be more to do at once.
        """
        self._looked_at = self._progress.position()
        running = await self._reads.running()
        for gone in self._known.keys() - set(running):
            del self._known[gone]
        moved = False
        shares = self._shares()
        for rollout_id in running:
            moved |= await self._step(rollout_id, now, shares.get(rollout_id, self._pace))
        taken_back = await self._take_back()
        return moved or taken_back > 0

    async def wait(self, timeout_s: float) -> None:
        """Return when there may be something new since the last turn began, or when the time is up."""
        await self._progress.wait_beyond(self._looked_at, timeout_s)

    def _shares(self) -> dict[UUID, int]:
        """How many commands each rollout may queue in this turn."""
        rollouts_of = Counter(known.client_id for known in self._known.values() if known.active)
        shares = {}
        for rollout_id, known in self._known.items():
            clients = len(rollouts_of.keys() | {known.client_id})
            shares[rollout_id] = max(1, self._pace // clients // max(1, rollouts_of[known.client_id]))
        return shares

    async def _step(self, rollout_id: UUID, now: datetime, share: int) -> bool:
        known = await self._load(rollout_id)
        try:
            grown = await self._grow(known, now)
            if known.rollout.state is not RolloutState.RUNNING:
                known.active = False
                return grown
            tally = await self._tally(known, now)
            judged = known.rollout.judge(now, tally)
            if judged:
                await self._log.append(judged, self._own(known))
            room = known.rollout.room(now, tally)
            known.active = room > 0
            if room and not await self._may_go_on(known, now):
                await self._log.append([known.rollout.pause(WITHDRAWN)], self._own(known))
            elif room:
                await self._queue(known, known.rollout.next_entries(min(room, share)), now)
        except ConflictError:
            # Somebody asked something of it just now, or another scheduler was quicker: what is on record counts.
            del self._known[rollout_id]
            return True
        except EventLogError:
            del self._known[rollout_id]
            raise
        except DomainError as error:
            del self._known[rollout_id]
            return await self._give_up(rollout_id, error)
        return bool(grown or judged or room)

    async def _may_go_on(self, known: _Known, now: datetime) -> bool:
        """Whether the one in whose name it queues commands might start it now."""
        actor, rollout = known.metadata.actor, known.rollout
        access = (await self._askers.access([actor], now)).get(actor)
        if access is None:
            return True
        needs = Permission.ROLLOUTS_START, *permissions_of(rollout.started.order.spec)
        return rollout.lies_within(access.scope(*needs))

    async def _grow(self, known: _Known, now: datetime) -> bool:
        """Take in who joined since the last look."""
        changes, known.looked_upto = await self._growth.look(known.rollout, known.looked_upto, now)
        if changes:
            await self._log.append(changes, self._own(known))
        return bool(changes)

    async def _give_up(self, rollout_id: UUID, error: DomainError) -> bool:
        """One that breaks a rule stops by itself, and does not stop the others."""
        _log.error("rollout_cannot_go_on", rollout_id=str(rollout_id), error=error.detail)
        known = await self._load(rollout_id)
        if known.rollout.state is not RolloutState.RUNNING:
            return False
        paused = known.rollout.pause(f"it cannot go on: {error.detail}")
        try:
            await self._log.append([paused], self._own(known))
        finally:
            # Also where somebody else was quicker: what is on record counts.
            del self._known[rollout_id]
        return True

    async def _load(self, rollout_id: UUID) -> _Known:
        """The rollout as it stands; replayed only where somebody else went on with it."""
        known = self._known.get(rollout_id)
        if known is not None:
            head = (await self._log.read_heads([rollout_id]))[rollout_id]
            if head.originator_version == known.rollout.version:
                return known
        recorded = (await self._log.read_streams([rollout_id]))[rollout_id]
        start = next(one for one in recorded if isinstance(one.event, RolloutStarted))
        # Who has it go on answers for what comes then, and had to be somebody who might start it.
        asker = next((one for one in reversed(recorded) if isinstance(one.event, RolloutResumed)), start).actor
        metadata = Metadata(actor=asker, correlation_id=start.correlation_id, causation_id=rollout_id)
        known = _Known(Rollout.load(rollout_id, (one.event for one in recorded)), metadata)
        self._known[rollout_id] = known
        return known

    async def _tally(self, known: _Known, now: datetime) -> Tally:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if began >= known.tally_until:
            guard = known.rollout.started.guard
            within = guard.answer_within if guard is not None else None
            since = now - within - UNREAD if within is not None else None
            known.tally = await self._reads.tally(known.rollout.stream_id, since)
            known.tally_until = loop.time() + TALLY_SHARE * (loop.time() - began)
        return known.tally

    def _own(self, known: _Known) -> Metadata:
        """Of what nobody asked for."""
        return msgspec.structs.replace(known.metadata, actor="scheduler")

    async def _queue(self, known: _Known, entries: Sequence[Entry], now: datetime) -> None:
        rollout = known.rollout
        data = data_in(rollout.started.order.spec)
        closed = PERSONAL.isdisjoint(data.placeholders)
        agents = await load_many(self._log, Agent, [entry.agent_id for entry in entries], closed=closed)
        hours = await self._hours(rollout.started.order, [entry.agent_id for entry in entries])
        resolved = await self._resolver.resolve(agents.values(), data)
        skipped = [
            Skip(agent_id=entry.agent_id, round=entry.round, reason=reason)
            for entry in entries
            if (reason := _why_not(entry, agents[entry.agent_id], hours, resolved)) is not None
        ]
        left_out = {skip.agent_id for skip in skipped}
        changes: list[Change] = [rollout.advance(len(entries), skipped, now)]
        changes += [
            self._command(
                rollout, entry, agents[entry.agent_id], hours.get(entry.agent_id), resolved[entry.agent_id].values, now
            )
            for entry in entries
            if entry.agent_id not in left_out
        ]
        if len(changes) > ATOMIC_EVENTS:
            raise AssertionError("commands and the event that counts them have to be one transaction")
        if len(changes) <= FEW:
            last = (await self._log.append(changes, known.metadata))[-1]
        else:
            last = await self._log.append_bulk(changes, known.metadata)
        self._note(last, len(changes))
        QUEUED.inc(len(changes) - 1)

    def _note(self, last: int, count: int) -> None:
        """Go slower while others write as well, which shows in the positions that are not ours, and else faster."""
        alone = self._recorded_upto is None or last - count <= self._recorded_upto
        self._recorded_upto = last
        self._pace = min(BATCH, self._pace * 2) if alone else max(min(SHARED, BATCH), self._pace // 2)

    async def _hours(self, order: Order, agent_ids: Sequence[AgentId]) -> dict[AgentId, Hours | None]:
        """Each agent's, by the time zone that it told last; empty where the command may begin at any time."""
        if order.hours is None:
            return {}
        if not order.needs_timezone:
            return dict.fromkeys(agent_ids, order.hours)
        heads = await self._log.read_heads([facts_stream(agent_id) for agent_id in agent_ids])
        found: dict[AgentId, Hours | None] = {}
        for agent_id in agent_ids:
            head = heads.get(facts_stream(agent_id))
            told = head.event.facts if head is not None and isinstance(head.event, AgentFactsReported) else {}
            found[agent_id] = order.hours_of(timezone_of(told))
        return found

    @staticmethod
    def _command(
        rollout: Rollout, entry: Entry, agent: Agent, hours: Hours | None, given: dict[str, str], now: datetime
    ) -> Change:
        order = rollout.started.order
        not_before, expires_at = order.times(now, hours)
        queued = CommandQueued(
            agent_id=entry.agent_id,
            client_id=agent.client_id,
            site_id=agent.site_id,
            spec=with_given(order.spec, given),
            lane=order.lane,
            priority=order.priority,
            not_before=not_before,
            expires_at=expires_at,
            retry=order.retry,
            hours=hours,
            reason=rollout.started.reason or f"rollout {rollout.started.name}",
            retry_of=command_id(rollout.stream_id, entry.agent_id, entry.round - 1) if entry.round > 1 else None,
        )
        return Command(command_id(rollout.stream_id, entry.agent_id, entry.round)).queue(queued, now)

    # -- aborted ones --------------------------------------------------------------------------------------------

    async def _take_back(self) -> int:
        """Cancel some of what aborted rollouts queued; what an agent has on its disk is let finish."""
        due = await self._reads.to_take_back(TAKEN_BACK_AT_ONCE)
        if not due:
            return 0
        by_agent: dict[AgentId, list[UUID]] = {}
        for queued_id, agent_id in due:
            by_agent.setdefault(agent_id, []).append(queued_id)
        return sum([await self._take_back_of(agent_id, queued_ids) for agent_id, queued_ids in by_agent.items()])

    async def _take_back_of(self, agent_id: AgentId, queued_ids: Sequence[UUID]) -> int:
        # As `CommandHandlers.cancel`: while the hold lasts no gateway can lease what is cancelled here (invariant 5).
        async with self._in_flight.hold(agent_id) as in_flight:
            commands = await load_many(self._log, Command, queued_ids)
            items = [
                (changes, Metadata(actor="scheduler", correlation_id=self._new_id()))
                for command in commands.values()
                if command.state is CommandState.QUEUED
                and (changes := command.cancel("rollout aborted", in_flight=command.stream_id in in_flight))
            ]
            outcomes = await self._log.append_each(items)
        for outcome in outcomes:
            if isinstance(outcome, EventLogError) and not isinstance(outcome, ConflictError):
                raise outcome
        # One that moved on meanwhile is found again, if it is still queued.
        return sum(not isinstance(outcome, EventLogError) for outcome in outcomes)


def _why_not(
    entry: Entry, agent: Agent, hours: Mapping[AgentId, Hours | None], resolved: Mapping[UUID, Resolved]
) -> str | None:
    """Why an agent gets no command after all: much may have happened since the list was made."""
    if not agent.exists:
        return "gone"
    if agent.state is not AgentState.ACTIVE:
        return agent.state.value
    if agent.client_id != entry.client_id:
        # Whoever started it may see nothing of the client that it belongs to now (invariant 8).
        return "moved"
    if entry.agent_id in hours and hours[entry.agent_id] is None:
        return LeftOut.TIMEZONE_UNKNOWN.value
    if resolved[entry.agent_id].missing:
        return LeftOut.UNRESOLVED_PLACEHOLDER.value
    return None
