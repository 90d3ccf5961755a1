"""A whole platform whose listeners all speak TLS, under an authority of its own, and what one types there."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateways.cli.api import Api
from gateways.cli.profile import Profile
from gateways.local.server import free_port
from schema.authorities import certificates, fingerprint
from tests.topology.harness import Machine, Platform

pytestmark = [pytest.mark.serial, pytest.mark.embedded]


class EncryptedMachine(Machine):
    """Trusts the authority that the install line named."""

    def enroll(self, token: str) -> None:
        del token
        line = next(line for line in self._stage.log.read_text().splitlines() if "agent enroll" in line)  # type: ignore[attr-defined]
        words = shlex.split(line.partition("fleetlog agent")[2])
        self._stage.fleetlog("agent", *words, "--state-dir", str(self.state_dir), "--name", self.name, check=True)
        self._stage.until(self._is_on_record, f"{self.name} to be on record")

    @property
    def identity(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state_dir / "identity.json").read_text())
        return found


class EncryptedPlatform(Platform):
    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def authorities(self) -> Path:
        return self.folder / "data" / "tls" / "authorities.pem"

    def bring_up(self) -> None:
        super().bring_up()
        self.trust(self.authorities.read_text())

    def trust(self, pem: str) -> None:
        """Whom the test itself trusts from now on."""
        if self._api is not None:
            self._api.__exit__(None, None, None)
        self._api = Api(Profile(self.url, self.admin_key, pem))

    def machine(self, name: str) -> EncryptedMachine:
        if name not in self.agents:
            self.agents[name] = EncryptedMachine(self, name)
            self.agents[name].enroll(self.token)
        machine = self.agents[name]
        assert isinstance(machine, EncryptedMachine)
        return machine


@pytest.fixture(scope="module")
def encrypted() -> Iterator[EncryptedPlatform]:
    settings = {"FLEETLOG_TLS": "always", "FLEETLOG_NATS_WEBSOCKET_PORT": str(free_port())}
    with EncryptedPlatform(settings) as platform:
        platform.bring_up()
        yield platform


def test_the_line_that_is_printed_pins_the_authority(encrypted: EncryptedPlatform) -> None:
    """The install line carries the fingerprint, and the machine trusts that authority alone from then on."""
    machine = encrypted.machine("nats")
    told = encrypted.authorities.read_text()
    assert f"--fingerprint {fingerprint(certificates(told)[0])}" in encrypted.printed()
    identity = machine.identity
    assert (identity["server_ca"], identity["nats_ca"]) == (told, told)
    assert [url.partition("://")[0] for url in identity["nats_urls"]] == ["tls", "wss"]
    refused = encrypted.fleetlog("agent", "enroll", encrypted.url, "flt_x", "--state-dir", str(encrypted.folder / "x"))
    assert refused.returncode == 2
    assert b"certificate" in refused.stderr


def test_work_is_done_over_every_way(encrypted: EncryptedPlatform) -> None:
    """NATS by TCP, NATS by WebSocket and HTTP check-ins, each encrypted: a command runs over each."""
    over = {"nats": "auto", "websocket": "nats", "http": "http"}
    for name, transport in over.items():
        machine = encrypted.machine(name)
        if name == "websocket":
            file = machine.state_dir / "identity.json"
            file.write_text(json.dumps(machine.identity | {"nats_urls": machine.identity["nats_urls"][1:]}))
        arguments = ["agent", "run", "--transport", transport, "--state-dir", str(machine.state_dir)]
        machine.process = encrypted.spawn(arguments, encrypted.folder / f"{name}.log")
    for name in over:
        machine = encrypted.machine(name)
        encrypted.until(lambda machine=machine: machine.online, f"{name} to be online")  # type: ignore[misc]
        encrypted.ended_once(machine.shell("true"))
    logged = {name: (encrypted.folder / f"{name}.log").read_text() for name in over}
    assert "connected transport=nats url=tls://" in logged["nats"]
    assert "connected transport=nats url=wss://" in logged["websocket"]
    assert "connected transport=http url=https://" in logged["http"]


def test_the_command_line_trusts_it_too(encrypted: EncryptedPlatform) -> None:
    """On the server's own machine everything is known; elsewhere a login pins the authority, and nothing else does."""
    encrypted.until_healthy()
    made = encrypted.fleetlog("tokens", "create", "--site", "Main", check=True)
    assert b"--fingerprint sha256:" in made.stdout
    shown = json.loads(encrypted.fleetlog("tls", "show", "--json", check=True).stdout)
    pin = shown[0]["fingerprint"]
    elsewhere = {"FLEETLOG_DATA_DIR": str(encrypted.folder / "elsewhere"), "FLEETLOG_API_KEY": encrypted.admin_key}
    for options, good in (
        (["--fingerprint", pin], True),
        (["--fingerprint", "sha256:" + 64 * "0"], False),
        (["--ca", str(encrypted.authorities)], True),
        ([], False),
    ):
        log = encrypted.folder / f"login-{len(list(encrypted.folder.iterdir()))}.log"
        started = encrypted.spawn(["login", encrypted.url, *options], log, settings=elsewhere)
        assert started.wait(30) == 2, (
            "no key comes from standard input here, so that it ends after what is judged first"
        )
        assert ("No key was given" in log.read_text()) is (good or not options)


def test_plain_text_is_refused(encrypted: EncryptedPlatform) -> None:
    """A role that other machines would reach in plain text does not start, and says what to do."""
    role = encrypted.serve("api", options=["--listen", "0.0.0.0:0"])
    assert role.wait(60) == 2
    (line,) = (encrypted.folder / "serve-api.log").read_text().splitlines()
    assert "plain_text" in line
    assert "FLEETLOG_TLS=proxy" in line


def _stepped(platform: EncryptedPlatform, did: str) -> bool:
    """Take the next step, which is refused until every listener has taken up the one before."""
    done = platform.fleetlog("tls", "roll-over", "--json")
    if done.returncode == 2:
        assert b"come again" in done.stderr
        return False
    assert json.loads(done.stdout)["did"] == did
    return True


def test_a_new_authority_takes_over_while_work_goes_on(encrypted: EncryptedPlatform) -> None:
    """Announced, used, retired: no machine is lost at any step, and in the end all trust the new one alone."""
    machine = encrypted.machine("nats")
    before = encrypted.authorities.read_text()
    for did in ("announced", "used", "retired"):
        encrypted.until(lambda: _stepped(encrypted, did), f"the new authority to be {did}", 40)  # noqa: B023
        told = encrypted.authorities.read_text()
        encrypted.trust(told)
        known = set(certificates(told))
        if machine.process is not None:
            machine.kill()
        machine.start()  # it says hello at once, and not within the minute
        encrypted.until(lambda: set(certificates(machine.identity["server_ca"])) == known, f"{did} to be heard")  # noqa: B023
        encrypted.ended_once(machine.shell("true"))
    assert machine.identity["server_ca"] == encrypted.authorities.read_text() != before
    assert len(certificates(machine.identity["server_ca"])) == 1


def test_what_becomes_of_authorities_is_on_record(encrypted: EncryptedPlatform) -> None:
    """The first one, and each step to the second: events, whoever changed the files."""

    def recorded() -> list[str]:
        shown = encrypted.fleetlog("events", "--json", "--limit", "100000", check=True).stdout
        lines = shown.decode().splitlines()
        return [kind for line in lines for kind in re.findall(r"Authority(?:Announced|Used|Retired)", line)]

    wanted = {"AuthorityAnnounced", "AuthorityUsed", "AuthorityRetired"}
    encrypted.until(lambda: set(recorded()) == wanted, "the roll-over to be on record")


def test_the_keys_at_nats_take_over_by_themselves(encrypted: EncryptedPlatform) -> None:
    """The NATS server is given both keys, then the new one alone; retiring waits for it, and machines come back."""
    machine = encrypted.machine("nats")
    if machine.process is None:
        machine.start()
    for key in ("gateway", "system", "issuer"):
        encrypted.fleetlog("server-keys", "rotate", key, check=True)
    for key in ("gateway", "system", "issuer"):
        encrypted.until(
            lambda key=key: encrypted.fleetlog("server-keys", "retire", key).returncode == 0,  # type: ignore[misc]
            f"the NATS server to let the new {key} key in",
        )
    wanted = encrypted.fleetlog("config", "nats", check=True).stdout.decode()
    lines = [line for line in wanted.splitlines() if "nkey" in line or "issuer" in line or "auth_users" in line]
    config = encrypted.folder / "data" / "nats" / "nats.conf"
    encrypted.until(lambda: all(line in config.read_text() for line in lines), "the NATS server to know the new ones")
    encrypted.until_healthy()
    encrypted.until(lambda: machine.online, "the machine to be back")
    encrypted.ended_once(machine.shell("true"))
