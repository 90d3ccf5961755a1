"""Rollouts: what was asked of many, and how far each of them is.

Each agent of a rollout has one row that counts, from the moment the list is frozen; so the counts always add up to the
number targeted. The commands' ids are derived, and that alone tells a rollout's commands from others here: a fold
reads no row. The list is folded before the rollout itself appears (its events come in that order), so nobody sees a
rollout that is half there.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, LiteralString, Self
from uuid import UUID

import msgspec
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from domain.commands import (
    ENDINGS,
    OUTCOMES,
    CommandCancelled,
    CommandCancelRequested,
    CommandDelivered,
    CommandExpired,
    CommandFailed,
    CommandInterrupted,
    CommandQueued,
    CommandRejected,
    CommandRequeued,
    CommandStarted,
    CommandState,
    CommandSucceeded,
    CommandTimedOut,
    RunScript,
    state_after,
)
from domain.event import Event, Recorded
from domain.ids import is_derived
from domain.rollout_events import (
    Entry,
    RolloutAborted,
    RolloutAdvanced,
    RolloutClosed,
    RolloutCompleted,
    RolloutGrown,
    RolloutPaused,
    RolloutResumed,
    RolloutRetried,
    RolloutStarted,
    RolloutTargeted,
    RolloutWaveFinished,
    RolloutWaveReleased,
)
from domain.rollouts import RolloutState, command_id
from domain.scopes import Scope
from projections import sql
from projections.errors import FoldError
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, OfPast, Order, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection

WAITING = "waiting"
SKIPPED = "skipped"
STATES: tuple[str, ...] = (WAITING, *(state.value for state in CommandState), SKIPPED)
"""What an agent's part of a rollout can be in."""
FINAL = frozenset({SKIPPED, *(state.value for state in OUTCOMES)})
"""Those of them that never change."""
MAX_OUTCOMES = 200
READ_AT_ONCE = 2_000
_encode = msgspec.json.Encoder().encode


class RolloutRow(msgspec.Struct, frozen=True):
    rollout_id: UUID
    position: int
    name: str
    state: RolloutState
    client_ids: list[str]
    target: dict[str, Any]
    command: bytes
    """JSON of `domain.rollouts.Order`."""
    targeted: int
    excluded: dict[str, int]
    waves: list[dict[str, Any]]
    wave_sizes: list[int]
    limits: dict[str, Any]
    guard: dict[str, Any] | None
    wave: int
    wave_finished: bool
    continues_at: datetime | None
    open_until: datetime | None
    reason: str
    detail: str
    requester: str
    correlation_id: UUID
    started_at: datetime
    ended_at: datetime | None
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[3] = RolloutState(row[3])
        return cls(*cells)


class MemberRow(msgspec.Struct, frozen=True):
    """One agent's part."""

    agent_id: UUID
    agent: str | None
    client_id: UUID
    site_id: UUID
    command_id: UUID
    """The one that counts, or that it will get."""
    wave: int
    round: int
    state: str
    cancel_requested: bool
    exit_code: int | None
    stdout_sha256: str | None
    detail: str
    ended_at: datetime | None


class OutcomeRow(msgspec.Struct, frozen=True):
    """Agents to whom the same happened."""

    state: CommandState | None
    exit_code: int | None
    stdout_sha256: str | None
    agents: int
    example: UUID
    """One of their commands."""
    tail: str | None
    """The end of what it printed."""
    error_tail: str | None
    """The end of what it printed as errors."""


class SiteRow(msgspec.Struct, frozen=True):
    """How far a rollout is at one site, as that was when the list was made."""

    site_id: UUID
    client_id: UUID
    client: str | None
    site: str | None
    counts: dict[str, int]


_COMMAND_EVENTS: tuple[type[Event], ...] = (
    CommandQueued,
    CommandDelivered,
    CommandStarted,
    CommandRequeued,
    CommandSucceeded,
    CommandFailed,
    CommandTimedOut,
    CommandInterrupted,
    CommandRejected,
    CommandCancelRequested,
    CommandCancelled,
    CommandExpired,
)
_OF_COMMANDS = frozenset(_COMMAND_EVENTS)


class Rollouts(Projection):
    name: ClassVar[str] = "rollouts"
    strict: ClassVar[bool] = False
    """Other derived commands than those of rollouts are changes of rows that are not there."""
    folds: ClassVar[tuple[type[Event], ...]] = (
        RolloutTargeted,
        RolloutStarted,
        RolloutGrown,
        RolloutClosed,
        RolloutAdvanced,
        RolloutWaveFinished,
        RolloutWaveReleased,
        RolloutPaused,
        RolloutResumed,
        RolloutAborted,
        RolloutCompleted,
        RolloutRetried,
        *_COMMAND_EVENTS,
    )
    lists: ClassVar[tuple[type[Event], ...]] = (RolloutTargeted, RolloutGrown, RolloutRetried)

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        event, stream_id = recorded.event, recorded.originator_id
        if type(event) in _OF_COMMANDS:
            # First, since they are most of a log; and most of them are nobody's rollout: their ids are of version 7.
            if is_derived(stream_id):
                batch["rollout_commands"].update(stream_id, **_moved(event, recorded.recorded_at))
            return
        match event:
            case RolloutTargeted(entries=entries):
                _listed(batch, stream_id, entries)
            case RolloutStarted():
                batch["rollouts"].insert(stream_id, **_started(event, recorded))
            case (
                RolloutGrown()
                | RolloutClosed()
                | RolloutAdvanced()
                | RolloutWaveFinished()
                | RolloutWaveReleased()
                | RolloutPaused()
                | RolloutResumed()
                | RolloutAborted()
                | RolloutCompleted()
                | RolloutRetried()
            ):
                cells = _changed(batch, event, recorded)
                batch["rollouts"].update(stream_id, version=recorded.originator_version, **cells)
            case _:
                raise FoldError(f"{type(event).__name__} is not folded into rollouts.")


def _listed(batch: Batch, rollout_id: UUID, entries: Sequence[Entry]) -> None:
    for entry in entries:
        batch["rollout_commands"].insert(
            command_id(rollout_id, entry.agent_id, entry.round),
            rollout_id=rollout_id,
            agent_id=entry.agent_id,
            client_id=entry.client_id,
            site_id=entry.site_id,
            wave=entry.wave,
            round=entry.round,
            latest=True,
            state=WAITING,
            ended_as="",
            cancel_requested=False,
            exit_code=None,
            stdout_sha256=None,
            detail="",
            ended_at=None,
        )


def _started(event: RolloutStarted, recorded: Recorded) -> Cells:
    return {
        "position": recorded.position,
        "name": event.name,
        "state": RolloutState.RUNNING,
        "client_ids": event.client_ids,
        "target": event.target,
        "command": _encode(event.order),
        "script_id": event.order.spec.script_id if isinstance(event.order.spec, RunScript) else None,
        "targeted": event.targeted,
        "excluded": event.excluded,
        "waves": event.waves,
        "wave_sizes": event.wave_sizes,
        "limits": event.limits,
        "guard": event.guard,
        "wave": 0,
        "wave_finished": False,
        "continues_at": None,
        "open_until": event.joins.until if event.joins is not None else None,
        "reason": event.reason,
        "detail": "",
        "requester": recorded.actor,
        "correlation_id": recorded.correlation_id,
        "started_at": recorded.recorded_at,
        "ended_at": None,
        "version": recorded.originator_version,
    }


def _changed(  # noqa: C901, PLR0911, PLR0912 - a table of cases
    batch: Batch, event: Event, recorded: Recorded
) -> Cells:
    rollout_id, at = recorded.originator_id, recorded.recorded_at
    match event:
        case RolloutAdvanced(skipped=skipped):
            for skip in skipped:
                skipped_id = command_id(rollout_id, skip.agent_id, skip.round)
                batch["rollout_commands"].update(skipped_id, state=SKIPPED, ended_as=SKIPPED, detail=skip.reason)
            return {}
        case RolloutRetried(entries=entries):
            for entry in entries:
                before = command_id(rollout_id, entry.agent_id, entry.round - 1)
                batch["rollout_commands"].update(before, latest=False)
            _listed(batch, rollout_id, entries)
            return {"state": RolloutState.RUNNING, "ended_at": None, "detail": event.reason}
        case RolloutGrown(entries=entries):
            _listed(batch, rollout_id, entries)
            return {"targeted": event.targeted, "wave_sizes": event.wave_sizes, "client_ids": event.client_ids}
        case RolloutClosed():
            return {"open_until": None}
        case RolloutWaveFinished(continues_at=continues_at):
            return {"wave_finished": True, "continues_at": continues_at}
        case RolloutWaveReleased(wave=wave):
            return {"wave": wave, "wave_finished": False, "continues_at": None}
        case RolloutPaused(reason=reason):
            return {"state": RolloutState.PAUSED, "detail": reason}
        case RolloutResumed(reason=reason):
            return {"state": RolloutState.RUNNING, "detail": reason}
        case RolloutAborted(reason=reason):
            return {"state": RolloutState.ABORTED, "detail": reason, "ended_at": at}
        case RolloutCompleted():
            return {"state": RolloutState.COMPLETED, "detail": "", "ended_at": at}
        case _:
            raise FoldError(f"{type(event).__name__} is not folded into rollouts.")


def _moved(event: Event, at: datetime) -> Cells:
    """What an event of its command does to an agent's part."""
    if isinstance(event, CommandCancelRequested):
        return {"cancel_requested": True}
    state = state_after(event)
    cells: Cells = {"state": state}
    if type(event) in ENDINGS:
        cells |= {"ended_at": at, "ended_as": state}
    match event:
        case CommandSucceeded(result=result) | CommandFailed(result=result) | CommandTimedOut(result=result):
            cells |= {"exit_code": result.exit_code, "stdout_sha256": result.stdout.sha256 or None}
        case CommandInterrupted(result=result):
            cells |= {"exit_code": result.exit_code, "stdout_sha256": result.stdout.sha256 or None}
        case _:
            pass
    return cells


_SQL = sql.load("rollouts")
_BY_AGENT = Order("rollouts.agents", "agent_id", (UUID,))
_BY_SITE = Order("rollouts.sites", "site_id", (UUID,))


def _visible(query: Query, client_ids: Tenants) -> None:
    """A rollout is seen by those who see all that it is for (invariant 8)."""
    if client_ids is None or client_ids.everything:
        return
    if isinstance(client_ids, OfPast):
        # Others may have joined since: who sees it now sees what it was.
        now = Query("SELECT FROM read.rollouts AS now")
        now.where("now.rollout_id = rollouts.rollout_id")
        _within(now, client_ids, "now", "read.rollout_commands")
        query.where(f"EXISTS ({now.text()})", *now.arguments)
        return
    _within(query, client_ids, "rollouts", "rollout_commands")


def _within(query: Query, client_ids: Scope, rollouts: LiteralString, parts: LiteralString) -> None:
    # One that is open to all, and is nobody's yet, is seen by those alone who see all.
    of: LiteralString = f"{rollouts}.client_ids"
    whole = Jsonb([str(one) for one in client_ids.clients])
    if not client_ids.sites:
        query.where(f"{of} <@ %s AND {of} <> '[]'", whole)
        return
    # One that others may join is for whole clients. The first of its agents that is elsewhere ends the search,
    # rollout by rollout: as an anti-join it would begin with all agents of all rollouts.
    query.where(f"{of} <@ %s AND {of} <> '[]'", Jsonb([str(one) for one in client_ids.known_clients]))
    query.where(
        f"({of} <@ %s OR ({rollouts}.open_until IS NULL AND {rollouts}.targeted > 0 AND"  # noqa: S608 - names of our own
        f" (SELECT true FROM {parts} AS part WHERE part.rollout_id = {rollouts}.rollout_id"
        " AND NOT (part.client_id = ANY(%s::uuid[]) OR part.site_id = ANY(%s::uuid[])) LIMIT 1) IS NULL))",
        whole,
        list(client_ids.clients),
        list(client_ids.site_ids),
    )


async def list_rollouts(
    connection: Connection,
    *,
    client_ids: Tenants,
    state: RolloutState | None = None,
    client_id: UUID | None = None,
    script_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[RolloutRow]:
    """Rollouts that fit all that is given, newest first.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        state: only in this state.
        client_id: only those that reach agents of this client.
        script_id: only those that run this script.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    _visible(query, client_ids)
    if state is not None:
        query.where("state = %s", state.value)
    if client_id is not None:
        query.where("client_ids @> %s", Jsonb([str(client_id)]))
    if script_id is not None:
        query.where("script_id = %s", script_id)
    return await query.page(
        connection, RolloutRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_rollout(connection: Connection, rollout_id: UUID, *, client_ids: Tenants) -> RolloutRow | None:
    """One rollout, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("rollout_id = %s", rollout_id)
    _visible(query, client_ids)
    return await query.one(connection, RolloutRow.from_row)


async def read_all(connection: Connection, name: str, arguments: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The rows of a named statement of ``rollouts.sql``; however many they are, the loop has others to serve."""
    rows: list[tuple[Any, ...]] = []
    async with connection.cursor(binary=True, row_factory=tuple_row) as cursor:
        await cursor.execute(_SQL[name], arguments)
        while some := await cursor.fetchmany(READ_AT_ONCE):
            rows += some
            await asyncio.sleep(0)
    return rows


async def count_states(connection: Connection, rollout_id: UUID) -> dict[int, dict[str, int]]:
    """How many agents of each wave are in each state, where there are any. Whether it may be seen is judged before."""
    counts: dict[int, dict[str, int]] = {}
    for wave, state, total in await read_all(connection, "counts", {"rollout_id": rollout_id}):
        counts.setdefault(wave, {})[state] = total
    return counts


async def count_states_of(connection: Connection, rollout_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """How many agents of each of some rollouts are in each state. Whether they may be seen is judged before."""
    counts: dict[UUID, dict[str, int]] = {}
    for rollout_id, state, total in await read_all(connection, "counts_of", {"rollout_ids": list(rollout_ids)}):
        counts.setdefault(rollout_id, {})[state] = total
    return counts


async def count_recent(connection: Connection, rollout_id: UUID, *, since: datetime, until: datetime) -> int:
    """How many of its agents ended in that time. Whether it may be seen is judged before."""
    ((ended,),) = await read_all(connection, "recent", {"rollout_id": rollout_id, "since": since, "until": until})
    return int(ended)


async def list_sites(
    connection: Connection, rollout_id: UUID, *, cursor: str | None = None, limit: int = DEFAULT_LIMIT
) -> Page[SiteRow]:
    """How far it is at each site, by the site's id. Whether it may be seen is judged before."""
    query = Query(_SQL["sites"])
    query.where("rollout_id = %s", rollout_id)
    return await query.page(
        connection, lambda row: SiteRow(*row), _BY_SITE, cursor=cursor, limit=limit, key=lambda row: (row.site_id,)
    )


async def list_members(
    connection: Connection,
    rollout_id: UUID,
    *,
    states: Sequence[str] = (),
    wave: int | None = None,
    site_id: UUID | None = None,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[MemberRow]:
    """The agents of a rollout, by id. Whether it may be seen is judged before."""
    query = Query(_SQL["members"])
    query.where("rollout_id = %s AND latest", rollout_id)
    if len(states) == 1:
        query.where("ended_as = %s" if states[0] in FINAL else "ended_as = '' AND state = %s", states[0])
    elif states:
        query.where("state = ANY(%s)", list(states))
    if wave is not None:
        query.where("wave = %s", wave)
    if site_id is not None:
        query.where("site_id = %s", site_id)
    return await query.page(
        connection, lambda row: MemberRow(*row), _BY_AGENT, cursor=cursor, limit=limit, key=lambda row: (row.agent_id,)
    )


async def list_outcomes(
    connection: Connection,
    rollout_id: UUID,
    limit: int = MAX_OUTCOMES,
    *,
    by_ending: bool = True,
    by_output: bool = True,
) -> list[OutcomeRow]:
    """How its commands ended, those alike together, the most frequent first.

    Args:
        connection: to the database.
        rollout_id: of the rollout; whether it may be seen is judged before.
        limit: at most so many kinds of outcome.
        by_ending: alike are only those with the same state and exit code.
        by_output: alike are only those that printed the same.
    """
    alike = {"by_ending": by_ending, "by_output": by_output}
    rows = await read_all(connection, "outcomes", {"rollout_id": rollout_id, "limit": limit} | alike)
    return [OutcomeRow(CommandState(row[0]) if row[0] else None, *row[1:]) for row in rows]
