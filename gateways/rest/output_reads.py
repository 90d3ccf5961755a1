"""What shows outputs, and that it does so on record: nothing that a command printed gets into an answer before."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from command_bus.event_log import Selection
from domain.catalog import EVENTS
from domain.commands import (
    CommandCancelled,
    CommandFailed,
    CommandInterrupted,
    CommandRequeued,
    CommandSucceeded,
    CommandTimedOut,
    LateResultRecorded,
)
from domain.event import Recorded, Undecodable
from domain.ids import AgentId, ClientId, CommandId
from domain.output_reads import NOT_SHOWN, RESULTS, OutputRead, Sought, Way, shows_output
from domain.permissions import Permission
from gateways.rest.route import Call
from projections.commands import CommandRow, get_command

NEVER = frozenset(EVENTS) - {kind.__name__ for kind in RESULTS}
"""The types that hold none: of one that this program does not know, nobody can tell."""


def holds_output(recorded: Recorded) -> bool:
    """Whether an event holds something of what a command printed, or may do so."""
    if isinstance(recorded.event, Undecodable):
        return recorded.topic.partition("/")[0] not in NEVER
    return shows_output(recorded.event)


def where_readable(call: Call) -> Call:
    """The same call, as far as what it reaches may be read with outputs.

    Raises:
        ForbiddenError: the caller may read none, anywhere.
    """
    return replace(call, caller=call.caller.asking(Permission.COMMANDS_OUTPUT))


async def may_read(call: Call, row: CommandRow) -> bool:
    """Whether the caller may read what a command printed; that they see it is known."""
    if call.caller.access.scope(Permission.COMMANDS_OUTPUT).empty:
        return False
    narrowed = where_readable(call)
    if narrowed.tenants is None:
        return True
    async with call.connection() as connection:
        return await get_command(connection, row.command_id, client_ids=narrowed.tenants) is not None


async def attempts_of(call: Call, row: CommandRow) -> tuple[int, int]:
    """Of which attempts a command's result and its late result are: not of the one that waits or runs by now.

    Args:
        call: whose.
        row: the command; what the log says beyond it is left out.

    Returns:
        The attempt of each; where there is no such result, the present one.
    """
    present = row.attempt
    if present == 1:
        return 1, 1
    told = await call.parts.log.read(
        Selection(stream_id=row.command_id, types=tuple(one.__name__ for one in RESULTS)), backwards=True, tolerant=True
    )
    result = late = 0
    for one in told:
        event = one.event
        if one.originator_version > row.version:
            continue
        match event:
            case LateResultRecorded():
                late = late or event.attempt
            case CommandRequeued():
                result = result or event.attempt - 1
            case CommandSucceeded() | CommandFailed() | CommandTimedOut() | CommandInterrupted():
                result = result or event.attempt
            case CommandCancelled() if event.result is not None:
                result = result or event.attempt or 0
    return result or present, late or present


async def read_of_command(call: Call, row: CommandRow, way: Way, attempt: int) -> None:
    """Put on record that the caller reads a command's output, before it is shown.

    Args:
        call: whose.
        row: the command.
        way: how it is shown.
        attempt: the one that printed it.

    Raises:
        EventLogError, BusyStreamError: it could not be recorded, so nothing may be shown.
    """
    await call.outputs.read(
        OutputRead(
            way=way,
            command_id=CommandId(row.command_id),
            attempt=attempt,
            agent_id=AgentId(row.agent_id),
            client_id=ClientId(row.client_id),
        ),
        call.caller,
    )


async def read_of_events(
    call: Call, events: Sequence[Recorded], sought: Sought, way: Way = Way.EVENTS, rollout_id: UUID | None = None
) -> None:
    """Put on record that the caller reads the outputs that some events hold, if there are any.

    Args:
        call: whose.
        events: that are about to be shown.
        sought: what was asked for.
        way: how they are shown.
        rollout_id: they are of this rollout, and of its commands.

    Raises:
        EventLogError, BusyStreamError: it could not be recorded, so nothing may be shown.
    """
    holding = [one for one in events if holds_output(one)]
    if not holding:
        return
    commands = {one.originator_id for one in holding if one.topic.startswith(("Command", LateResultRecorded.__name__))}
    of_one = sought.stream_id is not None and commands == {sought.stream_id}
    clients, agents = {one.client_id for one in holding}, {one.agent_id for one in holding}
    (client_id,) = clients if len(clients) == 1 else (None,)
    # Which agents were met says nothing of which were sought, unless that was one, or one's command.
    (agent_id,) = agents if of_one else (sought.agent_id,)
    await call.outputs.read(
        OutputRead(
            way=way,
            command_id=CommandId(sought.stream_id) if of_one and sought.stream_id is not None else None,
            rollout_id=rollout_id,
            agent_id=AgentId(agent_id) if agent_id is not None else None,
            client_id=ClientId(client_id) if client_id is not None else None,
            sought=None if of_one or (rollout_id is not None and sought == Sought()) else sought,
        ),
        call.caller,
    )


def has_tail(result: dict[str, Any] | None) -> bool:
    """Whether a result, as the read model has it, shows the end of an output."""
    return result is not None and any((result.get(name) or {}).get("tail") for name in ("stdout", "stderr"))


def covered(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """A result as a list shows it: how much was printed, and not what."""
    if result is None or not has_tail(result):
        return result
    streams = {name: result[name] for name in ("stdout", "stderr") if name in result}
    return result | {name: one | {"tail": NOT_SHOWN} for name, one in streams.items() if one.get("tail")}
