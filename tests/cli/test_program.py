"""The program as a whole: whatever is typed wrong, one line says so, and exit code 2."""

import asyncio
import io
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psycopg
import pytest
import typer

from gateways.cli import program
from gateways.cli.program import run


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FLEETLOG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("FLEETLOG_PROFILE", str(tmp_path / "profile.json"))
    monkeypatch.setenv("FLEETLOG_AGENT_STATE_DIR", str(tmp_path / "agent"))


def one_line(stderr: str) -> tuple[str, str]:
    """The code and the words of the one line that an error is."""
    assert stderr.count("\n") == 1, stderr
    code, _, words = stderr.strip().partition(": ")
    return code, words


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("nonsense", "usage", "nonsense"),
        ("agents show", "usage", "`fleetlog agents show --help`"),
        ("agents --limit none", "usage", "--limit"),
        ("agents", "no_address", "fleetlog up"),
        ("agents --url http://127.0.0.1:1", "no_key", "fleetlog login http://127.0.0.1:1"),
        ("agents --url http://127.0.0.1:1 --key flk_x", "unreachable", "http://127.0.0.1:1"),
        ("agents --url http:// --key flk_x", "bad_value", "http://HOST:PORT"),
        ("agents --url http://[::1 --key flk_x", "bad_value", "http://HOST:PORT"),
        ("agents --url http://127.0.0.1:1 --key flk_\x01", "bad_value", "API key"),
        ("login nowhere", "bad_value", "http://"),
        ("status", "no_platform", "fleetlog up"),
        ("status --data-dir /nowhere", "no_platform", "/nowhere"),
        ("projections list", "no_platform", "fleetlog up"),
        ("projections verify", "no_platform", "fleetlog up"),
        ("projections rebuild", "no_platform", "fleetlog up"),
        ("projections resume agents", "no_platform", "fleetlog up"),
        ("migrate", "no_platform", "FLEETLOG_POSTGRES_URL"),
        ("config nats", "no_platform", "FLEETLOG_POSTGRES_URL"),
        ("config nats --tls-cert cert.pem", "bad_value", "--tls-key"),
        ("config nats --websocket 8443", "bad_value", "HOST:PORT"),
        ("serve bogus", "usage", "bogus"),
        ("bench bogus", "usage", "append-one"),
        ("agent", "usage", "COMMAND"),
        ("agent enroll", "usage", "URL, TOKEN"),
        ("agent run --transport pigeon", "usage", "pigeon"),
        ("agent run", "not_enrolled", "fleetlog agent enroll"),
        ("agent status --state-dir /nowhere", "not_enrolled", "/nowhere"),
        ("agent install-service", "not_enrolled", "--state-dir"),
        ("agent enroll nowhere flt_x", "enrollment_refused", "https://"),
        ("agent enroll http://127.0.0.1:1 flt_x", "enrollment_refused", "Connection refused"),
        ("agent enroll http://127.0.0.1:1 flt_x --state-dir /proc/nowhere", "system_error", "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    line: str, code: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line begins with a stable code and names what was wrong or what to do."""
    assert run(line.split(" ")) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    found, words = one_line(shown.err)
    assert found == code
    assert says in words


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    """`fleetlog up` where nothing can be written says where, and starts nothing."""
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "gateways.cli", "up", "--data-dir", str(tmp_path / "file" / "data")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    code, words = one_line(done.stderr)
    assert code == "unusable_file"
    assert str(tmp_path / "file") in words


@pytest.mark.parametrize("line", ["projections list", "projections verify clients", "config nats"])
def test_a_database_without_the_schema(
    line: str, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What needs the schema says that it is missing, and how to bring it."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", empty_postgres_url)
    assert run(line.split()) == 2
    code, words = one_line(capsys.readouterr().err)
    assert code == "not_migrated"
    assert "fleetlog migrate" in words


def test_a_rebuild_that_meets_an_event_from_the_future(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An event that this version cannot read is named, and the tables stay as they are."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO fleetlog.events (originator_id, originator_version, topic, state, actor, correlation_id)"
            " VALUES (gen_random_uuid(), 1, 'ClientCreated/9', '{}', 'test', gen_random_uuid())"
        )
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)
    assert run(["projections", "rebuild", "clients"]) == 2
    _, words = one_line(capsys.readouterr().err)
    assert "ClientCreated/9" in words


def test_what_is_not_stopped_is_not_resumed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`projections resume` does not pretend to have done something."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", postgres_url)
    assert run(["projections", "resume", "clients"]) == 2
    code, words = one_line(capsys.readouterr().err)
    assert code == "projection_error"
    assert "not stopped" in words


def test_init_prepares_an_empty_database_once(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Roles that run alone get their schema, a first admin key and a token from one command, shown once."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", empty_postgres_url)
    monkeypatch.setenv("FLEETLOG_PUBLIC_URL", "https://fleet.example.com")
    assert run(["init"]) == 0
    first = capsys.readouterr().out
    assert "admin key (shown this once): flk_" in first
    assert "fleetlog agent enroll https://fleet.example.com flt_" in first
    assert "log in as (shown this once):  admin, password " in first
    assert run(["init"]) == 0
    again = capsys.readouterr().out
    assert "flk_" not in again
    assert "password" not in again


def test_the_first_password_may_be_given(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """By a setting or in a file, not by both; a weak one is refused before anything is made. It is shown nowhere."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", empty_postgres_url)
    monkeypatch.setenv("FLEETLOG_ADMIN_PASSWORD", "password1234")
    assert run(["init"]) == 2
    assert one_line(capsys.readouterr().err)[0] == "bad_setting"
    monkeypatch.setenv("FLEETLOG_ADMIN_PASSWORD", "four blue Elephants")
    file = tmp_path / "password"
    file.write_text("four blue Elephants\n")
    monkeypatch.setenv("FLEETLOG_ADMIN_PASSWORD_FILE", str(file))
    assert run(["init"]) == 2
    capsys.readouterr()
    monkeypatch.delenv("FLEETLOG_ADMIN_PASSWORD")
    assert run(["init"]) == 0
    printed = capsys.readouterr().out
    assert "admin, with the password that was set" in printed
    assert "Elephants" not in printed


def test_an_end_of_input_is_an_answer_at_a_prompt_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who closes the input when asked has given up: 130. Anywhere else an end of data is a fault, and shows as one."""

    def register(app: typer.Typer) -> None:
        @app.command()
        def ask() -> None:
            typer.confirm("Go on?")

        @app.command()
        def read() -> None:
            raise asyncio.IncompleteReadError(b"half", 8)

    monkeypatch.setattr(program, "REGISTER", (*program.REGISTER, register))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run(["ask"]) == 130
    with pytest.raises(asyncio.IncompleteReadError):
        run(["read"])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` shows the installed version."""
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == metadata.version("fleetlog")


def test_the_agents_half_is_listed_and_completed() -> None:
    """`fleetlog agent` is a command like any other to help and to the shell's completion."""
    environment = os.environ | {"_FLEETLOG_COMPLETE": "complete_bash", "COMP_WORDS": "fleetlog a", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from gateways.cli import main; sys.argv = ['fleetlog']; sys.exit(main())"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(done.stdout.split()) == {"agent", "agents", "approvals", "archive", "audit"}
