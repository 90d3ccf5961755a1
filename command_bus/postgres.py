"""Connections to Postgres, made alike for every part of Fleetlog.

The application acts as the role `fleetlog_app`, which may append to the log but never change it; a login only has to
be a member of that role.
"""

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator
from typing import Any, Self

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

APP_ROLE = "fleetlog_app"
SESSION_DEFAULTS = {"search_path": "read,fleetlog", "timezone": "UTC"}
"""What every connection of the application begins with."""
CONNECT_TIMEOUT_S = 5
RECONNECT_TIMEOUT_S = 3.0
"""The pool doubles its wait between tries without a bound, so it is made to give up, and to begin again at once."""

BY_INDEX = {"enable_seqscan": "off"}
"""For connections whose every statement has its index. A plan is made once and kept: one made while a table was
empty reads all of it from then on, until the server has counted anew. Right after a first start, reading what waits for
200 agents took 1.4 s in place of 4 ms."""

AsyncPool = psycopg_pool.AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]


class Pooled(str):
    """The URL of a database, which also knows a pooler in front of it that pools by transaction.

    It is the server's own URL, and serves whoever takes one and may need a session: LISTEN, locks that outlive a
    transaction, settings. Only pools of connections for statements that each stand alone look for the pooler
    (`make_pool`). See docs/decisions/0012-pgbouncer.md.

    Args:
        url: of the server itself.
        pooler_url: of the pooler.
    """

    __slots__ = ("pooler_url",)
    pooler_url: str

    def __new__(cls, url: str, pooler_url: str) -> Self:
        made = super().__new__(cls, url)
        made.pooler_url = pooler_url
        return made


def app_conninfo(url: str, *, name: str = "fleetlog", settings: dict[str, str] | None = None) -> str:
    """Say how the application connects.

    Args:
        url: where the database is, as a URL or libpq string; what it says itself stays.
        name: the connection's name in `pg_stat_activity`.
        settings: further server settings for the session.

    Returns:
        A libpq connection string: role, search path and time zone come as startup options, so a connection has them
        from its first statement, and has them again after a reset.
    """
    wanted = {"role": APP_ROLE, **SESSION_DEFAULTS, **(settings or {})}
    options = " ".join(f"-c {key}={value}" for key, value in wanted.items())
    if "options" in (given := conninfo_to_dict(url)):
        options = f"{given['options']} {options}"
    return make_conninfo(pooled_conninfo(url, name=name), options=options)


def pooled_conninfo(url: str, *, name: str = "fleetlog") -> str:
    """Say how the application connects to a pooler, which knows no startup options: see `app_conninfo`."""
    given = conninfo_to_dict(url)
    defaults: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": name,
    }
    return make_conninfo(url, **{key: value for key, value in defaults.items() if key not in given})


def looks_broken(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> bool:
    """Whether an idle connection has something to say; in a healthy one nothing comes unasked.

    Costs about a microsecond, where a query to test it would cost a round trip.
    """
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


async def _check(connection: psycopg.AsyncConnection[TupleRow]) -> None:
    if looks_broken(connection):
        await AsyncPool.check_connection(connection)


async def _begin_again(pool: AsyncPool) -> None:
    """Ask for a connection, so that the pool tries to make one: those who wait for it do not make it try."""
    with contextlib.suppress(psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed, psycopg_pool.TooManyRequests):
        async with pool.connection(timeout=0.001):
            pass


def make_pool(
    url: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    name: str = "fleetlog",
    settings: dict[str, str] | None = None,
) -> AsyncPool:
    """A pool of autocommit connections, not open yet: ``await pool.open(wait=False)`` within an event loop.

    A connection is looked at before it is lent, so that a restart of the server is not met by the first caller after
    it. `pool.connection(timeout=...)` waits; `psycopg_pool.PoolTimeout` is a `psycopg.OperationalError`.

    Through a pooler (`Pooled`) nothing is prepared: the next statement may be another server process's. Who holds a
    transaction open while waiting for another connection must not share its pool, and takes ``str(url)``.
    """
    pooled = isinstance(url, Pooled)
    return psycopg_pool.AsyncConnectionPool(
        pooled_conninfo(url.pooler_url, name=name)
        if isinstance(url, Pooled)
        else app_conninfo(url, name=name, settings=settings),
        min_size=min_size,
        max_size=max_size,
        open=False,
        name=name,
        kwargs={"autocommit": True} | ({"prepare_threshold": None} if pooled else {}),
        check=_check,
        reconnect_timeout=RECONNECT_TIMEOUT_S,
        reconnect_failed=_begin_again,
        max_waiting=10_000,
    )


async def open_pool(
    url: str,
    *,
    min_size: int = 1,
    max_size: int = 8,
    name: str = "fleetlog",
    settings: dict[str, str] | None = None,
) -> AsyncPool:
    """Open a pool (see `make_pool`); returns at once, and connects in the background with back-off."""
    pool = make_pool(url, min_size=min_size, max_size=max_size, name=name, settings=settings)
    await pool.open(wait=False)
    return pool


async def listen(url: str, channel: str, *, name: str = "fleetlog-listen") -> AsyncIterator[str | None]:
    """Payloads of a channel, for ever, over lost connections.

    Yields:
        None each time that listening (re)started, since what was said before then was not heard; then payloads.
    """
    wait_s = 0.1
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(app_conninfo(url, name=name), autocommit=True) as conn:
                await conn.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
                wait_s = 0.1
                yield None
                async for notification in conn.notifies():
                    yield notification.payload
        except psycopg.Error:
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)
