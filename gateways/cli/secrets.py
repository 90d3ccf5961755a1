"""``fleetlog secrets``: values that commands use and nobody is shown."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError
from gateways.cli.finding import Names
from gateways.cli.output import Column, moment
from gateways.cli.session import Session, command, group

app = group("secrets", "Values that commands use and nobody is shown: {{secret.NAME}}.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in {{secret.NAME}}; case does not matter.")]
Client = Annotated[str | None, typer.Option("--client", help="It counts for this client.")]
Site = Annotated[str | None, typer.Option("--site", help="It counts for this site.")]
Agent = Annotated[str | None, typer.Option("--agent", help="It counts for this agent.")]


@command(app, "set")
def set_secret(
    session: Session,
    name: Name,
    client: Client = None,
    site: Site = None,
    agent: Agent = None,
    file: Annotated[
        Path | None, typer.Option("--file", allow_dash=True, help="Holds the value; - reads standard input.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="For whoever lists the secrets.")] = "",
) -> None:
    """Give a secret its value: asked for, or out of a file, or standard input; never on the command line.

    It counts for the whole fleet, or for one client, site or agent. Where several are of one name, the nearest to the
    machine counts. A single line break at the end of a file or of standard input is left out.
    """
    scope = _scope(session, client, site, agent)
    answer = session.api.post("/secrets", {"name": name, "value": _value(name, file), "note": note, "scope": scope})
    again = f" (value {answer['number']})" if answer["number"] > 1 else ""
    session.out.done(f"Secret {name} is set{again}.", answer)


@command(app, "list", past=True)
def list_secrets(session: Session) -> None:
    """List secrets, without their values."""
    names = Names(session.api)

    def where(secret: dict[str, Any]) -> str:
        match secret["scope"]:
            case "agent":
                return f"agent {names.agent(secret['agent_id'])}"
            case "site":
                return f"site {names.site(secret['site_id'])}"
            case "client":
                return f"client {names.client(secret['client_id'])}"
            case _:
                return "whole fleet"

    columns = (
        Column("name", lambda secret: secret["name"]),
        Column("counts for", where),
        Column("value", lambda secret: secret["number"]),
        Column("set", lambda secret: moment(secret["set_at"])),
        Column("note", lambda secret: secret["note"]),
        Column("id", lambda secret: secret["id"]),
    )
    session.out.rows(columns, session.api.items("/secrets"), empty="There are no secrets.")


@command(app, "remove")
def remove_secret(
    session: Session,
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="Name, id, or a piece of it.")],
    client: Client = None,
    site: Site = None,
    agent: Agent = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")] = "",
) -> None:
    """Take a secret away; a command that names it and was not delivered yet ends as rejected."""
    named = client is not None or site is not None or agent is not None
    wanted = _scope(session, client, site, agent) if named else {}
    found = finding.secret(
        session.api, secret, {"scope" if what == "kind" else what: one for what, one in wanted.items()}
    )
    answer = session.api.post(f"/secrets/{found['id']}/remove", {"reason": reason})
    session.out.done(f"Secret {found['name']} is removed.", answer)


@command(app, "rotate")
def rotate_secrets(session: Session) -> None:
    """Seal all secrets anew under the present master key; then older ones may go."""
    answer = session.api.post("/secrets/rotate")
    session.out.done(f"{answer['count']} values are sealed under master key {answer['key_id']}.", answer)


def _scope(session: Session, client: str | None, site: str | None, agent: str | None) -> dict[str, Any]:
    if sum(one is not None for one in (client, site, agent)) > 1:
        raise BadValueError("Name one of --client, --site and --agent, or none for the whole fleet.")
    if agent is not None:
        return {"kind": "agent", "agent_id": finding.agent(session.api, agent)["id"]}
    if site is not None:
        return {"kind": "site", "site_id": finding.site(session.api, site)["id"]}
    if client is not None:
        return {"kind": "client", "client_id": finding.client(session.api, client)["id"]}
    return {"kind": "fleet"}


def _value(name: str, file: Path | None) -> str:
    if file is None and sys.stdin.isatty():
        value = getpass.getpass(f"Value of {name}: ")
        if getpass.getpass("Once more: ") != value:
            raise BadValueError("The two differ; nothing was set.")
        return value
    try:
        text = sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
        return text.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise BadValueError(f"{error.filename}: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise BadValueError("The value is not text in UTF-8; encode it, and decode it in the script.") from None
