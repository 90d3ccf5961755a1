"""PgBouncer in transaction mode, as Debian packages it: in front of a test's Postgres."""

import shutil
import socket
from pathlib import Path
from urllib.parse import quote, unquote

from psycopg.conninfo import conninfo_to_dict

from gateways.local.server import LOOPBACK, EmbeddedServer

POOL_SIZE = 20
"""Server processes for each database; PgBouncer's own default."""

MISSING = "PgBouncer is not installed; on Debian and Ubuntu: apt-get install pgbouncer"


def installed() -> bool:
    return shutil.which("pgbouncer") is not None


class PgBouncer(EmbeddedServer):
    """Pools the connections of every database of one server.

    Args:
        data_dir: see `EmbeddedServer`.
        postgres_url: of the server; its password is that of each login.
        logins: who may come.
        options: further lines of its configuration.
    """

    name = "pgbouncer"

    def __init__(self, data_dir: Path, postgres_url: str, logins: tuple[str, ...], *, options: str = "") -> None:
        super().__init__(data_dir)
        self._server = conninfo_to_dict(postgres_url)
        self._logins = logins
        self._options = options

    @property
    def url(self) -> str:
        return self.url_for(self._logins[0], "postgres")

    def url_for(self, login: str, database: str) -> str:
        password = quote(str(self._server["password"]), safe="")
        return f"postgresql://{login}:{password}@{LOOPBACK}:{self.port()}/{database}"

    def _version(self) -> str:
        return "system"

    def _command(self) -> list[str | Path]:
        users = "".join(f'"{login}" "{self._server["password"]}"\n' for login in self._logins)
        config = self._write_config(
            "pgbouncer.ini",
            "[databases]\n"
            f"* = host={unquote(str(self._server['host']))} port={self._server['port']}\n"
            "[pgbouncer]\n"
            f"listen_addr = {LOOPBACK}\n"
            f"listen_port = {self.port()}\n"
            "unix_socket_dir =\n"
            "auth_type = scram-sha-256\n"
            f"auth_file = {self._write_config('users.txt', users)}\n"
            "pool_mode = transaction\n"
            "max_client_conn = 2000\n"
            f"default_pool_size = {POOL_SIZE}\n"
            "server_idle_timeout = 30\n"
            f"admin_users = postgres\n{self._options}\n",
        )
        found = shutil.which("pgbouncer")
        assert found is not None, MISSING
        return [found, config]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self.port()), 1):
                return True
        except OSError:
            return False
