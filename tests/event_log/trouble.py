"""What befalls a database's connections."""

import psycopg


async def cut_connections(url: str, name: str) -> int:
    """End the connections of that name (a LIKE pattern), wherever they are in what they do; returns how many."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        cut = await conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND datname = current_database()",
            [name],
        )
        return len(await cut.fetchall())
