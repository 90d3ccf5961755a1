"""How a connection that folds is set."""

import psycopg


def prepare(connection: psycopg.Connection) -> None:
    """Set what holds for the session."""
    # A plan that was made while a table was empty would read all of it from then on.
    connection.execute("SET enable_seqscan = off")
    connection.execute("SET plan_cache_mode = force_generic_plan")
    # What a crash of the server takes away of the rows, it takes away of the tracking rows too: it is folded again.
    connection.execute("SET synchronous_commit = off")
