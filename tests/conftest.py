"""Real servers for all tests: one set for a test run, a fresh database for each test that asks.

Under xdist the controlling process starts them once and tells its workers where they are. With
``FLEETLOG_TEST_TOPOLOGY=cluster`` (`make test-cluster`) the same tests run against three NATS servers and a Postgres
behind PgBouncer. What they write is in memory where there is room (`tests.memory`).
"""

import asyncio
import contextlib
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import hypothesis
import psycopg
import pytest
import redis
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from command_bus.migrate import migrate
from command_bus.pooler import prepare_login
from command_bus.postgres import Pooled
from gateways.agents.keys import load_keys
from gateways.local.servers import (
    EmbeddedNats,
    EmbeddedNatsCluster,
    EmbeddedPostgres,
    EmbeddedServer,
    EmbeddedValkey,
    sole_use,
    temporary_folder,
)
from projections.tables import create_tables
from schema.patches import HANDS_OFF
from tests import pgbouncer
from tests.memory import temporary_files_in_memory
from tests.nats import fleet_nats
from tests.shape import CLUSTER, NATS_SIZE

# Agents of tests run on whatever machine the tests run on: none of them changes it.
os.environ[HANDS_OFF] = "1"

# How long an example takes says more about the machine than about us.
hypothesis.settings.register_profile("fleetlog", deadline=None)
hypothesis.settings.load_profile("fleetlog")

TEMPLATE = "fleetlog_template"
VALKEY_DATABASES = 1024


class Stack:
    """The servers of this test run; each starts when it is first asked for, in the process that owns them."""

    def __init__(self, known: dict[str, str] | None = None) -> None:
        self._known = known or {}
        self.used: list[str] = []
        """Databases that no test needs any more."""
        self._owned: list[EmbeddedServer | EmbeddedNatsCluster] = []
        self._folder: Path | None = None
        self._lock: Any = None

    def url(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = getattr(self, f"_start_{name}")()
        return self._known[name]

    def all(self) -> dict[str, str]:
        bouncer = ("bouncer",) if pgbouncer.installed() else ()
        return {name: self.url(name) for name in ("postgres", "nats", "valkey", *bouncer)}

    def stop(self) -> None:
        for server in reversed(self._owned):
            server.stop()
        self._owned.clear()
        if self._folder is not None:
            self._lock.__exit__(None, None, None)
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _home(self) -> Path:
        if self._folder is None:
            self._folder = temporary_folder("fleetlog-tests-")
            self._lock = sole_use(self._folder)
            self._lock.__enter__()
        return self._folder

    def _start_postgres(self) -> str:
        server = EmbeddedPostgres(self._home(), max_connections=400)
        self._owned.append(server)
        server.start()
        url = server.superuser_url
        with psycopg.connect(url, autocommit=True) as connection:
            # A database for each test is hundreds of files to sync. What tests kill are processes, never the machine.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("ALTER SYSTEM SET full_page_writes = off")
            connection.execute("ALTER SYSTEM SET authentication_timeout = '20s'")
            connection.execute("ALTER SYSTEM SET max_wal_size = '512MB'")
            connection.execute("ALTER SYSTEM SET min_wal_size = '64MB'")
            connection.execute("SELECT pg_reload_conf()")
            # Tests make thousands of connections, and the proof of a password is most of what each of them costs.
            connection.execute("SET scram_iterations = 1")
            for login in ("postgres", "fleetlog", "fleetlog_owner"):
                change = SQL("ALTER ROLE {} PASSWORD {}")
                connection.execute(change.format(Identifier(login), Literal(conninfo_to_dict(url)["password"])))
            connection.execute(SQL("CREATE DATABASE {}").format(Identifier(TEMPLATE)))
        migrate(_database(url, TEMPLATE))
        asyncio.run(create_tables(_database(url, TEMPLATE)))
        return url

    def _start_nats(self) -> str:
        home = self._home()
        server = EmbeddedNats(home) if NATS_SIZE == 1 else EmbeddedNatsCluster(home, size=NATS_SIZE)
        self._owned.append(server)
        server.start()
        return server.url

    def _start_bouncer(self) -> str:
        server = pgbouncer.PgBouncer(self._home(), self.url("postgres"), ("fleetlog", "postgres"))
        self._owned.append(server)
        server.start()
        return server.url

    def _start_valkey(self) -> str:
        server = EmbeddedValkey(self._home(), databases=VALKEY_DATABASES)
        self._owned.append(server)
        server.start()
        return server.url.rpartition("/")[0]


STACK = pytest.StashKey[Stack]()
MEMORY = pytest.StashKey[contextlib.ExitStack]()


def pytest_configure(config: pytest.Config) -> None:
    known = getattr(config, "workerinput", {}).get("fleetlog_servers")
    config.stash[STACK] = Stack(known)
    config.stash[MEMORY] = contextlib.ExitStack()
    if known is None:  # workers have the environment of whoever started them
        config.stash[MEMORY].enter_context(temporary_files_in_memory())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["fleetlog_servers"] = node.config.stash[STACK].all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CLUSTER:
        skip = pytest.mark.skip(reason="of the servers that `fleetlog up` starts, and here it starts none")
        for item in items:
            if item.get_closest_marker("embedded") is not None:
                item.add_marker(skip)


def pytest_unconfigure(config: pytest.Config) -> None:
    if STACK in config.stash:
        config.stash[STACK].stop()
        config.stash[MEMORY].close()


def _database(url: str, name: str) -> str:
    return make_conninfo(url, dbname=name)


_LOGGING_IN = "SELECT count(*) FROM pg_stat_activity WHERE state = 'starting'"


def _fresh_database(stack: Stack, template: str) -> Iterator[str]:
    """A database of one's own, which is dropped when the next one is made.

    To drop one waits for every session of the server to take note of it, and one that is logging in does not. Who was
    cancelled while it logged in leaves its session so: psycopg's half-made connection is part of a cycle.
    """
    url = stack.url("postgres")
    name = f"test_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute(_LOGGING_IN).fetchone() != (0,):
            gc.collect()
        while stack.used:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(stack.used.pop())))
        # By files: through the log it takes ten times as long.
        copy = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(copy.format(Identifier(name), Identifier(template)))
    yield _as_url(_database(url, name))
    stack.used.append(name)


def _as_url(conninfo: str) -> str:
    """Tests hand it to settings and command lines, which want a URL."""
    parts = conninfo_to_dict(conninfo)
    return "postgresql://{user}:{password}@/{dbname}?host={host}&port={port}".format(**parts)


Databases = Callable[[], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Databases:
    """Makes databases as `postgres_url` is one, for fixtures that several tests share."""
    stack = request.config.stash[STACK]

    @contextlib.contextmanager
    def make() -> Iterator[str]:
        for url in _fresh_database(stack, TEMPLATE):
            yield _pooled(stack, url) if CLUSTER else url

    return make


@pytest.fixture
def postgres_url(databases: Databases) -> Iterator[str]:
    """A fresh database, migrated, with empty projections; the login is the administrator's."""
    with databases() as url:
        yield url


@pytest.fixture
def pooled_url(request: pytest.FixtureRequest) -> Iterator[Pooled]:
    """The same, and PgBouncer in front of it: its login is the application's."""
    if not pgbouncer.installed():
        pytest.skip(pgbouncer.MISSING)
    stack = request.config.stash[STACK]
    for url in _fresh_database(stack, TEMPLATE):
        yield _pooled(stack, url)


def _pooled(stack: Stack, url: str) -> Pooled:
    pooled = Pooled(url, _as_url(_database(stack.url("bouncer"), str(_name(url)))))
    prepare_login(pooled)
    return pooled


def _name(url: str) -> object:
    return conninfo_to_dict(url)["dbname"]


@pytest.fixture
def empty_postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh database with nothing in it."""
    yield from _fresh_database(request.config.stash[STACK], "template0")


@pytest.fixture
def nats_url(request: pytest.FixtureRequest) -> str:
    """NATS without accounts, where it is; shared, so use subjects of your own (an agent id makes them so)."""
    return request.config.stash[STACK].url("nats")


Settings = dict[str, str]
Servers = Callable[[], AbstractContextManager[Settings]]


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """Makes the servers of a whole platform, as settings: none in the usual topology, where it starts its own."""
    stack = request.config.stash[STACK]

    @contextlib.contextmanager
    def make() -> Iterator[Settings]:
        if not CLUSTER:
            yield {}
            return
        folder = temporary_folder("fleetlog-cluster-")
        for url in _fresh_database(stack, TEMPLATE):
            pooled = _pooled(stack, url)
            with fleet_nats(folder, load_keys(url)) as nats:
                yield {
                    "FLEETLOG_POSTGRES_URL": str(url),
                    "FLEETLOG_POSTGRES_POOLER_URL": pooled.pooler_url,
                    "FLEETLOG_NATS_URL": nats.url,
                }
        shutil.rmtree(folder, ignore_errors=True)

    return make


@pytest.fixture
def valkey_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A Valkey database of your own, empty."""
    base = request.config.stash[STACK].url("valkey")
    with redis.Redis.from_url(f"{base}/0") as connection:
        number = int(connection.incr("fleetlog-tests-next")) % (VALKEY_DATABASES - 1) + 1  # 0 keeps this counter
    url = f"{base}/{number}"
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
    yield url
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for embedded servers of the test's own; pytest's tmp_path is closed to their account."""
    folder = temporary_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
