"""What a gateway asks for each group of agents is answered by an index, also when it was planned on empty tables."""

import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import Diagnostic
from psycopg.sql import SQL, Identifier, Literal
from pydantic import SecretStr
from starlette.routing import Mount, Route

from command_bus.ids import new_id, utc_now
from command_bus.postgres import BY_INDEX, Pooled, app_conninfo
from domain.ids import AgentId
from gateways.agents.leases import Leases, Settlement
from gateways.composition.api import build_api
from gateways.settings import Settings
from projections.pending import counts
from tests.projections.explaining import ExplainingCursor, nodes, tables_scanned


def _read_at_large(plans: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Indexes of the queues that were read for more than one agent or command: all the others' entries with them."""
    return [
        (node["Index Name"], node.get("Index Cond", ""))
        for plan in plans
        for node in nodes(plan)
        if node.get("Index Name", "").startswith("pending_")
        and node["Index Name"] != "pending_hours_idx"
        and "agent_id = " not in node.get("Index Cond", "")
        and "command_id = " not in node.get("Index Cond", "")
    ]


class _Pool:
    """One connection, lent to everybody."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    def connection(self) -> "_Pool":
        return self

    async def __aenter__(self) -> psycopg.AsyncConnection[Any]:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        return None


@pytest.fixture
async def explaining(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    ExplainingCursor.plans = []
    conninfo = app_conninfo(postgres_url, settings=BY_INDEX)
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        connection.cursor_factory = ExplainingCursor
        yield connection


async def test_a_plan_made_on_empty_tables_still_goes_by_index(explaining: psycopg.AsyncConnection[Any]) -> None:
    """A gateway keeps its plans; those from before the first rollout must do for the hundred thousandth command."""
    pool: Any = _Pool(explaining)
    agent_ids = [AgentId(new_id()) for _ in range(200)]
    leases = Leases(pool, "g", utc_now)
    await leases.wanting(agent_ids)
    handovers = await leases.take(agent_ids)
    assert len(handovers) == len(agent_ids)
    await leases.settle([Settlement(one.agent_id, one.fence, frozenset()) for one in handovers])
    await counts(explaining, agent_ids)
    assert len(ExplainingCursor.plans) >= 4
    assert [tables_scanned(plan) for plan in ExplainingCursor.plans if tables_scanned(plan)] == []
    assert _read_at_large(ExplainingCursor.plans) == []


async def test_what_a_lease_does_within_the_server_goes_by_index(postgres_url: str) -> None:
    """The statements inside of its function, as the server itself says that it ran them."""
    plans: list[dict[str, Any]] = []

    def heard(diagnostic: Diagnostic) -> None:
        text = diagnostic.message_primary or ""
        if "plan:" in text:
            plans.append(json.loads(text.partition("plan:")[2])["Plan"])

    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        connection.add_notice_handler(heard)
        await connection.execute("SET search_path TO read, fleetlog")
        await connection.execute("LOAD 'auto_explain'")
        for name, value in (("log_min_duration", "0"), ("log_nested_statements", "on"), ("log_format", "json")):
            await connection.execute(SQL("SET auto_explain.{} = {}").format(Identifier(name), Literal(value)))
        await connection.execute("SET auto_explain.log_level = notice")
        leases = Leases(_Pool(connection), "g", utc_now)  # type: ignore[arg-type]
        await leases.take([AgentId(new_id()) for _ in range(200)])
        await leases.take_wanted([AgentId(new_id()) for _ in range(200)])
    tables = {node.get("Relation Name") for plan in plans for node in nodes(plan)}
    assert {"pending", "leases"} <= tables
    assert [tables_scanned(plan) for plan in plans if tables_scanned(plan)] == []
    assert _read_at_large(plans) == []


async def test_the_api_serves_agents_by_index_as_well(postgres_url: str) -> None:
    """HTTP check-ins ask what a gateway asks, on connections that keep their plans as a gateway's do."""
    settings = Settings(postgres_url=SecretStr(postgres_url), nats_url=SecretStr("nats://127.0.0.1:1"))
    (mount,) = [route for route in build_api(settings).routes if isinstance(route, Mount)]
    pools = {route.endpoint.__self__._pool for route in mount.routes if isinstance(route, Route)}
    (pool,) = pools
    await pool.open(wait=False)
    async with pool.connection() as connection:
        if isinstance(postgres_url, Pooled):  # no plan is kept there: each is made for the tables as they are
            assert connection.prepare_threshold is None
        else:
            assert await (await connection.execute("SHOW enable_seqscan")).fetchone() == ("off",)
    await pool.close()
