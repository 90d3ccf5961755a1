"""The contract between gateway and agent."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import asyncapi, wire

AGENT = UUID(int=1)


def test_the_published_document_is_the_present_one() -> None:
    """`schema/asyncapi.json` is what the code says: `python -m schema.asyncapi > schema/asyncapi.json` renews it."""
    assert asyncapi.FILE.read_text() == asyncapi.text()


def test_every_uplink_kind_has_a_channel() -> None:
    """No uplink is missing from the document or from the set that the gateways know."""
    channels = asyncapi.document()["channels"]
    assert {name.removeprefix("up_") for name in channels if name.startswith("up_")} == wire.UPLINK_KINDS


def test_unknown_fields_are_ignored() -> None:
    """A newer peer may say more than this one understands."""
    message = msgspec.msgpack.encode({"kind": "ack", "detail": "late", "from_the_future": [1, 2, 3]})
    assert wire.decode_uplink_reply(message) == wire.Acknowledged(detail="late")


def test_an_unknown_kind_can_be_told_from_a_malformed_message() -> None:
    """`kind_of` reads the kind of any map, and refuses what is none."""
    assert wire.kind_of(msgspec.msgpack.encode({"kind": "teleport", "x": 1})) == "teleport"
    assert not wire.kind_of(msgspec.msgpack.encode({"x": 1}))
    with pytest.raises(msgspec.DecodeError):
        wire.kind_of(b"\xc1garbage")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    """Whatever arrives, decoding it is a message or `msgspec.DecodeError`, and nothing else."""
    decoders: list[Any] = [wire.decode_uplink, wire.decode_downlink, wire.decode_uplink_reply, wire.kind_of]
    for decode in decoders:
        try:
            decode(data)
        except msgspec.DecodeError:
            continue


@given(
    stdout=st.binary(max_size=500), exit_code=st.integers(-255, 2**31), detail=st.text(max_size=50), size=st.integers(0)
)
def test_a_result_survives_the_wire(stdout: bytes, exit_code: int, detail: str, size: int) -> None:
    """Any bytes of output and any text come out as they went in."""
    if size >= 2**63:
        size = 2**63 - 1
    report = wire.ResultReport(
        command_id=AGENT,
        attempt=1,
        outcome="failed",
        exit_code=exit_code,
        started_at=datetime.now(UTC),
        stdout=wire.StreamReport(size=size, sha256="ab", tail=stdout, inline=stdout),
        detail=detail,
    )
    assert wire.decode_uplink(wire.encode(report)) == report


def test_subjects_are_the_agents_own() -> None:
    """Each subject names the agent it belongs to, so that a broker can keep agents apart."""
    text = str(AGENT)
    assert wire.command_subject(AGENT) == f"fleet.{text}.cmd"
    assert wire.uplink_subject(AGENT, "hello") == f"fleet.{text}.up.hello"
    assert wire.live_subject(AGENT, UUID(int=2)).startswith(f"fleet.{text}.out.")
