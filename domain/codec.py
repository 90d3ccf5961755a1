"""Events as bytes and back: JSON, so that an auditor can read the log with any tool.

A body written by an older version is lifted step by step by its type's upcasters before it is decoded; a type or
version that this program does not know is an error and never a guess.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from domain.catalog import EVENTS, topic_of
from domain.event import Event, Undecodable

_encoder = msgspec.json.Encoder()
encode: Callable[[Event], bytes] = _encoder.encode
TOPICS: dict[type[Event], str] = {event_type: topic_of(event_type) for event_type in EVENTS.values()}
DECODERS: dict[str, Callable[[bytes], Any]] = {
    TOPICS[event_type]: msgspec.json.Decoder(event_type).decode for event_type in EVENTS.values()
}
"""By topic, for types in their present version."""


class UndecodableEventError(Exception):
    """The log holds an event that this program cannot read; it is newer than the program, or damaged."""

    code = "undecodable_event"


def decode(topic: str, state: bytes) -> Event:
    """Read an event's body.

    Args:
        topic: ``Name/version`` as recorded.
        state: the body as recorded.

    Returns:
        The event in its type's present version.

    Raises:
        UndecodableEventError: unknown type or version, or a body that does not fit its schema.
    """
    decoder = DECODERS.get(topic)
    try:
        if decoder is not None:
            return decoder(state)  # type: ignore[no-any-return]
        return _upcast(topic, state)
    except msgspec.DecodeError as error:
        raise UndecodableEventError(f"{topic}: {error}") from error


def decode_or_keep(topic: str, state: bytes) -> Event:
    """Read an event's body, or keep it as it is where it cannot be read."""
    try:
        return decode(topic, state)
    except UndecodableEventError as error:
        return Undecodable(body=state, error=str(error))


def _upcast(topic: str, state: bytes) -> Event:
    name, _, version_text = topic.partition("/")
    event_type = EVENTS.get(name)
    if event_type is None or not version_text.isdecimal():
        raise UndecodableEventError(f"{topic}: no such event type.")
    version = int(version_text)
    body = msgspec.json.decode(state)
    while version < event_type.schema_version:
        lift = event_type.upcasters.get(version)
        if lift is None:
            break
        body = lift(body)
        version += 1
    if version != event_type.schema_version:
        raise UndecodableEventError(f"{topic}: no way to version {event_type.schema_version}.")
    return msgspec.convert(body, event_type)
