"""The Fleetlog of this machine, or the one that is configured, for commands that go to it by themselves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateways.cli.errors import NoPlatformError

if TYPE_CHECKING:
    from gateways.settings import Settings


def settings_of(data_dir: Path | None = None, **given: Any) -> "Settings":
    """The settings, completed by the `fleetlog up` of this machine.

    Raises:
        NoPlatformError: none runs here, and no database is configured.
    """
    from gateways.local.platform_file import completed  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    settings = completed(load_settings(data_dir=data_dir, **given))
    if settings.postgres_url is None:
        raise NoPlatformError(
            f"No Fleetlog runs on {settings.data_dir}: start it with `fleetlog up`, name its place with --data-dir, "
            "or set FLEETLOG_POSTGRES_URL."
        )
    return settings


def conninfo_of(data_dir: Path | None = None) -> str:
    """How the application connects to its database."""
    from command_bus.postgres import app_conninfo  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415

    return app_conninfo(need(settings_of(data_dir).postgres_url, "postgres_url"), name="fleetlog-cli")


def database_of(settings: "Settings") -> str:
    """The database's address, once it has answered there: what starts an event log would wait for it for ever."""
    import psycopg  # noqa: PLC0415

    from command_bus.postgres import app_conninfo  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415

    url = need(settings.postgres_url, "postgres_url")
    psycopg.connect(app_conninfo(url, name="fleetlog-cli")).close()
    return url


def position_of(url: str, at: str) -> int:
    """A position of the log, as it was typed or as of a time."""
    import psycopg  # noqa: PLC0415

    from command_bus.postgres import app_conninfo  # noqa: PLC0415
    from gateways.cli.times import point  # noqa: PLC0415
    from projections import times  # noqa: PLC0415

    if at.isdecimal():
        return int(at)
    moment = point(at, datetime.now(UTC), past=True)
    with psycopg.connect(app_conninfo(url, name="fleetlog-cli"), autocommit=True) as connection:
        return times.answered(connection, times.position_at(moment))
