"""Plans of the statements that a query really sends."""

from collections.abc import Iterator
from typing import Any, Self

import psycopg


class ExplainingCursor(psycopg.AsyncCursor[Any]):
    """Asks for the plan of each statement before it runs it."""

    plans: list[dict[str, Any]]

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        if query.startswith("SET "):
            return await super().execute(query, params, **options)
        # In text: the plan is one JSON document whatever the query's own format.
        explain = psycopg.AsyncCursor(self.connection)
        await explain.execute(b"EXPLAIN (FORMAT JSON) " + query.encode(), params)
        row = await explain.fetchone()
        assert row is not None
        type(self).plans.append(row[0][0]["Plan"])
        return await super().execute(query, params, **options)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def tables_scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that are read from end to end."""
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}


def sorts(plan: dict[str, Any]) -> bool:
    return any(node["Node Type"] == "Sort" for node in nodes(plan))
