"""One process with roles: its life from start to an orderly end."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import psycopg
import pytest

from gateways.local.roles import HttpService, PortTakenError, Role, RoleFailedError, RoleProcess, listening_socket
from gateways.local.roster import list_processes
from gateways.settings import Settings, load_settings


class FakeRole:
    """A role that does as the test says."""

    def __init__(self, name: str, story: list[str]) -> None:
        self._name = name
        self._story = story
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.may_stop = asyncio.Event()
        self.may_stop.set()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.note = "at work"

    async def start(self) -> None:
        await self.may_start.wait()
        self._story.append(f"{self._name} started")

    async def stop(self) -> None:
        await self.may_stop.wait()
        self._story.append(f"{self._name} stopped")

    async def wait(self) -> None:
        await asyncio.shield(self.over)


@pytest.fixture
def settings(postgres_url: str) -> Settings:
    return load_settings(postgres_url=postgres_url, stop_timeout_s=1)


async def processes(url: str) -> dict[str, str]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        return {row.role: f"{row.state} {row.note}" for row in await list_processes(connection)}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 -- polled, within a timeout
            await asyncio.sleep(0.02)


async def test_starts_announces_and_stops_in_order(settings: Settings, postgres_url: str) -> None:
    """Roles start, say that they run, and stop in the reverse order; then their lines are gone."""
    story: list[str] = []
    process = RoleProcess([Role.API, Role.PROJECTOR], settings, lambda role, _settings: FakeRole(role, story))
    running = asyncio.create_task(process.run())

    async def both_run() -> bool:
        return await processes(postgres_url) == {"api": "running at work", "projector": "running at work"}

    await until(both_run)
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        url = (await list_processes(connection))[0].status_url
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{url}/healthz")).json()["roles"] == {"api": "running", "projector": "running"}
        assert (await client.get(f"{url}/readyz")).status_code == 200
        assert "python_info" in (await client.get(f"{url}/metrics")).text
    process.ask_to_stop()
    await running
    assert sorted(story[:2]) == ["api started", "projector started"]
    assert story[2:] == ["api stopped", "projector stopped"]
    assert await processes(postgres_url) == {}


async def test_a_role_that_ends_takes_the_process_along(settings: Settings) -> None:
    """A role that fails stops the others in order, and the process says why."""
    story: list[str] = []
    roles = {role: FakeRole(role, story) for role in (Role.PROJECTOR, Role.GATEWAY)}
    process = RoleProcess(list(roles), settings, lambda role, _settings: roles[role])
    running = asyncio.create_task(process.run())
    roles[Role.GATEWAY].over.set_exception(ValueError("out of luck"))
    with pytest.raises(RoleFailedError, match="gateway failed: out of luck"):
        await running
    assert story[-2:] == ["gateway stopped", "projector stopped"]


async def test_stops_while_it_still_waits_to_start(settings: Settings) -> None:
    """A role that waits for something that never comes can be stopped."""
    role = FakeRole("worker", [])
    role.may_start.clear()
    process = RoleProcess([Role.WORKER], settings, lambda _role, _settings: role)
    running = asyncio.create_task(process.run())
    await asyncio.sleep(0)
    process.ask_to_stop()
    async with asyncio.timeout(10):
        await running


async def test_a_role_that_does_not_stop_is_cut(settings: Settings) -> None:
    """One role that hangs does not keep the others from stopping in order."""
    story: list[str] = []
    roles = {role: FakeRole(role, story) for role in (Role.PROJECTOR, Role.GATEWAY)}
    roles[Role.GATEWAY].may_stop.clear()
    process = RoleProcess(list(roles), settings, lambda role, _settings: roles[role])
    running = asyncio.create_task(process.run())
    process.ask_to_stop()
    async with asyncio.timeout(10):
        await running
    assert story[-1] == "projector stopped"
    assert "gateway stopped" not in story


async def test_waits_for_postgres_to_announce() -> None:
    """Without Postgres a process runs, and stops when asked to."""
    settings = load_settings(postgres_url="postgresql://nobody@127.0.0.1:1/none", stop_timeout_s=1)
    process = RoleProcess([Role.WORKER], settings, lambda role, _settings: FakeRole(role, []))
    running = asyncio.create_task(process.run())
    await asyncio.sleep(0.1)
    process.ask_to_stop()
    async with asyncio.timeout(10):
        await running


async def test_a_taken_port_is_named() -> None:
    """An address in use is an error that names it and says what to do."""
    first = listening_socket("127.0.0.1", 0)
    port = first.getsockname()[1]
    with first, pytest.raises(PortTakenError) as taken:
        listening_socket("127.0.0.1", port)
    assert str(taken.value).startswith(
        f"Cannot listen on 127.0.0.1:{port}: Address already in use. Choose another with"
    )
    with pytest.raises(PortTakenError, match=r"Cannot listen on no-such-host\.invalid:1: \w[^.]*\. Choose"):
        listening_socket("no-such-host.invalid", 1)


async def test_answers_under_way_are_finished() -> None:
    """A request that is being answered when the server stops gets its answer."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        asked.set()
        await may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    service = HttpService(app, listener, grace_s=5)
    await service.start()
    async with httpx2.AsyncClient(trust_env=False) as client:
        request = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/"))
        await asked.wait()
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        may_answer.set()
        assert (await request).text == "done"
    await stopping


CRASHES = """
import resource, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from gateways.local.roles import Role, serve
from gateways.settings import Settings

def build(role, settings):
    print("core limit", resource.getrlimit(resource.RLIMIT_CORE)[0])
    raise SystemExit(0)

serve([Role.SCHEDULER], Settings(), build)
"""


async def test_a_role_leaves_no_core() -> None:
    """It holds keys and secrets in the clear, and where it crashes, its memory is not written to a disk."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CRASHES, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert b"core limit 0\n" in said
