"""`fleetlog up`: the whole platform on one machine, started in order, kept running, and stopped in order.

    servers (those that no URL is configured for) -> migrations -> roles, each a process of its own

A role that ends is started again, with back-off. When this process is killed, the kernel ends the children; what they
had acknowledged is on disk, and the next start finds it.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
import structlog

from command_bus.ids import new_id, utc_now
from command_bus.migrate import migrate
from command_bus.pooler import prepare_login
from gateways.agents.nats_config import render_nats_config
from gateways.host import at_the_host
from gateways.local import first_steps, platform_file
from gateways.local.addresses import in_url, is_loopback, reachable
from gateways.local.authority_notes import AuthorityNotes
from gateways.local.cores import leave_no_core
from gateways.local.encryption import Encryption, encryption
from gateways.local.first_steps import FirstSteps
from gateways.local.nats import EmbeddedNats
from gateways.local.nats_keys import NatsKeys
from gateways.local.platform_file import Platform
from gateways.local.postgres import EmbeddedPostgres
from gateways.local.processes import Identity, ServerError, end, outlast, spawn
from gateways.local.roles import STOP_ORDER, Role, listening_socket
from gateways.local.server import EmbeddedServer, free_port, sole_use, write_private
from gateways.local.valkey import EmbeddedValkey
from gateways.master_keys import master_keys
from gateways.settings import Settings, need
from gateways.status import Status, collect
from gateways.tls import CertificateError
from projections.tables import create_tables

READY_TIMEOUT_S = 60.0
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 30.0
ASK_S = 0.1
ROLES_FILE = "roles.json"
"""Beside the data: which processes our roles are, for a start after a crash."""
STEADY_S = 30.0
"""A role that ran for so long starts over with the shortest wait."""
CHECK_S = 1.0

_log = structlog.get_logger(__name__)


class _Child:
    """A role's process, over its restarts."""

    def __init__(self, role: Role, environment: Mapping[str, str]) -> None:
        self.role = role
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._popen_started = 0.0
        self._wait_s = FIRST_WAIT_S
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        self._process = spawn(
            [sys.executable, "-m", "gateways.cli", "serve", str(self.role)], log_file=None, env=self._environment
        )
        self._popen_started = time.monotonic()

    def look_after(self) -> bool:
        """Start it again if it has ended and its wait is over.

        Returns:
            Whether it was started.
        """
        now = time.monotonic()
        if self._process is not None:
            if self._process.poll() is None:
                return False
            if now - self._popen_started > STEADY_S:
                self._wait_s = FIRST_WAIT_S
            _log.error("role_ended", part=str(self.role), exit_code=self._process.returncode, again_in_s=self._wait_s)
            self._process = None
            self._not_before = now + self._wait_s
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        elif now >= self._not_before:
            self.start()
            return True
        return False

    @property
    def due_in_s(self) -> float:
        return max(0.01, self._not_before - time.monotonic()) if self._process is None else CHECK_S

    async def stop(self, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            await asyncio.to_thread(end, psutil.Process(process.pid), [(signal.SIGTERM, timeout_s)])
            process.wait()


class Supervisor:
    """Everything that `fleetlog up` runs.

    Args:
        settings: what is configured; servers are embedded for the rest.
        say: takes each line for the administrator.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None]) -> None:
        port = settings.listen_port or free_port(settings.listen_host)
        self._settings = settings.model_copy(update={"listen_port": port})
        self._say = say
        self._open = not is_loopback(settings.listen_host)
        self._encryption: Encryption | None = None
        self._nats: EmbeddedNats | None = None
        self._nats_keys: NatsKeys | None = None
        self._notes: AuthorityNotes | None = None
        self._nobody = False
        """No person has a password here."""
        self._servers: list[EmbeddedServer] = []
        self._children: list[_Child] = []
        self._wake = asyncio.Event()
        self._stopping = False

    def ask_to_stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """A child may have ended."""
        self._wake.set()

    async def run(self) -> None:
        """Run until asked to stop.

        Raises:
            SettingsError: of the master key, or of the first password.
            AlreadyRunningError: another runs on this data directory.
            ServerError: a part could not be started.
        """
        data_dir = self._settings.data_dir
        # Before anything is started: a setting that cannot be used is said at once.
        keys, password = master_keys(self._settings), first_steps.given_password(self._settings)
        with sole_use(data_dir):
            await asyncio.to_thread(outlast, _read_roles(data_dir), self._settings.stop_timeout_s)
            try:
                listening_socket(self._settings.listen_host, self._settings.listen_port).close()
                self._encryption = await asyncio.to_thread(
                    encryption, self._settings, is_open=self._open, clock=utc_now
                )
                platform = await self._start_servers()
                ca_file = self._encryption.ca_file if self._encryption is not None else None
                profile = data_dir / first_steps.PROFILE
                shown = await first_steps.take(
                    platform.postgres_url, profile, platform.api_url, keys, password, ca_file=ca_file
                )
                # Through a provider people log in without.
                if shown is None and self._settings.oidc_issuer is None:
                    self._nobody = await first_steps.nobody_has_a_password(platform.postgres_url)
                platform.save(data_dir)
                self._notes = AuthorityNotes(platform.postgres_url, new_id)
                self._start_roles(platform)
                await self._supervise(platform, shown)
            finally:
                await self._stop()

    async def _start_servers(self) -> Platform:
        """Start what is not configured, and bring the database up to date."""
        settings = self._settings
        admin_url, postgres_url = self._start_postgres()
        for name in await asyncio.to_thread(migrate, admin_url, actor=at_the_host()):
            _log.info("migrated", migration=name)
        await create_tables(admin_url)
        if settings.postgres_pooler_url is not None:
            await asyncio.to_thread(prepare_login, settings.database_url)
        nats_url, nats_agent_urls = await self._start_nats(postgres_url)
        redis_url = settings.redis_url.get_secret_value() if settings.redis_url is not None else self._start_valkey()
        used = self._encryption
        named = used.name if used is not None else None
        host = named or (reachable(settings.listen_host)[0] if self._open else settings.listen_host)
        scheme = "http" if used is None else "https"
        return Platform(
            pid=os.getpid(),
            api_url=settings.public_url or f"{scheme}://{in_url(host)}:{settings.listen_port}",
            listen_host=settings.listen_host,
            listen_port=settings.listen_port,
            postgres_url=postgres_url,
            postgres_admin_url=admin_url,
            nats_url=nats_url,
            nats_agent_urls=nats_agent_urls,
            redis_url=redis_url,
            tls_ca_file=str(used.ca_file) if used is not None and used.ca_file is not None else None,
        )

    def _start(self, server: EmbeddedServer) -> None:
        self._servers.append(server)
        began = time.monotonic()
        server.start()
        _log.info("server_running", part=server.name, seconds=round(time.monotonic() - began, 2))

    def _start_postgres(self) -> tuple[str, str]:
        if self._settings.postgres_url is not None:
            return self._settings.migration_url, need(self._settings.postgres_url, "postgres_url")
        server = EmbeddedPostgres(self._settings.data_dir)
        self._start(server)
        return server.owner_url, server.url

    async def _start_nats(self, postgres_url: str) -> tuple[str, str]:
        settings = self._settings
        if settings.nats_url is not None:
            url = settings.nats_url.get_secret_value()
            return url, settings.nats_agent_urls or url
        keys = self._nats_keys = await asyncio.to_thread(NatsKeys, postgres_url)
        host = settings.listen_host if self._open else "127.0.0.1"
        port = settings.nats_websocket_port
        websocket = f"{in_url(host)}:{port}" if port is not None else None
        used = self._encryption
        server = EmbeddedNats(
            settings.data_dir,
            host=host,
            config=lambda _ports: render_nats_config(keys.keys, websocket=websocket, tls=server.tls),
            main_port=settings.nats_listen_port if self._open else None,
            pair=used.pair if used is not None else None,
        )
        self._start(server)
        self._nats = server
        at = in_url((used.name if used is not None else None) or (reachable(host)[0] if self._open else host))
        agents = [f"{'nats' if used is None else 'tls'}://{at}:{server.port()}"]
        if port is not None:
            agents.append(f"{'ws' if used is None else 'wss'}://{at}:{port}")
        return server.url, settings.nats_agent_urls or ",".join(agents)

    def _start_valkey(self) -> str:
        server = EmbeddedValkey(self._settings.data_dir)
        self._start(server)
        return server.url

    def _start_roles(self, platform: Platform) -> None:
        environment = {
            **os.environ,
            "FLEETLOG_DATA_DIR": str(self._settings.data_dir),
            "FLEETLOG_POSTGRES_URL": platform.postgres_url,
            "FLEETLOG_POSTGRES_ADMIN_URL": platform.postgres_admin_url,
            "FLEETLOG_NATS_URL": platform.nats_url,
            "FLEETLOG_NATS_AGENT_URLS": platform.nats_agent_urls,
            "FLEETLOG_REDIS_URL": platform.redis_url,
            "FLEETLOG_LISTEN_HOST": platform.listen_host,
            "FLEETLOG_LISTEN_PORT": str(platform.listen_port),
            "FLEETLOG_PUBLIC_URL": platform.api_url,
            **self._told_of_tls(),
        }
        # Only we give it to somebody.
        environment.pop("FLEETLOG_ADMIN_PASSWORD", None)
        self._children = [_Child(role, environment) for role in Role]
        for child in self._children:
            child.start()
        self._note_roles()

    def _told_of_tls(self) -> dict[str, str]:
        """What the roles must know of the certificate, in place of what they would make of the settings themselves."""
        used = self._encryption
        if used is None:
            return {}
        told: dict[str, object] = {
            "TLS_CERT_FILE": used.pair.certificate,
            "TLS_KEY_FILE": used.pair.key,
            "TLS_CA_FILE": used.ca_file,
        }
        if self._nats is not None:
            told |= {"NATS_CA_FILE": used.ca_file, "NATS_TLS_NAME": used.name}
        return {f"FLEETLOG_{name}": str(value) for name, value in told.items() if value is not None}

    def _note_roles(self) -> None:
        found = [Identity.of(child.pid) for child in self._children if child.pid is not None]
        write_private(self._settings.data_dir / ROLES_FILE, msgspec.json.encode(found).decode())

    async def _supervise(self, platform: Platform, shown: FirstSteps | None) -> None:
        announcing = asyncio.create_task(self._announce(platform, shown), name="announce")
        try:
            while not self._stopping:
                self._wake.clear()
                for server in self._servers:
                    if not server.running():
                        _log.error("server_ended", part=server.name)
                        self._restart(server)
                if self._encryption is not None and await asyncio.to_thread(self._encryption.renewed):
                    self._show_renewed()
                await self._note_authorities()
                if self._nats_keys is not None and await asyncio.to_thread(self._nats_keys.renewed):
                    self._let_in()
                started = [child.look_after() for child in self._children]
                if any(started):
                    self._note_roles()
                due = min(child.due_in_s for child in self._children)
                try:
                    async with asyncio.timeout(due):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            announcing.cancel()
            (outcome,) = await asyncio.gather(announcing, return_exceptions=True)
            if isinstance(outcome, Exception):
                _log.error("not_announced", exc_info=outcome)

    def _show_renewed(self) -> None:
        """The roles look at the files themselves; the NATS server has to be told."""
        if self._nats is not None:
            self._nats.reload()
        _log.info("certificate_renewed")

    async def _note_authorities(self) -> None:
        if self._encryption is None or self._notes is None or not self._notes.due:
            return
        try:
            standings = await asyncio.to_thread(self._encryption.standings)
        except (CertificateError, OSError) as error:
            _log.warning("authorities_unreadable", error=str(error))
            return
        await self._notes.note(standings)

    def _let_in(self) -> None:
        """One of the fleet's keys takes over from another at the NATS server, which takes none up without a restart."""
        _log.info("nats_keys_changed")
        if self._nats is not None:
            self._restart(self._nats)

    def _restart(self, server: EmbeddedServer) -> None:
        """Bring a server back; where that fails, the next look tries again, and the roles wait meanwhile."""
        try:
            server.restart()
        except ServerError as error:
            _log.error("server_not_back", part=server.name, error=str(error))
        else:
            _log.info("server_running", part=server.name)

    async def _announce(self, platform: Platform, shown: FirstSteps | None) -> None:
        """Say where it is, once every part is there and what was recorded before can be read."""
        # As this machine reaches it: a proxy in front of the public address may not be there yet.
        here = platform_file.completed(self._settings).model_copy(update={"public_url": None})
        if self._encryption is not None:
            pair = self._encryption.pair
            here = here.model_copy(update={"tls_cert_file": pair.certificate, "tls_key_file": pair.key})
        deadline = time.monotonic() + READY_TIMEOUT_S
        goal: int | None = None
        while True:
            status = await collect(here)
            if goal is None and status.projections:
                goal = max(item.position + item.lag for item in status.projections)
            if goal is not None and self._ready(status, goal):
                break
            if time.monotonic() > deadline:
                self._say(f"Not everything is ready yet ({'; '.join(status.faults())}); see `fleetlog status`.")
                break
            await asyncio.sleep(ASK_S)
        for line in self._lines(platform, shown):
            self._say(line)

    def _ready(self, status: Status, goal: int) -> bool:
        """Whether all parts and our roles run, and every projection that is not stopped has come to a position."""
        running = {process.pid for process in status.processes if process.ok}
        return (
            all(part.ok for part in status.parts)
            and all(child.pid in running for child in self._children)
            and all(item.position >= goal for item in status.projections if item.status != "stopped")
        )

    def _lines(self, platform: Platform, shown: FirstSteps | None) -> list[str]:
        lines = ["", f"Fleetlog is running: {platform.api_url}  (API reference: {platform.api_url}/docs)"]
        if self._open:
            others = reachable(self._settings.listen_host)[1:]
            if others:
                lines.append(f"  also at: {', '.join(others)}")
            nats_port = urlsplit(platform.nats_agent_urls.split(",")[0]).port or 4222
            lines.append(
                f"  open these ports to your machines: {platform.listen_port}/tcp (API), {nats_port}/tcp (NATS)"
            )
            if self._encryption is None:
                lines.append("  plain text (FLEETLOG_TLS=proxy): only the proxy in front may reach these ports")
        fingerprint = self._encryption.fingerprint if self._encryption is not None else None
        pin = f" --fingerprint {fingerprint}" if fingerprint is not None else ""
        if fingerprint is not None:
            lines.append(f"  certificate authority: {fingerprint}")
        if shown is not None:
            lines += [
                "",
                f"  admin key (shown this once):  {shown.admin_key}",
                first_steps.login_line(shown),
                f"  enroll an agent (7 days):     fleetlog agent enroll {platform.api_url} {shown.token}{pin}",
            ]
        else:
            lines.append(f"  enroll an agent: `fleetlog tokens create --site {first_steps.SITE}` prints the line")
        if self._nobody:
            lines += ["", f"  {first_steps.NOBODY}"]
        return [*lines, "", "Ctrl-C stops it."]

    async def _stop(self) -> None:
        """The roles in their order, then the servers in the reverse of theirs."""
        platform_file.remove(self._settings.data_dir)
        for roles in STOP_ORDER:
            stopping = [child for child in self._children if child.role in roles]
            await asyncio.gather(*(child.stop(self._settings.stop_timeout_s + 5) for child in stopping))
        for server in reversed(self._servers):
            _log.info("server_stopping", part=server.name)
            server.stop()


def _read_roles(data_dir: Path) -> list[Identity]:
    try:
        return msgspec.json.decode((data_dir / ROLES_FILE).read_bytes(), type=list[Identity])
    except (FileNotFoundError, msgspec.DecodeError):
        return []  # the first start, or one of another version


def up(settings: Settings, say: Callable[[str], None]) -> int:
    """Run the platform until SIGTERM or SIGINT; a second signal ends it at once (the kernel ends its children).

    Returns:
        0 after an orderly end.

    Raises:
        ServerError: it could not be started.
    """
    leave_no_core()
    return asyncio.run(_up(settings, say))


async def _up(settings: Settings, say: Callable[[str], None]) -> int:
    supervisor = Supervisor(settings, say)
    asked = 0

    def on_signal() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            os._exit(130)
        supervisor.ask_to_stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGCHLD, supervisor.wake)
    await supervisor.run()
    return 0
