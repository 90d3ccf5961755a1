"""People log in, out and about from the command line."""

import os
import stat
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from command_bus.ids import new_id
from command_bus.repository import load
from domain.event import Metadata
from domain.ids import UserId
from domain.logins import Login, login_stream
from domain.passkeys import Passkey
from gateways.cli import first_login, session
from gateways.cli.profile import kept
from tests.cli.terminal import Terminal
from tests.rest.harness import Api
from tests.rest.people import FIRST, SECOND, Person

ALL = {"role": "administrator", "everything": True}


@pytest.fixture(autouse=True)
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile of the test's own."""
    file = tmp_path / "config" / "profile.json"
    monkeypatch.setenv("FLEETLOG_PROFILE", str(file))
    monkeypatch.setenv("FLEETLOG_DATA_DIR", str(tmp_path))
    return file


@pytest.fixture
def person(terminal: Terminal) -> Terminal:
    """A terminal with neither address nor key of its own."""
    return Terminal("", "", terminal.settle)


async def test_a_first_login_at_the_terminal(
    api: Api, person: Terminal, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is changed, a second factor enrolled by what is shown, the session kept for its owner alone."""
    ada = await Person.add(api, "Ada", ALL)
    told: list[str] = []
    draw = first_login.qr_code

    def scan(uri: str) -> str:
        told.append(uri)
        return draw(uri)

    answers = iter(["", "scanned"])

    def asked(prompt: str) -> str:
        del prompt
        answer = next(answers)
        return answer if answer != "scanned" else pyotp.parse_uri(told[0]).at(api.clock())

    monkeypatch.setattr("gateways.cli.first_login.qr_code", scan)
    for module in ("login", "first_login"):
        monkeypatch.setattr(f"gateways.cli.{module}.asked", asked)
    printed = await person.ok("login", api.url, "--user", "ada", stdin=f"{FIRST}\n{SECOND}\n")
    assert "Logged in" in printed
    assert "administrator" in printed
    assert "█" in printed
    assert len([line for line in printed.splitlines() if line.startswith("  ") and line.count("-") == 3]) == 10
    assert FIRST not in printed
    assert SECOND not in printed
    assert stat.S_IMODE(os.stat(profile).st_mode) == 0o600  # noqa: PTH116 - a test's own file
    assert (await person.json("me"))["actor"] == f"user:{ada.user_id}"
    await person.ok("clients", "add", "Acme")


async def test_login_sessions_and_logout(api: Api, person: Terminal) -> None:
    """What a person's session may do is done in it; it is listed, ended by its id, and gone with the logout."""
    ada = await Person.ready(api, "Ada", ALL)
    wrong = f"wrong wrong wrong\n{ada.code()}\n"
    assert await person.refused("login", api.url, "--user", "Ada", stdin=wrong) == "login_refused"
    assert kept() is None
    await person.ok("login", api.url, "--user", "Ada", stdin=f"{SECOND}\n{ada.code()}\n")
    listed = await person.json("sessions")
    assert [one["current"] for one in listed] == [True, False]
    assert listed[0]["agent"] == "fleetlog-cli"
    assert "127.0.0.1" in await person.ok("sessions")
    await person.ok("sessions", "end", listed[1]["id"][-12:])
    assert (await ada.http.get("/session")).status_code == 401
    assert await person.refused("sessions", "end", "ffffffff") == "not_found"
    login = await load(api.log, Login, login_stream(ada.user_id))
    for name in ("laptop", "phone", "phone"):
        passkey = Passkey(name, f"{name}{login.version}", "key")
        change = login.add_passkey(UserId(ada.user_id), passkey, synced=False)
        await api.log.append([change], Metadata(actor="system", correlation_id=new_id()))
    await person.ok("passkeys", "rename", "laptop", "desk")
    assert [one["name"] for one in await person.json("passkeys")] == ["desk", "phone", "phone"]
    await person.ok("passkeys", "remove", "desk")
    assert await person.refused("passkeys", "remove", "desk") == "not_found"
    assert await person.refused("passkeys", "rename", "phone", "x") == "ambiguous"
    before = kept()
    assert before is not None
    await person.ok("logout")
    assert kept() is None
    assert (await api.client(before.key).get("/session")).status_code == 401
    assert await person.refused("me") == "no_address"
    await person.ok("login", api.url, "--user", "Ada", stdin=f"{SECOND}\n{ada.code()}\n")
    await person.ok("sessions", "end-all")
    assert await person.refused("me") == "unauthenticated"
    assert "Forgotten" in await person.ok("logout")


async def test_a_proof_is_asked_for(api: Api, person: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody sits there the refusal says what to do; at a terminal it is asked for, and the command goes on."""
    ada = await Person.ready(api, "Ada", ALL)
    await person.ok("login", api.url, "--user", "Ada", stdin=f"{SECOND}\n{ada.code()}\n")
    api.clock.ahead += timedelta(minutes=10)
    assert await person.refused("users", "add", "Bob") == "fresh_proof_needed"
    assert await person.refused("prove", stdin="wrong wrong wrong\n") == "proof_refused"
    await person.ok("prove", stdin=f"{SECOND}\n")
    await person.ok("users", "add", "Bob")
    api.clock.ahead += timedelta(minutes=10)
    code = ada.code()
    monkeypatch.setattr("gateways.cli.session.ask_for_proof", lambda: session.proof_of(code))
    await person.ok("users", "add", "Carol")
    api.clock.ahead += timedelta(minutes=10)
    assert await person.refused("users", "add", "Dora") == "proof_refused"


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("123456", "code"),
        ("123 456", "code"),
        ("ABCD-EFGH-2345-6777", "code"),
        ("four blue Elephants", "password"),
        ("1234567", "password"),
        ("ABCD-EFGH", "password"),
    ],
)
def test_a_code_is_told_from_a_password(typed: str, kind: str) -> None:
    """By its form; whatever else is typed is a password."""
    assert session.proof_of(typed) == {kind: typed}


async def test_ones_own_password_and_codes(api: Api, person: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed at the terminal, the session goes on under a new token; a key in use is told that it has none of it."""
    ada = await Person.ready(api, "Ada", ALL)
    await person.ok("login", api.url, "--user", "Ada", stdin=f"{SECOND}\n{ada.code()}\n")
    before = kept()
    await person.ok("password", stdin=f"{SECOND}\n{FIRST}\n")
    assert kept() != before
    await person.ok("me")
    codes = (await person.json("recovery-codes", stdin=f"{ada.code()}\n"))["recovery_codes"]
    assert len(codes) == 10
    told: list[str] = []
    monkeypatch.setattr("gateways.cli.first_login.qr_code", lambda uri: told.append(uri) or "")
    monkeypatch.setattr("gateways.cli.first_login.asked", lambda _: pyotp.parse_uri(told[0]).at(api.clock()))
    await person.ok("second-factor", stdin=f"{codes[0]}\n")
    await person.ok("me")
    key = Terminal(api.url, api.admin_key)
    assert await key.refused("sessions") == "no_session"
    assert await key.refused("password", stdin=f"{FIRST}\n{SECOND}\n") == "bad_value"
