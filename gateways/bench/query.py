"""`query`: the pages a dashboard asks for again and again, over a large fleet with a long history.

Through the functions that REST answers from, one after the other over one connection: the agents list (each filter in
turn, and the page after the first), one agent's queue, one agent's timeline; 100 rows a page. Then the same through
HTTP, by a platform of its own on the same database. The limit is one row by its primary key, fetched by the driver.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import psycopg

from command_bus.event_log import Selection
from command_bus.postgres import app_conninfo
from command_bus.postgres_log import PostgresEventLog
from domain.agents import AgentState, Platform
from gateways.bench.append import bench_metadata
from gateways.bench.database import bench_database
from gateways.bench.history import FleetHistory, Machine
from gateways.bench.platform import Http, running_platform
from gateways.bench.result import BenchOptions, BenchResult
from projections.agents import list_agents
from projections.catalog import names
from projections.pending import list_pending
from projections.rebuild import rebuild
from projections.tables import create_tables
from projections.timeline import describe

NAME = "query"
EVENTS = 2_000_000
AGENTS = 100_000
BACKLOGGED = 50
BACKLOG = 200
"""Commands that wait for each of these agents: more than a page."""
SAMPLES = 400
WARM_UP = 40
SETTLE_S = 300.0
PAGE = 100

Reader = psycopg.AsyncConnection[Any]
Ask = Callable[[], Awaitable[object]]


class Asked(msgspec.Struct, frozen=True):
    """One question's cost, in milliseconds."""

    p50: float
    p95: float


async def run(options: BenchOptions) -> BenchResult:
    """Fill the database, then ask."""
    count = options.scaled(EVENTS)
    history = FleetHistory(options.agents or options.scaled(AGENTS))
    samples = max(WARM_UP, options.scaled(SAMPLES)) if options.scale < 1 else SAMPLES
    async with bench_database(options) as url:
        await create_tables(url)
        log = PostgresEventLog(url, name="bench")
        await log.start()
        try:
            backlogged = await fill(url, log, history, count)
            async with await psycopg.AsyncConnection.connect(app_conninfo(url), autocommit=True) as reader:
                asked = {
                    "agents": await _ask(_agents(reader, history), samples),
                    "queue": await _ask(_queues(reader, backlogged), samples),
                    "timeline": await _ask(_timelines(log, backlogged, history.machines), samples),
                }
                alone = await _ask(_rows(reader, history.machines), samples)
            asked |= await _through_http(url, history, backlogged, samples)
        finally:
            await log.stop()
    extra: dict[str, float] = {}
    for name, cost in asked.items():
        extra |= {f"{name}_p50_ms": cost.p50, f"{name}_p95_ms": cost.p95}
    worst = max(asked[name].p95 for name in ("agents", "queue", "timeline"))
    return BenchResult(
        name=NAME, value=worst, unit="ms", limit=alone.p95, ratio=alone.p95 / worst, n=count, extra=extra
    )


async def fill(url: str, log: PostgresEventLog, history: FleetHistory, count: int) -> list[Machine]:
    """A history, and some agents for which more than a page waits; the projections are made of it by rebuilds.

    Args:
        url: the database, whose tables are made.
        log: started.
        history: what is to have happened.
        count: so many events of it.

    Returns:
        The agents for which so much waits.
    """
    await log.append_bulk(history.changes(count), bench_metadata())
    backlogged = [machine for machine in history.machines if machine.stays_off][:BACKLOGGED]
    await log.append_bulk(history.backlog(backlogged, BACKLOG), bench_metadata())
    for name in names():
        await asyncio.to_thread(rebuild, app_conninfo(url), name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return backlogged


async def _ask(questions: Iterator[Ask], samples: int) -> Asked:
    for question in itertools.islice(questions, WARM_UP):
        await question()
    took = []
    for question in itertools.islice(questions, samples):
        begun = time.perf_counter()
        await question()
        took.append((time.perf_counter() - begun) * 1e3)
    took.sort()
    return Asked(took[len(took) // 2], took[len(took) * 95 // 100])


def _filters(history: FleetHistory) -> list[dict[str, Any]]:
    """What a list is narrowed by, each as a user would."""
    site, client = history.sites[len(history.sites) // 2], history.clients[len(history.clients) // 2]
    return [
        {},
        {"sort": "id"},
        {"online": True},
        {"online": False},
        {"platform": Platform.WINDOWS},
        {"state": AgentState.ACTIVE},
        {"state": AgentState.RETIRED},
        {"client_id": client.stream_id},
        {"site_id": site.stream_id, "platform": Platform.LINUX},
        {"tags": ("web", "prod")},
        {"tags": ("db",), "online": False},
        {"text": "desk-0"},
        {"text": history.machines[-1].hostname},
        {"text": "no such name"},
    ]


def _agents(reader: Reader, history: FleetHistory) -> Iterator[Ask]:
    """Each filter in turn, and each time the page after the first too."""
    after: dict[int, str | None] = {}

    async def page(number: int, filters: dict[str, Any]) -> None:
        after[number] = (await list_agents(reader, client_ids=None, limit=PAGE, **filters)).next

    async def next_page(number: int, filters: dict[str, Any]) -> None:
        await list_agents(reader, client_ids=None, limit=PAGE, cursor=after[number], **filters)

    for number, filters in itertools.cycle(enumerate(_filters(history))):
        yield lambda: page(number, filters)  # noqa: B023 -- asked before the next is drawn
        if after[number] is not None:
            yield lambda: next_page(number, filters)  # noqa: B023


def _queues(reader: Reader, machines: list[Machine]) -> Iterator[Ask]:
    for machine in itertools.cycle(machines):
        yield lambda: list_pending(reader, machine.agent_id, client_ids=None, limit=PAGE)  # noqa: B023


def _timelines(log: PostgresEventLog, backlogged: list[Machine], machines: list[Machine]) -> Iterator[Ask]:
    async def timeline(machine: Machine) -> None:
        selection = Selection(agent_id=machine.agent_id)
        for recorded in await log.read(selection, limit=PAGE + 1, backwards=True):
            describe(recorded)

    others = itertools.islice(itertools.cycle(machines), 0, None, 7_919)
    for long, usual in zip(itertools.cycle(backlogged), others, strict=False):
        yield lambda: timeline(long)  # noqa: B023
        yield lambda: timeline(usual)  # noqa: B023


def _rows(reader: Reader, machines: list[Machine]) -> Iterator[Ask]:
    async def row(machine: Machine) -> None:
        cursor = reader.cursor(binary=True)
        await cursor.execute("SELECT * FROM agents WHERE agent_id = %s", (machine.agent_id,))
        await cursor.fetchone()

    for machine in itertools.islice(itertools.cycle(machines), 0, None, 7_919):
        yield lambda: row(machine)  # noqa: B023


async def _through_http(url: str, history: FleetHistory, backlogged: list[Machine], samples: int) -> dict[str, Asked]:
    """The same by GET, of an API in a process of its own."""
    client = history.clients[0].stream_id
    filters = ("", "&online=false", f"&client_id={client}", "&q=desk-0")
    lists = [f"/api/v1/agents?limit={PAGE}{one}" for one in filters]
    agents = [f"/api/v1/agents/{machine.agent_id}" for machine in backlogged]
    paths = {
        "http_agents": lists,
        "http_queue": [f"{agent}/queue?limit={PAGE}" for agent in agents],
        "http_timeline": [f"{agent}/timeline?limit={PAGE}" for agent in agents],
    }
    async with (
        running_platform(FLEETLOG_POSTGRES_URL=url) as running,
        Http(running.platform.api_url, running.key) as http,
    ):
        # The history leaves machines online that do not exist: the gateway records that they are gone, and is busy so.
        async with asyncio.timeout(SETTLE_S):
            while (await http.json("GET", "/api/v1/agents?online=true&limit=1"))["items"]:  # noqa: ASYNC110 -- a poll
                await asyncio.sleep(0.5)
        return {name: await _ask(_gets(http, asked), samples) for name, asked in paths.items()}


def _gets(http: Http, paths: list[str]) -> Iterator[Ask]:
    for path in itertools.cycle(paths):
        yield lambda: http.json("GET", path)  # noqa: B023
