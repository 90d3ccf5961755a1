"""The other end of the wire for the agent's tests: a gateway that does what the test tells it, and agent processes."""

import asyncio
import os
import signal
import subprocess
import sys
import zlib
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import msgspec
import nats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.msg import Msg

from agent.identity import AgentKey, Identity
from schema import checks, wire

ROOT = Path(__file__).resolve().parents[2]
_encode = msgspec.msgpack.encode


def script(body: str, **fields: Any) -> wire.ScriptWork:
    return wire.ScriptWork(**{"shell": "sh", "body": body, "timeout_s": 30} | fields)


class ScriptedGateway:
    """Signs and sends deliveries to one agent, answers its uplinks, and keeps all that it heard."""

    def __init__(self, nats_url: str, state_dir: Path) -> None:
        self.nats_url = nats_url
        self.state_dir = state_dir
        self.agent_id = uuid4()
        self.server_key = Ed25519PrivateKey.generate()
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self.live: list[wire.OutputLive] = []
        self.news = asyncio.Condition()
        self.silent: set[str] = set()
        """Kinds of uplink that get no answer."""
        self.busy: dict[str, list[float]] = defaultdict(list)
        """By kind of uplink, how long the next ones are asked to wait."""
        self.came: dict[str, list[float]] = defaultdict(list)
        """By kind of uplink, when each came."""
        self.chunks: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.held: list[tuple[UUID, int]] = []
        """What hellos are answered as being with the agent."""
        self.held_key = self.server_key
        self.hello_interval_s = 60.0
        self.checks: checks.CheckList | None = None
        """What hellos of who has another list are answered with, as often as they come."""
        self.list_key = self.server_key
        self._position = 0

    def identity(self) -> Identity:
        return Identity(
            agent_id=self.agent_id,
            server_url="http://127.0.0.1:9",
            server_public_key=self.server_key.public_key().public_bytes_raw().hex(),
            nats_urls=self.nats_url.split(","),
        )

    async def __aenter__(self) -> Self:
        self.state_dir.mkdir(mode=0o711, exist_ok=True)
        AgentKey.load_or_create(self.state_dir)
        self.identity().save(self.state_dir)
        self.client = await nats.connect(self.nats_url.split(","))
        await self.client.subscribe(f"fleet.{self.agent_id}.up.*", cb=self._uplink)
        await self.client.subscribe(f"fleet.{self.agent_id}.out.*", cb=self._live)
        await self.client.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    # -- uplink --------------------------------------------------------------------------------------------------

    async def _uplink(self, message: Msg) -> None:
        said = wire.decode_uplink(message.data)
        kind = wire.kind_of(message.data)
        async with self.news:
            self.heard[kind].append(said)
            self.came[kind].append(asyncio.get_running_loop().time())
            self.news.notify_all()
        if self.busy[kind]:
            busy = wire.Refused(code="overloaded", permanent=False, retry_after_s=self.busy[kind].pop(0))
            await message.respond(wire.encode(busy))
        elif kind not in self.silent:
            await message.respond(wire.encode(self._answer(said)))

    def _answer(self, said: wire.Uplink) -> wire.UplinkReply:
        match said:
            case wire.Hello():
                held = self._held() if self.held else None
                return wire.HelloReply(
                    server_time=datetime.now(UTC),
                    held=held,
                    hello_interval_s=self.hello_interval_s,
                    checks=self.checks,
                )
            case wire.OutputOffer():
                return wire.OutputWanted(from_chunk=len(self.chunks[said.sha256]))
            case wire.OutputChunk():
                self.chunks[said.sha256][said.index] = zlib.decompress(said.data)
        return wire.Acknowledged()

    def _held(self) -> wire.Held:
        named = [wire.Attempt(command_id=command_id, attempt=attempt) for command_id, attempt in self.held]
        body = _encode(wire.HeldBody(agent_id=self.agent_id, sent_at=datetime.now(UTC), attempts=named))
        return wire.Held(body=body, signature=self.held_key.sign(wire.HELD_CONTEXT + body))

    def give(self, *given: checks.GivenCheck, **more: Any) -> checks.CheckList:
        """A list of checks, which hellos are answered with from now on."""
        digest = checks.list_digest((one.check_id, one.revision) for one in given)
        body = {"agent_id": self.agent_id, "made_at": datetime.now(UTC), "digest": digest, "checks": list(given)} | more
        packed = checks.encode(checks.CheckListBody(**body))
        self.checks = checks.CheckList(body=packed, signature=self.list_key.sign(checks.CHECKS_CONTEXT + packed))
        return self.checks

    async def _live(self, message: Msg) -> None:
        async with self.news:
            self.live.append(wire.decode_live(message.data))
            self.news.notify_all()

    async def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s), self.news:
            await self.news.wait_for(condition)

    async def result(self, command_id: UUID, attempt: int = 1, timeout_s: float = 20.0) -> wire.ResultReport:
        def found() -> list[wire.ResultReport]:
            return [r for r in self.heard["result"] if (r.command_id, r.attempt) == (command_id, attempt)]

        await self.until(found, timeout_s)
        return found()[0]

    def output(self, report: wire.StreamReport) -> bytes:
        """All of a stream, as it was sent."""
        if report.inline is not None:
            return zlib.decompress(report.inline)
        pieces = self.chunks.get(report.sha256, {})
        return b"".join(pieces[index] for index in sorted(pieces))

    async def hello(self) -> None:
        count = len(self.heard["hello"])
        await self.until(lambda: len(self.heard["hello"]) > count or count)

    # -- downlink ------------------------------------------------------------------------------------------------

    def order(self, work: Any, *, command_id: UUID | None = None, **fields: Any) -> wire.Order:
        self._position += 1
        given = {
            "command_id": command_id or uuid4(),
            "attempt": 1,
            "lane": "default",
            "priority": 5,
            "position": self._position,
            "expires_at": datetime.now(UTC) + timedelta(hours=1),
            "age_ms": 0,
            "work": work if isinstance(work, bytes) else wire.encode(work),
            "correlation_id": uuid4(),
        }
        return wire.Order(**given | fields)

    def delivery(
        self,
        *orders: wire.Order,
        agent_id: UUID | None = None,
        key: Ed25519PrivateKey | None = None,
        sent_at: datetime | None = None,
    ) -> bytes:
        sent_at = sent_at or datetime.now(UTC)
        body = _encode(wire.DeliveryBody(agent_id=agent_id or self.agent_id, sent_at=sent_at, orders=list(orders)))
        return self.signed(body, key)

    def signed(self, body: bytes, key: Ed25519PrivateKey | None = None) -> bytes:
        """A delivery of whatever body."""
        signature = (key or self.server_key).sign(wire.SIGNING_CONTEXT + body)
        return wire.encode(wire.Delivery(body=body, signature=signature))

    async def ask(self, data: bytes, timeout_s: float = 5.0) -> wire.DownlinkReply:
        message = await self.client.request(wire.command_subject(self.agent_id), data, timeout=timeout_s)
        reply: wire.DownlinkReply = wire.decode_downlink_reply(message.data)
        return reply

    async def deliver(self, *orders: wire.Order) -> list[wire.Accepted]:
        """Deliver until there is an answer, as a gateway does."""
        async with asyncio.timeout(20):
            while True:
                try:
                    reply = await self.ask(self.delivery(*orders))
                except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                    await asyncio.sleep(0.02)
                    continue
                assert isinstance(reply, wire.DeliveryReply), reply
                return reply.orders

    async def cancel(self, *command_ids: UUID) -> dict[str, str]:
        return (await self.ask_to_cancel(*command_ids)).statuses

    async def ask_to_cancel(self, *command_ids: UUID) -> wire.CancelReply:
        body = _encode(
            wire.CancelBody(agent_id=self.agent_id, sent_at=datetime.now(UTC), command_ids=list(command_ids))
        )
        signature = self.server_key.sign(wire.CANCEL_CONTEXT + body)
        reply = await self.ask(wire.encode(wire.CancelRequest(body=body, signature=signature)))
        assert isinstance(reply, wire.CancelReply), reply
        return reply


class AgentProcess:
    """A real agent process on a state directory; it may be told to kill itself at a named step."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.log = state_dir.parent / "agent.log"

    def start(self, *, crash_at: str = "", env: dict[str, str] | None = None, transport: str = "nats") -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.agent.process", str(self.state_dir), crash_at, transport],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (env or {}),
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def exited(self, timeout_s: float = 20.0) -> int:
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, timeout_s)

    async def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        await self.exited()

    async def stop(self) -> int:
        os.kill(self.pid, signal.SIGTERM)
        return await self.exited()

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
