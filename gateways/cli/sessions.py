"""``fleetlog sessions``, and what people do about their own login: proof, password, second factor, recovery codes."""

from typing import Annotated

import typer

from gateways.cli import first_login
from gateways.cli.asking import asked, asked_password
from gateways.cli.errors import AmbiguousError, BadValueError, NotFoundHereError
from gateways.cli.output import Column, Row, ago, moment
from gateways.cli.profile import Profile, kept
from gateways.cli.session import Session, command, group, proof_of
from gateways.cli.sso import through_provider

app = group("sessions", "Where you are logged in.")

SessionArgument = Annotated[str, typer.Argument(metavar="SESSION", help="Id, or its end.")]


passkeys = group("passkeys", "Passkeys that log you in; a browser adds them.")

PasskeyArgument = Annotated[str, typer.Argument(metavar="PASSKEY", help="Its name or id.")]


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(app)
    program.add_typer(passkeys)
    command(program, "prove")(prove)
    command(program, "password")(password)
    command(program, "second-factor")(second_factor)
    command(program, "recovery-codes")(recovery_codes)


@command(app, "list")
def list_sessions(session: Session) -> None:
    """List your sessions, the newest first."""
    columns = (
        Column("begun", lambda one: moment(one["opened_at"])),
        Column("used", lambda one: f"{ago(one['seen_at'])} ago"),
        Column("ends", lambda one: moment(one["expires_at"])),
        Column("from", lambda one: one["address"]),
        Column("with", lambda one: one["agent"]),
        Column("this one", lambda one: one["current"]),
        Column("id", lambda one: one["id"]),
    )
    session.out.rows(columns, session.api.get("/sessions")["items"])


@command(app, "end")
def end_session(session: Session, which: SessionArgument) -> None:
    """End one of your sessions."""
    found = [
        one["id"] for one in session.api.get("/sessions")["items"] if one["id"] == which or one["id"].endswith(which)
    ]
    if not found:
        raise NotFoundHereError(f"You have no session {which!r}; `fleetlog sessions` lists them.")
    if len(found) > 1:
        raise AmbiguousError(f"{len(found)} of your sessions end in {which!r}; write more of the id.")
    answer = session.api.post(f"/sessions/{found[0]}/revoke")
    session.out.done(f"Session {found[0]} is over.", answer)


@command(app, "end-all")
def end_all(session: Session) -> None:
    """End all of your sessions, this one too."""
    answer = session.api.post("/sessions/revoke")
    session.out.done("You are logged out everywhere.", answer)


@command(passkeys, "list")
def list_passkeys(session: Session) -> None:
    """List your passkeys."""
    columns = (Column("name", lambda one: one["name"]), Column("id", lambda one: one["id"]))
    session.out.rows(columns, session.api.get("/session/passkeys")["items"], empty="You have none.")


@command(passkeys, "rename")
def rename_passkey(
    session: Session, passkey: PasskeyArgument, name: Annotated[str, typer.Argument(help="Its new name.")]
) -> None:
    """Call a passkey otherwise."""
    found = _passkey(session, passkey)
    answer = session.api.post(f"/session/passkeys/{found['id']}/rename", {"name": name})
    session.out.done(f"{found['name']} is now called {name}.", answer)


@command(passkeys, "remove")
def remove_passkey(session: Session, passkey: PasskeyArgument) -> None:
    """Take a passkey away; it opens nothing any more."""
    found = _passkey(session, passkey)
    answer = session.api.post(f"/session/passkeys/{found['id']}/remove")
    session.out.done(f"{found['name']} opens nothing any more.", answer)


def _passkey(session: Session, typed: str) -> Row:
    items: list[Row] = session.api.get("/session/passkeys")["items"]
    found = [one for one in items if typed in (one["id"], one["name"])]
    if not found:
        raise NotFoundHereError(f"You have no passkey {typed!r}; `fleetlog passkeys` lists them.")
    if len(found) > 1:
        raise AmbiguousError(f"{len(found)} of your passkeys are called {typed!r}; give the id.")
    return found[0]


def prove(
    session: Session,
    sso: Annotated[bool, typer.Option("--sso", help="Through the provider that you log in through.")] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="With --sso: whether there is a browser on this machine.")
    ] = True,
) -> None:
    """Show once more that it is you, for what can do harm; asked for by itself on a terminal."""
    if sso:
        returned = through_provider(session.api, session.out, "/session/proof/sso/offer", browser=browser)
        session.out.done("Proved.", session.api.post("/session/proof/sso", returned.handed_in))
        return
    answer = session.api.post("/session/proof", proof_of(asked_password("Password or code: ")))
    session.out.done("Proved.", answer)


def password(session: Session) -> None:
    """Change your own password. All your other sessions are over."""
    first_login.change_password(_own(session), asked_password("Present password: "))
    session.out.done("The password is changed, and your other sessions are over.", {})


def second_factor(session: Session) -> None:
    """Put another device in the place of your second factor. All your other sessions are over."""
    profile = _own(session)
    first_login.enroll(session.out, profile, asked("Code of the present device, or a recovery code: "))


def recovery_codes(session: Session) -> None:
    """Make new recovery codes in place of those before."""
    answer = session.api.post("/session/recovery-codes", {"code": asked("Code: ")})
    if session.out.as_json:
        session.out.json(answer)
        return
    first_login.show_recovery_codes(session.out, answer["recovery_codes"])


def _own(session: Session) -> Profile:
    """The session that `fleetlog login` kept: it goes on under a new token, which has to be kept, too.

    Raises:
        BadValueError: another is in use.
    """
    profile = kept()
    if profile is None or profile.url != session.api.url or profile.key != session.api.key:
        raise BadValueError("This is for a session that `fleetlog login URL --user NAME` has begun, without --key.")
    return profile
