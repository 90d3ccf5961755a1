"""A part of the history for an auditor: asked for on record, then streamed, each event with its proof."""

import asyncio
import base64
import csv
import html
import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import msgspec
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from command_bus.audit.records import ask, tree_over
from command_bus.errors import ForbiddenError
from command_bus.event_log import Selection
from command_bus.intents.extracts import ExtractHistory
from command_bus.mapper import RecordedRow, to_recorded
from domain.codec import decode_or_keep
from domain.errors import NotFoundError
from domain.event import Recorded
from domain.extracts import ExtractFormat, HistoryExtracted
from domain.ids import AgentId, ClientId
from domain.output_reads import OutputRead, Way
from domain.permissions import Permission
from domain.sealed import covered
from gateways.rest.events import visible_to
from gateways.rest.output_reads import where_readable
from gateways.rest.route import Call, Query, Route, write
from projections.timeline import describe
from schema.archive import Row
from schema.audit.extracts import CSV_COLUMNS, TEXT_COLUMNS, Begin, End, Event, Signed, Tree, csv_row, event_line

PAGE = 1000
TAG = "Audit chain"
BINARY = "application/octet-stream"
_encode = msgspec.json.Encoder().encode


class ExtractQuery(Query):
    format: ExtractFormat | None = Field(default=None, description="Another than was asked for, of the same events.")


async def show(call: Call) -> Response:
    query: ExtractQuery = call.query
    extract_id: UUID = call.path["extract_id"]
    stream = (await call.parts.log.read_streams([extract_id], tolerant=True)).get(extract_id, [])
    asked = stream[0].event if stream else None
    # Each fetches what they asked for themselves, so that the log says who took what.
    if not isinstance(asked, HistoryExtracted) or stream[0].actor != call.caller.actor:
        raise NotFoundError(f"There is no extract {extract_id}.")
    form = query.format or asked.format
    if form is not ExtractFormat.HTML:  # that one has each event's sentence, and no sentence shows an output
        call = where_readable(call)
        read = OutputRead(
            way=Way.EXTRACT,
            extract_id=extract_id,
            agent_id=AgentId(asked.agent_id) if asked.agent_id is not None else None,
            client_id=ClientId(asked.client_id) if asked.client_id is not None else None,
        )
        await call.outputs.read(read, call.caller)
    pieces = Extraction(call, asked, stream[0], FORMS[form]).pieces(await _selection(call, asked))
    first = await anext(pieces)  # before the status goes out
    headers = {
        "Content-Disposition": f'attachment; filename="{extract_id}.{form}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    }
    # One type for all, as the document has it: what it is stands in the name.
    return StreamingResponse(_then(first, pieces), media_type=BINARY, headers=headers)


async def _then(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _selection(call: Call, asked: HistoryExtracted) -> Selection:
    """What was asked for, of what the caller may see as of now."""
    visible = await visible_to(call)
    clients = visible.client_ids
    if asked.client_id is not None:
        clients = (asked.client_id,) if clients is None or asked.client_id in clients else ()
    return msgspec.structs.replace(
        visible,
        client_ids=clients,
        agent_id=asked.agent_id,
        actor=asked.actor,
        types=asked.types or None,
        since=asked.since,
        until=asked.until,
    )


class Told(NamedTuple):
    """An event on its way out."""

    row: Row
    opened: Row
    """As it is told in words."""
    provable: bool


class Extraction:
    """One extract on its way out; in memory are a page of events and a checkpoint's tree, whatever its size.

    Args:
        call: whose.
        asked: what was asked for.
        recorded: the event that says so: what is later is not in it.
        form: how it is written.
    """

    def __init__(self, call: Call, asked: HistoryExtracted, recorded: Recorded, form: "Form") -> None:
        self._form = form
        self._call = call
        self._asked = asked
        self._recorded = recorded
        self._tree: Tree | None = None
        self._unsigned_from: int | None = None
        self._events = self._proven = 0

    async def pieces(self, selection: Selection) -> AsyncIterator[bytes]:
        """The file, piece by piece."""
        form = self._form
        yield form.begin(self._asked, self._recorded)
        after, upto = 0, self._recorded.position - 1
        while True:
            rows = await self._call.parts.log.read_rows(selection, after=after, upto=upto, limit=PAGE)
            if rows:
                yield await self._page(await self._told(rows))
            if len(rows) < PAGE:
                break
            after = rows[-1][0]
            if self._call.standing.over:
                # Half of it is out: that it has no end tells that this is not all.
                raise ForbiddenError
        yield form.end(self._events, self._proven)

    async def _told(self, rows: Sequence[Row]) -> list[Told]:
        """Each row as it is stored, as it is told in words where the form does so, and whether it may be proved.

        What is sealed goes out as it is stored, with its proof: without the key it says nothing. What was erased and
        stands there in the clear, from before there was sealing, is withheld, and then no proof can be had.
        """
        log = self._call.parts.log
        hidden = await log.withheld(rows)
        opened = await log.open_rows(rows) if self._form.tells or hidden else rows
        pairs = enumerate(zip(rows, opened, strict=True))
        return [Told(shown if index in hidden else row, shown, index not in hidden) for index, (row, shown) in pairs]

    async def _page(self, told: Sequence[Told]) -> bytes:
        """A page as it is written; by a thread, so that others are answered meanwhile."""
        pieces = []
        while told:
            if self._beyond(told[0]):
                pieces.append(await self._next_tree(told[0].row[0]))
            until = next((at for at, one in enumerate(told) if self._beyond(one)), len(told))
            pieces += await asyncio.to_thread(self._written, told[:until])
            told = told[until:]
        return b"".join(pieces)

    def _beyond(self, told: Told) -> bool:
        """Whether its proof is in a tree that comes after the one at hand."""
        if not told.provable or self._unsigned(told):
            return False
        return self._tree is None or told.row[0] > self._tree.last_position

    def _unsigned(self, told: Told) -> bool:
        return self._unsigned_from is not None and told.row[0] >= self._unsigned_from

    async def _next_tree(self, position: int) -> bytes:
        """Take the tree over a position to hand, if there is one; what is written of it."""
        tree = await ask(self._call.connection_now, tree_over(position))
        if tree is None:
            self._unsigned_from = position
            return b""
        self._tree = tree
        return self._form.checkpoint(tree)

    def _written(self, told: Sequence[Told]) -> list[bytes]:
        """Events that are under the tree at hand, or under none."""
        form, tree, pieces = self._form, self._tree, []
        for one in told:
            way = tree.way(one.row[0]) if tree is not None and one.provable and not self._unsigned(one) else None
            self._events += 1
            self._proven += way is not None
            pieces.append(form.event(event_line(one.row, way), sentence(one.opened) if form.tells else ""))
        return pieces


class Form(msgspec.Struct, frozen=True):
    """How an extract is written."""

    begin: Callable[[HistoryExtracted, Recorded], bytes]
    checkpoint: Callable[[Tree], bytes]
    event: Callable[[Event, str], bytes]
    end: Callable[[int, int], bytes]
    tells: bool
    """Each event in words too."""


def sentence(row: Row) -> str:
    """What happened, in one line."""
    return describe(to_recorded(cast("RecordedRow", row), decode_or_keep))


def sentence_of_line(line: Event) -> str:
    """The same, made from a line of an extract, which has no keys: `[sealed]` stands where something is sealed."""
    event = line.event
    body = (
        covered(event.type, line.body.encode()) if line.body is not None else base64.b64decode(line.body_base64 or "")
    )
    place = (event.position, event.stream_id, event.version, event.type, body)
    caused = (event.actor, event.correlation_id, event.causation_id)
    return sentence((*place, event.recorded_at, *caused, event.agent_id, event.client_id))


def _line(value: Any) -> bytes:
    return _encode(value) + b"\n"


def _begin_lines(asked: HistoryExtracted, recorded: Recorded) -> bytes:
    return _line(Begin(msgspec.to_builtins(asked), recorded.actor, recorded.position))


def _csv(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _csv_event(line: Event, text: str) -> bytes:
    row = csv_row(line, text)
    return _csv([row[name] for name in (*CSV_COLUMNS, *TEXT_COLUMNS)])


_STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;color:#111}table{border-collapse:collapse;width:100%}"
    "th,td{border-bottom:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "th{background:#eee}td:first-child,td:nth-child(2){white-space:nowrap}.no{color:#a00}"
    "@media print{body{margin:0;font-size:10px}thead{display:table-header-group}tr{break-inside:avoid}}"
)


def _begin_page(asked: HistoryExtracted, recorded: Recorded) -> bytes:
    title = "What is on record"
    told = {name: value for name, value in msgspec.to_builtins(asked).items() if name != "format" and value}
    filters = "; ".join(f"{name} {value}" for name, value in told.items()) or "all that may be seen"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"</head><body><h1>{title}</h1><p>{html.escape(filters)}</p><p>Asked for by {html.escape(recorded.actor)} on "
        f"{recorded.recorded_at:%Y-%m-%d %H:%M:%S} UTC, at position {recorded.position} of the log.</p><table><thead>"
        "<tr><th>Position</th><th>Recorded (UTC)</th><th>What happened</th><th>By</th><th>Checkpoint</th></tr></thead>"
        "<tbody>\n"
    ).encode()


def _page_event(line: Event, text: str) -> bytes:
    event = line.event
    signed = str(line.proof.checkpoint) if line.proof is not None else '<span class="no">not yet</span>'
    return (
        f"<tr><td>{event.position}</td><td>{event.recorded_at:%Y-%m-%d %H:%M:%S}</td>"
        f"<td>{html.escape(text)}</td>"
        f"<td>{html.escape(event.actor)}</td><td>{signed}</td></tr>\n"
    ).encode()


def _end_page(events: int, proven: int) -> bytes:
    told = f"{events} events, {proven} of them under a signed checkpoint. This is the end of the report."
    return f"</tbody></table><p>{told}</p></body></html>\n".encode()


FORMS = {
    ExtractFormat.NDJSON: Form(
        _begin_lines,
        lambda tree: _line(Signed(tree.checkpoint)),
        lambda line, _text: _line(line),
        lambda events, proven: _line(End(events, proven)),
        tells=False,
    ),
    ExtractFormat.CSV: Form(
        lambda _asked, _recorded: _csv([*CSV_COLUMNS, *TEXT_COLUMNS]),
        lambda _tree: b"",
        _csv_event,
        lambda _events, _proven: b"",
        tells=True,
    ),
    ExtractFormat.HTML: Form(_begin_page, lambda _tree: b"", _page_event, _end_page, tells=True),
}

ROUTES: tuple[Route, ...] = (
    write(
        "POST",
        "/audit/extracts",
        ExtractHistory,
        tag=TAG,
        status=201,
        location="/audit/extracts/{id}",
        errors=(NotFoundError,),
    ),
    Route(
        method="GET",
        path="/audit/extracts/{extract_id}",
        needs=Permission.EVENTS_SEE,
        summary="A part of the history that you asked for, up to when you did; any size.",
        description="As NDJSON each event has its proof, which `fleetlog audit verify --extract` checks by itself. "
        "What you may see is judged as of now.",
        tag=TAG,
        handler=show,
        query=ExtractQuery,
        media_type=BINARY,
        streams=True,
    ),
)
