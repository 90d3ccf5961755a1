"""``fleetlog rollout``: one intent for many agents."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from domain.rollout_candidates import NOT_MEANT
from gateways.cli import finding
from gateways.cli.finding import Names
from gateways.cli.output import Column, Row, moment
from gateways.cli.rollout_intent import Reason, intent, takes_an_intent
from gateways.cli.rollout_watching import OPEN, counted, pace, place, watch
from gateways.cli.session import Session, command, group

app = group("rollout", "One intent for many agents.")
RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Id, piece of it, or name.")]
Queue = Annotated[bool, typer.Option("--queue", help="Return at once instead of waiting.")]


def start(session: Session, *, queue: Queue = False, **options: Any) -> None:
    """Give many agents a command each, online or not.

    Waits for the end with a progress bar (of an open one: for the end of those that are in it). Exit code 0: all
    succeeded; 1: not all did, or it was paused or aborted on the way; 2: it was not started. Ctrl-C ends the waiting,
    not the rollout.
    """
    begun = session.api.post("/rollouts", intent(session, **options))
    if queue:
        session.out.done(f"Started for {begun['targeted']} agents: {begun['id']}", begun)
    else:
        watch(session, begun["id"])


def plan(session: Session, **options: Any) -> None:
    """Say whom `start` with the same options would reach, and who is left out and why; nothing is started."""
    planned = session.api.post("/rollouts/plan", intent(session, **options))
    if session.out.as_json:
        session.out.json(planned)
        return
    waves = f" in {len(planned['waves'])} waves ({', '.join(map(str, planned['waves']))})" if planned["waves"] else ""
    session.out.plain(f"{planned['targeted']} agents{waves}.")
    if planned["open_until"]:
        session.out.plain(f"Those that come to match until {moment(planned['open_until'])} join them.")
    for reason, count in planned["excluded"].items():
        session.out.plain(f"{count} left out: ", reason.replace("_", " "))
    names = Names(session.api)
    for one in planned["left_out"]:
        if one["reason"] in NOT_MEANT:
            continue
        session.out.plain(f"  {names.agent(one['agent_id'])}: ", one["reason"].replace("_", " "))


takes_an_intent(start)
takes_an_intent(plan)


def list_(
    session: Session,
    state: Annotated[str | None, typer.Option("--state", help="running, paused, completed, aborted.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Only those that reach this client.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
) -> None:
    """List rollouts, newest first."""
    client_id = finding.client(session.api, client)["id"] if client else None
    columns = (
        Column("started", lambda item: moment(item["started_at"])),
        Column("name", lambda item: item["name"]),
        Column("state", lambda item: item["state"]),
        Column("agents", lambda item: item["targeted"]),
        Column("wave", lambda item: f"{item['wave']} of {len(item['wave_sizes'])}"),
        Column("rollout", lambda item: item["id"]),
    )
    items = session.api.items("/rollouts", at_most=limit, state=state, client_id=client_id)
    session.out.rows(columns, items, empty="No rollouts match.")


def show(
    session: Session,
    rollout: RolloutArgument,
    state: Annotated[list[str] | None, typer.Option("--state", help="List its agents in this state.")] = None,
    wave: Annotated[int | None, typer.Option("--wave", min=1, help="List its agents of this wave.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="List its agents at this site.")] = None,
    sites: Annotated[bool, typer.Option("--sites", help="List how far it is at each site.")] = False,
) -> None:
    """Show how far a rollout is and how its commands ended; with --state, --wave or --site, list agents."""
    found = finding.rollout(session.api, rollout)
    path = f"/rollouts/{found['id']}"
    if state or wave or site:
        site_id = finding.site(session.api, site)["id"] if site else None
        _show_agents(session, session.api.items(f"{path}/agents", state=state, wave=wave, site_id=site_id))
        return
    if sites:
        _show_sites(session, session.api.items(f"{path}/sites"))
        return
    whole = session.api.get(path)
    outcomes = session.api.get(f"{path}/outcomes")["items"]
    session.out.fields(
        [
            ("rollout", whole["id"]),
            ("name", whole["name"]),
            ("state", whole["state"]),
            ("detail", whole["detail"]),
            ("agents", whole["targeted"]),
            ("counts", counted(whole["counts"])),
            ("wave", place(whole)),
            ("pace", pace(whole)),
            ("open until", moment(whole["open_until"])),
            ("reason", whole["reason"]),
            ("by", whole["actor"]),
            ("started", moment(whole["started_at"])),
            ("ended", moment(whole["ended_at"])),
        ],
        whole | {"outcomes": outcomes},
    )
    if session.out.as_json:
        return
    for item in outcomes:
        session.out.plain(f"{item['agents']} agents: ", f"{_ending(item)}{_said(item)}")


def outcomes(
    session: Session,
    rollout: RolloutArgument,
    lines: Annotated[int, typer.Option("--lines", min=1, help="Of each output, the last so many.")] = 5,
) -> None:
    """Show how its commands ended, by exit code, and what they printed, the same together."""
    path = f"/rollouts/{finding.rollout(session.api, rollout)['id']}/outcomes"
    by_code = session.api.get(path, by="exit_code")["items"]
    by_output = session.api.get(path, by="output")["items"]
    if session.out.as_json:
        session.out.json({"by_exit_code": by_code, "by_output": by_output})
        return
    for item in by_code:
        session.out.plain(f"{item['agents']} agents: ", _ending(item))
    for item in by_output:
        if item["stdout_sha256"] is None:
            session.out.plain(f"{item['agents']} agents printed nothing.")
            continue
        session.out.plain(f"{item['agents']} agents printed this:")
        for line in (item["tail"] or "").splitlines()[-lines:]:
            session.out.plain("  ", line)


def pause_(session: Session, rollout: RolloutArgument, reason: Reason = "") -> None:
    """Queue no more; what is queued goes on."""
    _change(session, rollout, "pause", "Paused; what is queued goes on.", reason)


def resume(session: Session, rollout: RolloutArgument, reason: Reason = "", queue: Queue = False) -> None:
    """Go on with a paused rollout, and wait for its end."""
    _change(session, rollout, "resume", "Resumed.", reason, wait=not queue)


def release(session: Session, rollout: RolloutArgument, reason: Reason = "", queue: Queue = False) -> None:
    """Begin the next wave now, whatever it waits for, and wait for the end."""
    _change(session, rollout, "release", "The next wave is released.", reason, wait=not queue)


def close(session: Session, rollout: RolloutArgument, reason: Reason = "") -> None:
    """Let nobody join an open rollout any more; those that are in it go on."""
    _change(session, rollout, "close", "Closed; those that are in it go on.", reason)


def abort(session: Session, rollout: RolloutArgument, reason: Reason = "") -> None:
    """End a rollout: what is queued is cancelled, what runs is let finish."""
    _change(session, rollout, "abort", "Aborted; what is queued is cancelled, what runs is let finish.", reason)


def retry(session: Session, rollout: RolloutArgument, reason: Reason = "", queue: Queue = False) -> None:
    """Give a new command to each agent whose last one failed, and wait for the end."""
    _change(session, rollout, "retry-failed", "Those that failed get another command.", reason, wait=not queue)


for _name, _function in (
    ("start", start),
    ("plan", plan),
    ("list", list_),
    ("show", show),
    ("outcomes", outcomes),
    ("pause", pause_),
    ("resume", resume),
    ("release", release),
    ("close", close),
    ("abort", abort),
    ("retry", retry),
):
    command(app, _name, past=_function in (list_, show, outcomes))(_function)


def _show_agents(session: Session, items: Iterable[Row]) -> None:
    columns = (
        Column("agent", lambda item: item["agent"] or item["agent_id"]),
        Column("state", lambda item: item["state"]),
        Column("wave", lambda item: item["wave"]),
        Column("round", lambda item: item["round"]),
        Column("exit", lambda item: item["exit_code"]),
        Column("ended", lambda item: moment(item["ended_at"])),
        Column("detail", lambda item: item["detail"]),
        Column("command", lambda item: item["command_id"]),
    )
    session.out.rows(columns, items, empty="No agent is in that state.")


def _show_sites(session: Session, items: Iterable[Row]) -> None:
    columns = (
        Column("client", lambda item: item["client"] or item["client_id"]),
        Column("site", lambda item: item["site"] or item["site_id"]),
        Column("agents", lambda item: sum(item["counts"].values())),
        Column("open", lambda item: sum(item["counts"][state] for state in OPEN)),
        Column("counts", lambda item: counted(item["counts"])),
    )
    session.out.rows(columns, items)


def _ending(item: Row) -> str:
    code = f" with exit code {item['exit_code']}" if item["exit_code"] is not None else ""
    return f"{item['state'].replace('_', ' ')}{code}"


def _said(item: Row) -> str:
    """What it printed last: of what failed, as an error if it did, since the reason is there."""
    if item["state"] != "succeeded" and item["error_tail"]:
        return f", said {_last_line(item['error_tail'])!r}"
    return f", printed {_last_line(item['tail'])!r}" if item["tail"] else ""


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def _change(session: Session, typed: str, action: str, sentence: str, reason: str, *, wait: bool = False) -> None:
    found = finding.rollout(session.api, typed)
    answer = session.api.post(f"/rollouts/{found['id']}/{action}", {"reason": reason})
    if not wait:
        session.out.done(sentence, answer)
        return
    session.out.note(sentence)
    watch(session, found["id"])
