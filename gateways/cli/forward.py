"""``fleetlog forward``: where events are sent to as they are recorded."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gateways.cli import finding
from gateways.cli.errors import BadValueError
from gateways.cli.finding import Names
from gateways.cli.output import Column, Row, ago, moment
from gateways.cli.session import Session, command, group

app = group("forward", "Where events are sent to as they are recorded: webhooks, syslog, NATS.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="What you call it.")]
Destination = Annotated[str, typer.Argument(metavar="NAME", help="Its name, its id, or a piece of that.")]
Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.", show_default=False)
]
Clients = Annotated[list[str] | None, typer.Option("--client", help="Only of this client; may be repeated.")]
Sites = Annotated[list[str] | None, typer.Option("--site", help="Only of this site; may be repeated.")]
After = Annotated[str, typer.Option("--after", help="now, beginning, or a position: send what comes after it.")]
Authority = Annotated[
    Path | None, typer.Option("--authority", help="PEM file of the authority that its certificate is under.")
]
Batch = Annotated[int, typer.Option("--batch", help="So many events at the most in one request.")]
SigningKey = Annotated[
    Path | None,
    typer.Option("--signing-key-file", help="Holds whsec_... to sign with. Without it, one is made and shown once."),
]
Authorization = Annotated[
    Path | None, typer.Option("--authorization-file", help="Holds the whole Authorization header, as Bearer ....")
]
Credentials = Annotated[Path | None, typer.Option("--credentials", help="The .creds file to log in with.")]
Token = Annotated[Path | None, typer.Option("--token-file", help="Holds the token to log in with.")]
User = Annotated[str | None, typer.Option("--user", help="To log in with, and --password-file.")]
Password = Annotated[Path | None, typer.Option("--password-file", help="Holds the password.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the log.")]


@command(app, "list", past=True)
def list_destinations(session: Session) -> None:
    """List destinations, and how far each is."""
    columns = (
        Column("name", lambda one: one["name"]),
        Column("to", _where),
        Column("state", lambda one: one["state"]),
        Column("lag", lambda one: one["lag"]),
        Column("sent", lambda one: one["sent"]),
        Column("failing", lambda one: ago(one["failing_since"])),
        Column("error", lambda one: one["error"]),
        Column("id", lambda one: one["id"]),
    )
    session.out.rows(columns, session.api.items("/destinations"), empty="Events are forwarded nowhere.")


@command(app, "show", past=True)
def show_destination(session: Session, name: Destination) -> None:
    """Show a destination: what goes there, how far it is, and what goes wrong."""
    found = finding.destination(session.api, name)
    names, only = Names(session.api), found["only"]
    shown = [
        ("name", found["name"]),
        ("to", _where(found)),
        ("batch", found["to"].get("batch")),
        ("types", ", ".join(only["types"]) or "all"),
        ("clients", ", ".join(map(names.client, only["clients"]))),
        ("sites", ", ".join(map(names.place, only["sites"]))),
        ("secrets", ", ".join(found["secrets"])),
        ("state", found["state"]),
        ("reason", found["reason"]),
        ("position", None if found["position"] is None else f"{found['position']} ({found['lag']} behind)"),
        ("sent", found["sent"]),
        ("last sent", moment(found["sent_at"])),
        ("failing since", moment(found["failing_since"])),
        ("error", found["error"]),
        ("stuck on", _stuck(found)),
        ("next try", moment(found["tries_at"])),
        ("last skipped", found["skipped_at"]),
        ("changed by", found["actor"]),
        ("id", found["id"]),
    ]
    session.out.fields(shown, found)


@command(app, "add-webhook")
def add_webhook(
    session: Session,
    name: Name,
    address: Annotated[str, typer.Argument(metavar="URL", help="https://...; what stands after ? is sealed.")],
    batch: Batch = 1,
    types: Types = None,
    client: Clients = None,
    site: Sites = None,
    after: After = "now",
    authority: Authority = None,
    signing_key: SigningKey = None,
    authorization: Authorization = None,
) -> None:
    """Send each event to a webhook, as a CloudEvent, signed."""
    bare, _, query = address.partition("?")
    to = {"kind": "webhook", "url": bare, "batch": batch, "authority": _text(authority)}
    secrets = {"signing_key": _secret(signing_key), "authorization": _secret(authorization), "query": query or None}
    _add(session, name, to, _only(session, types, client, site), after, secrets)


@command(app, "add-syslog")
def add_syslog(
    session: Session,
    name: Name,
    host: Annotated[str, typer.Argument(metavar="HOST", help="A name or an address.")],
    port: Annotated[int | None, typer.Option("--port", help="6514 for TLS, else 514.")] = None,
    transport: Annotated[str, typer.Option("--transport", help="tls, tcp or udp.")] = "tls",
    facility: Annotated[int, typer.Option("--facility", help="0 to 23; 13 is log audit.")] = 13,
    types: Types = None,
    client: Clients = None,
    site: Sites = None,
    after: After = "now",
    authority: Authority = None,
) -> None:
    """Send each event to a syslog receiver, as RFC 5424 has it."""
    to = {"kind": "syslog", "host": host, "port": port, "transport": transport, "facility": facility}
    _add(session, name, to | {"authority": _text(authority)}, _only(session, types, client, site), after, {})


@command(app, "add-nats")
def add_nats(
    session: Session,
    name: Name,
    address: Annotated[str, typer.Argument(metavar="URL", help="tls://HOST:4222.")],
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="A JetStream stream should listen there.")],
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="No stream listens there: NATS then promises nothing.")
    ] = False,
    types: Types = None,
    client: Clients = None,
    site: Sites = None,
    after: After = "now",
    authority: Authority = None,
    credentials: Credentials = None,
    token: Token = None,
    user: User = None,
    password: Password = None,
) -> None:
    """Send each event to a subject of a NATS server of your own, as a CloudEvent."""
    to = {"kind": "nats", "url": address, "subject": subject, "jetstream": not no_stream, "authority": _text(authority)}
    secrets = _nats_secrets(credentials, token, user, password)
    _add(session, name, to, _only(session, types, client, site), after, secrets)


@command(app, "change")
def change_destination(
    session: Session,
    name: Destination,
    rename: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    address: Annotated[str | None, typer.Option("--to", metavar="URL", help="Of a webhook or NATS.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Of a webhook.")] = None,
    host: Annotated[str | None, typer.Option("--host", help="Of syslog.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Of syslog.")] = None,
    transport: Annotated[str | None, typer.Option("--transport", help="Of syslog.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Of NATS.")] = None,
    types: Types = None,
    client: Clients = None,
    site: Sites = None,
    everything: Annotated[bool, typer.Option("--everything", help="All events, whatever it was before.")] = False,
    authority: Authority = None,
    no_authority: Annotated[
        bool, typer.Option("--no-authority", help="Its certificate is under one that the server's system trusts.")
    ] = False,
    signing_key: SigningKey = None,
    authorization: Authorization = None,
    credentials: Credentials = None,
    token: Token = None,
    user: User = None,
    password: Password = None,
) -> None:
    """Change a destination; what is not named stays, and it goes on from where it is.

    Where it is to reach another host or port, its secrets go, but for the signing key: give them anew.
    """
    found = finding.destination(session.api, name)
    bare, _, query = (address or "").partition("?")
    given = {"batch": batch, "host": host, "port": port, "transport": transport, "subject": subject}
    given |= {"url": bare or None, "authority": _text(authority) or None}
    to = dict(found["to"])
    for part, value in given.items():
        if value is None:
            continue
        if part not in to:
            raise BadValueError(f"{found['name']} is {to['kind']}, and has no {part}.")
        to[part] = value
    if no_authority:
        to["authority"] = ""
    narrowed = _only(session, types, client, site)
    only = {key: narrowed[key] or ([] if everything else found["only"][key]) for key in narrowed}
    secrets = {"signing_key": _secret(signing_key), "authorization": _secret(authorization), "query": query or None}
    secrets = _named(secrets | _nats_secrets(credentials, token, user, password))
    body = {"name": rename or found["name"], "to": to, "only": only} | ({"secrets": secrets} if secrets else {})
    answer = session.api.put(f"/destinations/{found['id']}", body)
    _show_key(session, answer)
    stays = f" Its secrets stay: {', '.join(answer['secrets'])}." if answer["secrets"] else ""
    gone = f" Gone, to be given anew: {', '.join(answer['secrets_gone'])}." if answer["secrets_gone"] else ""
    session.out.done(f"{body['name']} is changed, and goes on from where it was.{stays}{gone}", answer)


@command(app, "pause")
def pause_destination(session: Session, name: Destination, reason: Reason = "") -> None:
    """Send nothing there for now; it keeps its place."""
    _steer(session, name, "pause", reason, "is paused")


@command(app, "resume")
def resume_destination(session: Session, name: Destination, reason: Reason = "") -> None:
    """Send on from where it was."""
    _steer(session, name, "resume", reason, "goes on")


@command(app, "skip")
def skip_event(
    session: Session,
    name: Destination,
    position: Annotated[int, typer.Option("--position", help="Of the event; `fleetlog forward show` says it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it may be missing there; kept in the log.")],
) -> None:
    """Never send one event there that its receiver will not take, so that later ones go on. It is on record."""
    found = finding.destination(session.api, name)
    answer = session.api.post(f"/destinations/{found['id']}/skip", {"position": position, "reason": reason})
    session.out.done(f"{found['name']} is not sent event {position}; that is in the log.", answer)


@command(app, "remove")
def remove_destination(session: Session, name: Destination, reason: Reason = "") -> None:
    """Send nothing there any more, and forget its place and its secrets."""
    _steer(session, name, "remove", reason, "is removed")


def _steer(session: Session, name: str, what: str, reason: str, done: str) -> None:
    found = finding.destination(session.api, name)
    answer = session.api.post(f"/destinations/{found['id']}/{what}", {"reason": reason})
    session.out.done(f"{found['name']} {done}.", answer)


def _add(session: Session, name: str, to: Row, only: Row, after: str, secrets: Row) -> None:
    begins: Any = int(after) if after.isdecimal() else after
    body = {"name": name, "to": to, "only": only, "after": begins}
    if named := _named(secrets):
        body["secrets"] = named
    answer = session.api.post("/destinations", body)
    _show_key(session, answer)
    session.out.done(f"Events are forwarded to {name}; `fleetlog forward show {name}` says how it goes.", answer)


def _show_key(session: Session, answer: Row) -> None:
    if answer.get("signing_key") and not session.out.as_json:
        session.out.plain("signing key (shown this once)  ", answer["signing_key"])


def _only(session: Session, types: list[str] | None, clients: list[str] | None, sites: list[str] | None) -> Row:
    return {
        "types": types or [],
        "clients": [finding.client(session.api, one)["id"] for one in clients or []],
        "sites": [finding.site(session.api, one)["id"] for one in sites or []],
    }


def _nats_secrets(credentials: Path | None, token: Path | None, user: str | None, password: Path | None) -> Row:
    secrets = {"token": _secret(token), "user": user, "password": _secret(password)}
    return secrets | {"credentials": _text(credentials) or None}


def _named(secrets: Row) -> Row:
    return {name: value for name, value in secrets.items() if value is not None}


def _secret(file: Path | None) -> str | None:
    return None if file is None else _text(file).strip()


def _text(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadValueError(f"{file} cannot be read: {error}") from error


def _stuck(one: Row) -> str:
    stuck = one["stuck_on"]
    return f"event {stuck['position']} ({stuck['type']})" if stuck is not None else ""


def _where(one: Row) -> str:
    to = one["to"]
    match to["kind"]:
        case "webhook":
            return str(to["url"])
        case "syslog":
            return f"syslog {to['host']}:{to['port']} ({to['transport']})"
        case _:
            return f"{to['url']} {to['subject']}{'' if to['jetstream'] else ' (no stream)'}"
