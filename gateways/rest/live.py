"""A command as it happens: what it prints, best effort, and what becomes of it, for certain."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

import structlog
from starlette.responses import Response

from command_bus.event_log import Selection
from domain.commands import state_after
from domain.event import Undecodable
from domain.output_reads import Way
from gateways.rest.output_reads import read_of_command
from gateways.rest.parts import Live
from gateways.rest.route import Call
from gateways.rest.sse import UNDECODABLE, follow, stream
from projections.commands import CommandRow

BACKLOG = 16
"""So many pieces of output, of 64 KiB at the most, may wait for one reader here; where they come from waits more."""
_log = structlog.get_logger("fleetlog.live")
OUTPUT = "output"
Item = tuple[int | None, str, dict[str, Any]]


def live_command(call: Call, row: CommandRow, *, outputs: bool) -> Response:
    """Answer with a stream of `state`, `output` (where the caller may read it) and one `end`."""
    return stream(call, _merged(call, row, outputs=outputs))


async def _merged(call: Call, row: CommandRow, *, outputs: bool) -> AsyncGenerator[Item]:
    command_id = row.command_id
    # States are few (a command has a handful of attempts) and are never dropped; output is, where it comes from.
    queue: asyncio.Queue[Item | None] = asyncio.Queue()
    room = asyncio.Semaphore(BACKLOG)
    states = asyncio.create_task(_states(call, command_id, queue), name=f"live-states-{command_id}")
    states.add_done_callback(lambda _: queue.put_nowait(None))
    tasks = [states]
    if outputs and call.parts.live is not None:
        tasks.append(
            asyncio.create_task(_outputs(call.parts.live, command_id, queue, room), name=f"live-output-{command_id}")
        )
    begun = row.attempt
    try:
        while (item := await queue.get()) is not None:
            _, name, said = item
            if name == OUTPUT:
                room.release()
                # The agent says which attempt printed it: one that the log knows nothing of would be on record, and
                # each number anew.
                if not 1 <= said["attempt"] <= begun:
                    continue
                await read_of_command(call, row, Way.LIVE, said["attempt"])
            begun = max(begun, said.get("attempt", begun))
            yield item
        await states
    finally:
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                _log.warning("live_ended_early", command_id=str(command_id), error=str(ended))


async def _states(call: Call, command_id: UUID, queue: asyncio.Queue[Item | None]) -> None:
    """The story from its beginning: it is short, and a reader who comes late, or back, learns all of it."""
    attempt = 1
    async with aclosing(follow(call, Selection(stream_id=command_id), 0)) as story:
        async for recorded in story:
            if isinstance(recorded.event, Undecodable):
                fault = {"position": recorded.position, "error": recorded.event.error}
                queue.put_nowait((recorded.position, UNDECODABLE, fault))
            attempt = getattr(recorded.event, "attempt", None) or attempt
            state = state_after(recorded.event)
            if state is None:
                continue
            name = "end" if state.terminal else "state"
            document = {"state": state, "attempt": attempt, "position": recorded.position}
            queue.put_nowait((recorded.position, name, document))
            if state.terminal:
                return


async def _outputs(live: Live, command_id: UUID, queue: asyncio.Queue[Item | None], room: asyncio.Semaphore) -> None:
    async with live.follow(command_id) as pieces:
        async for piece in pieces:
            document = {
                "attempt": piece.attempt,
                "stream": piece.stream,
                "offset": piece.offset,
                "data": base64.b64encode(piece.data).decode(),
            }
            await room.acquire()
            queue.put_nowait((None, OUTPUT, document))
