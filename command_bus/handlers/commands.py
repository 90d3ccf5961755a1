"""Handlers for what people ask of commands. What agents report of them is in `delivery`."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec
from msgspec import structs

from command_bus.bus import Decision, id_answer
from command_bus.context import Caller, Clock, InFlight, NewId
from command_bus.event_log import EventLog
from command_bus.handlers.limits import must_touch_one
from command_bus.handlers.scope import visible
from command_bus.handlers.scripts import ScriptShelf
from command_bus.intents.commands import (
    CancelCommand,
    InstallUpdates,
    PrioritiseCommand,
    QueueCommand,
    Reboot,
    RetryCommand,
    RunScript,
    RunShell,
    permissions_of,
)
from command_bus.intents.commands import Spec as WantedSpec
from command_bus.placeholders import Resolver, data_in, data_of, widest_for, with_given
from command_bus.touches import Touches
from domain.agents import Agent, Platform
from domain.commands import (
    DEFAULT_EXPIRY,
    CollectFacts,
    Command,
    CommandQueued,
    CommandState,
    Ping,
    RotateKey,
    Spec,
    lane_of,
)
from domain.commands import RunScript as PinnedScript
from domain.commands import RunShell as PinnedShell
from domain.errors import QueueFullError, WrongPlatformError
from domain.ids import AgentId, CommandId
from domain.permissions import Permission
from domain.scopes import Place, Scope
from domain.scripts import Revision, Shell

MAX_WAITING = 5_000
"""Open commands of one agent, beyond which none is queued singly. A rollout adds one for each agent, whatever waits."""


class CommandReads(Protocol):
    """What decisions about commands need of the read models."""

    async def waiting(self, agent_id: UUID, limit: int) -> int:
        """How many of an agent's commands are open, as of now; counted up to a limit and no further."""


class Pinned(msgspec.Struct, frozen=True):
    """What is to be run, with its revision fixed, and where it can be."""

    spec: Spec
    shell: Shell | None = None
    revision: Revision | None = None
    script: str = ""

    def must_run_on(self, platform: Platform) -> None:
        """Raise WrongPlatformError where it cannot run."""
        if self.revision is not None and isinstance(self.spec, PinnedScript) and not self.revision.runs_on(platform):
            supported = ", ".join(self.revision.platforms)
            raise WrongPlatformError(
                f"Revision {self.spec.revision} of {self.script!r} supports {supported}; the agent runs {platform}."
            )
        if self.shell is Shell.CMD and platform is not Platform.WINDOWS:
            raise WrongPlatformError(f"The shell {self.shell} exists on windows alone; the agent runs {platform}.")


def must_be_fresh_for(spec: WantedSpec | Spec, caller: Caller) -> None:
    """Have a person show themselves once more before agents' keys change, be it one agent's.

    Raises:
        FreshProofNeededError: they are to do so first.
    """
    if Permission.AGENTS_KEYS in permissions_of(spec):
        caller.must_be_fresh()


async def pin(scripts: ScriptShelf, wanted: WantedSpec, caller: Caller) -> Pinned:
    """Fix the revision of a script: what is asked for now is what runs, whatever is revised later.

    Who is limited to some clients or sites has their secrets alone: what a command is told, whoever runs it can learn.

    Raises:
        NotFoundError, ScriptArchivedError, UnknownRevisionError: there is no such script or revision to run.
        BadPlaceholderError, PlaceholderInCodeError, SecretInArgumentError, UnresolvedPlaceholderError: of what it runs.
    """
    pinned = await _pinned(scripts, wanted)
    data = data_of(pinned.spec, pinned.revision, widest_for(caller.scope))
    if data is None or not isinstance(pinned.spec, PinnedScript | PinnedShell):
        return pinned
    return structs.replace(pinned, spec=structs.replace(pinned.spec, data=data))


async def _pinned(scripts: ScriptShelf, wanted: WantedSpec) -> Pinned:
    match wanted:
        case RunScript():
            script = await scripts.get(wanted.script_id)
            number, revision = script.pinned(wanted.revision)
            return Pinned(wanted.to_domain(number), revision.shell, revision, script.name)
        case RunShell():
            return Pinned(wanted.to_domain(), wanted.shell)
        case InstallUpdates() | Reboot():
            return Pinned(wanted.to_domain())
        case other:
            bare: dict[str, type[Ping | CollectFacts | RotateKey]] = {
                "ping": Ping,
                "collect_facts": CollectFacts,
                "rotate_key": RotateKey,
            }
            return Pinned(bare[other.kind]())


class CommandHandlers:
    """Queue, cancel and retry.

    Args:
        log: the event log.
        clock: now.
        new_id: for new commands.
        in_flight: which commands an agent may already have been handed.
        reads: says how much waits for an agent.
        touches: counts the agents that somebody has something run on, one by one.
        default_expiry: how long a command waits at the most, where its intent does not say.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        new_id: NewId,
        in_flight: InFlight,
        reads: CommandReads,
        touches: Touches,
        default_expiry: timedelta = DEFAULT_EXPIRY,
    ) -> None:
        self._log = log
        self._clock = clock
        self._new_id = new_id
        self._in_flight = in_flight
        self._reads = reads
        self._touches = touches
        self._default_expiry = default_expiry
        self._scripts = ScriptShelf(log)
        self._resolver = Resolver(log)

    async def _given(self, spec: Spec, agent: Agent, caller: Caller) -> Spec:
        """A spec with what its placeholders stand for now, on this agent."""
        widest = widest_for(caller.scope)
        resolved = await self._resolver.resolve([agent], data_in(spec), widest)
        return with_given(spec, resolved[agent.stream_id].must_be_whole(), widest)

    async def queue(self, intent: QueueCommand, caller: Caller, _stack: AsyncExitStack) -> Decision:
        must_be_fresh_for(intent.spec, caller)
        agent = await visible(self._log, caller, Agent, intent.agent_id)
        agent.must_take_commands()
        pinned = await pin(self._scripts, intent.spec, caller)
        pinned.must_run_on(agent.platform)
        now = self._clock()
        command = Command(self._new_id())
        queued = CommandQueued(
            agent_id=AgentId(agent.stream_id),
            client_id=agent.client_id,
            site_id=agent.site_id,
            spec=await self._given(pinned.spec, agent, caller),
            lane=lane_of(pinned.spec, intent.lane),
            priority=intent.priority,
            not_before=intent.not_before,
            expires_at=intent.expires_at or self._expiry(now, intent.not_before),
            retry=intent.retry.to_domain(),
            reason=intent.reason,
        )
        change = command.queue(queued, now)
        await self._must_have_room(agent, caller, intent.required())
        return Decision(changes=[change], answer=id_answer(command.stream_id), subject=command)

    async def _must_have_room(self, agent: Agent, caller: Caller, needs: Sequence[Permission]) -> None:
        """Refuse what would be one command too many: for its agent, or for somebody who may touch so many agents.

        What asks for nothing but the permission to queue (a ping, facts) touches nothing, and is not counted.

        Raises:
            QueueFullError: as much waits for the agent as may.
            TooManyAgentsError, NeedsApprovalError, FreshProofNeededError: see `must_touch_one`.
        """
        if await self._reads.waiting(agent.stream_id, MAX_WAITING) >= MAX_WAITING:
            raise QueueFullError
        if len(needs) > 1:
            where = Scope.of((), (Place(agent.site_id, agent.client_id),))
            await must_touch_one(self._touches, caller, needs, agent.stream_id, where, commands=True)

    def _expiry(self, now: datetime, not_before: datetime | None) -> datetime:
        return max(now, not_before or now) + self._default_expiry

    async def cancel(self, intent: CancelCommand, caller: Caller, stack: AsyncExitStack) -> Decision:
        agent_id = (await visible(self._log, caller, Command, intent.command_id)).queued.agent_id
        # From here until the decision is recorded no gateway can lease this agent's commands: what is not on its way
        # now will never be (invariant 5). The stream is read again, since it may have moved before the hold.
        in_flight = await stack.enter_async_context(self._in_flight.hold(agent_id))
        command = await visible(self._log, caller, Command, intent.command_id)
        changes = command.cancel(intent.reason, in_flight=command.stream_id in in_flight)
        state = "cancelled" if command.state is CommandState.CANCELLED else "cancel_requested"
        return Decision(changes=changes, answer=id_answer(command.stream_id) | {"state": state}, subject=command)

    async def prioritise(self, intent: PrioritiseCommand, caller: Caller, stack: AsyncExitStack) -> Decision:
        agent_id = (await visible(self._log, caller, Command, intent.command_id)).queued.agent_id
        # As above: what is not on its way now is leased with the new priority, or not at all before that is on record.
        in_flight = await stack.enter_async_context(self._in_flight.hold(agent_id))
        command = await visible(self._log, caller, Command, intent.command_id)
        changes = command.prioritise(intent.priority, in_flight=command.stream_id in in_flight)
        return Decision(changes=changes, answer=id_answer(command.stream_id), subject=command)

    async def retry(self, intent: RetryCommand, caller: Caller, _stack: AsyncExitStack) -> Decision:
        before = await visible(self._log, caller, Command, intent.command_id)
        before.must_have_ended()
        old = before.queued
        again = permissions_of(old.spec)
        if again:
            await visible(self._log, caller.asking(*again), Command, intent.command_id)
            must_be_fresh_for(old.spec, caller)
        agent = await visible(self._log, structs.replace(caller, if_match=None), Agent, old.agent_id)
        agent.must_take_commands()
        now = self._clock()
        command = Command(self._new_id())
        queued = CommandQueued(
            agent_id=old.agent_id,
            client_id=agent.client_id,
            site_id=agent.site_id,
            spec=await self._given(old.spec, agent, caller),
            lane=old.lane,
            priority=before.priority,
            expires_at=intent.expires_at or self._expiry(now, None),
            retry=old.retry,
            reason=intent.reason or old.reason,
            retry_of=CommandId(before.stream_id),
        )
        change = command.queue(queued, now)
        await self._must_have_room(agent, caller, (intent.needs, *again))
        return Decision(changes=[change], answer=id_answer(command.stream_id), subject=command)
