"""``fleetlog users``: people and programs that work with the fleet, and what they may do."""

from typing import Annotated

import typer

from gateways.cli import finding, grants
from gateways.cli.asking import asked_password
from gateways.cli.erasing import erased
from gateways.cli.errors import AmbiguousError, NotFoundHereError
from gateways.cli.finding import Names
from gateways.cli.grants import GrantOption
from gateways.cli.output import Column
from gateways.cli.session import Session, command, group

app = group("users", "Users and service accounts.")

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Id, piece of it, or name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]


@command(app, "list", past=True)
def list_users(session: Session) -> None:
    """List users and service accounts."""
    names = Names(session.api)
    columns = (
        Column("name", lambda user: user["name"]),
        Column("kind", lambda user: user["kind"]),
        Column("email", lambda user: user["email"]),
        Column("may", lambda user: grants.shown([*user["grants"], *user["group_grants"]], names)),
        Column("disabled", lambda user: user["disabled"]),
        Column("id", lambda user: user["id"]),
    )
    session.out.rows(columns, session.api.items("/users"), empty="There are no users yet.")


@command(app, "add")
def add_user(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What they go by.")],
    email: Annotated[str, typer.Option("--email", help="Address.")] = "",
    service: Annotated[bool, typer.Option("--service", help="A program: it never has a password.")] = False,
    grant: GrantOption = None,
) -> None:
    """Add a user or a service account."""
    body = {"name": name, "email": email, "kind": "service" if service else "person"}
    answer = session.api.post("/users", body | {"grants": grants.wanted(session.api, grant)})
    session.out.done(f"{name} added: {answer['id']}", answer)


@command(app, "show", past=True)
def show_user(session: Session, user: UserArgument) -> None:
    """Show one of them."""
    found, names = finding.user(session.api, user), Names(session.api)
    session.out.fields(
        [
            ("name", found["name"]),
            ("kind", found["kind"]),
            ("email", found["email"]),
            ("may", grants.shown(found["grants"], names)),
            ("by groups", grants.shown(found["group_grants"], names)),
            ("disabled", found["disabled"]),
            ("id", found["id"]),
        ],
        found,
    )


@command(app, "change")
def change_user(
    session: Session,
    user: UserArgument,
    name: Annotated[str | None, typer.Option("--name", help="The new name.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="The new address.")] = None,
) -> None:
    """Give a user another name or address."""
    found = finding.user(session.api, user)
    answer = session.api.patch(f"/users/{found['id']}", {"name": name, "email": email})
    session.out.done(f"{found['name']} is changed.", answer)


@command(app, "grant")
def grant_roles(session: Session, user: UserArgument, grant: GrantOption = None) -> None:
    """Set what a user may do, all of it; without --grant: nothing any more."""
    found = finding.user(session.api, user)
    wanted = grants.wanted(session.api, grant)
    answer = session.api.put(f"/users/{found['id']}/grants", {"grants": wanted})
    session.out.done(f"{found['name']} may from now on: {', '.join(grant or ()) or 'nothing'}.", answer)


@command(app, "disable")
def disable_user(session: Session, user: UserArgument, reason: Reason = "") -> None:
    """Shut a user out at once, with all keys."""
    found = finding.user(session.api, user)
    answer = session.api.post(f"/users/{found['id']}/disable", {"reason": reason})
    session.out.done(f"{found['name']} is disabled.", answer)


@command(app, "enable")
def enable_user(session: Session, user: UserArgument, reason: Reason = "") -> None:
    """Let a disabled user in again."""
    found = finding.user(session.api, user)
    answer = session.api.post(f"/users/{found['id']}/enable", {"reason": reason})
    session.out.done(f"{found['name']} is enabled.", answer)


@command(app, "erase")
def erase_user(session: Session, user: UserArgument, reason: Reason = "") -> None:
    """Erase who a disabled user was: name, mail address, where they came from. It cannot be undone."""
    found = finding.user(session.api, user)
    answer = session.api.post(f"/users/{found['id']}/erase", {"reason": reason})
    session.out.done(erased(f"User {found['id']}", answer), answer)


@command(app, "set-password")
def set_password(
    session: Session,
    user: UserArgument,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for it, or read it from standard input.")] = False,
) -> None:
    """Give a user a password, to be changed at the next login: one that is made and shown once, or --ask.

    All sessions of the user are over. It never stands on a command line.
    """
    found = finding.user(session.api, user)
    password = asked_password(f"New password of {found['name']}: ", twice=True) if ask else None
    answer = session.api.put(f"/users/{found['id']}/password", {"password": password})
    shown = f": {answer['password']} (shown this once)" if answer.get("password") else ""
    session.out.done(f"{found['name']} has a new password{shown}. It has to be changed at the next login.", answer)


@command(app, "reset-second-factor")
def reset_second_factor(session: Session, user: UserArgument, reason: Reason = "") -> None:
    """Take a user's second factor and recovery codes away: lost, or in the wrong hands."""
    found = finding.user(session.api, user)
    answer = session.api.post(f"/users/{found['id']}/second-factor/reset", {"reason": reason})
    session.out.done(f"{found['name']} enrolls another second factor at the next login.", answer)


@command(app, "log-out")
def log_out(session: Session, user: UserArgument, reason: Reason = "") -> None:
    """Log a user out, wherever they are logged in; API keys stay."""
    found = finding.user(session.api, user)
    answer = session.api.post(f"/users/{found['id']}/sessions/revoke", {"reason": reason})
    session.out.done(f"{found['name']} is logged out everywhere.", answer)


@command(app, "identities", past=True)
def list_identities(session: Session, user: UserArgument) -> None:
    """List whom a provider may vouch for as this user."""
    found = finding.user(session.api, user)
    columns = (
        Column("subject", lambda one: one["subject"]),
        Column("issuer", lambda one: one["issuer"]),
        Column("id", lambda one: one["id"]),
    )
    empty = f"{found['name']} is linked to nobody at a provider."
    session.out.rows(columns, session.api.get(f"/users/{found['id']}/identities")["items"], empty=empty)


@command(app, "link")
def link_identity(
    session: Session,
    user: UserArgument,
    subject: Annotated[
        str, typer.Option("--subject", help="What the provider calls them for ever (`sub`); a first try shows it.")
    ],
    issuer: Annotated[
        str | None, typer.Option("--issuer", help="The provider; without it, the one that is set.")
    ] = None,
) -> None:
    """Let whom the provider calls so log in as this user."""
    found = finding.user(session.api, user)
    body = {"subject": subject, "issuer": issuer}
    answer = session.api.post(f"/users/{found['id']}/identities", body)
    session.out.done(f"{subject} logs in as {found['name']} from now on.", answer)


@command(app, "unlink")
def unlink_identity(
    session: Session,
    user: UserArgument,
    subject: Annotated[str, typer.Option("--subject", help="As `users identities` shows it.")],
    reason: Reason = "",
) -> None:
    """Take an identity from a user: it opens nothing any more, and all sessions of the user are over."""
    found = finding.user(session.api, user)
    items = session.api.get(f"/users/{found['id']}/identities")["items"]
    fitting = [one for one in items if subject in (one["subject"], one["id"])]
    if not fitting:
        raise NotFoundHereError(f"{found['name']} has no identity {subject!r}; `fleetlog users identities` lists them.")
    if len(fitting) > 1:
        raise AmbiguousError(f"{found['name']} has {len(fitting)} identities {subject!r}; give the id of one.")
    body = {"reason": reason}
    answer = session.api.post(f"/users/{found['id']}/identities/{fitting[0]['id']}/remove", body)
    session.out.done(f"{subject} no longer logs in as {found['name']}.", answer)
