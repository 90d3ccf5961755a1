"""``fleetlog views``: how somebody looks at the fleet in the dashboard, kept under a name."""

from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.output import Column
from gateways.cli.session import Session, command, group

app = group("views", "Saved views of the fleet: your own, and those that are shared.")

View = Annotated[str, typer.Argument(metavar="VIEW", help="Its name or id.")]


def _what(view: dict[str, Any]) -> str:
    order = "" if view["sort"] == "name" else f", by {view['sort']}"
    return f"{view['query'] or 'all machines'}{order}"


@command(app, "list", past=True)
def list_views(session: Session) -> None:
    """List your own views and those that are shared with you."""
    columns = (
        Column("name", lambda view: view["name"]),
        Column("shows", _what),
        Column("whose", lambda view: "yours" if view["own"] else "shared"),
        Column("shared", lambda view: view["shared"]),
        Column("saved by", lambda view: view["actor"]),
        Column("id", lambda view: view["id"]),
    )
    session.out.rows(columns, session.api.items("/views"), empty="No view is saved.")


@command(app, "save")
def save_view(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name; one of yours with it is changed.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="As in the dashboard's search box.")] = "",
    client: Annotated[str | None, typer.Option("--client", help="Only this client's machines.")] = None,
    site: Annotated[str | None, typer.Option("--site", help="Only this site's machines.")] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="name, client, seen, pending, ...; -seen the other way.")
    ] = "name",
    column: Annotated[list[str] | None, typer.Option("--column", help="To show; may be repeated.")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="All who see its place see it.")] = False,
) -> None:
    """Save a view of the fleet under a name."""
    body = {
        "name": name,
        "query": query,
        "client_id": finding.client(session.api, client)["id"] if client is not None else None,
        "site_id": finding.site(session.api, site)["id"] if site is not None else None,
        "sort": sort,
        "columns": column or [],
        "shared": shared,
    }
    same = next((one for one in session.api.items("/views") if one["own"] and one["name"] == name), None)
    answer = session.api.post("/views", body) if same is None else session.api.put(f"/views/{same['id']}", body)
    session.out.done(f"View {name} is saved.", answer)


@command(app, "remove")
def remove_view(session: Session, view: View) -> None:
    """Remove a saved view."""
    found = finding.view(session.api, view)
    answer = session.api.post(f"/views/{found['id']}/remove")
    session.out.done(f"View {found['name']} is removed.", answer)
