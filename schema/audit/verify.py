"""Verify a database, or an export alone."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from schema.audit.checkpoints import Outside
from schema.audit.database import DatabaseSource
from schema.audit.exports import ExportSource
from schema.audit.verifying import Report, Verification


@contextmanager
def one_moment(url: str) -> Iterator[DatabaseSource]:
    """Log and chain of a database as they are now, whatever goes on meanwhile.

    Args:
        url: any login that may read them.
    """
    import psycopg  # noqa: PLC0415 - an export is verified without a driver

    with psycopg.connect(url, autocommit=True, application_name="fleetlog-audit-verify") as connection:
        connection.execute("SET TimeZone TO 'UTC'")
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction(), connection.cursor(binary=True) as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")
            yield DatabaseSource(cursor)


def verify_database(url: str, since: int = 0, outside: Sequence[Outside] = (), keys: Collection[str] = ()) -> Report:
    """Verify what a database holds: the log's table, the archive, and the chain over both.

    Args:
        url: any login that may read them.
        since: begin after the last checkpoint at or before this position.
        outside: checkpoints that were kept outside of it.
        keys: public keys that may sign for Fleetlog; none: any.
    """
    with one_moment(url) as source:
        return Verification(source, outside, keys).run(since)


def verify_export(file: Path, outside: Sequence[Outside] = (), keys: Collection[str] = ()) -> Report:
    """Verify an export by itself.

    Raises:
        BadExportError: it is none, or was cut.
    """
    return Verification(ExportSource(file), outside, keys).run()
