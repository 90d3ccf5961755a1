"""Commands: queue, watch, cancel, try again."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from itertools import compress
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import structs
from pydantic import AwareDatetime, Field
from starlette.responses import Response, StreamingResponse

from command_bus.errors import ForbiddenError, FreshProofNeededError
from command_bus.event_log import Selection
from command_bus.intents.commands import CancelCommand, PrioritiseCommand, QueueCommand, Retry, RetryCommand
from command_bus.intents.hours import Hours
from command_bus.intents.times import Moment
from domain.commands import CommandState
from domain.errors import (
    AgentRetiredError,
    AgentSuspendedError,
    BadPlaceholderError,
    CommandEndedError,
    CommandNotEndedError,
    CommandUnderWayError,
    DomainError,
    ExpiryBeforeStartError,
    ExpiryInPastError,
    InvalidValueError,
    NotFoundError,
    PlaceholderInCodeError,
    QueueFullError,
    ScriptArchivedError,
    SecretInArgumentError,
    TooManyAgentsError,
    UnknownRevisionError,
    UnresolvedPlaceholderError,
    WrongPlatformError,
)
from domain.output_reads import NOT_SHOWN, Way
from domain.permissions import Permission
from gateways.agents.outputs import OutputRemovedError
from gateways.rest.errors import NoOutputError
from gateways.rest.events import EventModel, StoryQuery, event_page
from gateways.rest.live import live_command
from gateways.rest.output_reads import attempts_of, covered, has_tail, may_read, read_of_command
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
    one,
    page_of,
    write,
)
from gateways.rest.specs import ShownSpec
from projections.commands import CommandRow, get_command
from projections.commands import list_commands as read_commands
from projections.errors import PositionTimeoutError
from projections.pending import PendingRow

TAG = "Commands"
READS = ("commands",)
OCTETS = "application/octet-stream"
_REFUSED = (
    NotFoundError,
    AgentRetiredError,
    AgentSuspendedError,
    ExpiryInPastError,
    FreshProofNeededError,
    QueueFullError,
    TooManyAgentsError,
    BadPlaceholderError,
    PlaceholderInCodeError,
    SecretInArgumentError,
    UnresolvedPlaceholderError,
)


class StreamModel(Model):
    """One output stream; the whole of it is at `/commands/{id}/output`."""

    size: int = Field(default=0, description="In bytes.")
    sha256: str = ""
    tail: str = Field(default="", description=f"Its end; in a list, `{NOT_SHOWN}`.")


class UpdateOutcomeModel(Model):
    """What came of one update."""

    name: str
    version: str = ""
    outcome: Literal["installed", "failed", "absent", "held"] = Field(
        description="`absent`: the machine offered no such update."
    )
    why: str = ""


class PatchedModel(Model):
    """What installing updates came to, by what the machine says is installed after it."""

    updates: list[UpdateOutcomeModel] = Field(default=[])
    more: int = Field(default=0, description="So many others, of which none failed.")
    installed: int = 0
    reboot_needed: bool | None = Field(default=None, description="Null where the machine cannot say.")


class ResultModel(Model):
    """What an attempt came to, by the agent's account. What is left out is the default."""

    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None
    duration_ms: int = 0
    exit_code: int | None = None
    stdout: StreamModel = StreamModel()
    stderr: StreamModel = StreamModel()
    detail: str = Field(default="", description="Why, where an exit code does not say it.")
    patched: PatchedModel | None = Field(default=None, description="Of a command that installed updates.")


class CommandModel(Model):
    """One unit of work for one agent, and what became of it."""

    id: UUID
    agent_id: UUID
    client_id: UUID
    site_id: UUID
    position: int = Field(description="At which it was queued.")
    spec: ShownSpec
    lane: str
    priority: int
    state: CommandState
    attempt: int
    retry: Retry
    reason: str
    actor: str = Field(description="Who asked for it.")
    correlation_id: UUID
    retry_of: UUID | None
    queued_at: AwareDatetime
    not_before: AwareDatetime | None
    expires_at: AwareDatetime
    delivered_at: AwareDatetime | None
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    cancel_requested: bool
    exit_code: int | None
    detail: str = Field(description="Why it ended as it did, where that was said.")
    result: ResultModel | None = Field(description="Of the last attempt that reported one.")
    late_result: ResultModel | None = Field(description="One that came after the ending, which stands.")
    version: int


class QueuedModel(Model):
    """A command that has not ended, at its place in its agent's queue."""

    id: UUID
    agent_id: UUID
    client_id: UUID
    position: int
    spec: ShownSpec
    lane: str
    priority: int
    state: CommandState
    attempt: int
    queued_at: AwareDatetime
    not_before: AwareDatetime | None
    hours: Hours | None = Field(description="It begins only within these.")
    expires_at: AwareDatetime
    cancel_requested: bool
    correlation_id: UUID
    version: int


class CancelAnswer(Answer):
    """A cancelled command, or one whose agent is asked to."""

    state: Literal["cancelled", "cancel_requested"]


class CommandsQuery(PageQuery):
    agent_id: UUID | None = None
    state: list[CommandState] = Field(default=[], max_length=10, description="May be repeated: any of them.")
    client_id: UUID | None = None
    script_id: UUID | None = None
    since: Moment | None = Field(default=None, description="Queued at this time or later.")
    patches: bool = Field(default=False, description="Only what installs updates or restarts a machine.")


class CommandQuery(ReadQuery):
    wait_s: Annotated[int, Field(ge=0, le=60)] = Field(
        default=0, description="Hold the answer back until the command has ended, at most so many seconds."
    )


class OutputQuery(ReadQuery):
    stream: Literal["stdout", "stderr"] = "stdout"


def command_document(row: CommandRow) -> dict[str, Any]:
    """One command, as `CommandModel` describes it."""
    return {
        "id": row.command_id,
        "agent_id": row.agent_id,
        "client_id": row.client_id,
        "site_id": row.site_id,
        "position": row.position,
        "spec": msgspec.Raw(row.spec),
        "lane": row.lane,
        "priority": row.priority,
        "state": row.state,
        "attempt": row.attempt,
        "retry": row.retry,
        "reason": row.reason,
        "actor": row.requester,
        "correlation_id": row.correlation_id,
        "retry_of": row.retry_of,
        "queued_at": row.queued_at,
        "not_before": row.not_before,
        "expires_at": row.expires_at,
        "delivered_at": row.delivered_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "cancel_requested": row.cancel_requested,
        "exit_code": row.exit_code,
        "detail": row.ending,
        "result": row.result,
        "late_result": row.late_result,
        "version": row.version,
    }


def listed_document(row: CommandRow) -> dict[str, Any]:
    """One command in a list, which shows nothing of what they printed."""
    return command_document(row) | {"result": covered(row.result), "late_result": covered(row.late_result)}


def queued_document(row: PendingRow) -> dict[str, Any]:
    """One pending command, as `QueuedModel` describes it."""
    return {
        "id": row.command_id,
        "agent_id": row.agent_id,
        "client_id": row.client_id,
        "position": row.position,
        "spec": msgspec.Raw(row.spec),
        "lane": row.lane,
        "priority": row.priority,
        "state": row.state,
        "attempt": row.attempt,
        "queued_at": row.queued_at,
        "not_before": row.not_before,
        "hours": msgspec.Raw(row.hours.encode()) if row.hours is not None else None,
        "expires_at": row.expires_at,
        "cancel_requested": row.cancel_requested,
        "correlation_id": row.correlation_id,
        "version": row.version,
    }


async def _row(call: Call) -> CommandRow:
    command_id = call.path["command_id"]
    async with call.connection() as connection:
        return found(await get_command(connection, command_id, client_ids=call.tenants), "command", command_id)


async def list_commands(call: Call) -> Response:
    query: CommandsQuery = call.query
    async with call.connection() as connection:
        page = await read_commands(
            connection,
            client_ids=call.tenants,
            agent_id=query.agent_id,
            states=query.state,
            client_id=query.client_id,
            script_id=query.script_id,
            patches=query.patches,
            since=query.since,
            cursor=query.cursor,
            limit=query.limit,
        )
    return page_of(page, listed_document)


async def show(call: Call) -> Response:
    query: CommandQuery = call.query
    if query.wait_s == 0 or call.at is not None:  # what was does not change any more
        row = await _row(call)
    else:
        row = await _ended(call, query.wait_s)
    shown = [has_tail(row.result), has_tail(row.late_result)]
    if any(shown) and not await may_read(call, row):
        hidden = command_document(row)
        hidden |= {"result": covered(row.result), "late_result": covered(row.late_result)}
        return one(hidden, row.version)
    if any(shown):
        for attempt in sorted(set(compress(await attempts_of(call, row), shown))):
            await read_of_command(call, row, Way.TAIL, attempt)
    return one(command_document(row), row.version)


async def _ended(call: Call, wait_s: float) -> CommandRow:
    """The command once it has ended, or as it is when the time is up.

    An ending that the feed hands out from here on is heard. One that it handed out before may not be in the read model
    yet, so that is first brought to where the feed is: whatever the two's pace, no ending slips through between them.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    with call.feed.ending(call.path["command_id"]) as ending:
        if not call.feed.knows_open(call.path["command_id"], call.tenants):
            await _catch_up(call, call.feed.position, wait_s)
            row = await _row(call)
            if row.state.terminal:
                return row
        done, _ = await asyncio.wait([ending], timeout=max(0.0, until - loop.time()))
        if done:
            await _catch_up(call, ending.result(), max(0.0, until - loop.time()))
    if call.standing.over:
        raise ForbiddenError("What you may do has changed meanwhile; ask again.")
    return await _row(call)


async def _catch_up(call: Call, position: int, wait_s: float) -> None:
    """Let the read model come to a position; if it stays behind, it says what it knows, and the caller asks again."""
    with contextlib.suppress(PositionTimeoutError):
        await call.parts.waiter.wait(position, READS, min(wait_s, call.parts.wait_position_s))


async def output(call: Call) -> Response:
    query: OutputQuery = call.query
    # Of a command that the caller sees: what lies beyond that is not there.
    scope = call.caller.scope & call.caller.access.scope(Permission.COMMANDS_SEE)
    row = await _row(replace(call, caller=structs.replace(call.caller, scope=scope)))
    if row.result is None:
        raise NoOutputError
    told = row.result.get(query.stream, {})
    size, sha256 = told.get("size", 0), told.get("sha256", "")
    attempt, _ = await attempts_of(call, row)
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{row.command_id}-{attempt}.{query.stream}"',
        "X-Content-Type-Options": "nosniff",
        "ETag": f'"{sha256}"',
    }
    if not size:
        return Response(b"", media_type=OCTETS, headers=headers)
    parts = call.parts.read_output(sha256)
    try:
        # The first piece is read before the status goes out, so that a missing output is a 404 and no broken answer.
        first = await anext(aiter(parts))
    except OutputRemovedError:
        raise
    except (StopAsyncIteration, DomainError):
        raise NoOutputError("The output itself is not here; its end is in the command's result.") from None
    await read_of_command(call, row, Way.WHOLE, attempt)
    return StreamingResponse(_then(first, parts), media_type=OCTETS, headers=headers)


async def _then(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for part in rest:
            yield part
    finally:
        if isinstance(rest, AsyncGenerator):
            await rest.aclose()  # gives its connection back also when the reader has gone


async def live(call: Call) -> Response:
    row = await _row(call)
    return live_command(call, row, outputs=await may_read(call, row))


async def story(call: Call) -> Response:
    query: StoryQuery = call.query
    row = await _row(call)
    selection = Selection(stream_id=row.command_id)
    return await event_page(call, selection, limit=query.limit, cursor=query.cursor, backwards=False)


ROUTES: tuple[Route, ...] = (
    write(
        "POST",
        "/commands",
        QueueCommand,
        tag=TAG,
        status=202,
        location="/commands/{id}",
        errors=(*_REFUSED, ExpiryBeforeStartError, WrongPlatformError, ScriptArchivedError, UnknownRevisionError),
    ),
    Route(
        method="GET",
        path="/commands",
        needs=Permission.COMMANDS_SEE,
        summary="Commands, newest first.",
        tag=TAG,
        handler=list_commands,
        query=CommandsQuery,
        response=PageOf[CommandModel],
        reads=READS,
    ),
    Route(
        method="GET",
        path="/commands/{command_id}",
        needs=Permission.COMMANDS_SEE,
        summary="One command, and what became of it.",
        tag=TAG,
        handler=show,
        query=CommandQuery,
        response=CommandModel,
        reads=READS,
        etag=True,
    ),
    write(
        "POST",
        "/commands/{command_id}/cancel",
        CancelCommand,
        tag=TAG,
        status=202,
        response=CancelAnswer,
        errors=(NotFoundError, CommandEndedError),
    ),
    write(
        "PUT",
        "/commands/{command_id}/priority",
        PrioritiseCommand,
        tag=TAG,
        errors=(NotFoundError, CommandEndedError, CommandUnderWayError, InvalidValueError),
    ),
    write(
        "POST",
        "/commands/{command_id}/retry",
        RetryCommand,
        tag=TAG,
        status=202,
        location="/commands/{id}",
        errors=(*_REFUSED, CommandNotEndedError),
    ),
    Route(
        method="GET",
        path="/commands/{command_id}/output",
        needs=Permission.COMMANDS_OUTPUT,
        summary="All that it wrote to one stream, byte for byte.",
        tag=TAG,
        handler=output,
        query=OutputQuery,
        media_type=OCTETS,
        reads=READS,
        streams=True,
        errors=(NoOutputError, OutputRemovedError),
    ),
    Route(
        method="GET",
        path="/commands/{command_id}/live",
        needs=Permission.COMMANDS_SEE,
        summary="Its output as it appears and its state as it changes, until it has ended.",
        description="Events: `state` (`{state, attempt, position}`), `output` (`{attempt, stream, offset, data}`, data "
        "in base64; it may be lost, doubled or cut, and is left out without `commands.output`), `end` (as `state`, the "
        "last one), "
        "`undecodable` (`{position, error}`: an event that this version cannot read).",
        tag=TAG,
        handler=live,
        query=ReadQuery,
        media_type=EVENT_STREAM,
        reads=READS,
        streams=True,
    ),
    Route(
        method="GET",
        path="/commands/{command_id}/events",
        needs=Permission.COMMANDS_SEE,
        summary="Its story, oldest first.",
        tag=TAG,
        handler=story,
        query=StoryQuery,
        response=PageOf[EventModel],
        reads=READS,
    ),
)
