"""Changes with their personal fields sealed, and rows of the log with them opened, given the keys."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import structs

from domain.catalog import EVENTS
from domain.codec import encode
from domain.erasures import SubjectErased
from domain.event import Change, Event
from domain.personal import Personal, cover, in_clear, seal, unseal

BY_TOPIC: dict[str, Personal] = {
    f"{name}/{version}": kind.personal
    for name, kind in EVENTS.items()
    if kind.personal is not None
    for version in range(1, kind.schema_version + 1)
}
"""By the topic, in each version that there was."""
TO_SEAL: dict[type[Event], Personal | None] = {kind: kind.personal for kind in EVENTS.values() if kind.personal}
TO_SEAL[SubjectErased] = None
"""The types that an append has to look at; it is one look for each event, and all others go by."""

Keys = Mapping[UUID, bytes | None]
"""By subject; None where the key was destroyed."""
AnyRow = tuple[Any, ...]
"""A row of the log: position, stream, version, topic, body, ... and second to last the agent."""

_decode = msgspec.json.decode


class Marked(msgspec.Struct, frozen=True):
    """One of several events that has personal fields."""

    index: int
    body: dict[str, Any]
    personal: Personal
    subject: UUID


def to_seal(changes: Iterable[Change]) -> bool:
    """Whether an append has to look at some of these."""
    table = TO_SEAL
    return any([type(change.event) in table for change in changes])  # noqa: C419 - a list is twice as fast here


def marked_changes(changes: Sequence[Change]) -> list[Marked]:
    """Which changes have personal fields, and whose."""
    found = []
    for index, change in enumerate(changes):
        personal = TO_SEAL.get(type(change.event))
        if personal is None:
            continue
        body = _decode(encode(change.event))
        subject = personal.subject_of(body, change.originator_id, change.agent_id)
        if subject is not None:
            found.append(Marked(index, body, personal, subject))
    return found


def sealed(
    changes: Sequence[Change], marked: Iterable[Marked], keys: Keys, nonce: Callable[[int], bytes]
) -> list[Change]:
    """The same changes, with what is personal sealed.

    Args:
        changes: as decided.
        marked: those of them that have personal fields.
        keys: of all their subjects.
        nonce: so many random bytes.
    """
    result = list(changes)
    for one in marked:
        change = result[one.index]
        seal(one.body, one.personal, keys[one.subject], (change.originator_id, change.originator_version), nonce)
        result[one.index] = structs.replace(change, event=msgspec.convert(one.body, type(change.event)))
    return result


def erased_by(changes: Iterable[Change]) -> tuple[UUID, ...]:
    """The subjects that changes erase."""
    return tuple(change.event.subject for change in changes if isinstance(change.event, SubjectErased))


def marked_rows(rows: Sequence[AnyRow]) -> list[Marked]:
    """Which rows have personal fields, and whose. One that cannot be read is left as it is."""
    table, found = BY_TOPIC, []
    for index, row in enumerate(rows):
        personal = table.get(row[3])
        if personal is None:
            continue
        try:
            body = _decode(row[4])
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        subject = personal.subject_of(body, row[1], row[9]) if isinstance(body, dict) else None
        if subject is not None:
            found.append(Marked(index, body, personal, subject))
    return found


def opened(rows: Sequence[AnyRow], marked: Iterable[Marked], keys: Keys) -> list[AnyRow]:
    """The same rows, with what is sealed opened, and what was erased shown as that, sealed or not."""
    result = list(rows)
    for one in marked:
        row = result[one.index]
        if unseal(one.body, one.personal, keys.get(one.subject), (row[1], row[2]), known=one.subject in keys):
            result[one.index] = (*row[:4], msgspec.json.encode(one.body), *row[5:])
    return result


def covered(topic: str, state: bytes) -> bytes:
    """An event's body with `SEALED` where something is sealed: for those who have no keys."""
    personal = BY_TOPIC.get(topic)
    if personal is None:
        return state
    body = _decode(state)
    cover(body, personal)
    return msgspec.json.encode(body)


def withheld(marked: Iterable[Marked], keys: Keys) -> frozenset[int]:
    """Which rows hold, in the clear, what was erased: they are from before there was sealing."""
    return frozenset(
        one.index
        for one in marked
        if one.subject in keys and keys[one.subject] is None and in_clear(one.body, one.personal)
    )
