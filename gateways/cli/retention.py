"""``fleetlog retention``: how long is kept what need not be kept for ever."""

from typing import Annotated

import typer

from gateways.cli.errors import BadValueError
from gateways.cli.output import Column, Row
from gateways.cli.session import Session, command, group

app = group("retention", "How long is kept what need not be kept for ever.")

FOR_EVER = "never"
WHAT = {
    "archive_after_days": "days until commands and rollouts that ended move to the archive",
    "output_keep_days": "days until whole outputs go that no result has named since",
    "output_keep_bytes": "bytes of whole outputs in all, beyond which those go that were named longest ago",
}


@command(app, "list", past=True)
def list_retention(session: Session) -> None:
    """Show what holds, and whether it is set on record or by the settings of processes."""
    kept = session.api.get("/retention")
    by = "on record" if kept["version"] else "by settings"
    rows = [{"what": name, "kept": kept[name], "set": by, "about": about} for name, about in WHAT.items()]
    columns = (
        Column("what", lambda row: row["what"]),
        Column("kept", lambda row: FOR_EVER if row["kept"] is None else row["kept"]),
        Column("set", lambda row: row["set"]),
        Column("about", lambda row: row["about"]),
    )
    session.out.rows(columns, rows)


@command(app, "set")
def set_retention(
    session: Session,
    archive_after_days: Annotated[str | None, typer.Option(help="Days until what ended moves to the archive.")] = None,
    output_keep_days: Annotated[str | None, typer.Option(help="Days until outputs go that nothing named.")] = None,
    output_keep_bytes: Annotated[str | None, typer.Option(help="Bytes of outputs in all; the oldest go.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")] = "",
) -> None:
    """Set some of it, each to a number or `never`; what is left out stays. It holds in place of settings."""
    given = {
        "archive_after_days": archive_after_days,
        "output_keep_days": output_keep_days,
        "output_keep_bytes": output_keep_bytes,
    }
    changes = {name: _number(name, text) for name, text in given.items() if text is not None}
    if not changes:
        raise BadValueError("Say what is to be kept for how long; see --help.")
    kept: Row = session.api.get("/retention")
    answer = session.api.put("/retention", {name: kept[name] for name in WHAT} | changes | {"reason": reason})
    said = ", ".join(f"{name}: {FOR_EVER if value is None else value}" for name, value in changes.items())
    session.out.done(f"From now on, {said}.", answer)


def _number(name: str, text: str) -> int | None:
    if text == FOR_EVER:
        return None
    if not text.isdecimal():
        raise BadValueError(f"{name.replace('_', '-')}: a number or {FOR_EVER}, not {text!r}.")
    return int(text)
