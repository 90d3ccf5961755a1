"""Light simulated agents: real keys, real connections, the real protocol, a journal in memory."""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import nats.errors
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from command_bus.event_log import EventLog
from command_bus.ids import new_id
from domain.agents import Agent, AgentEnrolled, Platform
from domain.event import Metadata
from domain.ids import AgentId, ClientId, SiteId
from gateways.agents.patience import PatientClient
from schema import trust, wire
from schema.checks import CHECKS_CONTEXT, NO_CHECKS, CheckListBody, ChecksChanged, CheckValue, decode_list
from schema.server_keys import CountingKey, ServerKeysRefusedError, following, verified

VERSION = "simulated"
Answer = Callable[["SimulatedAgent", wire.DeliveryBody], list[wire.Accepted]]


class SimulatedIdentity(msgspec.Struct, frozen=True):
    """What enrollment would have given."""

    agent_id: AgentId
    seed: bytes

    @property
    def key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


async def enroll_simulated(
    log: EventLog, count: int, client_id: ClientId, site_id: SiteId, *, platform: Platform = Platform.LINUX
) -> list[SimulatedIdentity]:
    """Record agents as enrolled, in bulk and without tokens."""
    identities: list[SimulatedIdentity] = []
    changes = []
    for number in range(count):
        key = Ed25519PrivateKey.generate()
        agent = Agent(new_id())
        identities.append(SimulatedIdentity(AgentId(agent.stream_id), key.private_bytes_raw()))
        enrolled = AgentEnrolled(
            site_id=site_id,
            client_id=client_id,
            token_id=None,
            hostname=f"simulated-{number}",
            platform=platform,
            arch="x86_64",
            agent_version=VERSION,
            public_key=key.public_key().public_bytes_raw().hex(),
        )
        changes.append(agent.enroll(enrolled))
    await log.append_bulk(changes, Metadata(actor="system", correlation_id=new_id()))
    return identities


class _EndingClient(PatientClient):
    """Says first that the connection is over, and then ends it, as agents' own do.

    nats-py 2.16 tells nobody where what waits to be sent cannot be: see `agent.link_nats`, which bears no import here.

    Args:
        on_over: told once the connection has ended for good, maybe more than once.
    """

    def __init__(self, on_over: Callable[[], None]) -> None:
        super().__init__()
        self._on_over = on_over

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if status == Client.CLOSED:
            self._on_over()
        with contextlib.suppress(OSError):  # what waited cannot be sent, and whoever sent it is not answered
            await super()._close(status, do_cbs)


class SimulatedAgent:
    """One agent.

    Args:
        identity: who it is.
        server_key: checks what it is sent, until the server says which key takes over.
        answer: what it says to a delivery; without it, every order is accepted and remembered.
    """

    version = VERSION
    """Of its program, as it says hello."""

    def __init__(self, identity: SimulatedIdentity, server_key: bytes, *, answer: Answer | None = None) -> None:
        self.agent_id = identity.agent_id
        self.key = identity.key
        self.received: list[wire.Order] = []
        """Orders in the order in which they came for the first time."""
        self.journal: dict[tuple[UUID, int], wire.Order] = {}
        self.tombstones: set[UUID] = set()
        self.redelivered = 0
        self.who = wire.Instance(instance=self.agent_id.hex, machine=self.agent_id.hex, hostname="simulated")
        self.errors: list[Exception] = []
        self.closed = asyncio.Event()
        self.client: Client = self.new_client()
        self.changed = asyncio.Condition()
        self.server_keys = [CountingKey(server_key)]
        """Of the server, that count."""
        self.checks: CheckListBody | None = None
        """The list of checks that it was given last."""
        self._hearing: set[asyncio.Task[None]] = set()
        self._answer = answer or type(self).accept

    def new_client(self) -> Client:
        """One that is not connected yet."""
        return _EndingClient(self.closed.set)

    async def connect(self, urls: Sequence[str], *, reconnect: bool = False) -> None:
        """Connect and listen; raises what nats-py raises when it is not let in."""
        await self.client.connect(
            list(urls),
            name=wire.connection_name(self.agent_id, self.who),
            token=str(self.agent_id),
            signature_cb=self.sign_nonce,
            inbox_prefix=wire.inbox_prefix(self.agent_id),
            allow_reconnect=reconnect,
            max_reconnect_attempts=-1 if reconnect else 1,
            reconnect_time_wait=1,
            connect_timeout=20,
            error_cb=self._on_error,
        )
        await self.client.subscribe(wire.command_subject(self.agent_id), cb=self._on_request)
        await self.client.flush(20)

    def sign_nonce(self, nonce: str) -> bytes:
        return base64.b64encode(self.key.sign(wire.NATS_CONTEXT + nonce.encode()))

    async def close(self) -> None:
        await self.client.close()

    async def ask(self, message: wire.Uplink, timeout_s: float = 10.0) -> wire.UplinkReply:
        """Say something, and hear the answer."""
        kind = str(type(message).__struct_config__.tag)
        reply: wire.UplinkReply = wire.decode_uplink_reply(await self.ask_raw(kind, wire.encode(message), timeout_s))
        return reply

    async def ask_raw(self, kind: str, data: bytes, timeout_s: float = 10.0) -> bytes:
        reply = await self.client.request(wire.uplink_subject(self.agent_id, kind), data, timeout=timeout_s)
        return bytes(reply.data)

    async def hello(self, timeout_s: float = 10.0) -> wire.UplinkReply:
        """Say that it is there, and follow the server's keys."""
        known = [key.public_key for key in self.server_keys]
        now = datetime.now(UTC)
        hello = wire.Hello(
            agent_version=self.version,
            sent_at=now,
            server_keys=known,
            samples=self.samples(now),
            checks=self.checks.digest if self.checks is not None else NO_CHECKS,
            check_values=self.check_values(now),
        )
        reply = await self.ask(hello, timeout_s)
        if isinstance(reply, wire.HelloReply) and reply.server_keys is not None:
            try:
                self.server_keys = following(self.server_keys, reply.server_keys)
            except ServerKeysRefusedError as error:
                self.errors.append(error)
        if isinstance(reply, wire.HelloReply) and reply.checks is not None:
            self._verify(reply.checks.signature, CHECKS_CONTEXT + reply.checks.body)
            self.checks = decode_list(reply.checks.body)
        return reply

    def check_values(self, now: datetime) -> list[CheckValue]:
        """What it measured last."""
        del now
        return []

    def samples(self, now: datetime) -> list[wire.Sample]:
        """How busy its machine is."""
        del now
        return []

    async def finish(self, order: wire.Order, outcome: str = "succeeded") -> wire.UplinkReply:
        now = datetime.now(UTC)
        return await self.ask(
            wire.ResultReport(
                command_id=order.command_id,
                attempt=order.attempt,
                outcome=outcome,
                exit_code=0,
                started_at=now,
                finished_at=now,
            )
        )

    async def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until something holds of what was received."""
        async with asyncio.timeout(timeout_s), self.changed:
            await self.changed.wait_for(holds)

    def accept(self, body: wire.DeliveryBody) -> list[wire.Accepted]:
        """Journal every order that is new, and say so."""
        answers = []
        for order in body.orders:
            status = "accepted"
            if order.command_id in self.tombstones:
                status = "cancelled"
            elif (order.command_id, order.attempt) in self.journal:
                self.redelivered += 1
            else:
                self.journal[order.command_id, order.attempt] = order
                self.received.append(order)
            answers.append(wire.Accepted(command_id=order.command_id, attempt=order.attempt, status=status))
        return answers

    def cancel(self, command_id: UUID) -> str:
        """What to say to a request to cancel a command, and to hold to from then on."""
        if any(journaled == command_id for journaled, _ in self.journal):
            return "ending"
        self.tombstones.add(command_id)
        return "dropped"

    def take(self, data: bytes) -> bytes:  # noqa: PLR0911 - one for each kind
        """Answer a request, whichever way it came."""
        request = wire.decode_downlink(data)
        if isinstance(request, wire.OutputWatch):
            return wire.encode(wire.Acknowledged(detail="not_running"))
        if isinstance(request, ChecksChanged):
            self.on_unknown_key()
            return wire.encode(wire.Acknowledged())
        if isinstance(request, wire.Probe):
            return wire.encode(wire.ProbeReply(who=self.who))
        if not self._knows(request.key):
            return self._unknown_key(request)
        if isinstance(request, wire.CancelRequest):
            self._verify(request.signature, wire.CANCEL_CONTEXT + request.body)
            command_ids = wire.decode_cancel_body(request.body).command_ids
            statuses = {command_id: self.cancel(command_id) for command_id in command_ids}
            attempts = {
                str(command_id): max((attempt for known, attempt in self.journal if known == command_id), default=0)
                for command_id, status in statuses.items()
                if status == "ended"
            }
            return wire.encode(
                wire.CancelReply(statuses={str(c): said for c, said in statuses.items()}, attempts=attempts)
            )
        self._verify(request.signature, wire.SIGNING_CONTEXT + request.body)
        body = wire.decode_delivery_body(request.body)
        if body.agent_id != self.agent_id:
            return wire.encode(wire.Refused(code="wrong_agent"))
        return wire.encode(wire.DeliveryReply(orders=self._answer(self, body)))

    def _knows(self, name: bytes) -> bool:
        return not name or any(trust.key_name(key.public_key) == name for key in self.server_keys)

    def _unknown_key(self, request: wire.Delivery | wire.CancelRequest) -> bytes:
        """Take nothing for now, and hear of the key next, as the real agent does."""
        self.on_unknown_key()
        if isinstance(request, wire.CancelRequest):
            return wire.encode(wire.Refused(code=wire.UNKNOWN_KEY))
        orders = wire.decode_delivery_body(request.body).orders
        busy = [
            wire.Accepted(command_id=one.command_id, attempt=one.attempt, status="busy", code=wire.UNKNOWN_KEY)
            for one in orders
        ]
        return wire.encode(wire.DeliveryReply(orders=busy))

    def on_unknown_key(self) -> None:
        """Say hello soon; to be overridden by an agent that says hello in a way of its own."""
        asking = asyncio.get_running_loop().create_task(self._hear())
        self._hearing.add(asking)
        asking.add_done_callback(self._hearing.discard)

    async def _hear(self) -> None:
        try:
            await self.hello()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self.errors.append(error)  # the next delivery has it asked again

    def _verify(self, signature: bytes, data: bytes) -> None:
        if not any(verified(key.public_key, signature, data) for key in self.server_keys):
            raise InvalidSignature

    def reply_to(self, data: bytes) -> bytes:
        """`take`, with a refusal of what was not signed by the server."""
        try:
            return self.take(data)
        except (InvalidSignature, msgspec.MsgspecError) as error:
            self.errors.append(error)
            return wire.encode(wire.Refused(code="bad_signature"))

    async def tell(self) -> None:
        """Wake those who wait in `until`."""
        async with self.changed:
            self.changed.notify_all()

    async def _on_request(self, message: Msg) -> None:
        reply = self.reply_to(message.data)
        if message.reply:
            await message.respond(reply)
        await self.tell()

    async def _on_error(self, error: Exception) -> None:
        self.errors.append(error)


async def in_groups(actions: Sequence[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Do things, so many side by side."""
    limit = asyncio.Semaphore(at_once)

    async def one(action: Callable[[], Awaitable[object]]) -> None:
        async with limit:
            await action()

    await asyncio.gather(*(one(action) for action in actions))
