"""A chain over a log, made by the product's own writer, step by step."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from command_bus.audit.chain import Chain, Interval
from command_bus.audit.keys import load_seed
from command_bus.ids import utc_now
from command_bus.postgres import app_conninfo
from schema.audit.canonical import unpack
from schema.audit.checkpoints import Outside, encode_checkpoint, file_name
from schema.audit.database import DatabaseSource
from schema.audit.verifying import Report, Verification

EVERY = 256


def connect(url: str) -> psycopg.Connection[Any]:
    """As the application."""
    return psycopg.connect(app_conninfo(url), autocommit=True)


def open_chain(
    connection: psycopg.Connection[Any],
    *,
    events: int = EVERY,
    age: timedelta = timedelta(days=1),
    clock: Callable[[], datetime] = utc_now,
    key_file: Path | None = None,
) -> Chain:
    return Chain(connection, load_seed(connection, key_file), Interval(events, age), clock)


def chain_all(connection: psycopg.Connection[Any], *, events: int = EVERY, key_file: Path | None = None) -> Chain:
    """Chain all of the log, with a checkpoint after each so many events; the last ones stay under none."""
    chain = open_chain(connection, events=events, key_file=key_file)
    while not chain.caught_up or chain.due():
        if chain.due():
            chain.seal()
        chain.extend()
    return chain


def signed(url: str) -> int:
    """Chain all that there is, and sign it; returns the position that this is up to."""
    with connect(url) as connection:
        chain = open_chain(connection)
        while chain.extend():
            pass
        statement = chain.seal()
    return statement.last_position if statement is not None else 0


def verified(connection: psycopg.Connection[Any], outside: list[Outside] | None = None, since: int = 0) -> Report:
    """What a verification says within the transaction that is under way."""
    with connection.cursor(binary=True) as cursor:
        return Verification(DatabaseSource(cursor), outside or ()).run(since)


def kept_outside(connection: psycopg.Connection[Any], number: int, *, with_leaves: bool) -> Outside:
    """A checkpoint as it was exported."""
    with connection.cursor(binary=True) as cursor:
        source = DatabaseSource(cursor)
        checkpoint = source.checkpoints(number - 1)[0]
        statement = checkpoint.verify()
        entries = b"".join(
            page.entries
            for page in source.pages(0)
            if statement.first_position <= page.last_position <= statement.last_position
        )
    return Outside(checkpoint, statement, unpack(entries) if with_leaves else None)


def write_outside(kept: Outside, folder: Path) -> Path:
    file = folder / f"{file_name(kept.statement, kept.checkpoint.sha256)}.json"
    file.write_bytes(encode_checkpoint(kept.checkpoint))
    return file
