"""What is read of an order, and what is said of it where it cannot be read: the server may be newer than this agent."""

from datetime import datetime
from uuid import UUID

import msgspec

from agent.errors import WorkRefusedError
from schema import wire

KNOWN_KINDS = frozenset(
    {
        *("delivery", "cancel", "watch", "probe"),
        *("script", "sealed", "ping", "collect_facts", "rotate_key", "install_updates", "reboot"),
    }
)


class Named(msgspec.Struct, frozen=True):
    """As much of an order as an answer to it takes."""

    command_id: UUID
    attempt: int


class _Outline(msgspec.Struct, frozen=True):
    agent_id: UUID
    sent_at: datetime
    orders: list[msgspec.Raw]


_decode_outline = msgspec.msgpack.Decoder(_Outline).decode
_decode_order = msgspec.msgpack.Decoder(wire.Order).decode
_decode_named = msgspec.msgpack.Decoder(Named).decode


def read_delivery(data: bytes) -> tuple[wire.DeliveryBody, dict[Named, str]]:
    """Read the body of a delivery.

    Returns:
        It, with those of its orders that can be read; and the others, with what is wrong with each.

    Raises:
        msgspec.MsgspecError: it cannot be told what it orders.
    """
    try:
        return wire.decode_delivery_body(data), {}
    except msgspec.MsgspecError:
        outline = _decode_outline(data)
    orders: list[wire.Order] = []
    unreadable: dict[Named, str] = {}
    for raw in outline.orders:
        try:
            orders.append(_decode_order(raw))
        except msgspec.MsgspecError as error:
            unreadable[_decode_named(raw)] = f"order: {error}"
    return wire.DeliveryBody(agent_id=outline.agent_id, sent_at=outline.sent_at, orders=orders), unreadable


def read_work(data: bytes) -> wire.Work:
    """Read what an order is about.

    Raises:
        WorkRefusedError: it cannot be read (``malformed``), or is of a kind that a newer agent may know
            (``unknown_kind``).
    """
    try:
        work: wire.Work = wire.decode_work(data)
    except msgspec.MsgspecError as error:
        refused = refusal(data, error)
        raise WorkRefusedError(refused.code, refused.detail) from error
    return work


def refusal(data: bytes, error: msgspec.MsgspecError) -> wire.Refused:
    """Tell a kind that this agent does not know from bytes that make no sense."""
    try:
        kind = wire.kind_of(data)
    except msgspec.MsgspecError:
        return wire.Refused(code="malformed", detail=str(error))
    if kind in KNOWN_KINDS:
        return wire.Refused(code="malformed", detail=f"{kind}: {error}")
    return wire.Refused(code="unknown_kind", detail=f"This agent does not know {kind!r}; a newer one may.")
