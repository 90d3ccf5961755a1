"""What agents say of their checks: changes, which are recorded, and what they measured last, which is telemetry."""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import structlog

from command_bus.context import Clock, NewId
from command_bus.event_log import ConflictError, EventLog
from command_bus.postgres import AsyncPool
from domain.checks import (
    MAX_DETAIL,
    AgentCheckChanged,
    AgentCheckEnded,
    CheckState,
    agent_check_stream,
)
from domain.errors import DomainError, InvalidValueError, NotYourCheckError
from domain.event import Change, Metadata, Recorded
from domain.ids import AgentId, CheckId, ClientId
from gateways.agents.check_lists import CheckLists
from gateways.cancelling import end
from projections.pages import Connection
from schema.checks import MAX_VALUES, STATES, CheckReport, CheckValue

_log = structlog.get_logger()
MAX_TRIES = 5
MAX_UNIT = 20
OLDEST = timedelta(days=400)
FLUSH_S = 5.0
MOST_WAITING = 100_000
"""Agents of which something is to be written; were there ever more, those that come then wait for their next hello."""


class CheckBusyError(DomainError):
    """Others kept changing the same story; report it again in a moment."""

    code = "busy_stream"
    status = 503


class CheckReports:
    """Records what checks find.

    Args:
        log: the event log.
        lists: which check is whose.
        clock: now.
        new_id: for correlation.
    """

    def __init__(self, log: EventLog, lists: CheckLists, clock: Clock, new_id: NewId) -> None:
        self._log = log
        self._lists = lists
        self._clock = clock
        self._new_id = new_id

    async def reported(self, agent_id: AgentId, client_id: ClientId, report: CheckReport) -> bool:
        """Record a state that is another than the last one; returns whether it was.

        Raises:
            NotYourCheckError: the agent was not given that check, or has it no more.
            InvalidValueError: the report is none.
            CheckBusyError: it is to be said again.
        """
        if report.state not in STATES:
            raise InvalidValueError(f"state: one of {', '.join(STATES)}.")
        given = self._lists.given(agent_id, report.check_id)
        if given is None:
            # Another process may have given it this very moment.
            await self._lists.look()
            given = self._lists.given(agent_id, report.check_id)
        if given is None:
            raise NotYourCheckError
        stream_id = agent_check_stream(agent_id, report.check_id)
        for _ in range(MAX_TRIES):
            head = (await self._log.read_heads([stream_id])).get(stream_id)
            event = self._changed(head, report, given.terms.name)
            if event is None:
                return False
            change = Change(stream_id, head.originator_version + 1 if head else 1, event, agent_id, client_id)
            metadata = Metadata(actor=f"agent:{agent_id}", correlation_id=self._new_id(), causation_id=report.check_id)
            try:
                await self._log.append([change], metadata)
            except ConflictError:
                continue
            return True
        raise CheckBusyError

    def _changed(self, head: Recorded | None, report: CheckReport, name: str) -> AgentCheckChanged | None:
        last = head.event if head is not None else None
        was: CheckState | None = None
        if isinstance(last, AgentCheckChanged):
            was = last.state
            if last.number == report.number and last.since == report.since:
                return None  # its acknowledgement was lost
        state = CheckState(report.state)
        # That a check passes which never did anything else there is nothing to remember.
        if state is was or (state is CheckState.PASSING and (was is None or isinstance(last, AgentCheckEnded))):
            return None
        now = self._clock()
        return AgentCheckChanged(
            check_id=CheckId(report.check_id),
            check=name,
            revision=report.revision,
            was=was,
            state=state,
            value=_finite(report.value),
            unit=_line(report.unit, MAX_UNIT),
            since=min(now, max(report.since.astimezone(UTC), now - OLDEST)),
            number=report.number,
            detail=_line(report.detail, MAX_DETAIL),
        )


class CheckTold:
    """Gathers what agents say of their checks in hellos, and writes it every few seconds.

    Args:
        pool: to the database.
        lists: which check is whose.
    """

    def __init__(self, pool: AsyncPool, lists: CheckLists) -> None:
        self._pool = pool
        self._lists = lists
        self._taken: dict[UUID, str] = {}
        """As it was written last, of those who said it here."""
        self._waiting: dict[UUID, dict[str, Any]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, agent_id: AgentId, taken: str, values: Sequence[CheckValue]) -> None:
        """Take what an agent says of the checks that it was given."""
        found = {
            str(one.check_id): {
                "at": one.at.isoformat(),
                "state": one.state,
                "value": _finite(one.value),
                "detail": _line(one.detail, MAX_DETAIL),
            }
            for one in values[:MAX_VALUES]
            if one.state in STATES and self._lists.given(agent_id, one.check_id) is not None
        }
        right = taken == self._lists.digest(agent_id)
        if not found and (not right or self._taken.get(agent_id) == taken):
            return
        if len(self._waiting) >= MOST_WAITING and agent_id not in self._waiting:
            return
        self._waiting.setdefault(agent_id, {}).update(found)
        if right:
            self._taken[agent_id] = self._lists.digest(agent_id)  # one text for all that have the same list

    async def start(self) -> None:
        self._task = asyncio.create_task(self._for_ever(), name="check-told")

    async def stop(self) -> None:
        """Write what waits, if the database is there."""
        if self._task is not None:
            await end((self._task,))
        with contextlib.suppress(psycopg.OperationalError):
            await self.flush()

    async def flush(self) -> None:
        """Write what waits.

        Raises:
            psycopg.OperationalError: the database is away; what waits is lost, and is said again by the next hellos.
        """
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        # In order, so that two processes that write the same rows do not wait for each other in a circle.
        agents = sorted(waiting)
        async with self._pool.connection() as connection:
            await connection.execute(
                "INSERT INTO fleetlog.check_told AS t (agent_id, taken, found)"
                " SELECT agent_id, taken, found::jsonb FROM unnest(%s::uuid[], %s::text[], %s::text[])"
                " AS new (agent_id, taken, found) WHERE EXISTS (SELECT FROM fleetlog.check_lists AS l"
                " WHERE l.agent_id = new.agent_id AND l.checks <> '{}')"
                " ON CONFLICT (agent_id) DO UPDATE SET taken = excluded.taken, found = t.found || excluded.found",
                (
                    agents,
                    [self._taken.get(one, "") for one in agents],
                    [msgspec.json.encode(waiting[one]).decode() for one in agents],
                ),
            )

    async def _for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except psycopg.OperationalError as error:
                _log.info("check_told_waiting", error=str(error).strip())


class Measured(msgspec.Struct, frozen=True):
    """What an agent said of a check last."""

    at: datetime
    state: CheckState
    value: float | None = None
    detail: str = ""


class OfAgent(msgspec.Struct, frozen=True):
    """Which checks an agent is to measure, and what it says of them."""

    check_ids: tuple[UUID, ...] = ()
    taken: str = ""
    """The digest of the list that it has."""
    measured: dict[UUID, Measured] = {}


async def read_told(connection: Connection, agent_id: UUID) -> OfAgent:
    """Of one agent; the caller has seen to it that it may be seen."""
    row = await (
        await connection.execute(
            "SELECT l.checks, t.taken, t.found FROM fleetlog.check_lists AS l"
            " LEFT JOIN fleetlog.check_told AS t USING (agent_id) WHERE l.agent_id = %s",
            (agent_id,),
        )
    ).fetchone()
    if row is None:
        return OfAgent()
    check_ids, taken, found = row
    measured = {UUID(one): msgspec.convert(said, Measured) for one, said in (found or {}).items()}
    return OfAgent(tuple(check_ids), taken or "", measured)


async def count_given(connection: Connection, check_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many agents are to measure each of some checks."""
    rows = await (
        await connection.execute(
            "SELECT wanted.check_id, (SELECT count(*) FROM fleetlog.check_lists AS l"
            " WHERE l.checks @> ARRAY[wanted.check_id]) FROM unnest(%s::uuid[]) AS wanted (check_id)",
            (list(check_ids),),
        )
    ).fetchall()
    return dict(rows)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _line(text: str, most: int) -> str:
    """One line of printable text."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * most])
    return " ".join(shown.split())[:most]
