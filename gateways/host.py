"""Who acts at the server's own machine, and how that comes on record.

Such a command is asked for no key: whoever can reach the database with its password is let do it. What is known of them
is the account that the process runs under, and who became it by sudo; whoever controls that account can say otherwise.
"""

import getpass
import os
from collections.abc import Callable
from typing import Any

import psycopg

from command_bus.noting import note
from domain.event import Event

HOST = "host"
_LOCK_TIMEOUT = "10s"
Noted = Callable[[psycopg.Connection[Any], Event], None]


def at_the_host() -> str:
    """The actor: ``host:<account>``, or ``host:<account>/<person>`` where sudo tells who became it."""
    try:
        account = _account_of(os.getuid())
    except AttributeError:  # Windows knows no such number
        account = getpass.getuser()
    person = os.environ.get("SUDO_USER", "")
    return f"{HOST}:{account}/{person}" if person and person != account else f"{HOST}:{account}"


def _account_of(number: int) -> str:
    import pwd  # noqa: PLC0415 -- not on Windows

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def noted(connection: psycopg.Connection[Any], event: Event) -> None:
    """Record an event in the transaction that it tells of, as an act of whoever is at this machine."""
    note(connection, event, actor=at_the_host())


def put_on_record(url: str, event: Event, tell: Callable[[str], None], *, needed: bool) -> bool:
    """Record an event before what it tells of begins.

    A database that takes no writes (a standby, a disk that is full) can still be read: a backup is worth more than the
    line about it.

    Args:
        url: the database.
        event: what begins.
        tell: told where it could not be recorded.
        needed: let nothing but a database that is read-only be an excuse.

    Returns:
        Whether it is on record.
    """
    excuses = psycopg.errors.ReadOnlySqlTransaction if needed else psycopg.Error
    try:
        with psycopg.connect(url, application_name="fleetlog-cli", connect_timeout=10) as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            noted(connection, event)
    except excuses as error:
        tell(f"This is not on record: {str(error).splitlines()[0]}.")
        return False
    return True
