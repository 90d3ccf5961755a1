"""The invariants of a command's life, from the agent's side and from the log's, over random turns of fate."""

import asyncio
import contextlib
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nats.aio.msg import Msg

from command_bus.handlers.housekeeping import Housekeeping
from command_bus.ids import new_id, utc_now
from command_bus.intents.commands import CancelCommand, QueueCommand
from domain.commands import CommandDelivered, CommandState, LateResultRecorded, state_after
from domain.errors import CommandEndedError
from gateways.bench.simulated import SimulatedAgent
from projections.pending import QueueReader
from schema import wire
from tests.gateway.harness import Fleet

LANES = ("default", "system")


class Machine(SimulatedAgent):
    """An agent with moods, a journal that outlives its connections, and an eye on what it is sent."""

    mood = "well"
    """``well``; ``deaf`` (hears nothing), ``mute`` (journals, and its answer is lost) or ``busy``."""

    def __init__(self, *args: Any, **fields: Any) -> None:
        super().__init__(*args, **fields)
        self.ran: Counter[tuple[UUID, int]] = Counter()
        self.reported: set[UUID] = set()
        self.told_to_end: set[UUID] = set()
        self.given_up: set[UUID] = set()
        """Commands that the server has said are cancelled."""
        self.not_before: dict[UUID, datetime] = {}
        self.wrongs: list[str] = []
        self.here = False
        self.asked = 0

    async def come(self, fleet: Fleet) -> None:
        self.client = self.new_client()
        self.closed.clear()
        await self.connect(fleet.nats.urls)
        self.here = True
        await self.hello()

    async def go(self) -> None:
        self.here = False
        await self.close()

    async def _on_request(self, message: Msg) -> None:
        self.asked += 1
        if self.mood != "deaf":
            answer = self.reply_to(message.data)
            if self.mood != "mute" and message.reply:
                await message.respond(answer)
        await self.tell()

    def take(self, data: bytes) -> bytes:
        request = wire.decode_downlink(data)
        if isinstance(request, wire.Delivery):
            self._look_at(wire.decode_delivery_body(request.body))
        elif isinstance(request, wire.CancelRequest):
            self.told_to_end.update(wire.decode_cancel_body(request.body).command_ids)
        return super().take(data)

    def _look_at(self, body: wire.DeliveryBody) -> None:
        for lane in LANES:
            keys = [(order.priority, order.position) for order in body.orders if order.lane == lane]
            if keys != sorted(keys):
                self.wrongs.append(f"4: lane {lane} came as {keys}")
        for order in body.orders:
            if order.expires_at <= body.sent_at:
                self.wrongs.append(f"5: {order.command_id} was sent after it had expired")
            if order.command_id in self.given_up:
                self.wrongs.append(f"5: {order.command_id} was sent after its cancellation was acknowledged")
            if self.not_before.get(order.command_id, body.sent_at) > body.sent_at:
                self.wrongs.append(f"5: {order.command_id} was sent before its time")

    def busy(self, body: wire.DeliveryBody) -> list[wire.Accepted]:
        known = self.journal.keys()
        return [
            wire.Accepted(
                command_id=order.command_id,
                attempt=order.attempt,
                status="accepted" if (order.command_id, order.attempt) in known else "busy",
            )
            for order in body.orders
        ]

    async def be_asked(self) -> None:
        """Give the gateway a moment to ask for something; it may have nothing to ask, or be waiting."""
        asked = self.asked
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: self.asked > asked, 0.15)

    def change_mood(self, mood: str) -> None:
        self.mood = mood
        self._answer = Machine.busy if mood == "busy" else SimulatedAgent.accept

    async def work(self, lane: str, *, twice: bool) -> bool:
        """Run what is first in a lane, and report it; False if nothing waits there."""
        waiting = [one for one in self.journal.values() if one.lane == lane and one.command_id not in self.reported]
        if not waiting or not self.here:
            return False
        order = min(waiting, key=lambda one: (one.priority, one.position))
        cancelled = order.command_id in self.told_to_end
        self.ran[order.command_id, order.attempt] += not cancelled
        self.reported.add(order.command_id)
        for _ in range(1 + twice):
            reply = await self.finish(order, "cancelled" if cancelled else "succeeded")
            if not isinstance(reply, wire.Acknowledged):
                self.wrongs.append(f"6: the result of {order.command_id} was answered with {reply}")
        return True


async def queue(fleet: Fleet, machine: Machine, lane: str, priority: int, wait_s: float, life_s: float) -> UUID:
    now = utc_now()
    intent = QueueCommand.model_validate(
        {
            "agent_id": machine.agent_id,
            "spec": {"kind": "ping"},
            "lane": lane,
            "priority": priority,
            "not_before": now + timedelta(seconds=wait_s) if wait_s else None,
            "expires_at": now + timedelta(seconds=life_s),
        }
    )
    # The agent may be sent it before the dispatch returns, so what it has then is judged here.
    done: Any = await fleet.dispatch(intent)
    command_id = UUID(done.answer["id"])
    if intent.not_before is not None:
        machine.not_before[command_id] = intent.not_before
        if any(key[0] == command_id for key in machine.journal) and utc_now() < intent.not_before:
            machine.wrongs.append(f"5: {command_id} was sent before its time")
    return command_id


async def cancel(fleet: Fleet, machine: Machine, command_id: UUID) -> None:
    try:
        done: Any = await fleet.dispatch(CancelCommand(command_id=command_id))
    except CommandEndedError:
        return
    if done.answer["state"] == "cancelled":
        machine.given_up.add(command_id)


def clockwork(fleet: Fleet) -> Housekeeping:
    """What the scheduler does to commands whose time is up."""
    return Housekeeping(fleet.log, fleet.holds, QueueReader(fleet.pool.connection), new_id)


async def settle(fleet: Fleet, machine: Machine, command_ids: list[UUID]) -> dict[UUID, list[Any]]:
    """Let everything come to its end, and return each command's events."""
    machine.change_mood("well")
    if not machine.here:
        await machine.come(fleet)
    house = clockwork(fleet)
    async with asyncio.timeout(40):
        while True:
            await house.expire_due(utc_now())
            for lane in LANES:
                while await machine.work(lane, twice=False):
                    pass
            stories = {one: await fleet.story(one) for one in command_ids}
            if all(ends(story) for story in stories.values()):
                return stories
            await asyncio.sleep(0.05)


def ends(story: list[Any]) -> list[CommandState]:
    return [state for one in story if (state := state_after(one)) is not None and state.terminal]


LATER = ("queue", "default", 5, 0.0, 60.0)
Step = st.one_of(
    st.tuples(
        st.just("queue"),
        st.sampled_from(LANES),
        st.integers(1, 9),
        st.sampled_from([0.0, 0.0, 0.0, 0.4]),
        st.sampled_from([60.0, 60.0, 60.0, 0.6]),
    ),
    st.tuples(st.just("mood"), st.sampled_from(["well", "deaf", "mute", "busy"])),
    st.tuples(st.just("go")),
    st.tuples(st.just("come")),
    st.tuples(st.just("work"), st.sampled_from(LANES), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("gateways"), st.integers(1, 3)),
    st.tuples(st.just("time passes")),
)


async def take(  # noqa: C901 - a list of turns, each of a line or two
    step: tuple[Any, ...], fleet: Fleet, machine: Machine, command_ids: list[UUID]
) -> None:
    """One turn of fate for the agent and its commands; a turn that cannot be taken is none."""
    match step:
        case ("queue", str(lane), int(priority), float(wait_s), float(life_s)):
            asking = asyncio.create_task(machine.be_asked())
            command_ids.append(await queue(fleet, machine, lane, priority, wait_s, life_s))
            await asking
        case ("mood", str(mood)):
            machine.change_mood(mood)
        case ("go",) if machine.here:
            await machine.go()
        case ("come",) if not machine.here:
            await machine.come(fleet)
        case ("work", str(lane), bool(twice)):
            await machine.work(lane, twice=twice)
        case ("cancel", int(index)) if command_ids:
            await cancel(fleet, machine, command_ids[index % len(command_ids)])
        case ("time passes",):
            await asyncio.sleep(0.3)  # a lease is 1 s, an early expiry 0.6 s, a late start 0.4 s
        case ("gateways", int(wanted)):
            while len(fleet.services) < wanted:
                await fleet.gateway(f"gateway-{new_id()}", lease_s=1.0)
            while len(fleet.services) > wanted:
                await fleet.services.pop(0).stop()


def judge(story: list[Any], *, runs: int, given_up: bool) -> None:
    """Hold one command's story against what its machine did."""
    (ending,) = ends(story)
    assert runs <= 1
    delivered = Counter(one.attempt for one in story if isinstance(one, CommandDelivered))
    assert all(count == 1 for count in delivered.values()), story
    if given_up:
        assert (ending, runs) == (CommandState.CANCELLED, 0), story
    elif runs:
        # What ran and did not end as succeeded had ended before its result came; the result is on record all the same.
        assert ending in (CommandState.SUCCEEDED, CommandState.EXPIRED, CommandState.CANCELLED), story
        assert ending is CommandState.SUCCEEDED or isinstance(story[-1], LateResultRecorded), story
    else:
        assert ending in (CommandState.EXPIRED, CommandState.CANCELLED), story


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(Step, min_size=4, max_size=16))
@example(steps=[("mood", "mute"), LATER, ("cancel", 0)])  # it may be there: only the agent can say that it is cancelled
@example(steps=[("mood", "deaf"), LATER, ("gateways", 2), ("gateways", 1), ("time passes",), ("mood", "well")])
@example(steps=[("go",), ("queue", "system", 9, 0.0, 0.6), LATER, ("time passes",), ("time passes",), ("come",)])
@example(steps=[("go",), LATER, ("queue", "default", 1, 0.4, 60.0), ("come",), ("work", "default", True)])
async def test_whatever_happens_a_command_lives_by_the_rules(fleet: Fleet, steps: list[tuple[Any, ...]]) -> None:
    """Invariants 2 to 6 hold over lost answers, absences, cancellations, expiry and gateways that come and go."""
    if not fleet.services:
        await fleet.gateway("gateway-1", lease_s=1.0)
    (identity,) = await fleet.identities()
    machine = Machine(identity, fleet.keys.delivery.public)
    command_ids: list[UUID] = []
    await machine.come(fleet)
    try:
        for step in steps:
            await take(step, fleet, machine, command_ids)
        stories = await settle(fleet, machine, command_ids)
    finally:
        await machine.close()
    assert machine.wrongs == []
    for command_id, story in stories.items():
        runs = sum(count for (ran, _), count in machine.ran.items() if ran == command_id)
        judge(story, runs=runs, given_up=command_id in machine.given_up)
