"""``fleetlog agent``: enroll, run, status, rotate-key, install-service."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO, TypeVar

from agent import VERSION
from agent.errors import AgentError, EnrollmentRefusedError, EnrollmentWaitingError, NotEnrolledError, UsageError
from agent.platforms import PLATFORM
from agent.platforms.shape import NOT_AN_AGENT, SERVICE_VARIABLE
from schema.fingerprints import key_fingerprint

if TYPE_CHECKING:
    from agent.identity import Identity

T = TypeVar("T")


def main(argv: list[str]) -> int:
    """Run one subcommand and return the exit code: 2 with one line on stderr where it cannot be done.

    As a service ``run`` returns `NOT_AN_AGENT` where this machine is none, which no further start would change.
    """
    try:
        arguments = _parser().parse_args(argv)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except AgentError as error:
        return _failed(error.code, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed("system_error", f"{where}{error.strerror or error}.")


def _failed(code: str, text: str) -> int:
    line = " ".join(f"{code}: {text}".split())
    _say(f"\x1b[31m{line}\x1b[0m" if sys.stderr.isatty() else line, to=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `{self.prog} --help` shows what there is.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="fleetlog agent", description="The agent on a managed machine.")
    parser.add_argument("--version", action="version", version=VERSION)
    state = _Parser(add_help=False)
    state.add_argument(
        "--state-dir",
        type=Path,
        default=Path(os.environ.get("FLEETLOG_AGENT_STATE_DIR") or PLATFORM.state_dir()),
        help="where the agent keeps its state (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    enroll = commands.add_parser("enroll", parents=[state], help="make this machine an agent")
    enroll.add_argument("url", metavar="URL", help="the server's address")
    enroll.add_argument("token", metavar="TOKEN", help="an enrollment token")
    enroll.add_argument("--name", help="what to call this machine, if not its hostname")
    trusted = enroll.add_mutually_exclusive_group()
    trusted.add_argument("--ca", type=Path, metavar="FILE", help="the server's certificate authority (PEM)")
    trusted.add_argument("--fingerprint", metavar="SHA256", help="the same by its fingerprint, as the server prints it")
    enroll.add_argument(
        "--no-wait", action="store_true", help="where somebody has to approve this machine, leave the waiting to `run`"
    )
    enroll.set_defaults(command=_enroll)

    run = commands.add_parser("run", parents=[state], help="run until stopped")
    run.add_argument("--transport", choices=("auto", "nats", "http"), default="auto", help="default: %(default)s")
    run.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    run.set_defaults(command=_run)

    status = commands.add_parser("status", parents=[state], help="show what the agent is doing")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)

    rotate = commands.add_parser("rotate-key", parents=[state], help="give this machine another key")
    rotate.set_defaults(command=_rotate_key)

    service = commands.add_parser("install-service", parents=[state], help="have the system start the agent")
    service.add_argument("--print", action="store_true", help="show the service definition instead of installing it")
    service.set_defaults(command=_install_service)
    return parser


def _say(text: str, to: TextIO | None = None) -> None:
    (to or sys.stdout).write(text + "\n")


def _enroll(arguments: argparse.Namespace) -> int:
    # An HTTP client is nothing that a running agent needs.
    from agent.enroll import enroll, until_decided  # noqa: PLC0415

    try:
        identity: Identity | None = enroll(
            arguments.url,
            arguments.token,
            arguments.state_dir,
            name=arguments.name,
            ca=arguments.ca.read_text(encoding="ascii", errors="replace") if arguments.ca is not None else None,
            fingerprint=arguments.fingerprint,
        )
    except EnrollmentWaitingError as error:
        if arguments.no_wait:
            _say(str(error))
            _say("`fleetlog agent run` waits for it and starts then; so does `fleetlog agent install-service`.")
            return 0
        _say("Waiting. Ctrl-C leaves it to `fleetlog agent run`, or to `fleetlog agent install-service`.")
        identity = asyncio.run(_stoppable(lambda stop: until_decided(arguments.state_dir, stop, _say)))
    if identity is None:
        _say("Still waiting: `fleetlog agent run` goes on with it.")
        return 0
    _say(f"Enrolled as agent {identity.agent_id}. State in {arguments.state_dir}.")
    _say("Start it with `fleetlog agent run`, or have the system do so: `fleetlog agent install-service`.")
    return 0


async def _stoppable(serve: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run something that ends when it is told to: by Ctrl-C, or by whoever started this program."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows' event loop
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    return await serve(stop)


def _run(arguments: argparse.Namespace) -> int:
    from agent.identity import PENDING_FILE  # noqa: PLC0415
    from agent.service import Agent  # noqa: PLC0415 - the other subcommands need none of it

    logging.basicConfig(
        level=arguments.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the link logs what matters, once

    async def serve(stop: asyncio.Event) -> None:
        if (arguments.state_dir / PENDING_FILE).exists():
            from agent.enroll import until_decided  # noqa: PLC0415 - as above

            if await until_decided(arguments.state_dir, stop, logging.getLogger("fleetlog.agent").info) is None:
                return
        await Agent(arguments.state_dir, transport=arguments.transport).run(stop)

    try:
        asyncio.run(_stoppable(serve))
    except (NotEnrolledError, EnrollmentRefusedError) as error:
        _failed(error.code, str(error))
        return NOT_AN_AGENT if os.environ.get(SERVICE_VARIABLE) else 2
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from agent.identity import LOCK_FILE, PENDING_FILE, Identity  # noqa: PLC0415 - as above
    from agent.service import LINK_NOTE  # noqa: PLC0415

    if (arguments.state_dir / PENDING_FILE).exists():
        return _status_of_pending(arguments)
    identity = Identity.load(arguments.state_dir)
    lock = PLATFORM.lock(arguments.state_dir / LOCK_FILE)
    if lock is not None:
        os.close(lock)
    counts: dict[str, int] = {}
    notes: dict[str, str] = {}
    journal = arguments.state_dir / "journal.db"
    if journal.exists():
        # Opened for reading alone: the journal has one writer.
        database = sqlite3.connect(f"{journal.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            counts = dict(database.execute("SELECT state, count(*) FROM entries GROUP BY state"))
            notes = dict(database.execute("SELECT name, value FROM notes"))
        except sqlite3.Error as error:
            raise AgentError(f"{journal} cannot be read: {error}") from error
        finally:
            database.close()
    shown: dict[str, object] = {
        "agent_id": str(identity.agent_id),
        "server": identity.server_url,
        "running": lock is None,
        "last_link": notes.get(LINK_NOTE, ""),
        "waiting": counts.get("accepted", 0),
        "executing": counts.get("running", 0),
        "results_to_send": counts.get("ended", 0),
        "version": VERSION,
    }
    _show(shown, as_json=arguments.json)
    return 0 if shown["running"] else 1


def _status_of_pending(arguments: argparse.Namespace) -> int:
    from agent.enroll import Pending  # noqa: PLC0415 - as above
    from agent.identity import LOCK_FILE, AgentKey  # noqa: PLC0415 - as above

    pending = Pending.load(arguments.state_dir)
    lock = PLATFORM.lock(arguments.state_dir / LOCK_FILE)
    if lock is not None:
        os.close(lock)
    key = key_fingerprint(AgentKey.load_or_create(arguments.state_dir).public_hex)
    server = pending.server_url if pending is not None else ""
    shown = {"server": server, "waits_for_approval": True, "key": key, "asking": lock is None, "version": VERSION}
    _show(shown, as_json=arguments.json)
    return 1


def _show(shown: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(shown))
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        _say(f"{name.replace('_', ' '):{width}}  {value}")


def _rotate_key(arguments: argparse.Namespace) -> int:
    from agent.identity import Identity  # noqa: PLC0415 - as above
    from agent.keyring import Keyring  # noqa: PLC0415

    Identity.load(arguments.state_dir)
    key = Keyring(arguments.state_dir).make_next()
    _say(f"The next key is {key.public_hex}.")
    _say("A running agent shows it to the server within seconds, one that is off when it starts; then it takes over.")
    return 0


def _install_service(arguments: argparse.Namespace) -> int:
    from agent.identity import PENDING_FILE, Identity  # noqa: PLC0415 - as above

    if not arguments.print and not (arguments.state_dir / PENDING_FILE).exists():
        Identity.load(arguments.state_dir)
    argv = [sys.executable, "-m", "agent", "run", "--state-dir", str(arguments.state_dir.resolve())]
    text = PLATFORM.install_service(argv, write=not arguments.print)
    _say(text if arguments.print else "Installed and started.")
    return 0
