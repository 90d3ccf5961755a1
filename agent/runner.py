"""Runs one script: its file, its process, its outputs, its time limit, and the end of all of it.

The body lies in a file that only the user it runs as can read, for as long as it runs; arguments and variables are in
memory alone. Nothing of the process tree outlives a timeout or a cancellation.
"""

import asyncio
import enum
import functools
import os
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import WorkRefusedError
from agent.hiding import hidden
from agent.journal import Key
from agent.opening import Opened
from agent.outputs import OnOutput, Sink, pump, recovered
from agent.platforms import PLATFORM, Account
from agent.platforms.restarting import must_not_keep_hands_off
from agent.processes import end_tree, markers, started_at
from agent.threads import in_thread
from schema import wire
from schema.masking import Hidden
from schema.patches import InstallWork, RebootWork

_SUFFIXES = {"sh": ".sh", "bash": ".sh", "python": ".py", "powershell": ".ps1", "cmd": ".cmd"}
_UNKILLABLE_S = 30.0


class Stop(enum.Enum):
    """Why a run was ended before it ended by itself."""

    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to."""

    outcome: str
    exit_code: int | None
    duration_ms: int
    stdout: wire.StreamReport
    stderr: wire.StreamReport
    stdout_spool: bool
    stderr_spool: bool
    detail: str


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """What is started."""

    argv: Sequence[str]
    env: Mapping[str, str]
    timeout_s: float
    secrets: Sequence[str] = ()
    """To be masked in what it prints."""
    account: Account | None = None
    """Whom it runs as; None: the agent's own user."""


class Runner:
    """Runs scripts in a state directory's places.

    Args:
        scripts_dir: where bodies lie while they run.
        spool_dir: where outputs lie until the server has them.
        max_output_bytes: how much of one stream is kept.
    """

    def __init__(self, scripts_dir: Path, spool_dir: Path, *, max_output_bytes: int = wire.MAX_OUTPUT_BYTES) -> None:
        self._scripts_dir = scripts_dir
        self._spool_dir = spool_dir
        self._max_output_bytes = max_output_bytes

    def check(self, opened: Opened) -> None:
        """Say whether this machine could run it.

        Raises:
            WorkRefusedError: never: the shell is not for this platform or is missing, the user cannot be had, a secret
                would show in the list of processes, or this agent is to leave the machine as it is.
        """
        if isinstance(opened.work, InstallWork | RebootWork):
            must_not_keep_hands_off()
        if isinstance(opened.work, wire.ScriptWork):
            if opened.hidden_args:
                hidden(opened.work)
            PLATFORM.argv(opened.work.shell)
            PLATFORM.account(opened.work.run_as)

    def sweep(self) -> int:
        """Remove the bodies that a crash left behind. To be called while nothing runs."""
        PLATFORM.make_private_dir(self._scripts_dir, passable=True)
        removed = 0
        for path in self._scripts_dir.iterdir():
            path.unlink()
            removed += 1
        return removed

    def recovered(self, key: Key) -> list[tuple[wire.StreamReport, bool]]:
        """What the spool holds of an attempt that was not seen to its end: as `Sink.close` has it, per stream."""
        return [recovered(self._spool_dir, key, stream) for stream in ("stdout", "stderr")]

    async def run(
        self,
        key: Key,
        opened: Opened,
        *,
        stop: "asyncio.Future[Stop]",
        on_spawned: Callable[[int, float | None], Coroutine[Any, Any, None]],
        on_output: OnOutput,
    ) -> Ran:
        """Run a script to its end.

        Args:
            key: the attempt.
            opened: what to run, and what to mask.
            stop: ends the run early when it is set.
            on_spawned: awaited with the process's pid and start time as soon as there is one.
            on_output: told of output as it appears, from a thread.

        Raises:
            WorkRefusedError: it could not be started at all.
        """
        if not isinstance(opened.work, wire.ScriptWork):
            raise TypeError("only scripts are run")
        work, launcher = hidden(opened.work) if opened.hidden_args else (opened.work, ())
        account = PLATFORM.account(work.run_as)
        script: Path | None = None
        if work.inline:
            argv = [*PLATFORM.inline_argv(work.shell, work.body), *work.args]
        else:
            head = PLATFORM.argv(work.shell)
            script = self._write_script(work, account)
            argv = [*head, *launcher, str(script), *work.args]
        try:
            env = PLATFORM.environment(account) | work.env
            program = Program(argv=argv, env=env, timeout_s=work.timeout_s, secrets=opened.secrets, account=account)
            return await self.run_program(key, program, stop=stop, on_spawned=on_spawned, on_output=on_output)
        finally:
            if script is not None:
                script.unlink(missing_ok=True)

    def _write_script(self, work: wire.ScriptWork, account: Account | None) -> Path:
        path = self._scripts_dir / (os.urandom(16).hex() + _SUFFIXES.get(work.shell, ""))
        try:
            # /run may be emptied under a long-lived agent (a user's own part of it is, when that user logs out).
            PLATFORM.make_private_dir(self._scripts_dir, passable=True)
            PLATFORM.create_script(path, work.body.encode(), account)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise WorkRefusedError("script_not_written", f"The script's file could not be written: {error}") from error
        return path

    async def run_program(
        self,
        key: Key,
        program: Program,
        *,
        stop: "asyncio.Future[Stop]",
        on_spawned: Callable[[int, float | None], Coroutine[Any, Any, None]],
        on_output: OnOutput,
    ) -> Ran:
        """Run a program to its end, as `run` does."""
        unseen = Hidden(program.secrets)
        began = time.monotonic()
        process = _spawn(key, program)
        ended = threading.Event()
        sinks = [
            Sink(self._spool_dir, key, stream, on_output, limit=self._max_output_bytes, hidden=unseen)
            for stream in ("stdout", "stderr")
        ]
        pipes = [pipe for pipe in (process.stdout, process.stderr) if pipe is not None]
        pumps = [
            in_thread(functools.partial(pump, os.dup(pipe.fileno()), sink, gone=ended.is_set))
            for pipe, sink in zip(pipes, sinks, strict=True)
        ]
        for pipe in pipes:
            pipe.close()
        exited: asyncio.Future[int] = in_thread(process.wait)
        pid_started = started_at(process.pid)
        end_all = functools.partial(end_tree, key, process.pid, pid_started)
        try:
            await on_spawned(process.pid, pid_started)
            stopped = await _first(exited, stop, program.timeout_s - (time.monotonic() - began))
            if stopped is not None:
                await in_thread(end_all)
            # A process that even SIGKILL does not end (it hangs in the kernel) must not hold its lane for ever.
            await asyncio.wait({exited}, timeout=None if stopped is None else _UNKILLABLE_S)
            returncode = exited.result() if exited.done() else None
        except BaseException:
            end_all()
            raise
        finally:
            ended.set()
        await asyncio.gather(*pumps)
        (stdout, stdout_spool), (stderr, stderr_spool) = await in_thread(lambda: [sink.close() for sink in sinks])
        return Ran(
            outcome=stopped.value if stopped is not None else "succeeded" if returncode == 0 else "failed",
            exit_code=returncode,
            duration_ms=round((time.monotonic() - began) * 1000),
            stdout=stdout,
            stderr=stderr,
            stdout_spool=stdout_spool,
            stderr_spool=stderr_spool,
            detail="; ".join(filter(None, (_why(stopped, program, returncode), *(sink.cut for sink in sinks)))),
        )


def _spawn(key: Key, program: Program) -> "subprocess.Popen[bytes]":
    env = {**program.env, **markers(key)}
    options = PLATFORM.spawn(program.account, env).options
    try:
        return subprocess.Popen(  # noqa: S603 - running what the server signed is what this program is for
            program.argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            **options,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise WorkRefusedError("not_started", f"{program.argv[0]} could not be started: {error}") from error


def _why(stopped: Stop | None, program: Program, returncode: int | None) -> str:
    match stopped:
        case Stop.TIMED_OUT:
            why = f"ran longer than {program.timeout_s} s"
        case Stop.CANCELLED:
            why = "cancelled while it ran"
        case Stop.INTERRUPTED:
            why = "agent stopped"
        case None:
            why = PLATFORM.exit_detail(returncode or 0)
    return why if returncode is not None else f"{why}; a process could not be ended"


async def _first(exited: "asyncio.Future[int]", stop: "asyncio.Future[Stop]", timeout_s: float) -> Stop | None:
    """Wait for the end, a stop or the timeout; None if it ended by itself."""
    either: set[asyncio.Future[Any]] = {exited, stop}
    await asyncio.wait(either, timeout=max(0.0, timeout_s), return_when=asyncio.FIRST_COMPLETED)
    if exited.done():
        return None
    return stop.result() if stop.done() else Stop.TIMED_OUT
