"""More than the API can take ends in clear refusals and in slowness, not in loss; and one key's flood is its own."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from command_bus.event_log import Selection
from domain.roles import Role
from gateways.local import patience
from gateways.rest.admission import BodyBudget, Bound, Kind, Limits, Slots
from gateways.rest.bodies import receive_body
from gateways.rest.errors import OverloadedError, TooManyRequestsError
from gateways.rest.rates import Rates, SharedRates
from tests.rest.harness import Api, Fleet, composed

TIGHT = Limits(
    bounds={
        Kind.READ: Bound(slots=4, per_key=2, waiting=40, waiting_per_key=20),
        Kind.WRITE: Bound(slots=4, per_key=3, waiting=40, waiting_per_key=20),
        Kind.BULK: Bound(slots=1, per_key=1),
        Kind.STREAM: Bound(slots=3, per_key=2),
    },
    body_bytes=2_000_000,
    body_s=0.3,
)


@contextlib.asynccontextmanager
async def tight(url: str, **changes: Any) -> AsyncIterator[Api]:
    async with composed(url, limits=TIGHT, **changes) as api:
        api.admin_key = await api.key()
        yield api


# -- by themselves -------------------------------------------------------------------------------------------------


async def test_keys_take_turns() -> None:
    """A key that sends fifty at once waits for itself: another's single request is next but one."""
    slots = Slots(Kind.WRITE, Bound(slots=2, per_key=2, waiting=100, waiting_per_key=100), 20.0)
    order: list[str] = []
    begun = asyncio.Event()
    go = asyncio.Event()

    async def request(key: str) -> None:
        async with slots.hold(key):
            begun.set()
            await go.wait()
            order.append(key)

    flood = [asyncio.create_task(request("flood")) for _ in range(50)]
    await begun.wait()
    single = asyncio.create_task(request("single"))
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*flood, single)
    assert order.index("single") <= 4


async def test_a_key_alone_does_not_take_all_slots() -> None:
    """What is left of them is there for others at once; the key's own next waits, and too many of it are refused."""
    slots = Slots(Kind.WRITE, Bound(slots=3, per_key=2, waiting=10, waiting_per_key=1), 20.0)
    async with contextlib.AsyncExitStack() as held:
        await held.enter_async_context(slots.hold("a"))
        own = contextlib.AsyncExitStack()
        await own.enter_async_context(slots.hold("a"))
        waits = asyncio.create_task(held.enter_async_context(slots.hold("a")))
        await asyncio.sleep(0)
        async with slots.hold("b"):
            assert not waits.done()
        with pytest.raises(TooManyRequestsError) as refused:
            await held.enter_async_context(slots.hold("a"))
        assert int(refused.value.headers["Retry-After"]) >= 1
        await own.aclose()
        await waits


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    """A request whose time is up, or whose caller has gone, takes no slot later."""
    slots = Slots(Kind.WRITE, Bound(slots=1, per_key=1, waiting=10, waiting_per_key=10), 0.05)
    async with slots.hold("a"):
        with pytest.raises(OverloadedError):
            async with slots.hold("b"):
                raise AssertionError("there was no slot")
        gone = asyncio.create_task(contextlib.AsyncExitStack().enter_async_context(slots.hold("c")))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    async with slots.hold("d"):
        pass


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_slots_are_never_overdrawn_nor_lost(steps: list[tuple[str, bool]]) -> None:
    """Whoever comes, leaves or is cut: no more are held than there are, nor by one than its share; all come back."""

    async def run() -> None:
        slots = Slots(Kind.READ, Bound(slots=3, per_key=2, waiting=30, waiting_per_key=10), 30.0)
        holding: Counter[str] = Counter()
        most = 0
        tasks: list[asyncio.Task[None]] = []

        async def request(key: str, leave: asyncio.Event) -> None:
            nonlocal most
            async with slots.hold(key):
                holding[key] += 1
                most = max(most, holding.total(), *(2 * count - 1 for count in holding.values()))
                try:
                    await leave.wait()
                finally:
                    holding[key] -= 1

        events: list[asyncio.Event] = []
        for key, cut in steps:
            if cut and tasks:
                tasks.pop(0).cancel()
                events.pop(0)
            else:
                events.append(asyncio.Event())
                tasks.append(asyncio.create_task(request(key, events[-1])))
            await asyncio.sleep(0)
            if len(events) % 5 == 4:
                events[0].set()
        for event in events:
            event.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert most <= 3
        assert holding.total() == 0
        async with asyncio.timeout(5), slots.hold("x"), slots.hold("x"), slots.hold("y"):
            pass

    asyncio.run(run())


async def test_a_body_of_unknown_size_counts_as_what_it_came_to() -> None:
    """While it comes it may be as large as any; once it is here, and as long as its request lasts, its bytes count."""
    budget = BodyBudget(1_000)

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * 10, "more_body": False}

    with contextlib.ExitStack() as held:
        for _ in range(50):
            request = Request({"type": "http", "method": "POST", "headers": []}, receive)
            assert len(await receive_body(request, 500, budget, 5.0, held)) == 10
        with pytest.raises(OverloadedError), budget.promise(501):
            raise AssertionError("five hundred are held")
    with budget.promise(1_000):
        pass


def test_a_bucket_fills_at_its_rate() -> None:
    """A burst, then one at a time; each key has its own."""
    now = 100.0
    rates = Rates(10.0, 5, lambda: now)
    assert [rates.spend("a") for _ in range(5)] == [0.0] * 5
    assert rates.spend("a") == pytest.approx(0.1)
    assert rates.spend("b") == 0.0
    now += 0.25
    assert [rates.spend("a") == 0.0 for _ in range(3)] == [True, True, False]


async def test_processes_share_a_keys_rate(valkey_url: str) -> None:
    """What one lets in the other takes out of its own bucket; a Valkey that is away leaves each its own."""
    one, other = Rates(0.001, 100, lambda: 0.0), Rates(0.001, 100, lambda: 0.0)
    services = [SharedRates(one, valkey_url), SharedRates(other, valkey_url)]
    for rates, service in zip((one, other), services, strict=True):
        assert rates.spend("key:shared") == 0.0
        await service.share()
    assert [one.spend("key:shared") for _ in range(60)] == [0.0] * 60
    await services[0].share()
    assert other.spend("key:shared") == 0.0
    await services[1].share()
    let_in = sum(other.spend("key:shared") == 0.0 for _ in range(100))
    assert let_in == 100 - 2 - 60
    for service in services:
        await service.stop()
    away = SharedRates(other, "redis://127.0.0.1:9")
    await away.start()
    assert other.spend("key:another") == 0.0
    await away.stop()


# -- over HTTP -----------------------------------------------------------------------------------------------------


async def test_a_flood_of_commands_loses_none_and_starves_nobody(postgres_url: str) -> None:
    """Of two hundred at once some are refused, with when to come again; what was accepted is logged; another's too."""
    async with tight(postgres_url) as api:
        fleet = await Fleet.make(api, api.client(), "Acme")
        agent_id = await fleet.agent()
        other = api.client(await api.key(Role.OPERATOR))
        body = {"agent_id": agent_id, "spec": {"kind": "ping"}}
        flood = [asyncio.create_task(fleet.http.post("/commands", json=body)) for _ in range(200)]
        single = await other.post("/commands", json=body)
        answers = await asyncio.gather(*flood)
        assert single.status_code == 202
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert accepted
        assert refused
        assert {answer.json()["code"] for answer in refused} <= {"too_many_requests", "overloaded"}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        recorded = await api.log.read(Selection(types=("CommandQueued",)), limit=1000)
        assert {str(one.originator_id) for one in recorded} == {*accepted, single.json()["id"]}


async def test_a_key_that_comes_too_often_is_told_when_to_come_again(postgres_url: str) -> None:
    """429 for it, and nothing of that for another key."""
    async with tight(postgres_url, rates=Rates(0.1, 5, lambda: 0.0)) as api:
        own, other = api.client(), api.client(await api.key())
        statuses = [(await own.get("/clients")).status_code for _ in range(6)]
        assert statuses == [200] * 5 + [429]
        refused = await own.get("/clients")
        assert (refused.json()["code"], int(refused.headers["Retry-After"]) >= 10) == ("too_many_requests", True)
        assert (await other.get("/clients")).status_code == 200


async def test_streams_are_bounded_and_keep_no_command_waiting(postgres_url: str) -> None:
    """A key may follow so many at once and is refused more; it is served all the same, and others' streams too."""
    async with tight(postgres_url) as api, contextlib.AsyncExitStack() as open_streams:
        http = api.client()
        for _ in range(2):
            await open_streams.enter_async_context(http.stream("GET", "/events/stream"))
        refused = await http.get("/events/stream")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert (await http.get("/clients")).status_code == 200
        other = api.client(await api.key())
        await open_streams.enter_async_context(other.stream("GET", "/events/stream"))
        full = await other.get("/events/stream")
        assert (full.status_code, full.json()["code"]) == (503, "overloaded")


async def raw(api: Api, head: str, *pieces: bytes) -> bytes:
    """What is answered to a request that is sent by hand, and never finished."""
    where = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        writer.write(head.encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(20):
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


async def test_bodies_that_cost_too_much_are_refused(postgres_url: str) -> None:
    """Too large by its own word: at once. Too slow: when its time is up. More than may come at once: with a 503."""
    async with tight(postgres_url) as api:
        head = (
            f"POST /api/v1/clients HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.admin_key}\r\n"
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        )
        assert b" 413 " in await raw(api, head.format(64 * 1024 * 1024), b"{")
        assert b" 408 " in await raw(api, head.format(100), b'{"name"')
        slow = [asyncio.create_task(raw(api, head.format(900_000), b"{")) for _ in range(5)]
        answers = await asyncio.gather(*slow)
        assert sum(b" 408 " in answer for answer in answers) == 2
        assert sum(b" 503 " in answer for answer in answers) == 3
        assert (await api.client().get("/clients")).status_code == 200


async def test_connections_that_cost_too_much_are_closed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing, says it too slowly or says too much before it asks, and one too many."""
    monkeypatch.setattr(patience, "HEAD_S", 0.2)
    server = await asyncio.get_running_loop().create_server(
        lambda: patience.PatientHttp(api.server.config, api.server.server_state, {}), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]

    async def answer(*pieces: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for piece in pieces:
                writer.write(piece)
            async with asyncio.timeout(20):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with server:
        whole = await answer(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in whole
        assert await answer() == b""
        assert await answer(b"GET /healthz HTTP/1.1\r\nHost: ") == b""
        assert await answer(b"GET /healthz HTTP/1.1\r\n", *([b"X-Long: " + b"x" * 8000 + b"\r\n"] * 20)) == b""
        monkeypatch.setattr(patience.PatientHttp, "most_connections", 0)
        full = await answer(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 503 " in full
        assert b"retry-after: 5" in full
        server.close()


async def test_who_does_not_read_holds_up_nobody(api: Api, fleet: Fleet) -> None:
    """Fifty followers that never read: the log is written and read as before."""
    agent_id = await fleet.agent()
    where = urlsplit(api.url)
    head = f"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.admin_key}\r\n\r\n"
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection(where.hostname, where.port)
        writer.write(head.encode())
        writers.append(writer)
    for _ in range(20):
        await fleet.command(agent_id)
    listed = await fleet.http.get("/commands", params={"limit": 500})
    assert len(listed.json()["items"]) == 20
    for writer in writers:
        writer.close()


async def test_the_command_line_waits_as_long_as_it_is_asked() -> None:
    """A busy server is asked again when it said so; a request for more patience than a person has is shown."""
    from gateways.cli.api import Api as Cli
    from gateways.cli.errors import RefusedError
    from gateways.cli.profile import Profile

    answers = [
        httpx2.Response(503, headers={"Retry-After": "0"}, json={"code": "overloaded", "detail": "later"}),
        httpx2.Response(200, json={"items": []}),
        httpx2.Response(429, headers={"Retry-After": "3600"}, json={"code": "too_many_requests", "detail": "later"}),
    ]
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return answers[len(asked) - 1]

    client = httpx2.Client(transport=httpx2.MockTransport(answer), base_url="http://x")
    cli = Cli(Profile(url="http://x", key="flk_x"), client)
    assert await asyncio.to_thread(cli.get, "/clients") == {"items": []}
    with pytest.raises(RefusedError) as refused:
        await asyncio.to_thread(cli.get, "/clients")
    assert refused.value.shown_code == "too_many_requests"
    assert len(asked) == 3
