"""``fleetlog checks``: what agents measure again and again, and what they find."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateways.cli import finding, fleet_query
from gateways.cli.errors import BadValueError
from gateways.cli.output import Column, Row, moment
from gateways.cli.rollout_intent import (
    Agents,
    Clients,
    Everything,
    Matching,
    NotAgents,
    NotClients,
    NotSites,
    NotTags,
    NotWhere,
    Platforms,
    Reason,
    Sites,
    Tags,
    Where,
    given,
    selector,
)
from gateways.cli.session import Session, command, group
from gateways.cli.times import seconds

app = group("checks", "What agents measure again and again, and what they find.")

Check = Annotated[str, typer.Argument(metavar="CHECK", help="Id, piece of it, or name.")]
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Id, piece of it, or name.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What to call it; one with that name is changed.")]
Kind = Annotated[
    str,
    typer.Argument(metavar="KIND", help="disk [PATH], cpu, memory, service NAME, reach HOST[:PORT], script, shell."),
]
What = Annotated[
    str, typer.Argument(metavar="[WHAT]", help="The path, service, host, script or line that it is about.")
]


def _found(check: Row) -> str:
    named = [f"{count} {state}" for state, count in reversed(check["counts"].items()) if count]
    return ", ".join(named) or ("" if check["disabled"] else "nothing")


@command(app, "list", past=True)
def list_checks(session: Session) -> None:
    """List checks, and on how many machines they find what."""
    columns = (
        Column("name", lambda check: check["name"]),
        Column("kind", lambda check: check["what"]["kind"]),
        Column("every", lambda check: f"{check['interval_s']} s"),
        Column("machines", lambda check: check["machines"]),
        Column("finds", _found),
        Column("state", lambda check: "disabled" if check["disabled"] else "enabled"),
        Column("id", lambda check: check["id"]),
    )
    session.out.rows(columns, session.api.items("/checks"), empty="There are no checks.")


@command(app, "define")
def define_check(
    session: Session,
    name: Name,
    kind: Kind,
    about: What = "",
    warning: Annotated[float | None, typer.Option("--warning", help="Percent, of disk, cpu and memory.")] = None,
    error: Annotated[float | None, typer.Option("--error", help="Percent; of a disk what is free.")] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Mean of so many, of cpu and memory.")] = None,
    severity: Annotated[str | None, typer.Option("--severity", help="info, warning or error.")] = None,
    shell: Annotated[str, typer.Option("--shell", help="Of a line: sh, bash, python, powershell, cmd.")] = "sh",
    revision: Annotated[int | None, typer.Option("--revision", min=1, help="Of the script; the newest.")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="Instead of the script's own; repeatable.")] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", help="How long it may run, or take: 30s.")] = None,
    info_code: Annotated[list[int] | None, typer.Option("--info-code", help="An exit code; repeatable.")] = None,
    warning_code: Annotated[list[int] | None, typer.Option("--warning-code", help="An exit code; repeatable.")] = None,
    every: Annotated[str, typer.Option("--every", help="Between two measurements: 2m; 15s at the least.")] = "2m",
    failures: Annotated[int, typer.Option("--failures", min=1, help="So many in a row count.")] = 1,
    recoveries: Annotated[int, typer.Option("--recoveries", min=1, help="The same of better ones.")] = 1,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    everything: Everything = False,
    clients: Clients = None,
    sites: Sites = None,
    agents: Agents = None,
    tags: Tags = None,
    matching: Matching = None,
    platforms: Platforms = None,
    where: Where = "",
    not_clients: NotClients = None,
    not_sites: NotSites = None,
    not_agents: NotAgents = None,
    not_tags: NotTags = None,
    not_where: NotWhere = "",
    plan: Annotated[bool, typer.Option("--plan", help="Only say on how many machines.")] = False,
) -> None:
    """Have something measured again and again on all machines that match, now or later."""
    timeout_s = seconds(timeout) if timeout else None
    measured = {"kind": kind} | _about(session, kind, about, shell, revision, arg)
    measured |= given(
        warning=warning,
        error=error,
        samples=samples,
        severity=severity,
        timeout_s=timeout_s,
        info_codes=info_code or None,
        warning_codes=warning_code or None,
    )
    include = selector(session, clients, sites, agents, tags) | given(
        everything=everything or None,
        matching=fleet_query.matching(matching, datetime.now(UTC)) if matching is not None else None,
        platforms=platforms or None,
        filter=where or None,
    )
    exclude = selector(session, not_clients, not_sites, not_agents, not_tags) | given(filter=not_where or None)
    body = {
        "name": name,
        "what": measured,
        "target": {"include": include, "exclude": exclude},
        "interval_s": seconds(every),
        "failures": failures,
        "recoveries": recoveries,
        "description": description,
    }
    if plan:
        planned = session.api.post("/checks/plan", body)
        session.out.done(f"It would be measured on {planned['targeted']} machines.", planned)
        return
    same = next((one for one in session.api.items("/checks") if one["name"] == name), None)
    answer = session.api.post("/checks", body) if same is None else session.api.put(f"/checks/{same['id']}", body)
    session.out.done(f"Check {name} is defined.", answer)


def _about(  # noqa: PLR0911 - one for each kind
    session: Session, kind: str, about: str, shell: str, revision: int | None, arg: list[str] | None
) -> dict[str, Any]:
    """What a kind of check is about."""
    match kind:
        case "disk":
            return {"path": about}
        case "cpu" | "memory":
            return {}
        case "service":
            return {"service": about}
        case "reach":
            host, colon, port = about.rpartition(":")
            if colon and port.isdecimal() and (":" not in host or host.endswith("]")):
                return {"host": host.strip("[]"), "port": int(port)}
            return {"host": about.strip("[]")}
        case "script":
            script = finding.script(session.api, about)
            return {"script_id": script["id"]} | given(revision=revision, args=arg)
        case "shell":
            return {"shell": shell, "line": about}
        case _:
            raise BadValueError(f"{kind!r} is none of disk, cpu, memory, service, reach, script and shell.")


@command(app, "show", past=True)
def show_check(session: Session, check: Check) -> None:
    """Show one check, and the machines on which it finds something."""
    found = finding.check(session.api, check)
    whole = session.api.get(f"/checks/{found['id']}")
    if session.out.as_json:
        session.out.json(whole)
        return
    shown = [
        ("check", whole["id"]),
        ("name", whole["name"]),
        ("description", whole["description"]),
        ("what", _terms(whole["what"])),
        ("for", _terms(whole["target"])),
        ("every", f"{whole['interval_s']} s"),
        ("in a row", f"{whole['failures']} to get worse, {whole['recoveries']} to get better"),
        ("machines", whole["machines"]),
        ("finds", _found(whole)),
        ("state", "disabled" if whole["disabled"] else "enabled"),
        ("defined", f"{moment(whole['defined_at'])} by {whole['actor']}"),
    ]
    session.out.fields(shown, whole)
    columns = (
        Column("machine", lambda row: row["name"]),
        Column("state", lambda row: row["state"]),
        Column("value", _value),
        Column("since", lambda row: moment(row["since"])),
    )
    session.out.rows(columns, session.api.items(f"/checks/{found['id']}/machines"), empty="It finds nothing.")


def _terms(terms: Row) -> str:
    return json.dumps({name: value for name, value in terms.items() if value not in (None, [], {}, "")})


def _value(row: Row) -> str:
    return "" if row["value"] is None else f"{row['value']:g} {row['unit']}".strip()


@command(app, "of", past=True)
def checks_of(session: Session, agent: Agent) -> None:
    """List the checks of one machine, and what they find on it."""
    found = finding.agent(session.api, agent)
    answer = session.api.get(f"/agents/{found['id']}/checks")
    if session.out.as_json:
        session.out.json(answer)
        return
    columns = (
        Column("check", lambda row: row["name"]),
        Column("state", lambda row: row["state"] or "not measured yet"),
        Column("since", lambda row: moment(row["since"])),
        Column("value", _value),
        Column("measured", lambda row: moment(row["measured"]["at"]) if row["measured"] else ""),
        Column("detail", lambda row: row["measured"]["detail"] if row["measured"] else ""),
    )
    session.out.rows(columns, answer["items"], empty="No check is for this machine.")
    if not answer["delivered"]:
        session.out.note("Its agent has not got this list of checks yet.")


@command(app, "disable")
def disable_check(session: Session, check: Check, reason: Reason = "") -> None:
    """Measure a check nowhere until it is enabled."""
    found = finding.check(session.api, check)
    answer = session.api.post(f"/checks/{found['id']}/disable", {"reason": reason})
    session.out.done(f"Check {found['name']} is disabled.", answer)


@command(app, "enable")
def enable_check(session: Session, check: Check) -> None:
    """Measure a check again."""
    found = finding.check(session.api, check)
    answer = session.api.post(f"/checks/{found['id']}/enable")
    session.out.done(f"Check {found['name']} is enabled.", answer)


@command(app, "remove")
def remove_check(session: Session, check: Check, reason: Reason = "") -> None:
    """Measure a check nowhere any more, for good."""
    found = finding.check(session.api, check)
    answer = session.api.post(f"/checks/{found['id']}/remove", {"reason": reason})
    session.out.done(f"Check {found['name']} is removed.", answer)
