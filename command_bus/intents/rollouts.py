"""Intents about rollout_terms."""

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, Strict

from command_bus.bus import Intent
from command_bus.intents.commands import Retry, Spec, permissions_of
from command_bus.intents.hours import Hours
from command_bus.intents.matching import Matching
from command_bus.intents.times import Moment
from domain import commands, facts_filter, rollout_terms
from domain.agents import MAX_TAG_LENGTH, MachineType, Platform
from domain.ids import AgentId, ClientId, SiteId
from domain.permissions import Permission

Percent = Annotated[int, Strict(), Field(ge=0, le=100)]
Reason = Annotated[str, Field(max_length=2000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Selector(_Part):
    clients: list[UUID] = Field(default=[], max_length=1000)
    sites: list[UUID] = Field(default=[], max_length=1000)
    agents: list[UUID] = Field(default=[], max_length=20_000)
    tags: list[Annotated[str, Field(min_length=1, max_length=MAX_TAG_LENGTH)]] = Field(
        default=[], max_length=64, description="Agents that have any of them."
    )
    platforms: list[Platform] = Field(default=[], max_length=len(Platform))
    online: bool | None = None
    machine_types: list[MachineType] = Field(
        default=[], max_length=len(MachineType), description="As the fact `machine_type` tells it."
    )
    filter: str = Field(
        default="",
        max_length=facts_filter.MAX_LENGTH,
        description='Over facts, as `facts.os_id = "debian" and facts.memory_bytes > 4e9`.',
    )
    matching: Matching | None = Field(
        default=None, description="Agents that `GET /agents` finds by this, when the list is made. Not an empty one."
    )

    def to_domain(self, *, everything: bool = False) -> rollout_terms.Selector:
        return rollout_terms.Selector(
            everything=everything,
            clients=tuple(ClientId(one) for one in dict.fromkeys(self.clients)),
            sites=tuple(SiteId(one) for one in dict.fromkeys(self.sites)),
            agents=tuple(AgentId(one) for one in dict.fromkeys(self.agents)),
            tags=tuple(dict.fromkeys(self.tags)),
            platforms=tuple(dict.fromkeys(self.platforms)),
            online=self.online,
            machine_types=tuple(dict.fromkeys(self.machine_types)),
            filter=self.filter,
            matching=self.matching.to_domain() if self.matching is not None else None,
        )


class Include(_Selector):
    """Agents of the named clients, sites, agents and tags, those that match, or everything; all else narrows that."""

    everything: bool = Field(default=False, description="All agents that you see.")


class Exclude(_Selector):
    """Agents to leave out: any match is enough."""


class Target(_Part):
    """Whom it is for. Resolved when the rollout starts."""

    include: Include
    exclude: Exclude = Exclude()

    def to_domain(self) -> rollout_terms.Target:
        return rollout_terms.Target(
            include=self.include.to_domain(everything=self.include.everything), exclude=self.exclude.to_domain()
        )


class Wave(_Part):
    """A part of the agents, by percent of all or by count, and what has to happen before the next part."""

    percent: Annotated[int, Strict(), Field(ge=1, le=100)] | None = None
    count: Annotated[int, Strict(), Field(ge=1, le=10_000_000)] | None = None
    manual: bool = Field(default=False, description="The next wave waits to be released.")
    pause_s: Annotated[int, Strict(), Field(ge=0, le=rollout_terms.MAX_PAUSE_S)] = Field(
        default=0, description="Seconds between the end of this wave and the next one."
    )
    finished_percent: Percent = Field(
        default=100, description="The wave counts as finished when so much of what was handed out so far has ended."
    )

    def to_domain(self) -> rollout_terms.Wave:
        return rollout_terms.Wave(**self.model_dump())


class Limits(_Part):
    """How fast; null does not limit."""

    in_flight: Annotated[int, Strict(), Field(ge=1, le=rollout_terms.MAX_IN_FLIGHT)] | None = Field(
        default=None, description="Commands that are queued and have not ended."
    )
    per_minute: Annotated[int, Strict(), Field(ge=1, le=rollout_terms.MAX_PER_MINUTE)] | None = Field(
        default=None, description="Agents that get their command in any one minute."
    )

    def to_domain(self) -> rollout_terms.Limits:
        return rollout_terms.Limits(in_flight=self.in_flight, per_minute=self.per_minute)


class Guard(_Part):
    """Stops the rollout by itself when too much goes wrong. At least one limit; null does not limit."""

    max_failed_percent: Percent | None = Field(
        default=None,
        description="Of those that ended, so many failed, timed out, were interrupted or rejected, or expired; more "
        "trips it.",
    )
    max_timed_out_percent: Percent | None = Field(default=None, description="Of those that ended.")
    max_unanswered_percent: Percent | None = Field(
        default=None, description="Of those that ended or did not answer within `answer_within_s`."
    )
    answer_within_s: Annotated[int, Strict(), Field(ge=1, le=rollout_terms.MAX_PAUSE_S)] | None = Field(
        default=None,
        description="An agent does not answer if it has had its command for so long without an ending, or has been "
        "online for so long without taking it; and ten seconds more, since its answer may be on record and not read "
        "yet. One that is simply away is waited for.",
    )
    min_ended: Annotated[int, Strict(), Field(ge=1, le=10_000_000)] = Field(
        default=10, description="Nothing is judged before so many have ended (or did not answer, where that counts)."
    )
    action: Literal["pause", "abort"] = "pause"

    def to_domain(self) -> rollout_terms.Guard:
        return rollout_terms.Guard(**self.model_dump() | {"action": rollout_terms.GuardAction(self.action)})


class StartRollout(Intent):
    """Give many agents a command each, in waves and within limits.

    Whom the target means is resolved now, and does not change later unless `joins_within_s` says so.
    """

    needs: ClassVar[Permission] = Permission.ROLLOUTS_START

    name: str = Field(min_length=1, max_length=200)
    target: Target
    spec: Spec
    lane: str = Field(default=commands.DEFAULT_LANE, pattern=r"^[A-Za-z0-9_-]{1,40}$")
    priority: Annotated[int, Strict(), Field(ge=0, le=commands.MAX_PRIORITY)] = Field(
        default=commands.DEFAULT_PRIORITY, description="0 goes first, 9 last."
    )
    not_before: Moment | None = Field(default=None, description="No command is delivered before this time.")
    expires_in_s: Annotated[int, Strict(), Field(ge=1, le=int(commands.MAX_EXPIRY.total_seconds()))] | None = Field(
        default=None,
        description="Each command expires so long after it was queued (or after not_before or the opening of its "
        "hours, where that is later); null means the default.",
    )
    hours: Hours | None = Field(default=None, description="Commands begin only within these; null means at any time.")
    retry: Retry = Retry()
    joins_within_s: Annotated[int, Strict(), Field(ge=1, le=rollout_terms.MAX_JOINS_S)] | None = Field(
        default=None,
        description="Agents that enroll, or come to match the target, within so many seconds are taken in as well, "
        "with the last wave; null freezes the list.",
    )
    waves: list[Wave] = Field(
        default=[], max_length=rollout_terms.MAX_WAVES, description="What they leave over is a last wave of its own."
    )
    limits: Limits = Limits()
    guard: Guard | None = None
    reason: Reason = Field(default="", description="Why; shown in the story of each command, too.")

    def required(self) -> tuple[Permission, ...]:
        """Besides its own, what the kind of command needs."""
        return self.needs, *permissions_of(self.spec)


class PlanRollout(StartRollout):
    """Say whom a rollout would reach, in which waves, and who is left out and why; nothing is started."""


class PauseRollout(Intent):
    """Queue no more commands of a rollout; those that are queued go on."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_STEER

    rollout_id: UUID
    reason: Reason = ""


class ResumeRollout(Intent):
    """Go on with a paused rollout. What its guard has judged, it does not judge again."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_STEER

    rollout_id: UUID
    reason: Reason = ""


class ReleaseRollout(Intent):
    """Begin a rollout's next wave now, whatever it waits for."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_STEER

    rollout_id: UUID
    reason: Reason = ""


class CloseRollout(Intent):
    """Let nobody join an open rollout any more; those that are in it go on."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_STEER

    rollout_id: UUID
    reason: Reason = ""


class AbortRollout(Intent):
    """End a rollout: what is queued is cancelled, what runs is let finish."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_STEER

    rollout_id: UUID
    reason: Reason = ""


class RetryRollout(Intent):
    """Give a new command to each agent of a rollout whose last one failed, and to no other."""

    needs: ClassVar[Permission] = Permission.ROLLOUTS_START

    rollout_id: UUID
    reason: Reason = ""
