"""A pooler in front of Postgres: what it must be told, and how a wrong one is noticed.

Why it is an address beside the server's and not in its place: docs/decisions/0012-pgbouncer.md.
"""

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from command_bus.login_rights import mighty_login
from command_bus.postgres import SESSION_DEFAULTS, Pooled, app_conninfo, pooled_conninfo

_LOGIN = """
    SELECT current_user, current_database(), has_table_privilege('fleetlog.events', 'UPDATE'),
        current_setting('search_path'), current_setting('TimeZone')
"""


class PoolerError(Exception):
    """A pooler stands where none may, or does not do what is asked of it."""

    code = "pooler"


async def check_addresses(url: str) -> str | None:
    """See that a database's URL leads to the server itself, and that its pooler, if it has one, can be used.

    Returns:
        The URL's login, where that could change the past: to be said, since the application acts as less.

    Raises:
        PoolerError: it does not, or it cannot; the message says what to do.
        psycopg.Error: it is away, or not migrated yet.
    """
    try:
        async with await psycopg.AsyncConnection.connect(app_conninfo(url), autocommit=True) as connection:
            await must_be_the_server(connection)
            mighty = await mighty_login(connection)
    except psycopg.OperationalError as error:
        raise _startup_refused(error, "FLEETLOG_POSTGRES_URL") or error from None
    if isinstance(url, Pooled):
        conninfo = pooled_conninfo(url.pooler_url)
        async with await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, prepare_threshold=None
        ) as connection:
            row = await (await connection.execute(_LOGIN)).fetchone()
            _must_be_prepared(*(row or ("", "", False, "", "")))
    return mighty


async def must_be_the_server(connection: psycopg.AsyncConnection) -> None:
    """Raise PoolerError unless the other end of a connection is Postgres itself.

    A pooler hands out numbers of its own for cancelling, since a connection to it is no server process. This is so in
    whatever way it pools: one that keeps a session together today is one line of configuration from not doing so.
    """
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    _same(connection.info.backend_pid, row)


def must_be_the_server_too(connection: psycopg.Connection) -> None:
    """The same for a connection that blocks."""
    _same(connection.info.backend_pid, connection.execute("SELECT pg_backend_pid()").fetchone())


def _same(announced: int, row: tuple[int, ...] | None) -> None:
    if row != (announced,):
        raise PoolerError(
            "This address leads to a pooler, and not to Postgres: through it nobody hears LISTEN, and locks stay "
            "behind. Give the server's own address in FLEETLOG_POSTGRES_URL (and FLEETLOG_POSTGRES_ADMIN_URL), and the "
            "pooler's in FLEETLOG_POSTGRES_POOLER_URL."
        )


def _startup_refused(error: psycopg.OperationalError, setting: str) -> PoolerError | None:
    """PgBouncer refuses what Postgres takes when a connection begins; nothing else says it in these words."""
    if "unsupported startup parameter" not in str(error):
        return None
    return PoolerError(
        f"{setting} leads to PgBouncer ({str(error).strip()}). Give the server's own address there, and PgBouncer's in "
        "FLEETLOG_POSTGRES_POOLER_URL."
    )


def _must_be_prepared(login: str, database: str, may_change: bool, search_path: str, time_zone: str) -> None:
    if may_change:
        raise PoolerError(
            f"The pooler's login {login} owns the log or the server, so it could change the past. Use an ordinary "
            "member of fleetlog_app in FLEETLOG_POSTGRES_POOLER_URL."
        )
    if (search_path.replace(" ", ""), time_zone) != (SESSION_DEFAULTS["search_path"], SESSION_DEFAULTS["timezone"]):
        raise PoolerError(
            f"Connections through the pooler do not begin as they must (search path {search_path!r}, time zone "
            f"{time_zone!r}). `fleetlog migrate` sets it for the login {login} in the database {database}; connections "
            "that the pooler had opened before stay as they were: have it RECONNECT."
        )


def prepare_login(url: str) -> bool:
    """Have each connection of the pooler's login begin as the application's must; does nothing without a pooler.

    What a connection of the application says of itself when it begins, a pooler cannot pass on, since its connections
    to the server serve many. So Postgres keeps it for the login.

    Returns:
        Whether anything was changed.

    Raises:
        psycopg.Error: the server is away, or does not know the login.
    """
    if not isinstance(url, Pooled):
        return False
    server, pooler = conninfo_to_dict(url), conninfo_to_dict(url.pooler_url)
    where = {key: server.get(key) for key in ("host", "hostaddr", "port")}
    direct = make_conninfo("", **(pooler | where | {"application_name": "fleetlog-migrate"}))
    with psycopg.connect(direct, autocommit=True) as connection:
        must_be_the_server_too(connection)
        found = connection.execute("SELECT current_setting('search_path'), current_setting('TimeZone')").fetchone()
        if found == (", ".join(SESSION_DEFAULTS["search_path"].split(",")), SESSION_DEFAULTS["timezone"]):
            return False
        database = Identifier(connection.info.dbname)
        for name, value in SESSION_DEFAULTS.items():
            values = SQL(", ").join(Literal(one) for one in value.split(","))
            connection.execute(
                SQL("ALTER ROLE CURRENT_USER IN DATABASE {} SET {} TO {}").format(database, Identifier(name), values)
            )
    return True
