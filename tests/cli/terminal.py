"""The command line as a person uses it, against an API on real servers."""

import asyncio
import contextlib
import json
import os
import pty
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import typer
from typer.testing import CliRunner, Result

from gateways.cli import admin

PROGRAM = (
    "import sys, typer; from gateways.cli import admin; app = typer.Typer(); admin.register(app); app(sys.argv[1:])"
)


def _all_of(terminal: int) -> str:
    """Until nobody has its other end open any more, which Linux says by an error."""
    found = b""
    with open(terminal, "rb", buffering=0) as screen, contextlib.suppress(OSError):
        while piece := screen.read(65536):
            found += piece
    return found.decode()


class Terminal:
    """Types commands, in a thread of their own, since the API may live in the test's loop.

    Args:
        url: of the API.
        key: the API key in use.
        settle: awaited before each command. A person types slower than projections fold; a test does not.
    """

    def __init__(self, url: str, key: str, settle: Callable[[], Awaitable[None]] | None = None) -> None:
        self.url = url
        self.key = key
        self.settle = settle
        self._app = typer.Typer()
        admin.register(self._app)

    async def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Type a command and wait for its end."""
        if self.settle is not None:
            await self.settle()
        return await asyncio.to_thread(
            CliRunner().invoke, self._app, list(arguments), input=stdin, env=self._environment, catch_exceptions=False
        )

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Type a command into a process of its own, which goes on until it ends or is ended."""
        if self.settle is not None:
            await self.settle()
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, *arguments),
            env=os.environ | self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def seen(self, *arguments: str) -> str:
        """What a person sees in a real terminal until the command has ended, with all that was painted over."""
        if self.settle is not None:
            await self.settle()
        ours, theirs = pty.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, *arguments),
                env=os.environ | self._environment | {"TERM": "xterm-256color"},
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)
        reading = asyncio.create_task(asyncio.to_thread(_all_of, ours))
        await process.wait()
        return await reading

    @property
    def _environment(self) -> dict[str, str]:
        return {"FLEETLOG_URL": self.url, "FLEETLOG_API_KEY": self.key, "COLUMNS": "200"}

    async def ok(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """The standard output of a command that must succeed."""
        result = await self(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    async def json(self, *arguments: str, stdin: str | bytes | None = None) -> Any:
        """What a command prints with --json."""
        return json.loads(await self.ok(*arguments, "--json", stdin=stdin))

    async def refused(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """The code of the one red line that a command must end with."""
        result = await self(*arguments, stdin=stdin)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr.partition(":")[0]
