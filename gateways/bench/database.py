"""A database of a bench's own: migrated, and dropped afterwards."""

import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from command_bus.migrate import migrate
from command_bus.postgres import app_conninfo
from gateways.bench.result import BenchOptions
from gateways.local.servers import embedded_servers

RAW_TABLE = "read.raw_events"


@contextlib.asynccontextmanager
async def bench_database(options: BenchOptions) -> AsyncIterator[str]:
    """The URL of a fresh database, on the server named or on one started for it."""
    if options.postgres_url:
        async with server_database(options.postgres_url) as url:
            yield url
        return
    async with embedded_servers(nats=False) as servers, server_database(servers.postgres_url) as url:
        yield url


@contextlib.asynccontextmanager
async def server_database(server_url: str) -> AsyncIterator[str]:
    """The URL of a fresh database on a server, dropped afterwards."""
    name = f"fleetlog_bench_{uuid4().hex[:12]}"
    async with await psycopg.AsyncConnection.connect(server_url, autocommit=True) as conn:
        await conn.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
            migrate(url)
            yield url
        finally:
            await conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def make_raw_table(url: str) -> None:
    """A table like the log's, with its columns, keys and indexes but without its triggers: the engine alone."""
    with psycopg.connect(app_conninfo(url), autocommit=True) as conn:
        conn.execute(f"CREATE TABLE {RAW_TABLE} (LIKE fleetlog.events INCLUDING ALL)".encode())
