"""Whether the application's login could do more than the application.

Every connection acts as `fleetlog_app`, but whoever has the login's password, or makes the application run a statement
of theirs, says `RESET ROLE` and is the login itself. So that must be an ordinary one.
"""

from typing import Any

import psycopg

_MIGHTY = """
    SELECT session_user
    FROM pg_class AS events JOIN pg_namespace AS place ON place.oid = events.relnamespace
    WHERE events.oid = 'fleetlog.events'::regclass
        AND (pg_has_role(session_user, events.relowner, 'MEMBER') OR pg_has_role(session_user, place.nspowner, 'MEMBER')
            OR has_table_privilege(session_user, events.oid, 'UPDATE, DELETE, TRUNCATE, TRIGGER'))
"""
"""A superuser is a member of every role."""


async def mighty_login(connection: psycopg.AsyncConnection[Any]) -> str | None:
    """The login behind a connection, where it could change what the log holds; None where it could not.

    Args:
        connection: of the application, whatever role it acts as.

    Raises:
        psycopg.Error: the server is away, or not migrated yet.
    """
    row = await (await connection.execute(_MIGHTY)).fetchone()
    return None if row is None else str(row[0])


def warning_about(login: str) -> str:
    """What to say of such a login."""
    return (
        f"the login {login} in FLEETLOG_POSTGRES_URL owns the log or the server, or was granted more, so whoever has "
        "it could change the past: use an ordinary member of fleetlog_app there"
    )
