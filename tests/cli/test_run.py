"""`fleetlog run`: waiting, watching and leaving, whatever the connection does meanwhile."""

import base64
import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from gateways.cli import admin, watching
from tests.cli.scripted import Answer, Server

AGENT = "0198c0de-0000-7000-8000-00000000000a"
COMMAND = "0198c0de-0000-7000-8000-00000000000c"


def _command(state: str, attempt: int = 1, stdout: bytes = b"", exit_code: int | None = None) -> dict[str, Any]:
    result = {"exit_code": exit_code, "duration_ms": 10, "stdout": {"size": len(stdout)}, "stderr": {"size": 0}}
    ended = state not in ("queued", "delivered", "running")
    return {"id": COMMAND, "state": state, "attempt": attempt, "queued_at": "2026-01-01T00:00:00+00:00",
            "result": result if ended else None}  # fmt: skip


def _live(*events: tuple[str, dict[str, Any]], torn: bool = False) -> Answer:
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode()
    length = len(body) + (50 if torn else 0)
    return 200, {"Content-Type": "text/event-stream", "Content-Length": str(length)}, body


def _piece(offset: int, data: bytes) -> tuple[str, dict[str, Any]]:
    text = base64.b64encode(data).decode()
    return "output", {"attempt": 1, "stream": "stdout", "offset": offset, "data": text}


QUEUED: list[Answer] = [
    (200, {}, {"id": AGENT, "name": "web-07", "hostname": "web-07"}),
    (202, {"Fleetlog-Position": "9"}, {"id": COMMAND}),
    (200, {}, _command("queued")),
]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "RECONNECT_S", 0.01)


def _fleetlog(server: Server, *arguments: str) -> Result:
    app = typer.Typer()
    admin.register(app)
    return CliRunner().invoke(app, [*arguments, "--url", server.url, "--key", "flk_test"])


def _body(server: Server) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(server.bodies[1])
    return body


def test_output_is_streamed_and_success_is_zero(server: Server) -> None:
    """What the program printed is all that stands on standard output; how it ended stands beside it."""
    server.answers = [*QUEUED, _live(_piece(0, b"hello\xff\n"), ("end", {"state": "succeeded"})),
                      (200, {}, _command("succeeded", stdout=b"hello\xff\n", exit_code=0))]  # fmt: skip
    result = _fleetlog(server, "run", AGENT, "--shell", "sh", "echo hello")
    assert result.exit_code == 0
    assert result.stdout_bytes == b"hello\xff\n"
    assert "succeeded" in result.stderr
    assert _body(server)["spec"] == {"kind": "run_shell", "shell": "sh", "line": "echo hello"}


def test_what_was_lost_live_is_fetched_at_the_end(server: Server) -> None:
    """A gap in the live output is filled from the log's keeping, and nothing is shown twice."""
    server.answers = [*QUEUED, _live(_piece(0, b"one\n"), _piece(8, b"three\n"), ("end", {})),
                      (200, {}, _command("succeeded", stdout=b"one\ntwo\nthree\n", exit_code=0)),
                      (200, {}, b"one\ntwo\nthree\n")]  # fmt: skip
    result = _fleetlog(server, "run", AGENT, "--shell", "sh", "x")
    assert result.stdout_bytes == b"one\ntwo\nthree\n"


def test_failure_is_one(server: Server) -> None:
    """A command that did not succeed is exit code 1, and its own code is in words."""
    server.answers = [*QUEUED, _live(("end", {})), (200, {}, _command("failed", exit_code=3))]
    result = _fleetlog(server, "run", AGENT, "--shell", "sh", "exit 3")
    assert result.exit_code == 1
    assert "failed with exit code 3" in result.stderr


def test_a_lost_connection_does_not_end_the_waiting(server: Server) -> None:
    """The stream breaks and the server is gone for a while: said once, and the end is still seen."""
    server.answers = [
        *QUEUED,
        _live(_piece(0, b"begun\n"), torn=True),
        _live(("end", {})),
        (200, {}, _command("succeeded", stdout=b"begun\nended\n", exit_code=0)),
        (200, {}, b"begun\nended\n"),
    ]
    result = _fleetlog(server, "run", AGENT, "--shell", "sh", "x")
    assert result.exit_code == 0
    assert result.stdout_bytes == b"begun\nended\n"
    assert result.stderr.count("The command goes on") == 1


def test_queue_returns_at_once(server: Server) -> None:
    """With --queue the id is printed and nothing is waited for."""
    server.answers = QUEUED[:2]
    result = _fleetlog(server, "run", AGENT, "--ping", "--queue", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"id": COMMAND}


def test_json_says_how_it_ended(server: Server) -> None:
    """With --json standard output is one document, the ended command."""
    server.answers = [*QUEUED, _live(_piece(0, b"x"), ("end", {})), (200, {}, _command("failed", exit_code=1))]
    result = _fleetlog(server, "run", AGENT, "--ping", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["state"] == "failed"


def test_every_option_reaches_the_command(server: Server) -> None:
    """What is asked for on the command line is what is queued."""
    server.answers = QUEUED[:2]
    result = _fleetlog(server, "run", AGENT, "--shell", "bash", "true", "--queue", "--lane", "slow", "--priority", "2",
                       "--retry", "3", "--retry-on", "failed", "--backoff", "5m", "--reason", "nightly",
                       "--timeout", "10m", "--env", "A=b=c", "--run-as", "www", "--expires-in", "2d",
                       "--not-before", "2h")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    body = _body(server)
    assert body["spec"] == {"kind": "run_shell", "shell": "bash", "line": "true", "env": {"A": "b=c"},
                            "timeout_s": 600, "run_as": "www"}  # fmt: skip
    assert body["retry"] == {"max_attempts": 3, "on": ["failed"], "backoff_s": 300}
    assert (body["lane"], body["priority"], body["reason"]) == ("slow", 2, "nightly")
    assert body["not_before"] < body["expires_at"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("script", "--ping"),
        ("--ping", "--facts"),
        ("--shell", "sh"),
        ("--ping", "--env", "A=b"),
        ("--shell", "sh", "true", "--arg", "x"),
        ("--shell", "sh", "true", "--env", "novalue"),
        ("--shell", "sh", "true", "--timeout", "soon"),
        ("--ping", "--expires-in", "yesterday"),
        ("--ping", "--retry-on", "failed"),
    ],
)
def test_what_makes_no_sense_is_one_red_line(server: Server, arguments: tuple[str, ...]) -> None:
    """A command line that contradicts itself queues nothing: one line, exit code 2."""
    server.answers = QUEUED[:1]
    result = _fleetlog(server, "run", AGENT, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("bad_value: ")
    assert result.stderr.count("\n") == 1
    assert [method for method, _, _ in server.asked if method != "GET"] == []
