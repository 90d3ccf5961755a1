"""Settings and how they are shown."""

from pathlib import Path

import pytest

from gateways.local.addresses import is_loopback, parse_listen, reachable
from gateways.settings import SettingsError, load_settings, mask_url, show_settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("POSTGRES_URL", "NATS_URL", "REDIS_URL", "LISTEN_PORT", "CONFIG", "DATA_DIR"):
        monkeypatch.delenv(f"FLEETLOG_{name}", raising=False)


def test_command_line_before_environment_before_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The nearer word counts, and `config show` says whose it was."""
    (tmp_path / "fleetlog.toml").write_text("listen_port = 1\nlease_s = 2\nworker_threads = 3\n")
    monkeypatch.setenv("FLEETLOG_LISTEN_PORT", "4")
    monkeypatch.setenv("FLEETLOG_LEASE_S", "5")
    settings = load_settings(listen_port=6)
    assert (settings.listen_port, settings.lease_s, settings.worker_threads) == (6, 5, 3)
    sources = {shown.name: shown.source for shown in show_settings(settings)}
    assert sources["worker_threads"] == "fleetlog.toml"
    assert sources["lease_s"] == "environment"
    assert sources["listen_port"] == "command line"
    assert sources["log_level"] == "default"


def test_every_setting_is_explained() -> None:
    """There is no setting without a word on what it means."""
    assert all(shown.description for shown in show_settings(load_settings()))


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password is masked wherever settings are shown."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", "postgresql://me:hunter2@db/x")
    monkeypatch.setenv("FLEETLOG_REDIS_URL", "redis://:hunter2@cache:6379/0")
    settings = load_settings()
    assert "hunter2" not in repr([*show_settings(settings), settings])


@pytest.mark.parametrize(
    "url",
    ["postgresql://a:pw@h/d", "postgresql://a@h/d?password=pw", "redis://:pw@h", "nats://a:pw@h,nats://b:pw@i", "pw"],
)
def test_urls_lose_their_passwords(url: str) -> None:
    """Whatever form a URL has, its password does not come through."""
    assert "pw" not in mask_url(url)


def test_a_bad_value_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which setting is wrong; the value might be a secret."""
    monkeypatch.setenv("FLEETLOG_POSTGRES_URL", "mysql://me:hunter2@db/x")
    with pytest.raises(SettingsError, match="FLEETLOG_POSTGRES_URL") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    """A misspelt setting is an error, not a silence."""
    (tmp_path / "fleetlog.toml").write_text("listen_prot = 1\n")
    with pytest.raises(SettingsError, match=r"fleetlog\.toml: there is no setting 'listen_prot'"):
        load_settings()


def test_a_missing_config_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was asked for must be there."""
    monkeypatch.setenv("FLEETLOG_CONFIG", "/nonexistent/fleetlog.toml")
    with pytest.raises(SettingsError, match="no such file"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0", ("0.0.0.0", 8470)),  # noqa: S104 -- parsed, not bound
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("::", ("::", 8470)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 8470)),
    ],
)
def test_listen_addresses(text: str, expected: tuple[str, int]) -> None:
    """HOST[:PORT], with brackets where an IPv6 address has a port."""
    assert parse_listen(text, 8470) == expected


@pytest.mark.parametrize("text", ["", ":80", "a:b", "a:70000", "[::1", "[::1]80"])
def test_bad_listen_addresses(text: str) -> None:
    """What is no address is refused before anything starts."""
    with pytest.raises(ValueError, match="HOST"):
        parse_listen(text, 8470)


def test_addresses_for_others() -> None:
    """What listens everywhere is told by an address that another machine can use."""
    assert not is_loopback(reachable("0.0.0.0")[0])  # noqa: S104 -- as above
    assert reachable("192.0.2.7") == ["192.0.2.7"]


def test_a_certificate_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents would be told nothing of the authority; that is said at the start."""
    monkeypatch.setenv("FLEETLOG_NATS_CA_FILE", "/nowhere/ca.pem")
    with pytest.raises(SettingsError, match=r"FLEETLOG_NATS_CA_FILE: /nowhere/ca\.pem cannot be read"):
        load_settings()
