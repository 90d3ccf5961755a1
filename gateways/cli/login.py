"""``fleetlog login`` and ``logout``: which Fleetlog this user's command line talks to, and as whom."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateways.cli import first_login
from gateways.cli.api import Api
from gateways.cli.asking import asked, asked_password
from gateways.cli.errors import BadValueError, CommandLineError, RefusedError, UnreachableError
from gateways.cli.finding import Names
from gateways.cli.grants import shown
from gateways.cli.output import Output, Row
from gateways.cli.profile import Profile, clean_url, find, kept, profile_file, read_ca, save
from gateways.cli.session import BAD_REQUEST, Session, command
from gateways.cli.sso import through_provider
from schema.authorities import AuthorityError, pinned

_TIMEOUT_S = 10.0

SESSION = "fls_"


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("login")(login)
    app.command("logout")(logout)
    command(app, "me")(me)


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="As https://fleet.example.com:8470.")],
    user: Annotated[
        str | None, typer.Option("--user", help="Log in as this person; without it, with an API key.")
    ] = None,
    sso: Annotated[bool, typer.Option("--sso", help="Log in through the provider that is set there.")] = False,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="With --sso: whether there is a browser on this machine.")
    ] = True,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="The server's authority (PEM).")] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            "--fingerprint", metavar="SHA256", help="The same by its fingerprint, as `fleetlog up` prints it."
        ),
    ] = None,
) -> None:
    """Keep an address and a way in for the commands to come: a person's session, or an API key.

    With --sso a browser goes to the provider; without one on this machine, --no-browser, and copy what the page shows.
    Password, code or key are asked for, or read from standard input, a line each, when that is not a terminal; they
    never stand on a command line. At the first login there is no code yet: the password is changed, and a second factor
    enrolled.
    """
    out = Output(as_json=False)
    try:
        url = clean_url(url)
        trusted = _authority(url, ca, fingerprint)
        if sso:
            if user is not None:
                raise BadValueError("--user or --sso, not both: the provider says who you are.")
            _by_provider(out, Profile(url, "", trusted), browser=browser)
            return
        if user is not None:
            _as_person(out, Profile(url, "", trusted), user)
            return
        key = (getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
        if not key:
            raise BadValueError("No key was given.")
        profile = find(url, key)
        if trusted is not None:
            profile = Profile(profile.url, profile.key, trusted)
        with Api(profile) as api:
            holder = api.get("/me")
        save(profile, profile_file())
    except CommandLineError as error:
        out.error(error.shown_code, error.detail)
        raise typer.Exit(BAD_REQUEST) from error
    out.plain(f"Logged in to {profile.url} as {holder.get('name') or holder['actor']} ({roles_of(holder)}).")


def _authority(url: str, ca: Path | None, fingerprint: str | None) -> str | None:
    """Whom to trust there, before the key is shown to anybody.

    Raises:
        BadValueError: the file or the fingerprint is of no use, or the server's authority is another.
        UnreachableError: it does not answer.
    """
    if ca is not None and fingerprint is not None:
        raise BadValueError("--ca or --fingerprint, not both.")
    if (ca is not None or fingerprint is not None) and not url.startswith("https://"):
        raise BadValueError(f"{url} is plain text, and no authority can vouch for it: write https://.")
    if ca is not None:
        return read_ca(ca)
    if fingerprint is None:
        return None
    try:
        return pinned(url, fingerprint, _TIMEOUT_S)
    except AuthorityError as error:
        raise BadValueError(str(error)) from error
    except OSError as error:
        raise UnreachableError(f"{url} cannot be asked for its authority: {error}.") from error


def _as_person(out: Output, nobody: Profile, user: str) -> None:
    password = asked_password("Password: ")
    code = asked("Code (none at the first login): ") or None
    with Api(nobody) as api:
        answer = api.post("/session", {"user": user, "password": password, "code": code, "bearer": True})
    _go_on(out, nobody, answer, password)


def _by_provider(out: Output, nobody: Profile, *, browser: bool) -> None:
    with Api(nobody) as api:
        returned = through_provider(api, out, "/session/sso/offer", browser=browser)
        known = api.post("/session/sso/answer", returned.handed_in)
        code = asked(f"Code of {known['name']}: ") if known["code_needed"] else None
        begin = {"state": returned.state, "ticket": returned.ticket, "code": code, "bearer": True}
        answer = api.post("/session/sso", begin)
    _go_on(out, nobody, answer, "")


def _go_on(out: Output, nobody: Profile, answer: Row, password: str) -> None:
    # Kept at once: whatever is put in order below gives the session another token, and each is kept in turn.
    profile = first_login.keep(nobody, answer)
    if answer["pending"]:
        profile = first_login.complete(out, profile, password, answer["pending"])
    with Api(profile) as api:
        holder = api.get("/me")
    out.plain(f"Logged in to {profile.url} as {holder.get('name') or holder['actor']} ({roles_of(holder)}).")


def roles_of(holder: Row) -> str:
    """The names of the roles, in one line."""
    return ", ".join(dict.fromkeys(grant["role"] or grant["role_id"] for grant in holder["grants"])) or "no role"


def logout() -> None:
    """Log out: end the session, and forget the address and the way in. An API key stays good; it is forgotten here."""
    out = Output(as_json=False)
    profile = kept()
    profile_file().unlink(missing_ok=True)
    if profile is not None and profile.key.startswith(SESSION):
        try:
            with Api(profile) as api:
                api.post("/session/end")
        except RefusedError:
            out.note("The session was over already.")
        except CommandLineError as error:
            out.note(
                f"{profile.url} could not be told ({error.shown_code}): the session there ends by itself.", "yellow"
            )
    out.plain("Forgotten.")


def me(session: Session) -> None:
    """Show which key or session is in use, and what it may do."""
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
