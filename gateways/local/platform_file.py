"""What a running `fleetlog up` tells the other commands of its machine: where its servers are.

`<data>/platform.json`, readable by its owner alone. It is written when the servers are up and removed when they stop;
after a crash it is stale, and what reads it finds nobody at home.
"""

from pathlib import Path

import msgspec
from pydantic import SecretStr

from gateways.local.server import write_private
from gateways.settings import Settings

NAME = "platform.json"


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses, with credentials."""

    pid: int
    api_url: str
    listen_host: str
    listen_port: int
    postgres_url: str
    postgres_admin_url: str
    nats_url: str
    nats_agent_urls: str
    redis_url: str
    tls_ca_file: str | None = None

    def save(self, data_dir: Path) -> None:
        write_private(data_dir / NAME, msgspec.json.encode(self).decode())


def read(data_dir: Path) -> Platform | None:
    """What the `fleetlog up` of a data directory said, or None."""
    try:
        return msgspec.json.decode((data_dir / NAME).read_bytes(), type=Platform)
    except (FileNotFoundError, PermissionError, msgspec.DecodeError):
        return None  # none runs here, or not for this user, or it is of another version


def remove(data_dir: Path) -> None:
    (data_dir / NAME).unlink(missing_ok=True)


def completed(settings: Settings) -> Settings:
    """Settings in which what is not configured points to the `fleetlog up` of the data directory, if there is one."""
    platform = read(settings.data_dir)
    if platform is None:
        return settings
    here: dict[str, object] = {
        "postgres_url": SecretStr(platform.postgres_url),
        "nats_url": SecretStr(platform.nats_url),
        "redis_url": SecretStr(platform.redis_url),
        "public_url": platform.api_url,
    }
    if settings.postgres_url is None:
        here["postgres_admin_url"] = SecretStr(platform.postgres_admin_url)
    if platform.tls_ca_file is not None:
        here["tls_ca_file"] = Path(platform.tls_ca_file)
        if settings.nats_url is None:
            here["nats_ca_file"] = Path(platform.tls_ca_file)
    unset = {name: value for name, value in here.items() if getattr(settings, name) is None}
    return settings.model_copy(update=unset)
