"""``fleetlog server-keys``: the fleet's own keys, and how one takes over from another. Goes to the database itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from domain.server_keys import Purpose
from gateways.cli.configured import database_of, position_of, settings_of
from gateways.cli.options import DataDir, Json
from gateways.cli.output import Column, Output

if TYPE_CHECKING:
    from gateways.agents.key_changes import KeyChanges
    from gateways.settings import Settings
    from projections.agents import Unaware

T = TypeVar("T")
Which = Annotated[Purpose, typer.Argument(metavar="KEY", help="delivery, issuer, gateway or system.")]


def server_keys_list(
    at: Annotated[str, typer.Option("--at", metavar="WHEN", help="As of then: a position, a time, or 2h ago.")] = "",
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Show the keys that count or did, and how many agents know the delivery key that was announced."""
    import msgspec  # noqa: PLC0415

    settings = settings_of(data_dir)
    then = position_of(database_of(settings), at) if at else None
    rows = [msgspec.to_builtins(one) for one in _changing(settings, lambda changes: changes.standings(then))]
    for row in rows:
        now = row["purpose"] == Purpose.DELIVERY and then is None
        unaware = _count(settings)(row["number"]) if now else None
        row["known_by"] = unaware.total - unaware.count if unaware is not None else None
        row["agents"] = unaware.total if unaware is not None else None
    columns = (
        Column("key", lambda row: row["purpose"]),
        Column("number", lambda row: row["number"]),
        Column("state", lambda row: row["state"]),
        Column("known by", lambda row: f"{row['known_by']} of {row['agents']}" if row["agents"] is not None else None),
        Column("public key", lambda row: row["public_key"]),
    )
    Output(as_json=as_json).rows(columns, rows)


def server_keys_rotate(key: Which, as_json: Json = False, data_dir: DataDir = None) -> None:
    """Make another key and let it count beside the present one; agents hear of it with their next hello."""
    made = _changing(settings_of(data_dir), lambda changes: changes.rotate(key))
    then = {
        Purpose.DELIVERY: "Make a backup now: once the old key is retired, agents take no orders of a server that was "
        "restored from an earlier one. Then, when `fleetlog server-keys list` says that all know it",
        Purpose.ISSUER: "Your own NATS servers name the new one once the old one is retired",
    }.get(key, "Put `fleetlog config nats` on NATS servers of your own. Then")
    out = Output(as_json=as_json)
    out.done(
        f"{key.capitalize()} key {made.number} counts beside the one before it. {then}: `fleetlog server-keys retire "
        f"{key}`.",
        {"purpose": key, "number": made.number, "public_key": made.public_key},
    )


def server_keys_retire(
    key: Which,
    force: Annotated[
        bool, typer.Option("--force", help="Although agents, or NATS servers, do not know the new one.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """End the old one of two keys for good; refused while somebody who needs the new one does not know it."""
    settings = settings_of(data_dir)
    if not force:
        _must_be_taken(settings, key)
    old, unaware = _changing(settings, lambda changes: changes.retire(key, _count(settings), force=force))
    behind = f"; {unaware} agents have yet to hear of the next" if unaware else ""
    at_nats = "" if key is Purpose.DELIVERY else " NATS servers of your own need `fleetlog config nats` now."
    Output(as_json=as_json).done(
        f"{key.capitalize()} key {old.number} counts no longer, and is gone{behind}.{at_nats}",
        {"purpose": key, "number": old.number, "public_key": old.public_key, "unaware": unaware},
    )


def _changing(settings: "Settings", act: Callable[["KeyChanges"], Awaitable[T]]) -> T:
    from command_bus.ids import new_id  # noqa: PLC0415
    from command_bus.postgres_log import PostgresEventLog  # noqa: PLC0415
    from gateways.agents.key_changes import KeyChanges  # noqa: PLC0415
    from gateways.host import at_the_host  # noqa: PLC0415
    from projections.catalog import INLINE  # noqa: PLC0415

    url = database_of(settings)

    async def run() -> T:
        log = PostgresEventLog(url, inline=INLINE, name="server-keys")
        await log.start()
        try:
            return await act(KeyChanges(log, url, new_id, actor=at_the_host()))
        finally:
            await log.stop()

    return asyncio.run(run())


def _count(settings: "Settings") -> "Callable[[int], Unaware]":
    import psycopg  # noqa: PLC0415

    from command_bus.postgres import app_conninfo  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415
    from projections.agents import unaware_of_key  # noqa: PLC0415

    conninfo = app_conninfo(need(settings.postgres_url, "postgres_url"), name="fleetlog-cli")

    async def read(number: int) -> "Unaware":
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            return await unaware_of_key(connection, number)

    return lambda number: asyncio.run(read(number))


def _must_be_taken(settings: "Settings", key: Purpose) -> None:
    """Raise KeyNotTakenError unless each NATS server lets the new key in."""
    from gateways.agents.key_steps import must_be_taken  # noqa: PLC0415
    from gateways.settings import need  # noqa: PLC0415
    from gateways.tls import Authorities  # noqa: PLC0415

    if settings.nats_url is None:
        return
    url, authorities = (
        need(settings.postgres_url, "postgres_url"),
        Authorities(settings.nats_ca_file, settings.nats_tls_name),
    )
    asyncio.run(must_be_taken(url, key, settings.nats_url.get_secret_value().split(","), authorities))
