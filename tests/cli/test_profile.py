"""Which Fleetlog the command line talks to."""

import stat
from pathlib import Path

import pytest

from gateways.cli.errors import BadValueError, NoAddressError, NoKeyError
from gateways.cli.profile import LOCAL_PROFILE, Profile, find, save

KEPT = Profile("https://fleet.example.com", "flk_kept")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"FLEETLOG_PROFILE": str(tmp_path / "config" / "profile.json"), "FLEETLOG_DATA_DIR": str(tmp_path / "data")}


def test_nothing_known(env: dict[str, str]) -> None:
    """Without any address the reader is told how to come by one."""
    with pytest.raises(NoAddressError, match="fleetlog up"):
        find(None, None, env)


def test_what_login_kept_is_used_and_private(env: dict[str, str]) -> None:
    """The profile is readable by its owner alone, and found again."""
    file = Path(env["FLEETLOG_PROFILE"])
    save(KEPT, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert find(None, None, env) == KEPT


def test_a_wider_profile_is_made_private_when_it_is_saved_again(env: dict[str, str]) -> None:
    """Saving replaces the file, so its old permissions do not live on."""
    file = Path(env["FLEETLOG_PROFILE"])
    file.parent.mkdir()
    file.write_text("{}")
    file.chmod(0o644)
    save(KEPT, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_platform_on_this_machine_is_found(env: dict[str, str]) -> None:
    """Where `fleetlog up` runs, no login is needed."""
    save(Profile("http://127.0.0.1:8470", "flk_local"), Path(env["FLEETLOG_DATA_DIR"]) / LOCAL_PROFILE)
    assert find(None, None, env) == Profile("http://127.0.0.1:8470", "flk_local")
    save(KEPT, Path(env["FLEETLOG_PROFILE"]))
    assert find(None, None, env) == KEPT


def test_options_beat_the_environment_and_that_beats_the_profile(env: dict[str, str]) -> None:
    """The nearer word counts."""
    save(KEPT, Path(env["FLEETLOG_PROFILE"]))
    near = env | {"FLEETLOG_URL": "http://env", "FLEETLOG_API_KEY": "flk_env"}
    assert find(None, None, near) == Profile("http://env", "flk_env")
    assert find("http://option/", "flk_option", near) == Profile("http://option", "flk_option")


def test_a_kept_key_goes_only_where_it_belongs(env: dict[str, str]) -> None:
    """Another address does not get to see the key that was kept for this one."""
    save(KEPT, Path(env["FLEETLOG_PROFILE"]))
    assert find("https://fleet.example.com/", None, env) == KEPT
    with pytest.raises(NoKeyError):
        find("https://elsewhere.example.com", None, env)


@pytest.mark.parametrize("text", ["not json", "[]", '{"url": "http://x"}'])
def test_a_damaged_profile_is_named(env: dict[str, str], text: str) -> None:
    """A file that cannot be understood is named, not skipped."""
    file = Path(env["FLEETLOG_PROFILE"])
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(BadValueError, match=r"profile\.json"):
        find(None, None, env)


def test_an_address_without_a_scheme_is_refused(env: dict[str, str]) -> None:
    """What is no web address is refused in words."""
    with pytest.raises(BadValueError, match="http"):
        find("fleet.example.com", "flk_x", env)
