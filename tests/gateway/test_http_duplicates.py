"""Two machines with one identity where one of them, or both, come over HTTP alone."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount

from agent.identity import Identity
from command_bus.ids import utc_now
from domain.duplicates import AgentDuplicateNoticed, duplicates_stream
from domain.errors import DomainError
from gateways.agents import http, http_runs
from gateways.agents.http import AgentHttp
from gateways.agents.live import LiveOutput
from gateways.bench.simulated import SimulatedIdentity
from gateways.local.roles import HttpService, listening_socket
from schema import wire
from tests.agent.scripted import AgentProcess
from tests.gateway.harness import Fleet
from tests.gateway.test_access import refused
from tests.gateway.test_agent_keys import RealAgent, succeeded
from tests.gateway.test_duplicates import machine, there

_answer = msgspec.msgpack.Decoder(wire.HttpCheckInReply).decode


async def _refusal(_request: Request, error: DomainError) -> Response:
    return JSONResponse({"code": error.code}, error.status, getattr(error, "headers", None))


class Process:
    """One API process, as far as agents see it."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.live = LiveOutput(fleet.log, fleet.masks, fleet.url, fleet.nats.urls, name)
        self.agents = AgentHttp(fleet.log, fleet.pool, fleet.url, [], name, who_is_there=self.live.who_is_there)
        listener = listening_socket("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = Starlette(
            routes=[Mount("/api/v1", routes=self.agents.routes())],
            exception_handlers={DomainError: _refusal},  # type: ignore[dict-item]  # Starlette's type is wider
        )
        self.http = HttpService(app, listener, leave=self.agents.leave)

    async def start(self) -> None:
        await self.live.start()
        assert self.live._connecting is not None
        await self.live._connecting
        await self.agents.start()
        await self.http.start()

    async def stop(self) -> None:
        await self.http.stop()
        await self.agents.stop()
        await self.live.stop()


@pytest.fixture
async def processes(fleet: Fleet) -> AsyncIterator[list[Process]]:
    """Two of them: whatever one sees, the other has to know."""
    started = [Process(fleet, "api-1"), Process(fleet, "api-2")]
    for process in started:
        await process.start()
    yield started
    while Machine.clients:
        await Machine.clients.pop().aclose()
    for process in started:
        await process.stop()


class Machine:
    """One of those that hold an identity."""

    clients: ClassVar[list[httpx2.AsyncClient]] = []

    def __init__(self, identity: SimulatedIdentity, name: str, run: str = "1") -> None:
        self.identity = identity
        self.who = wire.Instance(instance=f"{name}-{run}", machine=f"m-{name}", hostname=name)
        self.client = httpx2.AsyncClient(trust_env=False, timeout=30)
        self.clients.append(self.client)

    async def check_in(self, process: Process, wait_s: float = 0.0) -> str:
        """``ok``, or the code of the refusal."""
        asked = wire.HttpCheckIn(
            agent_id=self.identity.agent_id, sent_at=utc_now(), messages=[], who=self.who, wait_s=wait_s
        )
        body = msgspec.msgpack.encode(asked)
        signature = self.identity.key.sign(wire.HTTP_CONTEXT + body).hex()
        response = await self.client.post(
            f"{process.url}/api/v1/agent/check-in", content=body, headers={wire.HTTP_SIGNATURE_HEADER: signature}
        )
        if response.is_success:
            _answer(response.content)
            return "ok"
        return str(response.json()["code"])

    async def stay(self, process: Process) -> None:
        """One long poll after the other."""
        while True:
            assert await self.check_in(process, 20.0) == "ok"


async def noticed(fleet: Fleet, identity: SimulatedIdentity) -> list[tuple[str, str]]:
    story = await fleet.story(duplicates_stream(identity.agent_id))
    return [(one.present.hostname, one.newcomer.hostname) for one in story if isinstance(one, AgentDuplicateNoticed)]


async def judged(clone: Machine, process: Process) -> str:
    """What becomes of a newcomer, once it was asked whether somebody is there."""
    async with asyncio.timeout(15):
        while (said := await clone.check_in(process)) == "another_run":  # noqa: ASYNC110 -- it is told to come again
            await asyncio.sleep(0.1)
    return said


async def _with(stays: Any, act: Any) -> None:
    task = asyncio.create_task(stays)
    try:
        await act
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), "it was served all the time"


@pytest.mark.parametrize("elsewhere", [0, 1])
async def test_a_clone_over_http_alone_is_noticed_and_barred(
    fleet: Fleet, processes: list[Process], elsewhere: int
) -> None:
    """The one that is there is asked, at whichever process, and stays; the clone is shut out, and remains so."""
    (identity,) = await fleet.identities()
    original, clone = Machine(identity, "original"), Machine(identity, "clone")
    assert await original.check_in(processes[0]) == "ok"

    async def clone_comes() -> None:
        assert await clone.check_in(processes[elsewhere]) == "another_run"
        assert await judged(clone, processes[elsewhere]) == "duplicate_agent"

    await _with(original.stay(processes[0]), clone_comes())
    assert await noticed(fleet, identity) == [("original", "clone")]
    for run in "23":
        for process in processes:
            assert await Machine(identity, "clone", run).check_in(process) == "duplicate_agent"
    assert await original.check_in(processes[1]) == "ok"


async def test_a_machine_that_was_restarted_is_let_in(
    fleet: Fleet, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the run before hung up or fell silent, nobody answers for it, and nothing is noticed."""
    (identity,) = await fleet.identities()
    before = Machine(identity, "original")
    assert await before.check_in(processes[0]) == "ok"
    poll = asyncio.create_task(before.check_in(processes[0], 20.0))
    await asyncio.sleep(0.2)  # it waits there now; were it not to, the other way below is taken
    poll.cancel()
    await before.client.aclose()
    assert await judged(Machine(identity, "original", "2"), processes[0]) == "ok"
    monkeypatch.setattr(http_runs, "ANSWER_S", 0.3)
    assert await judged(Machine(identity, "original", "3"), processes[1]) == "ok"
    assert await noticed(fleet, identity) == []


async def test_a_clone_over_http_of_a_machine_at_nats(fleet: Fleet, processes: list[Process]) -> None:
    """Whoever listens at NATS is asked, too; the clone is shut out there and here."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    original = machine(fleet, identity, "original")
    await there(fleet, original)
    assert await Machine(identity, "clone").check_in(processes[0]) == "duplicate_agent"
    assert await noticed(fleet, identity) == [("original", "clone")]
    assert await refused(machine(fleet, identity, "clone", "2"), fleet)


async def test_a_clone_at_nats_of_a_machine_over_http(
    fleet: Fleet, processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets in, for there is no connection to compare with; it is found by the next look, and put out."""
    await fleet.gateway()
    (identity,) = await fleet.identities()
    original, clone = Machine(identity, "original"), machine(fleet, identity, "clone")
    assert await original.check_in(processes[0]) == "ok"
    await there(fleet, clone)
    monkeypatch.setattr(http, "PRESENT_FOR_S", 0.0)
    for process in processes:
        process.agents._present.clear()
    assert await original.check_in(processes[0]) == "ok"
    await asyncio.wait_for(clone.closed.wait(), 10)
    assert await noticed(fleet, identity) == [("original", "clone")]
    assert await refused(machine(fleet, identity, "clone", "2"), fleet)


async def test_real_programs_on_a_copied_disk(fleet: Fleet, processes: list[Process], data_dir: Path) -> None:
    """The one that was first does the work, once; the copy does none."""
    (identity,) = await fleet.identities()
    agent = RealAgent(fleet, identity, data_dir / "agent")
    msgspec.structs.replace(Identity.load(agent.folder), server_url=processes[0].url, nats_urls=[]).save(agent.folder)
    shutil.copytree(agent.folder, data_dir / "copy" / "agent")
    copy = AgentProcess(data_dir / "copy" / "agent")
    try:
        agent.process.start(transport="http")
        (first,) = await fleet.queue(agent.agent_id)
        await succeeded(fleet, first)
        copy.start(transport="http")
        async with asyncio.timeout(30):
            while not await noticed(fleet, identity):  # noqa: ASYNC110 -- other processes write it
                await asyncio.sleep(0.05)
        (second,) = await fleet.queue(agent.agent_id)
        await succeeded(fleet, second)
        assert "connected" not in copy.log.read_text()
    finally:
        agent.process.clean_up()
        copy.clean_up()
