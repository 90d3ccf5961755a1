"""PgBouncer in transaction mode in front of Postgres: what goes through it, what does not, and wrong set-ups."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from command_bus.context import Caller
from command_bus.event_log import Selection
from command_bus.handlers.enrollment import Enrollment
from command_bus.ids import new_id, utc_now
from command_bus.intents.clients import CreateClient, CreateSite
from command_bus.intents.commands import CancelCommand, QueueCommand
from command_bus.intents.tokens import CreateEnrollmentToken
from command_bus.migrate import migrate
from command_bus.pooler import PoolerError, check_addresses, prepare_login
from command_bus.postgres import Pooled, app_conninfo, open_pool
from command_bus.postgres_log import PostgresEventLog
from gateways.composition.api import build_bus, build_credentials
from gateways.composition.parts import Assembly, Parts
from gateways.local.jobs import all_jobs
from gateways.local.roles import Role, RoleFailedError, RoleProcess
from gateways.settings import load_settings
from projections.enrollments import counting
from projections.wait import PositionWaiter
from tests.command_bus.conftest import enroll_request
from tests.event_log.samples import created, metadata
from tests.local.test_roles import FakeRole
from tests.pgbouncer import PgBouncer

PATIENCE_S = 20
CALLER = Caller(actor="key:test", correlation_id=new_id())


def server_url(url: str) -> str:
    """Of the server as its administrator, whose connections are nobody else's."""
    return str(url)


@pytest.fixture
def narrow(pooled_url: Pooled, data_dir: Path) -> Iterator[Pooled]:
    """The same database behind a pooler with two server processes, which also takes what it does not understand."""
    options = "default_pool_size = 2\nquery_wait_timeout = 10\nignore_startup_parameters = options"
    bouncer = PgBouncer(data_dir, server_url(pooled_url), ("fleetlog", "postgres"), options=options)
    bouncer.start()
    yield Pooled(server_url(pooled_url), bouncer.url_for("fleetlog", str(conninfo_to_dict(pooled_url)["dbname"])))
    bouncer.stop()


async def test_more_clients_than_server_processes(narrow: Pooled) -> None:
    """Sixteen connections share two server processes, whichever statement comes to which; those for sessions do not."""
    log = PostgresEventLog(narrow, name="pooled")
    pool = await open_pool(narrow, min_size=8, max_size=8, name="pooled")
    await log.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            await pool.wait()
            heard = asyncio.create_task(_first(log, await log.head()))
            changes = [created(f"client {number}") for number in range(40)]
            await asyncio.gather(*(log.append([change], metadata()) for change in changes))
            assert (await heard).originator_id in {change.originator_id for change in changes}

            async def look(number: int) -> None:
                # Often enough on one connection that the driver would prepare them.
                found = await log.read(Selection(stream_id=changes[number % 40].originator_id))
                assert len(found) == 1
                async with pool.connection() as connection:
                    cursor = await connection.execute("SELECT count(*) FROM agents WHERE online = %s", [True])
                    assert await cursor.fetchone() == (0,)

            await asyncio.gather(*map(look, range(400)))
        with psycopg.connect(server_url(narrow)) as connection:
            rows = connection.execute(
                "SELECT usename, count(*), bool_or(query LIKE 'LISTEN%%') FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
            ).fetchall()
        through = {login: (count, listens) for login, count, listens in rows}
        assert through["fleetlog"] == (2, False)
        assert through["postgres"][1], "nobody listens over a connection of its own"
    finally:
        await pool.close()
        await log.stop()


async def _first(log: PostgresEventLog, after: int) -> Any:
    async for page in log.follow(after):
        if page:
            return page[0]
    raise AssertionError


async def test_cancels_at_once_do_not_wait_for_each_other(narrow: Pooled) -> None:
    """Each holds a transaction open while it reads and appends over others: through the pooler they would lock up."""
    settings = load_settings(postgres_url=str(narrow), postgres_pooler_url=narrow.pooler_url)
    parts = Parts(settings, "test")
    waiter = PositionWaiter(app_conninfo(narrow))  # nothing of this waits for a read model
    assembly = Assembly(parts.services)
    await assembly.start()
    try:
        bus = build_bus(parts, waiter, build_credentials(parts))
        async with asyncio.timeout(PATIENCE_S):
            client = await bus.dispatch(CreateClient(name="Acme"), CALLER)
            site = await bus.dispatch(CreateSite(client_id=client.answer["id"], name="Main"), CALLER)
            tokens = [await bus.dispatch(CreateEnrollmentToken(site_id=site.answer["id"]), CALLER) for _ in range(8)]
            enrollment = Enrollment(parts.log, utc_now, new_id, counting(parts.pool.connection))
            agents = [await enrollment.enroll(enroll_request(token.answer["token"])) for token in tokens]
            spec = {"kind": "ping"}
            queued = [await bus.dispatch(QueueCommand(agent_id=agent.agent_id, spec=spec), CALLER) for agent in agents]
            done = await asyncio.gather(
                *(bus.dispatch(CancelCommand(command_id=one.answer["id"]), CALLER) for one in queued)
            )
        assert [one.answer["state"] for one in done] == ["cancelled"] * len(agents)
    finally:
        await assembly.stop()


async def test_a_pooler_in_the_place_of_the_server(pooled_url: Pooled, narrow: Pooled) -> None:
    """Whether it refuses our options or swallows them, it is noticed at once, and the message says where to put it."""
    for pooler_url in (pooled_url.pooler_url, narrow.pooler_url):
        with pytest.raises(PoolerError, match="FLEETLOG_POSTGRES_POOLER_URL"):
            await check_addresses(pooler_url)
        with pytest.raises(PoolerError, match="the server's own address"):
            migrate(pooler_url)
        process = RoleProcess([Role.WORKER], load_settings(postgres_url=pooler_url), lambda _r, _s: FakeRole("w", []))
        with pytest.raises(RoleFailedError, match="FLEETLOG_POSTGRES_POOLER_URL"):
            async with asyncio.timeout(PATIENCE_S):
                await process.run()
    await check_addresses(pooled_url)


async def test_a_login_that_was_not_prepared(narrow: Pooled) -> None:
    """Its connections would not find the tables: that is said, with what mends it; preparing again changes nothing."""
    database = str(conninfo_to_dict(narrow)["dbname"])
    with psycopg.connect(server_url(narrow), autocommit=True) as admin:
        admin.execute(SQL("ALTER ROLE fleetlog IN DATABASE {} RESET ALL").format(Identifier(database)))
    with pytest.raises(PoolerError, match="fleetlog migrate"):
        await check_addresses(narrow)
    assert prepare_login(narrow)
    assert not prepare_login(narrow)
    # What the pooler had opened before stays as it was until it is told.
    console = make_conninfo(narrow.pooler_url, user="postgres", dbname="pgbouncer")
    with psycopg.connect(console, autocommit=True, prepare_threshold=None) as connection:
        connection.pgconn.exec_(b"RECONNECT")
    await check_addresses(narrow)


async def test_a_login_that_could_change_the_past(narrow: Pooled) -> None:
    """Through a pooler nobody becomes `fleetlog_app`, so a login that may do more is refused."""
    as_admin = Pooled(str(narrow), make_conninfo(narrow.pooler_url, user="postgres"))
    with pytest.raises(PoolerError, match="could change the past"):
        await check_addresses(as_admin)


async def test_a_job_that_holds_a_lock_goes_past_the_pooler(postgres_url: str) -> None:
    """Its connections are somebody else's after each transaction, and a lock would stay behind: here it has none."""
    (job,) = [
        one for one in all_jobs(Pooled(postgres_url, "postgresql://127.0.0.1:1/none")) if one.name == "erase_outputs"
    ]
    assert await asyncio.to_thread(job.run) == {"removed": 0}
