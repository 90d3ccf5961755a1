"""``fleetlog tokens``: what lets new machines in."""

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gateways.cli import finding
from gateways.cli.errors import LostSecretError
from gateways.cli.finding import Names
from gateways.cli.output import Column, moment
from gateways.cli.session import Session, command, group
from gateways.cli.times import point
from gateways.local.addresses import is_loopback

app = group("tokens", "Enrollment tokens.")


@command(app, "create")
def create_token(
    session: Session,
    site: Annotated[
        str | None, typer.Option("--site", help="Id, name, or client/site; may be left out where there is only one.")
    ] = None,
    uses: Annotated[int, typer.Option("--uses", min=1, help="How many machines it lets in.")] = 1,
    expires_in: Annotated[str, typer.Option("--expires-in", help="2h, 7d, or a time.")] = "24h",
    note: Annotated[str, typer.Option("--note", help="For whoever lists the tokens.")] = "",
    approval: Annotated[
        bool,
        typer.Option("--approval", help="Each machine waits until somebody approves it (`fleetlog agents approve`)."),
    ] = False,
    wait: Annotated[
        str | None, typer.Option("--wait", help="With --approval: how long it waits at the most; a day, if left out.")
    ] = None,
) -> None:
    """Make a token and print the line that enrolls a machine with it; the token is shown this once."""
    target = finding.site(session.api, site) if site else finding.only_site(session.api)
    now = datetime.now(UTC)
    answer = session.api.post(
        "/enrollment-tokens",
        {
            "site_id": target["id"],
            "max_uses": uses,
            "expires_at": point(expires_in, now).isoformat(),
            "note": note,
            "approval": "required" if approval else "none",
            "wait_s": None if wait is None else round((point(wait, now) - now).total_seconds()),
        },
    )
    if not answer.get("token"):
        raise LostSecretError(
            f"The answer with the token was lost on its way: `fleetlog tokens revoke {answer['id']}`."
        )
    pin = session.api.fingerprint()
    shown = f"fleetlog agent enroll {session.api.url} {answer['token']}" + (f" --fingerprint {pin}" if pin else "")
    session.out.done(shown, answer | ({"fingerprint": pin} if pin else {}))
    if session.out.as_json:
        return
    session.out.note(f"Run the line above on the new machine, then `fleetlog agent run`. Token id: {answer['id']}")
    if approval:
        session.out.note("It waits then: `fleetlog agents waiting` shows it, `fleetlog agents approve` lets it in.")
    if is_loopback(urlsplit(session.api.url).hostname or ""):
        session.out.note(
            "That address is reached from this machine alone: for others, start Fleetlog with `fleetlog up --listen "
            "0.0.0.0`."
        )


@command(app, "list", past=True)
def list_tokens(session: Session) -> None:
    """List enrollment tokens; their text is never shown again."""
    names = Names(session.api)
    columns = (
        Column("id", lambda token: token["id"]),
        Column("site", lambda token: names.site(token["site_id"])),
        Column("used", lambda token: f"{token['uses']}/{token['max_uses']}"),
        Column("approval", lambda token: f"{token['waiting']} waiting" if token["approval"] == "required" else ""),
        Column("expires", lambda token: moment(token["expires_at"])),
        Column("revoked", lambda token: token["revoked"]),
        Column("note", lambda token: token["note"]),
    )
    session.out.rows(columns, session.api.items("/enrollment-tokens"), empty="There are no enrollment tokens.")


@command(app, "revoke")
def revoke_token(
    session: Session,
    token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="Id, or a piece of it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")] = "",
) -> None:
    """Void a token; machines that enrolled with it stay, and those that wait for approval by it end."""
    found = finding.token(session.api, token)
    answer = session.api.post(f"/enrollment-tokens/{found['id']}/revoke", {"reason": reason})
    session.out.done(f"Token {found['id']} is void.", answer)
