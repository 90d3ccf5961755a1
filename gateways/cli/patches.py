"""``fleetlog patches``: updates that machines offer, installed, and machines restarted."""

from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.agents import SOFTWARE_COLUMNS
from gateways.cli.commands import Reason
from gateways.cli.finding import AgentArgument
from gateways.cli.output import Column, Row, moment
from gateways.cli.run import watch
from gateways.cli.session import Session, command, group
from gateways.cli.times import seconds

app = group("patches", "Updates and restarts of machines.")

Queue = Annotated[bool, typer.Option("--queue", help="Return at once instead of waiting.")]


@command(app, "list", past=True)
def list_updates(session: Session, agent: AgentArgument) -> None:
    """List what could be updated on a machine, for security first."""
    found = finding.agent(session.api, agent)
    offered = session.api.items(f"/agents/{found['id']}/software", updates="true")
    session.out.rows(
        SOFTWARE_COLUMNS,
        sorted(offered, key=lambda one: (not one["security"], one["name"])),
        empty=f"{found['name']} knows of nothing that could be updated.",
    )


@command(app, "install")
def install(
    session: Session,
    agent: AgentArgument,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME[=VERSION]]...", help="Those alone; all that it offers.")
    ] = None,
    security: Annotated[bool, typer.Option("--security", help="Only what is for security.")] = False,
    hold: Annotated[
        list[str] | None, typer.Option("--hold", metavar="PATTERN", help="What stays: linux-image-*; repeatable.")
    ] = None,
    reboot: Annotated[bool, typer.Option("--reboot", help="Restart the machine after it, if that is needed.")] = False,
    delay: Annotated[str, typer.Option("--delay", help="Before the restart, for whoever is logged in.")] = "5m",
    timeout: Annotated[str, typer.Option("--timeout", help="How long it may take.")] = "2h",
    reason: Reason = "",
    queue: Queue = False,
) -> None:
    """Install updates that a machine offers, with its own package manager, online or not."""
    found = finding.agent(session.api, agent)
    pairs = [name.partition("=") for name in names or ()]
    spec = {
        "kind": "install_updates",
        "names": [name for name, _, _ in pairs],
        "versions": {name: version for name, _, version in pairs if version},
        "security_only": security,
        "held": hold or [],
        "reboot": "if_needed" if reboot else "never",
        "reboot_delay_s": seconds(delay),
        "timeout_s": seconds(timeout),
    }
    queued = session.api.post("/commands", {"agent_id": found["id"], "spec": spec, "reason": reason})
    watch(session, queued, found["name"], wait=not queue)


@command(app, "reboot")
def reboot_agent(
    session: Session,
    agent: AgentArgument,
    delay: Annotated[str, typer.Option("--delay", help="For whoever is logged in: 5m.")] = "0s",
    notice: Annotated[str, typer.Option("--notice", help="What they are told.")] = "",
    reason: Reason = "",
    queue: Queue = False,
) -> None:
    """Restart a machine; waits until it is back."""
    found = finding.agent(session.api, agent)
    spec = {"kind": "reboot", "delay_s": seconds(delay), "notice": notice}
    queued = session.api.post("/commands", {"agent_id": found["id"], "spec": spec, "reason": reason})
    watch(session, queued, found["name"], wait=not queue)


@command(app, "history", past=True)
def history(
    session: Session,
    agent: Annotated[str | None, typer.Option("--agent", help="Only of this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many commands.")] = 50,
) -> None:
    """List what installed updates and restarted machines, newest first, and what came of each update."""
    agent_id = finding.agent(session.api, agent)["id"] if agent else None
    commands = session.api.items("/commands", at_most=limit, agent_id=agent_id, patches="true")
    names = finding.Names(session.api)
    columns = (
        Column("queued", lambda row: moment(row["queued_at"])),
        Column("state", lambda row: row["state"]),
        Column("agent", lambda row: names.agent(row["agent_id"])),
        Column("what", lambda row: row["what"]),
        Column("came to", lambda row: row["came_to"]),
        Column("command", lambda row: row["id"]),
    )
    rows = [line for one in commands for line in _lines(one)]
    session.out.rows(columns, rows, empty="Nothing was installed or restarted.")


def _lines(one: Row) -> list[Row]:
    """A line for each update, or one for the command."""
    updates: list[Row] = ((one["result"] or {}).get("patched") or {}).get("updates") or []
    if not updates:
        return [one | {"what": one["spec"]["kind"].replace("_", " "), "came_to": one["detail"]}]
    return [
        one
        | {
            "what": f"{update['name']} {update.get('version', '')}".rstrip(),
            "came_to": ": ".join(filter(None, (update["outcome"], update.get("why", "")))),
        }
        for update in updates
    ]
