"""How far a rollout is: as one document, and as a stream of them.

A document is read from one snapshot of the database together with the log position that it shows. So a stream's events
are the exact state at their ids, and a client that comes back with the last of them is told what became of it since, in
one event, however much that was.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from starlette.responses import Response

from domain.rollout_pace import estimated_end, per_minute, recent_since
from domain.rollout_terms import Limits, Wave
from domain.rollouts import RolloutState
from gateways.rest.route import Call, found
from gateways.rest.sse import last_event_id, stream
from projections import tracking
from projections.errors import PositionTimeoutError
from projections.pages import Connection
from projections.replays import time_at
from projections.rollouts import STATES, RolloutRow, count_recent, count_states, get_rollout

READS = ("rollouts",)
LEAST_S = 0.25
"""Between two looks, however much happens."""
LOOK_SHARE = 20
"""Looking may take this part of the time: after a look that took long, the next one waits longer."""
IDLE_S = 1.0
GIVEN = ("queued", "delivered", "running")
Item = tuple[int | None, str, Any]


class Progress(msgspec.Struct, frozen=True):
    """How far it was."""

    position: int
    """Of the log: what is later is not in it."""
    row: RolloutRow
    counts: dict[int, dict[str, int]]
    pace: dict[str, Any]

    @property
    def shown(self) -> tuple[Any, ...]:
        """What a reader would see change; the pace alone changes with every moment."""
        return self.row.version, self.counts

    @property
    def over(self) -> bool:
        """Nothing more will happen by itself: an aborted one still waits for what runs."""
        if self.row.state is RolloutState.ABORTED:
            return not any(states.get(state) for states in self.counts.values() for state in GIVEN)
        return self.row.state is RolloutState.COMPLETED

    def document(self) -> dict[str, Any]:
        """As `RolloutWithCountsModel` describes it."""
        waves = [_wave_document(self.row, wave, self.counts) for wave in range(len(self.row.wave_sizes))]
        whole = {"counts": all_counts(*self.counts.values()), "waves": waves}
        return rollout_document(self.row) | whole | self.pace


async def progress_of(call: Call, connection: Connection, rollout_id: UUID) -> Progress:
    """How far a rollout is.

    Raises:
        NotFoundError: there is none that the caller sees.
    """
    if call.at is not None:
        # Nothing changes there, so it needs no moment of its own.
        position, now = call.at, await time_at(connection, call.at)
        row = found(await get_rollout(connection, rollout_id, client_ids=call.tenants), "rollout", rollout_id)
        counts = await count_states(connection, rollout_id)
        return Progress(position, row, counts, await _pace(connection, row, counts, now or call.parts.clock()))
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        position = (await tracking.read_positions(connection))["rollouts"].position
        row = found(await get_rollout(connection, rollout_id, client_ids=call.tenants), "rollout", rollout_id)
        counts = await count_states(connection, rollout_id)
        pace = await _pace(connection, row, counts, call.parts.clock())
    return Progress(position, row, counts, pace)


async def progress_stream(call: Call) -> Response:
    """Answer with `progress` whenever something changed, and one `end`."""
    told = last_event_id(call)
    async with call.connection() as connection:
        # Before the status goes out, so that one that is not there is a 404 and no empty stream.
        first = await progress_of(call, connection, call.path["rollout_id"])
    return stream(call, _while_it_stands(call, _progress(call, first, told)))


async def _while_it_stands(call: Call, told: AsyncGenerator[Item]) -> AsyncGenerator[Item]:
    """What the caller may is over, too, when their session's or key's time is; `_beyond` looks whether it is."""
    with call.standing.telling(lambda: None):
        async with aclosing(told):
            async for item in told:
                yield item


async def _progress(call: Call, progress: Progress, told: int | None) -> AsyncGenerator[Item]:
    loop = asyncio.get_running_loop()
    # Who comes back has seen the state at the position it names; the same one is not told again.
    shown = progress.shown if told is not None and told >= progress.position else None
    while True:
        if progress.over or progress.shown != shown:
            yield progress.position, "end" if progress.over else "progress", progress.document()
            shown = progress.shown
        if progress.over:
            return
        began = loop.time()
        if not await _beyond(call, progress.position):
            return
        async with call.connection() as connection:
            before = loop.time()
            progress = await progress_of(call, connection, progress.row.rollout_id)
            took = loop.time() - before
        await asyncio.sleep(max(LEAST_S - (loop.time() - began), LOOK_SHARE * took))


async def _beyond(call: Call, position: int) -> bool:
    """Wait until the read model is further; False where the process stops, or the caller may no longer see it."""
    while not (call.feed.leaving or call.standing.over):
        try:
            await call.parts.waiter.wait(position + 1, READS, IDLE_S)
        except PositionTimeoutError:
            continue
        return True
    return False


def rollout_document(row: RolloutRow) -> dict[str, Any]:
    """One rollout, as `RolloutModel` describes it."""
    order = msgspec.json.decode(row.command)
    return {
        "id": row.rollout_id,
        "position": row.position,
        "name": row.name,
        "state": row.state,
        "target": row.target,
        "order": {"lane": "default", "priority": 5, "not_before": None, "retry": {}, "hours": None} | order,
        "client_ids": row.client_ids,
        "targeted": row.targeted,
        "excluded": row.excluded,
        "wave": row.wave + 1,
        "wave_finished": row.wave_finished,
        "continues_at": row.continues_at,
        "open_until": row.open_until,
        "wave_sizes": row.wave_sizes,
        "limits": row.limits,
        "guard": row.guard,
        "reason": row.reason,
        "detail": row.detail,
        "actor": row.requester,
        "correlation_id": row.correlation_id,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "version": row.version,
    }


def all_counts(*parts: dict[str, int]) -> dict[str, int]:
    """Every state with its number, also where that is 0."""
    return {state: sum(part.get(state, 0) for part in parts) for state in STATES}


def _wave_document(row: RolloutRow, wave: int, counts: dict[int, dict[str, int]]) -> dict[str, Any]:
    told = row.waves[wave] if wave < len(row.waves) else {}
    finished = wave < row.wave or (wave == row.wave and row.wave_finished)
    return {
        "wave": wave + 1,
        "size": row.wave_sizes[wave],
        "state": "finished" if finished else "released" if wave == row.wave else "waiting",
        "manual": told.get("manual", False),
        "pause_s": told.get("pause_s", 0),
        "finished_percent": told.get("finished_percent", 100),
        "continues_at": row.continues_at if wave == row.wave else None,
        "counts": all_counts(counts.get(wave, {})),
    }


async def _pace(
    connection: Connection, row: RolloutRow, counts: dict[int, dict[str, int]], now: datetime
) -> dict[str, Any]:
    """How fast it goes, and until when."""
    until = row.ended_at or now
    since = recent_since(row.started_at, until)
    rate = per_minute(await count_recent(connection, row.rollout_id, since=since, until=until), row.started_at, until)
    whole, end = all_counts(*counts.values()), None
    if row.state is RolloutState.RUNNING:
        end = estimated_end(
            now,
            open_until=row.open_until,
            waiting=whole["waiting"],
            given=sum(whole[state] for state in GIVEN),
            rate=rate,
            limits=msgspec.convert(row.limits, Limits),
            waves=[msgspec.convert(wave, Wave) for wave in row.waves[row.wave : len(row.wave_sizes) - 1]],
        )
    return {"ended_per_minute": round(rate, 1), "estimated_end": end}
