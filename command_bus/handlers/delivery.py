"""What agents report of their commands, as events.

Everything an agent says may come twice, late or out of order (invariant 3 and 6 rest on repeating until answered), so
each method loads the commands, lets them decide, and records only what is new. A conflict means that somebody else
recorded something of the same command in between: it is loaded and decided again.

What is said of one command in this process is recorded one after the other: a short command's result often comes
while its acceptance is being committed, or before, and the two would only conflict.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from uuid import UUID

import msgspec
import structlog

from command_bus.context import Clock
from command_bus.event_log import ConflictError, EventLog, EventLogError
from command_bus.repository import UnreadableStoryError, load_many, replay_existing
from domain.commands import (
    OUTCOMES,
    Command,
    CommandState,
    LateResultRecorded,
    Result,
    Stream,
)
from domain.errors import DomainError, InvalidValueError
from domain.event import Change, Metadata
from domain.ids import AgentId, ClientId, CommandId
from domain.patches import OUTCOMES_OF_UPDATES, Patched, UpdateOutcome, reboot_after
from domain.strays import Stray, StrayResultRecorded
from schema import wire
from schema.patches import MAX_OUTCOMES, MAX_WHY, PatchReport
from schema.software import MAX_TEXT

_log = structlog.get_logger(__name__)
MAX_TRIES = 10
MAX_REMEMBERED = 20_000
MAX_DETAIL = 2000
WITHDRAWN = "whoever asked for it may no longer"


class Report(msgspec.Struct, frozen=True):
    """One thing said of one command: who says it, and what the command makes of it."""

    agent_id: AgentId | None
    """None where it is none of its agent's words."""
    command_id: UUID
    decide: Callable[[Command], Sequence[Change]]
    succeeded: int | None = None
    """The attempt, where that is what it says."""


class Waiting(msgspec.Struct, frozen=True):
    """A command as it stood in its queue when it was handed over."""

    command: Command
    correlation_id: UUID


class Deliveries:
    """Records what agents say.

    Args:
        log: the event log.
        clock: now; only the wait before a next attempt is reckoned from it.
    """

    def __init__(self, log: EventLog, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._under_way: dict[UUID, asyncio.Future[None]] = {}
        self._ended: OrderedDict[UUID, None] = OrderedDict()
        """Commands whose ending was recorded here; endings never change, so that is known for good."""
        self._handed: OrderedDict[UUID, Waiting | Callable[[], Waiting]] = OrderedDict()
        """Commands that were handed over here: as they were queued, and as they are once their acceptance is recorded.
        See `_remembered`."""

    def handing(self, waiting: Mapping[UUID, Callable[[], Waiting]]) -> None:
        """These are about to be handed over: a result may come before their acceptance is on record.

        Args:
            waiting: make what `accepted_many` takes, anew; for most it is never asked.
        """
        self._handed.update(waiting)
        while len(self._handed) > MAX_REMEMBERED:
            self._handed.popitem(last=False)

    async def accepted(
        self,
        agent_id: AgentId,
        replies: Sequence[wire.Accepted],
        gateway: str,
        causation_id: UUID | None = None,
    ) -> None:
        """Record an agent's word on the orders it was handed; see `accepted_many`."""
        await self.accepted_many([(agent_id, replies)], gateway, causation_id)

    async def accepted_many(
        self,
        items: Sequence[tuple[AgentId, Sequence[wire.Accepted]]],
        gateway: str,
        causation_id: UUID | None = None,
        *,
        waiting: Mapping[UUID, Waiting] | None = None,
    ) -> None:
        """Record the words of several agents on the orders they were handed, by one read and one group of appends.

        ``busy`` says nothing yet. A reply that names a command that is not the agent's is passed over: the agent was
        never handed it, so there is nothing it could be right about.

        Args:
            items: agents and what they said.
            gateway: who heard it.
            causation_id: the message that it came with.
            waiting: commands as their queues showed them, for replies of ``accepted`` to the attempt that was queued:
                they are not loaded unless they have moved on since; one that has ended meanwhile is passed over.
        """
        reports = [
            Report(agent_id, reply.command_id, self._on_accepted(reply, gateway))
            for agent_id, replies in items
            for reply in replies
            if reply.status != "busy"
        ]
        outcomes = await self._record(reports, causation_id, waiting or {})
        for report, outcome in zip(reports, outcomes, strict=True):
            if isinstance(outcome, UnreadableStoryError):
                # Recorded by whoever can read it: the start or the result, which say that it was accepted, are kept.
                _log.error("acceptance_unrecorded", command_id=str(report.command_id), error=outcome.detail)

    def _on_accepted(self, reply: wire.Accepted, gateway: str) -> Callable[[Command], Sequence[Change]]:
        def decide(command: Command) -> Sequence[Change]:
            match reply.status:
                case "accepted":
                    return command.deliver(reply.attempt, gateway)
                case "rejected":
                    return command.reject(reply.attempt, reply.code or "rejected", reply.detail[:MAX_DETAIL])
                case "expired" if reply.attempt == command.attempt and not command.state.terminal:
                    return command.finish(
                        reply.attempt, CommandState.EXPIRED, Result(), at=self._clock(), gateway=gateway
                    )
                case "cancelled":
                    return command.confirm_cancel()
                case _:
                    return []

        return decide

    async def started(self, agent_id: AgentId, report: wire.StartedReport, gateway: str) -> None:
        """Record that an agent began an attempt.

        Raises:
            NotFoundError, NotYourCommandError: it has no such command.
        """
        outcome = (await self.started_many([(agent_id, report)], gateway))[0]
        if isinstance(outcome, DomainError):
            raise outcome

    async def started_many(
        self, items: Sequence[tuple[AgentId, wire.StartedReport]], gateway: str
    ) -> list[str | DomainError]:
        """The same for several; returns for each "" or what was wrong with it."""

        def on_started(report: wire.StartedReport) -> Callable[[Command], Sequence[Change]]:
            return lambda command: command.start(report.attempt, report.started_at, gateway)

        reports = [Report(agent_id, report.command_id, on_started(report)) for agent_id, report in items]
        return await self._record(reports, None)

    async def finished(self, agent_id: AgentId, report: wire.ResultReport, gateway: str) -> str:
        """Record a result.

        Returns:
            "" if it is new, ``duplicate`` if it was on record, ``late`` if the command had ended otherwise before.

        Raises:
            NotFoundError, NotYourCommandError, StaleAttemptError, InvalidValueError: it cannot be a result of one of
                this agent's commands; nothing was recorded.
        """
        outcome = (await self.finished_many([(agent_id, report)], gateway))[0]
        if isinstance(outcome, DomainError):
            raise outcome
        return outcome

    async def finished_many(
        self, items: Sequence[tuple[AgentId, wire.ResultReport]], gateway: str
    ) -> list[str | DomainError]:
        """The same for several by one read and one group of appends; a faulty one does not spoil the others."""
        reports = [
            Report(
                agent_id,
                report.command_id,
                self._on_finished(report, gateway),
                # What may have a restart follow is decided on the whole story.
                report.attempt if report.outcome == CommandState.SUCCEEDED and report.patched is None else None,
            )
            for agent_id, report in items
        ]
        outcomes = await self._record(reports, None)
        for (_, report), outcome in zip(items, outcomes, strict=True):
            # Told again, too: who recorded it the first time may have died before this.
            if report.patched is not None and report.patched.reboot_needed and not isinstance(outcome, DomainError):
                await self._restart_after(report)
        return outcomes

    async def _restart_after(self, report: wire.ResultReport) -> None:
        """Queue what restarts a machine after updates, once, in the name of whoever had them installed.

        The agent hears that its result is on record after this alone, and tells it again until then.
        """
        command_id = report.command_id
        streams = await self._log.read_streams([command_id, reboot_after(command_id)], tolerant=True)
        if reboot_after(command_id) in streams:
            return
        recorded = streams.get(command_id, [])
        installing = replay_existing(Command, command_id, recorded, "command")
        queued = installing.reboot_after(result_of(report), self._clock())
        if queued is None:
            return
        first = recorded[0]
        metadata = Metadata(actor=first.actor, correlation_id=first.correlation_id, causation_id=command_id)
        change = Command(reboot_after(command_id)).queue(queued, self._clock())
        with contextlib.suppress(ConflictError):  # another gateway heard it as well
            await self._log.append([change], metadata)

    async def strays(self, items: Sequence[tuple[AgentId, ClientId, wire.ResultReport]]) -> list[str | DomainError]:
        """Record results of commands that the log does not know, each under a stream of its own.

        Such a command was ordered, for agents take none that the server has not signed: the log has lost it since. What
        came of it is kept, so that nothing that was done on a machine is without a trace.

        Args:
            items: agents, their tenants, and what they said.

        Returns:
            For each ``stray``, "duplicate", or what is wrong with it.
        """
        outcomes: list[str | DomainError] = ["duplicate"] * len(items)
        strays = [Stray.of(report.command_id, report.attempt) for _, _, report in items]
        known = await load_many(self._log, Stray, [stray.stream_id for stray in strays])
        places, changes = [], []
        for index, ((agent_id, client_id, report), stray) in enumerate(zip(items, strays, strict=True)):
            try:
                event = StrayResultRecorded(
                    command_id=CommandId(report.command_id),
                    agent_id=agent_id,
                    client_id=client_id,
                    attempt=report.attempt,
                    outcome=_outcome(report.outcome),
                    result=result_of(report),
                )
            except DomainError as error:
                outcomes[index] = error
                continue
            if decided := known[stray.stream_id].record(event):
                places.append(index)
                metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=stray.stream_id)
                changes.append((decided, metadata))
        for index, outcome in zip(places, await self._log.append_each(changes) if changes else (), strict=True):
            if isinstance(outcome, EventLogError) and not isinstance(outcome, ConflictError):
                raise outcome
            # Said twice at once, the other one is on record.
            outcomes[index] = "duplicate" if isinstance(outcome, ConflictError) else "stray"
        return outcomes

    def _on_finished(self, report: wire.ResultReport, gateway: str) -> Callable[[Command], Sequence[Change]]:
        def decide(command: Command) -> Sequence[Change]:
            outcome = _outcome(report.outcome)
            if outcome is CommandState.REJECTED and report.attempt == command.attempt and not command.state.terminal:
                return command.reject(report.attempt, report.code or "rejected", report.detail[:MAX_DETAIL])
            if outcome is CommandState.REJECTED:
                return []
            return command.finish(report.attempt, outcome, result_of(report), at=self._clock(), gateway=gateway)

        return decide

    async def cancelled(self, agent_id: AgentId, ended: Mapping[UUID, int]) -> frozenset[UUID]:
        """Record an agent's answer to a cancel request.

        Args:
            agent_id: who answered.
            ended: commands of which it runs no further attempt, and the newest attempt that did end there, or 0. The
                result of that one follows, or came before.

        Returns:
            The commands of which nothing can be on its way to the agent any more.
        """
        reports = [
            Report(agent_id, command_id, partial(Command.confirm_cancel, ended_attempt=attempt))
            for command_id, attempt in ended.items()
        ]
        outcomes = await self._record(reports, None)
        return frozenset(
            report.command_id
            for report, outcome in zip(reports, outcomes, strict=True)
            if outcome == "" or (outcome == "duplicate" and not ended[report.command_id])
        )

    async def withdrawn(self, uncertain: Mapping[UUID, Collection[UUID]], gateway: str) -> frozenset[UUID]:
        """Call off commands that whoever asked for them may no longer ask for, by who holds their agents' leases.

        Args:
            uncertain: of each command, those of its agent that were sent before and not answered. One of them its agent
                is asked to drop; the others end here.
            gateway: who found it out.

        Returns:
            The commands that have ended.
        """

        def calling_off(command_id: UUID) -> Callable[[Command], Sequence[Change]]:
            def decide(command: Command) -> Sequence[Change]:
                if command.state is not CommandState.QUEUED:
                    return []
                return command.cancel(WITHDRAWN, in_flight=command_id in uncertain[command_id])

            return decide

        reports = [Report(None, command_id, calling_off(command_id)) for command_id in uncertain]
        await self._record(reports, None, actor=f"gateway:{gateway}")
        return frozenset(command_id for command_id in uncertain if command_id in self._ended)

    async def _record(
        self,
        reports: Sequence[Report],
        causation_id: UUID | None,
        known: Mapping[UUID, Waiting] = MappingProxyType({}),
        actor: str | None = None,
    ) -> list[str | DomainError]:
        """Have each command decide, and record; returns for each report "", "duplicate", "late" or an error."""
        command_ids = {report.command_id for report in reports}
        async with self._alone(command_ids):
            return await self._record_alone(reports, causation_id, known, actor)

    @contextlib.asynccontextmanager
    async def _alone(self, command_ids: Collection[UUID]) -> AsyncIterator[None]:
        """Nobody else in this process records anything of these commands meanwhile; all are taken at once or none."""
        while busy := {self._under_way[one] for one in command_ids if one in self._under_way}:
            await asyncio.wait(busy)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._under_way.update(dict.fromkeys(command_ids, done))
        try:
            yield
        finally:
            for command_id in command_ids:
                del self._under_way[command_id]
            done.set_result(None)

    async def _record_alone(
        self,
        reports: Sequence[Report],
        causation_id: UUID | None,
        known: Mapping[UUID, Waiting],
        actor: str | None,
    ) -> list[str | DomainError]:
        outcomes: list[str | DomainError] = ["duplicate"] * len(reports)
        # That a command which has ended was accepted is no news, and needs no reading.
        no_news = known.keys() & self._ended.keys()
        waiting = [index for index, report in enumerate(reports) if report.command_id not in no_news]
        known = known or self._remembered(reports)
        for _ in range(MAX_TRIES):
            if not waiting:
                break
            # Several reports on one command are decided one after the other, on the same aggregate.
            wanted = {reports[index].command_id for index in waiting}
            streams = await self._log.read_streams(list(wanted.difference(known)), tolerant=True)
            commands = {command_id: one.command for command_id, one in known.items() if command_id in wanted}
            correlations = {command_id: one.correlation_id for command_id, one in known.items()}
            # Each story bears one correlation id, that of its first event.
            correlations |= {stream_id: recorded[0].correlation_id for stream_id, recorded in streams.items()}
            changes: dict[UUID, list[Change]] = {}
            for index in waiting:
                report = reports[index]
                try:
                    command = commands.get(report.command_id)
                    if command is None:
                        recorded = streams.get(report.command_id, [])
                        command = replay_existing(Command, report.command_id, recorded, "command")
                        commands[report.command_id] = command
                    if report.agent_id is not None:
                        command.must_belong_to(report.agent_id)
                    decided = report.decide(command)
                except DomainError as error:
                    outcomes[index] = error
                    continue
                outcomes[index] = _said(decided)
                changes.setdefault(report.command_id, []).extend(decided)
            conflicts = await self._append(changes, commands, correlations, causation_id, actor)
            self._note_ended(commands[command_id] for command_id in changes.keys() - conflicts)
            self._note_accepted(
                {command_id: known[command_id] for command_id in known.keys() & changes.keys() - conflicts}
            )
            waiting = [index for index in waiting if reports[index].command_id in conflicts]
            known = {}
        for index in waiting:
            outcomes[index] = NotRecordedError()
        return outcomes

    def _note_ended(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if command.state.terminal:
                self._ended[command.stream_id] = None
                self._handed.pop(command.stream_id, None)
        while len(self._ended) > MAX_REMEMBERED:
            self._ended.popitem(last=False)

    def _note_accepted(self, recorded: Mapping[UUID, Waiting]) -> None:
        for command_id, one in recorded.items():
            if not one.command.state.terminal:
                self._handed[command_id] = one
        while len(self._handed) > MAX_REMEMBERED:
            self._handed.popitem(last=False)

    def _remembered(self, reports: Sequence[Report]) -> dict[UUID, Waiting]:
        """Commands that these reports can be decided on without being read.

        That the attempt which was handed over here has succeeded is always an event, whatever the rest of the story is:
        should the command have moved on since, its version is taken, and it is loaded after all. Nothing else is
        decided so.
        """
        found: dict[UUID, Waiting] = {}
        for report in reports:
            if report.succeeded is None or report.command_id not in self._handed:
                continue
            one = self._handed[report.command_id]
            if callable(one):
                one = self._handed[report.command_id] = one()
            if report.succeeded == one.command.attempt:
                found[report.command_id] = one
        for report in reports:
            if report.command_id in found and report.succeeded != found[report.command_id].command.attempt:
                del found[report.command_id]
        # Taken out: what is decided on one and not recorded must not be met again.
        for command_id in found:
            del self._handed[command_id]
        return found

    async def _append(
        self,
        changes: Mapping[UUID, list[Change]],
        commands: Mapping[UUID, Command],
        correlations: Mapping[UUID, UUID],
        causation_id: UUID | None,
        actor: str | None,
    ) -> set[UUID]:
        """Append each command's changes; returns the commands that somebody else changed first."""
        to_append = {command_id: decided for command_id, decided in changes.items() if decided}
        outcomes = await self._log.append_each(
            [
                (
                    decided,
                    Metadata(
                        actor=actor or f"agent:{commands[command_id].agent_id}",
                        correlation_id=correlations[command_id],
                        causation_id=causation_id,
                    ),
                )
                for command_id, decided in to_append.items()
            ]
        )
        conflicts = set()
        for command_id, outcome in zip(to_append, outcomes, strict=True):
            if isinstance(outcome, ConflictError):
                conflicts.add(command_id)
            elif isinstance(outcome, EventLogError):
                raise outcome
            else:
                _log.debug(
                    "command_recorded",
                    recorded=type(to_append[command_id][-1].event).__name__,
                    command_id=command_id,
                    agent_id=commands[command_id].agent_id,
                    correlation_id=correlations[command_id],
                )
        return conflicts


class NotRecordedError(DomainError):
    """Others kept changing the command; report it again in a moment."""

    code = "busy_stream"
    status = 503


def _said(decided: Sequence[Change]) -> str:
    if not decided:
        return "duplicate"
    return "late" if isinstance(decided[-1].event, LateResultRecorded) else ""


def _outcome(text: str) -> CommandState:
    if text not in OUTCOMES:
        raise InvalidValueError(f"outcome: one of {', '.join(sorted(OUTCOMES))}, not {text!r}.")
    return CommandState(text)


def result_of(report: wire.ResultReport) -> Result:
    """A report as the event keeps it: bytes become text, the whole output stays beside the log."""
    return Result(
        started_at=_utc(report.started_at),
        finished_at=_utc(report.finished_at),
        duration_ms=max(0, report.duration_ms),
        exit_code=report.exit_code,
        stdout=_stream(report.stdout),
        stderr=_stream(report.stderr),
        detail=report.detail[:MAX_DETAIL],
        patched=_patched(report.patched) if report.patched is not None else None,
    )


def _patched(told: PatchReport) -> Patched:
    """As the event keeps it, within the bounds that an agent keeps to."""
    updates = told.updates[:MAX_OUTCOMES]
    return Patched(
        updates=tuple(
            UpdateOutcome(
                name=_line(one.name, MAX_TEXT),
                version=_line(one.version, MAX_TEXT),
                outcome=one.outcome if one.outcome in OUTCOMES_OF_UPDATES else "failed",
                why=_line(one.why, MAX_WHY),
            )
            for one in updates
        ),
        more=max(0, told.more) + len(told.updates) - len(updates),
        installed=max(0, told.installed),
        reboot_needed=told.reboot_needed,
    )


def _line(text: str, most: int) -> str:
    return "".join(character if character.isprintable() else " " for character in text[:most])


def _utc(at: datetime | None) -> datetime | None:
    if at is not None and at.tzinfo is None:
        raise InvalidValueError("A time without a zone is no time; send UTC.")
    return at


def _stream(report: wire.StreamReport) -> Stream:
    tail = report.tail[-wire.TAIL_BYTES :].decode(errors="backslashreplace")
    return Stream(size=report.size, sha256=report.sha256, tail=tail)
