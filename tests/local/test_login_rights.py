"""A login that could change the past is warned of: the application acts as less, and `RESET ROLE` undoes that."""

import asyncio

import psycopg
import pytest
import structlog.testing
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal

from command_bus.login_rights import mighty_login
from command_bus.postgres import app_conninfo
from gateways.local.roles import Role, RoleProcess
from gateways.settings import load_settings
from tests.local.test_roles import FakeRole
from tests.local.test_worker import until


@pytest.mark.parametrize(
    ("more", "mighty"),
    [
        ("SELECT 1", False),
        ("GRANT DELETE ON fleetlog.events TO {login}", True),
        ("GRANT {holder} TO {login} WITH INHERIT FALSE", True),
        ("ALTER ROLE {login} SUPERUSER", True),
    ],
    ids=["ordinary", "granted", "of the owner", "superuser"],
)
async def test_which_login_could_change_the_past(postgres_url: str, more: str, mighty: bool) -> None:
    """One that owns the log or the server, may become who does, or was granted it; not an ordinary one."""
    # Roles belong to the server, which other tests use at the same time.
    login, holder = (f"{what}_{conninfo_to_dict(postgres_url)['dbname']}" for what in ("login", "holder"))
    names = {"login": Identifier(login), "holder": Identifier(holder), "password": Literal(login)}
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(SQL("CREATE ROLE {holder}").format(**names))
        admin.execute(SQL("CREATE ROLE {login} LOGIN PASSWORD {password} IN ROLE fleetlog_app").format(**names))
        admin.execute(SQL("ALTER TABLE fleetlog.events OWNER TO {holder}").format(**names))
        admin.execute(SQL(more).format(**names))
        try:
            conninfo = app_conninfo(make_conninfo(postgres_url, user=login, password=login))
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
                assert await mighty_login(connection) == (login if mighty else None)
                await connection.execute("RESET ROLE")
                if not mighty:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        await connection.execute("DELETE FROM fleetlog.events")
        finally:
            admin.execute(SQL("REASSIGN OWNED BY {holder} TO CURRENT_USER").format(**names))
            admin.execute(SQL("DROP OWNED BY {login}, {holder}").format(**names))
            admin.execute(SQL("DROP ROLE {login}, {holder}").format(**names))


async def test_it_is_said_at_the_start(postgres_url: str) -> None:
    """Once by each process, with the login and what to do; it goes on all the same."""
    process = RoleProcess([Role.WORKER], load_settings(postgres_url=postgres_url), lambda _r, _s: FakeRole("w", []))
    with structlog.testing.capture_logs() as said:
        running = asyncio.create_task(process.run())
        await until(lambda: any(one["event"] == "login_too_strong" for one in said))
        process.ask_to_stop()
        await running
    warnings = [one for one in said if one["event"] == "login_too_strong"]
    assert [one["login"] for one in warnings] == [conninfo_to_dict(postgres_url)["user"]]
    assert "ordinary member of fleetlog_app" in warnings[0]["detail"]
