"""Events as CloudEvents 1.0 (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), in JSON.

A body goes out as it is stored, under the version that it was recorded in, so an event that this program cannot read
(newer, or damaged) is forwarded like any other. The SDK takes each event apart and together again; it is the judge of
these lines in the tests.
"""

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import msgspec

from domain.ids import derived_id
from schema.archive import Row

SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_JSON = "application/json"
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_BEYOND_BMP = 0x10000


class _Envelope(msgspec.Struct, omit_defaults=True, kw_only=True):
    specversion: str
    id: str
    source: str
    type: str
    time: datetime
    subject: str
    datacontenttype: str = ""
    dataschema: str
    sequence: str
    """The position, in figures enough that texts sort as numbers do (the extension *sequence*)."""
    streamversion: str
    actor: str
    correlationid: str
    causationid: str = ""
    agentid: str = ""
    clientid: str = ""
    dataomitted: str = ""
    data: msgspec.Raw | None = None
    data_base64: bytes | None = None


_encode = msgspec.json.Encoder().encode


class Outgoing:
    """One event on its way out.

    Args:
        row: as the log holds it.
        source: names the log; see `source_of`.
    """

    def __init__(self, row: Row, source: str) -> None:
        self._row: Any = row
        self._source = source
        self.position: int = self._row[0]
        self.type: str = self._row[3].partition("/")[0]
        self.recorded_at: datetime = self._row[5].astimezone(UTC)

    @cached_property
    def id(self) -> str:
        """The same whenever it is sent; no other event has it, not even one that takes its place after a restore."""
        position, stream_id, version, *_ = self._row
        return str(derived_id("event", str(position), stream_id, str(version), self.recorded_at.isoformat()))

    @cached_property
    def body(self) -> bytes:
        """JSON, in one line."""
        return _encode(self._envelope(self._row[4]))

    def without_data(self) -> bytes:
        """The same for a receiver that cannot take so much: what happened, without its particulars."""
        envelope = self._envelope(None)
        envelope.dataomitted = f"{len(self._row[4])} bytes"
        return _encode(envelope)

    def _envelope(self, state: bytes | None) -> _Envelope:
        position, stream_id, version, topic, _, _, actor, correlation_id, causation_id, agent_id, client_id = self._row
        envelope = _Envelope(
            specversion="1.0",
            id=self.id,
            source=self._source,
            type=f"fleetlog.{self.type}",
            time=self.recorded_at,
            subject=str(stream_id),
            dataschema=f"urn:fleetlog:event:{topic.replace('/', ':')}",
            sequence=f"{position:019}",
            streamversion=str(version),
            actor=actor,
            correlationid=str(correlation_id),
            causationid=_text(causation_id),
            agentid=_text(agent_id),
            clientid=_text(client_id),
        )
        if state is None:
            return envelope
        try:
            msgspec.json.decode(state)
        except (msgspec.DecodeError, UnicodeDecodeError):
            envelope.datacontenttype = "application/octet-stream"
            envelope.data_base64 = state
        else:
            envelope.datacontenttype = _JSON
            envelope.data = msgspec.Raw(state)
        return envelope


def batched(events: list[Outgoing]) -> bytes:
    """Several events in the JSON batch format."""
    return b"[" + b",".join(event.body for event in events) + b"]"


def ascii_only(body: bytes) -> bytes:
    """The same JSON in ASCII: outside of its strings there is nothing else anyway."""
    if body.isascii():
        return body
    return _NOT_ASCII.sub(_escaped, body.decode()).encode("ascii")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < _BEYOND_BMP:
        return f"\\u{code:04x}"
    code -= _BEYOND_BMP
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def source_of(first: Row) -> str:
    """What names a log to those who hear of several: made of its first event, so it is the same after a restore."""
    row: Any = first
    return f"urn:fleetlog:log:{derived_id('log', row[1], row[7], row[5].astimezone(UTC).isoformat())}"


def _text(value: object) -> str:
    return "" if value is None else str(value)
