"""A simulated agent that lives: it runs what it is sent, lane by lane, reports until it is heard, and comes back."""

import asyncio
import hashlib
import heapq
import math
import random
import zlib
from collections import Counter, deque
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from gateways.bench.links import LightAgent, Link
from gateways.bench.simulated import SimulatedIdentity
from gateways.simulate.checks import Checks, Rule
from gateways.simulate.plan import Plan
from schema import wire
from schema.sealing import SealError, unseal

ANSWER_S = 10.0
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
LONGEST_AWAY_S = 60.0
CONNECTING = 100
"""First connections made at once: each costs the server a question to a gateway. Who lost one comes back unasked."""

RAN = ("succeeded", "failed", "timed_out")
"""Outcomes of what was begun and not called back: it may have printed something."""


class Printed(msgspec.Struct, frozen=True):
    """What a run left behind."""

    exit_code: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""


class World:
    """What all agents of a simulation share.

    Args:
        plan: how they behave.
        urls: NATS servers; each connection goes to one of them, at random.
        tasks: owns whatever they do.
    """

    def __init__(self, plan: Plan, urls: Sequence[str], tasks: asyncio.TaskGroup) -> None:
        self.plan = plan
        self.urls = list(urls)
        self.checks = Checks()
        self.random = random.Random(plan.seed)  # noqa: S311 -- to be repeated, not to be secret
        self.counts: Counter[str] = Counter()
        self.delays_ms: list[int] = []
        self.connecting = asyncio.Semaphore(CONNECTING)
        self.ahead = timedelta()
        """The server's clock less ours: expiry is judged by the server's."""
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._over = False

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._over:  # an order that came in while connections are being closed
            work.close()
            return
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def end(self) -> None:
        """End whatever the agents still do, and let them begin nothing more."""
        self._over = True
        for task in self._running:
            task.cancel()

    def waits(self) -> Iterator[float]:
        """Before each try to come back: as the real agent does, a random part of a bound that doubles."""
        bound = self.plan.reconnect_s
        while True:
            yield self.random.uniform(bound / 10, bound)
            bound = min(bound * 2, LONGEST_AWAY_S)

    def around(self, mean: float) -> float:
        """A time near a mean: between half and one and a half of it."""
        return mean * self.random.uniform(0.5, 1.5)


class SimulatedMachine(LightAgent):
    """One agent.

    Args:
        identity: who it is.
        server_key: checks what it is sent.
        world: what it shares with the others.
        number: which it is.
    """

    def __init__(self, identity: SimulatedIdentity, server_key: bytes, world: World, number: int) -> None:
        super().__init__(identity, server_key)
        self._world = world
        self._number = number
        self._sampled: datetime | None = None
        self.output = f"simulated machine {number}\n".encode()
        self.online = asyncio.Event()
        self.greeted = False
        """Whether the platform has answered its hello over the connection that it has."""
        self.pending = 0
        """What waited for it when it last said hello."""
        self._wanted = False
        self._coming = False
        self._since = datetime.max.replace(tzinfo=UTC)
        self._lanes: dict[str, list[tuple[int, int, UUID, wire.Order]]] = {}
        self._running: dict[UUID, asyncio.Event] = {}
        self._unsaid: deque[wire.Uplink] = deque()

    # -- its connection --------------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Go online, and stay so until `leave`."""
        self._wanted = True
        self._begin(self._come())

    def samples(self, now: datetime) -> list[wire.Sample]:
        """One with each hello; with the first those from before, too, as if the platform had been away."""
        first = self._sampled is None
        self._sampled = now
        before = self._world.plan.told_of_before if first else 1
        at = now + self._world.ahead
        return [self._sample(at - timedelta(minutes=minutes)) for minutes in range(before - 1, -1, -1)]

    def _sample(self, at: datetime) -> wire.Sample:
        """A machine of its own habits: busier now and then, and fuller by the hour."""
        minute = at.timestamp() / 60
        swing = (1 + math.sin(minute / (7 + self._number % 11) + self._number)) / 2
        return wire.Sample(
            at=at,
            cpu_percent=min(100.0, (self._number * 7 % 40) + 45 * swing**3 + self._world.random.uniform(0, 6)),
            memory_percent=35 + (self._number * 13 % 45) + 8 * swing,
            disk_percent=20 + (self._number * 17 % 60) + minute % 1440 / 1440 * 4,
        )

    async def leave(self) -> None:
        """Go offline, and stay so until `arrive`."""
        self._wanted = self.greeted = False
        self.online.clear()
        await self.close()

    def on_lost(self, link: Link) -> None:
        """See `LightAgent`."""
        if link is self._link and self.online.is_set():
            self.online.clear()
            self.greeted = False
            self._world.counts["lost"] += 1
            self._begin(self._come_back())

    def _begin(self, coming: Coroutine[Any, Any, None]) -> None:
        if self._coming or self.online.is_set():
            coming.close()
            return
        self._coming = True
        self._world.spawn(coming)

    async def _come(self) -> None:
        """Be one of those who come for the first time, or return when they please: so many at once."""
        async with self._world.connecting:
            let_in = await self._try()
        if let_in:
            await self._arrived()
        else:
            await self._come_back()

    async def _come_back(self) -> None:
        """Return after a loss, whatever the others do: after a while, and again after a longer one."""
        waits = self._world.waits()
        while self._wanted:
            await asyncio.sleep(next(waits))
            if self._wanted and await self._try():
                break
        await self._arrived()

    async def _try(self) -> bool:
        """Every server once, at random, as the real agent does: one that is down keeps nobody away from the others."""
        for url in self._world.random.sample(self._world.urls, len(self._world.urls)):
            try:
                async with asyncio.timeout(wire.LET_IN_S):
                    await self.connect([url])
            except (OSError, TimeoutError):
                await self.close()
                self._world.counts["refused"] += 1
                continue
            if self.link.lost is None:
                return True
        return False

    async def _arrived(self) -> None:
        self._coming = False
        if not self._wanted:
            await self.close()
            return
        self._since = self._world.now()
        self._world.counts["connections"] += 1
        self.online.set()
        await self.greet()

    def lag_s(self) -> float:
        """See `LightAgent`."""
        return self._world.around(self._world.plan.latency_s)

    def on_unknown_key(self) -> None:
        """See `SimulatedAgent`."""
        self._world.spawn(self.greet())

    async def greet(self) -> None:
        """Say hello until it is heard, or the connection ends."""
        while self.online.is_set():
            try:
                reply = await self.hello(ANSWER_S)
            except (OSError, TimeoutError):
                await asyncio.sleep(self._world.around(FIRST_WAIT_S))
                continue
            if isinstance(reply, wire.HelloReply):
                self._world.ahead = reply.server_time - datetime.now(UTC)
                self.pending = reply.pending
                self.greeted = True
                return
            await asyncio.sleep(self._world.around(FIRST_WAIT_S))  # told to come again

    # -- what it is sent -------------------------------------------------------------------------------------------

    def accept(self, body: wire.DeliveryBody) -> list[wire.Accepted]:
        """Journal what is new, refuse what has expired or was cancelled, and begin."""
        return [self._take_if_readable(order, body.sent_at) for order in body.orders]

    def _take_if_readable(self, order: wire.Order, sent_at: datetime) -> wire.Accepted:
        command_id, attempt = order.command_id, order.attempt
        code, why = self._unreadable(order)
        if code:
            self._world.checks.breach(Rule.READABLE, self.agent_id, command_id, why)
            self._world.counts["could not be read"] += 1
            return wire.Accepted(command_id=command_id, attempt=attempt, status="rejected", code=code, detail=why)
        return wire.Accepted(command_id=command_id, attempt=attempt, status=self._take_order(order, sent_at))

    def _unreadable(self, order: wire.Order) -> tuple[str, str]:
        """Why the real agent would refuse an order's work, in its own code and in words; empty where it would not."""
        try:
            work = wire.decode_work(order.work)
            if isinstance(work, wire.SealedWork):
                name = wire.sealed_name(self.agent_id, order.command_id, order.attempt)
                wire.decode_secret_work(unseal(self.key, work.sealed, name))
        except SealError as error:
            return "not_for_this_agent", f"what is sealed does not open here: {error}"
        except msgspec.MsgspecError as error:
            return "malformed", f"its work cannot be read: {error}"
        return "", ""

    def _take_order(self, order: wire.Order, sent_at: datetime) -> str:
        self._world.checks.sent(self.agent_id, order, sent_at)
        if order.command_id in self.tombstones:
            return "cancelled"
        if (order.command_id, order.attempt) in self.journal:
            self.redelivered += 1
            return "accepted"
        if order.expires_at <= self._world.now():
            self._world.counts["expired before it was taken"] += 1
            return "expired"
        self.journal[order.command_id, order.attempt] = order
        self._world.checks.accepted(self.agent_id, order)
        self._world.counts["received"] += 1
        if self._since < sent_at - timedelta(milliseconds=order.age_ms):
            self._world.delays_ms.append(order.age_ms)
        lane = self._lanes.get(order.lane)
        if lane is None:
            lane = self._lanes[order.lane] = []
            self._world.spawn(self._work(order.lane, lane))
        heapq.heappush(lane, (order.priority, order.position, order.command_id, order))
        return "accepted"

    def cancel(self, command_id: UUID) -> str:
        """End it if it runs, and never begin it if it waits."""
        running = self._running.get(command_id)
        if running is not None:
            running.set()
            return "ending"
        self.tombstones.add(command_id)
        if command_id in self._world.checks.outcomes:
            return "ended"
        self._world.checks.cancelled(command_id, self._world.now())
        return "dropped"

    # -- what it does ----------------------------------------------------------------------------------------------

    async def _work(self, name: str, lane: list[tuple[int, int, UUID, wire.Order]]) -> None:
        """Run what is in a lane, one at a time; the lane is gone when it is empty."""
        await asyncio.sleep(0)  # the whole of a delivery is in the lane before its first command begins
        while lane:
            *_, order = heapq.heappop(lane)
            if order.command_id in self.tombstones:
                self._world.checks.ended(self.agent_id, order, "cancelled")
            elif order.expires_at <= self._world.now():
                self._report(order, "expired")
            else:
                await self._run(order)
        del self._lanes[name]

    async def _run(self, order: wire.Order) -> None:
        begun = self._world.now()
        self._world.checks.began(self.agent_id, order, begun)
        self._say(wire.StartedReport(command_id=order.command_id, attempt=order.attempt, started_at=begun))
        ending = self._running[order.command_id] = asyncio.Event()
        try:
            outcome = await self.work(order, ending)
        finally:
            del self._running[order.command_id]
        self._report(order, outcome, begun)

    async def work(self, order: wire.Order, ending: asyncio.Event) -> str:
        """What a run takes; returns its outcome.

        Args:
            order: what is run.
            ending: set when it is to be cancelled.
        """
        del order  # whatever it is
        try:
            async with asyncio.timeout(self._world.around(self._world.plan.run_s)):
                await ending.wait()
        except TimeoutError:
            return "failed" if self._world.random.random() < self._world.plan.failing else "succeeded"
        return "cancelled"

    def printed(self, order: wire.Order, outcome: str) -> Printed:
        """What a run left behind that came to an end of its own."""
        del order
        return Printed(exit_code={"succeeded": 0, "failed": 1}.get(outcome), stdout=self.output)

    def _report(self, order: wire.Order, outcome: str, begun: datetime | None = None) -> None:
        self._world.checks.ended(self.agent_id, order, outcome)
        self._world.counts[f"outcome {outcome}"] += 1
        now = self._world.now()
        printed = self.printed(order, outcome) if outcome in RAN else Printed()
        self._say(
            wire.ResultReport(
                command_id=order.command_id,
                attempt=order.attempt,
                outcome=outcome,
                exit_code=printed.exit_code,
                started_at=begun,
                finished_at=now,
                duration_ms=int((now - begun).total_seconds() * 1000) if begun is not None else 0,
                stdout=_stream(printed.stdout),
                stderr=_stream(printed.stderr),
            )
        )

    # -- what it says ----------------------------------------------------------------------------------------------

    @property
    def unsaid(self) -> int:
        """Messages that were not acknowledged yet."""
        return len(self._unsaid)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do and nothing to say."""
        return not self._lanes and not self._unsaid

    def _say(self, message: wire.Uplink) -> None:
        self._unsaid.append(message)
        if len(self._unsaid) == 1:
            self._world.spawn(self._speak())

    async def _speak(self) -> None:
        """Say what there is to say, in order and each until it is acknowledged, across connections."""
        wait_s = FIRST_WAIT_S
        while self._unsaid:
            await self.online.wait()
            message = self._unsaid[0]
            try:
                reply = await self.ask(message, ANSWER_S)
            except (OSError, TimeoutError):
                reply = None
            match reply:
                case wire.Acknowledged():
                    self._unsaid.popleft()
                    wait_s = FIRST_WAIT_S
                case wire.Refused(permanent=True):
                    self._refused(message, reply)
                    self._unsaid.popleft()
                case _:
                    self._world.counts["repeated"] += 1
                    again_s = reply.retry_after_s if isinstance(reply, wire.Refused) else None
                    await asyncio.sleep(self._world.around(again_s or wait_s))
                    wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _refused(self, message: wire.Uplink, reply: wire.Refused) -> None:
        if isinstance(message, wire.StartedReport | wire.ResultReport):
            kind = msgspec.to_builtins(message)["kind"]
            detail = f"its {kind} was refused: {reply.code} {reply.detail}"
            self._world.checks.breach(Rule.KEPT, self.agent_id, message.command_id, detail)


def _stream(data: bytes) -> wire.StreamReport:
    if not data:
        return wire.StreamReport()
    return wire.StreamReport(
        size=len(data), sha256=hashlib.sha256(data).hexdigest(), tail=data, inline=zlib.compress(data)
    )
