"""``fleetlog rollout``: one intent for many agents."""

import inspect
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from domain.hours import Weekday
from domain.rollout_candidates import NOT_MEANT
from gateways.cli import finding
from gateways.cli.errors import BadValueError, UnreachableError
from gateways.cli.finding import Names, complete_script
from gateways.cli.output import Column, Output, Row, ago, moment
from gateways.cli.run import NOT_SUCCEEDED, specification
from gateways.cli.session import Session, command, group
from gateways.cli.times import point, seconds

app = group("rollout", "One intent for many agents.")
RECONNECT_S = 1.0
OPEN = ("waiting", "queued", "delivered", "running")
WELL = ("succeeded", "skipped")

RolloutArgument = Annotated[str, typer.Argument(metavar="ROLLOUT", help="Id, piece of it, or name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; shown in its story.")]
Queue = Annotated[bool, typer.Option("--queue", help="Return at once instead of waiting.")]
What = Annotated[
    str | None,
    typer.Argument(
        metavar="[SCRIPT|LINE]", help="A script; with --shell, a line for it.", autocompletion=complete_script
    ),
]
Shell = Annotated[str | None, typer.Option("--shell", help="Run a line: sh, bash, python, ...")]
Ping = Annotated[bool, typer.Option("--ping", help="Do nothing, durably.")]
Facts = Annotated[bool, typer.Option("--facts", help="Gather the machines' facts.")]
Revision = Annotated[int | None, typer.Option("--revision", min=1, help="Of the script; the newest.")]
Arg = Annotated[list[str] | None, typer.Option("--arg", help="Instead of the script's own; repeatable.")]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Repeatable.")]
Timeout = Annotated[str | None, typer.Option("--timeout", help="How long it may run: 90s, 15m.")]
RunAs = Annotated[str | None, typer.Option("--run-as", help="A user of the machines.")]
WHO = "Who"
Everything = Annotated[bool, typer.Option("--all", help="All agents.", rich_help_panel=WHO)]
Clients = Annotated[list[str] | None, typer.Option("--client", help="Repeatable.", rich_help_panel=WHO)]
Sites = Annotated[list[str] | None, typer.Option("--site", help="Repeatable.", rich_help_panel=WHO)]
Agents = Annotated[list[str] | None, typer.Option("--agent", help="Repeatable.", rich_help_panel=WHO)]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Any of them; repeatable.", rich_help_panel=WHO)]
Platforms = Annotated[
    list[str] | None, typer.Option("--platform", help="Only linux, macos, windows.", rich_help_panel=WHO)
]
Online = Annotated[
    bool | None, typer.Option("--online/--offline", help="Only those that are (not).", rich_help_panel=WHO)
]
Machine = Annotated[
    str | None, typer.Option("--machine", help="Only server or workstation, by its facts.", rich_help_panel=WHO)
]
Where = Annotated[
    str,
    typer.Option("--where", metavar="FILTER", help="Only where its facts say so.", rich_help_panel=WHO),
]
NotWhere = Annotated[
    str, typer.Option("--not-where", metavar="FILTER", help="Not where its facts say so.", rich_help_panel=WHO)
]
NotClients = Annotated[list[str] | None, typer.Option("--not-client", help="Repeatable.", rich_help_panel=WHO)]
NotSites = Annotated[list[str] | None, typer.Option("--not-site", help="Repeatable.", rich_help_panel=WHO)]
NotAgents = Annotated[list[str] | None, typer.Option("--not-agent", help="Repeatable.", rich_help_panel=WHO)]
NotTags = Annotated[list[str] | None, typer.Option("--not-tag", help="Repeatable.", rich_help_panel=WHO)]
JoinsWithin = Annotated[
    str | None,
    typer.Option("--joins-within", help="Also agents that come to match within 14d.", rich_help_panel=WHO),
]
HOW = "How fast"
Within = Annotated[
    str | None,
    typer.Option("--hours", metavar="22:00-05:00", help="Begin only then, by its clock.", rich_help_panel=HOW),
]
Days = Annotated[
    str, typer.Option("--days", help="On which the hours begin: mon-fri, or sat,sun.", rich_help_panel=HOW)
]
Timezone = Annotated[
    str | None, typer.Option("--timezone", help="Of the hours, instead of each machine's own.", rich_help_panel=HOW)
]
Waves = Annotated[
    list[str] | None,
    typer.Option("--wave", metavar="N|N%", help="10% or 50; repeatable, the rest is the last.", rich_help_panel=HOW),
]
Pause = Annotated[str, typer.Option("--pause", help="Between two waves: 30m.", rich_help_panel=HOW)]
Manual = Annotated[bool, typer.Option("--manual", help="Each wave waits to be released.", rich_help_panel=HOW)]
Finished = Annotated[
    int,
    typer.Option("--finished", min=0, max=100, help="A wave is over when so many % have ended.", rich_help_panel=HOW),
]
InFlight = Annotated[int | None, typer.Option("--in-flight", min=1, help="So many at once.", rich_help_panel=HOW)]
PerMinute = Annotated[int | None, typer.Option("--per-minute", min=1, help="So many a minute.", rich_help_panel=HOW)]
MaxFailed = Annotated[
    int | None,
    typer.Option("--max-failed", min=0, max=100, help="Stop when more than so many % fail.", rich_help_panel=HOW),
]
MaxTimedOut = Annotated[
    int | None,
    typer.Option("--max-timed-out", min=0, max=100, help="Stop if more than so many % time out.", rich_help_panel=HOW),
]
MaxUnanswered = Annotated[
    int | None,
    typer.Option(
        "--max-unanswered", min=0, max=100, help="Stop when more than so many % do not answer.", rich_help_panel=HOW
    ),
]
AnswerWithin = Annotated[
    str, typer.Option("--answer-within", help="How long an agent that is there may take: 15m.", rich_help_panel=HOW)
]
MinEnded = Annotated[int, typer.Option("--min-ended", min=1, help="Judge after so many.", rich_help_panel=HOW)]
OnFailures = Annotated[str, typer.Option("--on-failures", help="pause or abort.", rich_help_panel=HOW)]
Name = Annotated[str | None, typer.Option("--name", help="What to call it.")]
Lane = Annotated[str | None, typer.Option("--lane", help="Commands of one lane run one at a time.")]
Priority = Annotated[int | None, typer.Option("--priority", min=0, max=9, help="0 first, 9 last.")]
NotBefore = Annotated[str | None, typer.Option("--not-before", help="A time, or 2h from now.")]
ExpiresIn = Annotated[str | None, typer.Option("--expires-in", help="Each command's: 2h, 7d.")]


def _intent(
    session: Session,
    what: What = None,
    name: Name = None,
    shell: Shell = None,
    ping: Ping = False,
    facts: Facts = False,
    revision: Revision = None,
    arg: Arg = None,
    env: Env = None,
    timeout: Timeout = None,
    run_as: RunAs = None,
    everything: Everything = False,
    clients: Clients = None,
    sites: Sites = None,
    agents: Agents = None,
    tags: Tags = None,
    platforms: Platforms = None,
    online: Online = None,
    machine: Machine = None,
    where: Where = "",
    not_clients: NotClients = None,
    not_sites: NotSites = None,
    not_agents: NotAgents = None,
    not_tags: NotTags = None,
    not_where: NotWhere = "",
    joins_within: JoinsWithin = None,
    hours: Within = None,
    days: Days = "",
    timezone: Timezone = None,
    waves: Waves = None,
    pause: Pause = "0s",
    manual: Manual = False,
    finished: Finished = 100,
    in_flight: InFlight = None,
    per_minute: PerMinute = None,
    max_failed: MaxFailed = None,
    max_timed_out: MaxTimedOut = None,
    max_unanswered: MaxUnanswered = None,
    answer_within: AnswerWithin = "15m",
    min_ended: MinEnded = 10,
    on_failures: OnFailures = "pause",
    lane: Lane = None,
    priority: Priority = None,
    not_before: NotBefore = None,
    expires_in: ExpiresIn = None,
    reason: Reason = "",
) -> Row:
    """From what was typed to what the API is asked."""
    spec = specification(
        session,
        what,
        shell,
        ping=ping,
        facts=facts,
        revision=revision,
        arg=arg,
        env=env,
        timeout=timeout,
        run_as=run_as,
    )
    include = _selector(session, clients, sites, agents, tags) | _given(
        everything=everything or None,
        platforms=platforms or None,
        online=online,
        machine_types=[machine] if machine else None,
        filter=where or None,
    )
    exclude = _selector(session, not_clients, not_sites, not_agents, not_tags) | _given(filter=not_where or None)
    limits = _given(
        max_failed_percent=max_failed, max_timed_out_percent=max_timed_out, max_unanswered_percent=max_unanswered
    )
    guard = limits | {"min_ended": min_ended, "action": on_failures}
    if max_unanswered is not None:
        guard["answer_within_s"] = seconds(answer_within)
    return {
        "name": name or what or spec["kind"].replace("_", " "),
        "target": {"include": include, "exclude": exclude},
        "spec": spec,
        "waves": [
            _wave(text) | {"pause_s": seconds(pause), "manual": manual, "finished_percent": finished}
            for text in waves or ()
        ],
        "limits": _given(in_flight=in_flight, per_minute=per_minute),
        "reason": reason,
    } | _given(
        guard=guard if limits else None,
        lane=lane,
        priority=priority,
        not_before=point(not_before, datetime.now(UTC)).isoformat() if not_before else None,
        expires_in_s=seconds(expires_in) if expires_in else None,
        hours=_hours(hours, days, timezone) if hours or days or timezone else None,
        joins_within_s=seconds(joins_within) if joins_within else None,
    )


def start(session: Session, *, queue: Queue = False, **options: Any) -> None:
    """Give many agents a command each, online or not.

    Waits for the end with a progress bar (of an open one: for the end of those that are in it). Exit code 0: all
    succeeded; 1: not all did, or it was paused or aborted on the way; 2: it was not started. Ctrl-C ends the waiting,
    not the rollout.
    """
    begun = session.api.post("/rollouts", _intent(session, **options))
    if queue:
        session.out.done(f"Started for {begun['targeted']} agents: {begun['id']}", begun)
    else:
        _watch(session, begun["id"])


def plan(session: Session, **options: Any) -> None:
    """Say whom `start` with the same options would reach, and who is left out and why; nothing is started."""
    planned = session.api.post("/rollouts/plan", _intent(session, **options))
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


def _takes_an_intent(function: Any) -> None:
    """Give it the options of `_intent` in place of ``**options``, so that they are written down once."""
    own = inspect.signature(function).parameters.values()
    shared = list(inspect.signature(_intent).parameters.values())
    extra = [parameter for parameter in own if parameter.name not in ("session", "options")]
    function.__signature__ = inspect.Signature([*shared, *extra])


_takes_an_intent(start)
_takes_an_intent(plan)


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
    sites: Annotated[bool, typer.Option("--sites", help="List how far it is at each site.")] = False,
) -> None:
    """Show how far a rollout is and how its commands ended; with --state, list agents; with --sites, sites."""
    found = finding.rollout(session.api, rollout)
    path = f"/rollouts/{found['id']}"
    if state:
        _show_agents(session, session.api.items(f"{path}/agents", state=state))
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
            ("counts", _counted(whole["counts"])),
            ("wave", _where(whole)),
            ("pace", _pace(whole)),
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
        printed = f", printed {_last_line(item['tail'])!r}" if item["tail"] else ""
        session.out.plain(f"{item['agents']} agents: ", f"{_ending(item)}{printed}")


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
    command(app, _name)(_function)


def _given(**given: Any) -> Row:
    return {name: value for name, value in given.items() if value is not None}


def _selector(
    session: Session,
    clients: list[str] | None,
    sites: list[str] | None,
    agents: list[str] | None,
    tags: list[str] | None,
) -> Row:
    api = session.api
    return _given(
        clients=[finding.client(api, one)["id"] for one in clients] if clients else None,
        sites=[finding.site(api, one)["id"] for one in sites] if sites else None,
        agents=[finding.agent(api, one)["id"] for one in agents] if agents else None,
        tags=tags or None,
    )


def _wave(text: str) -> Row:
    number, percent, rest = text.strip().partition("%")
    if rest or not number.isdecimal():
        raise BadValueError(f"{text!r} is no wave; write 10% or 50.")
    return {"percent" if percent else "count": int(number)}


def _hours(text: str | None, days: str, timezone: str | None) -> Row:
    begins, dash, ends = (text or "").partition("-")
    if not dash:
        raise BadValueError(f"{text or 'Nothing'!r} are no hours; write --hours 22:00-05:00.")
    return _given(begins=begins.strip(), ends=ends.strip(), days=_days(days) or None, timezone=timezone)


def _days(text: str) -> list[str]:
    """``mon-fri`` and ``sat,sun`` as a list of days."""
    week = [day.value for day in Weekday]
    found: list[str] = []
    for part in filter(None, (part.strip().lower() for part in text.split(","))):
        first, _, last = part.partition("-")
        if first not in week or (last or first) not in week:
            raise BadValueError(f"{part!r} is no day; write mon, mon-fri, or sat,sun.")
        start, end = week.index(first), week.index(last or first)
        found += week[start : end + 1] if start <= end else week[start:] + week[: end + 1]
    return list(dict.fromkeys(found))


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
        Column("counts", lambda item: _counted(item["counts"])),
    )
    session.out.rows(columns, items)


def _pace(whole: Row) -> str:
    """How fast it goes, and until when; empty where there is nothing to say."""
    if not whole["ended_per_minute"]:
        return ""
    pace = f"{whole['ended_per_minute']:g} agents a minute"
    return f"{pace}, all ended by about {moment(whole['estimated_end'])}" if whole["estimated_end"] else pace


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.items() if count)


def _where(whole: Row) -> str:
    place = f"{whole['wave']} of {len(whole['wave_sizes'])}"
    if whole["state"] != "running" or not whole["wave_finished"]:
        return place
    if whole["continues_at"] is None:
        return f"{place}, the next one waits to be released"
    return f"{place}, the next one begins {moment(whole['continues_at'])}"


def _ending(item: Row) -> str:
    code = f" with exit code {item['exit_code']}" if item["exit_code"] is not None else ""
    return f"{item['state'].replace('_', ' ')}{code}"


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
    _watch(session, found["id"])


def _watch(session: Session, rollout_id: str) -> None:
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
        session.out.plain(f"{rollout_id} {whole['state']}{why} after {lasted}: ", _counted(whole["counts"]))
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
    words = f"wave {_where(whole)}: {_counted(whole['counts'])}"
    pace = _pace(whole)
    return f"{words}; {pace}" if pace else words


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
