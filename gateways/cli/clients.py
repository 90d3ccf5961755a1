"""``fleetlog clients`` and ``fleetlog sites``: whose machines they are, and where they stand."""

from typing import Annotated

import typer

from gateways.cli import finding
from gateways.cli.finding import Names
from gateways.cli.output import Column
from gateways.cli.session import Session, command, group

clients = group("clients", "The customers.")
sites = group("sites", "The locations of the customers.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The new name.")]
ClientArgument = Annotated[str, typer.Argument(metavar="CLIENT", help="Id, piece of it, or name.")]
SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Id, piece of it, name, or client/site.")]

CLIENT_COLUMNS = (Column("name", lambda client: client["name"]), Column("id", lambda client: client["id"]))


@command(clients, "list", past=True)
def list_clients(session: Session) -> None:
    """List clients."""
    session.out.rows(CLIENT_COLUMNS, session.api.items("/clients"), empty="There are no clients yet.")


@command(clients, "add")
def add_client(session: Session, name: Name) -> None:
    """Add a client."""
    answer = session.api.post("/clients", {"name": name})
    session.out.done(f"Client {name} added: {answer['id']}", answer)


@command(clients, "rename")
def rename_client(session: Session, client: ClientArgument, name: Name) -> None:
    """Give a client another name."""
    found = finding.client(session.api, client)
    answer = session.api.patch(f"/clients/{found['id']}", {"name": name})
    session.out.done(f"{found['name']} is now called {name}.", answer)


@command(sites, "list", past=True)
def list_sites(
    session: Session, client: Annotated[str | None, typer.Option("--client", help="Only of this client.")] = None
) -> None:
    """List sites."""
    path = f"/clients/{finding.client(session.api, client)['id']}/sites" if client else "/sites"
    names = Names(session.api)
    columns = (
        Column("name", lambda site: site["name"]),
        Column("client", lambda site: names.client(site["client_id"])),
        Column("id", lambda site: site["id"]),
    )
    session.out.rows(columns, session.api.items(path), empty="There are no sites yet.")


@command(sites, "add")
def add_site(session: Session, client: ClientArgument, name: Name) -> None:
    """Add a site to a client."""
    owner = finding.client(session.api, client)
    answer = session.api.post(f"/clients/{owner['id']}/sites", {"name": name})
    session.out.done(f"Site {name} of {owner['name']} added: {answer['id']}", answer)


@command(sites, "rename")
def rename_site(session: Session, site: SiteArgument, name: Name) -> None:
    """Give a site another name."""
    found = finding.site(session.api, site)
    answer = session.api.patch(f"/sites/{found['id']}", {"name": name})
    session.out.done(f"{found['name']} is now called {name}.", answer)
