"""Commands: one unit of work for one agent, and the whole of its life.

    queued -> delivered -> running -> succeeded | failed | timed_out | interrupted
      |           |-> rejected
      '-> cancelled | expired          (once an agent may have it, cancelling is a request to that agent)

An attempt is one execution. Handing the same attempt over twice is harmless, since the agent journals (command,
attempt) before it accepts; a new attempt begins only where the retry policy says so, and is an event.
"""

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.errors import (
    CommandEndedError,
    CommandNotEndedError,
    CommandUnderWayError,
    ExpiryBeforeStartError,
    ExpiryInPastError,
    InvalidValueError,
    NotYourCommandError,
    StaleAttemptError,
)
from domain.event import Aggregate, Change, Event, Upcaster
from domain.hours import Hours
from domain.ids import AgentId, ClientId, CommandId, ScriptId, SiteId
from domain.patches import (
    REBOOT_WAITS,
    InstallUpdates,
    Patched,
    Reboot,
    RebootPolicy,
    check_install,
    check_reboot,
)
from domain.placeholders import Data
from domain.scripts import DEFAULT_TIMEOUT_S, Shell, check_call

DEFAULT_LANE = "default"
SYSTEM_LANE = "system"
DEFAULT_PRIORITY = 5
MAX_PRIORITY = 9
DEFAULT_EXPIRY = timedelta(days=30)
MAX_EXPIRY = timedelta(days=366)
MAX_LINE_BYTES = 64 * 1024
MAX_ATTEMPTS = 10
MAX_LANE_LENGTH = 40
GIVEN_BACK = timedelta(minutes=1)


class CommandState(enum.StrEnum):
    QUEUED = "queued"
    DELIVERED = "delivered"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in _OPEN


_OPEN = frozenset({CommandState.QUEUED, CommandState.DELIVERED, CommandState.RUNNING})
OUTCOMES = frozenset(state for state in CommandState if state not in _OPEN)
RETRYABLE = frozenset({CommandState.FAILED, CommandState.TIMED_OUT, CommandState.INTERRUPTED})


class RunScript(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="run_script"):
    """Run one pinned revision. What is None is taken from the revision."""

    script_id: ScriptId
    revision: int
    args: tuple[str, ...] | None = None
    env: dict[str, str] = {}
    """Added to the revision's own, and stronger."""
    timeout_s: int | None = None
    run_as: str | None = None
    data: Data | None = None
    """What its placeholders and the revision's stand for; without it they are text."""


class RunShell(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="run_shell"):
    """Run one line in a shell."""

    shell: Shell
    line: str
    env: dict[str, str] = {}
    timeout_s: int = DEFAULT_TIMEOUT_S
    run_as: str | None = None
    data: Data | None = None
    """What its placeholders stand for; without it they are text."""


class Ping(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="ping"):
    """Do nothing, durably: proves that the whole path works."""


class CollectFacts(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="collect_facts"
):
    """Gather the machine's facts now and report them."""


class RotateKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="rotate_key"):
    """Have the agent make another key for itself, which takes over from the one it has."""


Spec = RunScript | RunShell | Ping | CollectFacts | RotateKey | InstallUpdates | Reboot


def lane_of(spec: Spec, asked: str) -> str:
    """The lane that a command goes into: what touches the system itself has one, so that it never does two at once."""
    if isinstance(spec, RotateKey | InstallUpdates | Reboot):
        return SYSTEM_LANE
    return asked


def check_spec(spec: Spec) -> None:
    """Raise InvalidValueError where a command asks for what no agent could do."""
    match spec:
        case RunScript():
            check_call(spec.args or (), spec.env, spec.timeout_s or DEFAULT_TIMEOUT_S, spec.run_as)
        case RunShell():
            if not spec.line.strip() or "\x00" in spec.line or len(spec.line.encode()) > MAX_LINE_BYTES:
                raise InvalidValueError(f"line: 1 to {MAX_LINE_BYTES} bytes of text without NUL.")
            check_call((), spec.env, spec.timeout_s, spec.run_as)
        case InstallUpdates():
            check_install(spec)
        case Reboot():
            check_reboot(spec)
        case Ping() | CollectFacts() | RotateKey():
            pass


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which outcomes deserve another attempt, how many attempts in all, and how long to wait before the next."""

    max_attempts: int = 1
    on: tuple[CommandState, ...] = ()
    backoff_s: int = 60

    def check(self) -> None:
        """Raise InvalidValueError for an impossible policy."""
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            raise InvalidValueError(f"retry.max_attempts: 1 to {MAX_ATTEMPTS}, not {self.max_attempts}.")
        if not set(self.on) <= RETRYABLE:
            raise InvalidValueError(f"retry.on: only {', '.join(sorted(RETRYABLE))} can be tried again.")
        if not 0 <= self.backoff_s <= 7 * 24 * 3600:
            raise InvalidValueError(f"retry.backoff_s: 0 seconds to 7 days, not {self.backoff_s}.")


def check_retry(spec: Spec, retry: RetryPolicy) -> None:
    """Raise InvalidValueError where something would be done again that somebody is to look at first."""
    if isinstance(spec, InstallUpdates | Reboot) and retry.max_attempts > 1:
        raise InvalidValueError("retry: updates and restarts are not tried again by themselves.")


class Stream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One output stream: its whole is kept beside the log under its hash; here is its end."""

    size: int = 0
    sha256: str = ""
    tail: str = ""


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one attempt came to, by the agent's account (its clock, set to the server's)."""

    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int = 0
    exit_code: int | None = None
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    detail: str = ""
    """Why, where an exit code does not say it."""
    patched: Patched | None = None
    """Of a command that installed updates."""


def _as_it_was(body: dict[str, Any]) -> dict[str, Any]:
    return body


class CommandQueued(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 6
    upcasters: ClassVar[dict[int, Upcaster]] = dict.fromkeys((1, 2, 3, 4, 5), _as_it_was)
    """Since 2 it may have hours, since 3 placeholders, since 4 it may be about the agent's key, since 5 about updates
    and restarts, and since 6 some updates may be held."""

    agent_id: AgentId
    client_id: ClientId
    site_id: SiteId
    spec: Spec
    expires_at: datetime
    lane: str = DEFAULT_LANE
    priority: int = DEFAULT_PRIORITY
    """0 goes first, 9 last."""
    not_before: datetime | None = None
    retry: RetryPolicy = RetryPolicy()
    reason: str = ""
    retry_of: CommandId | None = None
    hours: Hours | None = None
    """It begins only within these, of its machine; ``not_before`` is then no earlier than they open."""


_WITHOUT_UPDATES: dict[int, Upcaster] = {1: _as_it_was}
"""Since 2 a result may say what came of updates."""


class CommandDelivered(Event, frozen=True, kw_only=True):
    """The agent has it on its disk."""

    attempt: int
    gateway: str


class CommandStarted(Event, frozen=True, kw_only=True):
    attempt: int
    started_at: datetime | None = None


class CommandRequeued(Event, frozen=True, kw_only=True):
    """An attempt ended in a way that the retry policy forgives; the next one waits."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    """The next one's number."""
    outcome: CommandState
    """How the attempt before it ended."""
    not_before: datetime | None
    result: Result


class CommandSucceeded(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    result: Result


class CommandFailed(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    result: Result


class CommandTimedOut(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    result: Result


class CommandInterrupted(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    result: Result


class CommandRejected(Event, frozen=True, kw_only=True):
    attempt: int
    code: str
    detail: str = ""


class CommandCancelRequested(Event, frozen=True, kw_only=True):
    reason: str = ""


class CommandPriorityChanged(Event, frozen=True, kw_only=True):
    priority: int


class CommandCancelled(Event, frozen=True, kw_only=True):
    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    reason: str = ""
    attempt: int | None = None
    """Set where the agent had it."""
    result: Result | None = None


class CommandExpired(Event, frozen=True, kw_only=True):
    attempt: int | None = None
    """Set where the agent had it and refused it for its age."""


class LateResultRecorded(Event, frozen=True, kw_only=True):
    """A result that came after the ending, or of an attempt given up; the ending stands."""

    schema_version: ClassVar[int] = 2
    upcasters: ClassVar[dict[int, Upcaster]] = _WITHOUT_UPDATES

    attempt: int
    outcome: CommandState
    result: Result


def _check_priority(priority: int) -> None:
    if not 0 <= priority <= MAX_PRIORITY:
        raise InvalidValueError(f"priority: 0 (first) to {MAX_PRIORITY} (last), not {priority}.")


_ENDINGS: dict[type[Event], CommandState] = {
    CommandSucceeded: CommandState.SUCCEEDED,
    CommandFailed: CommandState.FAILED,
    CommandTimedOut: CommandState.TIMED_OUT,
    CommandInterrupted: CommandState.INTERRUPTED,
    CommandRejected: CommandState.REJECTED,
    CommandCancelled: CommandState.CANCELLED,
    CommandExpired: CommandState.EXPIRED,
}
ENDINGS: frozenset[type[Event]] = frozenset(_ENDINGS)
"""The events that end a command."""
_STATES: dict[type[Event], CommandState] = {
    CommandQueued: CommandState.QUEUED,
    CommandRequeued: CommandState.QUEUED,
    CommandDelivered: CommandState.DELIVERED,
    CommandStarted: CommandState.RUNNING,
    **_ENDINGS,
}
_RESULT_EVENTS: dict[CommandState, Any] = {
    CommandState.SUCCEEDED: CommandSucceeded,
    CommandState.FAILED: CommandFailed,
    CommandState.TIMED_OUT: CommandTimedOut,
    CommandState.INTERRUPTED: CommandInterrupted,
}


def state_after(event: Event) -> CommandState | None:
    """The state that an event of a command leaves it in, or None if it leaves the state alone.

    Projections share this rule, so that no table can disagree with the aggregate.
    """
    return _STATES.get(type(event))


class Command(Aggregate):
    queued: CommandQueued
    agent_id: AgentId
    client_id: ClientId
    state: CommandState = CommandState.QUEUED
    attempt: int = 1
    not_before: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    cancel_requested: bool = False
    cancel_reason: str = ""

    def __init__(self, stream_id: UUID) -> None:
        super().__init__(stream_id)
        self.reported: set[int] = set()
        """Attempts whose result is on record."""

    @classmethod
    def waiting(cls, stream_id: UUID, version: int, attempt: int, agent_id: AgentId, client_id: ClientId) -> Self:
        """A command as its queue shows it, without its story.

        That is enough to record that its agent has it (`deliver`), and then that it succeeded. Should it have moved on
        since, the version is taken, and what is decided here conflicts when it is recorded.
        """
        command = cls(stream_id)
        command.version = version
        command.attempt = attempt
        command.agent_id, command.client_id = agent_id, client_id
        return command

    def concerns(self) -> tuple[UUID | None, UUID | None]:
        return self.agent_id, self.client_id

    # -- decisions -----------------------------------------------------------------------------------------------

    def queue(self, queued: CommandQueued, at: datetime) -> Change:
        """Accept a new command.

        Raises:
            ExpiryInPastError, ExpiryBeforeStartError, InvalidValueError: see their texts.
        """
        if queued.expires_at <= at:
            raise ExpiryInPastError
        if queued.not_before is not None and queued.not_before >= queued.expires_at:
            raise ExpiryBeforeStartError
        if queued.expires_at - max(at, queued.not_before or at) > MAX_EXPIRY:
            raise InvalidValueError(f"expires_at: at most {MAX_EXPIRY.days} days ahead.")
        _check_priority(queued.priority)
        lane = queued.lane
        if not 1 <= len(lane) <= MAX_LANE_LENGTH or not all(c.isalnum() or c in "-_" for c in lane):
            raise InvalidValueError(f"lane: 1 to {MAX_LANE_LENGTH} letters, digits, '-' or '_', not {lane!r}.")
        check_spec(queued.spec)
        queued.retry.check()
        check_retry(queued.spec, queued.retry)
        if queued.hours is not None:
            queued.hours.check()
            if queued.hours.opening(max(at, queued.not_before or at)) >= queued.expires_at:
                raise ExpiryBeforeStartError
        return self.decide(queued)

    def must_belong_to(self, agent_id: AgentId) -> None:
        """Raise NotYourCommandError unless the command is that agent's."""
        if self.agent_id != agent_id:
            raise NotYourCommandError

    def deliver(self, attempt: int, gateway: str) -> list[Change]:
        """The agent has this attempt on disk; said twice, it is one event."""
        if self.state.terminal or attempt != self.attempt or self.state is not CommandState.QUEUED:
            return []
        return [self.decide(CommandDelivered(attempt=attempt, gateway=gateway))]

    def start(self, attempt: int, started_at: datetime | None, gateway: str) -> list[Change]:
        """The agent began this attempt; what had to come before is implied."""
        if self.state.terminal or attempt != self.attempt or self.state is CommandState.RUNNING:
            return []
        return [*self.deliver(attempt, gateway), self.decide(CommandStarted(attempt=attempt, started_at=started_at))]

    def reject(self, attempt: int, code: str, detail: str) -> list[Change]:
        """The agent refuses this attempt for good."""
        if self.state.terminal or attempt != self.attempt:
            return []
        return [self.decide(CommandRejected(attempt=attempt, code=code, detail=detail))]

    def finish(
        self, attempt: int, outcome: CommandState, result: Result, *, at: datetime, gateway: str
    ) -> Sequence[Change]:
        """Record what an attempt came to.

        Args:
            attempt: which execution it was.
            outcome: any terminal state but ``rejected``.
            result: the agent's account of it.
            at: now, for the wait before a next attempt.
            gateway: who heard it, should the delivery itself not be on record yet.

        Returns:
            The events to record; none if this attempt's result is on record already.

        Raises:
            StaleAttemptError: no such attempt was ever begun.
        """
        if attempt in self.reported:
            return []
        if not 1 <= attempt <= self.attempt:
            raise StaleAttemptError(f"Attempt {attempt} of this command was never begun; it is at {self.attempt}.")
        if self.state.terminal or attempt < self.attempt:
            return [self.decide(LateResultRecorded(attempt=attempt, outcome=outcome, result=result))]
        before: list[Change] = []
        if result.started_at is not None:
            before = self.start(attempt, result.started_at, gateway)
        else:
            before = self.deliver(attempt, gateway)
        return [*before, self._end(attempt, outcome, result, at)]

    def _end(self, attempt: int, outcome: CommandState, result: Result, at: datetime) -> Change:
        if outcome is CommandState.CANCELLED:
            return self.decide(CommandCancelled(reason=self.cancel_reason, attempt=attempt, result=result))
        if outcome is CommandState.EXPIRED:
            opens_at = self._opens_again(at)
            if opens_at is None:
                return self.decide(CommandExpired(attempt=attempt))
            return self.decide(
                CommandRequeued(attempt=attempt + 1, outcome=outcome, not_before=opens_at, result=result)
            )
        if outcome in RETRYABLE and self._tries_again(attempt, outcome, at):
            wait = timedelta(seconds=self.queued.retry.backoff_s)
            # Where there is nothing to wait for, no clock has a say: one that is a day ahead would have it wait for
            # a day.
            next_at = at + wait if wait else None
            return self.decide(CommandRequeued(attempt=attempt + 1, outcome=outcome, not_before=next_at, result=result))
        try:
            ending = _RESULT_EVENTS[outcome]
        except KeyError:
            raise InvalidValueError(f"outcome: an attempt cannot come to {outcome}.") from None
        return self.decide(ending(attempt=attempt, result=result))

    def _opens_again(self, at: datetime) -> datetime | None:
        """When it may begin next, if its agent gave it back for its hours alone; None if it is over."""
        hours = self.queued.hours
        if hours is None or self.cancel_requested or at >= self.queued.expires_at:
            return None
        # The agent judges to the second: by our clock it may be a moment before the end of the hours.
        opens_at = hours.opening(at + GIVEN_BACK)
        return opens_at if opens_at < self.queued.expires_at else None

    def _tries_again(self, attempt: int, outcome: CommandState, at: datetime) -> bool:
        """Whether the retry policy wants another attempt, and there is time for it."""
        retry = self.queued.retry
        again = outcome in retry.on and attempt < retry.max_attempts and not self.cancel_requested
        return again and at + timedelta(seconds=retry.backoff_s) < self.queued.expires_at

    def reboot_after(self, result: Result, at: datetime) -> CommandQueued | None:
        """What restarts the machine after this command installed updates; None where nothing is to.

        Args:
            result: what this command came to.
            at: now.
        """
        spec, patched = self.queued.spec, result.patched
        if not isinstance(spec, InstallUpdates) or spec.reboot is not RebootPolicy.IF_NEEDED or patched is None:
            return None
        if self.state not in (CommandState.SUCCEEDED, CommandState.FAILED) or not patched.reboot_needed:
            return None
        opens_at = self.queued.hours.opening(at) if self.queued.hours is not None else at
        return CommandQueued(
            agent_id=self.agent_id,
            client_id=self.client_id,
            site_id=self.queued.site_id,
            spec=Reboot(delay_s=spec.reboot_delay_s, notice="Updates were installed."),
            lane=SYSTEM_LANE,
            priority=self.priority,
            not_before=opens_at if opens_at > at else None,
            expires_at=max(self.queued.expires_at, opens_at + REBOOT_WAITS),
            reason=f"updates were installed that take a restart (command {self.stream_id})",
            hours=self.queued.hours,
        )

    def cancel(self, reason: str, *, in_flight: bool) -> list[Change]:
        """End it if it surely never left; otherwise ask the agent.

        Args:
            reason: shown in its story.
            in_flight: a gateway may have handed it over without having heard an answer.

        Raises:
            CommandEndedError: there is nothing left to cancel.
        """
        if self.state.terminal:
            raise CommandEndedError(f"The command has already {self.state.replace('_', ' ')}; an ending never changes.")
        if self.state is CommandState.QUEUED and not in_flight:
            return [self.decide(CommandCancelled(reason=reason or self.cancel_reason))]
        if self.cancel_requested:
            return []
        return [self.decide(CommandCancelRequested(reason=reason))]

    def prioritise(self, priority: int, *, in_flight: bool) -> list[Change]:
        """Give it another place among what waits for its agent; an attempt after this one keeps it.

        Args:
            priority: 0 goes first, 9 last.
            in_flight: a gateway may have handed it over without having heard an answer.

        Raises:
            CommandEndedError, CommandUnderWayError: it waits no longer.
            InvalidValueError: there is no such priority.
        """
        _check_priority(priority)
        if self.state.terminal:
            raise CommandEndedError(f"The command has already {self.state.replace('_', ' ')}; it waits no longer.")
        if self.state is not CommandState.QUEUED or in_flight:
            raise CommandUnderWayError
        return [] if priority == self.priority else [self.decide(CommandPriorityChanged(priority=priority))]

    def confirm_cancel(self, *, ended_attempt: int = 0) -> list[Change]:
        """The agent answered that it will run no further attempt.

        Args:
            ended_attempt: the newest that did end there, whose result follows or came before; 0 if none did.
        """
        if self.state.terminal or self.attempt <= ended_attempt:
            return []
        return [self.decide(CommandCancelled(reason=self.cancel_reason, attempt=self.attempt))]

    def expire(self, at: datetime) -> list[Change]:
        """End it if it waited too long. What an agent has on disk it judges itself."""
        if self.state is not CommandState.QUEUED or at < self.queued.expires_at:
            return []
        return [self.decide(CommandExpired())]

    def abandon(self, reason: str) -> list[Change]:
        """Its agent is retired: what waits is cancelled, what was under way will not be heard of again."""
        if self.state.terminal:
            return []
        if self.state is CommandState.QUEUED:
            return [self.decide(CommandCancelled(reason=reason))]
        return [self.decide(CommandInterrupted(attempt=self.attempt, result=Result(detail=reason)))]

    def must_have_ended(self) -> None:
        """Raise CommandNotEndedError while it is still open."""
        if not self.state.terminal:
            raise CommandNotEndedError

    # -- state ---------------------------------------------------------------------------------------------------

    def when(self, event: Event) -> None:  # noqa: C901 - a table of cases
        match event:
            case CommandQueued():
                self.queued = event
                self.agent_id, self.client_id = event.agent_id, event.client_id
                self.not_before, self.priority = event.not_before, event.priority
            case CommandPriorityChanged():
                self.priority = event.priority
            case CommandRequeued():
                self.reported.add(self.attempt)
                self.attempt = event.attempt
                self.not_before = event.not_before
            case CommandCancelRequested():
                self.cancel_requested = True
                self.cancel_reason = event.reason
            case CommandSucceeded() | CommandFailed() | CommandTimedOut() | LateResultRecorded():
                self.reported.add(event.attempt)
            case CommandInterrupted():
                # An abandoned command may still be heard of: its true result is then a late one.
                if event.result.finished_at is not None or event.result.started_at is not None:
                    self.reported.add(event.attempt)
            case CommandCancelled():
                if event.result is not None:
                    self.reported.add(self.attempt)
            case CommandDelivered() | CommandStarted() | CommandRejected() | CommandExpired():
                pass
            case _:
                super().when(event)
        self.state = state_after(event) or self.state
