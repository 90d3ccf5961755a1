"""The fleet that `fleetlog demo --keep` leaves for a look around: simulated machines, real connections, a history.

Each machine enrolls with a token, connects, and says what it is; what happened to it was asked for over the API, by a
person. So nothing here is in the log that any fleet could not have put there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from gateways.bench.simulated import SimulatedIdentity
from gateways.cli.api import Api
from gateways.cli.errors import RefusedError
from gateways.cli.profile import Profile
from gateways.local.demo_checks import found_on
from gateways.local.demo_history import seed
from gateways.local.demo_login import Login, make_login
from gateways.local.demo_machines import VERSION, Machine, Place, away, machines
from gateways.local.demo_software import software_of
from gateways.local.demo_work import Did, done_by
from gateways.simulate.agent import Printed, SimulatedMachine, World
from gateways.simulate.enrollment import enroll_one
from gateways.simulate.fleet import FILES_BESIDE, HELLO_EVERY_S, allow_files
from gateways.simulate.plan import Plan
from schema import wire
from schema.checks import NO_CHECKS, CheckListBody, CheckReport, CheckValue
from schema.software import pack

MACHINES = 140
READY_S = 60.0
LOOK_S = 0.05
LIVE_EVERY_S = 15.0
AWAY_S = 40.0
TOKEN_LIFE = timedelta(hours=1)


class DemoMachine(SimulatedMachine):
    """A simulated agent that is somebody.

    Args:
        identity: who it is to the fleet.
        server_key: checks what it is sent.
        world: what it shares with the others.
        machine: who it is to people.
    """

    version = VERSION

    def __init__(self, identity: SimulatedIdentity, server_key: bytes, world: World, machine: Machine) -> None:
        super().__init__(identity, server_key, world, machine.number)
        self.machine = machine
        self.who = wire.Instance(instance=self.agent_id.hex, machine=self.agent_id.hex, hostname=machine.name)
        self._measures = NO_CHECKS
        self._reports = 0

    async def greet(self) -> None:
        """Say hello, and the first time what it is, too."""
        first = not self.greeted
        await super().greet()
        if first and self.greeted:
            self._tell_facts()
        if self.checks is not None and self.checks.digest != self._measures:
            self._measures = self.checks.digest
            self._tell_checks(self.checks)

    def _tell_checks(self, told: CheckListBody) -> None:
        for one in told.checks:
            found = found_on(self.machine, one)
            self._reports += 1
            self._say(
                CheckReport(
                    number=self._reports,
                    check_id=one.check_id,
                    revision=one.revision,
                    state=found.state,
                    since=self._world.now(),
                    value=found.value,
                    unit=found.unit,
                    detail=found.detail,
                )
            )

    def check_values(self, now: datetime) -> list[CheckValue]:
        """See `SimulatedAgent`."""
        values = []
        for one in self.checks.checks if self.checks is not None else ():
            found = found_on(self.machine, one)
            values.append(
                CheckValue(check_id=one.check_id, at=now, state=found.state, value=found.value, detail=found.detail)
            )
        return values

    def _tell_facts(self) -> None:
        self._say(wire.FactsReport(facts=self.machine.facts(self._world.now())))
        self._say(wire.SoftwareReport(packed=pack(software_of(self.machine))))

    async def work(self, order: wire.Order, ending: asyncio.Event) -> str:
        """See `SimulatedMachine`."""
        work = wire.decode_work(order.work)
        did = self._did(order)
        limit_s = float(work.timeout_s) if isinstance(work, wire.ScriptWork) else did.took_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(did.took_s, limit_s)):
                await ending.wait()
        if ending.is_set():
            return "cancelled"
        if did.took_s > limit_s:
            return "timed_out"
        if isinstance(work, wire.FactsWork):
            self._tell_facts()
        return "failed" if did.exit_code else "succeeded"

    def printed(self, order: wire.Order, outcome: str) -> Printed:
        """See `SimulatedMachine`."""
        did = self._did(order)
        if outcome == "timed_out" or not isinstance(wire.decode_work(order.work), wire.ScriptWork):
            return Printed()  # ended by its timeout, or without a process
        return Printed(exit_code=did.exit_code, stdout=did.stdout.encode(), stderr=did.stderr.encode())

    def _did(self, order: wire.Order) -> Did:
        return done_by(self.machine, wire.decode_work(order.work))


class DemoFleet(msgspec.Struct, frozen=True):
    """A fleet that lives."""

    machines: Sequence[DemoMachine]
    login: Login


@contextlib.asynccontextmanager
async def demo_fleet(
    api: Api, *, count: int = MACHINES, tell: Callable[[str], None] = lambda _line: None
) -> AsyncIterator[DemoFleet]:
    """Have a fleet for as long as the context is open.

    Args:
        api: with the key of an administrator; called from several threads.
        count: how many machines; one at the least.
        tell: told in a line what goes on.

    Raises:
        TooManyError: this process may not have so many connections.
        RefusedError: the platform does not take it.
        TimeoutError: something of the history did not come about.
    """
    allow_files(count + FILES_BESIDE)
    made = machines(count)
    tell(f"{count} simulated machines enroll")
    login = await asyncio.to_thread(make_login, api)
    identities, server_key, urls = await _enroll(api, made)
    async with asyncio.TaskGroup() as tasks:
        world = World(Plan(told_of_before=wire.MAX_SAMPLES), urls, tasks)
        fleet = [DemoMachine(identity, server_key, world, one) for identity, one in zip(identities, made, strict=True)]
        try:
            await _come(fleet)
            tell("they are there; a tenth is switched off again, and Ada gives the others something to do")
            off = {one.name for one in away(made)}
            for one in fleet:
                if one.machine.name in off:
                    await one.leave()
            ids = {one.machine.name: str(one.agent_id) for one in fleet}
            with Api(Profile(api.url, login.token)) as hers:
                await seed(hers, made, ids, off)
            for work in (_greet(world, fleet), _live(api, fleet)):
                world.spawn(work)
            yield DemoFleet(fleet, login)
        finally:
            world.end()
            await asyncio.gather(*(one.close() for one in fleet))


async def _enroll(api: Api, made: Sequence[Machine]) -> tuple[list[SimulatedIdentity], bytes, list[str]]:
    """Clients and sites are made, and everybody comes in by their site's token; sites side by side.

    Each request has a thread of its own, so that Ctrl-C waits for one of them at most.
    """
    clients: dict[str, str] = {}
    tokens: dict[Place, str] = {}
    for place in dict.fromkeys(one.place for one in made):
        if place.client not in clients:
            clients[place.client] = (await asyncio.to_thread(api.post, "/clients", {"name": place.client}))["id"]
        uses = sum(one.place is place for one in made)
        tokens[place] = await asyncio.to_thread(_token, api, clients[place.client], place.site, uses)
    replies: dict[str, tuple[SimulatedIdentity, wire.EnrollReply]] = {}

    async def in_turn(place: Place) -> None:
        for one in made:
            if one.place is place:
                replies[one.name] = await asyncio.to_thread(_enroll_one, api, tokens[place], one)

    async with asyncio.TaskGroup() as sites:
        for place in tokens:
            sites.create_task(in_turn(place))
    reply = replies[made[0].name][1]
    return [replies[one.name][0] for one in made], bytes.fromhex(reply.server_public_key), list(reply.nats_urls)


def _token(api: Api, client_id: str, site: str, uses: int) -> str:
    """Makes the site, and what lets so many machines in there."""
    made = api.post(f"/clients/{client_id}/sites", {"name": site})
    expires = datetime.now(UTC) + TOKEN_LIFE
    body = {"site_id": made["id"], "max_uses": uses, "expires_at": expires.isoformat(), "note": f"machines of {site}"}
    return str(api.post("/enrollment-tokens", body)["token"])


def _enroll_one(api: Api, token: str, machine: Machine) -> tuple[SimulatedIdentity, wire.EnrollReply]:
    model = machine.model
    came = enroll_one(api, token, hostname=machine.name, platform=model.platform, arch=model.arch, version=VERSION)
    api.put(f"/agents/{came[0].agent_id}/tags", {"tags": list(model.tags)})
    return came


async def _come(fleet: Sequence[DemoMachine]) -> None:
    """Everybody connects, and the platform has heard what they are."""
    for one in fleet:
        one.arrive()
    async with asyncio.timeout(READY_S):
        while not all(one.greeted and not one.unsaid for one in fleet):  # noqa: ASYNC110 - many events at once
            await asyncio.sleep(LOOK_S)


async def _greet(world: World, fleet: Sequence[DemoMachine]) -> None:
    """Everybody who is there says hello once a minute; nobody waits for one who is not answered."""
    while True:
        for one in fleet:
            await asyncio.sleep(HELLO_EVERY_S / len(fleet))
            if one.online.is_set():
                world.spawn(one.greet())


async def _live(api: Api, fleet: Sequence[DemoMachine]) -> None:
    """Now and then somebody goes for a coffee, and some machine is asked for its facts."""
    desks = [one for one in fleet if not one.machine.is_server]
    number = 0
    while True:
        await asyncio.sleep(LIVE_EVERY_S)
        number += 1
        asked = fleet[number * 17 % len(fleet)]
        with contextlib.suppress(RefusedError):  # somebody has retired or suspended it meanwhile, as they may
            body = {"agent_id": str(asked.agent_id), "spec": {"kind": "collect_facts"}, "reason": "the daily look"}
            await asyncio.to_thread(api.post, "/commands", body)
        leaving = desks[number * 7 % len(desks)]
        if leaving.online.is_set():
            await leaving.leave()
            await asyncio.sleep(AWAY_S)
            leaving.arrive()
