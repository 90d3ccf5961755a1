"""`fleetlog replay`: read models as of an earlier time, for `--at` to ask. Goes to the database itself."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gateways.cli.configured import conninfo_of, position_of
from gateways.cli.options import DataDir, Json
from gateways.cli.output import Column, Output, Row, moment
from gateways.cli.times import span


class MakeByDefault(TyperGroup):
    """Options without a command make a replay; nothing at all lists them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front that was meant; what asks for help is left alone."""
        if any(arg.partition("=")[0] == "--at" for arg in args) and args[0].startswith("-"):
            args = ["make", *args]
        elif not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="replay", help="The fleet as it was: make a replay with --at, and ask it with --at.", cls=MakeByDefault
)


def _state_of(row: Row) -> str:
    if not row["ready"]:
        return "in the making"
    return "ready" if row["current"] else "made by another version"


COLUMNS = (
    Column("name", lambda row: row["name"]),
    Column("position", lambda row: row["position"]),
    Column("as of", lambda row: moment(row["at"])),
    Column("state", _state_of),
    Column("expires", lambda row: moment(row["expires_at"])),
)
Name = Annotated[str, typer.Argument(metavar="NAME")]


def replay_make(
    at: Annotated[str, typer.Option("--at", metavar="WHEN", help="A position, a time, or 2h for two hours ago.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What it goes by; by default `at-POSITION`. Letters first.")
    ] = None,
    keep: Annotated[str, typer.Option("--keep", help="Dropped after 12h, 7d, ...")] = "1d",
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Build all read models as of then, beside the live ones; nothing stops meanwhile."""
    import re  # noqa: PLC0415

    from gateways.cli.errors import BadValueError  # noqa: PLC0415
    from projections import replays  # noqa: PLC0415

    life = span(keep)
    if name is not None and not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", name):
        raise BadValueError(f"{name!r}: a name begins with a letter; then letters, digits, '.', '_' and '-'.")
    conninfo = conninfo_of(data_dir)
    position = position_of(conninfo, at)
    out = Output(as_json=as_json)
    made = replays.make(conninfo, position, name or f"at-{position}", life=life, noted=_note_made)
    out.done(
        f"{made.name}: position {made.position}, from {made.events} events; ask it with --at {made.name}.", _row(made)
    )


def replay_list(as_json: Json = False, data_dir: DataDir = None) -> None:
    """Show the replays that there are."""
    from projections import replays  # noqa: PLC0415

    rows = [_row(replay) for replay in replays.list_replays(conninfo_of(data_dir))]
    Output(as_json=as_json).rows(COLUMNS, rows, empty="There is no replay; `fleetlog replay make --at WHEN` makes one.")


def replay_drop(name: Name, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Drop a replay, once nobody reads it any more."""
    from projections import replays  # noqa: PLC0415

    replays.drop(conninfo_of(data_dir), name, noted=_note_dropped)
    Output(as_json=as_json).done(f"{name} is dropped.", {"name": name})


def _note_made(connection: Any, made: Any) -> None:
    from domain.host_acts import ReplayMade  # noqa: PLC0415
    from gateways.host import noted  # noqa: PLC0415

    noted(connection, ReplayMade(name=made.name, position=made.position, expires_at=made.expires_at))


def _note_dropped(connection: Any, dropped: Any) -> None:
    from domain.host_acts import ReplayDropped  # noqa: PLC0415
    from gateways.host import noted  # noqa: PLC0415

    noted(connection, ReplayDropped(name=dropped.name, position=dropped.position))


def _row(replay: Any) -> Row:
    import msgspec  # noqa: PLC0415

    row: Row = msgspec.to_builtins(replay)
    return row
