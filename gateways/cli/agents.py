"""``fleetlog agents``: the machines, and what is on record of them."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.erasing import erased
from gateways.cli.errors import BadValueError
from gateways.cli.finding import AgentArgument, complete_agent
from gateways.cli.fleet_query import matching
from gateways.cli.output import Column, Row, ago, moment
from gateways.cli.session import Session, command, group

app = group("agents", "The managed machines.")

Reason = Annotated[str, typer.Option("--reason", help="Why; shown in the agent's story.")]

COLUMNS = (
    Column("name", lambda agent: agent["name"]),
    Column("online", lambda agent: "online" if agent["online"] else "offline"),
    Column("state", lambda agent: agent["state"]),
    Column("platform", lambda agent: f"{agent['platform']}/{agent['arch']}"),
    Column("client/site", lambda agent: f"{agent['client_name']}/{agent['site_name']}"),
    Column("tags", lambda agent: agent["tags"]),
    Column("seen", lambda agent: ago(agent.get("last_seen_at"))),
    Column("id", lambda agent: agent["id"]),
)


@command(app, "list", past=True)
def list_agents(
    session: Session,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Part of a name or hostname.")] = None,
    client: Annotated[str | None, typer.Option("--client", help="Only of this client.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only of this site.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Only with this tag; may be repeated.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="active, suspended or retired.")] = None,
    platform: Annotated[str | None, typer.Option("--platform", help="linux, macos or windows.")] = None,
    online: Annotated[
        bool | None, typer.Option("--online/--offline", help="Only connected ones, or only others.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List agents."""
    agents = session.api.items(
        "/agents",
        at_most=limit,
        q=text,
        client_id=finding.client(session.api, client)["id"] if client else None,
        site_id=finding.site(session.api, site)["id"] if site else None,
        tag=tag or None,
        state=state,
        platform=platform,
        online=None if online is None else str(online).lower(),
    )
    session.out.rows(COLUMNS, agents, empty="No agents match.")


@command(app, "show", past=True)
def show_agent(session: Session, agent: AgentArgument) -> None:
    """Show one agent with its facts."""
    found = finding.agent(session.api, agent)
    whole: Row = session.api.get(f"/agents/{found['id']}")
    facts: Row = whole.get("facts") or {}
    session.out.fields(
        [
            ("name", whole["name"]),
            ("id", whole["id"]),
            ("hostname", whole["hostname"]),
            ("state", whole["state"]),
            ("shut out", _seen(whole["duplicate"]["newcomer"]) if whole["duplicate"] else None),
            ("online", "online" if whole["online"] else "offline"),
            ("seen", moment(whole.get("last_seen_at"))),
            ("client", whole["client_name"]),
            ("site", whole["site_name"]),
            ("platform", f"{whole['platform']}/{whole['arch']}"),
            ("tags", whole["tags"]),
            ("agent", whole["agent_version"]),
            ("enrolled", moment(whole["enrolled_at"])),
            *((name, value) for name, value in sorted(facts.items()) if name not in whole),
        ],
        whole,
    )


@command(app, "rename")
def rename_agent(
    session: Session, agent: AgentArgument, name: Annotated[str, typer.Argument(help="Its new name.")]
) -> None:
    """Give an agent a name of its own."""
    found = finding.agent(session.api, agent)
    answer = session.api.put(f"/agents/{found['id']}/name", {"name": name})
    session.out.done(f"{found['name']} is now called {name}.", answer)


@command(app, "tag")
def tag_agent(
    session: Session,
    agent: Annotated[
        str | None,
        typer.Argument(metavar="[AGENT]", help="Name or id; none with --where.", autocompletion=complete_agent),
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Argument(help="All of its tags from now on; +TAG adds one, -TAG (after --) drops one.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="QUERY", help="All agents that match, as in the dashboard's search box."),
    ] = None,
) -> None:
    """Set an agent's tags, or change some of them; of all agents that match, change some."""
    if where is not None:
        _tag_matching(session, where, [*([agent] if agent else []), *(tags or [])])
        return
    if agent is None:
        raise BadValueError("Name an agent, or say which with --where QUERY.")
    found = finding.agent(session.api, agent)
    wanted = _tags(found["tags"], tags or [])
    answer = session.api.put(f"/agents/{found['id']}/tags", {"tags": wanted})
    session.out.done(f"{found['name']} has the tags: {', '.join(wanted) or 'none'}.", answer)


def _tag_matching(session: Session, where: str, typed: list[str]) -> None:
    """Part after part, until nothing is left."""
    if not typed or not all(tag.startswith(("+", "-")) for tag in typed):
        raise BadValueError("With --where each tag has a sign: +TAG adds one, -TAG (after --) drops one.")
    body = {
        "matching": matching(where, datetime.now(UTC)),
        "add": [tag[1:] for tag in typed if tag.startswith("+")],
        "remove": [tag[1:] for tag in typed if tag.startswith("-")],
    }
    answer = session.api.post("/agents/tags", body)
    tagged = answer["tagged"]
    while answer["left"] and answer["tagged"]:
        session.out.note(f"{tagged} done, {answer['left']} left.")
        answer = session.api.post("/agents/tags", body)
        tagged += answer["tagged"]
    agents = "1 agent has" if tagged == 1 else f"{tagged} agents have"
    session.out.done(f"{agents} other tags now.", answer | {"tagged": tagged})


def _tags(present: list[str], typed: list[str]) -> list[str]:
    """The tags that result: with a sign in front each changes what is there, otherwise they replace it."""
    if not typed or not all(tag.startswith(("+", "-")) for tag in typed):
        return sorted(set(typed))
    tags = set(present)
    for change in typed:
        if change.startswith("+"):
            tags.add(change[1:])
        else:
            tags.discard(change[1:])
    return sorted(tags)


@command(app, "move")
def move_agent(
    session: Session, agent: AgentArgument, site: Annotated[str, typer.Argument(help="Site, or client/site.")]
) -> None:
    """Move an agent to another site."""
    found = finding.agent(session.api, agent)
    target = finding.site(session.api, site)
    answer = session.api.put(f"/agents/{found['id']}/site", {"site_id": target["id"]})
    session.out.done(f"{found['name']} belongs to the site {target['name']} now.", answer)


def _seen(sighting: Row) -> str:
    return f"{sighting['hostname']} at {sighting['address']}"


@command(app, "duplicates", past=True)
def list_duplicates(session: Session) -> None:
    """List agents that are two machines: a newcomer with the same identity is shut out until you say which stays."""
    columns = (
        Column("agent", lambda agent: agent["name"]),
        Column("stays for now", lambda agent: _seen(agent["duplicate"]["present"])),
        Column("shut out", lambda agent: _seen(agent["duplicate"]["newcomer"])),
        Column("noticed", lambda agent: moment(agent["duplicate"]["noticed_at"])),
        Column("id", lambda agent: agent["id"]),
    )
    agents = session.api.items("/agents", duplicate="true")
    session.out.rows(columns, agents, empty="No agent is two machines.")


@command(app, "keep")
def keep_one(
    session: Session,
    agent: AgentArgument,
    newcomer: Annotated[
        bool, typer.Option("--newcomer/--present", help="The one that was shut out, or the one that was there.")
    ],
    reason: Reason = "",
) -> None:
    """Say which of two machines with one identity is the agent; the other one must enroll anew."""
    found = finding.agent(session.api, agent)
    stays = "newcomer" if newcomer else "present"
    answer = session.api.post(f"/agents/{found['id']}/duplicate", {"stays": stays, "reason": reason})
    session.out.done(f"The {stays} machine is {found['name']}. Enroll the other one anew.", answer)


@command(app, "suspend")
def suspend_agent(session: Session, agent: AgentArgument, reason: Reason = "") -> None:
    """Shut an agent out for a while; its commands wait."""
    found = finding.agent(session.api, agent)
    answer = session.api.post(f"/agents/{found['id']}/suspend", {"reason": reason})
    session.out.done(f"{found['name']} is suspended.", answer)


@command(app, "resume")
def resume_agent(session: Session, agent: AgentArgument, reason: Reason = "") -> None:
    """Let a suspended agent in again."""
    found = finding.agent(session.api, agent)
    answer = session.api.post(f"/agents/{found['id']}/resume", {"reason": reason})
    session.out.done(f"{found['name']} is active again.", answer)


@command(app, "rotate-key")
def rotate_key(session: Session, agent: AgentArgument, reason: Reason = "") -> None:
    """Have an agent make another key for itself; the one it has is void once it came in under the new one."""
    found = finding.agent(session.api, agent)
    body = {"agent_id": found["id"], "spec": {"kind": "rotate_key"}, "reason": reason}
    answer = session.api.post("/commands", body)
    session.out.done(f"{found['name']} will make another key: command {answer['id']}.", answer)


@command(app, "retire")
def retire_agent(session: Session, agent: AgentArgument, reason: Reason = "") -> None:
    """Take an agent out for good."""
    found = finding.agent(session.api, agent)
    answer = session.api.post(f"/agents/{found['id']}/retire", {"reason": reason})
    session.out.done(f"{found['name']} is retired; its waiting commands are cancelled.", answer)


@command(app, "erase")
def erase_agent(session: Session, agent: AgentArgument, reason: Reason = "") -> None:
    """Erase what a retired agent told of its machine: names, addresses, facts. It cannot be undone."""
    found = finding.agent(session.api, agent)
    answer = session.api.post(f"/agents/{found['id']}/erase", {"reason": reason})
    session.out.done(erased(f"Agent {found['id']}", answer), answer)


SOFTWARE_COLUMNS = (
    Column("name", lambda one: one["name"]),
    Column("version", lambda one: one["version"]),
    Column("update", lambda one: f"{one['update']} (security)" if one["security"] else one["update"]),
    Column("arch", lambda one: one["arch"]),
    Column("by", lambda one: one["source"]),
)


@command(app, "software", past=True)
def list_software(
    session: Session,
    agent: AgentArgument,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Part of a name.")] = None,
    updates: Annotated[bool, typer.Option("--updates", help="Only what could be updated.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many.")] = None,
) -> None:
    """List what is installed on a machine, and what of it could be updated."""
    found = finding.agent(session.api, agent)
    packages = session.api.items(f"/agents/{found['id']}/software", at_most=limit, q=text, updates=str(updates).lower())
    session.out.rows(SOFTWARE_COLUMNS, packages, empty="Nothing fits.")
