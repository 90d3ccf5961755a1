"""`fleetlog audit`: prove events, verify the log against its chain, and keep others' word for it.

What asks the API comes first; the rest goes to the database, or to files alone.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError, CommandLineError
from gateways.cli.options import DataDir, Json
from gateways.cli.output import Column, Output, Row, moment
from gateways.cli.session import Session, command
from gateways.cli.times import point

if TYPE_CHECKING:
    from schema.audit.checkpoints import Outside
    from schema.audit.comparing import Finding
    from schema.audit.database import DatabaseSource

DIFFERS = 1
app = typer.Typer(name="audit", help="Show that nobody has changed the history.", no_args_is_help=True)

COLUMNS = (
    Column("number", lambda row: row["number"]),
    Column("positions", lambda row: f"{row['first_position']} to {row['last_position']}"),
    Column("made", lambda row: moment(row["made_at"])),
    Column("signed by", lambda row: [one["name"] for one in row["signatures"]]),
    Column("sha256", lambda row: row["sha256"]),
)
Since = Annotated[
    str, typer.Option("--since", metavar="WHEN", help="Begin at the checkpoint before this position, time, or 7d ago.")
]
Checkpoints = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="PATH", help="Exported checkpoints to hold it against: a file, or a folder."),
]
Keys = Annotated[
    list[str] | None, typer.Option("--key", metavar="HEX", help="A public key that is trusted; may be repeated.")
]
File = Annotated[Path, typer.Argument(metavar="FILE")]


class NotAsRecordedError(CommandLineError):
    """The log is not as it was recorded."""

    code = "history_changed"


def head(session: Session) -> None:
    """How far the chain is, and the last checkpoint."""
    found: Row = session.api.get("/audit/head")
    names = ("position", "lag", "head", "checkpoint", "checkpoint_position", "checkpointed_at", "key")
    session.out.fields([(name.replace("_", " "), found[name]) for name in names], found)


def checkpoints(
    session: Session, limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20
) -> None:
    """Signed checkpoints, newest first."""
    session.out.rows(
        COLUMNS, session.api.items("/audit/checkpoints", at_most=limit), empty="There is no checkpoint yet."
    )


def checkpoint(
    session: Session,
    number: Annotated[int, typer.Argument(metavar="NUMBER", min=1)],
    statement: Annotated[bool, typer.Option("--statement", help="Only the bytes that are signed.")] = False,
) -> None:
    """One checkpoint, as it is exported: for a file of your own, or to countersign it."""
    import json  # noqa: PLC0415

    found: Row = session.api.get(f"/audit/checkpoints/{number}")
    if statement:
        print(found["statement"], end="")  # noqa: T201 -- byte for byte what is signed
        return
    print(json.dumps({name: found[name] for name in ("statement", "signatures")}, indent=1))  # noqa: T201 -- a file


def prove(
    session: Session,
    position: Annotated[int, typer.Argument(metavar="POSITION", min=1, help="As `fleetlog events` shows it.")],
    without_body: Annotated[
        bool, typer.Option("--without-body", help="The hash of the event's content in its place.")
    ] = False,
) -> None:
    """Print the proof that an event is in the log; a few kB that hold by themselves."""
    for piece in session.api.content(f"/audit/events/{position}/proof", body="false" if without_body else None):
        typer.echo(piece, nl=False)


def extract(
    session: Session,
    file: File,
    form: Annotated[
        str, typer.Option("--format", help="ndjson (with proofs), csv (its proofs beside it) or html.")
    ] = "",
    agent: Annotated[str | None, typer.Option("--agent", help="Only what concerns this agent.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Only of this client.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="As key:<id> or agent:<id>.")] = None,
    kind: Annotated[list[str] | None, typer.Option("--type", help="As CommandQueued; repeatable.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="2h, 7d, or a time.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="2h ago, or a time.")] = None,
) -> None:
    """Take a part of the history out, for an auditor; that it was is on record."""
    now = datetime.now(UTC)
    form = form or (file.suffix.removeprefix(".") if file.suffix in (".csv", ".html") else "ndjson")
    asked: Row = {
        "agent_id": finding.agent(session.api, agent)["id"] if agent else None,
        "client_id": finding.client(session.api, client)["id"] if client else None,
        "actor": actor,
        "types": kind or [],
        "since": point(since, now, past=True).isoformat() if since else None,
        "until": point(until, now, past=True).isoformat() if until else None,
    }
    made = session.api.post("/audit/extracts", asked | {"format": form})
    files = {file: form}
    if form == "csv":
        files[file.with_name(f"{file.name}.proofs")] = "ndjson"
    for place, kind_of in files.items():
        with _fresh(place) as fresh, fresh.open("wb") as stream:
            for piece in session.api.content(f"/audit/extracts/{made['id']}", format=kind_of):
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
    session.out.done(f"{' and '.join(map(str, files))} written.", {"files": list(map(str, files)), "id": made["id"]})


for name, function in (
    ("head", head),
    ("checkpoints", checkpoints),
    ("checkpoint", checkpoint),
    ("prove", prove),
    ("extract", extract),
):
    command(app, name)(function)


# -- without the API -------------------------------------------------------------------------------------------------


@contextmanager
def _source(data_dir: Path | None, since: str) -> Iterator[tuple["DatabaseSource", int, str]]:
    """The database as of one moment, where to begin, and its address."""
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415
    from schema.audit.verify import one_moment  # noqa: PLC0415

    with database(load_settings(data_dir=data_dir), make=False) as url, one_moment(url) as source:
        if since and not since.isdecimal():
            yield source, source.position_before(point(since, datetime.now(UTC), past=True)), url
        else:
            yield source, int(since or 0), url


def audit_verify(
    since: Since = "",
    checkpoint_path: Checkpoints = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE", help="Verify this export, and ask no database.")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", metavar="FOLDER", help="Verify this folder of the archive, and ask no database."),
    ] = None,
    extract_file: Annotated[
        Path | None,
        typer.Option("--extract", metavar="FILE", help="Verify what `audit extract` wrote, and ask no database."),
    ] = None,
    key: Keys = None,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Verify the log against its chain; exit code 1 names the first event that was changed, taken out or slipped in."""
    import msgspec  # noqa: PLC0415

    from schema.audit.checkpoints import read_outside  # noqa: PLC0415
    from schema.audit.verify import verify_export  # noqa: PLC0415
    from schema.audit.verifying import Verification  # noqa: PLC0415

    if extract_file is not None:
        _verify_extract(extract_file, key or (), Output(as_json=as_json))
        return
    outside = read_outside(checkpoint_path) if checkpoint_path is not None else []
    if archive is not None:
        _verify_archive(archive, outside, key or (), Output(as_json=as_json))
        return
    if export is not None:
        report = verify_export(export, outside, key or ())
    else:
        with _source(data_dir, since) as (source, begin, _):
            report = Verification(source, outside, key or ()).run(begin)
    out = Output(as_json=as_json)
    if as_json:
        out.json(msgspec.to_builtins(report))
    elif report.finding is None:
        out.plain(
            f"{report.events} events up to position {report.position} are as they were recorded, under"
            f" {report.checkpoints} checkpoints; {report.outside} agree with those kept outside"
        )
        out.plain(f"chain {report.chain_head}")
        for used in report.keys:
            out.plain(f"signed with {used}")
        if report.under_no_checkpoint or report.unchained:
            out.note(f"{report.under_no_checkpoint} events are chained and not signed yet, {report.unchained} neither")
    _end(report.finding, out)


def _verify_extract(file: Path, keys: Collection[str], out: Output) -> None:
    import msgspec  # noqa: PLC0415

    from gateways.rest.extracts import sentence_of_line  # noqa: PLC0415
    from schema.audit.extracts import verify_csv, verify_extract  # noqa: PLC0415

    if file.suffix == ".csv":
        found = verify_csv(file, file.with_name(f"{file.name}.proofs"), keys, text_of=sentence_of_line)
    else:
        found = verify_extract(file, keys)
    unsigned = f"; {found.events - found.proven} are under no checkpoint yet" if found.events > found.proven else ""
    out.done(
        f"{found.proven} of {found.events} events are in the log as {found.checkpoints} checkpoints vouch{unsigned}.",
        msgspec.to_builtins(found),
    )


def _verify_archive(folder: Path, outside: Sequence["Outside"], keys: Collection[str], out: Output) -> None:
    import msgspec  # noqa: PLC0415

    from schema.audit.folder import verify_archive  # noqa: PLC0415

    if not any(one.entries for one in outside):
        raise BadValueError("--archive needs --checkpoint with a folder that checkpoints were exported to.")
    report = verify_archive(folder, outside, keys)
    if out.as_json or report.finding is None:
        out.done(
            f"{report.vouched_for} of {report.events} events are as checkpoints vouch for; for the others none does",
            msgspec.to_builtins(report),
        )
    _end(report.finding, out)


def _end(found: "Finding | None", out: Output) -> None:
    if found is not None:
        out.error(NotAsRecordedError.code, f"{found.kind} at position {found.position}: {found.detail}.")
        raise typer.Exit(DIFFERS)


def audit_check(proof: File, key: Keys = None, as_json: Json = False) -> None:
    """Check a proof, by itself: no Fleetlog and no database is asked."""
    import msgspec  # noqa: PLC0415

    from schema.audit.proofs import check_proof, decode_proof  # noqa: PLC0415

    read = decode_proof(proof.read_bytes())
    statement = check_proof(read, key or ())
    Output(as_json=as_json).done(
        f"{read.event.type} of {read.event.actor}, recorded {read.event.recorded_at:%Y-%m-%d %H:%M:%S} UTC at position"
        f" {read.event.position}, is under checkpoint {statement.number}, signed with {statement.key}",
        msgspec.to_builtins({"event": read.event, "checkpoint": statement}),
    )


def audit_countersign(
    file: File,
    key_file: Annotated[Path, typer.Option("--key-file", metavar="PEM", help="Your own Ed25519 private key.")],
    name: Annotated[str, typer.Option("--name", help="Who you are.")],
) -> None:
    """Put your own signature under an exported checkpoint, in its file; no Fleetlog is asked."""
    import msgspec  # noqa: PLC0415

    from command_bus.audit.keys import seed_of_file  # noqa: PLC0415
    from schema.audit.checkpoints import OWN, decode_checkpoint, encode_checkpoint, sign  # noqa: PLC0415

    if not name or name == OWN:
        raise BadValueError(f"{name!r} is nobody's name to countersign with.")
    found = decode_checkpoint(file.read_bytes())
    statement = found.verify()
    mine = sign(seed_of_file(key_file), found.statement, name)
    others = [one for one in found.signatures if one.key != mine.key]
    _write_whole(file, encode_checkpoint(msgspec.structs.replace(found, signatures=[*others, mine])))
    Output(as_json=False).plain(f"checkpoint {statement.number} is signed by {name} with {mine.key}")


def audit_accept(file: File, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Keep the signatures of a countersigned checkpoint with the fleet's own, once they are verified."""
    import psycopg  # noqa: PLC0415

    from command_bus.audit.records import accept  # noqa: PLC0415
    from command_bus.postgres import app_conninfo  # noqa: PLC0415
    from gateways.backup.place import database  # noqa: PLC0415
    from gateways.host import at_the_host  # noqa: PLC0415
    from gateways.settings import load_settings  # noqa: PLC0415
    from schema.audit.checkpoints import decode_checkpoint  # noqa: PLC0415

    found = decode_checkpoint(file.read_bytes())
    with (
        database(load_settings(data_dir=data_dir), make=False) as url,
        psycopg.connect(app_conninfo(url, name="fleetlog-cli"), autocommit=True) as connection,
    ):
        added = accept(connection, found, actor=at_the_host())
    number = found.read().number
    Output(as_json=as_json).done(
        f"{added} new signatures under checkpoint {number}", {"checkpoint": number, "added": added}
    )


def audit_export(file: File, since: Since = "", as_json: Json = False, data_dir: DataDir = None) -> None:
    """Write log and chain into one file, which `fleetlog audit verify` verifies anywhere."""
    from domain.host_acts import ExportBegun  # noqa: PLC0415
    from gateways.host import put_on_record  # noqa: PLC0415
    from schema.audit.exports import write_export  # noqa: PLC0415

    out = Output(as_json=as_json)
    with _source(data_dir, since) as (source, begin, url), _fresh(file) as fresh, fresh.open("wb") as stream:
        put_on_record(url, ExportBegun(file=str(file.absolute()), since=begin), out.note, needed=True)
        count = write_export(source, stream, begin)
        stream.flush()
        os.fsync(stream.fileno())
    out.done(f"{count} events written to {file}", {"file": str(file), "events": count})


@contextmanager
def _fresh(file: Path) -> Iterator[Path]:
    """A file that gets its name when it is whole, and none otherwise."""
    beside = file.with_name(f".{file.name}.part")
    try:
        yield beside
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def _write_whole(file: Path, content: bytes) -> None:
    with _fresh(file) as fresh:
        fresh.write_bytes(content)


WITHOUT_API: dict[str, Any] = {
    "verify": audit_verify,
    "check": audit_check,
    "export": audit_export,
    "countersign": audit_countersign,
    "accept": audit_accept,
}
