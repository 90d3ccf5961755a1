"""The history of commands: what was asked of whom, how far it is, and what came of it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import msgspec

from domain.commands import (
    ENDINGS,
    CommandCancelled,
    CommandCancelRequested,
    CommandDelivered,
    CommandExpired,
    CommandFailed,
    CommandInterrupted,
    CommandPriorityChanged,
    CommandQueued,
    CommandRejected,
    CommandRequeued,
    CommandStarted,
    CommandState,
    CommandSucceeded,
    CommandTimedOut,
    LateResultRecorded,
    Result,
    RunScript,
    Spec,
    state_after,
)
from domain.event import Event, Recorded
from projections import sql
from projections.errors import FoldError
from projections.pages import BY_POSITION, DEFAULT_LIMIT, Connection, Page, Query, Tenants
from projections.projection import Batch, Cells, Projection

_encode = msgspec.json.Encoder().encode


class CommandRow(msgspec.Struct, frozen=True):
    command_id: UUID
    agent_id: UUID
    client_id: UUID
    site_id: UUID
    position: int
    kind: str
    script_id: UUID | None
    script_revision: int | None
    spec: bytes
    """JSON of `domain.commands.Spec`."""
    retry: dict[str, Any]
    lane: str
    priority: int
    state: CommandState
    attempt: int
    queued_at: datetime
    not_before: datetime | None
    expires_at: datetime
    delivered_at: datetime | None
    """Of the present attempt, as is ``started_at``."""
    started_at: datetime | None
    ended_at: datetime | None
    exit_code: int | None
    requester: str
    """The actor who queued it."""
    reason: str
    retry_of: UUID | None
    correlation_id: UUID
    cancel_requested: bool
    ending: str
    """Why it ended as it did, where that was said."""
    result: dict[str, Any] | None
    """`domain.commands.Result` of the last attempt that reported one, without what is empty."""
    late_result: dict[str, Any] | None
    stdout_sha256: str | None
    stderr_sha256: str | None
    version: int

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> Self:
        cells = list(row)
        cells[12] = CommandState(row[12])
        return cls(*cells)


def kind_of(spec: Spec) -> str:
    """The spec's name in JSON."""
    return str(spec.__struct_config__.tag)


def _reported(result: Result) -> Cells:
    return {
        "result": result,
        "exit_code": result.exit_code,
        "stdout_sha256": result.stdout.sha256 or None,
        "stderr_sha256": result.stderr.sha256 or None,
    }


def _requeued(event: CommandRequeued) -> Cells:
    again: Cells = {"attempt": event.attempt, "not_before": event.not_before, "delivered_at": None, "started_at": None}
    return again | _reported(event.result)


def _finished(event: CommandSucceeded | CommandFailed | CommandTimedOut | CommandInterrupted, _at: datetime) -> Cells:
    result = event.result
    cells = _reported(result)
    cells["ending"] = result.detail
    return cells


def _cancelled(event: CommandCancelled) -> Cells:
    return {"ending": event.reason} | (_reported(event.result) if event.result is not None else {})


# A table, by which the fold finds its way at once: it is asked of most events of a log.
_CHANGES: dict[type[Event], Callable[[Any, datetime], Cells]] = {
    CommandDelivered: lambda _event, at: {"delivered_at": at},
    CommandStarted: lambda event, at: {"started_at": event.started_at or at},
    CommandRequeued: lambda event, _at: _requeued(event),
    CommandSucceeded: _finished,
    CommandFailed: _finished,
    CommandTimedOut: _finished,
    CommandInterrupted: _finished,
    CommandRejected: lambda event, _at: {"ending": f"{event.code}: {event.detail}" if event.detail else event.code},
    CommandPriorityChanged: lambda event, _at: {"priority": event.priority},
    CommandCancelRequested: lambda _event, _at: {"cancel_requested": True},
    CommandCancelled: lambda event, _at: _cancelled(event),
    CommandExpired: lambda _event, _at: {},
    LateResultRecorded: lambda event, _at: {"late_result": event.result},
}
"""What an event changes beside the version, the state and its end, by its type; given when it was recorded."""


class Commands(Projection):
    name: ClassVar[str] = "commands"
    folds: ClassVar[tuple[type[Event], ...]] = (
        CommandQueued,
        CommandDelivered,
        CommandStarted,
        CommandRequeued,
        CommandSucceeded,
        CommandFailed,
        CommandTimedOut,
        CommandInterrupted,
        CommandRejected,
        CommandPriorityChanged,
        CommandCancelRequested,
        CommandCancelled,
        CommandExpired,
        LateResultRecorded,
    )

    def fold(self, batch: Batch, recorded: Recorded) -> None:
        event, at = recorded.event, recorded.recorded_at
        if isinstance(event, CommandQueued):
            batch["commands"].insert_row(recorded.originator_id, self._queued(event, recorded))
            return
        kind = type(event)
        change = _CHANGES.get(kind)
        if change is None:
            raise FoldError(f"{kind.__name__} is not folded into commands.")
        cells = change(event, at)
        cells["version"] = recorded.originator_version
        state = state_after(event)
        if state is not None:
            cells["state"] = state
            if kind in ENDINGS:
                cells["ended_at"], cells["ended_as"] = at, state
        batch["commands"].update_row(recorded.originator_id, cells)

    @staticmethod
    def _queued(event: CommandQueued, recorded: Recorded) -> Cells:
        spec = event.spec
        script = (spec.script_id, spec.revision) if isinstance(spec, RunScript) else (None, None)
        return {
            "agent_id": event.agent_id,
            "client_id": event.client_id,
            "site_id": event.site_id,
            "position": recorded.position,
            "kind": kind_of(spec),
            "script_id": script[0],
            "script_revision": script[1],
            "spec": _encode(spec),
            "retry": event.retry,
            "lane": event.lane,
            "priority": event.priority,
            "state": CommandState.QUEUED,
            "ended_as": "",
            "attempt": 1,
            "queued_at": recorded.recorded_at,
            "not_before": event.not_before,
            "expires_at": event.expires_at,
            "delivered_at": None,
            "started_at": None,
            "ended_at": None,
            "exit_code": None,
            "requester": recorded.actor,
            "reason": event.reason,
            "retry_of": event.retry_of,
            "correlation_id": recorded.correlation_id,
            "cancel_requested": False,
            "ending": "",
            "result": None,
            "late_result": None,
            "stdout_sha256": None,
            "stderr_sha256": None,
            "version": recorded.originator_version,
        }


_SQL = sql.load("commands")


async def list_commands(
    connection: Connection,
    *,
    client_ids: Tenants,
    agent_id: UUID | None = None,
    states: Sequence[CommandState] = (),
    client_id: UUID | None = None,
    script_id: UUID | None = None,
    since: datetime | None = None,
    patches: bool = False,
    cursor: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Page[CommandRow]:
    """Commands that fit all that is given, newest first.

    Args:
        connection: to the database.
        client_ids: the tenants that the caller sees.
        agent_id: only of this agent.
        states: only those in one of these states; none given means all.
        client_id: only of this client.
        script_id: only runs of this script.
        since: only those queued then or later.
        patches: only what installs updates or restarts a machine.
        cursor: of the page before.
        limit: at most so many.
    """
    query = Query(_SQL["select"])
    query.tenants("client_id", client_ids, agent="agent_id")
    if agent_id is not None:
        query.where("agent_id = %s", agent_id)
    if len(states) == 1 and states[0].terminal:
        query.where("ended_as = %s", states[0].value)
    elif states:
        query.where("state = ANY(%s)", [state.value for state in states])
        if not any(state.terminal for state in states):
            query.where("ended_as = ''")
    if client_id is not None:
        query.where("client_id = %s", client_id)
    if script_id is not None:
        query.where("script_id = %s", script_id)
    if patches:
        query.where("kind IN ('install_updates', 'reboot')")
    if since is not None:
        # Times follow positions, and the list is ordered by these: so the list ends there instead of being sifted.
        query.where("position > (SELECT fleetlog.position_before(%s))", since)
    return await query.page(
        connection, CommandRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def outputs_of_others(connection: Connection, agent_ids: Sequence[UUID], sha256: Sequence[str]) -> set[str]:
    """Which of these hashes of outputs, in hex, commands of others than these agents came to."""
    asked = {"agent_ids": list(agent_ids), "sha256": list(sha256)}
    cursor = await connection.execute(_SQL["outputs_of_others"], asked)
    return {row[0] for row in await cursor.fetchall()}


async def get_command(connection: Connection, command_id: UUID, *, client_ids: Tenants) -> CommandRow | None:
    """One command, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("command_id = %s", command_id)
    query.tenants("client_id", client_ids, agent="agent_id")
    return await query.one(connection, CommandRow.from_row)
