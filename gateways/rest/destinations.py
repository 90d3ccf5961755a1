"""Destinations of forwarded events: added, changed, steered, and how far each of them is."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.intents.destinations import (
    AddDestination,
    ChangeDestination,
    PauseDestination,
    RemoveDestination,
    ResumeDestination,
    SkipEvent,
)
from domain.destinations import Syslog, SyslogTransport, Webhook
from domain.errors import (
    DestinationNotPausedError,
    DestinationPausedError,
    DestinationRemovedError,
    DestinationSkippedError,
    InvalidValueError,
    NameTakenError,
    NoMasterKeyError,
    NotFoundError,
    SecretCannotWaitError,
)
from domain.permissions import Permission
from gateways.rest.route import Answer, Call, Model, PageOf, PageQuery, ReadQuery, Route, found, one, page_of, write
from projections.destinations import DestinationRow, DestinationState, get_destination, log_head
from projections.destinations import list_destinations as read_destinations

TAG = "Forwarding"
READS = ("destinations",)


class WebhookModel(Model):
    kind: Literal["webhook"]
    url: str
    batch: int
    authority: str


class SyslogModel(Model):
    kind: Literal["syslog"]
    host: str
    port: int
    transport: SyslogTransport
    facility: int
    authority: str


class NatsModel(Model):
    kind: Literal["nats"]
    url: str
    subject: str
    jetstream: bool
    authority: str


class OnlyModel(Model):
    types: list[str]
    clients: list[UUID]
    sites: list[UUID]


class StuckModel(Model):
    """An event that a destination does not take."""

    position: int
    type: str


class DestinationModel(Model):
    """Where events are forwarded to, and how far that is."""

    id: UUID
    name: str
    to: Annotated[WebhookModel | SyslogModel | NatsModel, Field(discriminator="kind")]
    only: OnlyModel = Field(description="Which events; what is empty does not restrict.")
    secrets: list[str] = Field(description="What it is told in confidence: names alone.")
    state: DestinationState | None = Field(
        description="`waiting`: no worker has taken it up yet. Null as of an earlier time, unless it was paused: how "
        "it fared then is not in the log, nor is how far it was."
    )
    reason: str = Field(description="Why it is paused.")
    position: int | None = Field(description="Whatever is to go there up to here has arrived.")
    lag: int | None = Field(description="Positions that the log is ahead by.")
    sent: int | None = Field(description="Events that have arrived there.")
    sent_at: AwareDatetime | None
    failures: int | None = Field(description="Tries in a row that went wrong.")
    failing_since: AwareDatetime | None
    error: str = Field(description="What went wrong the last time.")
    tries_at: AwareDatetime | None = Field(description="When it is tried again.")
    stuck_on: StuckModel | None = Field(
        description="The event that its receiver did not take; `error` says why. All later ones wait behind it. Null "
        "where nobody answered at all."
    )
    skipped_at: int | None = Field(description="Position of the event that was passed over last.")
    created_at: AwareDatetime
    actor: str = Field(description="Who changed it last.")
    version: int


class DestinationAnswer(Answer):
    """A destination."""

    secrets: list[str] = Field(description="What it is told in confidence from now on: names alone.")
    secrets_gone: list[str] = Field(
        description="What it was told, and is not any more: it reaches somebody else now, or they were given as empty."
    )
    signing_key: str | None = Field(description="Of a webhook whose key was made just now: shown this once.")


def destination_document(row: DestinationRow, head: int) -> dict[str, Any]:
    """One destination, as `DestinationModel` describes it."""
    return {
        "id": row.destination_id,
        "name": row.name,
        "to": _target(row),
        "only": {
            "types": row.only.types,
            "clients": row.only.clients,
            "sites": [place.site_id for place in row.only.sites],
        },
        "secrets": row.sealed,
        "state": row.state,
        "reason": row.reason,
        "position": row.position,
        "lag": max(0, head - row.position),
        "sent": row.sent,
        "sent_at": row.sent_at,
        "failures": row.failures,
        "failing_since": row.failing_since,
        "error": row.error,
        "tries_at": row.tries_at,
        "stuck_on": {"position": row.stuck_at, "type": row.stuck_type} if row.stuck_at is not None else None,
        "skipped_at": row.skipped_at,
        "created_at": row.created_at,
        "actor": row.changed_by,
        "version": row.version,
    }


def _target(row: DestinationRow) -> dict[str, Any]:
    to = row.to
    match to:
        case Webhook():
            return {"kind": "webhook", "url": to.url, "batch": to.batch, "authority": to.authority}
        case Syslog():
            own = {"host": to.host, "port": to.port, "transport": to.transport, "facility": to.facility}
            return {"kind": "syslog", **own, "authority": to.authority}
        case _:
            own = {"url": to.url, "subject": to.subject, "jetstream": to.jetstream}
            return {"kind": "nats", **own, "authority": to.authority}


async def list_destinations(call: Call) -> Response:
    query: PageQuery = call.query
    async with call.connection() as connection:
        page = await read_destinations(connection, cursor=query.cursor, limit=query.limit)
        head = await log_head(connection)
    return page_of(page, lambda row: _as_of(call, destination_document(row, head)))


async def show_destination(call: Call) -> Response:
    destination_id = call.path["destination_id"]
    async with call.connection() as connection:
        row = found(await get_destination(connection, destination_id), "destination", destination_id)
        head = await log_head(connection)
    return one(_as_of(call, destination_document(row, head)), row.version)


_PROGRESS = ("position", "lag", "sent", "sent_at", "failures", "failing_since", "tries_at", "stuck_on")


def _as_of(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    """What is not in the log is known as of now alone."""
    if call.at is None:
        return document
    paused = document["state"] is DestinationState.PAUSED
    return document | dict.fromkeys(_PROGRESS) | {"error": "", "state": DestinationState.PAUSED if paused else None}


_TERMS = (InvalidValueError, NameTakenError, NotFoundError, SecretCannotWaitError, NoMasterKeyError)
ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/destinations",
        needs=Permission.FORWARDING_SEE,
        summary="Destinations of forwarded events by name.",
        tag=TAG,
        handler=list_destinations,
        query=PageQuery,
        response=PageOf[DestinationModel],
        reads=READS,
        everywhere=True,
    ),
    write(
        "POST",
        "/destinations",
        AddDestination,
        tag=TAG,
        response=DestinationAnswer,
        location="/destinations/{id}",
        errors=_TERMS,
    ),
    Route(
        method="GET",
        path="/destinations/{destination_id}",
        needs=Permission.FORWARDING_SEE,
        summary="One destination of forwarded events.",
        tag=TAG,
        handler=show_destination,
        query=ReadQuery,
        response=DestinationModel,
        reads=READS,
        everywhere=True,
        etag=True,
    ),
    write(
        "PUT",
        "/destinations/{destination_id}",
        ChangeDestination,
        tag=TAG,
        response=DestinationAnswer,
        errors=(*_TERMS, DestinationRemovedError),
    ),
    write(
        "POST",
        "/destinations/{destination_id}/pause",
        PauseDestination,
        tag=TAG,
        errors=(NotFoundError, DestinationPausedError, DestinationRemovedError),
    ),
    write(
        "POST",
        "/destinations/{destination_id}/resume",
        ResumeDestination,
        tag=TAG,
        errors=(NotFoundError, DestinationNotPausedError, DestinationRemovedError),
    ),
    write(
        "POST",
        "/destinations/{destination_id}/skip",
        SkipEvent,
        tag=TAG,
        errors=(NotFoundError, InvalidValueError, DestinationSkippedError, DestinationRemovedError),
    ),
    write(
        "POST",
        "/destinations/{destination_id}/remove",
        RemoveDestination,
        tag=TAG,
        errors=(NotFoundError, DestinationRemovedError),
    ),
)
