"""The history of a fleet as a log holds it after some nights of jobs; every event is decided by its aggregate.

Machines are enrolled, come online and report what they are. Then jobs go through the fleet wave after wave: a command
for each machine of the wave is queued, delivered, started and ended; some fail or are cut, some wait for a machine that
is off until it returns, some are cancelled, and some machines stay off, so that their queues grow.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import Any
from uuid import UUID

from command_bus.ids import new_id
from domain.agents import (
    Agent,
    AgentConnected,
    AgentDisconnected,
    AgentEnrolled,
    AgentFactsReported,
    Platform,
    facts_stream,
    presence_stream,
)
from domain.clients import Client
from domain.commands import Command, CommandQueued, CommandState, Result, RunScript, RunShell, Stream
from domain.event import Change, Event
from domain.ids import AgentId, ClientId, ScriptId, SiteId
from domain.scripts import Shell
from domain.sites import Site

WAVE = 1_000
"""Machines that a job reaches side by side: so far apart lie the events of one command."""
GATEWAY = "gateway-1"
SITES_PER_CLIENT = 5
TAGS = (("web", "prod"), ("db", "prod"), ("web", "test"), ())


class Machine:
    """An agent, and the two streams that tell of its presence and its facts."""

    def __init__(self, number: int, site: Site, public_key: str | None = None) -> None:
        self.number = number
        self.public_key = public_key or f"{number:064x}"
        self.agent = Agent(new_id())
        self.client_id, self.site_id = site.client_id, SiteId(site.stream_id)
        self.stays_off = number % 20 == 7  # noqa: PLR2004 -- one in twenty
        self._versions: dict[UUID, int] = {}

    @property
    def agent_id(self) -> AgentId:
        return AgentId(self.agent.stream_id)

    @property
    def hostname(self) -> str:
        return f"{('web', 'db', 'desk')[self.number % 3]}-{self.number:06}"

    def enroll(self) -> Iterator[Change]:
        yield self.agent.enroll(
            AgentEnrolled(
                site_id=self.site_id,
                client_id=self.client_id,
                token_id=None,
                hostname=self.hostname,
                platform=tuple(Platform)[self.number % 3],
                arch="x86_64",
                agent_version="1.0.0",
                public_key=self.public_key,
            )
        )
        yield self.come()
        yield self._told(facts_stream(self.agent_id), AgentFactsReported(facts=self._facts()))
        if tags := TAGS[self.number % len(TAGS)]:
            yield self.agent.tag(tags)
        if self.stays_off:
            yield self.go()

    def come(self) -> Change:
        connected = AgentConnected(gateway=GATEWAY, address=f"10.{self.number >> 8 & 255}.{self.number & 255}.7")
        return self._told(presence_stream(self.agent_id), connected)

    def go(self) -> Change:
        return self._told(presence_stream(self.agent_id), AgentDisconnected(gateway=GATEWAY, reason="client closed"))

    def report(self) -> Change:
        return self._told(facts_stream(self.agent_id), AgentFactsReported(facts=self._facts()))

    def _told(self, stream_id: UUID, event: Event) -> Change:
        self._versions[stream_id] = version = self._versions.get(stream_id, 0) + 1
        return Change(stream_id, version, event, self.agent_id, self.client_id)

    def _facts(self) -> dict[str, Any]:
        """As `agent.facts` gathers them."""
        return {
            "hostname": self.hostname,
            "os": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.1.0-18-amd64",
            "arch": "x86_64",
            "cpu": {"model": "AMD EPYC 7B12", "cores": 2, "threads": 4},
            "memory_bytes": 16 << 30,
            "swap_bytes": 0,
            "disks": [
                {"mount": mount, "device": f"/dev/sda{at}", "type": "ext4", "size_bytes": 1 << 38, "used_percent": 35}
                for at, mount in enumerate(("/", "/var"), 1)
            ],
            "addresses": [{"interface": "eth0", "family": "ipv4", "address": f"10.1.0.{self.number & 255}"}],
            "users": ["root"],
            "logged_in_user": "root",
            "boot_time": "2026-01-01T00:00:00+00:00",
            "agent_version": "1.0.1",
            "agent_user": "root",
        }


class FleetHistory:
    """Makes the changes in the order in which they happen.

    Args:
        machines: how many.
        public_keys: of those, by number, that are to connect in earnest afterwards.
    """

    def __init__(self, machines: int, public_keys: Mapping[int, str] | None = None) -> None:
        self._count = machines
        self._public_keys = public_keys or {}
        self.now = datetime.now(UTC)
        self._script_id = ScriptId(new_id())
        self._numbers = count()
        self._waves = count()
        self.clients: list[Client] = []
        self.sites: list[Site] = []
        self.machines: list[Machine] = []

    def changes(self, events: int) -> Iterator[Change]:
        """So many events, from the first client on."""
        return islice(self._all(), events)

    def backlog(self, machines: Sequence[Machine], each: int) -> Iterator[Change]:
        """So many commands queued for each of some machines, and nothing after that."""
        for _ in range(each):
            for machine in machines:
                yield self._queue(machine)[1]

    def _all(self) -> Iterator[Change]:
        yield from self._places()
        for machine in self.machines:
            yield from machine.enroll()
        while True:
            for start in range(0, self._count, WAVE):
                yield from self._wave(self.machines[start : start + WAVE])

    def _places(self) -> Iterator[Change]:
        for number in range(max(1, self._count // 100)):
            if number % SITES_PER_CLIENT == 0:
                self.clients.append(Client(new_id()))
                yield self.clients[-1].create(f"Client {len(self.clients)}")
            self.sites.append(Site(new_id()))
            yield self.sites[-1].create(ClientId(self.clients[-1].stream_id), f"Site {number}")
        self.machines += [
            Machine(number, self.sites[number % len(self.sites)], self._public_keys.get(number))
            for number in range(self._count)
        ]

    def _wave(self, machines: Sequence[Machine]) -> Iterator[Change]:
        turn = next(self._waves) % 5
        off = [machine for machine in machines if machine.number % 5 == turn]
        away = {machine.number for machine in off}
        for machine in off:
            yield machine.go()
        commands = [(machine, *self._queue(machine)) for machine in machines]
        for _, _, queued in commands:
            yield queued
        here = [command for machine, command, _ in commands if not machine.stays_off and machine.number not in away]
        later = [(machine, command) for machine, command, _ in commands if machine.number in away]
        yield from self._run(here)
        for number, (machine, command) in enumerate(later):
            if number % 4 == 0:
                yield from command.cancel("no longer needed", in_flight=False)
            yield machine.come()
            if number % 2:
                yield machine.report()
        yield from self._run([command for _, command in later if not command.state.terminal])

    def _run(self, commands: Sequence[Command]) -> Iterator[Change]:
        for command in commands:
            yield from command.deliver(1, GATEWAY)
        for command in commands:
            yield from command.start(1, self.now, GATEWAY)
        for command in commands:
            number = next(self._numbers)
            outcome = CommandState.FAILED if number % 20 == 0 else CommandState.SUCCEEDED
            outcome = CommandState.TIMED_OUT if number % 50 == 0 else outcome
            yield from command.finish(1, outcome, self._result(outcome), at=self.now, gateway=GATEWAY)

    def _queue(self, machine: Machine) -> tuple[Command, Change]:
        number = next(self._numbers)
        shell = RunShell(shell=Shell.SH, line="systemctl is-active ssh && uptime")
        script = RunScript(script_id=self._script_id, revision=1, args=("--quiet",))
        queued = CommandQueued(
            agent_id=machine.agent_id,
            client_id=machine.client_id,
            site_id=machine.site_id,
            spec=script if number % 2 else shell,
            expires_at=self.now + timedelta(days=30),
            priority=number % 10,
            reason="nightly",
        )
        command = Command(new_id())
        return command, command.queue(queued, self.now)

    def _result(self, outcome: CommandState) -> Result:
        return Result(
            started_at=self.now,
            finished_at=self.now + timedelta(seconds=2),
            duration_ms=2_000,
            exit_code={CommandState.SUCCEEDED: 0, CommandState.FAILED: 1}.get(outcome),
            stdout=Stream(
                size=61, sha256="ab" * 32, tail="active\n 12:00:01 up 41 days, load average: 0.00, 0.01, 0.05\n"
            ),
        )
