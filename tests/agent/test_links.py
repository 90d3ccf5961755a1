"""The ways to the server: NATS that goes and comes, HTTP where there is no NATS, and enrollment."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.clock import ServerClock
from agent.errors import AlreadyEnrolledError, EnrollmentRefusedError, LaterError, LinkError
from agent.identity import AgentKey, Identity
from agent.link import Backoff, Link, OnRequest, Timing, Way
from agent.link_http import connect, post_to
from agent.main import main
from agent.service import Agent
from schema import wire
from tests.agent.scripted import ScriptedGateway, script

Answer = Callable[[str, bytes, Any], tuple[int, bytes]]


@contextmanager
def http_server(answer: Answer, headers: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """A server whose POSTs are answered by ``answer(path, body, headers)``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, data = answer(self.path, body, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class CheckIns:
    """The server side of the HTTP check-in, for one agent."""

    def __init__(self, agent_key: AgentKey, gateway: ScriptedGateway) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(agent_key.public_raw)
        self._gateway = gateway
        self._lock = threading.Lock()
        self.to_send: list[bytes] = []
        self.replies: list[Any] = []
        self.results: list[wire.ResultReport] = []
        self.done = threading.Event()
        self.nats_urls: list[str] = []
        self.ahead = timedelta()
        """Of the machine's clock."""

    def answer(self, path: str, body: bytes, headers: Any) -> tuple[int, bytes]:
        assert path == "/api/v1/agent/check-in"
        self._key.verify(bytes.fromhex(headers[wire.HTTP_SIGNATURE_HEADER]), wire.HTTP_CONTEXT + body)
        check_in = msgspec.msgpack.decode(body, type=wire.HttpCheckIn)
        server_time = datetime.now(UTC) + self.ahead
        if abs(server_time - check_in.sent_at) > timedelta(minutes=5):
            return 403, msgspec.json.encode({"code": "clock_skew", "server_time": server_time})
        with self._lock:
            self.replies += [wire.decode_downlink_reply(reply) for reply in check_in.replies]
            said = [wire.decode_uplink(message) for message in check_in.messages]
            self.results += [message for message in said if isinstance(message, wire.ResultReport)]
            requests, self.to_send = self.to_send, []
        if self.results and self.replies:
            self.done.set()
        if check_in.wait_s and not requests:
            self.done.wait(0.2)
        reply = wire.HttpCheckInReply(
            server_time=server_time,
            replies=[wire.encode(self._gateway._answer(message)) for message in said],
            requests=requests,
            nats_urls=self.nats_urls,
        )
        return 200, msgspec.msgpack.encode(reply)


async def run_until(agent: Agent, condition: threading.Event) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(agent.run(stop))
    try:
        assert await asyncio.to_thread(condition.wait, 15)
    finally:
        stop.set()
        await running


@pytest.mark.parametrize("transport", ["http", "auto"])
async def test_http_check_in(gateway: ScriptedGateway, transport: str) -> None:
    """Without NATS, orders, acceptances and results travel by signed HTTP check-ins."""
    check_ins = CheckIns(AgentKey.load_or_create(gateway.state_dir), gateway)
    order = gateway.order(script("echo by http"))
    check_ins.to_send.append(gateway.delivery(order))
    with http_server(check_ins.answer) as url:
        identity = msgspec.structs.replace(gateway.identity(), server_url=url, nats_urls=["nats://127.0.0.1:9"])
        identity.save(gateway.state_dir)
        timing = Timing(first_wait_s=0.1, most_wait_s=0.2, http_after_s=0.3)
        await run_until(Agent(gateway.state_dir, transport=transport, timing=timing), check_ins.done)
    assert [accepted.status for accepted in check_ins.replies[0].orders] == ["accepted"]
    result = check_ins.results[0]
    assert (result.command_id, gateway.output(result.stdout)) == (order.command_id, b"by http\n")


@pytest.mark.parametrize("unknown_key", [False, True])
async def test_a_machine_that_takes_nothing_just_now_does_not_ask_without_a_pause(
    gateway: ScriptedGateway, unknown_key: bool
) -> None:
    """Its orders are there, so a poll has nothing to wait for: all the same it does not go round and round.

    Nor does what it says meanwhile: that is answered, and may bring what it misses.
    """
    key = AgentKey.load_or_create(gateway.state_dir)
    check_ins = CheckIns(key, gateway)
    order = gateway.order(script("echo later"))
    said = wire.Accepted(command_id=order.command_id, attempt=order.attempt, status="busy", code="disk_full")
    polls: list[bytes] = []

    def post(body: bytes, signature: str, _timeout_s: float) -> bytes:
        polls.append(body)
        check_ins.to_send = [gateway.delivery(order)]
        return check_ins.answer("/api/v1/agent/check-in", body, {wire.HTTP_SIGNATURE_HEADER: signature})[1]

    reply: wire.DownlinkReply = wire.DeliveryReply(orders=[said])
    if unknown_key:
        reply = wire.Refused(code=wire.UNKNOWN_KEY, permanent=False)

    async def turned_down(_: bytes) -> bytes:
        return wire.encode(reply)

    session = await connect(gateway.identity(), key, ServerClock(), turned_down, lambda *_: None, post)
    await asyncio.sleep(0.9)
    assert len(polls) < 5
    hello = wire.Hello(agent_version="1", sent_at=datetime.now(UTC))
    answer = await session.request("hello", wire.encode(hello), 5)
    assert isinstance(wire.decode_uplink_reply(answer), wire.HelloReply)
    await session.close()
    assert len(polls) < 7
    if not unknown_key:
        assert check_ins.replies[0].orders == [said]


@pytest.mark.parametrize("days", [-400, 400])
async def test_http_check_in_of_a_machine_that_does_not_know_the_time(gateway: ScriptedGateway, days: int) -> None:
    """Its clock is years off, as without a battery: it sets itself by what the server says, and works."""
    check_ins = CheckIns(AgentKey.load_or_create(gateway.state_dir), gateway)
    check_ins.ahead = timedelta(days=days)
    there = datetime.now(UTC) + check_ins.ahead
    order = gateway.order(script("echo by http"), expires_at=there + timedelta(hours=1))
    check_ins.to_send.append(gateway.delivery(order, sent_at=there))
    with http_server(check_ins.answer) as url:
        msgspec.structs.replace(gateway.identity(), server_url=url, nats_urls=[]).save(gateway.state_dir)
        await run_until(Agent(gateway.state_dir, transport="http"), check_ins.done)
    assert [accepted.status for accepted in check_ins.replies[0].orders] == ["accepted"]


async def test_an_agent_finds_nats_where_it_has_moved(gateway: ScriptedGateway) -> None:
    """NATS is not where it was at enrollment: the agent is told over HTTP, goes there at once, and remembers it."""
    check_ins = CheckIns(AgentKey.load_or_create(gateway.state_dir), gateway)
    check_ins.nats_urls = gateway.identity().nats_urls
    stop = asyncio.Event()
    with http_server(check_ins.answer) as url:
        identity = msgspec.structs.replace(gateway.identity(), server_url=url, nats_urls=["nats://127.0.0.1:9"])
        identity.save(gateway.state_dir)
        timing = Timing(first_wait_s=0.1, most_wait_s=0.2, http_after_s=0.3, nats_again_s=3600)
        running = asyncio.create_task(Agent(gateway.state_dir, timing=timing).run(stop))
        try:
            await gateway.until(lambda: gateway.heard["hello"])
        finally:
            stop.set()
            await running
    assert Identity.load(gateway.state_dir).nats_urls == check_ins.nats_urls


class FakeSession:
    """A session that the test ends."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def request(self, kind: str, data: bytes, timeout_s: float) -> bytes:
        _ = data, timeout_s
        return kind.encode()

    async def live(self, command_id: object, data: bytes) -> None:
        """Lose it."""

    async def lost(self) -> str:
        return await asyncio.shield(self.ended)

    async def close(self) -> None:
        self.closed = True


async def test_link_falls_back_and_returns() -> None:
    """Where NATS is away the link goes over HTTP, and back to NATS once it is there; it survives losing either."""
    nats_there = False
    sessions: list[FakeSession] = []
    ups: asyncio.Queue[str] = asyncio.Queue()

    async def connect_nats(_: OnRequest, _patience_s: int) -> FakeSession:
        if not nats_there:
            raise LinkError
        sessions.append(FakeSession("nats"))
        return sessions[-1]

    async def connect_http(_: OnRequest, _patience_s: int) -> FakeSession:
        sessions.append(FakeSession("http"))
        return sessions[-1]

    async def on_request(data: bytes) -> bytes:
        return data

    link = Link(
        [Way(url="nats://a", connect=connect_nats)],
        Way(url="https://b", connect=connect_http),
        on_request,
        lambda transport, _url: ups.put_nowait(transport),
        timing=Timing(first_wait_s=0.01, most_wait_s=0.02, http_after_s=0.05, nats_again_s=0.05),
    )
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        assert await ups.get() == "http"
        nats_there = True
        assert await ups.get() == "nats"
        assert sessions[0].closed
        assert await link.request("hello", b"") == b"hello"
        sessions[-1].ended.set_result("gone")
        assert await ups.get() == "nats"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert sessions[1].closed


async def test_a_fleet_spreads_over_a_cluster() -> None:
    """Each try begins at any of the addresses and comes to all, another kind after the first, with growing patience."""
    tried: list[str] = []
    done = asyncio.Event()

    patience: list[int] = []

    def way(url: str) -> Way:
        async def connect(_: OnRequest, patience_s: int) -> FakeSession:
            tried.append(url)
            patience.append(patience_s)
            if len(tried) == 80:
                done.set()
            raise LinkError

        return Way(url=url, connect=connect)

    async def on_request(data: bytes) -> bytes:
        return data

    cluster = ["nats://a", "nats://b", "nats://c"]
    link = Link(
        [way(url) for url in [*cluster, "wss://d"]],
        None,
        on_request,
        lambda _transport, _url: None,
        timing=Timing(first_wait_s=0.001, most_wait_s=0.001),
    )
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    rounds = [tried[start : start + 4] for start in range(0, 80, 4)]
    assert all(sorted(each) == [*cluster, "wss://d"] and each[-1] == "wss://d" for each in rounds)
    assert {each[0] for each in rounds} == set(cluster)
    assert patience == [2] * 4 + [4] * 4 + [8] * 4 + [12] * 68


async def test_who_lost_the_server_is_patient() -> None:
    """The first try of a new agent is short; once it was in, each try has the patience that a whole fleet needs."""
    patience: list[int] = []
    sessions: list[FakeSession] = []
    ups: asyncio.Queue[str] = asyncio.Queue()

    async def connect(_: OnRequest, patience_s: int) -> FakeSession:
        patience.append(patience_s)
        sessions.append(FakeSession("nats"))
        return sessions[-1]

    async def on_request(data: bytes) -> bytes:
        return data

    link = Link(
        [Way(url="nats://a", connect=connect)],
        None,
        on_request,
        lambda transport, _url: ups.put_nowait(transport),
        timing=Timing(first_wait_s=0.001, most_wait_s=0.001),
    )
    running = asyncio.create_task(link.run())
    async with asyncio.timeout(10):
        await ups.get()
        sessions[0].ended.set_result("lost")
        await ups.get()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert patience == [2, 12]


@pytest.mark.parametrize(
    ("status", "header", "again_s"),
    [
        (503, "7", 7.0),
        (429, "2", 2.0),
        (503, None, None),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", None),
        (429, "9" * 9, 120),
    ],
)
def test_a_busy_server_says_over_http_when_to_come_again(
    status: int, header: str | None, again_s: float | None
) -> None:
    """Its Retry-After is heeded where it is a number of seconds, and within reason."""
    headers = {} if header is None else {"Retry-After": header}
    with http_server(lambda *_: (status, b"{}"), headers) as url, pytest.raises(LaterError) as caught:
        post_to(url)(b"", "", 5.0)
    assert caught.value.again_s == again_s


def test_backoff_spreads_and_is_bounded() -> None:
    """Waits double up to their bound, never from zero, and each is spread over its whole range."""
    lowest = Backoff(first_s=1, most_s=60, uniform=lambda low, _high: low)
    highest = Backoff(first_s=1, most_s=60, uniform=lambda _low, high: high)
    assert [highest.next_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [lowest.next_s() for _ in range(3)] == [0.1, 0.2, 0.4]


def test_enroll_and_status(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Enrolling proves the key, keeps the identity private, and happens once."""
    agent_id, server_key = uuid4(), Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    asked: list[wire.EnrollRequest] = []

    def answer(path: str, body: bytes, _headers: Any) -> tuple[int, bytes]:
        assert path == "/api/v1/enroll"
        request = msgspec.json.decode(body, type=wire.EnrollRequest)
        asked.append(request)
        if request.token == "spent":  # noqa: S105 - a test's own token
            return 403, json.dumps({"title": "No", "detail": "The token is used up.", "code": "token_used_up"}).encode()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(request.public_key)).verify(
            bytes.fromhex(request.proof), wire.ENROLL_CONTEXT + request.token.encode()
        )
        return 200, msgspec.json.encode(
            wire.EnrollReply(agent_id=agent_id, server_public_key=server_key, nats_urls=["nats://x"])
        )

    state = ["--state-dir", str(place / "state")]
    assert main(["status", *state]) == 2
    with http_server(answer) as url:
        assert main(["enroll", url, "spent", *state]) == 2
        assert "The token is used up. (token_used_up)" in capsys.readouterr().err
        assert main(["enroll", url, "good", "--name", "box", *state]) == 0
        assert main(["enroll", url, "good", *state]) == 2
    assert [request.hostname for request in asked][1:] == ["box"]
    assert len({request.public_key for request in asked}) == 1
    assert Identity.load(place / "state").agent_id == agent_id
    assert {path.stat().st_mode & 0o777 for path in (place / "state").iterdir()} == {0o600}
    capsys.readouterr()
    assert main(["status", "--json", *state]) == 1
    assert json.loads(capsys.readouterr().out)["agent_id"] == str(agent_id)
    assert main(["install-service", "--print", *state]) == 0
    assert "ExecStart=" in capsys.readouterr().out


def test_enroll_errors_are_said(place: Path) -> None:
    """An address that is none, or leads nowhere, is said in words."""
    from agent.enroll import enroll

    for url in ("ftp://x", "http://127.0.0.1:9"):
        with pytest.raises(EnrollmentRefusedError):
            enroll(url, "token", place / "state")
    assert AlreadyEnrolledError.code == "already_enrolled"
