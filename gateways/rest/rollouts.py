"""Rollouts: plan, start, watch, steer."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.errors import FreshProofNeededError
from command_bus.intents.commands import Retry
from command_bus.intents.hours import Hours
from command_bus.intents.rollouts import (
    AbortRollout,
    CloseRollout,
    Guard,
    Limits,
    PauseRollout,
    PlanRollout,
    ReleaseRollout,
    ResumeRollout,
    RetryRollout,
    StartRollout,
    Target,
)
from domain.commands import CommandState
from domain.errors import (
    BadPlaceholderError,
    EmptyRolloutError,
    ExpiryBeforeStartError,
    ExpiryInPastError,
    InvalidFilterError,
    NeverJoinsError,
    NotFoundError,
    NothingToRetryError,
    NoWaveLeftError,
    PlaceholderInCodeError,
    RolloutEndedError,
    RolloutNotOpenError,
    RolloutNotPausedError,
    RolloutPausedError,
    ScriptArchivedError,
    SecretInArgumentError,
    TooManyAgentsError,
    UnknownRevisionError,
    UnresolvedPlaceholderError,
)
from domain.ids import ClientId
from domain.output_reads import NOT_SHOWN, OutputRead, Way
from domain.permissions import Permission
from domain.rollouts import RolloutState
from gateways.rest.output_reads import where_readable
from gateways.rest.rollout_progress import READS, all_counts, progress_of, progress_stream, rollout_document
from gateways.rest.route import (
    EVENT_STREAM,
    Answer,
    Call,
    Model,
    PageOf,
    PageQuery,
    ReadQuery,
    Route,
    found,
    json_response,
    one,
    page_of,
    write,
)
from gateways.rest.specs import ShownSpec
from projections.rollouts import (
    STATES,
    MemberRow,
    OutcomeRow,
    RolloutRow,
    SiteRow,
    count_states_of,
    get_rollout,
    list_members,
    list_outcomes,
    list_sites,
)
from projections.rollouts import list_rollouts as read_rollouts

TAG = "Rollouts"
_REFUSED = (
    NotFoundError,
    InvalidFilterError,
    NeverJoinsError,
    EmptyRolloutError,
    ExpiryInPastError,
    ExpiryBeforeStartError,
    ScriptArchivedError,
    UnknownRevisionError,
    TooManyAgentsError,
    BadPlaceholderError,
    PlaceholderInCodeError,
    SecretInArgumentError,
    UnresolvedPlaceholderError,
)
MemberState = Literal[
    "waiting",
    "queued",
    "delivered",
    "running",
    "succeeded",
    "failed",
    "timed_out",
    "interrupted",
    "rejected",
    "cancelled",
    "expired",
    "skipped",
]


class CountsModel(Model):
    """How many agents are in which state. Together they are all that are targeted, always."""

    waiting: int = Field(description="Without a command yet; of an aborted rollout, for good.")
    queued: int
    delivered: int
    running: int
    succeeded: int
    failed: int
    timed_out: int
    interrupted: int
    rejected: int
    cancelled: int
    expired: int
    skipped: int = Field(description="Got none: retired, suspended or moved to another client since the start.")


class WaveModel(Model):
    """A part of the agents."""

    wave: int = Field(description="From 1.")
    size: int
    state: Literal["waiting", "released", "finished"]
    manual: bool = Field(description="The next wave waits to be released.")
    pause_s: int
    finished_percent: int
    continues_at: AwareDatetime | None = Field(description="When the next wave begins by itself.")
    counts: CountsModel


class OrderModel(Model):
    """The command that each agent gets."""

    spec: ShownSpec
    lane: str
    priority: int
    not_before: AwareDatetime | None
    expires_in_s: int
    retry: Retry
    hours: Hours | None


class RolloutModel(Model):
    """One intent for many agents."""

    id: UUID
    position: int
    name: str
    state: RolloutState
    target: Target
    order: OrderModel
    client_ids: list[UUID] = Field(description="Of all who are targeted. Who does not see all of them does not see it.")
    targeted: int
    excluded: dict[str, int] = Field(description="How many the target includes that got no place, by reason.")
    wave: int = Field(description="The last one that was released, from 1.")
    wave_finished: bool
    continues_at: AwareDatetime | None = Field(description="When the next wave begins by itself.")
    open_until: AwareDatetime | None = Field(description="Agents that come to match are taken in until then.")
    wave_sizes: list[int]
    limits: Limits
    guard: Guard | None
    reason: str
    detail: str = Field(description="Why it is in its state, where that was said.")
    actor: str = Field(description="Who started it.")
    correlation_id: UUID
    started_at: AwareDatetime
    ended_at: AwareDatetime | None
    version: int
    counts: CountsModel | None = Field(description="Null in a list that did not ask for them.")


class RolloutWithCountsModel(RolloutModel):
    """One rollout, and how far it is."""

    counts: CountsModel
    waves: list[WaveModel]
    ended_per_minute: float = Field(description="Agents whose part ended, over the last five minutes of its time.")
    estimated_end: AwareDatetime | None = Field(
        description="When all will have ended if it goes on like that; null where nobody can say: it does not run, "
        "nothing ends, or a wave waits for a person."
    )


class SiteModel(Model):
    """How far a rollout is at one site: of its agents that were there when the list was made."""

    site_id: UUID
    site: str | None = Field(description="Its name.")
    client_id: UUID
    client: str | None = Field(description="The client's name.")
    counts: CountsModel


class MemberModel(Model):
    """One agent's part of a rollout."""

    agent_id: UUID
    agent: str | None = Field(description="Its name.")
    client_id: UUID
    site_id: UUID
    command_id: UUID = Field(description="Its last command, or the one that it will get.")
    wave: int = Field(description="From 1.")
    round: int = Field(description="1, and one more with each retry.")
    state: MemberState
    cancel_requested: bool
    exit_code: int | None
    stdout_sha256: str | None
    detail: str = Field(description="Why it was skipped.")
    ended_at: AwareDatetime | None


class OutcomeModel(Model):
    """Agents to whom the same happened, in what was asked for: ending and exit code, output, or all of it."""

    state: CommandState | None
    exit_code: int | None
    stdout_sha256: str | None = Field(description="Of all that they printed; null if that was nothing.")
    agents: int
    example: UUID = Field(description="One of their commands.")
    tail: str | None = Field(description="The end of what it printed.")
    error_tail: str | None = Field(
        description="The end of what it printed as errors: of the example; what the others printed there may differ."
    )


class OutcomesModel(Model):
    """The most frequent first, at most 200."""

    items: list[OutcomeModel]


class StartAnswer(Answer):
    """A rollout that has begun."""

    targeted: int


class LeftOutModel(Model):
    """An agent that the target includes and that gets no command."""

    agent_id: UUID
    reason: str


class PlanAnswer(Model):
    """Whom a rollout would reach. Nothing was started."""

    targeted: int
    waves: list[int] = Field(description="How many agents each wave would hold.")
    open_until: AwareDatetime | None = Field(description="Those that come to match until then would be taken in, too.")
    excluded: dict[str, int] = Field(description="How many the target includes that would get no command, by reason.")
    agents: list[UUID] = Field(description="Who would; at most 500.")
    left_out: list[LeftOutModel] = Field(description="Who would not, and why; at most 500.")
    position: int = Field(description="Of the log when this was found.")
    version: None = None


class RolloutsQuery(PageQuery):
    state: RolloutState | None = None
    client_id: UUID | None = Field(default=None, description="Only those that reach agents of this client.")
    script_id: UUID | None = Field(default=None, description="Only those that run this script.")
    counts: bool = Field(default=False, description="Say of each how many agents are in which state.")


class OutcomesQuery(ReadQuery):
    by: Literal["all", "exit_code", "output"] = Field(
        default="all",
        description="What makes agents alike: ending, exit code and output; only the first two; only the output.",
    )


class MembersQuery(PageQuery):
    state: list[MemberState] = Field(default=[], max_length=len(STATES), description="May be repeated: any of them.")
    wave: int | None = Field(default=None, ge=1, le=1000, description="From 1.")
    site_id: UUID | None = Field(default=None, description="Only those that were at this site when the list was made.")


def member_document(row: MemberRow) -> dict[str, Any]:
    """One agent's part, as `MemberModel` describes it."""
    return msgspec.structs.asdict(row) | {"wave": row.wave + 1}


def site_document(row: SiteRow) -> dict[str, Any]:
    """How far it is at one site, as `SiteModel` describes it."""
    return msgspec.structs.asdict(row) | {"counts": all_counts(row.counts)}


def outcome_document(row: OutcomeRow, *, outputs: bool) -> dict[str, Any]:
    """Agents to whom the same happened, as `OutcomeModel` describes them."""
    shown = msgspec.structs.asdict(row)
    return shown if outputs else shown | {one: NOT_SHOWN for one in ("tail", "error_tail") if shown[one]}


async def list_rollouts(call: Call) -> Response:
    query: RolloutsQuery = call.query
    async with call.connection() as connection:
        page = await read_rollouts(
            connection,
            client_ids=call.tenants,
            state=query.state,
            client_id=query.client_id,
            script_id=query.script_id,
            cursor=query.cursor,
            limit=query.limit,
        )
        counts = await count_states_of(connection, [row.rollout_id for row in page.items]) if query.counts else None

    def document(row: RolloutRow) -> dict[str, Any]:
        told = None if counts is None else all_counts(counts.get(row.rollout_id, {}))
        return rollout_document(row) | {"counts": told}

    return page_of(page, document)


async def show(call: Call) -> Response:
    async with call.connection() as connection:
        progress = await progress_of(call, connection, call.path["rollout_id"])
    return one(progress.document(), progress.row.version)


async def sites(call: Call) -> Response:
    query: PageQuery = call.query
    rollout_id = call.path["rollout_id"]
    async with call.connection() as connection:
        found(await get_rollout(connection, rollout_id, client_ids=call.tenants), "rollout", rollout_id)
        page = await list_sites(connection, rollout_id, cursor=query.cursor, limit=query.limit)
    return page_of(page, site_document)


async def members(call: Call) -> Response:
    query: MembersQuery = call.query
    rollout_id = call.path["rollout_id"]
    async with call.connection() as connection:
        found(await get_rollout(connection, rollout_id, client_ids=call.tenants), "rollout", rollout_id)
        page = await list_members(
            connection,
            rollout_id,
            states=query.state,
            wave=query.wave - 1 if query.wave is not None else None,
            site_id=query.site_id,
            cursor=query.cursor,
            limit=query.limit,
        )
    return page_of(page, member_document)


async def outcomes(call: Call) -> Response:
    query: OutcomesQuery = call.query
    rollout_id = call.path["rollout_id"]
    async with call.connection() as connection:
        rollout = found(await get_rollout(connection, rollout_id, client_ids=call.tenants), "rollout", rollout_id)
        rows = await list_outcomes(
            connection, rollout_id, by_ending=query.by != "output", by_output=query.by != "exit_code"
        )
    shown = not call.caller.access.scope(Permission.COMMANDS_OUTPUT).empty
    if shown and (narrowed := where_readable(call)).tenants is not None:
        async with call.connection() as connection:
            shown = await get_rollout(connection, rollout_id, client_ids=narrowed.tenants) is not None
    if shown and any(row.tail or row.error_tail for row in rows):
        # One for all of them, however many they are.
        client_id = rollout.client_ids[0] if len(rollout.client_ids) == 1 else None
        read = OutputRead(
            way=Way.OUTCOMES,
            rollout_id=rollout_id,
            client_id=ClientId(UUID(client_id)) if client_id is not None else None,
        )
        await call.outputs.read(read, call.caller)
    return json_response({"items": [outcome_document(row, outputs=shown) for row in rows]})


ROUTES: tuple[Route, ...] = (
    write(
        "POST",
        "/rollouts",
        StartRollout,
        tag=TAG,
        status=202,
        response=StartAnswer,
        bulk=True,
        location="/rollouts/{id}",
        errors=_REFUSED,
    ),
    write("POST", "/rollouts/plan", PlanRollout, tag=TAG, response=PlanAnswer, errors=_REFUSED, bulk=True),
    Route(
        method="GET",
        path="/rollouts",
        needs=Permission.ROLLOUTS_SEE,
        summary="Rollouts, newest first.",
        tag=TAG,
        handler=list_rollouts,
        query=RolloutsQuery,
        response=PageOf[RolloutModel],
        reads=READS,
    ),
    Route(
        method="GET",
        path="/rollouts/{rollout_id}",
        needs=Permission.ROLLOUTS_SEE,
        summary="One rollout, and how far it is.",
        description="The counts of all states together are the number targeted, at any moment.",
        tag=TAG,
        handler=show,
        query=ReadQuery,
        response=RolloutWithCountsModel,
        reads=READS,
        etag=True,
    ),
    Route(
        method="GET",
        path="/rollouts/{rollout_id}/stream",
        needs=Permission.ROLLOUTS_SEE,
        summary="How far it is, as it goes on.",
        description="Server-sent events: `progress` whenever something changed, and `end` once it is over (of an "
        "aborted one: once nothing runs any more). Each holds the whole, as `GET /rollouts/{id}` gives it, and is the "
        "exact state at the log position that is its `id`; a client that comes back with `Last-Event-ID` is told what "
        "became of it since. The single events are in `/events/stream`, by its `correlation_id`.",
        tag=TAG,
        handler=progress_stream,
        query=ReadQuery,
        response=RolloutWithCountsModel,
        media_type=EVENT_STREAM,
        reads=READS,
        streams=True,
    ),
    Route(
        method="GET",
        path="/rollouts/{rollout_id}/agents",
        needs=Permission.ROLLOUTS_SEE,
        summary="Its agents, with the state that each is in.",
        tag=TAG,
        handler=members,
        query=MembersQuery,
        response=PageOf[MemberModel],
        reads=("rollouts", "agents"),
    ),
    Route(
        method="GET",
        path="/rollouts/{rollout_id}/sites",
        needs=Permission.ROLLOUTS_SEE,
        summary="How far it is at each site.",
        tag=TAG,
        handler=sites,
        query=PageQuery,
        response=PageOf[SiteModel],
        reads=("rollouts", "clients"),
    ),
    Route(
        method="GET",
        path="/rollouts/{rollout_id}/outcomes",
        needs=Permission.ROLLOUTS_SEE,
        summary="How its commands ended: those alike together.",
        tag=TAG,
        handler=outcomes,
        query=OutcomesQuery,
        response=OutcomesModel,
        reads=("rollouts", "commands"),
    ),
    write(
        "POST",
        "/rollouts/{rollout_id}/pause",
        PauseRollout,
        tag=TAG,
        errors=(NotFoundError, RolloutEndedError, RolloutPausedError),
    ),
    write(
        "POST",
        "/rollouts/{rollout_id}/resume",
        ResumeRollout,
        tag=TAG,
        errors=(NotFoundError, RolloutEndedError, RolloutNotPausedError, FreshProofNeededError, TooManyAgentsError),
    ),
    write(
        "POST",
        "/rollouts/{rollout_id}/release",
        ReleaseRollout,
        tag=TAG,
        errors=(NotFoundError, RolloutEndedError, NoWaveLeftError, FreshProofNeededError, TooManyAgentsError),
    ),
    write(
        "POST",
        "/rollouts/{rollout_id}/close",
        CloseRollout,
        tag=TAG,
        errors=(NotFoundError, RolloutEndedError, RolloutNotOpenError),
    ),
    write("POST", "/rollouts/{rollout_id}/abort", AbortRollout, tag=TAG, errors=(NotFoundError, RolloutEndedError)),
    write(
        "POST",
        "/rollouts/{rollout_id}/retry-failed",
        RetryRollout,
        tag=TAG,
        errors=(NotFoundError, RolloutEndedError, NothingToRetryError, TooManyAgentsError),
        bulk=True,
    ),
)
