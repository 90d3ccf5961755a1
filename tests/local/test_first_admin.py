"""An installation from before people could log in gets an administrator who can, on the server itself."""

import asyncio
import re
from pathlib import Path

import pytest

from command_bus.context import Caller
from command_bus.ids import new_id
from command_bus.intents.api_keys import CreateApiKey
from command_bus.intents.users import CreateUser
from command_bus.master_keys import GivenKeys
from domain.errors import NameTakenError
from domain.roles import Role
from gateways.local import first_steps
from gateways.local.platform_file import Platform
from gateways.local.supervisor import Supervisor
from gateways.settings import SettingsError, load_settings
from tests.cli.terminal import Terminal
from tests.rest.conftest import administered
from tests.rest.harness import KEYS


def system() -> Caller:
    return Caller(actor="system", correlation_id=new_id())


async def test_who_upgrades_gets_an_administrator(postgres_url: str, tmp_path: Path) -> None:
    """The start says that nobody can log in; once somebody can, it says so no more, and a second is not made."""
    async with administered(postgres_url) as api:
        # As a first start left it, before there were passwords.
        await api.bus.dispatch(CreateApiKey(name=first_steps.ADMIN_KEY, role=Role.ADMIN, unattended=True), system())
        assert await first_steps.take(postgres_url, tmp_path / "cli.json", api.url, KEYS) is None
        assert await first_steps.nobody_has_a_password(postgres_url)
        password = await first_steps.add_administrator(postgres_url, KEYS, "admin")
        assert not await first_steps.nobody_has_a_password(postgres_url)
        body = {"user": "admin", "password": password, "bearer": True}
        begun = await api.client("").post("/session", json=body)
        assert (begun.status_code, begun.json()["pending"]) == (201, ["password", "totp"])
        with pytest.raises(NameTakenError, match="set-password"):
            await first_steps.add_administrator(postgres_url, KEYS, "Admin")
        assert await first_steps.add_administrator(postgres_url, KEYS, "second", "four blue Elephants") is None


async def test_what_was_broken_off_goes_on(postgres_url: str) -> None:
    """A user of that name who may do everything and has no password gets one; one who may less stays as they are."""
    async with administered(postgres_url) as api:
        with pytest.raises(SettingsError, match="cannot be kept"):
            await first_steps.add_administrator(postgres_url, GivenKeys([]), "admin")
        assert await first_steps.add_administrator(postgres_url, KEYS, "admin")
        await api.bus.dispatch(CreateUser(name="lesser"), system())
        # A key that a program makes brings an account of its name: no person logs in by that.
        await api.bus.dispatch(CreateApiKey(name="robot", role=Role.ADMIN), system())
        for name in ("lesser", "robot"):
            with pytest.raises(NameTakenError):
                await first_steps.add_administrator(postgres_url, KEYS, name)


async def test_the_command_says_how_to_log_in(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a password that is shown once, or not where it was given; a weak one is refused before anything is made."""
    from typer.testing import CliRunner

    from gateways.cli.program import make_app

    for name, value in {
        "FLEETLOG_POSTGRES_URL": postgres_url,
        "FLEETLOG_DATA_DIR": str(tmp_path),
        "FLEETLOG_SECRETS_KEY": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    }.items():
        monkeypatch.setenv(name, value)

    async def typed(*words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(CliRunner().invoke, make_app(), ["first-admin", *words], catch_exceptions=False)
        return done.exit_code, done.output

    async with administered(postgres_url) as api:
        code, said = await typed()
        assert code == 0, said
        password = re.search(r"password (\S+) \(shown this once\)", said)
        assert password is not None, said
        body = {"user": "admin", "password": password[1], "bearer": True}
        assert (await api.client("").post("/session", json=body)).status_code == 201
        code, said = await typed()
        assert (code, "name_taken" in said) == (2, True)
        monkeypatch.setenv("FLEETLOG_ADMIN_PASSWORD", "password")
        assert (await typed("--name", "other"))[0] == 2
        monkeypatch.setenv("FLEETLOG_ADMIN_PASSWORD", "four blue Elephants")
        code, said = await typed("--name", "other")
        assert (code, "with the password that was set" in said) == (0, True)
        terminal = Terminal(api.url, api.admin_key)
        assert "other" in await terminal.ok("users")


def test_the_start_says_so() -> None:
    """What to do stands below the address, where nobody can log in, and only there."""
    platform = Platform(
        pid=1,
        api_url="http://127.0.0.1:8470",
        listen_host="127.0.0.1",
        listen_port=8470,
        postgres_url="",
        postgres_admin_url="",
        nats_url="",
        nats_agent_urls="",
        redis_url="",
    )
    supervisor = Supervisor(load_settings(), lambda _: None)
    assert first_steps.NOBODY not in "\n".join(supervisor._lines(platform, None))
    supervisor._nobody = True
    assert first_steps.NOBODY in "\n".join(supervisor._lines(platform, None))
    assert "fleetlog first-admin" in first_steps.NOBODY
