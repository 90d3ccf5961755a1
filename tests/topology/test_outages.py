"""Parts of the platform killed while real agents work: everything that was accepted is done once, and ends once."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateways.cli.errors import RefusedError
from tests.topology.harness import Machine, Platform

pytestmark = pytest.mark.serial
PACE_S = 0.05
"""Between two requests; faster, and the machines would be busy with them long after the fault."""


class Work:
    """Commands asked for one after the other, of each machine in turn; each leaves a line when it runs.

    Args:
        platform: where.
        machines: for whom.
        name: of the file with the lines.
    """

    def __init__(self, platform: Platform, machines: list[Machine], name: str) -> None:
        self._platform = platform
        self._machines = itertools.cycle(machines)
        self._name = name
        self._numbers = itertools.count()
        self.accepted: dict[str, str] = {}
        """Ids, by the line that each leaves."""
        self.refused: list[str] = []
        """Lines of those that were surely not recorded."""

    def ask(self) -> None:
        """Ask for one; a refusal is noted."""
        line = str(next(self._numbers))
        try:
            command = next(self._machines).shell(f"echo {line} >> {self._platform.effects}/{self._name}; sleep 0.05")
        except RefusedError as error:
            if error.shown_code not in {"log_unavailable", "outcome_unknown"}:
                raise
            if error.shown_code == "log_unavailable":
                self.refused.append(line)
        else:
            self.accepted[line] = command

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Ask on and on in the background, as long as the context is open."""
        enough = threading.Event()
        failures: list[BaseException] = []

        def ask_on() -> None:
            try:
                while not enough.wait(PACE_S):
                    self.ask()
            except BaseException as error:  # noqa: BLE001 - told by the test's own thread
                failures.append(error)

        thread = threading.Thread(target=ask_on)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join(60)
            # Also where the test failed: then this is why.
            assert not failures, failures

    def begun(self, more: int = 4) -> None:
        """Wait until so many more have run."""
        goal = len(self._platform.effect(self._name)) + more
        self._platform.until(lambda: len(self._platform.effect(self._name)) >= goal, f"{goal} commands to run", 60)

    def accepted_more(self, more: int) -> None:
        """Wait until so many more were accepted."""
        goal = len(self.accepted) + more
        self._platform.until(lambda: len(self.accepted) >= goal, f"{goal} commands to be accepted", 60)

    def done_once(self) -> None:
        """Each that was accepted ended once and ran once; none that was refused ran."""
        for command in self.accepted.values():
            self._platform.ended_once(command)
        ran = self._platform.effect(self._name)
        assert len(ran) == len(set(ran)), sorted(ran)
        assert set(self.accepted) <= set(ran)
        assert set(ran).isdisjoint(self.refused)


def test_the_gateway_is_killed(platform: Platform, machines: list[Machine]) -> None:
    """A gateway killed with work in flight: another takes over, and every command ends once and is done once."""
    work = Work(platform, machines, "gateway")
    with work.going_on():
        work.begun()
        dead = platform.role("gateway")
        dead.kill()
        work.accepted_more(4)
        platform.until(lambda: _replaced(platform, "gateway", dead.pid), "another gateway")
        work.begun()
    work.done_once()


@pytest.mark.embedded
def test_nats_is_killed(platform: Platform, machines: list[Machine]) -> None:
    """NATS killed in mid-flight: `/readyz` says so, commands are accepted meanwhile and done once it is back."""
    work = Work(platform, machines, "nats")
    roles = platform.roles()
    with work.going_on():
        work.begun()
        with platform.looking_away():
            platform.server("nats").kill()
            platform.until(lambda: platform.away() == {"nats"}, "/readyz to miss NATS")
            assert platform.checks()[0] == 200  # the API answers without it
            work.accepted_more(2)
            assert "nats" in _down(platform)
            # Somebody else has its port for a while: it must come back there and nowhere else.
            squatter = socket.create_server(("127.0.0.1", platform.nats_port()))
        with squatter:
            platform.until(lambda: "server_not_back" in platform.printed(), "a start in vain")
        platform.until(lambda: platform.away() == set(), "NATS to be back")
        work.begun()
    work.done_once()
    assert platform.roles() == roles, "roles wait, and are not started anew"
    platform.until_healthy()


@pytest.mark.embedded
def test_postgres_is_killed(platform: Platform, machines: list[Machine]) -> None:
    """Postgres killed in mid-flight: `/readyz` is 503 and says why, roles wait, and nothing accepted is lost."""
    work = Work(platform, machines, "postgres")
    roles = platform.roles()
    with work.going_on():
        work.begun()
        with platform.looking_away():
            platform.server("postgres").kill()
            platform.until(lambda: "postgres" in platform.away(), "/readyz to miss Postgres")
            assert platform.checks()[0] == 503
            assert "postgres" in _down(platform)
        platform.until(lambda: platform.away() == set(), "Postgres to be back", 60)
        work.begun()
    work.done_once()
    assert platform.roles() == roles, "roles wait, and are not started anew"
    platform.until_healthy()


@pytest.mark.embedded
def test_valkey_is_killed(platform: Platform, machines: list[Machine]) -> None:
    """While Valkey is away commands go on as if nothing were, and `/readyz` and `status` say what is missing."""
    work = Work(platform, machines, "valkey")
    roles = platform.roles()
    with platform.looking_away():
        platform.server("valkey").kill()
        platform.until(lambda: platform.away() == {"valkey"}, "/readyz to miss Valkey")
        assert platform.checks()[0] == 200
        for _ in range(4):
            work.ask()
        work.done_once()
        assert "valkey" in _down(platform)
    platform.until_healthy()
    assert platform.roles() == roles, "roles wait, and are not started anew"


def _replaced(platform: Platform, role: str, pid: int) -> bool:
    return any(row["role"] == role and row["ok"] and row["pid"] != pid for row in platform.status()["processes"])


def _down(platform: Platform) -> set[str]:
    """The parts that `fleetlog status` finds down."""
    parts: list[dict[str, Any]] = platform.status()["parts"]
    return {part["name"] for part in parts if not part["ok"]}
