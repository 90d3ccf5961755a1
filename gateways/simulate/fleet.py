"""A fleet of simulated agents, from the first connection to the verdict."""

import asyncio
import contextlib
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec

from gateways.simulate.agent import SimulatedMachine, World
from gateways.simulate.checks import Rule
from gateways.simulate.enrollment import AT_ONCE, Enrolled, Poster
from gateways.simulate.plan import Plan, Report

LOOK_S = 0.1
TELL_EVERY_S = 1.0
HELLO_EVERY_S = 60.0
SHOWN = 20
BEHIND_S = 10.0
"""By so much what the platform shows may be behind what it acknowledged."""
CLOCKS_APART_S = 60.0
"""By so much ours may differ from the server's while no agent has heard it."""
FILES_BESIDE = 256
"""Open files of this process that are not agents' connections."""


class TooManyError(Exception):
    """This process may not open as many connections; raise its limit of open files (`ulimit -n`)."""

    code = "too_many_agents"


class Platform(Poster, Protocol):
    """The API, as far as it is needed here; called from several threads."""

    def get(self, path: str) -> Any:
        """One resource."""

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """The items of a list, page by page as they are asked for."""


class _Said(msgspec.Struct, frozen=True):
    state: str
    ended: bool


NOTHING = _Said("nothing", ended=False)


class Simulation:
    """One run of a fleet.

    Args:
        plan: how it behaves.
        enrolled: its agents.
        client_id: whose they are.
        api: takes the commands that the plan asks for, and says what became of them.
        refusals: what `api` raises when it takes none.
        tell: told now and then how it goes, in one line.
    """

    def __init__(
        self,
        plan: Plan,
        enrolled: Enrolled,
        client_id: UUID,
        api: Platform,
        *,
        refusals: tuple[type[Exception], ...],
        tell: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._enrolled = enrolled
        self._client_id = client_id
        self._api = api
        self._refusals = refusals
        self._tell = tell
        self._stop = asyncio.Event()
        self._own: dict[UUID, UUID] = {}
        """Commands queued here, and their agents."""
        self._over = False
        """Whether the churn has ended, and everybody is to come back."""
        self._not_queued = 0
        self._ended = 0
        self._world: World
        self._machines: list[SimulatedMachine] = []

    def ask_to_stop(self) -> None:
        """Have everybody come back now, rather than when the time is over."""
        self._stop.set()

    @property
    def greeted(self) -> int:
        """How many agents are there just now, and have the platform's answer to their hello."""
        return sum(machine.greeted for machine in self._machines)

    @property
    def refused(self) -> int:
        """How many tries to connect came to nothing so far."""
        return self._world.counts["refused"]

    @property
    def lost(self) -> int:
        """How many connections the other side has ended so far."""
        return self._world.counts["lost"]

    async def run(self) -> Report:
        """Run the whole of it.

        Raises:
            TooManyError: there may not be so many connections.
        """
        allow_files(len(self._enrolled.identities) + FILES_BESIDE)
        begun = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            world = self._world = World(self._plan, self._enrolled.nats_urls, tasks)
            self._machines = [
                SimulatedMachine(identity, self._enrolled.server_key, world, number)
                for number, identity in enumerate(self._enrolled.identities)
            ]
            away = set(world.random.sample(range(len(self._machines)), round(self._plan.offline * len(self._machines))))
            for number, machine in enumerate(self._machines):
                if number not in away:
                    machine.arrive()
            queueing = tasks.create_task(self._queue())
            for work in (self._churn, self._greet, self._say):
                world.spawn(work())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._plan.duration_s):
                    await self._stop.wait()
            self._over = True
            await queueing
            await self._settle()
            world.end()
            await asyncio.gather(*(machine.close() for machine in self._machines))
        await self._judge(begun)
        return self._report(time.monotonic() - begun)

    # -- while it runs ---------------------------------------------------------------------------------------------

    async def _churn(self) -> None:
        """Machines lose their connection, one after the other at random moments, and come back after a while."""
        per_second = self._plan.churn * len(self._machines) / 60
        if not per_second:
            return
        while not self._over:
            await asyncio.sleep(self._world.random.expovariate(per_second))
            there = [machine for machine in self._machines if machine.online.is_set()]
            if there and not self._over:
                self._world.spawn(self._away(self._world.random.choice(there)))

    async def _away(self, machine: SimulatedMachine) -> None:
        self._world.counts["churned"] += 1
        await machine.leave()
        await asyncio.sleep(self._world.around(self._plan.away_s))
        machine.arrive()

    async def _greet(self) -> None:
        """Everybody says hello once a minute, one after the other."""
        while True:
            for machine in self._machines:
                await asyncio.sleep(HELLO_EVERY_S / len(self._machines))
                if machine.online.is_set():
                    self._world.spawn(machine.greet())

    async def _queue(self) -> None:
        """Queue commands, evenly over the time that there is; all of them, unless asked to stop."""
        if not self._plan.commands:
            return
        begun = time.monotonic()
        limit = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as posting:
            for number in range(self._plan.commands):
                due = begun + self._plan.duration_s * number / self._plan.commands
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(due - time.monotonic()):
                        await self._stop.wait()
                if self._stop.is_set():
                    break
                await limit.acquire()
                agent_id = self._world.random.choice(self._machines).agent_id
                posted = posting.create_task(self._queue_one(agent_id))
                posted.add_done_callback(lambda _: limit.release())

    async def _queue_one(self, agent_id: UUID) -> None:
        body = {"agent_id": str(agent_id), "spec": {"kind": "ping"}, "reason": "simulation"}
        try:
            queued = await asyncio.to_thread(self._api.post, "/commands", body)
        except self._refusals:
            self._not_queued += 1
        else:
            self._own[UUID(queued["id"])] = agent_id

    async def _say(self) -> None:
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            online = sum(machine.online.is_set() for machine in self._machines)
            runs, broken = self._world.checks.runs, sum(self._world.checks.broken.values())
            self._tell(f"{online} of {len(self._machines)} online, {runs} runs, {broken} breaches")

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Everybody comes back, and what waits is done, unless it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._plan.settle_s):
                left = list(self._machines)
                while left:
                    for machine in left:
                        machine.arrive()
                    await self._until_idle(left)
                    await asyncio.gather(*(machine.greet() for machine in left))
                    left = [machine for machine in left if machine.pending or not machine.idle]
                    if left:
                        await asyncio.sleep(LOOK_S)

    async def _until_idle(self, machines: Sequence[SimulatedMachine]) -> None:
        while not all(machine.idle and machine.online.is_set() for machine in machines):  # noqa: ASYNC110 -- each agent would have one
            await asyncio.sleep(LOOK_S)

    async def _judge(self, begun: float) -> None:
        """Hold what was seen against what the platform says."""
        limit = asyncio.Semaphore(AT_ONCE)

        async def ask(command_id: UUID) -> Any:
            async with limit:
                return await asyncio.to_thread(self._api.get, f"/commands/{command_id}")

        checks = self._world.checks
        late = checks.out_of_order
        for suspect, said in zip(late, await asyncio.gather(*(ask(one.command_id) for one in late)), strict=True):
            if said["not_before"] is None:
                checks.breach(Rule.ORDER, suspect.agent_id, suspect.command_id, suspect.detail)
        deadline = time.monotonic() + BEHIND_S
        while True:
            states = await asyncio.to_thread(self._states, time.monotonic() - begun)
            differing = {one for one in self._own if checks.outcomes.get(one) != states.get(one, NOTHING).state}
            if not differing or time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_S)
        self._ended = sum(state.ended for state in states.values())
        for command_id in differing:
            seen, state = checks.outcomes.get(command_id, "not ended"), states.get(command_id, NOTHING).state
            detail = f"its agent has it {seen}, the platform says {state}"
            checks.breach(Rule.KEPT, self._own[command_id], command_id, detail)

    def _states(self, seconds: float) -> dict[UUID, "_Said"]:
        """What the platform says of each command that was queued here: whole pages, not one by one."""
        states: dict[UUID, _Said] = {}
        since = self._world.now() - timedelta(seconds=seconds + CLOCKS_APART_S)
        listed = self._api.items("/commands", client_id=str(self._client_id), since=since.isoformat())
        while len(states) < len(self._own) and (said := next(listed, None)) is not None:
            command_id = UUID(said["id"])
            if command_id in self._own:
                states[command_id] = _Said(said["state"], said["ended_at"] is not None)
        return states

    def _report(self, seconds: float) -> Report:
        world, counts = self._world, self._world.counts
        delays = sorted(world.delays_ms)
        outcomes = {name.removeprefix("outcome "): n for name, n in counts.items() if name.startswith("outcome ")}
        return Report(
            agents=len(self._machines),
            seconds=round(seconds, 1),
            connections=counts["connections"],
            churned=counts["churned"],
            lost=counts["lost"],
            received=counts["received"],
            redelivered=sum(machine.redelivered for machine in self._machines),
            runs=world.checks.runs,
            outcomes=outcomes,
            repeated=counts["repeated"],
            unacknowledged=sum(machine.unsaid for machine in self._machines),
            waiting=sum(machine.pending for machine in self._machines),
            delay_p50_ms=_of(delays, 50),
            delay_p99_ms=_of(delays, 99),
            queued=len(self._own),
            not_queued=self._not_queued,
            ended=self._ended,
            broken={str(rule): count for rule, count in world.checks.broken.items()},
            breaches=world.checks.breaches[:SHOWN],
            seed=self._plan.seed,
        )


def _of(ordered: Sequence[int], percent: int) -> float | None:
    return float(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]) if ordered else None


def allow_files(count: int) -> None:
    """Let this process open so many files.

    Raises:
        TooManyError: the system does not let it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (count, max(hard, count) if hard != resource.RLIM_INFINITY else hard)
        )
    except (ValueError, OSError) as error:
        raise TooManyError(
            f"{count} open files are needed and {hard} allowed: raise the limit (`ulimit -n {count}`), or simulate "
            "fewer agents in each of several processes."
        ) from error
