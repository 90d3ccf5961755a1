"""``fleetlog roles``: named sets of permissions."""

from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.output import Column
from gateways.cli.session import Session, command, group

app = group("roles", "Roles.")

RoleArgument = Annotated[str, typer.Argument(metavar="ROLE", help="Id, piece of it, or name.")]
Allow = Annotated[
    list[str] | None, typer.Option("--allow", metavar="PERMISSION", help="May be repeated; see `roles permissions`.")
]
Above = Annotated[
    int | None, typer.Option("--approval-above", min=0, help="An action that touches more waits for another person.")
]
For = Annotated[
    list[str] | None,
    typer.Option("--approval-for", metavar="PERMISSION", help="Each use waits for another person; may be repeated."),
]
MaxAgents = Annotated[int | None, typer.Option("--max-agents", min=1, help="That one action may touch at the most.")]

COLUMNS = (
    Column("name", lambda role: role["name"]),
    Column("built in", lambda role: role["built_in"]),
    Column("allows", lambda role: f"{len(role['permissions'])} things"),
    Column("most agents", lambda role: role["limits"]["max_agents"] or "any number"),
    Column("retired", lambda role: role["retired"]),
    Column("id", lambda role: role["id"]),
)


@command(app, "list", past=True)
def list_roles(session: Session) -> None:
    """List roles; those that are built in first."""
    session.out.rows(COLUMNS, session.api.items("/roles"), empty="There are no roles.")


@command(app, "permissions")
def list_permissions(session: Session) -> None:
    """List all that can be permitted."""
    columns = (Column("permission", lambda one: one["name"]), Column("what it is for", lambda one: one["about"]))
    session.out.rows(columns, session.api.get("/permissions")["items"])


@command(app, "show", past=True)
def show_role(session: Session, role: RoleArgument) -> None:
    """Show what a role allows."""
    found = finding.role(session.api, role)
    session.out.fields(
        [
            ("name", found["name"]),
            ("allows", found["permissions"]),
            ("most agents", found["limits"]["max_agents"]),
            ("another person above", found["limits"]["approval_above"]),
            ("another person for", found["limits"]["approval_for"]),
            ("retired", found["retired"]),
            ("id", found["id"]),
        ],
        found,
    )


@command(app, "add")
def add_role(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called.")],
    allow: Allow = None,
    max_agents: MaxAgents = None,
    approval_above: Above = None,
    approval_for: For = None,
) -> None:
    """Make a role."""
    limits = {"max_agents": max_agents, "approval_above": approval_above, "approval_for": approval_for or []}
    body = {"name": name, "permissions": allow or [], "limits": limits}
    answer = session.api.post("/roles", body)
    session.out.done(f"Role {name} made: {answer['id']}", answer)


@command(app, "change")
def change_role(
    session: Session,
    role: RoleArgument,
    name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    allow: Allow = None,
    max_agents: MaxAgents = None,
    approval_above: Above = None,
    approval_for: For = None,
) -> None:
    """Set what a role allows (all of it), its name or its limits (each one); what is left out stays."""
    found = finding.role(session.api, role)
    body: dict[str, Any] = {"name": name, "permissions": allow or None}
    given = {"max_agents": max_agents, "approval_above": approval_above, "approval_for": approval_for}
    if changed := {option: value for option, value in given.items() if value is not None}:
        body["limits"] = found["limits"] | changed
    answer = session.api.patch(f"/roles/{found['id']}", body)
    session.out.done(f"{found['name']} is changed.", answer)


@command(app, "retire")
def retire_role(
    session: Session,
    role: RoleArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")] = "",
) -> None:
    """Take a role out of use: it allows nothing any more, whoever has it."""
    found = finding.role(session.api, role)
    answer = session.api.post(f"/roles/{found['id']}/retire", {"reason": reason})
    session.out.done(f"{found['name']} is retired.", answer)
