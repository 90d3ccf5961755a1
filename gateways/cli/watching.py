"""Waiting for a command's end: its state as it changes, its output as it appears, and all of it in the end.

Live output may be lost, doubled or cut on its way. So only what follows on without a gap is shown live, and when the
command has ended, the rest is fetched from the log's keeping: what stands on the terminal then is the whole, once.
"""

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

from rich.status import Status

from domain.commands import CommandState
from gateways.cli.api import LONGEST_WAIT_S, Api
from gateways.cli.errors import UnreachableError
from gateways.cli.output import Output, Row, ago, write_bytes

RECONNECT_S = 1.0
STREAMS = ("stdout", "stderr")
Write = Callable[[str, bytes], None]


class Shown:
    """How much of a command's output the reader has seen.

    Args:
        write: takes the stream's name and bytes that come next in it.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._attempt = 0
        self._upto = dict.fromkeys(STREAMS, 0)

    def live(self, attempt: int, stream: str, offset: int, data: bytes) -> None:
        """Show a piece if it follows on from what was shown; after a gap the rest waits for the end."""
        if attempt > self._attempt:
            self._attempt = attempt
            self._upto = dict.fromkeys(STREAMS, 0)
        if attempt < self._attempt or stream not in self._upto:
            return
        seen = self._upto[stream]
        if offset <= seen < offset + len(data):
            self._write(stream, data[seen - offset :])
            self._upto[stream] = offset + len(data)

    def rest(self, api: Api, command: Row) -> None:
        """Show what is still missing of an ended command's output."""
        result: Row = command.get("result") or {}
        if command["attempt"] > self._attempt:
            self._upto = dict.fromkeys(STREAMS, 0)
        for stream in STREAMS:
            skip = self._upto[stream]
            if int((result.get(stream) or {}).get("size") or 0) <= skip:
                continue
            for piece in api.content(f"/commands/{command['id']}/output", stream=stream):
                if skip < len(piece):
                    self._write(stream, piece[skip:])
                skip = max(0, skip - len(piece))


class Progress:
    """One line on standard error that says what is being waited for; only on a terminal."""

    def __init__(self, out: Output, agent_name: str) -> None:
        self._status: Status | None = None
        self._out = out
        self._agent = agent_name
        self._state = ""

    def __enter__(self) -> Self:
        if self._out.errors.is_terminal and not self._out.as_json:
            self._status = self._out.errors.status("...", spinner="dots")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    def state(self, state: str, command: Row) -> None:
        """Show a new state."""
        if state == self._state:
            return
        self._state = state
        if self._status is None:
            return
        words = {
            "queued": f"queued, waiting for {self._agent}",
            "delivered": f"on the disk of {self._agent}, waiting for its turn",
            "running": f"running on {self._agent}",
        }.get(state, state)
        self._status.update(f"{words} [dim]({ago(command.get('queued_at')) or '0 s'})[/dim]")

    def hide(self) -> None:
        """Make room for the program's own output."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def follow(api: Api, out: Output, command: Row, agent_name: str) -> Row:
    """Wait until a command has ended, showing its state and output.

    Args:
        api: where it was queued.
        out: with JSON asked for, nothing is shown on the way.
        command: as the API gave it.
        agent_name: for the progress line.

    Returns:
        The ended command.
    """
    with Progress(out, agent_name) as progress:

        def write(stream: str, data: bytes) -> None:
            progress.hide()
            if not out.as_json:
                write_bytes(data, to_stderr=stream == "stderr")

        shown = Shown(write)
        ended = _until_end(api, out, command, progress, shown)
        if not out.as_json:
            shown.rest(api, ended)
    return ended


def _until_end(api: Api, out: Output, command: Row, progress: Progress, shown: Shown) -> Row:
    path = f"/commands/{command['id']}"
    lost = False
    while True:
        try:
            progress.state(command["state"], command)
            if not CommandState(command["state"]).terminal:
                for event, data in _live(api, path):
                    if event == "output":
                        shown.live(data["attempt"], data["stream"], data["offset"], base64.b64decode(data["data"]))
                    elif "state" in data:
                        progress.state(data["state"], command)
            command = api.get(path, wait_s=LONGEST_WAIT_S if lost else 1)
            lost = False
        except UnreachableError as error:
            # The command does not depend on our watching it: say so once, and look again until it has ended.
            if not lost:
                progress.hide()
                out.note(f"{error.detail} The command goes on; waiting for the connection ...")
            lost = True
            time.sleep(RECONNECT_S)
            continue
        if CommandState(command["state"]).terminal:
            return command


def _live(api: Api, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in api.stream(f"{path}/live"):
        data = event.json() if event.data else {}
        yield event.event, data if isinstance(data, dict) else {}
        if event.event == "end":
            return


@contextmanager
def leaving_it_queued(out: Output, command_id: str) -> Iterator[None]:
    """Ctrl-C ends the waiting, not the command, and the reader is told so."""
    try:
        yield
    except KeyboardInterrupt:
        out.note(
            f"\nNo longer waiting; the command stays in the queue as {command_id}.\n"
            f"  fleetlog show {command_id}     what became of it\n"
            f"  fleetlog cancel {command_id}   to take it back"
        )
        raise


def summary(command: Row, now: datetime | None = None) -> str:
    """One line on how a command ended."""
    result: Row = command.get("result") or {}
    state = str(command["state"]).replace("_", " ")
    code = result.get("exit_code")
    parts = [state if code in (None, 0) else f"{state} with exit code {code}"]
    if result.get("duration_ms"):
        parts.append(f"after {result['duration_ms'] / 1000:.1f} s")
    waited = ago(command.get("queued_at"), now or datetime.now(UTC))
    if waited:
        parts.append(f"(queued {waited} ago)")
    detail = result.get("detail") or command.get("detail")
    return " ".join(parts) + (f": {detail}" if detail else "")
