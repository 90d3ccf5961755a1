"""The audit chain: how far it is, its checkpoints, and the proof that an event is in it."""

from typing import Any, cast
from uuid import UUID

from pydantic import AwareDatetime, Field
from starlette.responses import Response

from command_bus.audit import records
from command_bus.mapper import RecordedRow, to_recorded
from command_bus.reader import matching
from domain.codec import decode_or_keep
from domain.errors import NotFoundError
from domain.output_reads import Sought, Way
from domain.permissions import Permission
from gateways.rest.errors import NotCheckpointedError
from gateways.rest.events import visible_to
from gateways.rest.output_reads import holds_output, read_of_events, where_readable
from gateways.rest.route import JSON, MAX_POSITION, Call, Model, PageOf, Query, Route, json_response
from projections.errors import InvalidCursorError
from schema.audit.checkpoints import Checkpoint
from schema.audit.proofs import encode_proof

TAG = "Audit chain"


class SignatureModel(Model):
    """Somebody's word for a checkpoint."""

    name: str = Field(description="`fleetlog`, or who countersigned it.")
    key: str = Field(description="Ed25519, in hex.")
    signature: str = Field(description="Over the bytes of `statement`, in hex.")


class CheckpointModel(Model):
    """A signed statement about the log up to a position."""

    number: int
    first_position: int
    last_position: int
    made_at: AwareDatetime
    sha256: str = Field(description="Of the statement; the next one names it as `previous`.")
    statement: str = Field(description="What was signed: JSON in the form of RFC 8785.")
    signatures: list[SignatureModel]


class HeadModel(Model):
    """How far the chain is."""

    log_position: int
    position: int = Field(description="Up to here the log is chained.")
    lag: int
    head: str = Field(description="The chain's hash, in hex.")
    chained_at: AwareDatetime | None
    checkpoint: int = Field(description="Number of the last one; 0 if there is none.")
    checkpoint_position: int
    checkpointed_at: AwareDatetime | None
    key: str | None = Field(description="That signed it: Ed25519, in hex.")


class CanonicalModel(Model):
    """An event as it was hashed."""

    actor: str
    agent_id: UUID | None
    body_sha256: str
    causation_id: UUID | None
    client_id: UUID | None
    correlation_id: UUID
    position: int
    recorded_at: AwareDatetime
    stream_id: UUID
    type: str
    version: int


class SignedModel(Model):
    """A checkpoint, as it is exported."""

    statement: str
    signatures: list[SignatureModel]


class ProofModel(Model):
    """Holds by itself: `fleetlog audit check` needs nothing else."""

    format: int
    event: CanonicalModel
    body: str | None = Field(description="As stored; null where it was left out or is no text.")
    body_base64: str | None
    index: int = Field(description="Of its leaf in the checkpoint's Merkle tree (RFC 6962).")
    size: int = Field(description="Leaves of that tree.")
    path: list[str] = Field(description="The audit path, in hex.")
    checkpoint: SignedModel


class CheckpointsQuery(Query):
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, max_length=20, description="`next` of the page before.")


class ProofQuery(Query):
    body: bool = Field(default=True, description="The event's content too, and not its hash alone.")


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, Any]:
    said = checkpoint.read()
    return {
        "number": said.number,
        "first_position": said.first_position,
        "last_position": said.last_position,
        "made_at": said.made_at,
        "sha256": checkpoint.sha256,
        "statement": checkpoint.statement,
        "signatures": checkpoint.signatures,
    }


async def head(call: Call) -> Response:
    status = await records.ask(call.connection, records.chain_status())
    return json_response({name: getattr(status, name) for name in HeadModel.model_fields})


async def list_checkpoints(call: Call) -> Response:
    query: CheckpointsQuery = call.query
    before = MAX_POSITION
    if query.cursor is not None:
        if not query.cursor.isascii() or not query.cursor.isdecimal() or not 0 < int(query.cursor) <= MAX_POSITION:
            raise InvalidCursorError
        before = int(query.cursor)
    found = await records.ask(call.connection, records.list_checkpoints(before, query.limit + 1))
    page = [checkpoint_document(one) for one in found[: query.limit]]
    return json_response({"items": page, "next": str(page[-1]["number"]) if len(found) > query.limit else None})


async def get_checkpoint(call: Call) -> Response:
    number = call.path["checkpoint"]
    found = await records.ask(call.connection, records.one_checkpoint(number))
    if found is None:
        raise NotFoundError(f"There is no checkpoint {number}.")
    return json_response(checkpoint_document(found))


async def prove(call: Call) -> Response:
    query: ProofQuery = call.query
    position = call.path["position"]
    missing = NotFoundError(f"The log has no event at position {position}.")
    try:
        row = await records.ask(call.connection, records.event_at(position))
        if not matching(await visible_to(call))(row):
            raise missing
        # What was erased and stands in the clear, from before there was sealing, is proved by its hash alone.
        shown = query.body and not await call.parts.log.withheld([row])
        proof = await records.ask(call.connection, records.prove(row, with_body=shown))
        if shown:
            event = to_recorded(cast("RecordedRow", row), decode_or_keep)
            if holds_output(event) and not matching(await visible_to(where_readable(call)))(row):
                raise missing
            await read_of_events(call, [event], Sought(stream_id=event.originator_id), Way.PROOF)
    except records.UnknownPositionError:
        raise missing from None
    except records.NotCheckpointedError as error:
        raise NotCheckpointedError from error
    return Response(encode_proof(proof), media_type=JSON)


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/audit/head",
        needs=Permission.EVENTS_SEE,
        summary="How far the audit chain is.",
        tag=TAG,
        handler=head,
        response=HeadModel,
    ),
    Route(
        method="GET",
        path="/audit/checkpoints",
        needs=Permission.EVENTS_SEE,
        summary="Signed checkpoints, newest first.",
        tag=TAG,
        handler=list_checkpoints,
        query=CheckpointsQuery,
        response=PageOf[CheckpointModel],
        errors=(InvalidCursorError,),
    ),
    Route(
        method="GET",
        path="/audit/checkpoints/{checkpoint}",
        needs=Permission.EVENTS_SEE,
        summary="One checkpoint.",
        tag=TAG,
        handler=get_checkpoint,
        response=CheckpointModel,
        errors=(NotFoundError,),
    ),
    Route(
        method="GET",
        path="/audit/events/{position}/proof",
        needs=Permission.EVENTS_SEE,
        summary="The proof that an event is in the log.",
        description="A few kB that hold without the rest of the log, once the event is under a checkpoint.",
        tag=TAG,
        handler=prove,
        query=ProofQuery,
        response=ProofModel,
        errors=(NotFoundError, NotCheckpointedError),
    ),
)
