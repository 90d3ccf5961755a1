"""``fleetlog keys``: who may call the API, and what they may do."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gateways.cli import finding, grants
from gateways.cli.errors import BadValueError, LostSecretError, RefusedError
from gateways.cli.finding import Names
from gateways.cli.grants import GrantOption
from gateways.cli.output import Column, Row, moment
from gateways.cli.session import Session, command, group
from gateways.cli.times import point

A_YEAR, NEVER = "365d", "never"
app = group("keys", "API keys.")


@command(app, "create")
def create_key(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what it is for.")],
    role: Annotated[
        str | None, typer.Option("--role", help="Short for one --grant; `operator`, if no owner is named either.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option("--client", help="With --role: over this client; may be repeated.")
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            help="The user that it speaks for; it may no more than that one. Left out, it is your own, or a program's "
            "own account's that is made with it.",
        ),
    ] = None,
    grant: GrantOption = None,
    expires_in: Annotated[str, typer.Option("--expires-in", help="90d, a time, or `never`.")] = A_YEAR,
    unattended: Annotated[
        bool,
        typer.Option(
            "--unattended",
            help="It may do what a person has to give a fresh proof for: change keys, touch many agents.",
        ),
    ] = False,
) -> None:
    """Make an API key; it is shown this once."""
    answer = _made(
        session,
        {
            "name": name,
            "owner_id": finding.user(session.api, owner)["id"] if owner else None,
            "role": role,
            "client_ids": [finding.client(session.api, one)["id"] for one in client] if client else None,
            "grants": grants.wanted(session.api, grant) if grant else None,
            "expires_at": None if expires_in == NEVER else point(expires_in, datetime.now(UTC)).isoformat(),
            "unattended": unattended,
        },
    )
    if not answer.get("key"):
        raise LostSecretError(f"The answer with the key was lost on its way: `fleetlog keys revoke {answer['id']}`.")
    session.out.done(answer["key"], answer)
    if not session.out.as_json:
        session.out.note(f"Keep it now: only its hash is stored. Key id: {answer['id']}")


def _made(session: Session, body: dict[str, Any]) -> Row:
    try:
        return session.api.post("/api-keys", body)
    except RefusedError as refused:
        if refused.secret:
            session.out.done(refused.secret, {"key": refused.secret})
            session.out.note("Keep it now: it opens nothing until another person has approved it.")
        raise


@command(app, "list", past=True)
def list_keys(
    session: Session,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", help="Only those that begin so. Of a whole key, its prefix alone is looked for."),
    ] = None,
) -> None:
    """List API keys; their text is never shown again."""
    names = Names(session.api)
    columns = (
        Column("name", lambda key: key["name"]),
        Column("prefix", lambda key: key["prefix"]),
        Column("owner", lambda key: key["owner"] or ("" if key["owner_id"] else "no owner: replace it")),
        Column("may", lambda key: grants.shown(key["grants"], names)),
        Column("expires", lambda key: moment(key["expires_at"]) or NEVER),
        Column("unattended", lambda key: key["unattended"]),
        Column("last used", lambda key: moment(key["last_used_at"])),
        Column("revoked", lambda key: key["revoked"]),
        Column("id", lambda key: key["id"]),
    )
    session.out.rows(columns, session.api.items("/api-keys", prefix=_cut(prefix)), empty="There are no such API keys.")


def _cut(typed: str | None) -> str | None:
    if typed is None:
        return None
    prefix = finding.key_prefix(typed)
    if prefix is None:
        raise BadValueError("A key's prefix is flk_ and hexadecimal digits, as `fleetlog keys` shows it.")
    return prefix


@command(app, "revoke")
def revoke_key(
    session: Session,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="Id, piece of it, prefix, or name.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the log.")] = "",
) -> None:
    """Void an API key at once."""
    found = finding.api_key(session.api, key_id)
    answer = session.api.post(f"/api-keys/{found['id']}/revoke", {"reason": reason})
    session.out.done(f"The key {found['name']} is void.", answer)
