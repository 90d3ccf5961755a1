"""Postgres, NATS and Valkey from their wheels: real servers under a data directory, for one machine and for tests."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from gateways.local.nats import EmbeddedNats, EmbeddedNatsCluster
from gateways.local.postgres import EmbeddedPostgres
from gateways.local.processes import ServerError
from gateways.local.server import AlreadyRunningError, EmbeddedServer, sole_use
from gateways.local.valkey import EmbeddedValkey

__all__ = [
    "AlreadyRunningError",
    "EmbeddedNats",
    "EmbeddedNatsCluster",
    "EmbeddedPostgres",
    "EmbeddedServer",
    "EmbeddedValkey",
    "ServerError",
    "Servers",
    "embedded_servers",
    "sole_use",
    "temporary_folder",
]


class Servers(msgspec.Struct, frozen=True, kw_only=True):
    """Running servers; those not asked for are None."""

    postgres: EmbeddedPostgres | None
    nats: EmbeddedNats | None
    valkey: EmbeddedValkey | None

    @property
    def postgres_url(self) -> str:
        return self.postgres.superuser_url if self.postgres is not None else ""

    @property
    def nats_url(self) -> str:
        return self.nats.url if self.nats is not None else ""

    @property
    def valkey_url(self) -> str:
        return self.valkey.url if self.valkey is not None else ""


def temporary_folder(prefix: str = "fleetlog-") -> Path:
    """A fresh folder with a short path (for sockets), which the servers' account can be let through."""
    too_long = sys.platform != "win32" and len(tempfile.gettempdir()) > 40  # noqa: PLR2004 -- leaves room for a socket
    base = "/tmp" if too_long else None  # noqa: S108 -- mkdtemp makes a folder that is ours alone
    return Path(tempfile.mkdtemp(prefix=prefix, dir=base))


@contextlib.asynccontextmanager
async def embedded_servers(
    data_dir: Path | None = None,
    *,
    postgres: bool = True,
    nats: bool = True,
    valkey: bool = False,
    nats_config: str | Callable[[dict[str, int]], str] = "",
    preload: str = "",
) -> AsyncIterator[Servers]:
    """Servers for as long as the context is open, for tests, benches and the demo.

    Starting blocks the event loop: nothing else has begun, and the children must belong to a thread that stays.

    Args:
        data_dir: kept afterwards; None means a temporary one, removed afterwards.
        postgres: whether to start it; the context's `postgres_url` is the administrator's.
        nats: whether to start it.
        valkey: whether to start it.
        nats_config: see `EmbeddedNats`.
        preload: Postgres' `shared_preload_libraries`.
    """
    folder = data_dir if data_dir is not None else temporary_folder()
    servers = Servers(
        postgres=EmbeddedPostgres(folder, preload=preload) if postgres else None,
        nats=EmbeddedNats(folder, config=nats_config) if nats else None,
        valkey=EmbeddedValkey(folder) if valkey else None,
    )
    with contextlib.ExitStack() as stack:
        if data_dir is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(sole_use(folder))
        for server in (servers.postgres, servers.nats, servers.valkey):
            if server is not None:
                stack.callback(server.stop)
                server.start()
        yield servers
