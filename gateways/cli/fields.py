"""``fleetlog fields``: custom fields of clients, sites and agents."""

import json
from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError
from gateways.cli.output import Column
from gateways.cli.session import Session, command, group

app = group("fields", "What you want to know of clients, sites and agents: {{field.NAME}}.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As in {{field.NAME}}; case does not matter.")]
Client = Annotated[str | None, typer.Option("--client", help="Of this client.")]
Site = Annotated[str | None, typer.Option("--site", help="Of this site.")]
Agent = Annotated[str | None, typer.Option("--agent", help="Of this agent.")]


@command(app, "list", past=True)
def list_fields(session: Session) -> None:
    """List fields."""
    columns = (
        Column("name", lambda field: field["name"]),
        Column("kind", lambda field: field["terms"]["kind"]),
        Column("on", lambda field: ", ".join(field["terms"]["on"])),
        Column("choices", lambda field: ", ".join(field["terms"]["choices"])),
        Column("default", lambda field: _shown(field["terms"]["default"])),
        Column("required", lambda field: field["terms"]["required"]),
        Column("description", lambda field: field["terms"]["description"]),
    )
    session.out.rows(columns, session.api.items("/fields"), empty="There are no custom fields.")


@command(app, "define")
def define_field(
    session: Session,
    name: Name,
    kind: Annotated[str, typer.Option("--kind", help="text, number, choice, multiple, checkbox or date.")] = "text",
    on: Annotated[
        list[str] | None, typer.Option("--on", help="client, site or agent; may be repeated; all, if left out.")
    ] = None,
    choice: Annotated[list[str] | None, typer.Option("--choice", help="Of a choice; may be repeated.")] = None,
    default: Annotated[str | None, typer.Option("--default", help="Where nothing is filled in.")] = None,
    required: Annotated[bool, typer.Option("--required", help="It may not be left empty.")] = False,
    description: Annotated[str, typer.Option("--description", help="For whoever fills it in.")] = "",
) -> None:
    """Define a field, or change what it holds."""
    terms = {
        "kind": kind,
        "on": on or ["client", "site", "agent"],
        "choices": choice or [],
        "default": None if default is None else _value(kind, default),
        "required": required,
        "description": description,
    }
    answer = session.api.post("/fields", {"name": name, "terms": terms})
    session.out.done(f"Field {name} is defined.", answer)


@command(app, "remove")
def remove_field(session: Session, name: Name) -> None:
    """Remove a field; what is filled in stands for nothing until it is defined again."""
    found = finding.field(session.api, name)
    answer = session.api.post(f"/fields/{found['id']}/remove")
    session.out.done(f"Field {found['name']} is removed.", answer)


@command(app, "fill")
def fill_fields(
    session: Session,
    values: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE...", help="NAME= empties it; of a multiple choice: a,b.")
    ],
    client: Client = None,
    site: Site = None,
    agent: Agent = None,
) -> None:
    """Fill in fields of one client, site or agent."""
    path, what = _holder(session, client, site, agent)
    kinds = {field["name"].lower(): field["terms"]["kind"] for field in session.api.items("/fields")}
    given: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadValueError(f"{text!r} is not NAME=VALUE.")
        given[name] = _value(kinds.get(name.lower(), "text"), value) if value else None
    answer = session.api.patch(path, {"values": given})
    session.out.done(f"Filled in on {what}: {', '.join(given)}.", answer)


@command(app, "show", past=True)
def show_fields(session: Session, client: Client = None, site: Site = None, agent: Agent = None) -> None:
    """Show what is filled in on one client, site or agent."""
    path, what = _holder(session, client, site, agent)
    answer = session.api.get(path)
    shown = [(name, _shown(value)) for name, value in sorted(answer["values"].items())]
    shown += [(name, "must be filled in") for name in answer["missing"]]
    if not shown and not session.out.as_json:
        session.out.note(f"Nothing is filled in on {what}.")
    session.out.fields(shown, answer)


def _holder(session: Session, client: str | None, site: str | None, agent: str | None) -> tuple[str, str]:
    if sum(one is not None for one in (client, site, agent)) != 1:
        raise BadValueError("Name one of --client, --site and --agent.")
    if agent is not None:
        found = finding.agent(session.api, agent)
        return f"/agents/{found['id']}/fields", f"agent {found['name']}"
    if site is not None:
        found = finding.site(session.api, site)
        return f"/sites/{found['id']}/fields", f"site {found['name']}"
    found = finding.client(session.api, client or "")
    return f"/clients/{found['id']}/fields", f"client {found['name']}"


def _value(kind: str, text: str) -> Any:
    """A value as its field holds it."""
    match kind:
        case "number":
            try:
                return json.loads(text, parse_constant=float)
            except ValueError:
                raise BadValueError(f"{text!r} is no number.") from None
        case "checkbox":
            if text.lower() not in ("true", "false", "yes", "no"):
                raise BadValueError(f"{text!r} is none of true, false, yes and no.")
            return text.lower() in ("true", "yes")
        case "multiple":
            return [choice.strip() for choice in text.split(",")]
        case _:
            return text


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value)
        case _:
            return str(value)
