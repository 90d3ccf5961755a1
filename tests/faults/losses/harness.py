"""A fleet of thousands on a whole Fleetlog that a test breaks: what was asked for, who got it, and what is on record.

The agents are those of `fleetlog simulate`: real keys, connections and words, many in one process. They live on a loop
in a thread of their own, so that a test reads from top to bottom. The platform is `fleetlog up` in processes of its
own, with its settings as they come.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Self
from uuid import UUID, uuid4

import psycopg

from command_bus.postgres import app_conninfo
from gateways.bench.simulated import SimulatedIdentity
from gateways.local.roles import loop_factory
from gateways.simulate.agent import SimulatedMachine, World
from gateways.simulate.enrollment import Enrolled, adopt
from gateways.simulate.fleet import FILES_BESIDE, allow_files
from gateways.simulate.plan import Plan
from schema import wire
from tests.topology.harness import Platform

PATIENCE_S = 120.0
"""What a slow machine may need; nothing here is about speed."""


class WholePlatform(Platform):
    """`fleetlog up` as users have it: with the settings that it comes with."""

    @property
    def environment(self) -> dict[str, str]:
        own = {"FLEETLOG_LEASE_S", "FLEETLOG_STOP_TIMEOUT_S"}
        return {name: value for name, value in super().environment.items() if name not in own}

    def kill_for(self, server: str, seconds: float) -> None:
        """`kill -9` of a server, which is started again when the time is up."""
        with self.looking_away():
            self.server(server).kill()
            time.sleep(seconds)  # the outage itself, not a wait for something

    @contextlib.contextmanager
    def without(self, server: str) -> Iterator[None]:
        """A server is killed, and is away as long as the context is open."""
        with self.looking_away():
            dead = self.server(server)
            dead.kill()
            self.gone([dead])
            yield
        self.until(lambda: self.away() == set(), f"{server} to be back", PATIENCE_S)


class Machine(SimulatedMachine):
    """An agent that can keep what it did to itself for a while, and tells the test of its first order."""

    fleet: "Fleet"

    def accept(self, body: wire.DeliveryBody) -> list[wire.Accepted]:
        said = super().accept(body)
        self.fleet.on_received()
        return said

    async def work(self, order: wire.Order, ending: asyncio.Event) -> str:
        """See `SimulatedMachine`."""
        if self.fleet.held_back is not None:
            await self.fleet.held_back.wait()
        return await super().work(order, ending)


class Fleet:
    """Agents of one client, and of nobody else's; a context manager.

    Args:
        platform: where they are enrolled.
        count: how many.
        reconnect_s: within how long one comes back that lost its connection (see `Plan`).
    """

    def __init__(self, platform: WholePlatform, count: int, *, reconnect_s: float = 3.0) -> None:
        self.platform = platform
        self.count = count
        self.held_back: asyncio.Event | None = None
        self._plan = Plan(run_s=0.0, failing=0.0, reconnect_s=reconnect_s, seed=1)
        self._on_first: Callable[[], None] | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)
        api = platform.api
        name = f"fleet {uuid4().hex[:8]}"
        self.client_id = UUID(api.post("/clients", {"name": name})["id"])
        self.site_id = UUID(api.post(f"/clients/{self.client_id}/sites", {"name": "all"})["id"])
        self.world: World
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        allow_files(self.count + FILES_BESIDE)
        self._thread.start()
        self._ready.wait(PATIENCE_S)
        if self._ended.done():
            self._ended.result()
        self.until(lambda: self._rowcount(_AGENTS) == self.count, "all agents to be on record")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)
        self._ended.result(0)

    # -- the agents' own loop --------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)
        finally:
            self._ready.set()

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        enrolled = await self._enroll()
        async with asyncio.TaskGroup() as tasks:
            self.world = World(self._plan, enrolled.nats_urls, tasks)
            self.machines = [
                self._machine(identity, enrolled.server_key, number)
                for number, identity in enumerate(enrolled.identities)
            ]
            self._ready.set()
            await self._end.wait()
            self.world.end()
            await asyncio.gather(*(machine.leave() for machine in self.machines))

    async def _enroll(self) -> Enrolled:
        at = self.platform.addresses
        return await adopt(at.postgres_url, [at.nats_url], self.count, self.client_id, self.site_id)

    def _machine(self, identity: SimulatedIdentity, server_key: bytes, number: int) -> Machine:
        machine = Machine(identity, server_key, self.world, number)
        machine.fleet = self
        return machine

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def on_received(self) -> None:
        """An agent has an order; called on the agents' loop."""
        on_first, self._on_first = self._on_first, None
        if on_first is not None:
            on_first()

    # -- what a test does ------------------------------------------------------------------------------------------

    def come(self, machines: list[Machine] | None = None) -> None:
        """Go online; wait until the platform has heard that they are there."""
        coming = self.machines if machines is None else machines

        async def arrive() -> None:
            for machine in coming:
                machine.arrive()

        self._do(arrive())
        here = sum(machine.online.is_set() for machine in self.machines if machine not in coming) + len(coming)
        self.until(lambda: self._rowcount(_ONLINE) == here, f"{here} agents to be online")

    def hold_back(self) -> None:
        """Whatever runs goes on until `let_go`."""

        async def close() -> None:
            self.held_back = asyncio.Event()

        self._do(close())

    def let_go(self) -> None:
        """All that runs ends, at once."""
        assert self.held_back is not None
        self._loop.call_soon_threadsafe(self.held_back.set)

    def at_first_order(self, act: Callable[[], None]) -> None:
        """Do something the moment the first agent has an order, before that agent says a word."""
        self._on_first = act

    def roll_out(self) -> "Asked":
        """Ask for one script line on all of them."""
        body = {
            "name": "bulk",
            "target": {"include": {"sites": [str(self.site_id)]}},
            "spec": {"kind": "run_shell", "shell": "sh", "line": "uptime"},
        }
        rollout = self.platform.api.post("/rollouts", body)
        assert rollout["targeted"] == self.count
        return Asked(self, self.count, f"/rollouts/{rollout['id']}")

    def ask(self, machine: Machine) -> "Asked":
        """Ask one of them alone."""
        spec = {"kind": "run_shell", "shell": "sh", "line": "uptime"}
        command = self.platform.api.post("/commands", {"agent_id": str(machine.agent_id), "spec": spec})
        return Asked(self, 1, f"/commands/{command['id']}")

    # -- what a test sees ------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something, and for no longer than the agents live."""

        def holds() -> bool:
            if self._ended.done():
                self._ended.result()
            return condition()

        self.platform.until(holds, what, PATIENCE_S)

    def online(self) -> int:
        """How many agents have a connection."""
        return sum(machine.online.is_set() for machine in self.machines)

    def received(self) -> int:
        """How many orders agents took."""
        return self.world.counts["received"]

    def _rowcount(self, query: str, *more: object) -> int:
        return int(self.rows(query, *more)[0][0])

    def recorded(self, kind: str) -> int:
        """How many events of a kind are in the log for these agents."""
        return self._rowcount(_RECORDED, f"{kind}/%")

    def until_recorded(self, kind: str, count: int) -> None:
        """Wait until so many are in the log, and return without delay."""
        with psycopg.connect(app_conninfo(self.platform.addresses.postgres_url), autocommit=True) as connection:
            deadline = time.monotonic() + PATIENCE_S
            while connection.execute(_RECORDED, [self.client_id, f"{kind}/%"]).fetchone() < (count,):
                assert time.monotonic() < deadline, f"waited in vain for {count} {kind}"

    def rows(self, query: str, *more: object) -> list[tuple[Any, ...]]:
        """Ask the database itself; the first parameter is the client."""
        with psycopg.connect(app_conninfo(self.platform.addresses.postgres_url)) as connection:
            return connection.execute(query.encode(), [self.client_id, *more]).fetchall()


class Asked:
    """What was asked of a fleet, and what must come of it.

    Args:
        fleet: whom.
        count: how many commands it is.
        path: of the rollout or command.
    """

    def __init__(self, fleet: Fleet, count: int, path: str) -> None:
        self._fleet = fleet
        self._count = count
        self._path = path

    def shown(self) -> dict[str, int]:
        """What an operator sees: how many agents are in which state."""
        document = self._fleet.platform.api.get(self._path)
        if "counts" in document:
            return {state: count for state, count in document["counts"].items() if count}
        return {str(document["state"]): 1}

    def until_shown(self, **counts: int) -> None:
        """Wait until an operator sees exactly this."""
        fleet = self._fleet
        fleet.until(lambda: self.shown() == counts, f"{counts}")

    def is_done_once_by_all(self) -> None:
        """Every agent got it and did it once, and every result is on record as it was made.

        By what an operator sees, by the agents' own account, and by the log.
        """
        fleet = self._fleet
        try:
            self.until_shown(succeeded=self._count)
        finally:
            print(self._account())  # noqa: T201 - where it fails, this is what one wants to know
        checks = fleet.world.checks
        assert checks.breaches == []
        assert checks.out_of_order == []
        assert checks.runs == self._count
        did = [machine for machine in fleet.machines if machine.journal]
        assert all(len(machine.journal) == 1 for machine in did)
        assert len(did) == self._count
        fleet.until(lambda: all(machine.idle for machine in did), "all to have been heard")
        kinds = {kind: (commands, events) for kind, commands, events in fleet.rows(_KINDS)}
        for once in ("CommandQueued", "CommandSucceeded"):
            assert kinds.pop(once) == (self._count, self._count), once
        assert kinds.keys() <= {"CommandDelivered", "CommandStarted"}, kinds
        assert dict(fleet.rows(_SAID)) == {machine.agent_id: machine.output.decode() for machine in did}

    def _account(self) -> str:
        fleet = self._fleet
        return json.dumps(
            {
                "agents": fleet.count,
                "asked": self._count,
                "shown": self.shown(),
                "events": {kind: events for kind, _, events in fleet.rows(_KINDS)},
                "reached": sum(bool(machine.journal) for machine in fleet.machines),
                **fleet.world.counts,
                "redelivered": sum(machine.redelivered for machine in fleet.machines),
            }
        )


_AGENTS = "SELECT count(*) FROM agents WHERE client_id = %s"
_ONLINE = f"{_AGENTS} AND online"
_RECORDED = "SELECT count(*) FROM fleetlog.events WHERE client_id = %s AND topic LIKE %s"
_KINDS = (
    "SELECT split_part(topic, '/', 1), count(DISTINCT originator_id), count(*)"
    " FROM fleetlog.events WHERE client_id = %s AND topic LIKE 'Command%%' GROUP BY 1"
)
_SAID = (
    "SELECT agent_id, convert_from(state, 'UTF8')::jsonb #>> '{result,stdout,tail}' FROM fleetlog.events"
    " WHERE client_id = %s AND topic LIKE 'CommandSucceeded/%%'"
)
