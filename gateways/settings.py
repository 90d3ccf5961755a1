"""Every setting of the platform: from the environment (`FLEETLOG_...`), a TOML file, or the command line."""

import ipaddress
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import platformdirs
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from gateways.local.addresses import is_loopback

PREFIX = "FLEETLOG_"
CONFIG_VARIABLE = "FLEETLOG_CONFIG"
DEFAULT_FILES = (Path("fleetlog.toml"), Path("/etc/fleetlog/fleetlog.toml"))
MASK = "********"


class SettingsError(Exception):
    """A setting has a value that cannot be used."""

    code = "bad_setting"


class Tls(StrEnum):
    """Where TLS ends."""

    AUTO = "auto"
    ALWAYS = "always"
    PROXY = "proxy"


class LogFormat(StrEnum):
    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def default_data_dir() -> Path:
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/fleetlog")
    return platformdirs.user_data_path("fleetlog")


def config_file() -> Path | None:
    """The file that settings are read from: the one that FLEETLOG_CONFIG names, else the first default that exists.

    Raises:
        SettingsError: FLEETLOG_CONFIG names a file that is not there.
    """
    if named := os.environ.get(CONFIG_VARIABLE):
        if not Path(named).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE} names {named}, and there is no such file.")
        return Path(named)
    return next((file for file in DEFAULT_FILES if file.is_file()), None)


class Settings(BaseSettings):
    """What one process of the platform is told. Build it with `load_settings`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, env_ignore_empty=True)

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Where embedded servers keep their data, and `fleetlog up` its lock, logs and profile.",
    )

    postgres_url: SecretStr | None = Field(
        default=None,
        description="Postgres as the application; its login must be a member of the role fleetlog_app. "
        "Without it, `fleetlog up` runs its own.",
    )
    postgres_pooler_url: SecretStr | None = Field(
        default=None,
        description="The same database through a pooler (PgBouncer) that pools by transaction, for queries; "
        "postgres_url stays the server's own address. Without it, every connection goes to the server.",
    )
    postgres_admin_url: SecretStr | None = Field(
        default=None,
        description="The same database as its owner, for `fleetlog migrate` and `fleetlog up`; "
        "without it, migrations use postgres_url.",
    )
    nats_url: SecretStr | None = Field(
        default=None,
        description="NATS, configured as `fleetlog config nats` prints: nats://HOST:4222, several separated by commas. "
        "Without it, `fleetlog up` runs its own.",
    )
    nats_agent_urls: str | None = Field(
        default=None,
        description="Where agents reach NATS, several separated by commas; told to each agent when it enrolls. "
        "Without it: nats_url.",
    )
    nats_ca_file: Path | None = Field(
        default=None,
        description="Certificate authority of the NATS servers (PEM) where it is not a public one; agents are told, "
        "and trust no other from then on. Read anew for each connection.",
    )
    nats_tls_name: str | None = Field(
        default=None,
        description="The host that the NATS servers' certificate is for, where it is not the one in nats_url.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="Valkey or Redis for background work. Without it, `fleetlog up` runs its own.",
    )

    listen_host: str = Field(default="127.0.0.1", description="The address that the API listens on.")
    listen_port: int = Field(default=8470, ge=0, le=65535, description="The port that the API listens on; 0: any.")
    nats_listen_port: int = Field(
        default=4222,
        ge=1,
        le=65535,
        description="The port of the embedded NATS when it is open to other machines; on the loopback it takes a "
        "free one.",
    )
    nats_websocket_port: int | None = Field(
        default=None, ge=1, le=65535, description="A port at which the embedded NATS takes WebSocket connections, too."
    )
    public_url: str | None = Field(
        default=None,
        description="The API's address as agents and people reach it. Without it: made from where it listens.",
    )
    tls: Tls = Field(
        default=Tls.AUTO,
        description="Where TLS ends. auto: here, wherever other machines can come in; always: on the loopback, too; "
        "proxy: at a proxy in front; everything here is plain text, and answers trusted_proxies alone.",
    )
    tls_cert_file: Path | None = Field(
        default=None,
        description="The certificate (PEM, with its chain) of the API and of the embedded NATS; replaced, it is taken "
        "up without a restart. Without it, `fleetlog up` makes an authority of its own in data_dir.",
    )
    tls_key_file: Path | None = Field(default=None, description="The key of that certificate (PEM).")
    tls_ca_file: Path | None = Field(
        default=None,
        description="The authority of that certificate (PEM) where it is not a public one, and any that will follow; "
        "agents are told, and trust no other from then on.",
    )
    trusted_proxies: str = Field(
        default="127.0.0.1",
        description="Addresses and networks of proxies whose X-Forwarded-For is believed, separated by commas. With "
        "tls=proxy nobody but them and this machine is answered, where it listens for others.",
    )
    status_host: str = Field(
        default="127.0.0.1",
        description="Where each role but the API serves /healthz and /metrics, on a free port that `fleetlog status` "
        "shows.",
    )
    metrics_open: bool = Field(
        default=False,
        description="Show /metrics to whoever asks. Otherwise it takes a key with `platform.see`, except over the "
        "loopback.",
    )

    lease_s: float = Field(
        default=10.0, ge=1, le=3600, description="How long a gateway may deliver to an agent before others may."
    )
    delivery_concurrency: int = Field(
        default=256, ge=1, le=10_000, description="Deliveries that a gateway has under way at once."
    )
    uplink_group: int = Field(
        default=500, ge=1, le=5_000, description="Results that a gateway records in one commit at the most."
    )
    command_expiry_s: int = Field(
        default=7 * 86_400,
        ge=60,
        le=366 * 86_400,
        description="How long a command waits for its agent unless it says so itself.",
    )
    key_requests_per_s: float = Field(
        default=500.0,
        ge=0,
        le=100_000,
        description="Requests of one API key to all API processes together, in the long run; for two seconds they may "
        "come at twice that. 0: as many as it likes.",
    )
    enrollments_waiting_per_token: int = Field(
        default=100, ge=1, le=10_000, description="Machines that may wait for approval by one enrollment token."
    )
    enrollments_waiting: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        description="Machines that may wait for approval in all; of one client no more than are left for the others.",
    )
    enrollments_per_minute: int = Field(
        default=1_200,
        ge=0,
        le=1_000_000,
        description="Machines that come by one enrollment token, to all API processes together: so many at once, and "
        "so many a minute in the long run. 0: as many as it has uses.",
    )
    check_ins_per_minute: int = Field(
        default=6_000,
        ge=0,
        le=1_000_000,
        description="Check-ins of one agent over HTTP, likewise, and questions of a machine that waits for approval. "
        "0: as many as it likes.",
    )
    postgres_pool: int = Field(default=8, ge=2, le=200, description="Connections for queries in one process.")
    stop_timeout_s: float = Field(
        default=20.0, ge=1, le=600, description="How long a role may finish what is in flight when it is stopped."
    )
    worker_threads: int = Field(default=4, ge=1, le=64, description="Background jobs at once in one worker process.")

    archive_after_days: int | None = Field(
        default=None,
        ge=1,
        description="Commands and rollouts that ended so long ago move from the log's table into the archive, by a "
        "worker that knows postgres_admin_url. Without it: only when `fleetlog archive run` is called. Holds until "
        "`fleetlog retention set`.",
    )
    archive_dir: Path | None = Field(
        default=None,
        description="A folder for the archive's segments, which every process must see under this path. "
        "Without it, they are kept in the database.",
    )

    telemetry_keep_days: int = Field(
        default=14, ge=1, le=366, description="How busy machines were is kept for so long; it is in no backup."
    )
    software_keep_days: int = Field(
        default=90,
        ge=1,
        description="The list of what was installed on a machine is kept for so long after it changed; what changed is "
        "in the log for ever.",
    )
    output_keep_days: int | None = Field(
        default=None,
        ge=1,
        description="Whole outputs that no result has named for so long are removed; events keep their size, hash and "
        "tail. Without it, they are kept for ever. Holds until `fleetlog retention set`.",
    )
    output_keep_bytes: int | None = Field(
        default=None,
        ge=0,
        description="When whole outputs are larger than that in all, those named longest ago are removed. Holds until "
        "`fleetlog retention set`.",
    )

    audit_checkpoint_events: int = Field(
        default=16_384,
        ge=1,
        le=1_000_000,
        description="Events under one checkpoint of the audit chain at the most; a proof reads that many hashes.",
    )
    audit_checkpoint_s: int = Field(
        default=600, ge=1, le=7 * 86_400, description="How long an event waits for a checkpoint at the most."
    )
    audit_key_file: Path | None = Field(
        default=None,
        description="The Ed25519 key (PEM) that signs checkpoints, made when it is not there; every worker needs "
        "the same. Without it, the key lies in the database, where whoever can rewrite the log can sign, too.",
    )
    audit_export_dir: Path | None = Field(
        default=None,
        description="A folder that gets every checkpoint as a file, and the hashes of its events beside it: 40 bytes "
        "for each.",
    )
    audit_export_webhook: SecretStr | None = Field(
        default=None, description="A URL that gets every checkpoint by POST, in order, until it answers 2xx."
    )
    audit_export_command: str | None = Field(
        default=None,
        description="A program (with arguments, no shell) that gets every checkpoint: the path of a file as its last "
        "argument, the same on standard input. It is tried again until it exits with 0.",
    )
    secrets_key_file: Path | None = Field(
        default=None,
        description="Holds the master key that secrets are sealed with: 32 bytes in base 64, one a line, the present "
        "one first. Without this or another source: secrets.key in data_dir, made when the first secret is set.",
    )
    secrets_key: SecretStr | None = Field(
        default=None, description="The same keys themselves, separated by commas, in place of a file."
    )
    secrets_key_command: str | None = Field(
        default=None,
        description="A hook to a key service in place of a file: run with `wrap` or `unwrap`, it turns what it reads "
        "into what it prints, both in base 64.",
    )

    forward_allowed_networks: str = Field(
        default="",
        description="Networks that events may be forwarded into though they are not public, and in plain text, "
        "separated by commas: 10.1.2.0/24, 127.0.0.1. Without it, forwarding reaches public addresses alone, by TLS.",
    )

    admin_password: SecretStr | None = Field(
        default=None,
        description="What the first start gives the first administrator, to be changed at the first login. Without it, "
        "one is made and shown once.",
    )
    admin_password_file: Path | None = Field(
        default=None, description="Holds the same, on its first line, in place of admin_password."
    )
    session_idle_s: int = Field(
        default=1_800, ge=60, le=7 * 86_400, description="A person's session that is not used for so long is over."
    )
    session_life_s: int = Field(
        default=43_200,
        ge=300,
        le=30 * 86_400,
        description="How long a person's session lasts, however much it is used.",
    )
    proof_life_s: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="How long after a password or code a person may do what can do harm; then they are asked again.",
    )
    proof_agents: int = Field(
        default=50, ge=0, description="An action of a person's that touches more agents asks for such a proof."
    )
    password_hashes_at_once: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Passwords that one API process checks side by side; each takes 64 MiB for a fifth of a second.",
    )

    oidc_issuer: str | None = Field(
        default=None,
        description="The provider (OpenID Connect) that people may log in through: its issuer, to the letter, as "
        "https://login.example.com/realms/main. Register `/login/sso` of this server with it.",
    )
    oidc_client_id: str | None = Field(default=None, description="What this installation is called there.")
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Its secret there; without it, it is a public client, and PKCE alone has to do."
    )
    oidc_name: str = Field(default="", max_length=60, description="What people call that provider: its host.")
    oidc_ca_file: Path | None = Field(
        default=None, description="The authority of its certificate (PEM) where that is not a public one."
    )
    oidc_scopes: str = Field(
        default="openid email profile", description="What is asked for there, separated by spaces."
    )
    oidc_trusted_amr: str = Field(
        default="",
        description="Authentication methods (`amr`, as mfa,otp,hwk) that stand for a second factor where the provider "
        "names one of them, separated by commas. Without any, a code is asked here.",
    )
    oidc_trusted_acr: str = Field(
        default="", description="The same of authentication contexts (`acr`); they are asked for, too."
    )
    oidc_user_domains: str = Field(
        default="",
        description="Who has an address in one of these domains that the provider has verified gets a user at their "
        "first login; separated by commas. Without any, an administrator adds users and links them.",
    )
    oidc_roles_claim: str = Field(default="groups", description="The claim that names somebody's groups.")
    oidc_roles: str = Field(
        default="",
        description="Which role a group stands for: VALUE=ROLE, several separated by commas, each over everything. At "
        "each login through the provider; taken away at the first login without the group. What is granted here stays.",
    )

    log_level: LogLevel = Field(default=LogLevel.INFO, description="What is worth a line.")
    log_format: LogFormat = Field(
        default=LogFormat.AUTO, description="console or json; auto: console on a terminal, JSON otherwise."
    )

    _given: frozenset[str] = PrivateAttr(default=frozenset())
    """Which came from the command line."""

    @field_validator("postgres_url", "postgres_pooler_url", "postgres_admin_url", mode="after")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, ("postgresql://", "postgres://"))

    @field_validator("redis_url", mode="after")
    @classmethod
    def _is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, ("redis://", "rediss://", "unix://"))

    @field_validator("audit_export_webhook", mode="after")
    @classmethod
    def _is_web(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, ("http://", "https://"))

    @field_validator("forward_allowed_networks", mode="after")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for word in value.split(","):
            if word.strip():
                ipaddress.ip_network(word.strip())
        return value

    @field_validator("audit_export_command", mode="after")
    @classmethod
    def _is_command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("it names no program")
        return value

    @field_validator("oidc_issuer", mode="after")
    @classmethod
    def _is_issuer(cls, value: str | None) -> str | None:
        from command_bus.sso_terms import must_be_reachable_safely  # noqa: PLC0415 -- most of the command line asks nobody

        return None if value is None else must_be_reachable_safely(value, loopback=True)

    @field_validator("nats_ca_file", "tls_cert_file", "tls_key_file", "tls_ca_file", "oidc_ca_file", mode="after")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            raise ValueError(f"{value} cannot be read")
        return value

    @field_validator("nats_url", mode="after")
    @classmethod
    def _is_nats(cls, value: SecretStr | None) -> SecretStr | None:
        return _with_scheme(value, ("nats://", "tls://", "ws://", "wss://"))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line before the environment before the file."""
        del dotenv_settings, file_secret_settings
        file = config_file()
        files = (TomlConfigSettingsSource(settings_cls, file),) if file is not None else ()
        return (init_settings, env_settings, *files)

    @property
    def api_url(self) -> str:
        """Where people and agents of this machine reach the API."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.listen_host, self.listen_host)  # noqa: S104 -- compared
        return f"{self.scheme}://{host}:{self.listen_port}"

    @property
    def scheme(self) -> str:
        """Of the API, as it listens."""
        plain = self.tls is Tls.PROXY or (self.tls is Tls.AUTO and is_loopback(self.listen_host))
        return "http" if plain or self.tls_cert_file is None else "https"

    @property
    def database_url(self) -> str:
        """The database as the application, and its pooler for those who pool."""
        from command_bus.postgres import Pooled  # noqa: PLC0415 -- most of the command line needs no driver

        url = need(self.postgres_url, "postgres_url")
        pooler = self.postgres_pooler_url
        return url if pooler is None else Pooled(url, pooler.get_secret_value())

    @property
    def migration_url(self) -> str:
        """The database as its owner."""
        return need(self.postgres_admin_url or self.postgres_url, "postgres_url")


def _with_scheme(value: SecretStr | None, schemes: tuple[str, ...]) -> SecretStr | None:
    for url in value.get_secret_value().split(",") if value is not None else ():
        if not url.strip().startswith(schemes):
            raise ValueError(f"it must begin with {' or '.join(schemes)}")
    return value


def need(value: SecretStr | None, name: str) -> str:
    """A secret that a role cannot do without.

    Raises:
        SettingsError: it is not set.
    """
    if value is None:
        raise SettingsError(
            f"{PREFIX}{name.upper()} is not set. `fleetlog up` sets it for what it starts; alone, a role must be told."
        )
    return value.get_secret_value()


def load_settings(**given: Any) -> Settings:
    """Read the settings.

    Args:
        given: from the command line; None means not given.

    Raises:
        SettingsError: names each setting that cannot be used, never its value (it may be a secret).
    """
    try:
        named = {name: value for name, value in given.items() if value is not None}
        settings = Settings(**named)
    except ValidationError as error:
        raise SettingsError(
            "; ".join(_fault(fault["type"], fault["loc"], fault["msg"]) for fault in error.errors())
        ) from None
    except ValueError as error:  # the TOML file is no TOML
        raise SettingsError(f"{config_file()}: {error}") from error
    settings._given = frozenset(named)  # noqa: SLF001 -- this function is its constructor
    return settings


def _fault(kind: str, place: tuple[int | str, ...], text: str) -> str:
    name = str(place[0]) if place else ""
    if kind == "extra_forbidden":
        return f"{config_file()}: there is no setting {name!r}; `fleetlog config show` lists them"
    return f"{PREFIX}{name.upper()}: {text.removeprefix('Value error, ')}"


class Shown(msgspec.Struct, frozen=True):
    """One setting for `fleetlog config show`."""

    name: str
    variable: str
    value: Any
    source: str
    description: str


def show_settings(settings: Settings) -> list[Shown]:
    """Every setting with its value (secrets masked) and where it came from."""
    file = config_file()
    in_file: dict[str, Any] = {}
    if file is not None:
        in_file = TomlConfigSettingsSource(Settings, file)()
    environment = {name.upper() for name, value in os.environ.items() if value}
    shown = []
    for name, field in Settings.model_fields.items():
        variable = f"{PREFIX}{name.upper()}"
        value = getattr(settings, name)
        if name in settings._given:  # noqa: SLF001 -- as above
            source = "command line"
        elif variable in environment:
            source = "environment"
        else:
            source = str(file) if name in in_file else "default"
        if isinstance(value, SecretStr):
            value = MASK if name.endswith("password") else mask_url(value.get_secret_value())
        elif not isinstance(value, (int, float, str, type(None))):
            value = str(value)
        shown.append(Shown(name, variable, value, source, field.description or ""))
    return shown


def mask_url(urls: str) -> str:
    """URLs without their passwords."""
    return ",".join(_mask_one(url) for url in urls.split(","))


def _mask_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK
    credentials, at, where = rest.rpartition("@")
    if not at:
        return url if "password" not in rest else f"{scheme}://{MASK}"
    user, colon, _ = credentials.partition(":")
    where = where if "password" not in where else MASK
    return f"{scheme}://{user}{colon and ':' + MASK}@{where}"
