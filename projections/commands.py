"""The history of commands: what was asked of whom, how far it is, and what came of it."""

from collections.abc import Sequence
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
        event = recorded.event
        if isinstance(event, CommandQueued):
            batch["commands"].insert(recorded.originator_id, **self._queued(event, recorded))
            return
        cells: Cells = {"version": recorded.originator_version, **self._changed(event, recorded.recorded_at)}
        state = state_after(event)
        if state is not None:
            cells["state"] = state
            if type(event) in ENDINGS:
                cells |= {"ended_at": recorded.recorded_at, "ended_as": state}
        batch["commands"].update(recorded.originator_id, **cells)

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

    @staticmethod
    def _changed(event: Event, at: datetime) -> Cells:  # noqa: C901, PLR0911 - a table of cases, one line each
        match event:
            case CommandDelivered():
                return {"delivered_at": at}
            case CommandStarted(started_at=started_at):
                return {"started_at": started_at or at}
            case CommandRequeued(attempt=attempt, not_before=not_before, result=result):
                again: Cells = {"attempt": attempt, "not_before": not_before, "delivered_at": None, "started_at": None}
                return again | _reported(result)
            case CommandSucceeded(result=result) | CommandFailed(result=result) | CommandTimedOut(result=result):
                return _reported(result) | {"ending": result.detail}
            case CommandInterrupted(result=result):
                return _reported(result) | {"ending": result.detail}
            case CommandRejected(code=code, detail=detail):
                return {"ending": f"{code}: {detail}" if detail else code}
            case CommandPriorityChanged(priority=priority):
                return {"priority": priority}
            case CommandCancelRequested():
                return {"cancel_requested": True}
            case CommandCancelled(reason=reason, result=result):
                return {"ending": reason} | (_reported(result) if result is not None else {})
            case CommandExpired():
                return {}
            case LateResultRecorded(result=result):
                return {"late_result": result}
            case _:
                raise FoldError(f"{type(event).__name__} is not folded into commands.")


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
    if since is not None:
        # Times follow positions, and the list is ordered by these: so the list ends there instead of being sifted.
        query.where("position > (SELECT fleetlog.position_before(%s))", since)
    return await query.page(
        connection, CommandRow.from_row, BY_POSITION, cursor=cursor, limit=limit, key=lambda row: (row.position,)
    )


async def get_command(connection: Connection, command_id: UUID, *, client_ids: Tenants) -> CommandRow | None:
    """One command, or None if there is none that the caller sees."""
    query = Query(_SQL["select"])
    query.where("command_id = %s", command_id)
    query.tenants("client_id", client_ids, agent="agent_id")
    return await query.one(connection, CommandRow.from_row)
