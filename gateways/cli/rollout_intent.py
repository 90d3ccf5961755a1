"""The options of ``fleetlog rollout start`` and ``plan``, and the intent that they come to."""

import inspect
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from domain.hours import Weekday
from gateways.cli import finding, fleet_query
from gateways.cli.errors import BadValueError
from gateways.cli.finding import complete_script
from gateways.cli.output import Row
from gateways.cli.run import specification
from gateways.cli.session import Session
from gateways.cli.times import point, seconds

Reason = Annotated[str, typer.Option("--reason", help="Why; shown in its story.")]
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
Matching = Annotated[
    str | None,
    typer.Option(
        "--matching", metavar="QUERY", help="What matches, as in the dashboard's search box.", rich_help_panel=WHO
    ),
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


def intent(
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
    matching: Matching = None,
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
    include = selector(session, clients, sites, agents, tags) | given(
        everything=everything or None,
        matching=fleet_query.matching(matching, datetime.now(UTC)) if matching is not None else None,
        platforms=platforms or None,
        online=online,
        machine_types=[machine] if machine else None,
        filter=where or None,
    )
    exclude = selector(session, not_clients, not_sites, not_agents, not_tags) | given(filter=not_where or None)
    limits = given(
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
        "limits": given(in_flight=in_flight, per_minute=per_minute),
        "reason": reason,
    } | given(
        guard=guard if limits else None,
        lane=lane,
        priority=priority,
        not_before=point(not_before, datetime.now(UTC)).isoformat() if not_before else None,
        expires_in_s=seconds(expires_in) if expires_in else None,
        hours=_hours(hours, days, timezone) if hours or days or timezone else None,
        joins_within_s=seconds(joins_within) if joins_within else None,
    )


def takes_an_intent(function: Any) -> None:
    """Give it the options of `intent` in place of ``**options``, so that they are written down once."""
    own = inspect.signature(function).parameters.values()
    shared = list(inspect.signature(intent).parameters.values())
    extra = [parameter for parameter in own if parameter.name not in ("session", "options")]
    function.__signature__ = inspect.Signature([*shared, *extra])


def given(**values: Any) -> Row:
    return {name: value for name, value in values.items() if value is not None}


def selector(
    session: Session,
    clients: list[str] | None,
    sites: list[str] | None,
    agents: list[str] | None,
    tags: list[str] | None,
) -> Row:
    api = session.api
    return given(
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
    return given(begins=begins.strip(), ends=ends.strip(), days=_days(days) or None, timezone=timezone)


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
