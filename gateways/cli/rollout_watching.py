"""How far a rollout is: in words, and as a bar for whoever waits for its end."""

import time
from datetime import UTC, datetime
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateways.cli.errors import UnreachableError
from gateways.cli.output import Output, Row, ago, moment
from gateways.cli.run import NOT_SUCCEEDED
from gateways.cli.session import Session

RECONNECT_S = 1.0
OPEN = ("waiting", "queued", "delivered", "running")
WELL = ("succeeded", "skipped")


def watch(session: Session, rollout_id: str) -> None:
    """Show how far it is until it runs no more; leave with an exit code for the outcome."""
    try:
        whole = _follow(session, rollout_id)
    except KeyboardInterrupt:
        session.out.note(
            f"\nNo longer waiting; the rollout goes on as {rollout_id}.\n"
            f"  fleetlog rollout show {rollout_id}    how far it is\n"
            f"  fleetlog rollout abort {rollout_id}   to stop it"
        )
        raise
    if session.out.as_json:
        session.out.json(whole)
    else:
        why = f" ({whole['detail']})" if whole["detail"] else ""
        if whole["state"] == "running":
            why = f" (all have ended; agents may join until {moment(whole['open_until'])})"
        lasted = ago(whole["started_at"], datetime.now(UTC))
        session.out.plain(f"{rollout_id} {whole['state']}{why} after {lasted}: ", counted(whole["counts"]))
    if whole["state"] in ("paused", "aborted") or sum(whole["counts"][state] for state in WELL) < whole["targeted"]:
        raise typer.Exit(NOT_SUCCEEDED)


def _follow(session: Session, rollout_id: str) -> Row:
    """Until it runs no more, from one event to the next: a stream that breaks goes on after the last one seen."""
    lost, last = False, None
    with _bar(session.out) as bar:
        task = bar.add_task("...", total=None)
        while True:
            try:
                for event in session.api.stream(f"/rollouts/{rollout_id}/stream", last_event_id=last):
                    lost = False
                    whole: Any = event.json() if event.data else None
                    if not isinstance(whole, dict):
                        continue
                    last = event.id or last
                    ended = whole["targeted"] - sum(whole["counts"][state] for state in OPEN)
                    bar.update(task, total=whole["targeted"], completed=ended, description=_words(whole))
                    if whole["state"] != "running" or (whole["open_until"] and ended == whole["targeted"]):
                        return whole
            except UnreachableError as error:
                # The rollout does not depend on our watching it: say so once, and look again.
                if not lost:
                    session.out.note(f"{error.detail} The rollout goes on; waiting for the connection ...")
                lost = True
            time.sleep(RECONNECT_S)


def _words(whole: Row) -> str:
    words = f"wave {place(whole)}: {counted(whole['counts'])}"
    speed = pace(whole)
    return f"{words}; {speed}" if speed else words


def _bar(out: Output) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=out.errors,
        transient=True,
        disable=out.as_json or not out.errors.is_terminal,
    )


def pace(whole: Row) -> str:
    """How fast it goes, and until when; empty where there is nothing to say."""
    if not whole["ended_per_minute"]:
        return ""
    speed = f"{whole['ended_per_minute']:g} agents a minute"
    return f"{speed}, all ended by about {moment(whole['estimated_end'])}" if whole["estimated_end"] else speed


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count)


def place(whole: Row) -> str:
    wave = f"{whole['wave']} of {len(whole['wave_sizes'])}"
    if whole["state"] != "running" or not whole["wave_finished"]:
        return wave
    if whole["continues_at"] is None:
        return f"{wave}, the next one waits to be released"
    return f"{wave}, the next one begins {moment(whole['continues_at'])}"
