"""A machine that has to wait for approval: patient, the same after any break, and heard of on its console."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import agent.enroll
from agent.enroll import Pending, until_decided
from agent.errors import AlreadyRunningError, EnrollmentRefusedError, EnrollmentWaitingError, NotEnrolledError
from agent.identity import LOCK_FILE, PENDING_FILE, Identity
from agent.main import main
from agent.platforms import PLATFORM
from agent.platforms.linux import Linux
from agent.platforms.shape import NOT_AN_AGENT, SERVICE_VARIABLE
from schema import wire
from schema.fingerprints import key_fingerprint
from tests.agent.test_links import http_server

WAITS = {"code": "enrollment_waiting", "detail": "x", "enrollment_id": "e1", "expires_at": "2030-01-01T00:00:00Z"}
REFUSED = {"code": "enrollment_refused", "detail": "Somebody refused it."}


class Server:
    """Says one thing after the other, and the last one from then on."""

    def __init__(self, *answers: tuple[int, Any]) -> None:
        self._answers = list(answers)
        self.asked: list[wire.EnrollRequest] = []

    def __call__(self, _path: str, body: bytes, _headers: Any) -> tuple[int, bytes]:
        self.asked.append(msgspec.json.decode(body, type=wire.EnrollRequest))
        status, said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return status, said if isinstance(said, bytes) else json.dumps(said).encode()


@pytest.fixture
def state(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no pause lasts longer than a test."""
    monkeypatch.setattr(agent.enroll, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(agent.enroll, "_LONGEST_PAUSE_S", 0.05)
    return place / "state"


def test_it_waits_over_breaks_and_goes_on_by_itself(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One key in all of it; what a proxy says in between, or a server that is away, is no decision."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    reply = {"agent_id": str(uuid4()), "server_public_key": key, "nats_urls": ["nats://x"]}
    server = Server((409, WAITS), (409, WAITS), (503, b"away"), (403, b"<html>"), (200, b"<html>"), (201, reply))
    where = ["--state-dir", str(state)]
    said: list[str] = []
    with http_server(server) as url:
        assert main(["enroll", url, "flt_x", "--name", "box", "--no-wait", *where]) == 0
        out = capsys.readouterr().out
        fingerprint = key_fingerprint(server.asked[0].public_key)
        assert "fleetlog agents approve e1" in out
        assert fingerprint in out
        assert (state / PENDING_FILE).stat().st_mode & 0o777 == 0o600
        assert main(["status", "--json", *where]) == 1
        shown = json.loads(capsys.readouterr().out)
        assert (shown["waits_for_approval"], shown["key"], shown["asking"]) == (True, fingerprint, False)
        assert main(["install-service", "--print", *where]) == 0
        identity = asyncio.run(until_decided(state, asyncio.Event(), said.append))
    assert identity == Identity.load(state)
    assert [request.hostname for request in server.asked] == ["box"] * 6
    assert len({(request.public_key, request.token) for request in server.asked}) == 1
    assert not (state / PENDING_FILE).exists()
    assert "waits until somebody approves it" in said[0]
    assert len(said) == 4, "each thing is said once"


def test_what_is_refused_is_over(state: Path) -> None:
    """It is said, and asked no more; a token that lets it in may be tried after."""
    with http_server(Server((409, WAITS), (403, REFUSED))) as url:
        with pytest.raises(EnrollmentWaitingError):
            agent.enroll.enroll(url, "flt_x", state)
        held = PLATFORM.lock(state / LOCK_FILE)
        with pytest.raises(AlreadyRunningError):
            asyncio.run(until_decided(state, asyncio.Event(), print))
        assert held is not None
        os.close(held)
        with pytest.raises(EnrollmentRefusedError, match="Somebody refused it"):
            asyncio.run(until_decided(state, asyncio.Event(), print))
    with pytest.raises(NotEnrolledError):
        asyncio.run(until_decided(state, asyncio.Event(), print))


def test_another_token_takes_over_from_the_one_that_it_waits_by(state: Path) -> None:
    """Also if that comes just as the first is refused: what is asked with next is what was said last."""
    reply = {"agent_id": str(uuid4()), "server_public_key": "ab" * 32, "nats_urls": ["nats://x"]}
    server, tokens = Server((409, WAITS), (409, WAITS), (403, REFUSED), (201, reply)), ("flt_first", "flt_second")
    with http_server(server) as url:
        with pytest.raises(EnrollmentWaitingError):
            agent.enroll.enroll(url, tokens[0], state)

        def while_asking(*asked: Any) -> tuple[int, bytes]:
            if len(server.asked) == 2:  # under the hands of the question that is being refused
                Pending(server_url=url, token=tokens[1], name="box").save(state)
            return server(*asked)

        with http_server(while_asking) as other:
            Pending(server_url=other, token=tokens[0], name="box").save(state)
            identity = asyncio.run(until_decided(state, asyncio.Event(), lambda _: None))
    assert identity == Identity.load(state)
    assert [one.token for one in server.asked] == [*tokens[:1] * 3, tokens[1]]


def test_what_starts_it_again_leaves_off_where_it_is_no_agent(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a service it leaves with a code of its own, refused just now or before, that the unit names."""
    where = ["--state-dir", str(state)]
    monkeypatch.setenv(SERVICE_VARIABLE, "1")
    with http_server(Server((409, WAITS), (403, REFUSED))) as url:
        assert main(["enroll", url, "flt_x", "--no-wait", *where]) == 0
        for said in ("enrollment_refused: Somebody refused it.", "not_enrolled: "):
            assert main(["run", *where]) == NOT_AN_AGENT
            assert said in capsys.readouterr().err
    (state / PENDING_FILE).write_text("{")
    assert main(["run", *where]) == 2
    unit = Linux().install_service(["fleetlog"], write=False)
    assert "\nRestart=always\nRestartSec=5\n" in unit
    assert f"\nEnvironment={SERVICE_VARIABLE}=1\nRestartPreventExitStatus={NOT_AN_AGENT}\n" in unit


async def test_it_stops_when_it_is_told_to(state: Path) -> None:
    """At once, and with nothing lost: the next start goes on."""
    stop = asyncio.Event()
    with http_server(Server((409, WAITS))) as url:
        with pytest.raises(EnrollmentWaitingError):
            await asyncio.to_thread(agent.enroll.enroll, url, "flt_x", state)
        waiting = asyncio.create_task(until_decided(state, stop, lambda _: stop.set()))
        assert await asyncio.wait_for(waiting, 10) is None
    assert (state / PENDING_FILE).exists()
