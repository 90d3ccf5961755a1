"""``fleetlog login`` and ``logout``: which Fleetlog this user's command line talks to."""

import getpass
import sys
from typing import Annotated

import typer

from gateways.cli.api import Api
from gateways.cli.errors import BadValueError, CommandLineError
from gateways.cli.finding import Names
from gateways.cli.grants import shown
from gateways.cli.output import Output, Row
from gateways.cli.profile import clean_url, find, profile_file, save
from gateways.cli.session import BAD_REQUEST, Session, command


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("login")(login)
    app.command("logout")(logout)
    command(app, "me")(me)


def login(url: Annotated[str, typer.Argument(metavar="URL", help="As https://fleet.example.com:8470.")]) -> None:
    """Keep an address and an API key for the commands to come.

    The key is asked for, or read from standard input when that is not a terminal; it never stands on a command line.
    """
    out = Output(as_json=False)
    try:
        url = clean_url(url)
        key = (getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
        if not key:
            raise BadValueError("No key was given.")
        profile = find(url, key)
        with Api(profile) as api:
            holder = api.get("/me")
        save(profile, profile_file())
    except CommandLineError as error:
        out.error(error.shown_code, error.detail)
        raise typer.Exit(BAD_REQUEST) from error
    out.plain(f"Logged in to {profile.url} as {holder.get('name') or holder['actor']} ({roles_of(holder)}).")


def roles_of(holder: Row) -> str:
    """The names of the roles, in one line."""
    return ", ".join(dict.fromkeys(grant["role"] or grant["role_id"] for grant in holder["grants"])) or "no role"


def logout() -> None:
    """Forget the address and the key."""
    profile_file().unlink(missing_ok=True)
    Output(as_json=False).plain("Forgotten.")


def me(session: Session) -> None:
    """Show which key is in use, and what it may do."""
    holder = session.api.get("/me")
    session.out.fields(
        [
            ("address", session.api.url),
            ("name", holder.get("name")),
            ("actor", holder["actor"]),
            ("roles", shown(holder["grants"], Names(session.api))),
            ("may", [one["permission"] for one in holder["may"]]),
        ],
        holder,
    )
