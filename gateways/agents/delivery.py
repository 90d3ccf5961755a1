"""The drain: hands each agent what waits for it, as soon as it is there to take it.

One loop for all agents: those to be looked at are gathered, leased by one statement, sent to side by side, and what
they answer is recorded together. An agent at rest costs nothing here.

Clients take turns, and what somebody asked for singly does not stand behind a rollout: half of each group is for such,
and a few groups more besides. An agent that takes long to answer gives up its place among those that are asked, so that
many that hang cost the others next to nothing.

    wake -> due? online? active? -> lease -> sign -> request -> record what is known -> settle

What is known is settled only after it is recorded, so that at every moment a command that an agent may have is either
in its lease's ``command_ids`` or on record as delivered.
"""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

import msgspec
import nats.errors
import psycopg
import structlog
from nats.aio.client import Client

from command_bus.context import Clock
from command_bus.event_log import EventLogError
from command_bus.handlers.delivery import Deliveries, Waiting
from command_bus.postgres import AsyncPool
from domain.commands import Command
from domain.ids import AgentId, ClientId
from gateways.agents import metrics
from gateways.agents.batches import Batcher
from gateways.agents.directory import Directory
from gateways.agents.leases import Handover, Leases, Settlement
from gateways.agents.orders import Orders, Prepared, rejected
from gateways.agents.places import Places
from gateways.agents.steps import Steps, nothing
from gateways.agents.tasks import Tasks
from gateways.cancelling import end
from gateways.turns import Turns
from projections.pending import PendingRow
from schema import wire

_log = structlog.get_logger()
GROUPS = 4
URGENT_GROUPS = 4
"""Of agents that somebody asked something of singly, while all the others are busy."""
PATIENCE_S = 0.25
"""What an agent that is well takes to answer, and more: it only has to write the orders down."""
MAX_HANGING = 4_000
"""So many agents may take longer and hold up nobody; beyond that they hold up their groups."""
GROUP = 200
"""Agents leased by one statement: enough to share its cost, few enough that the first are sent to at once."""
ANSWERS = 250
"""Of so many agents one commit records the words at the most: while it is under way the next is packed."""
FIRST_BACKOFF_S = 0.25
LONGEST_BACKOFF_S = 30.0
HELD_ELSEWHERE_S = 1.0
MAX_TRACKED = 100_000

STATUSES = frozenset({"accepted", "rejected", "expired", "cancelled", "busy"})


class NobodyListensError(Exception):
    """No agent is subscribed to the subject, by the word of the NATS server."""


class Answer(msgspec.Struct, frozen=True):
    """What came of one handover."""

    handover: Handover
    said: list[wire.Accepted] = []
    """On orders: by the agent, or by us on its behalf."""
    withdrawn: frozenset[UUID] = frozenset()
    """Orders that were not sent, since whoever asked for them may no longer."""
    dropped: dict[UUID, int] = {}
    """On cancel requests, see `cancelled_by`."""
    known: frozenset[UUID] = frozenset()
    """Commands that are no longer on their way."""
    failed: bool = False
    """Not everything was answered: wait before the next try."""
    more: bool = False
    """Some did not fit, and the next delivery may follow at once."""


Sends = dict[AgentId, asyncio.Task[Answer]]


class Drain:
    """Delivers for one gateway.

    Args:
        client: the gateway's connection to NATS.
        pool: to the database.
        leases: this gateway's.
        orders: makes the messages.
        deliveries: records the answers.
        directory: of agents.
        online: whether an agent is connected.
        gateway: the name that events bear.
        clock: judges ``not_before`` and expiry.
        concurrency: so many requests may be under way at once.
        request_s: how long to wait for an agent's answer; shorter than a lease.
        steps: see `gateways.agents.steps`.
    """

    def __init__(
        self,
        client: Client,
        pool: AsyncPool,
        leases: Leases,
        orders: Orders,
        deliveries: Deliveries,
        directory: Directory,
        online: Callable[[AgentId], bool],
        gateway: str,
        *,
        clock: Clock,
        concurrency: int = 256,
        request_s: float | None = None,
        steps: Steps = nothing,
    ) -> None:
        self._client = client
        self._pool = pool
        self._leases = leases
        self._orders = orders
        self._deliveries = deliveries
        self._directory = directory
        self._online = online
        self._gateway = gateway
        self._clock = clock
        self._request_s = request_s if request_s is not None else min(10.0, leases.lease_s / 2)
        self._steps = steps
        self._places = Places(concurrency, PATIENCE_S)
        self._answers: Batcher[Answer, None] = Batcher(self._record, name="answers", size=ANSWERS)
        self._waiting: Turns[ClientId | None, AgentId] = Turns()
        self._urgent: Turns[ClientId | None, AgentId] = Turns()
        self._later: list[tuple[float, AgentId]] = []
        self._greeted: set[AgentId] = set()
        self._emptied: set[AgentId] = set()
        """Agents for which nothing was left by the last delivery, and nothing has come since."""
        self._busy: set[AgentId] = set()
        self._for_room: set[AgentId] = set()
        """Of those, the ones that have ended something meanwhile."""
        self._again: dict[AgentId, bool] = {}
        self._backoff_s: dict[AgentId, float] = {}
        self._woken = asyncio.Event()
        self._groups = Tasks("drain-group", bound=GROUPS)
        self._urgent_groups = Tasks("drain-urgent", bound=URGENT_GROUPS)
        self._slow = Tasks("drain-slow", bound=MAX_HANGING)
        self._hanging = 0
        self._loop: asyncio.Task[None] | None = None
        self._stopping = False

    def wake(self, agent_ids: Sequence[AgentId], *, urgent: bool = False) -> None:
        """Look at these agents soon; at urgent ones as soon as their clients' turns allow."""
        self._emptied.difference_update(agent_ids)
        for agent_id in agent_ids:
            if agent_id in self._busy:
                # What made somebody call may have come too late for the look that is under way.
                self._again[agent_id] = self._again.get(agent_id, False) or urgent
            elif agent_id not in self._urgent and self._is_there(agent_id):
                client_id = self._directory.client_of(agent_id)
                if urgent:
                    self._waiting.discard(agent_id)
                    self._urgent.add(client_id, agent_id)
                else:
                    self._waiting.add(client_id, agent_id)
        if self._waiting or self._urgent:
            self._woken.set()

    def wake_for_room(self, agent_ids: Sequence[AgentId]) -> None:
        """These have ended something, so that what did not fit before may fit now.

        Those whose last delivery took all that waited, and for which nobody called since, are not looked at.
        """
        busy = self._busy.intersection(agent_ids)
        # Whether anything is left is known when their delivery is done.
        self._for_room.update(busy)
        self.wake([one for one in agent_ids if one not in busy and one not in self._emptied])

    def wake_if_rested(self, agent_ids: Sequence[AgentId], *, urgent: bool = False) -> None:
        """`wake`, but not those whose last try failed and that are due later anyway."""
        self.wake([agent_id for agent_id in agent_ids if agent_id not in self._backoff_s], urgent=urgent)

    def greeted(self, agent_ids: Sequence[AgentId]) -> None:
        """These said hello: they listen now, whatever came of the try before.

        A hello may overtake the NATS server's word that its agent has come, since the two come over connections of
        their own: so it counts by itself.
        """
        for agent_id in agent_ids:
            self._backoff_s.pop(agent_id, None)
        self._greeted.update(agent_ids)
        self.wake(agent_ids)

    def _is_there(self, agent_id: AgentId) -> bool:
        return self._online(agent_id) or agent_id in self._greeted

    async def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="drain")

    async def stop(self) -> None:
        """Hand over nothing more; hear out what was handed over."""
        self._stopping = True
        if self._loop is not None:
            await end((self._loop,))
        await self._groups.drain(self._request_s + 5.0)
        await self._urgent_groups.drain(self._request_s + 5.0)
        await self._slow.drain(self._request_s + 5.0)
        await self._answers.drain()

    async def _run(self) -> None:
        while True:
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                self.wake((heapq.heappop(self._later)[1],))
            if self._begin_group():
                continue
            self._woken.clear()
            wait_s = min(self._later[0][0] - now, 1.0) if self._later else 1.0
            try:
                async with asyncio.timeout(max(wait_s, 0.01)):
                    await self._woken.wait()
            except TimeoutError:
                await self._look_for_left_behind()

    def _begin_group(self) -> bool:
        """Serve a group, if there is anybody to be served and room for it."""
        if not self._groups.full:
            group = self._urgent.take(GROUP // 2)
            group += self._waiting.take(GROUP - len(group))
            group += self._urgent.take(GROUP - len(group))
            tasks = self._groups
        elif not self._urgent_groups.full:
            group = self._urgent.take(GROUP)
            tasks = self._urgent_groups
        else:
            return False
        if not group:
            return False
        self._busy.update(group)
        tasks.spawn(self._serve(group))
        metrics.DRAIN_WAITING.set(len(self._waiting) + len(self._urgent))
        return True

    async def _look_for_left_behind(self) -> None:
        """Commands that a gateway handed over and did not live to hear of (a lease that ran out)."""
        try:
            self.wake_if_rested(await self._leases.left_behind())
        except psycopg.OperationalError as error:
            _log.info("drain_waiting", error=str(error).strip())

    # -- one group -------------------------------------------------------------------------------------------------

    async def _serve(self, group: list[AgentId]) -> None:
        served = group
        failed: dict[AgentId, float | None] = {}
        try:
            failed, slow = await self._hand_over(group)
            served = [agent_id for agent_id in group if agent_id not in slow]
        except (psycopg.OperationalError, EventLogError) as error:
            _log.info("drain_waiting", agents=len(group), error=str(error).strip())
            failed = dict.fromkeys(group)
        finally:
            self._served(served, failed)

    async def _serve_slowly(self, sends: Sends) -> None:
        """Hear out agents that take long, while their group makes room for the next."""
        agents = list(sends)
        failed: dict[AgentId, float | None] = {}
        self._hanging += len(agents)
        try:
            await _all(sends, None)
            failed = self._outcomes(sends)
        finally:
            self._hanging -= len(agents)
            self._served(agents, failed)

    def _served(self, agents: Sequence[AgentId], failed: Mapping[AgentId, float | None]) -> None:
        """These may be looked at again; those that failed not at once."""
        self._busy.difference_update(agents)
        for agent_id in agents:
            if agent_id in failed:
                self._emptied.discard(agent_id)
                self._postpone(agent_id, failed[agent_id])
            else:
                self._backoff_s.pop(agent_id, None)
            if agent_id in self._for_room and agent_id not in self._emptied:
                self._again.setdefault(agent_id, False)
            urgent = self._again.pop(agent_id, None)
            if urgent is not None and agent_id not in failed:
                self.wake((agent_id,), urgent=urgent)
        self._for_room.difference_update(agents)
        metrics.DRAIN_HANGING.set(self._hanging)
        self._woken.set()

    def _postpone(self, agent_id: AgentId, wait_s: float | None) -> None:
        if wait_s is None:
            wait_s = min(self._backoff_s.get(agent_id, FIRST_BACKOFF_S / 2) * 2, LONGEST_BACKOFF_S)
            if len(self._backoff_s) < MAX_TRACKED:
                self._backoff_s[agent_id] = wait_s
        heapq.heappush(self._later, (time.monotonic() + wait_s, agent_id))

    async def _hand_over(self, group: list[AgentId]) -> tuple[dict[AgentId, float | None], set[AgentId]]:
        """Deliver to a group.

        Returns:
            The agents to be looked at again, and when (None: after a growing while), and those that take long yet.
        """
        entries = await self._directory.get_many(group)
        active = [one for one in group if one in entries and entries[one].state == "active" and self._is_there(one)]
        self._greeted.difference_update(group)
        if not active or self._stopping:
            return {}, set()
        handovers, busy = await self._leases.take_wanted(active)
        later: dict[AgentId, float | None] = dict.fromkeys(busy, HELD_ELSEWHERE_S)
        to_send = [handover for handover in handovers if handover.orders or handover.cancels]
        metrics.TAKEOVERS.inc(sum(handover.took_over for handover in handovers))
        if not to_send:
            return later, set()
        self._steps("leased")
        deadline = time.monotonic() + self._leases.lease_s - self._request_s
        prepared = await self._orders.prepare([row for handover in to_send for row in handover.orders])
        sends: Sends = {}
        for handover in to_send:
            sends[handover.agent_id] = asyncio.create_task(self._send(handover, prepared, deadline), name="drain-send")
        slow = await _all(sends, PATIENCE_S)
        if len(slow) > MAX_HANGING - self._hanging:
            slow = await _all(sends, None)
        if slow:
            self._slow.spawn(self._serve_slowly({agent_id: sends.pop(agent_id) for agent_id in slow}))
        return later | self._outcomes(sends), slow

    def _outcomes(self, sends: Sends) -> dict[AgentId, float | None]:
        """Of sends that are done: the agents to be looked at again, and when."""
        later: dict[AgentId, float | None] = {}
        unforeseen: BaseException | None = None
        for agent_id, send in sends.items():
            error = send.exception()
            if isinstance(error, psycopg.OperationalError | EventLogError):
                # Not recorded, so not settled: the lease runs out by itself and the agent is asked once more.
                _log.info("answer_not_recorded", agent_id=str(agent_id), error=str(error).strip())
                later[agent_id] = self._leases.lease_s
            elif error is not None:
                unforeseen = error
                later[agent_id] = self._leases.lease_s
            elif send.result().failed:
                later[agent_id] = None
            elif send.result().more:
                self._again.setdefault(agent_id, False)
            elif not send.result().handover.full and len(self._emptied) < MAX_TRACKED:
                # Who was called for meanwhile is taken out again as it is woken.
                self._emptied.add(agent_id)
        if unforeseen is not None:
            _log.error("delivery_failed", exc_info=unforeseen)
        return later

    async def _send(self, handover: Handover, prepared: dict[UUID, Prepared], deadline: float) -> Answer:
        """Send one agent what its lease entitles us to, and have the outcome recorded and the lease settled."""
        async with self._places.take():
            try:
                if time.monotonic() > deadline:
                    # It waited so long for its place that the lease could run out before the answer comes.
                    metrics.UNANSWERED.labels("no_time_left").inc()
                    answer = Answer(handover, known=_never_sent(handover), failed=True)
                else:
                    answer = await self._ask(handover, prepared)
            except NobodyListensError:
                # Nothing of this left the server. What was sent before, unanswered, may be there all the same.
                metrics.UNANSWERED.labels("nobody_listens").inc()
                answer = Answer(handover, known=_never_sent(handover), failed=True)
        self._steps("answered")
        await self._answers.submit(answer)
        return answer

    async def _ask(self, handover: Handover, prepared: dict[UUID, Prepared]) -> Answer:
        dropped: dict[UUID, int] = {}
        if handover.cancels:
            # First, so that the tombstones are there before anything else comes.
            reply = await self._request(handover.agent_id, self._orders.cancel(handover.agent_id, handover.cancels))
            if not isinstance(reply, wire.CancelReply):
                return Answer(handover, known=_never_sent(handover), failed=True)
            dropped = cancelled_by(reply, handover.cancels)
        if not handover.orders:
            return Answer(handover, dropped=dropped)
        packed = self._orders.pack(handover.agent_id, handover.orders, prepared)
        said = list(packed.rejected)
        settled = {row.command_id for row in packed.rows} | {reply.command_id for reply in said} | packed.withdrawn
        left = frozenset(row.command_id for row in handover.orders) - settled - handover.uncertain
        failed = packed.stuck
        if packed.rows:
            self._deliveries.handing({row.command_id: partial(_as_queued, row) for row in packed.rows})
            began = time.perf_counter()
            answer = await self._request(handover.agent_id, packed.message)
            if isinstance(answer, wire.DeliveryReply):
                metrics.DELIVERY_S.observe(time.perf_counter() - began)
                carried = {row.command_id for row in packed.rows}
                said += [one for one in answer.orders if one.command_id in carried]
                failed |= any(one.status == "busy" for one in answer.orders)
            elif isinstance(answer, wire.Refused) and answer.permanent:
                # It cannot even tell the orders apart, and never will: each one's story says so.
                said += [rejected(row, answer.code, answer.detail) for row in packed.rows]
            else:
                failed = True
        known = left | {one.command_id for one in said}
        return Answer(handover, said, packed.withdrawn, dropped, known, failed, more=bool(left) and not failed)

    async def _request(self, agent_id: AgentId, message: bytes) -> wire.DownlinkReply | None:
        """Ask an agent.

        Returns:
            Its answer; None where it is not known whether the agent heard.

        Raises:
            NobodyListensError: it surely did not.
        """
        try:
            reply = await self._client.request(wire.command_subject(agent_id), message, timeout=self._request_s)
            answer: wire.DownlinkReply = wire.decode_downlink_reply(reply.data)
        except nats.errors.NoRespondersError:
            raise NobodyListensError from None
        except nats.errors.Error as error:
            metrics.UNANSWERED.labels("no_answer").inc()
            _log.info("agent_silent", agent_id=str(agent_id), error=str(error) or type(error).__name__)
            return None
        except msgspec.MsgspecError as error:
            metrics.UNANSWERED.labels("malformed").inc()
            _log.warning("agent_answer_unreadable", agent_id=str(agent_id), error=str(error))
            return None
        if isinstance(answer, wire.Refused):
            metrics.UNANSWERED.labels("refused").inc()
            _log.warning("agent_refused", agent_id=str(agent_id), code=answer.code, detail=answer.detail)
        return answer

    async def _record(self, answers: list[Answer]) -> Sequence[None]:
        """Record what agents said, and only then settle (see the module's text)."""
        items = [(answer.handover.agent_id, answer.said) for answer in answers if answer.said]
        if items:
            waiting = {command_id: one for answer in answers for command_id, one in _waiting(answer)}
            await self._deliveries.accepted_many(items, self._gateway, waiting=waiting)
        withdrawn = {command_id: answer.handover.uncertain for answer in answers for command_id in answer.withdrawn}
        over = await self._deliveries.withdrawn(withdrawn, self._gateway) if withdrawn else frozenset()
        gone = {
            answer.handover.agent_id: await self._deliveries.cancelled(answer.handover.agent_id, answer.dropped)
            for answer in answers
            if answer.dropped
        }
        self._steps("recorded")
        await self._leases.settle(
            [
                Settlement(
                    answer.handover.agent_id,
                    answer.handover.fence,
                    answer.handover.command_ids - answer.known - over - gone.get(answer.handover.agent_id, frozenset()),
                )
                for answer in answers
            ]
        )
        self._steps("settled")
        for status, number in Counter(one.status for answer in answers for one in answer.said).items():
            metrics.ORDERS.labels(status if status in STATUSES else "other").inc(number)
        return [None] * len(answers)


async def _all(sends: Sends, timeout_s: float | None) -> set[AgentId]:
    """Wait for all, for so long; returns whose is not done. To be cancelled cancels them."""
    try:
        await asyncio.wait(sends.values(), timeout=timeout_s)
    except asyncio.CancelledError:
        for send in sends.values():
            send.cancel()
        raise
    return {agent_id for agent_id, send in sends.items() if not send.done()}


def _waiting(answer: Answer) -> Iterator[tuple[UUID, Waiting]]:
    """The commands that an agent accepted just as they were queued when its lease was taken."""
    accepted = {one.command_id: one.attempt for one in answer.said if one.status == "accepted"}
    if len(accepted) < len(answer.said):
        # An agent that says anything else as well is rare: what it says is judged by the whole stories.
        return
    for row in answer.handover.orders:
        if accepted.get(row.command_id) == row.attempt:
            yield row.command_id, _as_queued(row)


def _as_queued(row: PendingRow) -> Waiting:
    agent_id, client_id = AgentId(row.agent_id), ClientId(row.client_id)
    return Waiting(Command.waiting(row.command_id, row.version, row.attempt, agent_id, client_id), row.correlation_id)


def _never_sent(handover: Handover) -> frozenset[UUID]:
    return frozenset(row.command_id for row in handover.orders) - handover.uncertain


def cancelled_by(reply: wire.CancelReply, asked: Sequence[UUID]) -> dict[UUID, int]:
    """The commands among those asked for of which the agent runs no further attempt, and the newest that did end there.

    0 where none did. Of the others it has said only that their results follow: they stay with the lease as what they
    are, on the agent.
    """
    texts = {str(command_id): command_id for command_id in asked}
    dropped = {texts[text]: 0 for text, status in reply.statuses.items() if status == "dropped" and text in texts}
    ended = {texts[text]: attempt for text, attempt in reply.attempts.items() if attempt > 0 and text in texts}
    return ended | dropped
