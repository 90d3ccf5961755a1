"""`fleetlog archive`: move what has ended out of the log's table, list the segments, verify them, copy them away."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateways.cli.options import DataDir, Json
from gateways.cli.output import Output
from gateways.cli.times import span

if TYPE_CHECKING:
    from datetime import timedelta

    from gateways.settings import Settings

OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="SPAN", help="Since the last event of a command or rollout; as 90d.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where the segments go; every process must see it. Otherwise FLEETLOG_ARCHIVE_DIR."),
]


def archive_run(
    older_than: OlderThan = "", folder: Folder = None, as_json: Json = False, data_dir: DataDir = None
) -> None:
    """Move commands and rollouts that ended long ago out of the log's table; everything goes on meanwhile."""
    import msgspec  # noqa: PLC0415

    from command_bus.archiving import archive  # noqa: PLC0415
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.host import at_the_host  # noqa: PLC0415
    from gateways.logs import configure_logs  # noqa: PLC0415
    from gateways.settings import LogLevel, load_settings  # noqa: PLC0415

    configure_logs(LogLevel.WARNING)  # to standard error: what is printed is the result alone
    settings = load_settings(data_dir=data_dir)
    with database(settings, make=False) as url:
        age = span(older_than) if older_than else _age_kept(url, settings)
        done = archive(url, age, folder or settings.archive_dir, actor=at_the_host())
    Output(as_json=as_json).done(
        f"{done.events} events of {done.streams} commands and rollouts, in {done.segments} segments of"
        f" {done.stored_bytes} bytes",
        msgspec.to_builtins(done),
    )


def _age_kept(url: str, settings: "Settings") -> "timedelta":
    """As it is set on record, and else by this process' settings."""
    import asyncio  # noqa: PLC0415
    from datetime import timedelta  # noqa: PLC0415

    import psycopg  # noqa: PLC0415

    from gateways.retention import Retention, as_set, retention_now  # noqa: PLC0415
    from gateways.settings import SettingsError  # noqa: PLC0415

    async def read() -> Retention:
        async with await psycopg.AsyncConnection.connect(url) as connection:
            return await retention_now(connection, as_set(settings))

    days = asyncio.run(read()).archive_after_days
    if days is None:
        raise SettingsError("Say how old with --older-than 90d, or `fleetlog retention set --archive-after-days 90`.")
    return timedelta(days=days)


def archive_list(as_json: Json = False, data_dir: DataDir = None) -> None:
    """The segments: what they hold, where they are, and the hash that vouches for each and all before it."""
    import psycopg  # noqa: PLC0415

    from command_bus.archiving import segments  # noqa: PLC0415
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    with database(load_settings(data_dir=data_dir), make=False) as url, psycopg.connect(url) as connection:
        found = list(segments(connection))
    out = Output(as_json=as_json)
    shown = [
        {
            "segment": one.manifest.segment,
            "first_position": one.manifest.first_position,
            "last_position": one.manifest.last_position,
            "events": one.manifest.events,
            "streams": one.manifest.streams,
            "raw_bytes": one.manifest.raw_bytes,
            "stored_bytes": one.manifest.stored_bytes,
            "file": one.file,
            "manifest_sha256": one.sha256,
        }
        for one in found
    ]
    if as_json:
        out.json(shown)
        return
    for row in shown:
        out.plain(
            f"{row['segment']:>6}  positions {row['first_position']} to {row['last_position']}, {row['events']} events,"
            f" {row['stored_bytes']} bytes, {row['file'] or 'in the database'}, {row['manifest_sha256']}"
        )
    out.note(f"{len(found)} segments")


def archive_verify(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Read every byte of the archive against its chain of manifests."""
    import msgspec  # noqa: PLC0415
    import psycopg  # noqa: PLC0415

    from command_bus.archiving import verify  # noqa: PLC0415
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    last = ""
    out = Output(as_json=as_json)
    with database(load_settings(data_dir=data_dir), make=False) as url, psycopg.connect(url) as connection:
        done = verify(connection)
        row = connection.execute(
            "SELECT encode(manifest_sha256, 'hex') FROM fleetlog.archive_segments ORDER BY number DESC LIMIT 1"
        ).fetchone()
        last = row[0] if row is not None else ""
    out.done(
        f"{done.segments} segments with {done.events} events are as they were written"
        f"{', up to the manifest ' + last if last else ''}",
        msgspec.to_builtins(done) | {"last_manifest_sha256": last},
    )


def archive_check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="With the files of an archive, or a copy of them.")],
    as_json: Json = False,
) -> None:
    """The same for a folder of segment files, wherever it is: no database is asked."""
    import msgspec  # noqa: PLC0415

    from command_bus.archiving import verify_folder  # noqa: PLC0415

    done, last = verify_folder(folder)
    Output(as_json=as_json).done(
        f"{done.segments} segments with {done.events} events are as they were written, up to the manifest {last}",
        msgspec.to_builtins(done) | {"last_manifest_sha256": last},
    )
