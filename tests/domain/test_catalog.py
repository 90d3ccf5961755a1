"""Events are for ever: their shapes, their bytes and their way up from older versions."""

import json
from typing import Any, ClassVar

import pytest

from domain import codec
from domain.catalog import EVENTS, topic_of
from domain.clients import ClientCreated
from domain.event import Event, Upcaster
from tests.domain.frozen_events import FOLDER, file_of, schema_of


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_recorded_shape_is_frozen(name: str) -> None:
    """A recorded shape never changes without a new version."""
    path = file_of(EVENTS[name])
    assert path.exists(), f"{path.name} is not frozen yet: run `python -m tests.domain.frozen_events` and commit it"
    assert schema_of(EVENTS[name]) == json.loads(path.read_text()), (
        f"{name} changed shape: raise its schema_version, add an upcaster, freeze the new version"
    )


def test_every_frozen_version_still_has_a_reader() -> None:
    """Each version ever frozen is the present one, or can be lifted to it."""
    for path in FOLDER.glob("*.json"):
        name, _, version = path.stem.partition(".v")
        event_type = EVENTS[name]
        missing = [step for step in range(int(version), event_type.schema_version) if step not in event_type.upcasters]
        assert not missing, f"{path.name}: no upcaster from version {missing}"


class Measured(Event, frozen=True, kw_only=True):
    """A stand-in for a type that has changed twice."""

    schema_version: ClassVar[int] = 3
    upcasters: ClassVar[dict[int, Upcaster]] = {
        1: lambda body: {"metres": body["feet"] * 0.3048},
        2: lambda body: body | {"by": "unknown"},
    }
    metres: float
    by: str


def test_an_old_version_is_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of version 1 is read as version 3 through both upcasters."""
    monkeypatch.setitem(EVENTS, "Measured", Measured)
    assert codec.decode("Measured/1", b'{"feet": 10}') == Measured(metres=3.048, by="unknown")
    assert codec.decode("Measured/2", b'{"metres": 2}') == Measured(metres=2.0, by="unknown")


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        ("NeverHeardOf/1", b"{}"),
        ("ClientCreated/2", b'{"name": "x"}'),
        ("ClientCreated/0", b'{"name": "x"}'),
        ("ClientCreated", b'{"name": "x"}'),
        ("ClientCreated/1", b"not json"),
        ("ClientCreated/1", b'{"name": 5}'),
        ("ClientCreated/1", b"{}"),
    ],
)
def test_what_cannot_be_read_is_an_error(topic: str, state: bytes) -> None:
    """An unknown type or version and a damaged body are refused, never guessed at."""
    with pytest.raises(codec.UndecodableEventError):
        codec.decode(topic, state)


def test_encoding_is_stable() -> None:
    """The same event gives the same bytes, and they are JSON that any tool reads."""
    event = ClientCreated(name="Zoë & Söhne")
    state = codec.encode(event)
    assert json.loads(state) == {"name": "Zoë & Söhne"}
    assert codec.decode(topic_of(ClientCreated), state) == event
    assert codec.encode(event) == state


def test_topics_are_unique() -> None:
    """No two event types share a name."""
    topics: list[Any] = [topic_of(event_type) for event_type in EVENTS.values()]
    assert len(set(topics)) == len(topics)
