"""The half of the command line that runs the platform: it goes to the servers themselves, not through the API."""

import asyncio
import importlib
import json
import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer

from gateways.cli import audit, replays
from gateways.cli.archive import archive_check, archive_list, archive_run, archive_verify
from gateways.cli.configured import conninfo_of, settings_of
from gateways.cli.errors import BadValueError, CommandLineError
from gateways.cli.first_admin import first_admin
from gateways.cli.options import DataDir, Json
from gateways.cli.output import Column, Output, ago
from gateways.cli.server_keys import server_keys_list, server_keys_retire, server_keys_rotate
from gateways.cli.tls import tls_roll_over, tls_show

P = ParamSpec("P")
SOMETHING_DOWN = 1
FAILED = 2
BENCHES = (
    "append",
    "append-one",
    "chain",
    "extract",
    "forward",
    "project",
    "rebuild",
    "roundtrip",
    "drain",
    "checkin",
    "shutout",
    "query",
    "fanout",
    "life",
    "fanout-offline",
    "growth",
    "fairness",
    "volume",
    "soak",
    "storm",
)
ROLES = ("projector", "gateway", "worker", "scheduler", "api")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A projection's name; `fleetlog projections list` shows them.")
]

# Each command imports what it needs when it runs: the servers' libraries take longer to load than most commands to run.


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for name, function in (
        ("up", up),
        ("serve", serve),
        ("status", status),
        ("migrate", migrate),
        ("init", init),
        ("first-admin", first_admin),
        ("bench", bench),
        ("backup", backup),
        ("restore", restore),
    ):
        app.command(name)(_guarded(function))
    config = typer.Typer(name="config", help="Settings, and what external servers need.", no_args_is_help=True)
    config.command("show")(_guarded(config_show))
    config.command("nats")(_guarded(config_nats))
    app.add_typer(config)
    tls = typer.Typer(name="tls", help="The certificate authority of this machine's Fleetlog.", no_args_is_help=True)
    tls.command("show")(_guarded(tls_show))
    tls.command("roll-over")(_guarded(tls_roll_over))
    app.add_typer(tls)
    own_keys = typer.Typer(
        name="server-keys", help="The keys that the fleet's own orders and servers go by.", no_args_is_help=True
    )
    own_keys.command("list")(_guarded(server_keys_list))
    own_keys.command("rotate")(_guarded(server_keys_rotate))
    own_keys.command("retire")(_guarded(server_keys_retire))
    app.add_typer(own_keys)
    projections = typer.Typer(name="projections", help="The tables built from the log.", no_args_is_help=True)
    projections.command("list")(_guarded(projections_list))
    projections.command("rebuild")(_guarded(projections_rebuild))
    projections.command("verify")(_guarded(projections_verify))
    projections.command("resume")(_guarded(projections_resume))
    app.add_typer(projections)
    archive = typer.Typer(name="archive", help="Events of what has ended long ago.", no_args_is_help=True)
    archive.command("run")(_guarded(archive_run))
    archive.command("list")(_guarded(archive_list))
    archive.command("verify")(_guarded(archive_verify))
    archive.command("check")(_guarded(archive_check))
    app.add_typer(archive)
    replays.app.command("make")(_guarded(replays.replay_make))
    replays.app.command("list")(_guarded(replays.replay_list))
    replays.app.command("drop")(_guarded(replays.replay_drop))
    app.add_typer(replays.app)
    for name, function in audit.WITHOUT_API.items():
        audit.app.command(name)(_guarded(function))
    app.add_typer(audit.app)


def _guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Turn what a command may meet into one red line and exit code 2."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        import psycopg  # noqa: PLC0415

        from command_bus.archiving import ArchiveBusyError  # noqa: PLC0415
        from command_bus.event_log import EventLogError  # noqa: PLC0415
        from command_bus.migrate import MigrationError  # noqa: PLC0415
        from command_bus.pooler import PoolerError  # noqa: PLC0415
        from command_bus.postgres import APP_ROLE  # noqa: PLC0415
        from domain.codec import UndecodableEventError  # noqa: PLC0415
        from domain.errors import DomainError  # noqa: PLC0415
        from gateways.backup.errors import BackupError  # noqa: PLC0415
        from gateways.local.processes import ServerError  # noqa: PLC0415
        from gateways.settings import SettingsError  # noqa: PLC0415
        from gateways.tls import CertificateError, PlainTextError  # noqa: PLC0415
        from projections.errors import ProjectionError  # noqa: PLC0415
        from schema.archive import ArchiveDamagedError  # noqa: PLC0415
        from schema.audit.checkpoints import AuditError  # noqa: PLC0415

        try:
            function(*args, **kwargs)
        except CommandLineError as error:
            _fail(error, error.shown_code, error.detail)
        except (
            SettingsError,
            ServerError,
            CertificateError,
            PlainTextError,
            MigrationError,
            PoolerError,
            ProjectionError,
            EventLogError,
            UndecodableEventError,
            BackupError,
            ArchiveBusyError,
            ArchiveDamagedError,
            AuditError,
            DomainError,
        ) as error:
            _fail(error, error.code, str(error) or (type(error).__doc__ or ""))
        except psycopg.OperationalError as error:
            if f'role "{APP_ROLE}"' in str(error):
                _fail(error, "not_migrated", f"{error}. Run `fleetlog migrate`, then GRANT {APP_ROLE} TO the login.")
            _fail(error, "postgres_unavailable", str(error))
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            _fail(error, "not_migrated", f"{error.diag.message_primary}: bring the schema up with `fleetlog migrate`.")
        except psycopg.Error as error:
            _fail(error, "postgres_refused", str(error))
        except OSError as error:
            _fail(error, "unusable_file", f"{error.filename or 'the system'}: {error.strerror or error}.")

    return run


def _fail(error: Exception, code: str, detail: str) -> NoReturn:
    Output(as_json=False).error(code, detail)
    raise typer.Exit(FAILED) from error


def up(
    data_dir: DataDir = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST[:PORT]", help="Open it to other machines: 0.0.0.0 means all networks."),
    ] = None,
) -> None:
    """Start the whole platform on this machine, and keep it running until Ctrl-C."""
    from gateways.local.addresses import parse_listen  # noqa: PLC0415
    from gateways.local.supervisor import up as run  # noqa: PLC0415
    from gateways.logs import configure_logs  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    settings = load_settings(data_dir=data_dir)
    if listen is not None:
        try:
            host, port = parse_listen(listen, settings.listen_port)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        settings = load_settings(data_dir=data_dir, listen_host=host, listen_port=port)
    configure_logs(settings.log_level, settings.log_format, role="up")
    raise typer.Exit(run(settings, lambda line: print(line, flush=True)))  # noqa: T201 -- what the command is for


def serve(
    roles: Annotated[list[str], typer.Argument(metavar="ROLE...", help=f"One or more of {', '.join(ROLES)}.")],
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST[:PORT]", help="Where the API listens.")
    ] = None,
) -> None:
    """Run roles in this process, against servers that are configured."""
    from gateways.local.addresses import parse_listen  # noqa: PLC0415
    from gateways.local.roles import Role  # noqa: PLC0415
    from gateways.local.roles import serve as run  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    unknown = [role for role in roles if role not in ROLES]
    if unknown:
        raise typer.BadParameter(f"there is no role {', '.join(unknown)}; there are {', '.join(ROLES)}")
    settings = load_settings()
    if listen is not None:
        try:
            host, port = parse_listen(listen, settings.listen_port)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        settings = load_settings(listen_host=host, listen_port=port)
    raise typer.Exit(run([Role(role) for role in roles], settings))


def status(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Show every part of the platform; exit code 1 when something is down."""
    from gateways.cli.status_view import show  # noqa: PLC0415
    from gateways.status import collect, to_json  # noqa: PLC0415

    found = asyncio.run(collect(settings_of(data_dir)))
    out = Output(as_json=as_json)
    if as_json:
        out.json(to_json(found))
    else:
        show(found, out)
    raise typer.Exit(0 if found.ok else SOMETHING_DOWN)


def migrate() -> None:
    """Bring the database's schema up to date, as its owner (FLEETLOG_POSTGRES_ADMIN_URL)."""
    from command_bus.migrate import migrate as run  # noqa: PLC0415
    from command_bus.pooler import prepare_login  # noqa: PLC0415
    from gateways.host import at_the_host  # noqa: PLC0415
    from projections.tables import create_tables  # noqa: PLC0415

    settings = settings_of()
    url = settings.migration_url
    done = [f"applied {name}" for name in run(url, actor=at_the_host())]
    asyncio.run(create_tables(url))
    if prepare_login(settings.database_url):
        done.append("prepared the pooler's login")
    out = Output(as_json=False)
    for line in done or ["Nothing to do."]:
        out.plain(line)


def init() -> None:
    """Prepare a database for roles that run alone: its schema, a first admin key, a site and a token; once."""
    from gateways.local import first_steps  # noqa: PLC0415
    from gateways.master_keys import master_keys  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415

    migrate()
    settings = settings_of()
    url = need(settings.postgres_url, "postgres_url")
    profile = settings.data_dir / first_steps.PROFILE
    keys, password = master_keys(settings), first_steps.given_password(settings)
    shown = asyncio.run(first_steps.take(url, profile, settings.api_url, keys, password))
    out = Output(as_json=False)
    out.plain(f"This user's `fleetlog` has a key for {settings.api_url}.")
    if shown is None:
        out.plain("An admin key was shown before; `fleetlog keys create` makes another.")
        if asyncio.run(first_steps.nobody_has_a_password(url)):
            out.plain(first_steps.NOBODY)
        return
    out.plain(f"admin key (shown this once): {shown.admin_key}")
    out.plain(first_steps.login_line(shown).strip())
    out.plain(f"enroll an agent (7 days):    fleetlog agent enroll {settings.api_url} {shown.token}")


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; it holds the fleet's keys: guard it.")],
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Write the log, the outputs and the fleet's keys, as of one moment, into a file; everything goes on meanwhile."""
    import msgspec  # noqa: PLC0415

    from gateways.backup.backup import backup as run  # noqa: PLC0415
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    out = Output(as_json=as_json)
    with database(load_settings(data_dir=data_dir), make=False) as url:
        manifest = run(url, file, tell=out.note)
    size = file.stat().st_size
    rows = {table.name: table.rows for table in manifest.tables}
    made = {"file": str(file), "bytes": size, "head": manifest.head, "made_at": manifest.made_at, "rows": rows}
    out.done(
        f"{file}: {manifest.events} events up to position {manifest.head}, {size} bytes", msgspec.to_builtins(made)
    )


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `fleetlog backup` wrote.")],
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Read a backup into an empty database, all of it or nothing; rebuild every projection, and verify it."""
    import msgspec  # noqa: PLC0415

    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.backup.restore import check  # noqa: PLC0415
    from gateways.backup.restore import restore as run  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415

    out = Output(as_json=as_json)
    manifest = check(file)  # before a server is started for it
    with database(load_settings(data_dir=data_dir), make=True) as url:
        verified = run(url, file, manifest, tell=out.note)
    projections = {result.name: result.rows for result in verified}
    done = {"file": str(file), "head": manifest.head, "made_at": manifest.made_at, "projections": projections}
    out.done(
        f"Restored up to position {manifest.head}; every projection is as the log says.", msgspec.to_builtins(done)
    )


def config_show(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Every setting: its value (secrets masked), where that came from, and what it means."""
    from gateways.settings import load_settings, show_settings  # noqa: PLC0415

    shown = [
        {"name": s.name, "variable": s.variable, "value": s.value, "source": s.source, "description": s.description}
        for s in show_settings(load_settings(data_dir=data_dir))
    ]
    columns = [
        Column("variable", lambda row: row["variable"]),
        Column("value", lambda row: row["value"]),
        Column("source", lambda row: row["source"]),
        Column("meaning", lambda row: row["description"]),
    ]
    Output(as_json=as_json).rows(columns, shown)


def config_nats(
    websocket: Annotated[
        str | None, typer.Option("--websocket", metavar="HOST:PORT", help="Also take WebSocket connections there.")
    ] = None,
    tls_cert: Annotated[str | None, typer.Option("--tls-cert", help="Certificate, as the NATS server sees it.")] = None,
    tls_key: Annotated[str | None, typer.Option("--tls-key", help="Its key, as the NATS server sees it.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Print what a NATS server of your own needs in its configuration; there is no secret in it."""
    from gateways.agents.keys import load_keys  # noqa: PLC0415
    from gateways.agents.nats_config import Tls, render_nats_config  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415

    if (tls_cert is None) != (tls_key is None):
        raise BadValueError("--tls-cert and --tls-key belong together.")
    if websocket is not None and not re.fullmatch(r".+:\d{1,5}", websocket):
        raise BadValueError(f"--websocket {websocket!r}: write HOST:PORT, as 0.0.0.0:8443.")
    tls = Tls(cert_file=tls_cert, key_file=tls_key) if tls_cert is not None and tls_key is not None else None
    keys = load_keys(need(settings_of(data_dir).postgres_url, "postgres_url"))
    print(render_nats_config(keys, websocket=websocket, tls=tls), end="")  # noqa: T201 -- a file's content


def projections_list(as_json: Json = False, data_dir: DataDir = None) -> None:
    """How far each projection is, and what stopped it."""
    import msgspec  # noqa: PLC0415
    import psycopg  # noqa: PLC0415

    from projections.catalog import list_status  # noqa: PLC0415

    async def read() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(conninfo_of(data_dir)) as connection:
            return [msgspec.to_builtins(state) for state in await list_status(connection)]

    columns = [
        Column("projection", lambda row: row["name"]),
        Column("status", lambda row: row["status"]),
        Column("position", lambda row: row["position"]),
        Column("lag", lambda row: row["lag"]),
        Column("moved", lambda row: f"{ago(row['updated_at'])} ago"),
        Column("error", _error),
    ]
    Output(as_json=as_json).rows(columns, asyncio.run(read()))


def _error(row: dict[str, Any]) -> str | None:
    if row["error"] is None:
        return None
    return f"at {row['error_position']} ({row['error_topic']}): {row['error']}"


def projections_rebuild(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="All, if none is named.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Build tables anew from the log, beside the live ones, and put them in their place; nothing stops meanwhile."""
    import msgspec  # noqa: PLC0415

    from domain.host_acts import ProjectionRebuilt  # noqa: PLC0415
    from gateways.host import noted  # noqa: PLC0415
    from projections import catalog, rebuild  # noqa: PLC0415

    def note(connection: Any, projection: str, position: int) -> None:
        noted(connection, ProjectionRebuilt(name=projection, position=position))

    conninfo = conninfo_of(data_dir)
    out = Output(as_json=as_json)
    done = []
    for name in names or catalog.names():
        answer = msgspec.to_builtins(rebuild.rebuild(conninfo, name, noted=note))
        done.append(answer)
        if not as_json:
            out.plain(f"{name}: rebuilt from {answer['events']} events, now at position {answer['position']}")
    if as_json:
        out.json(done)


def projections_verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="All, if none is named.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Compare each row with a fresh rebuild; exit code 1 when any differs."""
    import msgspec  # noqa: PLC0415

    from projections import catalog, verify  # noqa: PLC0415

    conninfo = conninfo_of(data_dir)
    out = Output(as_json=as_json)
    results = [(name, verify.verify(conninfo, name)) for name in names or catalog.names()]
    if as_json:
        out.json([msgspec.to_builtins(result) for _, result in results])
    for name, result in () if as_json else results:
        out.plain(f"{name}: {'identical' if result.ok else 'DIFFERS'}, {result.rows} rows")
        for difference in result.differences:
            out.plain("  ", str(difference))
    raise typer.Exit(0 if all(result.ok for _, result in results) else SOMETHING_DOWN)


def projections_resume(name: Name, data_dir: DataDir = None) -> None:
    """Let a stopped projection try its event again, after what stopped it was mended."""
    from domain.host_acts import ProjectionResumed  # noqa: PLC0415
    from gateways.host import noted  # noqa: PLC0415
    from projections import catalog, runner  # noqa: PLC0415

    found = catalog.named(name).name
    runner.resume(conninfo_of(data_dir), found, lambda connection: noted(connection, ProjectionResumed(name=found)))
    Output(as_json=False).plain(f"{name} tries again.")


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(BENCHES)}.")],
    agents: Annotated[int | None, typer.Option(help="How many agents, where it matters.")] = None,
    scale: Annotated[float, typer.Option(help="A fraction of the full size, for a quick look.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Measure, on servers of its own, against what the engines can do at best."""
    if name not in BENCHES:
        raise typer.BadParameter(f"there is no bench {name}; there are {', '.join(BENCHES)}")
    from gateways.logs import configure_logs  # noqa: PLC0415
    from gateways.settings import LogLevel  # noqa: PLC0415

    configure_logs(LogLevel.WARNING)  # to standard error: what is printed is the result alone
    options = importlib.import_module("gateways.bench.result").BenchOptions(agents=agents, scale=scale)
    module = importlib.import_module(f"gateways.bench.{name.replace('-', '_')}")
    # On the loop that the roles run on, or the bench's own half would be the slower one.
    with asyncio.Runner(loop_factory=importlib.import_module("gateways.local.roles").loop_factory()) as runner:
        measured = runner.run(module.run(options))
    if as_json:
        print(measured.as_json())  # noqa: T201 -- one object per run
        return
    result = json.loads(measured.as_json())
    out = Output(as_json=False)
    width = max(map(len, result))
    for key, value in result.items():
        out.plain(f"{key:<{width}}  ", json.dumps(value) if isinstance(value, dict) else str(value))
    out.note(f"{os.cpu_count()} processors")
